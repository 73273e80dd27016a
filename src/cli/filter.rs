//! A command's output, made safe to show: as plain text, or as it is but without questions the terminal would answer.

use std::io::{self, Write};

use crate::terminal::is_harmful;

const ESC: u8 = 0x1b;
/// The most bytes kept of an escape sequence that is not complete yet; no question is longer.
const MAX_SEQUENCE_BYTES: usize = 4096;

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Text and newlines; what would change the order of text is escaped.
    Text,
    /// The same with colours and styles: what `kas` itself says, whatever it quotes.
    Styled,
    /// What shows something: text, colours, moves of the cursor, erasing, the other screen. Nothing that the terminal answers, that makes it
    /// send more than keys, or that lasts: clipboard, title, mouse, paste and keyboard modes, resets, the scrollback.
    Screen,
    /// Everything but questions: an answer to one would be read as typing.
    Mute,
    /// Everything.
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    Csi,
    /// OSC: BEL ends it, too.
    Osc,
    /// DCS, APC, PM, SOS.
    Device,
}

/// Follows a stream; a sequence or character may be cut anywhere.
#[derive(Debug)]
pub(super) struct Filter {
    policy: Policy,
    state: State,
    /// The sequence or character so far.
    held: Vec<u8>,
    /// The sequence is too long to be a question; its bytes go (or not) as they come.
    long: bool,
    /// A carriage return is held back: nothing before a newline, a new line otherwise.
    carriage: bool,
    /// What was let through by [`Policy::Screen`] and stands until it is undone.
    left: Left,
}

/// How a terminal differs from one that shows lines of text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Left {
    style: bool,
    hidden_cursor: bool,
    other_screen: bool,
    no_wrap: bool,
    held_drawing: bool,
    region: bool,
    charset: bool,
}

impl Left {
    const NONE: Self = Self {
        style: false,
        hidden_cursor: false,
        other_screen: false,
        no_wrap: false,
        held_drawing: false,
        region: false,
        charset: false,
    };

    /// Follows a sequence that was let through.
    fn note(&mut self, sequence: &[u8]) {
        match sequence {
            [ESC, b'[', b'?', numbers @ .., last @ (b'h' | b'l')] => {
                for number in numbers.split(|byte| *byte == b';') {
                    self.note_mode(number, *last == b'h');
                }
            }
            [ESC, b'[', parameters @ .., b'm'] => self.style = !matches!(parameters, b"" | b"0"),
            [ESC, b'[', .., b'r'] => self.region = true,
            [ESC, b'(' | b')', set] => self.charset |= *set != b'B',
            _ => {}
        }
    }

    fn note_mode(&mut self, number: &[u8], set: bool) {
        match number {
            b"7" => self.no_wrap = !set,
            b"25" => self.hidden_cursor = !set,
            b"2026" => self.held_drawing = set,
            b"47" | b"1047" | b"1049" => self.other_screen = set,
            _ => {}
        }
    }

    /// What undoes it.
    fn undone(self) -> Vec<u8> {
        let all: [(bool, &[u8]); 7] = [
            (self.held_drawing, b"\x1b[?2026l"),
            (self.style, b"\x1b[0m"),
            (self.charset, b"\x1b(B\x1b)B\x0f"),
            (self.no_wrap, b"\x1b[?7h"),
            // A region that is set moves the cursor (xterm's ctlseqs, DECSTBM).
            (self.region, b"\x1b7\x1b[r\x1b8"),
            (self.other_screen, b"\x1b[?1049l"),
            (self.hidden_cursor, b"\x1b[?25h"),
        ];
        all.iter().filter(|(is_left, _)| *is_left).flat_map(|(_, undo)| undo.iter().copied()).collect()
    }
}

