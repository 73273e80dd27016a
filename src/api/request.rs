//! An admitted request, and what handlers take from it.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{self, HeaderMap, request::Parts};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::{invalid, not_found};
use super::query::Query;
use super::route::{Params, Surface};
use super::state::Api;
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{Actor, Instance, InstanceId, ProjectId};

/// The most bytes of a request body; a longer one is answered 413, where its length is told before a byte is read.
const BODY_LIMIT: usize = 64 << 10;
/// How long a body may take to arrive; then the answer is 408 and the connection is closed.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request whose sender was let in and has the scope its route needs.
pub(super) struct Request {
    pub(super) api: Api,
    /// Where it came in.
    pub(super) surface: Surface,
    /// Who asks. Routes that are open or opened by a ticket have nobody.
    pub(super) actor: Option<Actor>,
    pub(super) params: Params,
    pub(super) parts: Parts,
    pub(super) body: Body,
}

impl Request {
    /// Who asks.
    pub(super) fn actor(&self) -> Answer<&Actor> {
        self.actor.as_ref().ok_or_else(|| Refusal::new(Code::Unauthorized, "a credential is needed"))
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(super) fn query(&self) -> Answer<Query> {
        Query::of(&self.parts.uri)
    }

    /// The value of a `:name` segment; empty when the route has none of that name.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The project named by `:id` or `:project`. What cannot be an id names nothing, nor does what is hidden from the
    /// one who asks.
    pub(super) fn project(&self) -> Answer<ProjectId> {
        let text = [self.param("id"), self.param("project")].concat();
        let shown = |id: &ProjectId| self.actor.as_ref().is_none_or(|actor| actor.sees_project(id));
        let id = text.parse().ok().filter(shown);
        id.ok_or_else(|| not_found("there is no such project").detail("project", text))
    }

    /// The id in `:tid`.
    pub(super) fn instance(&self) -> Answer<InstanceId> {
        let text = self.param("tid");
        text.parse().map_err(|_| no_such_instance(text))
    }

    /// The instance named by `:tid`, unless it is hidden from the one who asks.
    pub(super) fn shown_instance(&self) -> impl Future<Output = Answer<Instance>> + Send + use<> {
        let (id, actor) = (self.instance(), self.actor().cloned());
        let (handle, text) = (self.api.handle.clone(), self.param("tid").to_owned());
        async move {
            let instance = handle.instance(id?).await?;
            if actor?.sees(&instance) { Ok(instance) } else { Err(no_such_instance(&text)) }
        }
    }

    /// Reads the body as JSON; an empty one counts as `{}`.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Answer<T> {
        let bytes = collect(std::mem::take(&mut self.body)).await?;
        parse_json(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })
    }
}

fn no_such_instance(text: &str) -> Refusal {
    not_found("there is no such task instance").detail("id", text)
}

/// Reads a whole body within the limits.
async fn collect(body: Body) -> Answer<Vec<u8>> {
    let too_large =
        || Refusal::new(Code::PayloadTooLarge, "a request body may have 64 KiB").detail("limit", BODY_LIMIT);
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, joined(Limited::new(body, BODY_LIMIT))).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(invalid("the request body broke off").reason("body")),
        Err(_) => {
            let message = format!("the request body took longer than {} s", BODY_TIMEOUT.as_secs());
            Err(Refusal::new(Code::Timeout, message).reason("body_timeout"))
        }
    }
}

/// The pieces of a body in one. Each is let go when it was copied: one of a byte may hold the 8 KiB into which it was read.
async fn joined<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Vec<u8>, B::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(frame?.data_ref().map_or(&[], Bytes::as_ref));
    }
    Ok(bytes)
}

/// A body that is not what the route takes, with the field named where one is to blame.
fn malformed(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    let refusal = match error.classify() {
        serde_json::error::Category::Data => invalid(message.clone()),
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => {
            return invalid(format!("the body is not JSON: {message}")).reason("not_json");
        }
    };
    let quoted = message.split('`').nth(1).unwrap_or_default();
    match message.split(" field").next() {
        Some("unknown") => refusal.reason("unknown_field").detail("field", quoted),
        Some("missing") => refusal.reason("missing_field").detail("field", quoted),
        Some("duplicate") => refusal.reason("duplicate_field").detail("field", quoted),
        Some(_) | None => refusal.reason("wrong_type"),
    }
}

/// Parses a JSON object. Arrays, which serde takes for records too, are refused.
pub(super) fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Answer<T> {
    if !text.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<serde::de::IgnoredAny>(text).map_err(|error| malformed(&error))?;
        return Err(invalid("the JSON is not an object").reason("wrong_type"));
    }
    serde_json::from_slice(text).map_err(|error| malformed(&error))
}

/// One header's text, when there is exactly one and it is visible ASCII.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.to_str().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::wire;

    fn check(body: &str, reason: &str, field: Option<&str>) {
        let refusal = parse_json::<wire::Confirm>(body.as_bytes()).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidRequest);
        assert_eq!(refusal.details["reason"], reason, "{body}: {}", refusal.message);
        assert_eq!(refusal.details.get("field").and_then(|f| f.as_str()), field, "{body}");
    }

    #[test]
    fn a_bad_body_is_explained() {
        check(r#"{"confirm_id":"a","proceed":true,"x":1}"#, "unknown_field", Some("x"));
        check(r#"{"confirm_id":"a"}"#, "missing_field", Some("proceed"));
        check(r#"{"confirm_id":"a","confirm_id":"b"}"#, "duplicate_field", Some("confirm_id"));
        check(r#"{"confirm_id":"a","proceed":"yes"}"#, "wrong_type", None);
        check(r#"["a",true]"#, "wrong_type", None);
        check("proceed=true", "not_json", None);
        check(r#"{"confirm_id":"#, "not_json", None);
    }

    #[tokio::test]
    async fn a_body_has_a_limit() {
        let fits = collect(Body::from(vec![b' '; BODY_LIMIT])).await;
        assert_eq!(fits.unwrap().len(), BODY_LIMIT);
        let known = collect(Body::from(vec![b' '; BODY_LIMIT + 1])).await;
        assert_eq!(known.unwrap_err().code, Code::PayloadTooLarge);
        let pieces = (0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; BODY_LIMIT / 2]));
        let unknown = collect(Body::from_stream(futures_util::stream::iter(pieces))).await;
        assert_eq!(unknown.unwrap_err().code, Code::PayloadTooLarge);
    }

    /// What a byte was read into.
    struct Buffer {
        _held: Arc<()>,
    }

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            b" "
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_holds_its_bytes_and_no_buffers() {
        let held = Arc::new(());
        let pieces = (0..BODY_LIMIT).map(move |_| {
            assert!(Arc::strong_count(&held) <= 2, "{} buffers are held", Arc::strong_count(&held) - 1);
            Ok::<_, std::io::Error>(Bytes::from_owner(Buffer { _held: Arc::clone(&held) }))
        });
        let bytes = collect(Body::from_stream(futures_util::stream::iter(pieces))).await;
        assert_eq!(bytes.unwrap().len(), BODY_LIMIT);
    }
}
