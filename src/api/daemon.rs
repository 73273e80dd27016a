//! The daemon's own routes, on the control socket only.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::error::json as answer;
use super::request::Request;
use super::wire;
use crate::daemon::Answer;
use crate::model::TimeMs;

/// GET `/v1/ping`
pub(super) async fn ping(_request: Request) -> Answer<Response> {
    Ok(Response::new(Body::empty()))
}

/// GET `/v1/status`
pub(super) async fn status(request: Request) -> Answer<Response> {
    let status = request.api.handle.status();
    let tmux_notes = request.api.handle.tmux_notes().await;
    Ok(answer(StatusCode::OK, &wire::Status::of(&status, tmux_notes, TimeMs::now())))
}

/// GET `/v1/repos`
pub(super) async fn repos(request: Request) -> Answer<Response> {
    let projects = request.api.handle.projects();
    let repos: Vec<_> = projects.iter().map(wire::Repo::from).collect();
    Ok(answer(StatusCode::OK, &repos))
}

/// POST `/v1/repos`
pub(super) async fn add_repo(mut request: Request) -> Answer<Response> {
    let body: wire::AddRepo = request.json().await?;
    let project = request.api.handle.add_project(body.path.into()).await?;
    let path = project.path.to_string_lossy();
    let body = json!({ "status": "added", "path": path, "project": project.id.as_str() });
    Ok(answer(StatusCode::CREATED, &body))
}

/// DELETE `/v1/repos/:project`
pub(super) async fn remove_repo(request: Request) -> Answer<Response> {
    let id = request.project()?;
    request.api.handle.remove_project(request.actor()?, &id).await?;
    Ok(answer(StatusCode::OK, &json!({ "status": "removed", "project": id.as_str() })))
}

/// POST `/v1/reload`
pub(super) async fn reload(mut request: Request) -> Answer<Response> {
    request.json::<wire::Nothing>().await?;
    let report = request.api.handle.reload().await?;
    let body =
        json!({ "status": "reloaded", "applied": report.applied, "needs_restart": report.needs_restart });
    Ok(answer(StatusCode::OK, &body))
}
