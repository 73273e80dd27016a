//! Frames: what the client says, and what it is told.

use std::fmt;

use axum::extract::ws::Message;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::{invalid, not_found};
use crate::api::request::parse_json;
use crate::api::wire;
use crate::broker::{Ended, GapReason, Snapshot};
use crate::daemon::{Answer, Refusal, TerminalId};
use crate::model::{Offset, Size};
use crate::store::StoredEvent;

/// Bytes before the payload of a binary frame: kind, handle, offset.
pub(super) const BINARY_HEADER: usize = 13;
const OUTPUT: u8 = 1;
const SNAPSHOT: u8 = 2;
const INPUT: u8 = 3;

/// What a connection can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ChannelName {
    Events,
    Pty(TerminalId),
}

impl ChannelName {
    /// Reads a channel's name.
    pub(super) fn parse(text: &str) -> Answer<Self> {
        let pty = || {
            let (kind, id) = text.strip_prefix("pty:")?.split_once(':')?;
            match kind {
                "task" => id.parse().ok().map(TerminalId::Task),
                "pane" => id.parse().ok().map(TerminalId::Pane),
                _ => None,
            }
        };
        match text {
            "events" => Ok(Self::Events),
            _ => pty().map(Self::Pty).ok_or_else(|| not_found("there is no such channel")),
        }
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events => f.write_str("events"),
            Self::Pty(TerminalId::Task(id)) => write!(f, "pty:task:{id}"),
            Self::Pty(TerminalId::Pane(number)) => write!(f, "pty:pane:{number}"),
        }
    }
}

