//! Browser sessions, tickets and tokens.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::{invalid, json as answer};
use super::gate::TokenInfo;
use super::request::Request;
use super::wire;
use crate::daemon::{Answer, Code, Refusal};
use crate::model::Scope;

/// POST `/session`: a ticket becomes a cookie and a key.
pub(super) async fn open(mut request: Request) -> Answer<Response> {
    let body: wire::Exchange = request.json().await?;
    let session = request.api.gate.open_session(&body.ticket).await?;
    let cookie = HeaderValue::from_str(&session.set_cookie)
        .map_err(|_| Refusal::new(Code::Internal, "the session's cookie is not a header"))?;
    let mut response = answer(StatusCode::OK, &json!({ "key": session.key }));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// POST `/session/ticket`: a ticket for one WebSocket.
pub(super) async fn socket_ticket(mut request: Request) -> Answer<Response> {
    request.json::<wire::Nothing>().await?;
    let it = request.api.gate.socket_ticket(request.actor()?)?;
    Ok(answer(StatusCode::OK, &json!({ "ticket": it.ticket, "expires_at": it.expires_at.0 })))
}

/// POST `/v1/ticket`: a ticket for a browser.
pub(super) async fn browser_ticket(mut request: Request) -> Answer<Response> {
    request.json::<wire::Nothing>().await?;
    let it = request.api.gate.browser_ticket(request.actor()?)?;
    let body = json!({ "ticket": it.ticket, "url": it.url, "expires_at": it.expires_at.0 });
    Ok(answer(StatusCode::OK, &body))
}

fn token(it: &TokenInfo) -> Value {
    json!({ "id": it.id, "name": it.name, "scope": it.scope.word(), "created_at": it.created_at.0 })
}

/// GET `/v1/tokens`
pub(super) async fn tokens(request: Request) -> Answer<Response> {
    let items: Vec<Value> = request.api.gate.tokens().await?.iter().map(token).collect();
    let body = json!({ "items": items, "next_cursor": null, "has_more": false });
    Ok(answer(StatusCode::OK, &body))
}

/// POST `/v1/tokens`
pub(super) async fn create_token(mut request: Request) -> Answer<Response> {
    let body: wire::CreateToken = request.json().await?;
    let scope = scope(body.scope.as_deref().unwrap_or("full"))?;
    let name = body.name.unwrap_or_default();
    if name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(invalid("`name` may have 64 printable characters").detail("field", "name"));
    }
    let made = request.api.gate.create_token(name, scope).await?;
    let mut body = token(&made.info);
    body["token"] = made.token.into();
    Ok(answer(StatusCode::CREATED, &body))
}

fn scope(word: &str) -> Answer<Scope> {
    let all = [Scope::View, Scope::Run, Scope::Full];
    let found = all.into_iter().find(|scope| scope.word() == word);
    found.ok_or_else(|| invalid("`scope` is one of view, run, full").detail("field", "scope"))
}

/// DELETE `/v1/tokens/:token`
pub(super) async fn revoke_token(request: Request) -> Answer<Response> {
    request.api.gate.revoke_token(request.param("token")).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
