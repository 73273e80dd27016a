//! The protocol spoken on a shim's socket: frames of `u32 length, u8 kind, payload`, numbers big endian.
//!
//! `length` counts kind and payload. Both directions are capped: a request is at most [`MAX_REQUEST`] bytes long, an event at most
//! [`MAX_EVENT`]; a longer one is an error and ends the connection.
//!
//! # Versions
//!
//! A shim outlives the daemon that started it, so a daemon meets shims of other versions after an upgrade or a downgrade. Both sides name
//! theirs when they greet, and the daemon is the one that adapts:
//!
//! - It speaks every version from [`OLDEST`] to [`VERSION`] as that version is; of a new version the one before it stays spoken. A shim knows
//!   only its own, and disconnects who asks for what it does not know.
//! - A shim of any other version is followed and nothing else ([`read_only`]). For this the frames below keep their meaning in all
//!   versions, and their layout but for bytes at the end of the two greetings: `Hello`, `Follow`, `Unfollow`, `Abort` of the requests, and `Hello`,
//!   `Output`, `Gap`, `Exited`, `End` of the events. What else such a shim tells is passed over, whatever its length.
//! - One that does not even greet so is left alone. Its end is read from its exit record, where unknown fields are passed over.
//!
//! Nothing of this ends a shim, or calls its run lost while it lives.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::journal::{ExitRecord, Nonce};
use crate::model::{Offset, Size};
use crate::terminal::Theme;

/// The socket's name in an instance directory.
pub const SOCKET: &str = "shim.sock";
/// The protocol's version, as this program speaks it.
pub const VERSION: u8 = 1;
/// The oldest version that is spoken with shims of earlier programs.
pub const OLDEST: u8 = 1;

/// Whether a shim of this version may only be followed.
#[must_use]
pub const fn read_only(version: u8) -> bool {
    version < OLDEST || version > VERSION
}

/// The largest request, in bytes.
pub(super) const MAX_REQUEST: usize = 64 * 1024;
/// The largest event, in bytes: one piece of output and its head.
pub(super) const MAX_EVENT: usize = 64 * 1024 + 64;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame is longer than allowed, or empty.
    #[error("a frame of {0} bytes is not allowed")]
    Length(usize),
    /// The frame does not hold what its kind says.
    #[error("a frame of kind {kind} is malformed")]
    Malformed {
        /// The frame's kind.
        kind: u8,
    },
    /// This side does not know the kind.
    #[error("unknown frame of kind {0}")]
    Unknown(u8),
}

/// What a client asks of a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// First of all: who speaks.
    Hello {
        /// The client's protocol version.
        version: u8,
        /// The run's secret.
        nonce: Nonce,
    },
    /// Run the command now, in the directory whose descriptor comes with this (unix(7), `SCM_RIGHTS`); without one, in the spec's.
    OpenGate,
    /// Send output from this offset on, and what comes.
    Follow {
        /// The first byte wanted.
        from: Offset,
    },
    /// Send no more output.
    Unfollow,
    /// Bytes for the command's standard input.
    Input(Bytes),
    /// Give the terminal this size.
    Resize(Size),
    /// Tell these colours to a command that asks for them: only for a shim that says so when it greets.
    Theme(Box<Theme>),
    /// Write a mark into the window.
    Align,
    /// End the whole process tree: TERM, then KILL after 5 s. With `interrupt_first`, ^C is typed 1 s before.
    Stop {
        /// Type ^C first.
        interrupt_first: bool,
    },
    /// Send this signal to the command.
    Signal(u8),
    /// Everything is stored: the shim may leave.
    Ack,
    /// Leave without having run the command; ignored once the gate is open.
    Abort,
}

/// Where a shim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// At its gate.
    Waiting,
    /// The command runs.
    Running,
    /// The command ended, or could not be started, and its exit record is on disk.
    Ended,
}

/// A shim's answer to `Hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The shim's protocol version.
    pub version: u8,
    /// Where it is.
    pub phase: Phase,
    /// The command's process id, once it ran.
    pub pid: Option<u32>,
    /// The first byte still held.
    pub start: Offset,
    /// The offset after the last byte so far.
    pub end: Offset,
    /// The terminal's size.
    pub size: Size,
    /// Whether it understands [`Request::Theme`].
    pub takes_theme: bool,
}

