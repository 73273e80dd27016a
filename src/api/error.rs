//! Refusals as HTTP answers: status, body, headers.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::wire;
use crate::daemon::{Code, Refusal};

/// The HTTP status of a code (`spec/protocol.md` §2).
pub(super) const fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Timeout => StatusCode::REQUEST_TIMEOUT,
        Code::Conflict => StatusCode::CONFLICT,
        Code::Gone => StatusCode::GONE,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The word of a code in error bodies and error frames.
pub(super) const fn word(code: Code) -> &'static str {
    match code {
        Code::InvalidRequest => "invalid_request",
        Code::Unauthorized => "unauthorized",
        Code::Forbidden => "forbidden",
        Code::NotFound => "not_found",
        Code::MethodNotAllowed => "method_not_allowed",
        Code::Timeout => "timeout",
        Code::Conflict => "conflict",
        Code::Gone => "gone",
        Code::PayloadTooLarge => "payload_too_large",
        Code::RangeNotSatisfiable => "range_not_satisfiable",
        Code::Misdirected => "misdirected",
        Code::RateLimited => "rate_limited",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => refusal(&Refusal::new(Code::Internal, format!("the answer is not JSON: {error}"))),
    }
}

/// A refusal as an answer.
pub(super) fn refusal(refusal: &Refusal) -> Response {
    let mut response = json(status(refusal.code), &wire::ErrorBody::of(refusal));
    let hint = match refusal.code {
        Code::RateLimited => Some((header::RETRY_AFTER, "1")),
        Code::Unavailable => Some((header::RETRY_AFTER, "2")),
        Code::Unauthorized => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"kas\"")),
        Code::InvalidRequest
        | Code::Forbidden
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::Timeout
        | Code::Conflict
        | Code::Gone
        | Code::PayloadTooLarge
        | Code::RangeNotSatisfiable
        | Code::Misdirected
        | Code::Internal => None,
    };
    if let Some((name, value)) = hint {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A refusal as it is written to a connection that ends with it, because no request was read from it.
pub(super) fn last_word(refusal: &Refusal) -> Vec<u8> {
    // Writing such a value into memory does not fail; an empty body would still be an answer.
    let body = serde_json::to_vec(&wire::ErrorBody::of(refusal)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        status(refusal.code),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// A malformed request.
pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message)
}

/// Something that is not there.
pub(super) fn not_found(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::NotFound, message)
}
