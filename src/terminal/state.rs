//! What a terminal makes of characters, controls and sequences. Behaves as xterm.js 6 does (`InputHandler.ts`), for a page shows with that.

mod perform;

use std::collections::BTreeMap;

use super::buffer::{Buffer, Saved};
use super::cell::{Cell, Look, PROTECTED};
use super::charset::Charset;
use super::colours::Slot;
use super::modes::Modes;
use super::tables::Tables;
use super::theme::Rgb;
use super::width::{Before, Place};

/// A terminal's whole state.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) main: Buffer,
    pub(super) other: Buffer,
    /// Whether the alternate screen is shown.
    pub(super) alternate: bool,
    pub(super) look: Look,
    pub(super) modes: Modes,
    /// G0 to G3, which of them is in use, and the set that is: DECRC may bring another than that.
    pub(super) sets: [Charset; 4],
    pub(super) level: usize,
    pub(super) charset: Charset,
    pub(super) before: Before,
    pub(super) title: String,
    pub(super) tables: Tables,
    /// Colours that the program changed; at most one for each there is.
    pub(super) colours: BTreeMap<Slot, Rgb>,
    scrollback: usize,
}

impl State {
    pub(super) fn new(cols: usize, rows: usize, scrollback: usize) -> Self {
        Self {
            main: Buffer::new(cols, rows, scrollback),
            other: Buffer::unshown(cols, rows),
            alternate: false,
            look: Look::default(),
            modes: Modes::default(),
            sets: [Charset::ASCII; 4],
            level: 0,
            charset: Charset::ASCII,
            before: Before::NOTHING,
            title: String::new(),
            tables: Tables::default(),
            colours: BTreeMap::new(),
            scrollback,
        }
    }

    /// The screen that is shown.
    pub(super) const fn shown(&self) -> &Buffer {
        if self.alternate { &self.other } else { &self.main }
    }

    const fn buffer(&mut self) -> &mut Buffer {
        if self.alternate { &mut self.other } else { &mut self.main }
    }

    pub(super) fn resize(&mut self, cols: usize, rows: usize) {
        self.main.resize(cols, rows, true);
        self.other.resize(cols, rows, false);
    }

    /// Forgets links and joined texts that no cell has, when there are many.
    pub(super) fn tidy(&mut self) {
        if self.tables.is_due() {
            let lines = self.main.lines_mut().chain(self.other.lines_mut());
            self.tables.sweep(lines.flat_map(|line| line.cells_mut()), &mut self.look.link);
        }
    }

    const fn pen(&self) -> Look {
        self.look.of_text()
    }

    fn erased(&self) -> Cell {
        Cell::empty(self.look.erased())
    }

    // ---- the cursor

    fn restrict(&mut self, last: usize) {
        let origin = self.modes.origin;
        let buffer = self.buffer();
        buffer.x = buffer.x.min(last);
        buffer.y =
            if origin { buffer.y.clamp(buffer.top, buffer.bottom) } else { buffer.y.min(buffer.rows - 1) };
    }

    fn restrict_to_screen(&mut self) {
        self.restrict(self.shown().cols - 1);
    }

    fn place(&mut self, x: usize, y: usize) {
        let top = if self.modes.origin { self.shown().top } else { 0 };
        let buffer = self.buffer();
        (buffer.x, buffer.y) = (x, y.saturating_add(top));
        self.restrict_to_screen();
    }

    /// Moves right and down by so much. In origin mode the row counts from the region twice, as in xterm.js.
    fn travel(&mut self, x: isize, y: isize) {
        self.restrict_to_screen();
        let buffer = self.shown();
        let (col, row) = (buffer.x.saturating_add_signed(x), buffer.y.cast_signed().saturating_add(y));
        let row = if self.modes.origin { row.saturating_add(buffer.top.cast_signed()) } else { row };
        let buffer = self.buffer();
        (buffer.x, buffer.y) = (col, usize::try_from(row).unwrap_or(0));
        self.restrict_to_screen();
    }