impl Filter {
    pub(super) const fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Ground,
            held: Vec::new(),
            long: false,
            carriage: false,
            left: Left::NONE,
        }
    }

    /// What makes the terminal again one that shows lines of text, after what [`Policy::Screen`] let through; nothing where nothing is left.
    pub(super) fn undo(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.left).undone()
    }

    /// Appends what may be shown of `bytes` to `out`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.policy == Policy::Open
            && self.held.is_empty()
            && self.state == State::Ground
            && !bytes.contains(&ESC)
        {
            return out.extend_from_slice(bytes);
        }
        for &byte in bytes {
            match self.state {
                State::Ground => self.ground(byte, out),
                State::Escape | State::Csi | State::Osc | State::Device => self.inside(byte, out),
            }
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == ESC {
            self.character(out);
            self.state = State::Escape;
            self.held.push(ESC);
        } else if byte & 0xc0 == 0x80 && !self.held.is_empty() {
            self.held.push(byte);
            if self.held.len() == utf8_len(self.held[0]) {
                self.character(out);
            }
        } else {
            self.character(out);
            self.held.push(byte);
            if utf8_len(byte) == 1 {
                self.character(out);
            }
        }
    }

    /// Lets the held character go.
    fn character(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        match (self.policy, held.as_slice()) {
            (_, []) => {}
            (Policy::Open, all) => out.extend_from_slice(all),
            // ENQ asks, too, and C1 controls spelt in UTF-8 begin sequences.
            (Policy::Mute | Policy::Screen, [0x05] | [0xc2, 0x80..=0x9f]) => {}
            (Policy::Screen, all) => {
                self.left.charset |= all == b"\x0e";
                out.extend_from_slice(all);
            }
            (Policy::Mute, all) => out.extend_from_slice(all),
            (Policy::Text | Policy::Styled, all) => self.text(all, out),
        }
        self.held = held;
        self.held.clear();
    }

    fn text(&mut self, character: &[u8], out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage) && character != b"\r" {
            match (character, self.policy) {
                // In raw mode a line ends with both.
                (b"\n", Policy::Styled) => out.push(b'\r'),
                (b"\n", _) => {}
                _ => out.push(b'\n'),
            }
        }
        match character {
            b"\n" | b"\t" => out.extend_from_slice(character),
            b"\r" => self.carriage = true,
            [byte] if byte.is_ascii() => out.extend((!byte.is_ascii_control()).then_some(*byte)),
            _ => match std::str::from_utf8(character).map(|it| it.chars().next()) {
                Ok(Some(c)) if c.is_control() => {}
                Ok(Some(c)) if is_harmful(c) => out.extend(c.escape_default().to_string().bytes()),
                Ok(_) => out.extend_from_slice(character),
                Err(_) => out.extend("\u{fffd}".bytes()),
            },
        }
    }

    fn inside(&mut self, byte: u8, out: &mut Vec<u8>) {
        // CAN and SUB abandon a sequence; an ESC begins the next one, or the terminator of a string.
        let cancelled = matches!(byte, 0x18 | 0x1a);
        if byte == ESC && !matches!(self.state, State::Osc | State::Device) {
            self.finish(out);
            self.state = State::Escape;
            return self.held.push(ESC);
        }
        if self.long {
            self.pass(&[byte], out);
            self.long = !(cancelled || self.ends_string(byte));
            self.state = if self.long { self.state } else { State::Ground };
            return self.remember_escape(byte);
        }
        self.held.push(byte);
        let done = cancelled
            || match self.state {
                State::Escape => self.second(byte),
                State::Csi => matches!(byte, 0x40..=0x7e),
                State::Osc | State::Device => self.ends_string(byte),
                State::Ground => true,
            };
        if done {
            self.finish(out);
        } else if self.held.len() >= MAX_SEQUENCE_BYTES {
            self.long = true;
            let begun = std::mem::take(&mut self.held);
            self.pass(&begun, out);
        }
    }

    /// Whether the string that is too long to be held may go: pictures do, and what might be a question does not.
    fn pass(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.policy == Policy::Open || (self.policy == Policy::Mute && self.state == State::Device) {
            out.extend_from_slice(bytes);
        }
    }

    /// While a string is not held, only whether its last byte was ESC is.
    fn remember_escape(&mut self, byte: u8) {
        self.held.clear();
        if self.long && byte == ESC {
            self.held.push(ESC);
        }
    }

    fn ends_string(&self, byte: u8) -> bool {
        let before = self.held.len().checked_sub(if self.long { 1 } else { 2 });
        let escaped = before.is_some_and(|at| self.held[at] == ESC);
        (byte == 0x07 && self.state == State::Osc) || (byte == b'\\' && escaped)
    }

    /// The byte after ESC; true when the sequence ends with it.
    fn second(&mut self, byte: u8) -> bool {
        self.state = match byte {
            b'[' => State::Csi,
            b']' => State::Osc,
            b'P' | b'X' | b'^' | b'_' => State::Device,
            _ => State::Escape,
        };
        self.state == State::Escape && !matches!(byte, 0x20..=0x2f)
    }

    /// Lets the held sequence go, or not.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let keep = match self.policy {
            Policy::Open => true,
            Policy::Mute => !is_question(&self.held),
            Policy::Screen => is_display(&self.held),
            Policy::Text => false,
            Policy::Styled => is_style(&self.held),
        };
        if keep && !self.long {
            out.extend_from_slice(&self.held);
            if self.policy == Policy::Screen {
                self.left.note(&self.held);
            }
        }
        self.held.clear();
        self.long = false;
        self.state = State::Ground;
    }
}

