//! Splits a terminal's bytes into characters, controls and sequences, as xterm.js does, for that is what a page shows them with.
//!
//! The states are those of Paul Williams' VT500 diagram (vt100.net/emu/dec_ansi_parser) with the changes of xterm.js 6
//! (`EscapeSequenceParser.ts`): controls of one character (U+0080 to U+009F) work, sub-parameters are kept, and bytes that are no UTF-8
//! are passed over. Nothing that is fed makes it fail, and what it holds is bounded.

/// Parameters of a sequence that are kept, as in xterm.js. Later ones are dropped.
const MAX_PARAMETERS: usize = 32;
/// Sub-parameters of a sequence that are kept, as in xterm.js.
const MAX_SUBPARAMETERS: usize = 32;
/// Bytes of an OSC or DCS string that are kept. A longer string is none of ours: it is told as nothing.
const MAX_TEXT: usize = 4096;
/// What an empty sub-parameter is worth.
pub(super) const EMPTY: i32 = -1;

/// What a parser tells of the stream.
pub(super) trait Perform {
    /// Printable ASCII characters, at least one.
    fn ascii(&mut self, text: &[u8]);
    /// Another printable character.
    fn character(&mut self, character: char);
    /// A control of one character, C0 or C1.
    fn control(&mut self, code: u8);
    /// ESC, up to two intermediates packed into a number, and the final byte.
    fn escape(&mut self, collected: u32, last: u8);
    /// A control sequence.
    fn csi(&mut self, sequence: &Sequence, last: u8);
    /// An operating system command: its number, and the text after the semicolon.
    fn osc(&mut self, number: u32, text: &str);
    /// A device control string that came to its end.
    fn dcs(&mut self, sequence: &Sequence, last: u8, text: &str);
}

/// The parameters of a sequence, and what stands before its final byte.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Prefix and intermediates, packed: `?` and `$` are `0x3f24`.
    pub(super) collected: u32,
    values: [i32; MAX_PARAMETERS],
    /// Where the sub-parameters of each parameter begin and end.
    subs: [(u8, u8); MAX_PARAMETERS],
    count: usize,
    sub_values: [i32; MAX_SUBPARAMETERS],
    sub_count: usize,
    in_sub: bool,
    full: bool,
    sub_full: bool,
}

impl Sequence {
    const fn new() -> Self {
        Self {
            collected: 0,
            values: [0; MAX_PARAMETERS],
            subs: [(0, 0); MAX_PARAMETERS],
            count: 1,
            sub_values: [0; MAX_SUBPARAMETERS],
            sub_count: 0,
            in_sub: false,
            full: false,
            sub_full: false,
        }
    }

    const fn clear(&mut self) {
        self.collected = 0;
        self.values[0] = 0;
        self.subs[0] = (0, 0);
        self.count = 1;
        self.sub_count = 0;
        self.in_sub = false;
        self.full = false;
        self.sub_full = false;
    }

    /// How many parameters there are: at least one.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// A parameter; 0 where it is empty or missing.
    pub(super) fn value(&self, index: usize) -> i32 {
        self.values[..self.count].get(index).copied().unwrap_or(0)
    }

    /// A parameter that counts something: 1 where it is 0, empty or missing.
    pub(super) fn amount(&self, index: usize) -> usize {
        usize::try_from(self.value(index)).unwrap_or(0).max(1)
    }

    /// All parameters.
    pub(super) fn values(&self) -> &[i32] {
        &self.values[..self.count]
    }

    /// The sub-parameters of a parameter; an empty one is [`EMPTY`].
    pub(super) fn subs(&self, index: usize) -> &[i32] {
        let (from, to) = self.subs[..self.count].get(index).copied().unwrap_or_default();
        &self.sub_values[from.into()..to.into()]
    }