    fn up(&mut self, count: usize) {
        let buffer = self.shown();
        let room = buffer.y.checked_sub(buffer.top);
        self.travel(0, -signed(room.map_or(count, |room| room.min(count))));
    }

    fn down(&mut self, count: usize) {
        let buffer = self.shown();
        let room = buffer.bottom.checked_sub(buffer.y);
        self.travel(0, signed(room.map_or(count, |room| room.min(count))));
    }

    // ---- text

    /// Goes to the next row for a character that does not fit into this one.
    fn wrap(&mut self) {
        let (look, erased) = (self.pen(), self.erased());
        let buffer = self.buffer();
        for col in buffer.x..buffer.cols {
            buffer.line().set(col, Cell::empty(look));
        }
        buffer.x = 0;
        buffer.y += 1;
        if buffer.y == buffer.bottom + 1 {
            buffer.y -= 1;
            buffer.scroll(erased, true);
        } else {
            buffer.y = buffer.y.min(buffer.rows - 1);
            buffer.line().wrapped = true;
        }
    }

    /// A wide character of which a half is about to be overwritten loses the other.
    fn split_before(&mut self) {
        let look = self.pen();
        let buffer = self.buffer();
        if let Some(left) = buffer.x.checked_sub(1)
            && buffer.line().get(left).width() == 2
        {
            buffer.line().set(left, Cell::empty(look));
        }
    }

    fn split_after(&mut self) {
        let look = self.pen();
        let buffer = self.buffer();
        let x = buffer.x;
        if x < buffer.cols && buffer.line().get(x).is_second() {
            buffer.line().set(x, Cell::empty(look));
        }
    }

    fn print(&mut self, character: char) {
        self.split_before();
        let place = Place::of(character, self.before);
        self.before = place.before();
        let (look, width) = (self.pen(), usize::from(place.width));
        let cols = self.shown().cols;
        if place.joins {
            self.join(character, place.width);
        } else {
            if self.shown().x + width > cols {
                if self.modes.wraparound {
                    self.wrap();
                } else {
                    self.buffer().x = cols - 1;
                    if width == 2 {
                        return;
                    }
                }
            }
            let insert = self.modes.insert;
            let buffer = self.buffer();
            let x = buffer.x;
            let line = buffer.line();
            if insert && width > 0 {
                line.insert(x, width, cols, Cell::empty(look));
            }
            if x < cols {
                line.set(x, Cell::new(character, place.width, look));
            }
            if width == 2 {
                line.set(x + 1, Cell::second(look));
            }
            // One without a width that joins nothing takes a place all the same, as in xterm.js.
            buffer.x = (x + width.max(1)).min(cols);
        }
        self.split_after();
    }

    fn join(&mut self, character: char, width: u8) {
        let Self { main, other, alternate, tables, .. } = self;
        let buffer = if *alternate { other } else { main };
        let Some(left) = buffer.x.checked_sub(1) else { return };
        let line = buffer.line();
        let at = if line.get(left).width() == 0 { left.saturating_sub(1) } else { left };
        let mut cell = line.get(at);
        tables.join(&mut cell, character, width);
        line.set(at, cell);
    }

    fn repeat(&mut self, count: usize) {
        let Some(width) = self.before.width() else { return };
        let buffer = self.shown();
        let Some(at) = buffer.x.checked_sub(width.into()) else { return };
        let mut text = String::new();
        self.tables.push_text(buffer.row(buffer.y).get(at), &mut text);
        // What is beyond a screenful scrolls away: a few bytes must not take the time of many.
        let screenful = self.shown().cols * self.shown().rows;
        for _ in 0..count.min(screenful) {
            text.chars().for_each(|character| self.print(self.translated(character)));
        }
    }

    fn translated(&self, character: char) -> char {
        u8::try_from(character)
            .ok()
            .filter(u8::is_ascii)
            .map_or(character, |byte| self.charset.character(byte))
    }

    // ---- lines

