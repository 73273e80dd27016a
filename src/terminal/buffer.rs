//! One of a terminal's two screens: its lines with those above it, its cursor, margins and tab stops. Behaves as xterm.js 6 (`Buffer.ts`).

use std::collections::VecDeque;

use super::cell::{Cell, Line, Look};
use super::charset::Charset;

/// Columns between the tab stops that a terminal begins with.
const TAB: usize = 8;

/// What DECSC keeps. Of the look neither the underline's style and colour nor the link, as in xterm.js.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) x: usize,
    /// Counted from the first line there is.
    pub(super) y: usize,
    pub(super) look: Look,
    pub(super) charset: Charset,
}

impl Default for Saved {
    fn default() -> Self {
        Self { x: 0, y: 0, look: Look::default(), charset: Charset::ASCII }
    }
}

/// A screen and the lines above it.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    /// Lines above the screen, then the screen's. Empty in an alternate screen that is not shown.
    lines: VecDeque<Line>,
    pub(super) cols: usize,
    pub(super) rows: usize,
    /// The most lines above the screen; `None` for the alternate screen, which has none. Those beyond it are forgotten, oldest first.
    scrollback: Option<usize>,
    /// From 0 to `cols`: there it waits for the next character to begin a line.
    pub(super) x: usize,
    pub(super) y: usize,
    /// First and last row of the scroll region.
    pub(super) top: usize,
    pub(super) bottom: usize,
    pub(super) saved: Saved,
    tabs: Vec<bool>,
}

impl Buffer {
    /// A screen of empty lines.
    pub(super) fn new(cols: usize, rows: usize, scrollback: usize) -> Self {
        let mut buffer = Self::unshown(cols, rows);
        buffer.scrollback = Some(scrollback);
        buffer.show(Cell::BLANK);
        buffer
    }

