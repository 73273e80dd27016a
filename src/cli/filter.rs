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

/// What becomes of the sequence that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is held until it is complete.
    Held,
    /// It is too long to be held, and goes as it comes.
    Passed,
    /// Nothing more of it goes.
    Dropped,
}

/// Follows a stream; a sequence or character may be cut anywhere.
#[derive(Debug)]
pub(super) struct Filter {
    policy: Policy,
    state: State,
    fate: Fate,
    /// The sequence or character so far.
    held: Vec<u8>,
    /// The last byte of a string was ESC: the first of its terminator or of the next sequence.
    escaped: bool,
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
    link: bool,
}

impl Left {
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
            // A link without an address ends one.
            [ESC, b']', b'8', b';', link @ ..] => {
                let address = link.iter().position(|byte| *byte == b';').map(|at| &link[at + 1..]);
                self.link = address.is_some_and(|address| !address.is_empty());
            }
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
        let all: [(bool, &[u8]); 8] = [
            (self.held_drawing, b"\x1b[?2026l"),
            (self.link, b"\x1b]8;;\x1b\\"),
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
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Ground,
            fate: Fate::Held,
            held: Vec::new(),
            escaped: false,
            carriage: false,
            left: Left::default(),
        }
    }

    /// What makes the terminal again one that shows lines of text, after what [`Policy::Screen`] let through; nothing where nothing is left.
    pub(super) fn undo(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.left).undone()
    }

    /// Of what was let through, only this reached the terminal.
    pub(super) fn shown_only(&mut self, bytes: &[u8]) {
        let mut shown = Self::new(self.policy);
        shown.feed(bytes, &mut Vec::new());
        self.left = shown.left;
    }

    /// Appends what may be shown of `bytes` to `out`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.policy == Policy::Open {
            return out.extend_from_slice(bytes);
        }
        for &byte in bytes {
            match self.state {
                State::Ground => self.ground(byte, out),
                State::Escape | State::Csi => self.sequence(byte, out),
                State::Osc | State::Device => self.string(byte, out),
            }
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == ESC {
            self.character(out);
            self.begin();
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
        if !held.is_empty() {
            self.show(&held, out);
        }
        self.held = held;
        self.held.clear();
    }

    /// Lets a character go, or not; one that was cut off may be a part of one, or a byte of no encoding.
    fn show(&mut self, character: &[u8], out: &mut Vec<u8>) {
        if matches!(self.policy, Policy::Text | Policy::Styled) {
            return self.text(character, out);
        }
        match std::str::from_utf8(character) {
            // ENQ asks, too, and C1 controls spelt in UTF-8 begin sequences.
            Ok(text) if text.contains(|c: char| matches!(c, '\x05' | '\u{80}'..='\u{9f}')) => {}
            Ok(text) => {
                self.left.charset |= self.policy == Policy::Screen && text == "\x0e";
                out.extend_from_slice(character);
            }
            // Where the terminal does not read UTF-8, these begin sequences.
            Err(_) => out.extend(character.iter().filter(|byte| !matches!(byte, 0x80..=0x9f))),
        }
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

    /// The byte begins a sequence: ESC.
    fn begin(&mut self) {
        self.over();
        self.state = State::Escape;
        self.held.push(ESC);
    }

    /// The sequence is over, or given up.
    fn over(&mut self) {
        self.held.clear();
        self.escaped = false;
        self.fate = Fate::Held;
        self.state = State::Ground;
    }

    /// A byte of an escape or control sequence, read as terminals do (ECMA-48; DEC's parser as vt100.net tells it).
    fn sequence(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            ESC => self.begin(),
            // CAN and SUB abandon it.
            0x18 | 0x1a => self.over(),
            // Other controls count at once, and the sequence goes on.
            0..=0x1f => self.show(&[byte], out),
            0x7f => {}
            // No sequence has such a byte: what a terminal makes of it is not known, so it does not see the beginning.
            0x80.. => {
                self.over();
                self.ground(byte, out);
            }
            _ => {
                let done =
                    if self.state == State::Csi { matches!(byte, 0x40..=0x7e) } else { self.second(byte) };
                self.more(byte, out);
                if done {
                    self.finish(b"", out);
                }
            }
        }
    }

    /// The byte after ESC; true when the sequence ends with it.
    fn second(&mut self, byte: u8) -> bool {
        self.state = match byte {
            b'[' if self.held.len() == 1 => State::Csi,
            b']' if self.held.len() == 1 => State::Osc,
            b'P' | b'X' | b'^' | b'_' if self.held.len() == 1 => State::Device,
            _ => State::Escape,
        };
        self.state == State::Escape && !matches!(byte, 0x20..=0x2f)
    }

    /// A byte of a string. Terminals end one at an ESC, whatever follows: with `\` it is the terminator, else the next sequence.
    fn string(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.escaped {
            if byte == b'\\' {
                return self.finish(b"\x1b\\", out);
            }
            self.cut(out);
            self.begin();
            return self.sequence(byte, out);
        }
        match byte {
            ESC => self.escaped = true,
            0x18 | 0x1a => {
                self.cut(out);
                self.over();
            }
            0x07 if self.state == State::Osc => self.finish(b"\x07", out),
            _ => self.more(byte, out),
        }
    }

    /// Takes a byte in. Of what is too long to be held pictures go on, and what might be a question does not.
    fn more(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.fate {
            Fate::Held if self.held.len() < MAX_SEQUENCE_BYTES => self.held.push(byte),
            Fate::Held => {
                let passes = self.state == State::Device && self.is_kept();
                self.fate = if passes { Fate::Passed } else { Fate::Dropped };
                if passes {
                    out.append(&mut self.held);
                    return self.more(byte, out);
                }
                self.held.clear();
            }
            Fate::Passed if is_in_device(byte) => out.push(byte),
            Fate::Passed => self.cut(out),
            Fate::Dropped => {}
        }
    }

    /// Ends what is passed on, so that the terminal reads the rest as this does.
    fn cut(&mut self, out: &mut Vec<u8>) {
        if self.fate == Fate::Passed {
            out.extend_from_slice(b"\x1b\\");
        }
        self.fate = Fate::Dropped;
    }

    /// Lets the sequence go, or not.
    fn finish(&mut self, terminator: &[u8], out: &mut Vec<u8>) {
        let kept = match self.fate {
            Fate::Held => self.is_kept(),
            Fate::Passed => true,
            Fate::Dropped => false,
        };
        if kept {
            out.extend_from_slice(&self.held);
            out.extend_from_slice(terminator);
            if self.policy == Policy::Screen {
                self.left.note(&self.held);
            }
        }
        self.over();
    }

    /// Whether the held sequence, without its terminator, may go.
    fn is_kept(&self) -> bool {
        match self.policy {
            Policy::Open => true,
            Policy::Mute => is_sound(&self.held) && !is_question(&self.held),
            Policy::Screen => is_display(&self.held),
            Policy::Text => false,
            Policy::Styled => is_style(&self.held),
        }
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

/// Whether every terminal reads a string to the end that this reads it to: a control in it may be obeyed, or end it. A byte of UTF-8 may be a
/// control for a terminal of another encoding, which is the price of titles.
fn is_sound(sequence: &[u8]) -> bool {
    match sequence {
        [ESC, b']', text @ ..] => {
            std::str::from_utf8(text).is_ok_and(|text| !text.contains(char::is_control))
        }
        [ESC, b'P' | b'X' | b'^' | b'_', text @ ..] => text.iter().copied().all(is_in_device),
        _ => true,
    }
}

/// What a device control string may have (ECMA-48 §5.6).
const fn is_in_device(byte: u8) -> bool {
    matches!(byte, 0x08..=0x0d | 0x20..=0x7e)
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
        // Hyperlinks, of what their specification lets them have.
        [ESC, b']', b'8', b';', link @ ..] => link.iter().all(|byte| matches!(byte, 0x20..=0x7e)),
        _ => false,
    }
}

/// Passes on what is written to it, all but what could do more to a terminal than to show styled lines of text.
pub(super) struct Guard<W> {
    inner: W,
    filter: Filter,
}

impl<W: Write> Guard<W> {
    pub(super) fn new(inner: W) -> Self {
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
        // An address of a link may look like one.
        [ESC, b']', b'8', b';', ..] => false,
        [ESC, b']', text @ ..] => text.windows(2).any(|it| it == b";?") || is_report(text),
        [ESC, b'P', b'$', b'q', ..] | [ESC, b'P', b'+', b'q' | b'Q', ..] | [ESC, b'_', b'G', ..] => true,
        _ => false,
    }
}

/// OSC 60 and 61 of xterm, and iTerm2's reports.
fn is_report(text: &[u8]) -> bool {
    matches!(text, b"60" | b"61" | [b'6', b'0' | b'1', b';', ..])
        || [&b"1337;Report"[..], b"1337;Request", b"1337;Capabilities"].iter().any(|it| text.starts_with(it))
}

fn asks(parameters: &[u8], last: u8) -> bool {
    let begins = |with: u8| parameters.first() == Some(&with);
    let middle = parameters.last().copied().filter(|byte| matches!(byte, 0x20..=0x2f));
    match last {
        b'c' | b'n' => true,
        b'x' => matches!(middle, None | Some(b'+')),
        b'p' => matches!(middle, Some(b'$' | b'+')),
        b'w' => middle == Some(b'$'),
        b'R' => middle == Some(b'#'),
        b'v' => middle == Some(b'"'),
        b'u' => begins(b'?') || matches!(middle, Some(b'$' | b'&')),
        b'q' => begins(b'>'),
        b'm' | b'S' => begins(b'?'),
        b'y' => middle == Some(b'*'),
        b'|' => matches!(middle, Some(b'\'' | b'#')),
        b't' => {
            let number = parameters.split(|byte| matches!(byte, b';' | b':')).next().unwrap_or_default();
            let zeros = number.iter().take_while(|byte| **byte == b'0').count();
            matches!(&number[zeros..], b"11" | b"13" | b"14" | b"15" | b"16" | b"18" | b"19" | b"20" | b"21")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