/// What a shim tells a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The answer to `Hello`.
    Hello(Hello),
    /// The command runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// The command could not be started; the exit record follows.
    SpawnFailed {
        /// For people: what could not be done and why.
        text: String,
    },
    /// Output, contiguous with the last event of this kind or with a gap.
    Output {
        /// The offset of its first byte.
        offset: Offset,
        /// The bytes.
        bytes: Bytes,
    },
    /// These bytes will not come: they are no longer held, or could not be written to disk.
    Gap {
        /// The first missing byte.
        from: Offset,
        /// The first byte after the gap.
        to: Offset,
    },
    /// The terminal has a new size.
    Resized(Size),
    /// So many more bytes of input reached the terminal (or were dropped because the command ended).
    InputTaken(u32),
    /// The command ended and the exit record is on disk; output may still follow up to its `total_bytes`.
    Exited(Box<ExitRecord>),
    /// After a stop: nothing of the process tree lives.
    Stopped,
    /// Every byte was sent to this follower.
    End {
        /// The length of the whole output.
        total: Offset,
    },
}

/// One frame of the two directions.
pub(super) trait Frame: Sized {
    /// The longest frame of this direction, in bytes after the length.
    const MAX: usize;

    /// Appends the frame's kind and payload to `out`.
    fn encode_body(&self, out: &mut BytesMut);

    /// Reads a frame from its kind and payload.
    ///
    /// # Errors
    ///
    /// When the payload is not of the kind, or the kind is unknown.
    fn decode_body(kind: u8, payload: Bytes) -> Result<Self, WireError>;

    /// Appends the whole frame to `out`.
    fn encode(&self, out: &mut BytesMut) {
        let at = out.len();
        out.put_u32(0);
        self.encode_body(out);
        let len = u32::try_from(out.len() - at - 4).expect("frames are capped far below 4 GiB");
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// Takes the next whole frame from the front of `buffer`; `None` when it is not all there.
    ///
    /// # Errors
    ///
    /// When the frame is too long or malformed.
    fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Some(head) = buffer.get(..4) else { return Ok(None) };
        let len = u32::from_be_bytes(head.try_into().expect("four bytes")) as usize;
        if len == 0 || len > Self::MAX {
            return Err(WireError::Length(len));
        }
        if buffer.len() < 4 + len {
            buffer.reserve(4 + len - buffer.len());
            return Ok(None);
        }
        buffer.advance(4);
        let mut body = buffer.split_to(len).freeze();
        let kind = body.get_u8();
        Self::decode_body(kind, body).map(Some)
    }
}

/// Runs `read` on a payload and checks that it used all of it.
fn parse<T>(
    kind: u8,
    mut payload: Bytes,
    read: impl FnOnce(&mut Bytes) -> Option<T>,
) -> Result<T, WireError> {
    let value = read(&mut payload).filter(|_| payload.is_empty());
    value.ok_or(WireError::Malformed { kind })
}

fn take_size(payload: &mut Bytes) -> Option<Size> {
    let (cols, rows) = (payload.try_get_u16().ok()?, payload.try_get_u16().ok()?);
    Size::clamped(cols.into(), rows.into())
}

fn take_offset(payload: &mut Bytes) -> Option<Offset> {
    payload.try_get_u64().ok().map(Offset)
}

