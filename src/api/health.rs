//! Whether the daemon lives, is ready, how it does, and what it offers.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use super::error::json;
use super::request::Request;
use super::route::Surface;
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
pub(super) async fn openapi(request: Request) -> Answer<Response> {
    let document = match request.surface {
        Surface::Control => OPENAPI,
        Surface::Http => &OVER_HTTP,
    };
    Ok(text(document.to_owned(), "application/json"))
}

/// The same without what only the control socket serves, which is not there over HTTP.
static OVER_HTTP: LazyLock<String> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_str(OPENAPI).expect("a test reads it as JSON");
    let served =
        |item: &Value| item.as_object().is_some_and(|it| it.values().all(|it| it["x-surface"] != "control"));
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|_, item| served(item));
    }
    document.to_string()
});

/// GET `/metrics`
pub(super) async fn metrics(request: Request) -> Answer<Response> {
    Ok(text(request.api.metrics.render(), CONTENT_TYPE))
}

fn text(body: String, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