const fn utf8_len(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

/// Whether the sequence sets colours and styles and nothing else (SGR, ECMA-48 §8.3.117).
fn is_style(sequence: &[u8]) -> bool {
    let [ESC, b'[', parameters @ .., b'm'] = sequence else { return false };
    parameters.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
}

/// Whether the sequence only changes what is shown, and in a way that [`Left`] can undo (ECMA-48, xterm's ctlseqs).
fn is_display(sequence: &[u8]) -> bool {
    match sequence {
        [ESC, b'[', b'?', modes @ .., b'h' | b'l'] => modes
            .split(|byte| *byte == b';')
            .all(|mode| matches!(mode, b"7" | b"25" | b"47" | b"1047" | b"1048" | b"1049" | b"2026")),
        // Of ED, 3 would erase what has scrolled off.
        [ESC, b'[', parameters @ .., b'J'] => matches!(parameters, b"" | b"0" | b"1" | b"2"),
        [ESC, b'[', parameters @ .., last] => {
            let plain = parameters.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
            plain && b"@ABCDEFGHIKLMPSTXZ`adefmrsu".contains(last)
        }
        [ESC, b'(' | b')', _] => true,
        [ESC, b'7' | b'8' | b'D' | b'E' | b'M'] => true,
        // Hyperlinks.
        [ESC, b']', b'8', b';', ..] => true,
        _ => false,
    }
}

/// Passes on what is written to it, all but what could do more to a terminal than to show styled lines of text.
pub(super) struct Guard<W> {
    inner: W,
    filter: Filter,
}

impl<W: Write> Guard<W> {
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, filter: Filter::new(Policy::Styled) }
    }
}

impl<W: Write> Write for Guard<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = Vec::with_capacity(bytes.len());
        self.filter.feed(bytes, &mut text);
        self.inner.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a terminal answers the sequence (xterm's ctlseqs, kitty's keyboard and graphics protocols).
fn is_question(sequence: &[u8]) -> bool {
    match sequence {
        [ESC, b'Z'] => true,
        [ESC, b'[', parameters @ .., last] => asks(parameters, *last),
        [ESC, b']', text @ ..] => text.windows(2).any(|it| it == b";?"),
        [ESC, b'P', b'$' | b'+', b'q', ..] | [ESC, b'_', b'G', ..] => true,
        _ => false,
    }
}

