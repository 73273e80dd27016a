//! A terminal's modes: what programs set with `CSI h` and `CSI ? h` (xterm's ctlseqs), and what a reset terminal has.

use std::fmt::Write as _;

/// Modes that xterm.js 6 does not have and other terminals do; they are passed on to them.
const OTHERS: [u16; 5] = [1005, 1007, 1015, 2027, 2031];

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) insert: bool,
    /// A line feed is a carriage return too.
    pub(super) newline: bool,
    pub(super) cursor_keys: bool,
    pub(super) keypad: bool,
    pub(super) wraparound: bool,
    pub(super) reverse_wraparound: bool,
    pub(super) origin: bool,
    pub(super) focus: bool,
    pub(super) paste: bool,
    pub(super) synchronized: bool,
    pub(super) hidden_cursor: bool,
    /// `CSI ? 12 h` and `l`; `None` when neither came.
    pub(super) blink: Option<bool>,
    /// The number of DECSCUSR; 0 for the terminal's own cursor.
    pub(super) cursor_style: u8,
    /// Which mouse events are reported, by the mode's number; 0 for none.
    pub(super) mouse: u16,
    /// How, likewise.
    pub(super) encoding: u16,
    others: [bool; OTHERS.len()],
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            insert: false,
            newline: false,
            cursor_keys: false,
            keypad: false,
            wraparound: true,
            reverse_wraparound: false,
            origin: false,
            focus: false,
            paste: false,
            synchronized: false,
            hidden_cursor: false,
            blink: None,
            cursor_style: 0,
            mouse: 0,
            encoding: 0,
            others: [false; OTHERS.len()],
        }
    }
}

impl Modes {
    /// Sets or resets a private mode. The alternate screen, the saved cursor and the cursor's place are not modes.
    pub(super) fn set_private(&mut self, number: i32, on: bool) {
        let Ok(number) = u16::try_from(number) else { return };
        match number {
            1 => self.cursor_keys = on,
            6 => self.origin = on,
            7 => self.wraparound = on,
            12 => self.blink = Some(on),
            25 => self.hidden_cursor = !on,
            45 => self.reverse_wraparound = on,
            66 => self.keypad = on,
            9 | 1000 | 1002 | 1003 => self.mouse = if on { number } else { 0 },
            1004 => self.focus = on,
            1006 | 1016 => self.encoding = if on { number } else { 0 },
            2004 => self.paste = on,
            2026 => self.synchronized = on,
            _ => {
                if let Some(index) = OTHERS.iter().position(|&it| it == number) {
                    self.others[index] = on;
                }
            }
        }
    }

    /// DECSCUSR. A number without a shape only says whether the cursor blinks, as in xterm.js: 7 and 8 stand for that while it has no shape.
    pub(super) const fn set_cursor(&mut self, number: i32) {
        let style = self.cursor_style;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one of 0 to 6")]
        let known = number as u8;
        let steady = number % 2 == 0;
        self.cursor_style = match (number, style) {
            (0..=6, _) => known,
            (_, 0 | 7 | 8) => 7 + steady as u8,
            _ => (style - 1) / 2 * 2 + 1 + steady as u8,
        };
    }

    /// Sets or resets an ANSI mode.
    pub(super) const fn set(&mut self, number: i32, on: bool) {
        match number {
            4 => self.insert = on,
            20 => self.newline = on,
            _ => {}
        }
    }

    /// DECSTR. The mouse, the cursor's blinking and the newline mode stay, as in xterm.js.
    pub(super) fn soft_reset(&mut self) {
        let Self { newline, blink, mouse, encoding, others, .. } = *self;
        *self = Self { newline, blink, mouse, encoding, others, ..Self::default() };
    }

    /// RIS. What xterm.js keeps over it is kept here too: the newline mode and the cursor's visibility and blinking.
    pub(super) fn reset(&mut self) {
        let Self { newline, blink, hidden_cursor, .. } = *self;
        *self = Self { newline, blink, hidden_cursor, ..Self::default() };
    }

    /// How a program is told about a mode (DECRPM): 1 set, 2 reset, 3 and 4 for ever so, 0 unknown. Whether the alternate screen is shown
    /// the caller knows.
    pub(super) fn report(&self, private: bool, number: i32, alternate: bool) -> u8 {
        let is = |on: bool| if on { 1 } else { 2 };
        if !private {
            return match number {
                2 => 4,
                4 => is(self.insert),
                12 => 3,
                20 => is(self.newline),
                _ => 0,
            };
        }
        match number {
            1 => is(self.cursor_keys),
            6 => is(self.origin),
            7 => is(self.wraparound),
            8 => 3,
            12 => is(self.blink == Some(true)),
            25 => is(!self.hidden_cursor),
            45 => is(self.reverse_wraparound),
            66 => is(self.keypad),
            67 | 1005 | 1015 => 4,
            9 | 1000 | 1002 | 1003 => is(i32::from(self.mouse) == number),
            1004 => is(self.focus),
            1006 | 1016 => is(i32::from(self.encoding) == number),
            47 | 1047 | 1049 => is(alternate),
            1048 => 1,
            2004 => is(self.paste),
            2026 => is(self.synchronized),
            _ => 0,
        }
    }

    /// Sequences that set what a reset terminal has not. Neither origin, which moves the cursor, nor insertion, which changes what is written.
    pub(super) fn write(&self, out: &mut String) {
        let mut private = |number: u16, on: bool| {
            write!(out, "\x1b[?{number}{}", if on { 'h' } else { 'l' }).expect("a String takes every write");
        };
        let set = [
            (1, self.cursor_keys),
            (45, self.reverse_wraparound),
            (66, self.keypad),
            (1004, self.focus),
            (2004, self.paste),
            (self.mouse, self.mouse != 0),
            (self.encoding, self.encoding != 0),
        ];
        let others = OTHERS.into_iter().zip(self.others);
        set.into_iter().chain(others).filter(|(_, on)| *on).for_each(|(number, _)| private(number, true));
        if !self.wraparound {
            private(7, false);
        }
        if self.hidden_cursor {
            private(25, false);
        }
        if let Some(on) = self.blink {
            private(12, on);
        }
        if self.synchronized {
            private(2026, true);
        }
        if self.newline {
            out.push_str("\x1b[20h");
        }
        if self.cursor_style != 0 {
            write!(out, "\x1b[{} q", self.cursor_style).expect("a String takes every write");
        }
    }
}