/// How a terminal is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Interactive,
    View,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    #[serde(rename = "type")]
    _type: String,
    pub(super) channel: String,
    pub(super) since: Option<i64>,
    pub(super) from: Option<u64>,
    pub(super) cols: Option<Value>,
    pub(super) rows: Option<Value>,
    pub(super) mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribe {
    #[serde(rename = "type")]
    _type: String,
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    #[serde(rename = "type")]
    _type: String,
    pub(super) channel: String,
    pub(super) data: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resize {
    #[serde(rename = "type")]
    _type: String,
    pub(super) channel: String,
    pub(super) cols: Value,
    pub(super) rows: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ack {
    #[serde(rename = "type")]
    _type: String,
    pub(super) channel: String,
    pub(super) offset: u64,
}

/// One text frame from the client.
#[derive(Debug)]
pub(super) enum Said {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Input(Input),
    Resize(Resize),
    Ack(Ack),
}

/// What can be told of any frame, however wrong the rest is.
#[derive(Default, Deserialize)]
struct Outline {
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    channel: Value,
}

/// Reads a text frame; a refusal comes with the channel it names, if it names one.
pub(super) fn parse(text: &str) -> Result<Said, (Refusal, Option<String>)> {
    let text = text.as_bytes();
    let outline: Outline = parse_json(text).map_err(|refusal| (refusal, None))?;
    let said = match outline.kind.as_str() {
        Some("subscribe") => parse_json(text).map(Said::Subscribe),
        Some("unsubscribe") => parse_json(text).map(Said::Unsubscribe),
        Some("pty.input") => parse_json(text).map(Said::Input),
        Some("pty.resize") => parse_json(text).map(Said::Resize),
        Some("pty.ack") => parse_json(text).map(Said::Ack),
        Some(_) | None => Err(invalid("`type` is none of the known ones").reason("unknown_type")),
    };
    said.map_err(|refusal| (refusal, outline.channel.as_str().map(str::to_owned)))
}

/// Reads a binary frame: the handle, and the bytes typed.
pub(super) fn parse_binary(frame: &Bytes) -> Answer<(u32, Bytes)> {
    match frame.get(..BINARY_HEADER) {
        Some(&[INPUT, a, b, c, d, ..]) => {
            Ok((u32::from_be_bytes([a, b, c, d]), frame.slice(BINARY_HEADER..)))
        }
        Some(_) => Err(invalid("only input (kind 3) comes from a client").reason("unknown_type")),
        None => Err(invalid("a binary frame has a header of 13 bytes").reason("short_frame")),
    }
}

fn binary(kind: u8, handle: u32, offset: Offset, payload: &[u8]) -> Message {
    let mut frame = BytesMut::with_capacity(BINARY_HEADER + payload.len());
    frame.put_u8(kind);
    frame.put_u32(handle);
    frame.put_u64(offset.0);
    frame.put_slice(payload);
    Message::Binary(frame.freeze())
}

/// Terminal bytes.
pub(super) fn output(handle: u32, offset: Offset, bytes: &[u8]) -> Message {
    binary(OUTPUT, handle, offset, bytes)
}

/// A terminal's state.
pub(super) fn snapshot(handle: u32, snapshot: &Snapshot) -> Message {
    binary(SNAPSHOT, handle, snapshot.offset, &snapshot.bytes)
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

/// How a subscription begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replay {
    Resume,
    Snapshot,
    None,
}

/// A subscription to a terminal stands.
pub(super) fn subscribed(
    channel: ChannelName,
    handle: u32,
    live_end: Offset,
    size: Size,
    facts: (&str, Replay),
) -> Message {
    let replay = match facts.1 {
        Replay::Resume => "resume",
        Replay::Snapshot => "snapshot",
        Replay::None => "none",
    };
    text(&json!({
        "type": "subscribed", "channel": channel.to_string(), "handle": handle, "offset": live_end.0,
        "cols": size.cols(), "rows": size.rows(), "state": facts.0, "replay": replay,
    }))
}

/// A subscription to events stands; `latest` is the newest event's id.
pub(super) fn subscribed_events(handle: u32, latest: i64, resumed: bool) -> Message {
    let replay = if resumed { "resume" } else { "none" };
    text(&json!({
        "type": "subscribed", "channel": "events", "handle": handle, "offset": latest,
        "cols": null, "rows": null, "state": null, "replay": replay,
    }))
}

/// Bytes that will not come.
pub(super) fn gap(channel: ChannelName, from: Offset, to: Offset, reason: GapReason) -> Message {
    let reason = match reason {
        GapReason::Evicted => "evicted",
        GapReason::Unrecoverable => "unrecoverable",
    };
    text(&json!({
        "type": "pty.gap", "channel": channel.to_string(), "from": from.0, "to": to.0, "reason": reason,
    }))
}

/// A new size.
pub(super) fn size(channel: ChannelName, size: Size) -> Message {
    text(&json!({
        "type": "pty.size", "channel": channel.to_string(), "cols": size.cols(), "rows": size.rows(),
    }))
}

/// The end.
pub(super) fn exit(channel: ChannelName, ended: &Ended) -> Message {
    text(&json!({
        "type": "pty.exit", "channel": channel.to_string(), "state": ended.state.word(),
        "exit_code": ended.exit_code, "signal": ended.signal, "offset": ended.offset.0,
    }))
}

/// Something happened.
pub(super) fn event(it: &StoredEvent) -> Message {
    let mut object = wire::event(it);
    object.insert("type".into(), "event".into());
    text(&Value::Object(object))
}

/// Something the client asked cannot be.
pub(super) fn error(refusal: &Refusal, channel: Option<&str>) -> Message {
    let facts = serde_json::to_value(wire::ErrorFacts::of(refusal));
    let mut object = facts.ok().and_then(|facts| facts.as_object().cloned()).unwrap_or_default();
    object.insert("type".into(), "error".into());
    object.insert("channel".into(), channel.into());
    text(&Value::Object(object))
}

#[cfg(test)]
mod unit {
    use super::*;

    fn refused(text: &str) -> (String, Option<String>) {
        let (refusal, channel) = parse(text).unwrap_err();
        (refusal.details["reason"].as_str().unwrap().to_owned(), channel)
    }

    #[test]
    fn wrong_frames_are_named() {
        let of = |reason: &str, channel: Option<&str>| (reason.to_owned(), channel.map(str::to_owned));
        assert_eq!(refused("hello"), of("not_json", None));
        assert_eq!(refused("[]"), of("wrong_type", None));
        assert_eq!(refused(r#"{"type":"dance","channel":"x"}"#), of("unknown_type", Some("x")));
        assert_eq!(refused(r#"{"channel":"x"}"#), of("unknown_type", Some("x")));
        let twice = r#"{"type":"unsubscribe","channel":"events","x":1}"#;
        assert_eq!(refused(twice), of("unknown_field", Some("events")));
        let negative = r#"{"type":"subscribe","channel":"events","from":-1}"#;
        assert_eq!(refused(negative), of("wrong_type", Some("events")));
    }

    #[test]
    fn channel_names_round_trip() {
        for name in ["events", "pty:task:01ARZ3NDEKTSV4RRFFQ69G5FAV", "pty:pane:7"] {
            assert_eq!(ChannelName::parse(name).unwrap().to_string(), name);
        }
        for bad in ["", "pty", "pty:task:", "pty:task:7", "pty:pane:-1", "pty:pane:x", "output", "pty:x:1"] {
            assert!(ChannelName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn binary_frames_are_big_endian() {
        let Message::Binary(frame) = output(7, Offset(0x0102), b"hi") else { panic!() };
        assert_eq!(frame[..], *b"\x01\0\0\0\x07\0\0\0\0\0\0\x01\x02hi");
        let typed = Bytes::from_static(b"\x03\0\0\x01\0\0\0\0\0\0\0\0\0abc");
        assert_eq!(parse_binary(&typed), Ok((256, Bytes::from_static(b"abc"))));
        assert!(parse_binary(&Bytes::from_static(b"\x03\0\0")).is_err());
        assert!(parse_binary(&frame).is_err());
    }
}
