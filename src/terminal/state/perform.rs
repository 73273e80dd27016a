//! Which sequence does what.

use super::super::cell::{Cell, PROTECTED};
use super::super::charset::Charset;
use super::super::parser::{Perform, Sequence};
use super::super::width::Before;
use super::super::{colours, sgr};
use super::{State, signed};

/// Of a title, so many bytes are kept.
const MAX_TITLE: usize = 1024;
/// Of what a program gives with `CSI`, a prefix `?`.
const PRIVATE: u32 = b'?' as u32;
/// DECSCUSR and others have an intermediate.
const SPACE: u32 = b' ' as u32;

impl State {
    fn set_region(&mut self, sequence: &Sequence) {
        let rows = self.shown().rows;
        let top = sequence.amount(0);
        let bottom =
            usize::try_from(sequence.value(1)).ok().filter(|row| (1..=rows).contains(row)).unwrap_or(rows);
        if bottom > top {
            let buffer = self.buffer();
            (buffer.top, buffer.bottom) = (top - 1, bottom - 1);
            self.place(0, 0);
        }
    }

    fn set_private(&mut self, number: i32, on: bool) {
        self.modes.set_private(number, on);
        match (number, on) {
            (2, true) => {
                (0..4).for_each(|level| self.designate(level, Charset::ASCII));
            }
            (6, _) => self.place(0, 0),
            (1048, true) => self.save(),
            (1048, false) => self.restore(),
            (1049, true) => {
                self.save();
                self.enter();
            }
            (47 | 1047, true) => self.enter(),
            (1049, false) => {
                self.leave();
                self.restore();
            }
            (47 | 1047, false) => self.leave(),
            _ => {}
        }
    }

    /// Sequences that have neither prefix nor intermediate.
    fn plain_csi(&mut self, sequence: &Sequence, last: u8) {
        let count = sequence.amount(0);
        let (erased, cols) = (self.erased(), self.shown().cols);
        match last {
            b'A' => self.up(count),
            b'B' | b'E' => self.down(count),
            b'F' => self.up(count),
            b'C' | b'a' => self.travel(signed(count), 0),
            b'D' => self.travel(-signed(count), 0),
            b'e' => self.travel(0, signed(count)),
            b'G' | b'`' => self.place(count - 1, self.shown().y),
            b'd' => self.place(self.shown().x, count - 1),
            b'H' | b'f' => self.place(sequence.amount(1) - 1, count - 1),
            b'J' => self.erase_in_display(sequence.value(0), false),
            b'K' => self.erase_in_line(sequence.value(0), false),
            b'L' => self.shift_rows(count, true),
            b'M' => self.shift_rows(count, false),
            b'S' => {
                let buffer = self.buffer();
                buffer.rotate(buffer.top, buffer.bottom, count, erased);
            }
            b'T' => {
                let buffer = self.buffer();
                buffer.rotate(buffer.bottom, buffer.top, count, Cell::BLANK);
            }
            b'@' | b'P' | b'X' => {
                self.restrict_to_screen();
                let buffer = self.buffer();
                let x = buffer.x;
                match last {
                    b'@' => buffer.line().insert(x, count, cols, erased),
                    b'P' => buffer.line().delete(x, count, cols, erased),
                    _ => buffer.line().replace(x, x.saturating_add(count), cols, erased),
                }
            }
            b'I' | b'Z' => self.tab(count, last == b'I'),
            b'b' => self.repeat(count),
            b'g' => self.clear_tabs(sequence.value(0)),
            b'h' | b'l' => sequence.values().iter().for_each(|&mode| self.modes.set(mode, last == b'h')),
            b'm' => sgr::apply(&mut self.look, sequence),
            b'r' => self.set_region(sequence),
            b's' => self.save(),
            b'u' => self.restore(),
            _ => {}
        }
        if matches!(last, b'E' | b'F') {
            self.buffer().x = 0;
        }
    }

    fn tab(&mut self, count: usize, forward: bool) {
        let buffer = self.buffer();
        if buffer.x >= buffer.cols {
            return;
        }
        for _ in 0..count.min(buffer.cols) {
            buffer.x = if forward { buffer.next_stop() } else { buffer.previous_stop() };
        }
    }

    fn clear_tabs(&mut self, what: i32) {
        match what {
            0 => self.buffer().set_stop(false),
            3 => self.buffer().clear_stops(),
            _ => {}
        }
    }

    fn set_title(&mut self, text: &str) {
        let mut end = text.len().min(MAX_TITLE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].clone_into(&mut self.title);
    }

