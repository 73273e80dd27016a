//! The text of a terminal's stream, line by line as a terminal shows it in the end: without escape sequences, and of a line that was
//! written over, what stands there last.

use vte::{Params, Parser, Perform};

/// The most characters of one piece of text; a longer line comes in several.
const MAX_PIECE_CHARS: usize = 16 << 10;
/// How far beyond its text a sequence may move on a line: no terminal of a run is wider.
const MAX_COLUMNS: usize = 1000;
/// The distance of tab stops.
const TAB: usize = 8;

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPiece {
    /// A line without its end, or a part of one.
    pub text: String,
    /// Whether the line ends here.
    pub ends: bool,
}

/// Follows a stream, which may be cut anywhere; gives each line when it is over, for until then it may be written over.
///
/// A carriage return goes back to the line's first column, and what follows overwrites it; with a newline it is one end of line. Backspaces,
/// moves along the line, a saved cursor, and erasing, deleting and inserting in it are honoured (ECMA-48 §8.3). What moves to another line
/// ends this one: lines above are given already.
#[derive(Default)]
pub struct Plain {
    parser: Parser,
    line: Line,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Plain {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives what they complete. What is not UTF-8 becomes U+FFFD.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<TextPiece> {
        self.parser.advance(&mut self.line, bytes);
        std::mem::take(&mut self.line.done)
    }

    /// The line so far.
    #[must_use]
    pub fn unfinished(&self) -> String {
        self.line.cells.iter().collect()
    }

    /// Whether the line so far is empty.
    #[must_use]
    pub fn is_at_line_start(&self) -> bool {
        self.line.cells.is_empty()
    }

    /// Gives the line so far, at the end of the stream.
    pub fn end(&mut self) -> Option<TextPiece> {
        self.line.give(false);
        self.line.done.pop().filter(|piece| !piece.text.is_empty())
    }
}

/// One line of a terminal of any width. Each character takes one cell.
#[derive(Debug, Default)]
struct Line {
    cells: Vec<char>,
    column: usize,
    /// The column that was saved on this line.
    saved: Option<usize>,
    done: Vec<TextPiece>,
}

impl Line {
    fn give(&mut self, ends: bool) {
        self.done.push(TextPiece { text: self.cells.drain(..).collect(), ends });
        (self.column, self.saved) = (0, None);
    }

    /// Leaves the line for another one.
    fn leave(&mut self) {
        if !self.cells.is_empty() {
            self.give(true);
        }
    }

    fn put(&mut self, c: char) {
        if self.column >= self.cells.len() {
            self.cells.resize(self.column, ' ');
            self.cells.push(c);
        } else {
            self.cells[self.column] = c;
        }
        self.column += 1;
        if self.cells.len() >= MAX_PIECE_CHARS {
            self.give(false);
        }
    }

    fn go_to(&mut self, column: usize) {
        self.column = column.min(self.cells.len().max(MAX_COLUMNS - 1));
    }

    /// Goes back to where the cursor was saved: on another line, unless it was on this one.
    fn restore(&mut self) {
        match self.saved {
            Some(column) => self.go_to(column),
            None => self.leave(),
        }
    }

    fn tab(&mut self) {
        // A tab is kept where it adds to the line; within the line it only moves.
        if self.column >= self.cells.len() {
            return self.put('\t');
        }
        match self.cells[self.column..].iter().take(TAB).position(|cell| *cell == '\t') {
            Some(kept) => self.column += kept + 1,
            None => self.go_to((self.column / TAB + 1) * TAB),
        }
    }

    fn blank(&mut self, from: usize, to: usize) {
        let to = to.min(self.cells.len());
        if from < to {
            self.cells[from..to].fill(' ');
        }
    }

    /// EL and ED on the part of the screen that is known.
    fn erase(&mut self, what: usize) {
        match what {
            0 => self.cells.truncate(self.column),
            1 => self.blank(0, self.column.saturating_add(1)),
            _ => self.cells.clear(),
        }
    }

    fn delete(&mut self, count: usize) {
        let from = self.column.min(self.cells.len());
        let to = self.column.saturating_add(count).min(self.cells.len());
        self.cells.drain(from..to);
    }

