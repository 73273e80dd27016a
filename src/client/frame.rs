//! What comes through the WebSocket (`spec/protocol.md` §4), read and checked.

use bytes::Bytes;
use serde_json::Value;

use super::Error;
use crate::model::RunState;

/// How a run ended, as `pty.exit` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its last state.
    pub state: RunState,
    /// The code, when the kernel gave one.
    pub exit_code: Option<i32>,
    /// The signal's name, if one ended it.
    pub signal: Option<String>,
}

/// One message of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A subscription begins.
    Subscribed {
        /// Names the channel in binary frames.
        handle: u32,
        /// What was written before this offset is replay, what comes after it is live.
        offset: u64,
    },
    /// Bytes that will not come.
    Gap {
        /// The first of them.
        from: u64,
        /// The first after them.
        to: u64,
    },
    /// The size was set.
    Size {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The run is over and its output complete.
    Exit(End),
    /// Something happened to a run or project.
    Event {
        /// Its id; ids grow by one.
        id: u64,
        /// The instance, if it is about one.
        task_id: Option<String>,
        /// The whole event.
        told: Value,
    },
    /// The daemon refused a message.
    Error {
        /// The code's word.
        code: String,
        /// The reason's word, if it has one.
        reason: Option<String>,
        /// For people.
        message: String,
    },
    /// The program's terminal took so many more bytes of what was typed.
    InputTaken {
        /// How many.
        bytes: usize,
    },
    /// Output.
    Output {
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// A terminal's state as bytes.
    Snapshot {
        /// It shows what was written before this offset.
        offset: u64,
        /// What to write to a freshly reset terminal.
        bytes: Bytes,
    },
    /// A message this version does not know.
    Unknown,
}

/// Bytes before the payload of a binary frame: kind, handle, offset.
const HEADER_BYTES: usize = 13;

impl Frame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// [`Error::Nonsense`].
    pub fn of_text(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::Nonsense(error.to_string()))?;
        Self::of_object(&value).ok_or_else(|| {
            let short: String = text.chars().take(200).collect();
            Error::Nonsense(format!("the message {short:?}"))
        })
    }

    fn of_object(it: &Value) -> Option<Self> {
        let text = |key: &str| it[key].as_str().map(str::to_owned);
        let side = |key: &str| it[key].as_u64().and_then(|n| u16::try_from(n).ok());
        Some(match it["type"].as_str()? {
            "subscribed" => Self::Subscribed {
                // The events channel has neither.
                handle: it["handle"].as_u64().unwrap_or(0).try_into().ok()?,
                offset: it["offset"].as_u64().unwrap_or(0),
            },
            "pty.gap" => Self::Gap { from: it["from"].as_u64()?, to: it["to"].as_u64()? },
            "pty.size" => Self::Size { cols: side("cols")?, rows: side("rows")? },
            "pty.exit" => Self::Exit(End {
                state: it["state"].as_str()?.parse().ok()?,
                exit_code: it["exit_code"].as_i64().and_then(|code| code.try_into().ok()),
                signal: text("signal"),
            }),
            "event" => Self::Event { id: it["id"].as_u64()?, task_id: text("task_id"), told: it.clone() },
            "error" => Self::Error {
                code: text("code")?,
                reason: it["details"]["reason"].as_str().map(str::to_owned),
                message: text("message")?,
            },
            "pty.input.taken" => Self::InputTaken { bytes: it["bytes"].as_u64()?.try_into().ok()? },
            _ => Self::Unknown,
        })
    }

    /// Reads a binary frame.
    ///
    /// # Errors
    /// [`Error::Nonsense`] when it is shorter than its header.
    pub fn of_binary(frame: &Bytes) -> Result<Self, Error> {
        let Some((header, _)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Error::Nonsense(format!("a binary message of {} bytes", frame.len())));
        };
        let [kind, _, _, _, _, offset @ ..] = *header;
        let (offset, bytes) = (u64::from_be_bytes(offset), frame.slice(HEADER_BYTES..));
        Ok(match kind {
            1 => Self::Output { offset, bytes },
            2 => Self::Snapshot { offset, bytes },
            _ => Self::Unknown,
        })
    }

    /// A binary frame of input.
    #[must_use]
    pub fn input(handle: u32, bytes: &[u8]) -> Bytes {
        let header = [&[3][..], &handle.to_be_bytes(), &[0; 8]];
        [&header.concat(), bytes].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_text_frames() {
        let check = |text: &str, expect: Frame| assert_eq!(Frame::of_text(text).unwrap(), expect, "{text}");
        check(
            r#"{"type":"subscribed","channel":"pty:task:X","handle":7,"offset":9,"cols":80,"rows":24,"state":"running","replay":"none"}"#,
            Frame::Subscribed { handle: 7, offset: 9 },
        );
        check(r#"{"type":"subscribed","channel":"events"}"#, Frame::Subscribed { handle: 0, offset: 0 });
        let end = End { state: RunState::Failed, exit_code: Some(137), signal: Some("SIGKILL".into()) };
        check(
            r#"{"type":"pty.exit","channel":"c","state":"failed","exit_code":137,"signal":"SIGKILL","offset":4}"#,
            Frame::Exit(end),
        );
        check(
            r#"{"type":"pty.gap","channel":"c","from":1,"to":5,"reason":"evicted"}"#,
            Frame::Gap { from: 1, to: 5 },
        );
        check(r#"{"type":"pty.input.taken","channel":"c","bytes":5}"#, Frame::InputTaken { bytes: 5 });
        check(r#"{"type":"tomorrow"}"#, Frame::Unknown);
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"type":"pty.exit","state":"lost"}"#,
            r#"{"type":"pty.gap","from":-1,"to":2}"#,
        ] {
            assert!(matches!(Frame::of_text(bad), Err(Error::Nonsense(_))), "{bad}");
        }
    }

    #[test]
    fn reads_and_writes_binary_frames() {
        let mut frame = Frame::input(0x0102_0304, b"keys").to_vec();
        assert_eq!(frame, b"\x03\x01\x02\x03\x04\0\0\0\0\0\0\0\0keys");
        frame[0] = 1;
        frame[12] = 9;
        let expect = Frame::Output { offset: 9, bytes: Bytes::from_static(b"keys") };
        assert_eq!(Frame::of_binary(&frame.into()).unwrap(), expect);
        assert!(Frame::of_binary(&Bytes::from_static(b"\x01short")).is_err());
    }
}
