//! `/tasks/:tid` and the lists of instances.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::{invalid, json, not_found};
use super::request::Request;
use super::tasks::idempotency_key;
use super::wire::{self, Instance, List, Nothing};
use crate::daemon::{Answer, InstanceFilter};
use crate::model::{Actor, RunState};

/// GET `/projects/:id/tasks/instances`
pub(super) async fn list(request: Request) -> Answer<Response> {
    let project = request.project()?;
    let mut query = request.query()?;
    let (limit, cursor) = query.page()?;
    let task_name = shown_task(request.actor()?, query.one("task_name")?)?;
    let states = query.all("state").iter().map(|word| state(word)).collect::<Answer<_>>()?;
    query.done()?;
    let filter = InstanceFilter { task_name, states };
    let page = request.api.handle.instances(&project, filter, limit, cursor).await?;
    Ok(json(StatusCode::OK, &List::of(page, |instance| Instance::from(instance))))
}

/// The task whose instances are listed: the one asked for, or the only one that is shown.
fn shown_task(actor: &Actor, asked: Option<String>) -> Answer<Option<String>> {
    let Some(only) = &actor.only else { return Ok(asked) };
    match asked {
        Some(name) if name != only.task.as_str() => {
            Err(not_found("there is no such task").detail("task", name))
        }
        Some(_) | None => Ok(Some(only.task.to_string())),
    }
}

fn state(word: &str) -> Answer<RunState> {
    word.parse().map_err(|error: crate::model::InvalidId| {
        invalid(error.to_string()).reason("query").detail("field", "state")
    })
}

/// POST `/projects/:id/tasks/cleanup`
pub(super) async fn cleanup(mut request: Request) -> Answer<Response> {
    let project = request.project()?;
    request.json::<Nothing>().await?;
    let deleted = request.api.handle.cleanup(&project).await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "deleted": deleted })))
}

/// GET `/tasks/:tid`
pub(super) async fn show(request: Request) -> Answer<Response> {
    let instance = request.shown_instance().await?;
    Ok(json(StatusCode::OK, &wire::Instance::from(&instance)))
}

/// POST `/tasks/:tid/stop`
pub(super) async fn stop(mut request: Request) -> Answer<Response> {
    let id = request.instance()?;
    request.json::<Nothing>().await?;
    let instance = request.api.handle.stop(request.actor()?, id).await?;
    Ok(json(StatusCode::OK, &wire::Instance::from(&instance)))
}

/// POST `/tasks/:tid/restart`
pub(super) async fn restart(mut request: Request) -> Answer<Response> {
    let id = request.instance()?;
    let key = idempotency_key(request.headers())?;
    request.json::<Nothing>().await?;
    let instance = request.api.handle.restart(request.actor()?, id, key).await?;
    Ok(json(StatusCode::ACCEPTED, &wire::Instance::from(&instance)))
}

/// DELETE `/tasks/:tid`
pub(super) async fn delete(mut request: Request) -> Answer<Response> {
    let id = request.instance()?;
    request.json::<Nothing>().await?;
    request.api.handle.delete(id).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