    fn line_feed(&mut self) {
        let (newline, erased) = (self.modes.newline, self.erased());
        let buffer = self.buffer();
        if newline {
            buffer.x = 0;
        }
        buffer.y += 1;
        if buffer.y == buffer.bottom + 1 {
            buffer.y -= 1;
            buffer.scroll(erased, false);
        } else if buffer.y >= buffer.rows {
            buffer.y = buffer.rows - 1;
        } else {
            buffer.line().wrapped = false;
        }
        buffer.x = buffer.x.min(buffer.cols - 1);
    }

    fn index(&mut self) {
        self.restrict_to_screen();
        let erased = self.erased();
        let buffer = self.buffer();
        buffer.y += 1;
        if buffer.y == buffer.bottom + 1 {
            buffer.y -= 1;
            buffer.scroll(erased, false);
        }
        self.restrict_to_screen();
    }

    fn reverse_index(&mut self) {
        self.restrict_to_screen();
        let erased = self.erased();
        let buffer = self.buffer();
        if buffer.y == buffer.top {
            buffer.rotate(buffer.bottom, buffer.top, 1, erased);
        } else {
            buffer.y = buffer.y.saturating_sub(1);
            self.restrict_to_screen();
        }
    }

    fn backspace(&mut self) {
        if !self.modes.reverse_wraparound {
            self.restrict_to_screen();
            let buffer = self.buffer();
            buffer.x = buffer.x.saturating_sub(1);
            return;
        }
        self.restrict(self.shown().cols);
        let buffer = self.buffer();
        if buffer.x > 0 {
            buffer.x -= 1;
        } else if buffer.y > buffer.top && buffer.y <= buffer.bottom && buffer.line().wrapped {
            buffer.line().wrapped = false;
            buffer.y -= 1;
            let last = buffer.cols - 1;
            let cell = buffer.line().get(last);
            // Nothing is there where a wide character went to the next line.
            buffer.x = if cell.width() > 0 && !cell.has_text() { last.saturating_sub(1) } else { last };
        }
        self.restrict_to_screen();
    }

    /// Moves rows within the region, from the cursor's on, if it is in it.
    fn shift_rows(&mut self, count: usize, insert: bool) {
        self.restrict_to_screen();
        let erased = self.erased();
        let buffer = self.buffer();
        if (buffer.top..=buffer.bottom).contains(&buffer.y) {
            let (y, bottom) = (buffer.y, buffer.bottom);
            let (from, to) = if insert { (bottom, y) } else { (y, bottom) };
            buffer.rotate(from, to, count, erased);
            buffer.x = 0;
        }
    }

    /// Inserts or deletes `count` columns at `at` in every row of the region.
    fn shift_columns(&mut self, at: usize, count: usize, insert: bool) {
        let erased = self.erased();
        let buffer = self.buffer();
        if !(buffer.top..=buffer.bottom).contains(&buffer.y) {
            return;
        }
        let cols = buffer.cols;
        for y in buffer.top..=buffer.bottom {
            let line = buffer.row_mut(y);
            if insert {
                line.insert(at, count, cols, erased)
            } else {
                line.delete(at, count, cols, erased)
            }
            line.wrapped = false;
        }
    }

    // ---- erasing

    fn erase_in_row(&mut self, y: usize, from: usize, to: usize, kept: bool) {
        let erased = self.erased();
        let buffer = self.buffer();
        let cols = buffer.cols;
        let line = buffer.row_mut(y);
        if kept {
            for col in from..to.min(cols) {
                if line.get(col).look.bg & PROTECTED == 0 {
                    line.set(col, erased);
                }
            }
        } else {
            line.replace(from, to, cols, erased);
        }
    }

    fn erase_row(&mut self, y: usize, kept: bool) {
        if kept {
            self.erase_in_row(y, 0, self.shown().cols, true);
        } else {
            let (erased, cols) = (self.erased(), self.shown().cols);
            self.buffer().row_mut(y).fill(erased, cols);
        }
        self.buffer().row_mut(y).wrapped = false;
    }

