//! A terminal's state as bytes that give it to another terminal, freshly reset and of the same size.
//!
//! What is written is text in its order, with as few movements as can be, so that a terminal that counts the cells of a character
//! otherwise is wrong about that character only.

use std::fmt::Write as _;

use super::buffer::Buffer;
use super::cell::{COLOUR, Cell, EXTENDED, Line, Look, UNDERLINE};
use super::charset::Charset;
use super::colours;
use super::sgr;
use super::state::State;
use super::tables::Tables;
use super::width::{JOINER, cells};

/// Writes the lines above the screen, the screen, margins, tab stops, saved and current cursor, title, colours and modes.
/// Without `linked`, text is linked to nothing.
pub(super) fn dump(state: &State, linked: bool) -> String {
    let mut out = String::new();
    if !state.title.is_empty() {
        let title: String = state.title.chars().filter(|c| !c.is_control()).collect();
        write!(out, "\x1b]2;{title}\x1b\\").expect("a String takes every write");
    }
    colours::write(&state.colours, &mut out);
    if !state.alternate {
        // The alternate screen keeps its saved cursor while it is not shown.
        let mut saved = String::new();
        write_saved(&state.other, &mut saved);
        if !saved.is_empty() {
            write!(out, "\x1b[?47h{saved}\x1b[m\x1b[?47l\x1b[H").expect("a String takes every write");
        }
    }
    write_buffer(&state.main, &state.tables, linked, &mut out);
    if state.alternate {
        out.push_str("\x1b[H\x1b[?47h");
        write_buffer(&state.other, &state.tables, linked, &mut out);
    }
    write_rest(state, linked, &mut out);
    out
}

/// What belongs to one of the screens. The cursor is at its home before.
fn write_buffer(buffer: &Buffer, tables: &Tables, linked: bool, out: &mut String) {
    write_lines(buffer, tables, linked, out);
    for (col, stop) in buffer.changed_stops() {
        write!(out, "\x1b[{}G{}", col + 1, if stop { "\x1bH" } else { "\x1b[g" })
            .expect("a String takes every write");
    }
    write_saved(buffer, out);
    out.push_str("\x1b[m");
    if (buffer.top, buffer.bottom) != (0, buffer.rows - 1) {
        write!(out, "\x1b[{};{}r", buffer.top + 1, buffer.bottom + 1).expect("a String takes every write");
    }
}

/// Saves the cursor that is saved, unless it is that of a reset terminal.
fn write_saved(buffer: &Buffer, out: &mut String) {
    let saved = buffer.saved;
    let row = saved.y.saturating_sub(buffer.base()).min(buffer.rows - 1);
    if (row, saved.x, saved.look, saved.charset) == (0, 0, Look::default(), Charset::ASCII) {
        return;
    }
    go(row, saved.x.min(buffer.cols - 1), out);
    let mut look = saved.look;
    if look.fg & UNDERLINE != 0 {
        // Its style is not saved: any will do.
        look.set_underline(1);
    }
    sgr::write(look, out);
    // What was saved within a link lets one count that is open when it is restored.
    let linked = saved.look.bg & EXTENDED != 0 && saved.look.fg & UNDERLINE == 0;
    out.push_str(if linked { "\x1b]8;;-\x1b\\" } else { "" });
    if saved.charset == Charset::ASCII {
        out.push_str("\x1b7");
    } else {
        write!(out, "\x1b({}\x1b7\x1b(B", char::from(saved.charset.byte()))
            .expect("a String takes every write");
    }
    out.push_str(if linked { "\x1b]8;;\x1b\\" } else { "" });
}

fn go(row: usize, col: usize, out: &mut String) {
    write!(out, "\x1b[{};{}H", row + 1, col + 1).expect("a String takes every write");
}

/// Modes, cursor, look and character sets, in the order in which they do not disturb each other.
fn write_rest(state: &State, linked: bool, out: &mut String) {
    let buffer = state.shown();
    // Where DECRC brought another set than that of the level, it has to bring it again.
    let restored = state.charset != state.sets[state.level] && state.charset == buffer.saved.charset;
    if restored {
        write_sets(state.sets, state.level, out);
        out.push_str("\x1b8\x1b[m");
    }
    let mut origin = 0;
    if state.modes.origin {
        out.push_str("\x1b[?6h");
        origin = buffer.top;
    }
    let row = buffer.y.saturating_sub(origin);
    go(row, buffer.x.min(buffer.cols - 1), out);
    let mut pen = Pen::new(buffer, &state.tables, linked);
    if buffer.x == buffer.cols {
        // It waits behind the last column: only a character written there brings it so far.
        let (col, cell) = last_of(buffer.row(buffer.y), buffer.cols);
        go(row, col, out);
        pen.place(cell, out);
    }
    state.modes.write(out);
    // A colour for underlines waits for one.
    pen.change(Look { link: state.look.of_text().link, ..state.look }, out);
    if let Some((col, cell)) = printed_last(state) {
        go(row, col, out);
        pen.place(cell, out);
        return;
    }
    if !restored {
        let mut sets = state.sets;
        sets[state.level] = state.charset;
        write_sets(sets, state.level, out);
    }
    if state.modes.insert {
        out.push_str("\x1b[4h");
    }
}

/// The last character of a full line, and its column.
fn last_of(line: &Line, cols: usize) -> (usize, Cell) {
    let last = cols - 1;
    let before = last.saturating_sub(1);
    if line.get(last).is_second() && line.get(before).width() == 2 {
        (before, line.get(before))
    } else {
        (last, line.get(last))
    }
}

