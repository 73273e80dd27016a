//! Follows what the emulator does not keep: character sets, the scroll region and a few modes.

/// Modes that the emulator ignores and a dump must restore (`CSI ? n h`, xterm's ctlseqs), with their value after a reset.
const MODES: [(u16, bool); 7] =
    [(7, true), (45, false), (1004, false), (1007, false), (1015, false), (1016, false), (2031, false)];
/// Parameters of a sequence that are kept; a longer one is none of ours.
const MAX_PARAMETERS: usize = 32;

/// DEC special graphics, what bytes 0x60 to 0x7e mean in it (VT100 user guide, table 3-9).
const GRAPHICS: [char; 31] = [
    '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽', '├',
    '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After `ESC (` or `ESC )`: which of G0 and G1 is set.
    Designate(usize),
    Csi,
    /// OSC, ended by BEL too.
    Osc,
    /// DCS, APC, PM, SOS.
    Text,
}

/// What was seen so far, and where in a sequence the stream is.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    state: State,
    parameters: Vec<u8>,
    /// Whether G0 and G1 are DEC special graphics.
    graphics: [bool; 2],
    /// G1 is in use (SO); else G0.
    shifted: bool,
    /// Rows of the scroll region as the program gave them, from 1.
    pub(super) region: Option<(u16, u16)>,
    pub(super) origin: bool,
    pub(super) insert: bool,
    modes: [bool; MODES.len()],
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            state: State::Ground,
            parameters: Vec::new(),
            graphics: [false; 2],
            shifted: false,
            region: None,
            origin: false,
            insert: false,
            modes: MODES.map(|(_, value)| value),
        }
    }
}

impl Watch {
    /// Follows `bytes` and appends them to `out`, with line-drawing characters as what they look like.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let plain = if self.state == State::Ground && !self.in_graphics() { quiet(rest) } else { 0 };
            if plain > 0 {
                out.extend_from_slice(&rest[..plain]);
                rest = &rest[plain..];
            } else {
                self.step(byte, out);
                rest = &rest[1..];
            }
        }
    }

    const fn in_graphics(&self) -> bool {
        self.graphics[self.shifted as usize]
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.state == State::Ground && self.in_graphics() && (0x60..0x7f).contains(&byte) {
            let mut utf8 = [0; 4];
            out.extend_from_slice(GRAPHICS[usize::from(byte - 0x60)].encode_utf8(&mut utf8).as_bytes());
            return;
        }
        out.push(byte);
        self.state = match (self.state, byte) {
            (_, 0x1b) => State::Escape,
            (_, 0x18 | 0x1a) => State::Ground,
            (State::Ground, _) => self.control(byte),
            (State::Escape, _) => self.escape(byte),
            (State::Designate(set), _) => {
                self.graphics[set] = byte == b'0';
                State::Ground
            }
            (State::Csi, 0x40..=0x7e) => {
                self.csi(byte);
                State::Ground
            }
            (State::Csi, _) => {
                if self.parameters.len() < MAX_PARAMETERS {
                    self.parameters.push(byte);
                }
                State::Csi
            }
            (State::Osc, 0x07) => State::Ground,
            (state @ (State::Osc | State::Text), _) => state,
        };
    }

    fn control(&mut self, byte: u8) -> State {
        match byte {
            0x0e => self.shifted = true,
            0x0f => self.shifted = false,
            _ => {}
        }
        State::Ground
    }

    fn escape(&mut self, byte: u8) -> State {
        match byte {
            b'(' => State::Designate(0),
            b')' => State::Designate(1),
            b'[' => {
                self.parameters.clear();
                State::Csi
            }
            b']' => State::Osc,
            b'P' | b'X' | b'^' | b'_' => State::Text,
            b'c' => {
                *self = Self::default();
                State::Ground
            }
            0x20..=0x2f => State::Escape,
            _ => State::Ground,
        }
    }

    fn csi(&mut self, last: u8) {
        let parameters = std::mem::take(&mut self.parameters);
        let (private, digits) = match parameters.split_first() {
            Some((b'?', digits)) => (true, digits),
            _ => (false, parameters.as_slice()),
        };
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|t| t.parse::<u16>().ok());
        let mut numbers = digits.split(|&b| b == b';').map(number);
        match (private, last) {
            (true, b'h' | b'l') => numbers.flatten().for_each(|n| self.private_mode(n, last == b'h')),
            (false, b'h' | b'l') if numbers.any(|n| n == Some(4)) => self.insert = last == b'h',
            (false, b'r') => {
                // Zero and nothing mean the first and the last row.
                let mut row = || numbers.next().flatten().filter(|&row| row > 0);
                let (top, bottom) = (row().unwrap_or(1), row().unwrap_or(u16::MAX));
                self.region = Some((top, bottom)).filter(|region| *region != (1, u16::MAX));
            }
            // DECSTR, soft reset.
            (false, b'p') if digits == b"!" => *self = Self { modes: self.modes, ..Self::default() },
            _ => {}
        }
        self.parameters = parameters;
    }

    fn private_mode(&mut self, number: u16, on: bool) {
        if number == 6 {
            self.origin = on;
        }
        if let Some(index) = MODES.iter().position(|&(mode, _)| mode == number) {
            self.modes[index] = on;
        }
    }

    /// Sequences that set the modes a reset terminal does not have. Neither region nor origin: they move the cursor.
    pub(super) fn write_modes(&self, out: &mut Vec<u8>) {
        for ((number, normal), on) in MODES.into_iter().zip(self.modes) {
            if on != normal {
                out.extend_from_slice(format!("\x1b[?{number}{}", if on { 'h' } else { 'l' }).as_bytes());
            }
        }
        let sets: [(bool, &[u8]); 4] = [
            (self.insert, b"\x1b[4h"),
            (self.graphics[0], b"\x1b(0"),
            (self.graphics[1], b"\x1b)0"),
            (self.shifted, b"\x0e"),
        ];
        for (_, sequence) in sets.iter().filter(|(on, _)| *on) {
            out.extend_from_slice(sequence);
        }
    }
}

