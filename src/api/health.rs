//! Whether the daemon lives, is ready, how it does, and what it offers.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::error::json;
use super::request::Request;
use crate::daemon::Answer;
use crate::metrics::CONTENT_TYPE;

/// The description of every route; a test holds it against the table.
const OPENAPI: &str = include_str!("openapi.json");

/// GET `/healthz`
pub(super) async fn alive(_request: Request) -> Answer<Response> {
    Ok(Response::new(Body::empty()))
}

/// GET `/readyz`
pub(super) async fn ready(request: Request) -> Answer<Response> {
    request.api.handle.ready().await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "ready": true })))
}

/// GET `/openapi.json`
pub(super) async fn openapi(_request: Request) -> Answer<Response> {
    Ok(text(OPENAPI.to_owned(), "application/json"))
}

/// GET `/metrics`
pub(super) async fn metrics(request: Request) -> Answer<Response> {
    Ok(text(request.api.metrics.render(), CONTENT_TYPE))
}

fn text(body: String, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
