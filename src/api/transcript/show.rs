//! The answer to a request for a transcript.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::pieces::Pieces;
use super::range::{Wanted, wanted};
use super::render::{self, Render};
use crate::api::error::{self, invalid};
use crate::api::request::{self, Request};
use crate::daemon::{Answer, Code, Refusal, Transcript};
use crate::model::Offset;

/// GET `/tasks/:tid/transcript`
pub(in crate::api) async fn show(request: Request) -> Answer<Response> {
    let id = request.shown_instance().await?.id;
    let mut query = request.query()?;
    let format = query.one("format")?;
    query.done()?;
    let transcript = request.api.handle.transcript(id).await?;
    match format.as_deref().unwrap_or("raw") {
        "raw" => Ok(raw(&request, transcript)),
        "text" => Ok(rendered(transcript, "text/plain; charset=utf-8", render::text)),
        "asciicast" => Ok(rendered(transcript, "application/x-asciicast", render::asciicast)),
        "json" => Ok(rendered(transcript, "application/json", render::lines)),
        _ => {
            let refusal = invalid("`format` is one of raw, text, asciicast, json");
            Err(refusal.reason("query").detail("field", "format"))
        }
    }
}

/// The bytes; positions of `Range` are offsets.
fn raw(request: &Request, transcript: Transcript) -> Response {
    let held = transcript.history.range();
    // Without a validator there is nothing an If-Range could match.
    let range = request::header(request.headers(), &header::RANGE);
    let range = range.filter(|_| !request.headers().contains_key(header::IF_RANGE));
    let (status, part) = match wanted(range, held.start.0, held.end.0) {
        Wanted::Whole => (StatusCode::OK, held.start.0..held.end.0),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => {
            let refusal = Refusal::new(Code::RangeNotSatisfiable, "no such bytes are held").reason("range");
            let mut response = error::refusal(&refusal);
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", held.end));
            set(&mut response, START_OFFSET, &held.start.to_string());
            return response;
        }
    };
    let pieces = Pieces::new(transcript.history, Offset(part.start), Offset(part.end));
    let body = Body::from_stream(pieces.stream(render::Raw));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, START_OFFSET, &part.start.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, held.end);
        set(&mut response, header::CONTENT_RANGE, &range);
    }
    response
}

/// The offset of the body's first byte: more than 0 where the front was dropped or not asked for.
const START_OFFSET: HeaderName = HeaderName::from_static("x-kas-start-offset");

fn rendered<R: Render + Send + 'static>(
    transcript: Transcript,
    content_type: &'static str,
    make: impl FnOnce(&Transcript) -> R,
) -> Response {
    let held = transcript.history.range();
    let render = make(&transcript);
    let pieces = Pieces::new(transcript.history, held.start, held.end);
    let mut response = Response::new(Body::from_stream(pieces.stream(render)));
    set(&mut response, header::CONTENT_TYPE, content_type);
    set(&mut response, START_OFFSET, &held.start.to_string());
    response
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
