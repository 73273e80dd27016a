//! Browser sessions, tickets and tokens.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::error::{invalid, json as answer};
use super::query::page_of;
use super::request::Request;
use super::wire;
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{InvalidId, Scope};

/// The most characters of a token's name.
const NAME_CHARS: usize = 64;

/// POST `/session`: a ticket becomes a cookie and a key.
pub(super) async fn open(mut request: Request) -> Answer<Response> {
    let body: wire::Exchange = request.json().await?;
    let (cookie, key) = request.api.door.open_session(&body.ticket).await?;
    let cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| Refusal::new(Code::Internal, "the session's cookie is not a header"))?;
    let mut response = answer(StatusCode::OK, &json!({ "key": key }));
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
    let name = body.name.unwrap_or_default();
    if name.chars().count() > NAME_CHARS || name.chars().any(char::is_control) {
        let message = format!("`name` may have {NAME_CHARS} printable characters");
        return Err(invalid(message).reason("name").detail("field", "name"));
    }
    let (token, secret) = request.api.door.create_token(name, scope).await?;
    Ok(answer(StatusCode::CREATED, &wire::Token::of(&token, Some(secret))))
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
