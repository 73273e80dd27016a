//! `/projects/:id/tasks`: named tasks, and launching.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::error::{invalid, json};
use super::request::Request;
use super::wire;
use crate::daemon::{Answer, Confirmed, LaunchRequest, Launched, What};

/// The most bytes of an `Idempotency-Key`.
const KEY_LIMIT: usize = 128;

/// GET `/projects/:id/tasks`
pub(super) async fn list(request: Request) -> Answer<Response> {
    let project = request.project()?;
    let mut tasks = request.api.handle.tasks(&project).await?;
    let actor = request.actor()?;
    tasks.tasks.retain(|it| actor.sees_task(&project, Some(&it.task.name)));
    tasks.instances.retain(|instance| actor.sees(instance));
    Ok(json(StatusCode::OK, &wire::Tasks::from(&tasks)))
}

/// POST `/projects/:id/tasks/run`
pub(super) async fn run(mut request: Request) -> Answer<Response> {
    let project = request.project()?;
    let key = idempotency_key(request.headers())?;
    let launch = launch_request(request.json().await?, key)?;
    Ok(match request.api.handle.launch(request.actor()?, &project, launch).await? {
        Launched::Instance(instance) => json(StatusCode::ACCEPTED, &wire::Instance::from(instance.as_ref())),
        Launched::Confirm(question) => json(StatusCode::OK, &wire::ConfirmRequired::from(&question)),
    })
}

/// POST `/projects/:id/tasks/run/confirm`
pub(super) async fn confirm(mut request: Request) -> Answer<Response> {
    let project = request.project()?;
    let body: wire::Confirm = request.json().await?;
    let handle = &request.api.handle;
    Ok(match handle.confirm(request.actor()?, &project, &body.confirm_id, body.proceed).await? {
        Confirmed::Instance(instance) => json(StatusCode::ACCEPTED, &wire::Instance::from(instance.as_ref())),
        Confirmed::Cancelled => json(StatusCode::OK, &serde_json::json!({ "cancelled": true })),
    })
}

/// The caller's own name for a launch, if the request has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY_LIMIT).contains(&text.len()));
    match text {
        Some(text) if values.next().is_none() => Ok(Some(text.to_owned())),
        Some(_) | None => {
            let message = format!("Idempotency-Key must be one header of 1 to {KEY_LIMIT} ASCII bytes");
            Err(invalid(message).reason("idempotency_key"))
        }
    }
}

fn launch_request(body: wire::Launch, idempotency_key: Option<String>) -> Answer<LaunchRequest> {
    let size = wire::size(body.cols.as_ref(), body.rows.as_ref());
    let what = match (body.task, body.command) {
        (Some(task), None) if body.cwd.is_none() => What::Task(task),
        (Some(_), None) => {
            return Err(invalid("`cwd` goes with `command`; a task has its own").reason("wrong_field"));
        }
        (None, Some(command)) => What::AdHoc { command, cwd: body.cwd },
        (Some(_), Some(_)) | (None, None) => {
            return Err(invalid("exactly one of `task` and `command` is needed").reason("wrong_field"));
        }
    };
    Ok(LaunchRequest { what, size, idempotency_key })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::api::request::parse_json;

    fn what(body: &str) -> Option<What> {
        launch_request(parse_json(body.as_bytes()).unwrap(), None).ok().map(|request| request.what)
    }

    #[test]
    fn exactly_one_of_task_and_command() {
        assert_eq!(what(r#"{"task":"test","cols":132}"#), Some(What::Task("test".into())));
        let adhoc = What::AdHoc { command: "ls".into(), cwd: Some("a".into()) };
        assert_eq!(what(r#"{"command":"ls","cwd":"a"}"#), Some(adhoc));
        for bad in ["{}", r#"{"task":"a","command":"b"}"#, r#"{"task":"a","cwd":"b"}"#, r#"{"cwd":"b"}"#] {
            assert_eq!(what(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_idempotency_key_has_1_to_128_bytes() {
        let key = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_str(value).unwrap());
            idempotency_key(&headers)
        };
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(key("a b"), Ok(Some("a b".into())));
        assert!(key(&"x".repeat(128)).is_ok());
        assert!(key(&"x".repeat(129)).is_err());
        assert!(key("").is_err());
    }
}