fn take_bool(payload: &mut Bytes) -> Option<bool> {
    match payload.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_theme(payload: &mut Bytes) -> Option<Theme> {
    let mut colours = [[0; 3]; 19];
    payload.try_copy_to_slice(colours.as_flattened_mut()).ok()?;
    Some(Theme::from_colours(colours))
}

fn put_size(out: &mut BytesMut, size: Size) {
    out.put_u16(size.cols());
    out.put_u16(size.rows());
}

impl Request {
    /// Whether shims of every version understand it.
    pub(super) const fn is_in_every_version(&self) -> bool {
        match self {
            Self::Hello { .. } | Self::Follow { .. } | Self::Unfollow | Self::Abort => true,
            Self::OpenGate
            | Self::Input(_)
            | Self::Resize(_)
            | Self::Theme(_)
            | Self::Align
            | Self::Stop { .. }
            | Self::Signal(_)
            | Self::Ack => false,
        }
    }
}

impl Frame for Request {
    const MAX: usize = MAX_REQUEST;

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { version, nonce } => {
                out.put_u8(1);
                out.put_u8(*version);
                out.put_slice(nonce.as_bytes());
            }
            Self::OpenGate => out.put_u8(2),
            Self::Follow { from } => {
                out.put_u8(3);
                out.put_u64(from.0);
            }
            Self::Unfollow => out.put_u8(4),
            Self::Input(bytes) => {
                out.put_u8(5);
                out.put_slice(bytes);
            }
            Self::Resize(size) => {
                out.put_u8(6);
                put_size(out, *size);
            }
            Self::Align => out.put_u8(7),
            Self::Stop { interrupt_first } => {
                out.put_u8(8);
                out.put_u8(u8::from(*interrupt_first));
            }
            Self::Signal(number) => {
                out.put_u8(9);
                out.put_u8(*number);
            }
            Self::Ack => out.put_u8(10),
            Self::Abort => out.put_u8(11),
            Self::Theme(theme) => {
                out.put_u8(12);
                theme.colours().for_each(|colour| out.put_slice(&colour));
            }
        }
    }

    fn decode_body(kind: u8, payload: Bytes) -> Result<Self, WireError> {
        parse(kind, payload, |p| {
            Some(match kind {
                1 => {
                    let version = p.try_get_u8().ok()?;
                    let mut nonce = [0; 16];
                    p.try_copy_to_slice(&mut nonce).ok()?;
                    // What a later version appends to its greeting is not for this one.
                    p.clear();
                    Self::Hello { version, nonce: Nonce::from_bytes(nonce) }
                }
                2 => Self::OpenGate,
                3 => Self::Follow { from: take_offset(p)? },
                4 => Self::Unfollow,
                5 => Self::Input(std::mem::take(p)),
                6 => Self::Resize(take_size(p)?),
                7 => Self::Align,
                8 => Self::Stop { interrupt_first: take_bool(p)? },
                9 => Self::Signal(p.try_get_u8().ok()?),
                10 => Self::Ack,
                11 => Self::Abort,
                12 => Self::Theme(Box::new(take_theme(p)?)),
                _ => return None,
            })
        })
        .map_err(|e| if (1..=12).contains(&kind) { e } else { WireError::Unknown(kind) })
    }
}

impl Event {
    /// Appends the head of an `Output` event for `len` bytes at `offset` to `out`; the bytes must follow.
    pub(crate) fn encode_output_head(offset: Offset, len: usize, out: &mut BytesMut) {
        out.put_u32(u32::try_from(len).expect("output is capped") + 1 + 8);
        out.put_u8(5);
        out.put_u64(offset.0);
    }
}

impl Frame for Event {
    const MAX: usize = MAX_EVENT;

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => {
                out.put_u8(1);
                put_hello(out, hello);
            }
            Self::Started { pid } => {
                out.put_u8(2);
                out.put_u32(*pid);
            }
            Self::SpawnFailed { text } => {
                out.put_u8(3);
                out.put_slice(text.as_bytes());
            }
            Self::Gap { from, to } => {
                out.put_u8(4);
                out.put_u64(from.0);
                out.put_u64(to.0);
            }
            Self::Output { offset, bytes } => {
                out.put_u8(5);
                out.put_u64(offset.0);
                out.put_slice(bytes);
            }
            Self::Resized(size) => {
                out.put_u8(6);
                put_size(out, *size);
            }
            Self::InputTaken(count) => {
                out.put_u8(7);
                out.put_u32(*count);
            }
            Self::Exited(record) => {
                out.put_u8(8);
                out.put_slice(&record.to_bytes());
            }
            Self::Stopped => out.put_u8(9),
            Self::End { total } => {
                out.put_u8(10);
                out.put_u64(total.0);
            }
        }
    }

    fn decode_body(kind: u8, payload: Bytes) -> Result<Self, WireError> {
        parse(kind, payload, |p| {
            Some(match kind {
                1 => Self::Hello(take_hello(p)?),
                2 => Self::Started { pid: p.try_get_u32().ok()? },
                3 => Self::SpawnFailed { text: String::from_utf8(std::mem::take(p).into()).ok()? },
                4 => Self::Gap { from: take_offset(p)?, to: take_offset(p)? },
                5 => Self::Output { offset: take_offset(p)?, bytes: std::mem::take(p) },
                6 => Self::Resized(take_size(p)?),
                7 => Self::InputTaken(p.try_get_u32().ok()?),
                8 => {
                    let record = ExitRecord::from_bytes(&std::mem::take(p), Path::new("event")).ok()?;
                    Self::Exited(Box::new(record))
                }
                9 => Self::Stopped,
                10 => Self::End { total: take_offset(p)? },
                _ => return None,
            })
        })
        .map_err(|e| if (1..=10).contains(&kind) { e } else { WireError::Unknown(kind) })
    }
}

