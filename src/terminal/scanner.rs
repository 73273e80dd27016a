//! Where a terminal's byte stream may be cut: a state machine that knows only "inside something" or "in the ground state".
//!
//! The states are those of tmux's and xterm.js's parsers, after Paul Williams' VT500 diagram (vt100.net/emu/dec_ansi_parser).

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// So many continuation bytes of a character are still to come.
    Utf8(u8),
    Escape,
    Csi,
    /// OSC: ended by BEL or ST, abandoned at CAN, SUB or any other escape.
    Osc,
    /// DCS, APC, PM or SOS: BEL does not end it.
    Text,
    /// ESC was seen inside a `Text`.
    TextEscape,
}

/// Follows a terminal's byte stream and knows whether it is between two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanner(State);

impl Scanner {
    /// A scanner at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self(State::Ground)
    }

    /// Whether the stream may be cut here: no character, escape sequence or string is half done.
    #[must_use]
    pub fn is_ground(&self) -> bool {
        self.0 == State::Ground
    }

    /// Follows `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            let plain = self.uneventful(rest);
            if plain > 0 {
                rest = &rest[plain..];
            } else {
                self.0 = step(self.0, first);
                rest = &rest[1..];
            }
        }
    }

    /// Follows `bytes` up to the first place where the stream is in the ground state, and says how many bytes that took.
    /// Zero when it is there already; `None` when all of `bytes` went by without reaching it.
    pub fn feed_until_ground(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.is_ground() {
            return Some(0);
        }
        for (index, &byte) in bytes.iter().enumerate() {
            self.0 = step(self.0, byte);
            if self.is_ground() {
                return Some(index + 1);
            }
        }
        None
    }

    /// After how many of `bytes` the stream is in the ground state for the last time; `None` when it never is after the first.
    pub(super) fn last_ground_in(mut self, bytes: &[u8]) -> Option<usize> {
        let mut cut = None;
        let mut at = 0;
        while at < bytes.len() {
            let run = self.uneventful(&bytes[at..]).max(1);
            self.feed(&bytes[at..at + run]);
            at += run;
            if self.is_ground() {
                cut = Some(at);
            }
        }
        cut
    }

    /// How many of the first bytes cannot change the state.
    fn uneventful(self, bytes: &[u8]) -> usize {
        let len = bytes.len();
        match self.0 {
            State::Ground => ascii_run(bytes),
            State::Osc => memchr::memchr3(ESC, BEL, CAN, bytes).unwrap_or(len).min(sub_at(bytes)),
            State::Text => memchr::memchr3(ESC, CAN, SUB, bytes).unwrap_or(len),
            State::Utf8(_) | State::Escape | State::Csi | State::TextEscape => 0,
        }
    }
}

fn sub_at(bytes: &[u8]) -> usize {
    memchr::memchr(SUB, bytes).unwrap_or(bytes.len())
}

/// How many bytes at the front are ASCII and not ESC.
fn ascii_run(bytes: &[u8]) -> usize {
    let escape = memchr::memchr(ESC, bytes).unwrap_or(bytes.len());
    let plain = &bytes[..escape];
    if plain.is_ascii() { escape } else { plain.iter().position(|b| !b.is_ascii()).unwrap_or(escape) }
}

fn step(state: State, byte: u8) -> State {
    match state {
        State::Ground => ground(byte),
        State::Utf8(left) if byte & 0xc0 == 0x80 => {
            if left > 1 {
                State::Utf8(left - 1)
            } else {
                State::Ground
            }
        }
        State::Utf8(_) => ground(byte),
        State::Escape => escape(byte),
        State::Csi => csi(byte),
        State::Osc => osc(byte),
        State::Text => text(byte),
        State::TextEscape => text_escape(byte),
    }
}

fn ground(byte: u8) -> State {
    match byte {
        ESC => State::Escape,
        0xc2..=0xdf => State::Utf8(1),
        0xe0..=0xef => State::Utf8(2),
        0xf0..=0xf4 => State::Utf8(3),
        _ => State::Ground,
    }
}

fn escape(byte: u8) -> State {
    match byte {
        b'[' => State::Csi,
        b']' => State::Osc,
        b'P' | b'X' | b'^' | b'_' => State::Text,
        // `ESC k title ST` is a string to tmux (screen's way to name a window) and an unknown sequence to others.
        b'k' => State::Text,
        0x30..=0x7e | CAN | SUB => State::Ground,
        0x80..=0xff => ground(byte),
        _ => State::Escape,
    }
}

fn csi(byte: u8) -> State {
    match byte {
        ESC => State::Escape,
        0x40..=0x7e | CAN | SUB => State::Ground,
        _ => State::Csi,
    }
}

fn osc(byte: u8) -> State {
    match byte {
        ESC => State::Escape,
        BEL | CAN | SUB => State::Ground,
        _ => State::Osc,
    }
}

fn text(byte: u8) -> State {
    match byte {
        ESC => State::TextEscape,
        CAN | SUB => State::Ground,
        _ => State::Text,
    }
}

fn text_escape(byte: u8) -> State {
    match byte {
        b'\\' => State::Ground,
        ESC => State::TextEscape,
        _ => State::Text,
    }
}

/// The last place in `bytes` where the stream may be cut, when `bytes` begins in the ground state. Zero when nowhere later.
#[must_use]
pub fn last_safe_cut(bytes: &[u8]) -> usize {
    Scanner::new().last_ground_in(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], cut: usize) {
        assert_eq!(last_safe_cut(bytes), cut, "{bytes:?}");
        let mut whole = Scanner::new();
        whole.feed(bytes);
        assert_eq!(whole.is_ground(), cut == bytes.len(), "{bytes:?}");
        let mut single = Scanner::new();
        bytes.iter().for_each(|b| single.feed(&[*b]));
        assert_eq!(whole, single, "one byte at a time: {bytes:?}");
    }

    #[test]
    fn cuts_only_between_things() {
        check(b"", 0);
        check(b"plain\r\n", 7);
        check(b"a\x1b", 1);
        check(b"a\x1b[3", 1);
        check(b"a\x1b[31m", 6);
        check(b"a\x1b(B", 4);
        check(b"\x1b]0;title", 0);
        check(b"\x1b]0;title\x07", 10);
        check(b"\x1b]0;title\x1b\\", 11);
        check(b"\x1bPq\x07more", 0);
        check(b"\x1bPq\x1b\\x", 6);
        check(b"\x1bktitle\x1b\\", 9);
        check("é".as_bytes(), 2);
        check(&"é€😀".as_bytes()[..8], 5);
        check(b"\xc3x", 2);
        check(b"\xff\xfe\x80", 3);
        check(b"\xe2\x82\x1b[", 0);
        check(b"\x1b]0;x\x18y", 7);
    }

    #[test]
    fn stops_at_the_first_ground() {
        let mut scanner = Scanner::new();
        scanner.feed(b"\x1b[3");
        assert_eq!(scanner.feed_until_ground(b"1;"), None);
        assert_eq!(scanner.feed_until_ground(b"4mtext"), Some(2));
        assert_eq!(scanner.feed_until_ground(b"text"), Some(0));
    }
}