fn asks(parameters: &[u8], last: u8) -> bool {
    let begins = |with: u8| parameters.first() == Some(&with);
    let middle = parameters.last().copied().filter(|byte| matches!(byte, 0x20..=0x2f));
    match last {
        b'c' | b'n' => true,
        b'x' => middle.is_none(),
        b'p' | b'w' => middle == Some(b'$'),
        b'u' => begins(b'?') || matches!(middle, Some(b'$' | b'&')),
        b'q' => begins(b'>'),
        b'm' | b'S' => begins(b'?'),
        b'y' => middle == Some(b'*'),
        b'|' => middle == Some(b'\''),
        b't' => {
            let number = parameters.split(|&byte| byte == b';').next();
            matches!(number, Some(b"11" | b"13" | b"14" | b"15" | b"16" | b"18" | b"19" | b"20" | b"21"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In every cutting, since a pipe cuts where it likes.
    fn check(policy: Policy, input: &[u8], expect: &[u8]) {
        for size in 1..=input.len() {
            let (mut filter, mut out) = (Filter::new(policy), Vec::new());
            input.chunks(size).for_each(|chunk| filter.feed(chunk, &mut out));
            let (left, right) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(expect));
            assert_eq!(left, right, "{:?} in pieces of {size}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn text_is_only_text() {
        let check = |input: &[u8], expect: &str| check(Policy::Text, input, expect.as_bytes());
        check(b"a\x1b[31mr\x1b[0md\r\n", "ard\n");
        check(b"10%\r20%\r\ndone", "10%\n20%\ndone");
        check(b"a\r\r\nb", "a\nb");
        check(b"\x1b]0;title\x07x\x1b]52;c;AAAA\x1b\\y", "xy");
        check(b"\x1bPq#0;2\x07;0\x1b\\z\x1b(Bk\x1b7l", "zkl");
        check(b"be\x07ll\x08\x00\x7f\tq", "bell\tq");
        check("é€😀\u{9b}31m\u{202e}x".as_bytes(), "é€😀31m\\u{202e}x");
        check(b"\xff\xc3(\xe2\x82", "\u{fffd}\u{fffd}(");
        check(b"\x1b[3\x18ok\x1b[\x1b[mok", "okok");
    }

    #[test]
    fn what_kas_says_has_styles_and_lines_and_no_more() {
        let check = |input: &str, expect: &str| check(Policy::Styled, input.as_bytes(), expect.as_bytes());
        check("\x1b[1m\x1b[38;5;9mred\x1b[0m\r\nx\ny\rz", "\x1b[1m\x1b[38;5;9mred\x1b[0m\r\nx\ny\nz");
        check("a\x1b[2J\x1b[>4m\x1b[?1mb\x1b]0;t\x07\x1b]52;c;QQ==\x1b\\c\x1bcd\x07", "abcd");
        check("\u{9b}31m\u{9d}0;t\u{9c}\u{202e}x", "31m0;t\\u{202e}x");
    }

    #[test]
    fn mute_drops_questions_and_nothing_else() {
        for question in [
            &b"\x1b[c"[..],
            b"\x1b[>0c",
            b"\x1b[=c",
            b"\x1b[6n",
            b"\x1b[?6n",
            b"\x1b[5n",
            b"\x1bZ",
            b"\x05",
            b"\x1b[?2026$p",
            b"\x1b[>q",
            b"\x1b[?u",
            b"\x1b[18t",
            b"\x1b[14;2t",
            b"\x1b]10;?\x07",
            b"\x1b]4;1;?\x1b\\",
            b"\x1b]52;c;?\x07",
            b"\x1bP$qm\x1b\\",
            b"\x1bP+q544e\x1b\\",
            b"\x1b_Gi=1,a=q;AAAA\x1b\\",
            b"\xc2\x9b6n",
            b"\x1b[0x",
            b"\x1b[1;1;1;1;1;1*y",
            b"\x1b[?1;1S",
        ] {
            let rest: &[u8] = if question[0] == 0xc2 { b"a6nb" } else { b"ab" };
            check(Policy::Mute, &[b"a", question, b"b"].concat(), rest);
            check(Policy::Open, &[b"a", question, b"b"].concat(), &[b"a", question, b"b"].concat());
        }
        for kept in [
            &b"\x1b[31mred\x1b[0m"[..],
            b"\x1b[2J\x1b[H",
            b"\x1b[?1049h",
            b"\x1b[2 q",
            b"\x1b[!p",
            b"\x1b]0;a?\x07",
            b"\x1b[22;0t",
            b"\x1b[8;24;80t",
            b"\x1b]8;;http://x/?q\x1b\\l",
            b"\x1bPq#0\x1b\\",
            b"\x1b[u",
            b"\x1b[5S",
            b"\x1b[1;2$x",
            "é\u{202e}".as_bytes(),
            b"\xff\r\x00\n",
        ] {
            check(Policy::Mute, &[kept, b"."].concat(), &[kept, b"."].concat());
        }
    }

    #[test]
    fn a_screen_gets_what_shows_something_and_no_more() {
        for kept in [
            &b"\x1b[31mred\x1b[0m"[..],
            b"10%\r55%\x1b[K\r\n\x08\t\x07",
            b"\x1b[1A\x1b[2K\x1b[12;3H\x1b[2J\x1b[3C",
            b"\x1b[?25l\x1b[?25h\x1b[?1049h\x1b[?1049l\x1b[?2026h\x1b[?2026l",
            b"\x1b]8;;http://x/?q\x1b\\link\x1b]8;;\x07",
            b"\x1b7\x1b8\x1b[38:2::1:2:3m\x1b[0m",
            "é\u{202e}😀".as_bytes(),
        ] {
            check(Policy::Screen, &[kept, b"."].concat(), &[kept, b"."].concat());
        }
        for dropped in [
            &b"\x1b[c"[..],
            b"\x1b[6n",
            b"\x1b[?u",
            b"\x1b[>q",
            b"\x1b[18t",
            b"\x1b[3J",
            b"\x1b[?1000h",
            b"\x1b[?1004h",
            b"\x1b[?2004h",
            b"\x1b[?25;1003h",
            b"\x1b[?1h",
            b"\x1b[>4m",
            b"\x1b[>1u",
            b"\x1b[!p",
            b"\x1b[?2026$p",
            b"\x1b[4h",
            b"\x1b=",
            b"\x1bc",
            b"\x1bZ",
            b"\x05",
            b"\x1b]0;title\x07",
            b"\x1b]52;c;QQ==\x1b\\",
            b"\x1b]10;?\x07",
            b"\x1bPq#0\x1b\\",
            b"\x1b_Gi=1,a=q;AAAA\x1b\\",
        ] {
            check(Policy::Screen, &[b"a", dropped, b"b"].concat(), b"ab");
        }
        check(Policy::Screen, b"\xc2\x9b6n", b"6n");
    }

    #[test]
    fn what_a_program_left_behind_is_undone() {
        let check = |input: &[u8], expect: &[u8]| {
            let mut filter = Filter::new(Policy::Screen);
            filter.feed(input, &mut Vec::new());
            assert_eq!(filter.undo(), expect, "{:?}", input.escape_ascii().to_string());
            assert_eq!(filter.undo(), b"");
        };
        check(b"\x1b[31mred\x1b[m 10%\r55%\x1b[K\n", b"");
        check(b"\x1b[31mred", b"\x1b[0m");
        check(b"\x1b[?25l\x1b[?1049hx", b"\x1b[?1049l\x1b[?25h");
        check(b"\x1b[?25l\x1b[?1049hx\x1b[?1049l\x1b[?25h", b"");
        check(b"\x1b[2;5r\x1b(0\x1b[?7l", b"\x1b(B\x1b)B\x0f\x1b[?7h\x1b7\x1b[r\x1b8");
    }

    #[test]
    fn long_strings_cost_little_and_pictures_pass() {
        let picture = [b"\x1bPq", vec![b'~'; 3 * MAX_SEQUENCE_BYTES].as_slice(), b"\x1b\\x"].concat();
        let secret = [b"\x1b]52;c;", vec![b'A'; 3 * MAX_SEQUENCE_BYTES].as_slice(), b"\x07x"].concat();
        for (input, policy, expect) in [
            (&picture, Policy::Mute, picture.as_slice()),
            (&picture, Policy::Text, b"x"),
            (&secret, Policy::Mute, b"x"),
            (&secret, Policy::Open, secret.as_slice()),
        ] {
            let (mut filter, mut out) = (Filter::new(policy), Vec::new());
            for chunk in input.chunks(100) {
                filter.feed(chunk, &mut out);
                assert!(filter.held.capacity() <= 2 * MAX_SEQUENCE_BYTES);
            }
            assert!(out == expect, "{policy:?}: {} bytes for {}", out.len(), expect.len());
        }
    }
}