    fn insert(&mut self, count: usize) {
        if self.column < self.cells.len() {
            let blanks = std::iter::repeat_n(' ', count.min(MAX_COLUMNS));
            self.cells.splice(self.column..self.column, blanks);
            self.cells.truncate(MAX_PIECE_CHARS);
        }
    }
}

impl Perform for Line {
    fn print(&mut self, c: char) {
        if !c.is_control() {
            self.put(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            // LF, VT and FF; the PTY has made CR LF of a program's newline, or a program in raw mode meant none.
            b'\n' | 0x0b | 0x0c => self.give(true),
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            b'\t' => self.tab(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let number = params.iter().next().and_then(|it| it.first()).map_or(0, |it| usize::from(*it));
        let count = number.max(1);
        match action {
            'C' | 'a' => self.go_to(self.column.saturating_add(count)),
            'D' => self.column = self.column.saturating_sub(count),
            'G' | '`' => self.go_to(count - 1),
            'K' => self.erase(number),
            // Below and above the line nothing is known.
            'J' if number < 2 => self.erase(number),
            's' => self.saved = Some(self.column),
            'u' => self.restore(),
            'X' => self.blank(self.column, self.column.saturating_add(count)),
            'P' => self.delete(count),
            '@' => self.insert(count),
            'A' | 'B' | 'E' | 'F' | 'H' | 'J' | 'd' | 'e' | 'f' => self.leave(),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            ([], b'7') => self.saved = Some(self.column),
            ([], b'8') => self.restore(),
            // IND, NEL, RI and RIS.
            ([], b'D' | b'M' | b'c') => self.leave(),
            ([], b'E') => self.give(true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stream: &[u8], size: usize) -> String {
        let (mut plain, mut out) = (Plain::new(), String::new());
        let pieces = stream.chunks(size).flat_map(|chunk| plain.feed(chunk)).collect::<Vec<_>>();
        for piece in pieces.into_iter().chain(plain.end()) {
            out.push_str(&piece.text);
            out.push_str(if piece.ends { "\n" } else { "" });
        }
        out
    }

    /// In every cutting, since a read cuts where it likes.
    fn check(stream: &[u8], expect: &str) {
        for size in 1..=stream.len() {
            assert_eq!(
                text(stream, size),
                expect,
                "{:?} in pieces of {size}",
                stream.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn escapes_go_and_text_stays() {
        check("a\x1b[31mré\x1b[0md\r\n\x1b]0;t\x07b\u{1F600}".as_bytes(), "aréd\nb\u{1F600}");
        check(b"\x1bPq#0;2\x1b\\z\x1b(Bk\x1b7l\x1b]52;c;QQ==\x1b\\.", "zkl.");
        check(b"be\x07ll\x00\x7f\tq", "bell\tq");
        check(b"a\xffb\xc3(\xe2\x82", "a\u{fffd}b\u{fffd}(");
        check(b"\n\n a \n", "\n\n a \n");
    }

    #[test]
    fn a_line_shows_its_last_state() {
        check(b"10% done\r55% done\r\nend", "55% done\nend");
        check(b"10%\r20%\r\r\n", "20%\n");
        check(b"downloading\rok", "okwnloading");
        check(b"downloading\r\x1b[Kok\n", "ok\n");
        check(b"downloading\x1b[2K\rok\n", "ok\n");
        check(b"10%\r\x1b[J55%\r\x1b[Jdone\n", "done\n");
        check(b"10%\r\x1b[1Jok\n", "ok%\n");
        check(b"\x1b7 10%\x1b8\x1b7 55%\x1b8\n", " 55%\n");
        check(b"at \x1b[s10%\x1b[u55%\n", "at 55%\n");
        check(b"a wheel: |\x08/\x08-\x08\\\n", "a wheel: \\\n");
        check(b"b\x08bo\x08ol\x08ld\n", "bold\n");
        check(b"abc\x1b[1Gx\x1b[1Cz\x1b[2DY\n", "xYz\n");
        check(b"abcdef\x1b[3G\x1b[1Kx\n", "  xdef\n");
        check(b"abcdef\x1b[2G\x1b[2P\x1b[2@\n", "a  def\n");
        check(b"abcdef\r\x1b[3X\n", "   def\n");
        check(b"\x1b[5Gx\n", "    x\n");
        check(b"a\tb\rA\tB\n", "A\tB\n");
        check("\u{1F680} 10%\r\u{1F680} 55%\n".as_bytes(), "\u{1F680} 55%\n");
    }

    #[test]
    fn another_line_is_not_glued_to_this_one() {
        check(b"one\x1b[2;1Htwo\x1b[Athree\x1bEfour\n", "one\ntwo\nthree\nfour\n");
        check(b"\x1b[2J\x1b[Hfirst\n", "first\n");
        check(b"a\x1b[2Jb\n", "a\nb\n");
        check(b"\x1b7one\ntwo\x1b8three\n", "one\ntwo\nthree\n");
        check(b"one\x0btwo\x0cthree", "one\ntwo\nthree");
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut plain = Plain::new();
        let mut longest = 0;
        for _ in 0..40 {
            for piece in plain.feed(&[b'x'; 10_000]) {
                assert!(!piece.ends);
                longest = longest.max(piece.text.len());
            }
            assert!(plain.line.cells.len() <= MAX_PIECE_CHARS);
        }
        assert_eq!(longest, MAX_PIECE_CHARS);
        // Moving is no way to make a long line of a short text.
        let mut plain = Plain::new();
        plain.feed(b"\x1b[65535Gx\x1b[65535@\x1b[65535Cx\r\x1b[65535@\x1b[65535@y");
        assert!(plain.unfinished().len() <= MAX_PIECE_CHARS);
        assert!(plain.unfinished().len() <= 6 * MAX_COLUMNS, "{}", plain.unfinished().len());
    }
}
