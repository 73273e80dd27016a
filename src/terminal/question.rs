//! What programs ask their terminal, and what it answers. An answer is input, so each question has one answerer: the shim, and in a tmux
//! window tmux for those that every tmux answers ([`Question::tmux_answers`]).
//!
//! The answers are those of tmux 3.3a where it has one, and else those of xterm.js 6, except that the version is kas's and the colours are those of the
//! theme, until the program sets others.

use std::fmt::Write as _;

use super::colours::{self, Slot};
use super::parser::{Parser, Perform, Sequence};
use super::screen::Screen;
use super::sgr;
use super::theme::Theme;

/// Questions kept of what is fed at once; a program that asks more than this in one piece gets no answer to the rest.
const MAX_ASKED: usize = 4096;

/// A question of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// DA1, `CSI c`: what the terminal can do.
    Attributes,
    /// DA2, `CSI > c`: which terminal it is, as a number.
    Secondary,
    /// DSR, `CSI 5 n`: whether it works.
    Status,
    /// CPR, `CSI 6 n`, or with a `?` DECXCPR: where the cursor is.
    Cursor {
        /// With a `?`.
        private: bool,
    },
    /// XTVERSION, `CSI > q`: the terminal's name and version.
    Version,
    /// `CSI 18 t`: the size in cells.
    Size,
    /// DECRQM, `CSI n $ p` and `CSI ? n $ p`: whether a mode is set.
    Mode {
        /// With a `?`.
        private: bool,
        /// The mode.
        number: i32,
    },
    /// `CSI ? u`: the flags of kitty's keyboard protocol, of which none is ever set.
    Keyboard,
    /// DECRQSS, `DCS $ q`: a setting.
    Setting(String),
    /// OSC 4, 10, 11 and 12 with a `?`: colours.
    Colours(Colours),
}

/// What has colours that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colours(Vec<Slot>);

impl Question {
    /// Whether tmux answers it in its windows: every version from 3.2 on does. What else a newer one answers is taken out of the window's input
    /// ([`Replies`]), so that a program never gets two answers.
    #[must_use]
    pub const fn tmux_answers(&self) -> bool {
        match self {
            Self::Attributes | Self::Secondary | Self::Status | Self::Cursor { private: false } => true,
            // The size, too: tmux 3.3a tells columns for rows.
            Self::Size
            | Self::Cursor { private: true }
            | Self::Version
            | Self::Mode { .. }
            | Self::Keyboard
            | Self::Setting(_)
            | Self::Colours(_) => false,
        }
    }

    /// The answer, where it does not depend on what the program wrote before.
    #[must_use]
    pub const fn fixed_answer(&self) -> Option<&'static str> {
        match self {
            Self::Attributes => Some("\x1b[?1;2c"),
            Self::Secondary => Some("\x1b[>84;0;0c"),
            Self::Status => Some("\x1b[0n"),
            Self::Version => Some(concat!("\x1bP>|kas(", env!("CARGO_PKG_VERSION"), ")\x1b\\")),
            Self::Keyboard => Some("\x1b[?0u"),
            Self::Cursor { .. } | Self::Size | Self::Mode { .. } | Self::Setting(_) | Self::Colours(_) => {
                None
            }
        }
    }

    /// The answer of a terminal of this theme that read everything up to the question.
    #[must_use]
    pub fn answer(&self, screen: &Screen, theme: &Theme) -> String {
        let state = screen.state();
        let shown = state.shown();
        match self {
            Self::Cursor { private } => {
                let mark = if *private { "?" } else { "" };
                format!("\x1b[{mark}{};{}R", shown.y + 1, shown.x + 1)
            }
            Self::Size => format!("\x1b[8;{};{}t", shown.rows, shown.cols),
            Self::Mode { private, number } => {
                let mark = if *private { "?" } else { "" };
                format!("\x1b[{mark}{number};{}$y", state.modes.report(*private, *number, state.alternate))
            }
            Self::Setting(name) => setting(screen, name),
            Self::Colours(Colours(slots)) => {
                let colour = |slot: &Slot| state.colours.get(slot).copied().unwrap_or_else(|| slot.of(theme));
                slots.iter().map(|slot| colours::report(*slot, colour(slot))).collect()
            }
            Self::Attributes | Self::Secondary | Self::Status | Self::Version | Self::Keyboard => {
                self.fixed_answer().unwrap_or_default().to_owned()
            }
        }
    }
}

/// What DECRQSS is answered.
fn setting(screen: &Screen, name: &str) -> String {
    let state = screen.state();
    let shown = state.shown();
    let value = match name {
        "\"q" => u8::from(state.look.bg & super::cell::PROTECTED != 0).to_string(),
        "\"p" => "61;1".to_owned(),
        "r" => format!("{};{}", shown.top + 1, shown.bottom + 1),
        "m" => {
            let mut out = String::new();
            sgr::write(state.look, &mut out);
            out.strip_prefix("\x1b[").and_then(|rest| rest.split('m').next()).unwrap_or("0").to_owned()
        }
        " q" => if state.modes.cursor_style == 0 { 2 } else { state.modes.cursor_style }.to_string(),
        _ => return "\x1bP0$r\x1b\\".to_owned(),
    };
    let mut out = String::new();
    write!(out, "\x1bP1$r{value}{name}\x1b\\").expect("a String takes every write");
    out
}