    fn parameter(&mut self, byte: u8) {
        match byte {
            b';' => self.next(),
            b':' => self.next_sub(),
            _ => self.digit(i32::from(byte - b'0')),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most 32")]
    const fn next(&mut self) {
        self.in_sub = false;
        if self.count == MAX_PARAMETERS {
            self.full = true;
            return;
        }
        self.values[self.count] = 0;
        self.subs[self.count] = (self.sub_count as u8, self.sub_count as u8);
        self.count += 1;
    }

    const fn next_sub(&mut self) {
        self.in_sub = true;
        if self.full || self.sub_count == MAX_SUBPARAMETERS {
            self.sub_full = true;
            return;
        }
        self.sub_values[self.sub_count] = EMPTY;
        self.sub_count += 1;
        self.subs[self.count - 1].1 += 1;
    }

    fn digit(&mut self, digit: i32) {
        let place = if self.full || self.in_sub && (self.sub_full || self.sub_count == 0) {
            return;
        } else if self.in_sub {
            &mut self.sub_values[self.sub_count - 1]
        } else {
            &mut self.values[self.count - 1]
        };
        *place = if *place == EMPTY { digit } else { place.saturating_mul(10).saturating_add(digit) };
    }

    const fn collect(&mut self, byte: u8) {
        self.collected = (self.collected << 8) | byte as u32;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    EscapeIntermediate,
    CsiEntry,
    CsiParameter,
    CsiIntermediate,
    CsiIgnore,
    Osc,
    DcsEntry,
    DcsParameter,
    DcsIntermediate,
    DcsIgnore,
    DcsText,
    /// SOS, PM and APC.
    Other,
}

/// A character that is not whole yet.
#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    value: u32,
    missing: u8,
    /// What a character of so many bytes is worth at least.
    least: u32,
}

/// Where in a stream a parser is.
#[derive(Debug, Clone)]
pub(super) struct Parser {
    state: State,
    sequence: Sequence,
    partial: Partial,
    text: String,
    overlong: bool,
    /// The final byte of the DCS whose text is being read.
    hooked: u8,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Ground,
            sequence: Sequence::new(),
            partial: Partial::default(),
            text: String::new(),
            overlong: false,
            hooked: 0,
        }
    }
}

impl Parser {
    /// Whether nothing is half done: no character, no sequence, no string.
    pub(super) fn is_ground(&self) -> bool {
        self.state == State::Ground && self.partial.missing == 0
    }

    /// Reads `bytes`, which may be cut anywhere, and tells `to` what is in them. Says where what is half done at their end began; `None`
    /// when that was before them.
    pub(super) fn feed(&mut self, bytes: &[u8], to: &mut impl Perform) -> Option<usize> {
        let mut at = 0;
        let mut begun = None;
        while let Some(&byte) = bytes.get(at) {
            if self.is_ground() {
                begun = Some(at);
                let plain = printable(&bytes[at..]);
                if plain > 0 {
                    to.ascii(&bytes[at..at + plain]);
                    at += plain;
                    continue;
                }
            } else if byte == 0x1b {
                begun = Some(at);
            }
            at += 1;
            self.byte(byte, to);
        }
        begun
    }

