//! `/tasks/:tid/transcript`: what an instance wrote, as bytes, text, asciicast or lines; also while it runs.
//!
//! The range is fixed when the request comes; the bytes are read from the journal or the store while they are sent, so a
//! transcript costs one piece of memory however long it is.

mod decode;
mod range;
mod render;

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};

use super::error::{self, invalid};
use super::request::{self, Request};
use crate::broker::History;
use crate::daemon::{Answer, Transcript};
use crate::model::Offset;
use range::{Wanted, wanted};
use render::Render;

/// Bytes read and rendered at once.
const PIECE: usize = 64 << 10;

/// GET `/tasks/:tid/transcript`
pub(super) async fn show(request: Request) -> Answer<Response> {
    let id = request.instance()?;
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
            let mut response = error::refusal(&invalid("no such bytes are held").reason("range"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
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

/// The bytes of a range, piece by piece.
struct Pieces {
    history: Arc<dyn History>,
    at: Offset,
    end: Offset,
}

impl Pieces {
    fn new(history: Arc<dyn History>, at: Offset, end: Offset) -> Self {
        Self { history, at, end }
    }

    /// The next bytes and their offset.
    ///
    /// # Errors
    /// They were dropped meanwhile or cannot be read: the answer then breaks off, so nobody takes it for whole.
    async fn next(&mut self) -> io::Result<Option<(Offset, Bytes)>> {
        let room = usize::try_from(self.end.0 - self.at.0).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(None);
        }
        let (history, at) = (Arc::clone(&self.history), self.at);
        let read = tokio::task::spawn_blocking(move || history.read_at(at, room.min(PIECE)));
        let bytes = read.await.map_err(io::Error::other)??;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = at.after(bytes.len());
        Ok(Some((at, bytes)))
    }

    /// All of them in another form.
    fn stream<R: Render + Send + 'static>(
        self,
        render: R,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(Some((self, render)), async |state| {
            let Some((mut pieces, mut render)) = state else { return Ok(None) };
            let mut out = Vec::new();
            let Some((at, bytes)) = pieces.next().await? else {
                render.end(&mut out);
                return Ok(Some((Bytes::from(out), None)));
            };
            render.piece(at, &bytes, &mut out);
            Ok(Some((Bytes::from(out), Some((pieces, render)))))
        })
    }
}