/// What stands before the cursor, where the next character may join it or repeat it: it is written once more at the very end.
fn printed_last(state: &State) -> Option<(usize, Cell)> {
    let plain = !state.modes.insert
        && state.charset == Charset::ASCII
        && state.level == 0
        && state.sets == [Charset::ASCII; 4];
    let width = state.before.width().filter(|width| *width > 0 && plain)?;
    let buffer = state.shown();
    let col = buffer.x.checked_sub(width.into())?;
    let cell = buffer.row(buffer.y).get(col);
    (cell.has_text() && cell.look == state.look && cell.width() == width).then_some((col, cell))
}

fn write_sets(sets: [Charset; 4], level: usize, out: &mut String) {
    for (intermediate, set) in
        ['(', ')', '*', '+'].into_iter().zip(sets).filter(|(_, set)| *set != Charset::ASCII)
    {
        write!(out, "\x1b{intermediate}{}", char::from(set.byte())).expect("a String takes every write");
    }
    out.push_str(["", "\x0e", "\x1bn", "\x1bo"][level]);
}

/// Writes every line from the oldest above the screen to the last on it, so that the terminal wraps those that go on.
fn write_lines(buffer: &Buffer, tables: &Tables, linked: bool, out: &mut String) {
    let mut pen = Pen::new(buffer, tables, linked);
    let mut lines = buffer.lines().peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        let next = lines.peek().filter(|next| next.wrapped);
        if !first && !line.wrapped {
            pen.change(Look::default(), out);
            out.push_str("\r\n");
        }
        pen.line(line, next.copied(), out);
        first = false;
    }
    pen.change(Look::default(), out);
}

/// Writes cells, and knows the look that it writes with.
struct Pen<'a> {
    tables: &'a Tables,
    linked: bool,
    look: Look,
    cols: usize,
    /// What was written last would join what comes next.
    joiner: bool,
}

impl<'a> Pen<'a> {
    fn new(buffer: &Buffer, tables: &'a Tables, linked: bool) -> Self {
        Self { tables, linked, look: Look::default(), cols: buffer.cols, joiner: false }
    }

    /// Writes a line, and goes on to `next` if that one continues it: the cursor is then in its first column.
    fn line(&mut self, line: &Line, next: Option<&Line>, out: &mut String) {
        let mut col = 0;
        let end = line.cells().len().min(self.cols);
        while col < end {
            let cell = line.get(col);
            let run = || (col..end).take_while(|&at| line.get(at) == cell).count();
            if cell == Cell::BLANK || cell.is_second() {
                let run = run();
                if col + run < end {
                    write!(out, "\x1b[{run}C").expect("a String takes every write");
                }
                col += run;
            } else if !cell.has_text() && cell.look.is_background() {
                self.change(cell.look, out);
                let run = run();
                let to = if col + run < end { format!("\x1b[{run}C") } else { String::new() };
                write!(out, "\x1b[{run}X{to}").expect("a String takes every write");
                col += run;
            } else {
                col += self.cell(line, col, out);
            }
        }
        if let Some(next) = next {
            self.wrap(line, next, out);
        }
    }

    /// Writes the character of a column, and says how many columns it took.
    fn cell(&mut self, line: &Line, col: usize, out: &mut String) -> usize {
        let cell = line.get(col);
        if cell.width() == 2 && !(col + 1 < self.cols && line.get(col + 1).is_second()) {
            // Half of it was overwritten in a way that cannot be repeated.
            self.place(Cell::empty(cell.look), out);
            return 1;
        }
        self.place(cell, out);
        usize::from(cell.width()).max(1)
    }

    /// Writes a cell's text, or a space for nothing.
    fn place(&mut self, cell: Cell, out: &mut String) {
        if cell.width() == 0 || self.joiner {
            // It joined nothing, and must not now.
            self.look = Look { link: self.look.link, ..Look::default() };
            out.push_str("\x1b[m");
        }
        self.change(cell.look, out);
        self.joiner = false;
        if !cell.has_text() {
            return out.push(' ');
        }
        let from = out.len();
        self.tables.push_text(cell, out);
        self.joiner = out.ends_with(JOINER);
        let first = out[from..].chars().next();
        if cell.width() > 0 && first.is_some_and(|first| cells(first) == 0) {
            out.insert(from, ' ');
        }
    }

    /// Fills a line up, so that the next character begins the next one, and clears what that takes.
    fn wrap(&mut self, line: &Line, next: &Line, out: &mut String) {
        let len = line.cells().len().min(self.cols);
        let begin = next.get(0);
        let natural = begin.has_text() && begin.width() > 0 && begin.look.bg & COLOUR == 0;
        let last = line.get(self.cols - 1);
        let full = len == self.cols && (last.has_text() || last.is_second() || !last.look.is_background());
        // A wide character leaves a last column alone that it does not fit into.
        let early = natural && begin.width() == 2 && last == Cell::BLANK;
        if !full {
            write!(out, "\x1b[{}G", self.cols).expect("a String takes every write");
            if !early {
                self.change(last.look, out);
                out.push(' ');
            }
        }
        if !natural {
            // With the background of a reset terminal, for the new line is filled with it.
            self.change(Look::default(), out);
            out.push_str(" \r\x1b[X");
        }
    }

    /// Gives what is written next this look.
    fn change(&mut self, look: Look, out: &mut String) {
        if look.unlinked() != self.look.unlinked() {
            if look.unlinked() == Look::default() {
                out.push_str("\x1b[m");
            } else {
                sgr::write(look, out);
            }
        }
        if self.linked && look.link != self.look.link {
            match self.tables.linked(look.link) {
                Some(link) => write!(out, "\x1b]8;{};{}\x1b\\", link.parameters, link.address),
                None => write!(out, "\x1b]8;;\x1b\\"),
            }
            .expect("a String takes every write");
        }
        self.look = look;
    }
}