    fn erase_in_display(&mut self, what: i32, kept: bool) {
        self.restrict(self.shown().cols);
        let Buffer { x, y, cols, rows, .. } = *self.shown();
        match what {
            0 => {
                self.erase_in_row(y, x, cols, kept);
                if x == 0 {
                    self.buffer().row_mut(y).wrapped = false;
                }
                (y + 1..rows).for_each(|row| self.erase_row(row, kept));
            }
            1 => {
                self.erase_in_row(y, 0, x + 1, kept);
                self.buffer().row_mut(y).wrapped = false;
                if x + 1 >= cols && y + 1 < rows {
                    self.buffer().row_mut(y + 1).wrapped = false;
                }
                (0..y).for_each(|row| self.erase_row(row, kept));
            }
            // What was there goes above the screen, as the page has it (`scrollOnEraseInDisplay`).
            2 => {
                let used = (0..rows).rposition(|row| self.shown().row(row).text_len() > 0);
                let erased = self.erased();
                (0..used.map_or(0, |last| last + 1)).for_each(|_| self.buffer().scroll(erased, false));
            }
            3 => self.buffer().clear_above(),
            _ => {}
        }
    }

    fn erase_in_line(&mut self, what: i32, kept: bool) {
        self.restrict(self.shown().cols);
        let Buffer { x, y, cols, .. } = *self.shown();
        let (from, to, unwraps) = match what {
            0 => (x, cols, x == 0),
            1 => (0, x + 1, false),
            2 => (0, cols, true),
            _ => return,
        };
        self.erase_in_row(y, from, to, kept);
        if unwraps {
            self.buffer().row_mut(y).wrapped = false;
        }
    }

    /// Fills the screen with the letter E (DECALN).
    fn align(&mut self) {
        let cell = Cell::new('E', 1, Look { line: 0, link: 0, ..self.look });
        self.place(0, 0);
        let buffer = self.buffer();
        for y in buffer.y..buffer.rows {
            let cols = buffer.cols;
            buffer.row_mut(y).fill(cell, cols);
        }
        self.place(0, 0);
    }

    // ---- the whole

    fn save(&mut self) {
        let (look, charset) = (Look { line: 0, link: 0, ..self.look }, self.charset);
        let buffer = self.buffer();
        buffer.saved = Saved { x: buffer.x, y: buffer.base() + buffer.y, look, charset };
    }

    fn restore(&mut self) {
        let buffer = self.buffer();
        let saved = buffer.saved;
        (buffer.x, buffer.y) = (saved.x, saved.y.saturating_sub(buffer.base()));
        (self.look.fg, self.look.bg) = (saved.look.fg, saved.look.bg);
        self.charset = saved.charset;
        self.restrict_to_screen();
    }

    fn enter(&mut self) {
        if !self.alternate {
            let erased = self.erased();
            self.other.show(erased);
            (self.other.x, self.other.y) = (self.main.x, self.main.y);
            self.alternate = true;
        }
    }

    fn leave(&mut self) {
        if self.alternate {
            (self.main.x, self.main.y) = (self.other.x, self.other.y);
            self.other.hide();
            self.alternate = false;
        }
    }

    fn use_level(&mut self, level: usize) {
        self.level = level;
        self.charset = self.sets[level];
    }

    fn designate(&mut self, level: usize, set: Charset) {
        self.sets[level] = set;
        if self.level == level {
            self.charset = set;
        }
    }

    fn reset_charsets(&mut self) {
        self.sets = [Charset::ASCII; 4];
        self.use_level(0);
    }

    fn soft_reset(&mut self) {
        self.look = Look::default();
        self.modes.soft_reset();
        self.reset_charsets();
        let buffer = self.buffer();
        (buffer.top, buffer.bottom) = (0, buffer.rows - 1);
        buffer.saved = Saved { y: buffer.base(), ..Saved::default() };
    }

    fn reset(&mut self) {
        let Buffer { cols, rows, .. } = self.main;
        let mut modes = self.modes.clone();
        modes.reset();
        let title = std::mem::take(&mut self.title);
        let colours = std::mem::take(&mut self.colours);
        *self = Self { modes, title, colours, ..Self::new(cols, rows, self.scrollback) };
    }
}

fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}
