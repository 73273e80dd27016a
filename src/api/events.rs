//! `/v1/events`: the event stream as server-sent events, on the control socket.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::error::invalid;
use super::request::{Request, header};
use super::state::{Api, closed};
use super::wire;
use crate::daemon::{Answer, Refusal};
use crate::store::StoredEvent;

/// Events fetched at once.
const BATCH: usize = 100;
/// A comment is sent after so long without an event, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// GET `/v1/events`; goes on after `Last-Event-ID` or `?since=`, else from now.
pub(super) async fn stream(request: Request) -> Answer<Response> {
    let mut query = request.query()?;
    let since = query.number("since")?;
    query.done()?;
    let since = last_event_id(&request)?.or(since);
    let latest = request.api.handle.latest_event();
    let last = since.unwrap_or(*latest.borrow());
    let closing = request.api.closing.clone();
    let source = Source { api: request.api, latest, closing, last, fetched: VecDeque::new() };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(source.stream()).keep_alive(keep_alive).into_response())
}

fn last_event_id(request: &Request) -> Answer<Option<i64>> {
    let name = HeaderName::from_static("last-event-id");
    let Some(text) = header(request.headers(), &name) else { return Ok(None) };
    let id =
        text.parse().map_err(|_| invalid("Last-Event-ID is not an event's id").reason("last_event_id"))?;
    Ok(Some(id))
}

/// Where one listener is.
struct Source {
    api: Api,
    latest: watch::Receiver<i64>,
    closing: watch::Receiver<bool>,
    last: i64,
    /// At most one batch.
    fetched: VecDeque<StoredEvent>,
}

impl Source {
    fn stream(self) -> impl Stream<Item = Result<Event, Refusal>> {
        stream::try_unfold(self, async |mut source| {
            let event = source.next().await?;
            Ok(event.map(|event| (sse(&event), source)))
        })
    }

    /// The next event; `None` when the daemon shuts down.
    async fn next(&mut self) -> Answer<Option<StoredEvent>> {
        loop {
            if let Some(event) = self.fetched.pop_front() {
                self.last = event.id;
                return Ok(Some(event));
            }
            self.latest.borrow_and_update();
            self.fetched = self.api.handle.events_after(self.last, BATCH).await?.into();
            if self.fetched.is_empty() {
                tokio::select! {
                    changed = self.latest.changed() => if changed.is_err() { return Ok(None) },
                    () = closed(&mut self.closing) => return Ok(None),
                }
            }
        }
    }
}

fn sse(it: &StoredEvent) -> Event {
    let data = serde_json::Value::Object(wire::event(it)).to_string();
    Event::default().id(it.id.to_string()).event(&it.kind).data(data)
}