    /// Reads `bytes` up to where nothing is half done, and says how many bytes that took: all of them where it is nowhere.
    pub(super) fn feed_until_ground(&mut self, bytes: &[u8], to: &mut impl Perform) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            self.byte(byte, to);
            if self.is_ground() {
                return index + 1;
            }
        }
        bytes.len()
    }

    fn byte(&mut self, byte: u8, to: &mut impl Perform) {
        if byte < 0x80 {
            // What was begun is no character.
            self.partial.missing = 0;
            self.step(byte.into(), to);
        } else if byte < 0xc0 {
            self.continuation(byte, to);
        } else {
            self.lead(byte);
        }
    }

    const fn lead(&mut self, byte: u8) {
        let (missing, value, least) = match byte {
            0xc0..=0xdf => (1, byte & 0x1f, 0x80),
            0xe0..=0xef => (2, byte & 0x0f, 0x800),
            0xf0..=0xf7 => (3, byte & 0x07, 0x1_0000),
            _ => (0, 0, 0),
        };
        self.partial = Partial { value: value as u32, missing, least };
    }

    fn continuation(&mut self, byte: u8, to: &mut impl Perform) {
        let partial = &mut self.partial;
        if partial.missing == 0 {
            return;
        }
        partial.value = (partial.value << 6) | u32::from(byte & 0x3f);
        partial.missing -= 1;
        // A byte order mark is passed over, as in xterm.js.
        if partial.missing == 0
            && partial.value >= partial.least
            && partial.value != 0xfeff
            && char::from_u32(partial.value).is_some()
        {
            let code = partial.value;
            self.step(code, to);
        }
    }

    /// One character, whatever the state.
    fn step(&mut self, code: u32, to: &mut impl Perform) {
        match code {
            0x00..=0x9f => {
                #[expect(clippy::cast_possible_truncation, reason = "it is below 0xa0")]
                self.low(code as u8, to);
            }
            _ => self.high(code, to),
        }
    }

    /// A character beyond ASCII and the controls. Only text takes it; it breaks a sequence off.
    fn high(&mut self, code: u32, to: &mut impl Perform) {
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        match self.state {
            State::Ground => to.character(character),
            State::Osc | State::DcsText => self.put(character),
            State::CsiIgnore | State::DcsIgnore => {}
            State::Escape
            | State::EscapeIntermediate
            | State::CsiEntry
            | State::CsiParameter
            | State::CsiIntermediate
            | State::DcsEntry
            | State::DcsParameter
            | State::DcsIntermediate
            | State::Other => self.state = State::Ground,
        }
    }

    fn low(&mut self, byte: u8, to: &mut impl Perform) {
        match byte {
            0x18 | 0x1a | 0x1b | 0x80..=0x9f => self.anywhere(byte, to),
            0x20..=0x7f => self.graphic(byte, to),
            _ => self.c0(byte, to),
        }
    }

    /// CAN, SUB, ESC and the C1 controls, which work in every state.
    fn anywhere(&mut self, byte: u8, to: &mut impl Perform) {
        let ends_text = matches!(byte, 0x18 | 0x1a | 0x1b | 0x9c);
        let text = matches!(self.state, State::Osc | State::DcsText);
        if text && ends_text {
            self.finish(byte == 0x1b || byte == 0x9c, to);
        }
        self.state = match byte {
            0x1b => State::Escape,
            0x9b => State::CsiEntry,
            0x90 => State::DcsEntry,
            0x9d => State::Osc,
            0x98 | 0x9e | 0x9f => State::Other,
            _ => State::Ground,
        };
        let begins = self.state;
        if matches!(begins, State::Escape | State::CsiEntry | State::DcsEntry) {
            self.sequence.clear();
        } else if begins == State::Osc {
            self.begin();
        } else if begins == State::Ground && !(text && ends_text) && byte != 0x9c {
            to.control(byte);
        }
    }

    fn c0(&mut self, byte: u8, to: &mut impl Perform) {
        match self.state {
            State::Osc if byte == 0x07 => {
                self.finish(true, to);
                self.state = State::Ground;
            }
            State::DcsText => self.put(char::from(byte)),
            State::Ground
            | State::Escape
            | State::CsiEntry
            | State::CsiParameter
            | State::CsiIntermediate
            | State::CsiIgnore
            | State::EscapeIntermediate => to.control(byte),
            State::Osc
            | State::DcsEntry
            | State::DcsParameter
            | State::DcsIntermediate
            | State::DcsIgnore
            | State::Other => {}
        }
    }

    /// 0x20 to 0x7f.
    fn graphic(&mut self, byte: u8, to: &mut impl Perform) {
        match self.state {
            State::Ground if byte == 0x7f => {}
            State::Ground => to.ascii(&[byte]),
            State::Escape | State::EscapeIntermediate => self.escape(byte, to),
            State::CsiEntry | State::CsiParameter | State::CsiIntermediate | State::CsiIgnore => {
                self.csi(byte, to)
            }
            State::DcsEntry | State::DcsParameter | State::DcsIntermediate => self.dcs(byte),
            State::DcsText if byte == 0x7f => {}
            State::Osc | State::DcsText => self.put(char::from(byte)),
            State::DcsIgnore | State::Other => {}
        }
    }

    fn escape(&mut self, byte: u8, to: &mut impl Perform) {
        let first = self.state == State::Escape;
        self.state = match byte {
            0x7f => return,
            0x20..=0x2f => {
                self.sequence.collect(byte);
                State::EscapeIntermediate
            }
            b'[' if first => State::CsiEntry,
            b']' if first => State::Osc,
            b'P' if first => State::DcsEntry,
            b'X' | b'^' | b'_' if first => State::Other,
            _ => State::Ground,
        };
        if matches!(self.state, State::CsiEntry | State::DcsEntry) {
            self.sequence.clear();
        } else if self.state == State::Osc {
            self.begin();
        } else if self.state == State::Ground {
            to.escape(self.sequence.collected, byte);
        }
    }

    fn csi(&mut self, byte: u8, to: &mut impl Perform) {
        let next = match (self.state, byte) {
            (state, 0x7f) => state,
            (State::CsiIgnore, 0x40..) => State::Ground,
            (State::CsiIgnore, _) => State::CsiIgnore,
            (_, 0x40..) => {
                self.state = State::Ground;
                return to.csi(&self.sequence, byte);
            }
            (_, 0x20..=0x2f) => {
                self.sequence.collect(byte);
                State::CsiIntermediate
            }
            (State::CsiEntry | State::CsiParameter, b'0'..=b';') => {
                self.sequence.parameter(byte);
                State::CsiParameter
            }
            (State::CsiEntry, _) => {
                self.sequence.collect(byte);
                State::CsiParameter
            }
            _ => State::CsiIgnore,
        };
        self.state = next;
    }

    fn dcs(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (state, 0x7f) => state,
            (_, 0x40..) => {
                self.hooked = byte;
                self.begin();
                State::DcsText
            }
            (_, 0x20..=0x2f) => {
                self.sequence.collect(byte);
                State::DcsIntermediate
            }
            (State::DcsEntry | State::DcsParameter, b'0'..=b';') => {
                self.sequence.parameter(byte);
                State::DcsParameter
            }
            (State::DcsEntry, _) => {
                self.sequence.collect(byte);
                State::DcsParameter
            }
            _ => State::DcsIgnore,
        };
    }

    fn begin(&mut self) {
        self.text.clear();
        self.overlong = false;
    }

    fn put(&mut self, character: char) {
        if self.text.len() + character.len_utf8() > MAX_TEXT {
            self.overlong = true;
        } else if !self.overlong {
            self.text.push(character);
        }
    }

    /// An OSC or DCS is over; `whole` when it was not broken off.
    fn finish(&mut self, whole: bool, to: &mut impl Perform) {
        if whole && self.state == State::DcsText && !self.overlong {
            to.dcs(&self.sequence, self.hooked, &self.text);
        } else if whole && self.state == State::Osc {
            let (number, text) = self.text.split_once(';').unwrap_or((&self.text, ""));
            // A title may be cut off.
            if let Ok(number) = number.parse()
                && number_is_plain(&self.text)
                && (!self.overlong || matches!(number, 0 | 2))
            {
                to.osc(number, text);
            }
        }
        self.text = String::new();
    }
}

/// `parse` takes a sign, a terminal does not.
fn number_is_plain(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

/// How many of the first bytes are printable ASCII.
fn printable(bytes: &[u8]) -> usize {
    const STEP: usize = 16;
    let mut at = 0;
    // Whole pieces first: the compiler makes one comparison of each.
    while let Some(piece) = bytes.get(at..at + STEP) {
        if !piece.iter().fold(true, |all, b| all & (0x20..0x7f).contains(b)) {
            break;
        }
        at += STEP;
    }
    at + bytes[at..].iter().take_while(|b| (0x20..0x7f).contains(*b)).count()
}
