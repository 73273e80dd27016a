//! `/audit-events`

use axum::http::StatusCode;
use axum::response::Response;

use super::error::json;
use super::request::Request;
use super::wire;
use crate::daemon::{Answer, AuditFilter};

/// GET `/audit-events`
pub(super) async fn list(request: Request) -> Answer<Response> {
    let mut query = request.query()?;
    let (limit, cursor) = query.page()?;
    let filter = AuditFilter {
        project: query.one("project")?,
        kind: query.one("kind")?,
        since: query.number("since")?,
    };
    query.done()?;
    let page = request.api.handle.audit(filter, limit, cursor).await?;
    Ok(json(StatusCode::OK, &wire::List::of(page, wire::event)))
}
