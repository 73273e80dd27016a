//! `/projects`

use axum::http::StatusCode;
use axum::response::Response;

use super::error::json;
use super::query::page_of;
use super::request::Request;
use super::wire;
use crate::daemon::Answer;

/// GET `/projects`
pub(super) async fn list(request: Request) -> Answer<Response> {
    let mut query = request.query()?;
    let (limit, cursor) = query.page()?;
    query.done()?;
    let mut projects = request.api.handle.projects();
    let actor = request.actor()?;
    projects.retain(|project| actor.sees_project(&project.id));
    let page = page_of(projects, |project| project.id.to_string(), limit, cursor.as_ref());
    Ok(json(StatusCode::OK, &wire::List::of(page, |project| wire::Project::from(project))))
}

/// GET `/projects/:id`
pub(super) async fn show(request: Request) -> Answer<Response> {
    let project = request.api.handle.project(&request.project()?).await?;
    Ok(json(StatusCode::OK, &wire::Project::from(&project)))
}