    /// An alternate screen that is not shown.
    pub(super) fn unshown(cols: usize, rows: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            cols,
            rows,
            scrollback: None,
            x: 0,
            y: 0,
            top: 0,
            bottom: rows - 1,
            saved: Saved::default(),
            tabs: (0..cols).map(|col| col % TAB == 0).collect(),
        }
    }

    /// Gives it lines, if it has none.
    pub(super) fn show(&mut self, cell: Cell) {
        while self.lines.len() < self.rows {
            self.lines.push_back(Line::filled(cell, self.cols));
        }
    }

    /// Forgets everything but the saved cursor.
    pub(super) fn hide(&mut self) {
        *self = Self { saved: self.saved, ..Self::unshown(self.cols, self.rows) };
    }

    fn most_above(&self) -> usize {
        self.scrollback.unwrap_or(0)
    }

    /// How many lines are above the screen.
    pub(super) fn base(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }

    /// All lines, those above the screen first.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub(super) fn lines_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.iter_mut()
    }

    /// A row of the screen.
    pub(super) fn row(&self, y: usize) -> &Line {
        &self.lines[self.base() + y]
    }

    pub(super) fn row_mut(&mut self, y: usize) -> &mut Line {
        let at = self.base() + y;
        &mut self.lines[at]
    }

    /// The row the cursor is in.
    pub(super) fn line(&mut self) -> &mut Line {
        self.row_mut(self.y)
    }

    /// Moves the region up by a row, and the top one above the screen if the region begins there.
    pub(super) fn scroll(&mut self, cell: Cell, wrapped: bool) {
        let cols = self.cols;
        let first = self.base() + self.top;
        // The line that goes gives its memory to the new one.
        let mut line = if self.top > 0 {
            self.lines.remove(first).unwrap_or_default()
        } else if self.base() >= self.most_above() {
            // A saved place goes up with what was there, also where a longer memory than this one would still hold the line.
            self.saved.y -= usize::from(self.scrollback.is_some() && self.saved.y > 0);
            self.lines.pop_front().unwrap_or_default()
        } else {
            Line::default()
        };
        line.fill(cell, cols);
        line.wrapped = wrapped;
        // Where the screen begins once it is back.
        let base = (self.lines.len() + 1).saturating_sub(self.rows);
        self.lines.insert(base + self.bottom, line);
    }

    /// Takes `count` rows out at `from` and puts as many empty ones in so that they end up at `to`.
    pub(super) fn rotate(&mut self, from: usize, to: usize, count: usize, cell: Cell) {
        let (base, cols) = (self.base(), self.cols);
        for _ in 0..count.min(self.rows) {
            let mut line = self.lines.remove(base + from).unwrap_or_default();
            line.fill(cell, cols);
            self.lines.insert(base + to, line);
        }
    }

    /// Forgets the lines above the screen.
    pub(super) fn clear_above(&mut self) {
        let base = self.base();
        self.lines.drain(..base);
    }

    /// The column of the next tab stop.
    pub(super) fn next_stop(&self) -> usize {
        let behind = self.tabs.iter().skip(self.x + 1).position(|&stop| stop);
        behind.map_or(self.cols - 1, |more| self.x + 1 + more)
    }

    /// The column of the tab stop before the cursor.
    pub(super) fn previous_stop(&self) -> usize {
        self.tabs[..self.x.min(self.cols)].iter().rposition(|&stop| stop).unwrap_or(0)
    }

    /// Sets or clears the tab stop at the cursor.
    pub(super) fn set_stop(&mut self, stop: bool) {
        if let Some(tab) = self.tabs.get_mut(self.x) {
            *tab = stop;
        }
    }

    pub(super) fn clear_stops(&mut self) {
        self.tabs.fill(false);
    }

    /// The columns at which it has a tab stop and a reset terminal has none, or the other way round: each with whether it has.
    pub(super) fn changed_stops(&self) -> impl Iterator<Item = (usize, bool)> {
        self.tabs.iter().copied().enumerate().filter(|(col, stop)| *stop != (col % TAB == 0))
    }

    /// Gives it another size. Lines that went on are laid out anew on the main screen, except those the cursor is in.
    pub(super) fn resize(&mut self, cols: usize, rows: usize, reflows: bool) {
        if !self.lines.is_empty() {
            self.resize_rows(rows);
            self.x = self.x.min(cols - 1);
            self.saved.x = self.saved.x.min(cols - 1);
        }
        let before = std::mem::replace(&mut self.cols, cols);
        self.rows = rows;
        (self.top, self.bottom) = (0, rows - 1);
        if reflows && before != cols {
            self.reflow(before);
        }
        self.lines.iter_mut().for_each(|line| line.narrow(cols));
        self.resize_tabs(before);
    }

    fn resize_tabs(&mut self, before: usize) {
        self.tabs.truncate(self.cols);
        // Those to come follow on the last one there was.
        let last = self.tabs.iter().rposition(|&stop| stop).unwrap_or(0);
        let from = if before < self.cols { last } else { self.cols };
        self.tabs.extend((self.tabs.len()..self.cols).map(|col| (col - from) % TAB == 0));
    }

    /// Rows come from above the screen and from below the cursor, and go there.
    fn resize_rows(&mut self, rows: usize) {
        let mut base = self.base();
        for _ in self.rows..rows {
            if base > 0 && self.lines.len() <= base + self.y + 1 {
                base -= 1;
                self.y += 1;
            } else {
                self.lines.push_back(Line::default());
            }
        }
        for _ in rows..self.rows {
            if self.lines.len() > base + self.y + 1 {
                self.lines.pop_back();
            } else {
                base += 1;
                self.y -= 1;
            }
        }
        let excess = (self.lines.len() - rows).saturating_sub(self.most_above());
        self.lines.drain(..excess);
        self.saved.y = self.saved.y.saturating_sub(excess);
        self.y = self.y.min(rows - 1);
    }

    /// Lays lines that go on, or are too long, out for the width. Those the cursor is in stay, for a program redraws them.
    fn reflow(&mut self, before: usize) {
        let (base, count) = (self.base(), self.lines.len());
        let cursor = base + self.y;
        let mut rest = std::mem::take(&mut self.lines).into_iter().peekable();
        let mut at = 0;
        while let Some(first) = rest.next() {
            let mut group = vec![first];
            while rest.peek().is_some_and(|line| line.wrapped) {
                group.extend(rest.next());
            }
            let from = at;
            at += group.len();
            let holds_cursor = (from..at).contains(&cursor);
            self.lines.extend(if holds_cursor { group } else { lay_out(group, before, self.cols) });
        }
        self.settle(base, self.lines.len().cast_signed() - count.cast_signed());
    }

    /// Finds the screen's place after `grown` lines came, or went: as in xterm.js they push the cursor down while nothing is above the
    /// screen, and otherwise go above it.
    fn settle(&mut self, base: usize, grown: isize) {
        let mut base = base;
        for _ in 0..grown {
            if base == 0 && self.y < self.rows - 1 {
                self.y += 1;
                self.lines.pop_back();
            } else {
                base += 1;
            }
        }
        for _ in grown..0 {
            if base == 0 {
                self.y = self.y.saturating_sub(1);
            } else {
                base -= 1;
            }
        }
        while self.lines.len() < base + self.rows {
            self.lines.push_back(Line::default());
        }
        self.saved.y = self.saved.y.saturating_add_signed(grown).min(base + self.rows - 1);
        let excess = base.saturating_sub(self.most_above());
        self.lines.drain(..excess);
    }
}

/// The lines of one group that goes on, laid out for another width.
fn lay_out(group: Vec<Line>, before: usize, cols: usize) -> Vec<Line> {
    if group.len() == 1 && group[0].text_len() <= cols {
        return group;
    }
    let last = group.len() - 1;
    let mut lines = Vec::with_capacity(group.len());
    let mut line = Line::going_on(group[0].wrapped);
    let mut col = 0;
    for (index, old) in group.iter().enumerate() {
        let wide_next = group.get(index + 1).is_some_and(|next| next.get(0).width() == 2);
        let early = wide_next && !old.get(before - 1).has_text() && old.get(before - 1).width() == 1;
        let len = if index == last { old.text_len() } else { before - usize::from(early) };
        for cell in (0..len).map(|at| old.get(at)).filter(|cell| !cell.is_second()) {
            let width = usize::from(cell.width()).clamp(1, cols);
            if col + width > cols {
                lines.push(std::mem::replace(&mut line, Line::going_on(true)));
                col = 0;
            }
            line.set(col, cell);
            if width == 2 {
                line.set(col + 1, Cell::second(cell.look));
            }
            col += width;
        }
    }
    lines.push(line);
    lines
}
