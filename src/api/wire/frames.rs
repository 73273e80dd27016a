//! The frames a client may send.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::api::error::invalid;
use crate::api::request::parse_json;
use crate::daemon::{Answer, Refusal};
use crate::terminal::{Rgb, Theme};

/// Bytes before the payload of a binary frame: kind, handle, offset.
const BINARY_HEADER: usize = 13;
const INPUT: u8 = 3;

/// How a terminal is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum Mode {
    Interactive,
    View,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Subscribe {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
    pub(in crate::api) since: Option<i64>,
    pub(in crate::api) from: Option<u64>,
    pub(in crate::api) cols: Option<Value>,
    pub(in crate::api) rows: Option<Value>,
    pub(in crate::api) mode: Option<Mode>,
    /// Pages of earlier versions ask with it which output they may answer: none.
    #[serde(default, rename = "answers")]
    _answers: IgnoredAny,
    /// Whether it wants to be told when what it types was taken.
    #[serde(default)]
    pub(in crate::api) confirm_input: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Unsubscribe {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Input {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
    pub(in crate::api) data: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Resize {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
    pub(in crate::api) cols: Value,
    pub(in crate::api) rows: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Colours {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
    foreground: String,
    background: String,
    cursor: String,
    palette: Vec<String>,
}

impl Colours {
    /// The colours, each `#rrggbb`.
    pub(in crate::api) fn theme(&self) -> Answer<Theme> {
        let colours = [&self.foreground, &self.background, &self.cursor].into_iter().chain(&self.palette);
        let colours: Option<Vec<Rgb>> = colours.map(|text| colour(text)).collect();
        let colours = colours.and_then(|all| all.try_into().ok());
        let wrong = || invalid("each colour is `#rrggbb`, and `palette` has 16 of them").reason("colours");
        colours.map(Theme::from_colours).ok_or_else(wrong)
    }
}

/// Reads `#rrggbb`.
fn colour(text: &str) -> Option<Rgb> {
    let digits =
        text.strip_prefix('#').filter(|it| it.len() == 6 && it.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let [_, rgb @ ..] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(rgb)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Ack {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) channel: String,
    pub(in crate::api) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Ping {
    #[serde(rename = "type")]
    _type: String,
    pub(in crate::api) id: u64,
}

/// One text frame from the client.
#[derive(Debug)]
pub(in crate::api) enum Said {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Input(Input),
    Resize(Resize),
    Colours(Colours),
    Ack(Ack),
    Ping(Ping),
}

impl Said {
    /// The `type` of the frame.
    pub(in crate::api) fn word(&self) -> &'static str {
        match self {
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Input(_) => "pty.input",
            Self::Resize(_) => "pty.resize",
            Self::Colours(_) => "pty.colours",
            Self::Ack(_) => "pty.ack",
            Self::Ping(_) => "ping",
        }
    }
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
pub(in crate::api) fn parse(text: &str) -> Result<Said, (Refusal, Option<String>)> {
    let text = text.as_bytes();
    let outline: Outline = parse_json(text).map_err(|refusal| (refusal, None))?;
    let said = match outline.kind.as_str() {
        Some("subscribe") => parse_json(text).map(Said::Subscribe),
        Some("unsubscribe") => parse_json(text).map(Said::Unsubscribe),
        Some("pty.input") => parse_json(text).map(Said::Input),
        Some("pty.resize") => parse_json(text).map(Said::Resize),
        Some("pty.colours") => parse_json(text).map(Said::Colours),
        Some("pty.ack") => parse_json(text).map(Said::Ack),
        Some("ping") => parse_json(text).map(Said::Ping),
        Some(_) | None => Err(invalid("`type` is none of the known ones").reason("unknown_type")),
    };
    said.map_err(|refusal| (refusal, outline.channel.as_str().map(str::to_owned)))
}

/// Reads a binary frame: the handle it names, if it is long enough to, and the bytes typed.
pub(in crate::api) fn parse_binary(frame: &Bytes) -> (Option<u32>, Answer<Bytes>) {
    match frame.get(..BINARY_HEADER) {
        Some(&[kind, a, b, c, d, ..]) => {
            // A copy: a slice would hold the whole buffer it was read into for as long as the program does not read.
            let typed = (kind == INPUT).then(|| Bytes::copy_from_slice(&frame[BINARY_HEADER..]));
            let refusal = || invalid("only input (kind 3) comes from a client").reason("unknown_type");
            (Some(u32::from_be_bytes([a, b, c, d])), typed.ok_or_else(refusal))
        }
        Some(_) | None => {
            (None, Err(invalid("a binary frame has a header of 13 bytes").reason("short_frame")))
        }
    }
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
    fn binary_frames_are_big_endian() {
        let typed = Bytes::from_static(b"\x03\0\0\x01\0\0\0\0\0\0\0\0\0abc");
        assert_eq!(parse_binary(&typed), (Some(256), Ok(Bytes::from_static(b"abc"))));
        let of = |frame: &'static [u8]| parse_binary(&Bytes::from_static(frame));
        assert!(matches!(of(b"\x03\0\0"), (None, Err(_))));
        assert!(matches!(of(b"\x01\0\0\0\x09\0\0\0\0\0\0\0\0"), (Some(9), Err(_))));
    }
}