fn put_hello(out: &mut BytesMut, hello: &Hello) {
    out.put_u8(hello.version);
    out.put_u8(match hello.phase {
        Phase::Waiting => 0,
        Phase::Running => 1,
        Phase::Ended => 2,
    });
    out.put_u32(hello.pid.unwrap_or(0));
    out.put_u64(hello.start.0);
    out.put_u64(hello.end.0);
    put_size(out, hello.size);
    out.put_u8(u8::from(hello.takes_theme));
}

fn take_hello(p: &mut Bytes) -> Option<Hello> {
    let hello = Hello {
        version: p.try_get_u8().ok()?,
        phase: match p.try_get_u8().ok()? {
            0 => Phase::Waiting,
            1 => Phase::Running,
            2 => Phase::Ended,
            _ => return None,
        },
        pid: Some(p.try_get_u32().ok()?).filter(|&pid| pid != 0),
        start: take_offset(p)?,
        end: take_offset(p)?,
        size: take_size(p)?,
        // Shims of kas before this byte end their greeting here.
        takes_theme: p.try_get_u8().is_ok_and(|it| it == 1),
    };
    // What a later version appends to its greeting is not for this one.
    p.clear();
    Some(hello)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Cause, Ending};
    use crate::model::{Exit, TimeMs};

    fn check<F: Frame + PartialEq + std::fmt::Debug>(frames: &[F]) {
        let mut all = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut all));
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in all {
            buffer.put_u8(byte);
            found.extend(F::decode(&mut buffer).unwrap());
        }
        assert_eq!(found, frames);
        assert!(buffer.is_empty());
    }

    #[test]
    fn requests_round_trip() {
        check(&[
            Request::Hello { version: VERSION, nonce: Nonce::from_bytes([9; 16]) },
            Request::OpenGate,
            Request::Follow { from: Offset(u64::MAX) },
            Request::Unfollow,
            Request::Input(Bytes::from_static(b"\0\xff\x1b")),
            Request::Input(Bytes::new()),
            Request::Resize(Size::DEFAULT),
            Request::Theme(Box::new(Theme::NIGHT)),
            Request::Align,
            Request::Stop { interrupt_first: true },
            Request::Signal(2),
            Request::Ack,
            Request::Abort,
        ]);
    }

    #[test]
    fn events_round_trip() {
        let record = ExitRecord {
            ending: Ending::Exited(Exit::Signal(15)),
            cause: Cause::Itself,
            total_bytes: 1,
            lost_bytes: 2,
            started_at: TimeMs(3),
            ended_at: TimeMs(4),
            pid: None,
            nonce: Nonce::from_bytes([1; 16]),
            boot_id: "id".into(),
        };
        let (start, end) = (Offset(5), Offset(6));
        let hello = Hello {
            version: 1,
            phase: Phase::Ended,
            pid: None,
            start,
            end,
            size: Size::DEFAULT,
            takes_theme: true,
        };
        check(&[
            Event::Hello(hello),
            Event::Started { pid: 77 },
            Event::SpawnFailed { text: "no \u{e9}".into() },
            Event::Output { offset: start, bytes: Bytes::from_static(b"\xff\0") },
            Event::Gap { from: start, to: end },
            Event::Resized(Size::DEFAULT),
            Event::InputTaken(9),
            Event::Exited(Box::new(record)),
            Event::Stopped,
            Event::End { total: end },
        ]);
    }

    #[test]
    fn the_output_head_is_an_output_event() {
        let mut out = BytesMut::new();
        Event::encode_output_head(Offset(3), 2, &mut out);
        out.put_slice(b"ab");
        let event = Event::Output { offset: Offset(3), bytes: Bytes::from_static(b"ab") };
        assert_eq!(Event::decode(&mut out), Ok(Some(event)));
    }

    #[test]
    fn hostile_frames_are_refused() {
        let decode = |bytes: &[u8]| Request::decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(&[0, 0, 0]), Ok(None));
        assert_eq!(decode(&[0, 0, 0, 0]), Err(WireError::Length(0)));
        assert_eq!(decode(&[255, 255, 255, 255]), Err(WireError::Length(u32::MAX as usize)));
        assert_eq!(decode(&[0, 0, 0, 1, 99]), Err(WireError::Unknown(99)));
        assert_eq!(decode(&[0, 0, 0, 2, 3, 0]), Err(WireError::Malformed { kind: 3 }));
        assert_eq!(decode(&[0, 0, 0, 2, 2, 0]), Err(WireError::Malformed { kind: 2 }));
        assert_eq!(decode(&[0, 0, 0, 5, 6, 0, 0, 0, 1]), Err(WireError::Malformed { kind: 6 }));
    }
}
