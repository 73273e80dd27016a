//! The page's files.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

use super::error::not_found;
use super::request::header as one;
use crate::daemon::Answer;
use crate::web::asset;

/// Answers with the file at the path, or with the page itself: its addresses are the page's own business.
pub(super) fn show(parts: &Parts) -> Answer<Response> {
    let path = parts.uri.path().trim_start_matches('/');
    let file = asset(path).filter(|_| !path.is_empty());
    // Names under assets/ carry a hash of their content, so a browser need not ask again; a missing one is missing.
    let hashed = path.starts_with("assets/");
    let found = if hashed { file } else { file.or_else(|| asset("index.html")) };
    let asset = found.ok_or_else(|| not_found("there is no such file"))?;

    let fresh = one(&parts.headers, &header::IF_NONE_MATCH).is_some_and(|tag| tag == asset.etag);
    let mut response = Response::new(if fresh { Body::empty() } else { Body::from(into_bytes(asset.bytes)) });
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if let Ok(etag) = HeaderValue::from_str(&asset.etag) {
        headers.insert(header::ETAG, etag);
    }
    let cache = if hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    Ok(response)
}

fn into_bytes(bytes: Cow<'static, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    }
}