/// How many bytes at the front are neither ESC nor a shift.
fn quiet(bytes: &[u8]) -> usize {
    memchr::memchr3(0x1b, 0x0e, 0x0f, bytes).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8]) -> (Watch, Vec<u8>) {
        let mut watch = Watch::default();
        let mut out = Vec::new();
        watch.feed(bytes, &mut out);
        let mut single = Watch::default();
        let mut out_single = Vec::new();
        for byte in bytes {
            single.feed(&[*byte], &mut out_single);
        }
        assert_eq!(out, out_single);
        (watch, out)
    }

    fn modes(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        feed(bytes).0.write_modes(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn line_drawing_becomes_what_it_looks_like() {
        let (_, out) = feed(b"\x1b(0lqk\x1b(Blqk \x1b)0\x0ex\x0fx");
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b(0┌─┐\x1b(Blqk \x1b)0\x0e│\x0fx");
    }

    #[test]
    fn modes_are_kept_until_reset() {
        assert_eq!(modes(b"\x1b[?7l\x1b[?1004;1015h\x1b[4h"), "\x1b[?7l\x1b[?1004h\x1b[?1015h\x1b[4h");
        assert_eq!(modes(b"\x1b[?7l\x1b[?7h\x1b[4h\x1b[4l"), "");
        assert_eq!(modes(b"\x1b[4h\x1b[20l"), "\x1b[4h");
        assert_eq!(modes(b"\x1b[?1004h\x1b(0\x1bc"), "");
    }

    #[test]
    fn regions_are_kept() {
        assert_eq!(feed(b"\x1b[2;10r").0.region, Some((2, 10)));
        assert_eq!(feed(b"\x1b[2;10r\x1b[r").0.region, None);
        assert_eq!(feed(b"\x1b[3;0r").0.region, Some((3, u16::MAX)));
        assert!(feed(b"\x1b[?6h").0.origin);
        assert!(!feed(b"\x1b]0;\x1b[2;10\x07r").0.origin);
    }
}
