//! The frames a client is sent.

use std::fmt;

use axum::extract::ws::Message;
use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use crate::api::error::not_found;
use crate::api::wire;
use crate::broker::{Ended, GapReason, Snapshot};
use crate::daemon::{Answer, Refusal, TerminalId};
use crate::model::{Offset, Size};
use crate::store::StoredEvent;

/// Bytes before the payload of a binary frame: kind, handle, offset.
const BINARY_HEADER: usize = 13;
const OUTPUT: u8 = 1;
const SNAPSHOT: u8 = 2;

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

/// The payload's bytes.
pub(super) fn len(frame: &Message) -> usize {
    match frame {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
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

/// The program's terminal took so many more bytes of what this connection typed.
pub(super) fn input_taken(channel: ChannelName, bytes: usize) -> Message {
    text(&json!({ "type": "pty.input.taken", "channel": channel.to_string(), "bytes": bytes }))
}

/// The answer to a client that asks whether it is heard.
pub(super) fn pong(id: u64) -> Message {
    text(&json!({ "type": "pong", "id": id }))
}

/// Something happened.
pub(super) fn event(it: &StoredEvent) -> Message {
    let mut object = wire::event(it);
    object.insert("type".into(), "event".into());
    text(&Value::Object(object))
}

/// Something the client asked cannot be. `request` is the type of the text frame in which it asked.
pub(super) fn error(refusal: &Refusal, channel: Option<&str>, request: Option<&str>) -> Message {
    let facts = serde_json::to_value(wire::ErrorFacts::of(refusal));
    let mut object = facts.ok().and_then(|facts| facts.as_object().cloned()).unwrap_or_default();
    object.insert("type".into(), "error".into());
    object.insert("channel".into(), channel.into());
    if let Some(request) = request {
        object.insert("request".into(), request.into());
    }
    text(&Value::Object(object))
}

#[cfg(test)]
mod unit {
    use super::*;

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
    }
}