/// Finds questions in what a program writes.
#[derive(Debug, Default)]
pub struct Questions(Parser);

impl Questions {
    /// Follows `bytes`, which may be cut anywhere, and says what is asked in them: each with the place after the question.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(usize, Question)> {
        let mut asked = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if self.0.is_ground() {
                // Only ESC, or the first byte of a C1 control, leads anywhere.
                let Some(next) = memchr::memchr2(0x1b, 0xc2, &bytes[at..]) else { break };
                at += next;
            }
            let mut hearing = Hearing(None);
            at += self.0.feed_until_ground(&bytes[at..], &mut hearing);
            if let Some(question) = hearing.0
                && asked.len() < MAX_ASKED
            {
                asked.push((at, question));
            }
        }
        asked
    }
}

struct Hearing(Option<Question>);

impl Perform for Hearing {
    fn ascii(&mut self, _: &[u8]) {}

    fn character(&mut self, _: char) {}

    fn control(&mut self, _: u8) {}

    fn escape(&mut self, _: u32, _: u8) {}

    fn csi(&mut self, sequence: &Sequence, last: u8) {
        const PRIVATE: u32 = b'?' as u32;
        const GREATER: u32 = b'>' as u32;
        const DOLLAR: u32 = b'$' as u32;
        let number = sequence.value(0);
        self.0 = match (sequence.collected, last, number) {
            (0, b'c', 0) => Some(Question::Attributes),
            (GREATER, b'c', 0) => Some(Question::Secondary),
            (0, b'n', 5) => Some(Question::Status),
            (0, b'n', 6) => Some(Question::Cursor { private: false }),
            (PRIVATE, b'n', 6) => Some(Question::Cursor { private: true }),
            (GREATER, b'q', 0) => Some(Question::Version),
            (0, b't', 18) => Some(Question::Size),
            (DOLLAR, b'p', _) => Some(Question::Mode { private: false, number }),
            (0x3f24, b'p', _) => Some(Question::Mode { private: true, number }),
            (PRIVATE, b'u', _) => Some(Question::Keyboard),
            _ => None,
        };
    }

    fn osc(&mut self, number: u32, text: &str) {
        if matches!(number, 4 | 10..=12) {
            let asked: Vec<_> = colours::pairs(number, text)
                .into_iter()
                .filter(|(_, colour)| *colour == "?")
                .map(|(slot, _)| slot)
                .collect();
            self.0 = (!asked.is_empty()).then_some(Question::Colours(Colours(asked)));
        }
    }

    fn dcs(&mut self, sequence: &Sequence, last: u8, text: &str) {
        if (sequence.collected, last) == (u32::from(b'$'), b'q') {
            self.0 = Some(Question::Setting(text.to_owned()));
        }
    }
}

/// Takes out of a tmux window's input what a tmux answers to questions that are not its own. No key sends such sequences.
#[derive(Debug, Default)]
pub struct Replies {
    /// The beginning of one, when the rest was not read yet.
    held: Vec<u8>,
}

/// The longest reply that is taken out; what is longer is none.
const MAX_REPLY: usize = 1024;

impl Replies {
    /// What is left of `input`. With `more`, what comes next was written together with it.
    pub fn strip(&mut self, input: &[u8], more: bool) -> Vec<u8> {
        let mut input = [std::mem::take(&mut self.held).as_slice(), input].concat();
        let mut out = Vec::with_capacity(input.len());
        while let Some(escape) = memchr::memchr(0x1b, &input) {
            out.extend(input.drain(..escape));
            match reply(&input) {
                Reply::Whole(len) => drop(input.drain(..len)),
                Reply::Part if more && input.len() < MAX_REPLY => {
                    self.held = input;
                    return out;
                }
                Reply::Part | Reply::None => out.extend(input.drain(..1)),
            }
        }
        out.append(&mut input);
        out
    }
}

enum Reply {
    Whole(usize),
    Part,
    None,
}

/// What the sequence is that `bytes` begin with.
fn reply(bytes: &[u8]) -> Reply {
    match bytes.get(1) {
        Some(b'[') => {
            let body = &bytes[2..];
            let Some(end) = body.iter().position(|b| (0x40..0x7f).contains(b)) else { return Reply::Part };
            let (parameters, last) = (&body[..end], body[end]);
            let private = parameters.first() == Some(&b'?');
            let mode = last == b'y' && parameters.last() == Some(&b'$');
            let size = last == b't' && parameters.starts_with(b"8;");
            let ours = mode || size || private && matches!(last, b'u' | b'R');
            if ours { Reply::Whole(end + 3) } else { Reply::None }
        }
        Some(b']') => text(bytes, &[b"4;", b"10;", b"11;", b"12;"]),
        Some(b'P') => text(bytes, &[b">|", b"0$r", b"1$r"]),
        None => Reply::Part,
        Some(_) => Reply::None,
    }
}

