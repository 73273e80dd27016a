//! Browser sessions, tickets and tokens.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::door::Entry;
use super::error::{invalid, json as answer};
use super::query::page_of;
use super::request::Request;
use super::{seats, wire};
use crate::auth::NewToken;
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{InvalidId, Scope, SharedTask, TimeMs};

/// The most characters of a token's name.
const NAME_CHARS: usize = 64;
/// The longest a token may be made for; one without an end is made by giving none.
const LONGEST_S: i64 = 10 * 365 * 24 * 60 * 60;

/// POST `/session`: a ticket becomes a cookie and a key.
pub(super) async fn open(mut request: Request) -> Answer<Response> {
    let body: wire::Exchange = request.json().await?;
    let entry = match (body.ticket, body.token) {
        (Some(ticket), None) => Entry::Ticket(ticket),
        (None, Some(token)) => Entry::Shared(token),
        (None, None) => {
            return Err(invalid("a `ticket` is needed").reason("missing_field").detail("field", "ticket"));
        }
        (Some(_), Some(_)) => {
            return Err(invalid("one of `ticket` and `token` is enough").reason("wrong_field"));
        }
    };
    let door = &request.api.door;
    let opened = door.open_session(entry).await;
    if matches!(&opened, Err(refusal) if refusal.code == Code::Unauthorized) {
        door.failed(seats::peer(&request.parts)).await;
    }
    let (cookie, key, scope) = opened?;
    let cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| Refusal::new(Code::Internal, "the session's cookie is not a header"))?;
    let mut response = answer(StatusCode::OK, &json!({ "key": key, "scope": scope.word() }));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// POST `/session/ticket`: a ticket for one WebSocket.
pub(super) async fn socket_ticket(mut request: Request) -> Answer<Response> {
    request.json::<wire::Nothing>().await?;
    let it = request.api.door.socket_ticket(request.actor()?)?;
    Ok(answer(StatusCode::OK, &json!({ "ticket": it.ticket, "expires_at": it.expires_at.0 })))
}

/// POST `/v1/ticket`: a ticket for a browser.
pub(super) async fn browser_ticket(mut request: Request) -> Answer<Response> {
    request.json::<wire::Nothing>().await?;
    let (it, url) = request.api.door.page_ticket()?;
    let body = json!({ "ticket": it.ticket, "url": url, "expires_at": it.expires_at.0 });
    Ok(answer(StatusCode::OK, &body))
}

/// GET `/v1/tokens`
pub(super) async fn tokens(request: Request) -> Answer<Response> {
    let mut query = request.query()?;
    let (limit, cursor) = query.page()?;
    query.done()?;
    let mut tokens = request.api.door.tokens();
    tokens.sort_by(|a, b| a.id.cmp(&b.id));
    let page = page_of(tokens, |token| token.id.clone(), limit, cursor.as_ref());
    Ok(answer(StatusCode::OK, &wire::List::of(page, |token| wire::Token::of(token, None))))
}

/// POST `/v1/tokens`
pub(super) async fn create_token(mut request: Request) -> Answer<Response> {
    let body: wire::CreateToken = request.json().await?;
    let scope = scope(body.scope.as_deref().unwrap_or("full"))?;
    let only = shared_task(body.project, body.task, scope)?;
    let now = TimeMs::now();
    let expires_at = body.expires_in.map(|seconds| expiry(seconds, now)).transpose()?;
    let name = body.name.unwrap_or_default();
    if name.chars().count() > NAME_CHARS || name.chars().any(char::is_control) {
        let message = format!("`name` may have {NAME_CHARS} printable characters");
        return Err(invalid(message).reason("name").detail("field", "name"));
    }
    let door = &request.api.door;
    let (token, secret) = door.create_token(NewToken { name, scope, only, expires_at }, now).await?;
    let link = if scope == Scope::View { door.shared_link(&secret) } else { None };
    Ok(answer(StatusCode::CREATED, &wire::Token::of(&token, Some((secret, link)))))
}

/// The one task a token shows. Somebody who may run things is shown what runs.
fn shared_task(project: Option<String>, task: Option<String>, scope: Scope) -> Answer<Option<SharedTask>> {
    let bad = |field: &'static str, why: String| invalid(why).reason("wrong_field").detail("field", field);
    match (project, task) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) if scope != Scope::View => {
            Err(bad("task", "a token for one task has the scope view".to_owned()))
        }
        (Some(project), Some(task)) => Ok(Some(SharedTask {
            project: project.parse().map_err(|error| bad("project", format!("{error}")))?,
            task: task.parse().map_err(|error| bad("task", format!("{error}")))?,
        })),
        (Some(_), None) => Err(bad("project", "`project` goes with `task`".to_owned())),
        (None, Some(_)) => Err(bad("task", "`task` goes with `project`".to_owned())),
    }
}

fn expiry(seconds: i64, now: TimeMs) -> Answer<TimeMs> {
    if (1..=LONGEST_S).contains(&seconds) {
        return Ok(now.plus_ms(seconds * 1000));
    }
    let message = format!("`expires_in` is 1 to {LONGEST_S} seconds");
    Err(invalid(message).reason("expires_in").detail("field", "expires_in"))
}

fn scope(word: &str) -> Answer<Scope> {
    word.parse()
        .map_err(|error: InvalidId| invalid(error.to_string()).reason("scope").detail("field", "scope"))
}

/// DELETE `/v1/tokens/:token`
pub(super) async fn revoke_token(request: Request) -> Answer<Response> {
    request.api.door.revoke_token(request.param("token")).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