    fn set_link(&mut self, text: &str) {
        let Some((parameters, address)) = text.split_once(';') else { return };
        let parameters = parameters.trim();
        if !address.is_empty() {
            self.look.link = self.tables.link(parameters, address);
            self.look.extend();
        } else if parameters.is_empty() {
            self.look.link = 0;
            self.look.extend();
        }
    }
}

impl Perform for State {
    fn ascii(&mut self, text: &[u8]) {
        if self.modes.insert || self.charset != Charset::ASCII {
            text.iter().for_each(|&byte| self.print(self.charset.character(byte)));
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            self.split_before();
            if self.shown().x >= self.shown().cols {
                if !self.modes.wraparound {
                    // Each is written over the one before.
                    self.buffer().x = self.shown().cols - 1;
                    rest = &rest[rest.len() - 1..];
                } else {
                    self.wrap();
                }
            }
            let look = self.pen();
            let buffer = self.buffer();
            let x = buffer.x;
            let (now, later) = rest.split_at(rest.len().min(buffer.cols - x));
            buffer.line().write(x, now, look);
            buffer.x += now.len();
            self.split_after();
            rest = later;
        }
        self.before = Before::NARROW;
    }

    fn character(&mut self, character: char) {
        self.print(character);
    }

    fn control(&mut self, code: u8) {
        match code {
            0x08 => self.backspace(),
            0x09 => self.tab(1, true),
            0x0a..=0x0c => self.line_feed(),
            0x0d => self.buffer().x = 0,
            0x0e => self.use_level(1),
            0x0f => self.use_level(0),
            0x84 => self.index(),
            0x85 => {
                self.buffer().x = 0;
                self.index();
            }
            0x88 => self.buffer().set_stop(true),
            _ => {}
        }
        self.before = Before::NOTHING;
    }

    fn escape(&mut self, collected: u32, last: u8) {
        // Sets of 94 characters for G0 to G3, and of 96 for G1 and G2; xterm.js knows no more.
        const LEVELS: [(u8, usize); 6] = [(b'(', 0), (b')', 1), (b'*', 2), (b'+', 3), (b'-', 1), (b'.', 2)];
        match (collected, last) {
            (0, b'7') => self.save(),
            (0, b'8') => self.restore(),
            (0, b'D') => self.index(),
            (0, b'E') => self.control(0x85),
            (0, b'H') => self.buffer().set_stop(true),
            (0, b'M') => self.reverse_index(),
            (0, b'=') => self.modes.keypad = true,
            (0, b'>') => self.modes.keypad = false,
            (0, b'c') => self.reset(),
            (0, b'n' | b'}') => self.use_level(2),
            (0, b'o' | b'|') => self.use_level(3),
            (0, b'~') => self.use_level(1),
            (0x25, b'@' | b'G') => {
                self.use_level(0);
                self.designate(0, Charset::ASCII);
            }
            (0x23, b'8') => self.align(),
            _ => {
                let level =
                    LEVELS.iter().find(|&&(it, _)| u32::from(it) == collected).map(|&(_, level)| level);
                if let (Some(level), Some(set)) = (level, Charset::designated(last)) {
                    self.designate(level, set);
                }
            }
        }
        self.before = Before::NOTHING;
    }

    fn csi(&mut self, sequence: &Sequence, last: u8) {
        match (sequence.collected, last) {
            (0, _) => self.plain_csi(sequence, last),
            (PRIVATE, b'h' | b'l') => {
                sequence.values().iter().for_each(|&mode| self.set_private(mode, last == b'h'))
            }
            (PRIVATE, b'J') => self.erase_in_display(sequence.value(0), true),
            (PRIVATE, b'K') => self.erase_in_line(sequence.value(0), true),
            (SPACE, b'@') => self.shift_columns(0, sequence.amount(0), false),
            (SPACE, b'A') => self.shift_columns(0, sequence.amount(0), true),
            (0x27, b'}') => self.shift_columns(self.shown().x, sequence.amount(0), true),
            (0x27, b'~') => self.shift_columns(self.shown().x, sequence.amount(0), false),
            (0x21, b'p') => self.soft_reset(),
            (SPACE, b'q') => self.modes.set_cursor(sequence.value(0)),
            (0x22, b'q') => match sequence.value(0) {
                1 => self.look.bg |= PROTECTED,
                0 | 2 => self.look.bg &= !PROTECTED,
                _ => {}
            },
            _ => {}
        }
        self.before = Before::NOTHING;
    }

    fn osc(&mut self, number: u32, text: &str) {
        match number {
            0 | 2 => self.set_title(text),
            8 => self.set_link(text),
            _ => colours::apply(&mut self.colours, number, text),
        }
        self.before = Before::NOTHING;
    }

    fn dcs(&mut self, _: &Sequence, _: u8, _: &str) {
        self.before = Before::NOTHING;
    }
}