/// A string that begins with one of `heads` and ends with BEL or ST.
fn text(bytes: &[u8], heads: &[&[u8]]) -> Reply {
    let body = &bytes[2..];
    if !heads.iter().any(|head| body.starts_with(head)) {
        let may_be = heads.iter().any(|head| head.starts_with(body));
        return if may_be { Reply::Part } else { Reply::None };
    }
    match body.iter().position(|b| matches!(b, 0x07 | 0x1b)) {
        Some(at) if body[at] == 0x07 => Reply::Whole(at + 3),
        Some(at) if body.get(at + 1) == Some(&b'\\') => Reply::Whole(at + 4),
        Some(at) if at + 1 < body.len() => Reply::None,
        Some(_) | None => Reply::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered to the questions in `text`, in a terminal that read it.
    fn answers(text: &str) -> String {
        let mut all = String::new();
        for size in [1, 3, text.len().max(1)] {
            let mut questions = Questions::default();
            let mut screen = Screen::new(80, 24, 0);
            let mut out = String::new();
            for piece in text.as_bytes().chunks(size) {
                let mut fed = 0;
                for (end, question) in questions.feed(piece) {
                    screen.feed(&piece[fed..end]);
                    fed = end;
                    out += &question.answer(&screen, &Theme::NIGHT);
                }
                screen.feed(&piece[fed..]);
            }
            assert!(all.is_empty() || all == out, "{text:?} in pieces of {size}: {out:?}, not {all:?}");
            all = out;
        }
        all
    }

    #[test]
    fn questions_are_answered_as_tmux_and_xterm_answer_them() {
        for (asked, expect) in [
            ("\x1b[c\x1b[0c\x1b[1c", "\x1b[?1;2c\x1b[?1;2c"),
            ("\x1b[>c\x1b[=c", "\x1b[>84;0;0c"),
            ("\x1b[5n", "\x1b[0n"),
            ("ab\r\nc\x1b[6n\x1b[?6n", "\x1b[2;2R\x1b[?2;2R"),
            ("\x1b[18t\x1b[14t", "\x1b[8;24;80t"),
            ("\x1b[>q", concat!("\x1bP>|kas(", env!("CARGO_PKG_VERSION"), ")\x1b\\")),
            ("\x1b[?u\x1b[>1u\x1b[?u", "\x1b[?0u\x1b[?0u"),
            ("\x1b[?2004$p\x1b[?2004h\x1b[?2004$p", "\x1b[?2004;2$y\x1b[?2004;1$y"),
            (
                "\x1b[4h\x1b[4$p\x1b[20$p\x1b[?9999$p\x1b[?1049$p",
                "\x1b[4;1$y\x1b[20;2$y\x1b[?9999;0$y\x1b[?1049;2$y",
            ),
            ("\x1b]11;?\x07", "\x1b]11;rgb:0d0d/1111/1717\x1b\\"),
            ("\x1b]10;?;?\x1b\\", "\x1b]10;rgb:e2e2/e8e8/f0f0\x1b\\\x1b]11;rgb:0d0d/1111/1717\x1b\\"),
            (
                "\x1b]4;1;#102030;1;?;16;?;255;?\x07",
                "\x1b]4;1;rgb:1010/2020/3030\x1b\\\x1b]4;16;rgb:0000/0000/0000\x1b\\\x1b]4;255;rgb:eeee/eeee/eeee\x1b\\",
            ),
            (
                "\x1b[1;31m\x1bP$qm\x1b\\\x1bP$qr\x1b\\\x1bP$qx\x1b\\",
                "\x1bP1$r0;1;31m\x1b\\\x1bP1$r1;24r\x1b\\\x1bP0$r\x1b\\",
            ),
            ("\u{9b}5n\u{9d}12;?\u{9c}", "\x1b[0n\x1b]12;rgb:7a7a/a2a2/f7f7\x1b\\"),
            ("\x1b]2;\x1b[c\x07text \x1b[31mé\x1b[m \u{c2}", "\x1b[?1;2c"),
            ("\x1bPtmux;x\x1b\\\x1b]52;c;?\x07", ""),
        ] {
            assert_eq!(answers(asked), expect, "{asked:?}");
        }
    }

    #[test]
    fn what_a_newer_tmux_answers_is_taken_out() {
        let input = "a\x1b[8;24;80t\x1b[A\x1b[?2004;2$y\x1b[1;2R\x1b[?1;2c\x1b]11;rgb:0/0/0\x07b\x1b]10;rgb:1/1/1\x1b\\\x1bP>|tmux 3.6\x1b\\\x1b[?0u\x1b[97u\x1bOA\x1b\x1b[200~é\x1b";
        let expect = "a\x1b[A\x1b[1;2R\x1b[?1;2cb\x1b[97u\x1bOA\x1b\x1b[200~é\x1b";
        for size in 1..=input.len() {
            let mut replies = Replies::default();
            let chunks: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
            let last = chunks.len() - 1;
            let out: Vec<u8> =
                chunks.iter().enumerate().flat_map(|(at, piece)| replies.strip(piece, at < last)).collect();
            assert_eq!(String::from_utf8_lossy(&out), expect, "pieces of {size}");
        }
    }
}
