//! `/projects/:id/panes`

use axum::http::StatusCode;
use axum::response::Response;

use super::error::{invalid, json};
use super::query::page_of;
use super::request::Request;
use super::wire;
use crate::daemon::Answer;

/// GET `/projects/:id/panes`
pub(super) async fn panes(request: Request) -> Answer<Response> {
    let project = request.project()?;
    let mut query = request.query()?;
    let (limit, cursor) = query.page()?;
    query.done()?;
    let after = cursor.map(|text| text.parse::<u32>()).transpose();
    let after = after.map_err(|_| invalid("`cursor` is not from here").detail("field", "cursor"))?;
    let mut panes = match request.actor()?.only {
        Some(_) => Vec::new(),
        None => request.api.handle.panes(&project).await?,
    };
    panes.sort_by_key(|pane| pane.pane);
    let page = page_of(panes, |pane| pane.pane, limit, after.as_ref());
    Ok(json(StatusCode::OK, &wire::List::of(page, |pane| wire::Pane::from(pane))))
}
