//! A terminal's screen and the lines above it, followed in memory and written out as bytes that make another terminal show the same.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::num::NonZeroU16;

use vt100::capture::{BasicFormattedCaptureState, RowContents};

use super::scanner::Scanner;
use super::watch::Watch;

/// Lines that the emulator itself keeps above the screen: as many as a screen can have rows, so that growing pulls real lines.
/// Older ones are kept as formatted text, which takes a tenth of the memory.
const EMULATED_LINES: usize = 1000;
/// Of a sequence or string that is not finished, so much is kept and comes at the end of a dump.
const MAX_UNFINISHED: usize = 4096;

/// A terminal that is fed bytes and can tell what it shows.
pub struct Screen {
    parser: vt100::Parser<History>,
    watch: Watch,
    translated: Vec<u8>,
    scanner: Scanner,
    /// Bytes since the stream was last in the ground state.
    unfinished: Vec<u8>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("size", &self.parser.screen().size()).finish_non_exhaustive()
    }
}

/// One line's formatted text, and whether the next line continues it.
struct Line {
    text: String,
    wrapped: bool,
}

/// Lines pushed off the emulator's top, and the title.
struct History {
    lines: VecDeque<Line>,
    max_lines: usize,
    title: Vec<u8>,
}

impl vt100::Callbacks for History {
    fn on_scroll(&mut self, row: RowContents<'_>, alternate_screen: bool) {
        if alternate_screen || self.max_lines == 0 {
            return;
        }
        if self.lines.len() == self.max_lines {
            self.lines.pop_front();
        }
        self.lines.push_back(Line::of(&row));
    }

    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.title = title[..title.len().min(1024)].to_vec();
    }
}

impl Line {
    fn of(row: &RowContents<'_>) -> Self {
        let mut state = BasicFormattedCaptureState::new();
        let mut text = String::new();
        row.write_formatted_basic(&mut text, &mut state).expect("a String takes every write");
        // A second row in the same capture begins with a newline exactly when the first one does not go on.
        let mut probe = FirstIsNewline(false);
        let _stopped = row.write_formatted_basic(&mut probe, &mut state);
        text.shrink_to_fit();
        Self { wrapped: !probe.0 && !text.is_empty(), text }
    }
}

/// Remembers whether the first thing written is a newline, and takes no more.
struct FirstIsNewline(bool);

impl fmt::Write for FirstIsNewline {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = text.starts_with('\n');
        Err(fmt::Error)
    }
}

/// The emulator needs a side of at least one cell; a zero is taken for that.
fn side(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap_or(NonZeroU16::MIN)
}

impl Screen {
    /// An empty screen of `cols` by `rows` cells that keeps `scrollback_lines` lines above it.
    #[must_use]
    pub fn new(cols: u16, rows: u16, scrollback_lines: usize) -> Self {
        let emulated = scrollback_lines.min(EMULATED_LINES);
        let history =
            History { lines: VecDeque::new(), max_lines: scrollback_lines - emulated, title: Vec::new() };
        Self {
            parser: vt100::Parser::new_with_callbacks(side(rows), side(cols), emulated, history),
            watch: Watch::default(),
            translated: Vec::new(),
            scanner: Scanner::new(),
            unfinished: Vec::new(),
        }
    }

    /// Shows `bytes`; they may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.note_unfinished(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            self.translated.clear();
            let (len, cleared) = self.watch.feed(rest, &mut self.translated);
            self.parser.process(&self.translated);
            if cleared {
                self.parser.callbacks_mut().lines.clear();
            }
            rest = &rest[len..];
        }
    }

    /// Applies only the escape sequences of `bytes`: modes and colours, not the text.
    pub fn feed_escapes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.scanner.is_ground() {
                let Some(escape) = memchr::memchr(0x1b, rest) else { return };
                rest = &rest[escape..];
            }
            // The ESC itself leads out of the ground state, so the end is looked for after it.
            let mut ahead = self.scanner;
            ahead.feed(&rest[..1]);
            let len = ahead.feed_until_ground(&rest[1..]).map_or(rest.len(), |more| 1 + more);
            let (sequence, after) = rest.split_at(len);
            self.feed(sequence);
            rest = after;
        }
    }

    /// Gives the terminal another size. The scroll region becomes the whole screen, as in xterm.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        if self.parser.screen().size() != (side(rows), side(cols)) {
            self.parser.set_size(side(rows), side(cols));
            self.watch.region = None;
        }
    }

    /// Bytes that, written to a freshly reset terminal of the same size, show the lines above the screen, the screen, and the cursor, and
    /// set every mode. What was unfinished comes last, so that the next bytes of the stream can follow.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let screen = self.parser.screen();
        let history = self.parser.callbacks();
        let mut out = Vec::new();
        let mut main = Scratch::new(screen);
        self.write_title(&mut out);
        write_lines(history.lines.iter().chain(&main.all_lines()), &mut out);
        if screen.alternate_screen() {
            main.reload(screen);
            out.extend_from_slice(main.saved_cursor().as_bytes());
            out.extend_from_slice(b"\x1b[?1049h");
            out.extend_from_slice(screen.contents_formatted().as_bytes());
        }
        main.reload(screen);
        out.extend_from_slice(main.saved_state().as_bytes());
        out.extend_from_slice(b"\x1b7");
        self.write_cursor(&mut out);
        out.extend_from_slice(&self.unfinished);
        out
    }

    fn write_title(&self, out: &mut Vec<u8>) {
        let title = &self.parser.callbacks().title;
        if !title.is_empty() {
            out.extend_from_slice(b"\x1b]2;");
            out.extend(title.iter().filter(|b| !b.is_ascii_control()));
            out.push(0x07);
        }
    }

    /// Region, modes, cursor and attributes, in the order in which they do not disturb each other.
    fn write_cursor(&self, out: &mut Vec<u8>) {
        let screen = self.parser.screen();
        let (rows, _) = screen.size();
        if let Some((top, bottom)) = self.watch.region {
            out.extend_from_slice(format!("\x1b[{top};{}r", bottom.min(rows.get())).as_bytes());
        }
        if self.watch.origin {
            let top = self.watch.region.map_or(1, |(top, _)| top);
            let (row, col) = screen.cursor_position();
            out.extend_from_slice(
                format!("\x1b[?6h\x1b[{};{}H", (row + 2).saturating_sub(top), col + 1).as_bytes(),
            );
        } else {
            out.extend_from_slice(screen.cursor_state_formatted().as_bytes());
        }
        if screen.hide_cursor() {
            out.extend_from_slice(b"\x1b[?25l");
        }
        out.extend_from_slice(screen.attributes_formatted().as_bytes());
        out.extend_from_slice(screen.input_mode_formatted().as_bytes());
        self.watch.write_modes(out);
    }

    fn note_unfinished(&mut self, bytes: &[u8]) {
        let mut end = self.scanner;
        end.feed(bytes);
        if end.is_ground() {
            self.unfinished.clear();
        } else {
            let from = self.scanner.last_ground_in(bytes);
            if from.is_some() {
                self.unfinished.clear();
            }
            let tail = &bytes[from.unwrap_or(0)..];
            let room = MAX_UNFINISHED.saturating_sub(self.unfinished.len());
            self.unfinished.extend_from_slice(&tail[..tail.len().min(room)]);
        }
        self.scanner = end;
    }
}

/// Writes lines so that the terminal wraps those that go on, and breaks the others.
fn write_lines<'a>(lines: impl Iterator<Item = &'a Line>, out: &mut Vec<u8>) {
    let mut first = true;
    let mut goes_on = false;
    for line in lines {
        // A line that was emptied later does not continue anything.
        if !first && (!goes_on || line.text.is_empty()) {
            out.extend_from_slice(b"\r\n");
        }
        first = false;
        out.extend_from_slice(line.text.as_bytes());
        // Without it a scrolled-in line would have the last background.
        if line.text.contains('\x1b') {
            out.extend_from_slice(b"\x1b[m");
        }
        goes_on = line.wrapped;
    }
}

/// A second emulator that may be changed to learn what a screen keeps to itself.
struct Scratch(vt100::Parser<Collected>);

#[derive(Default)]
struct Collected(Vec<Line>);

impl vt100::Callbacks for Collected {
    fn on_scroll(&mut self, row: RowContents<'_>, alternate_screen: bool) {
        if !alternate_screen {
            self.0.push(Line::of(&row));
        }
    }
}

impl Scratch {
    fn new(screen: &vt100::Screen) -> Self {
        let (rows, cols) = screen.size();
        let mut parser = vt100::Parser::new_with_callbacks(rows, cols, 0, Collected::default());
        *parser.screen_mut() = screen.clone();
        Self(parser)
    }

    fn reload(&mut self, screen: &vt100::Screen) {
        *self.0.screen_mut() = screen.clone();
    }

    /// The main screen's lines with those above it, by scrolling them all off.
    fn all_lines(&mut self) -> Vec<Line> {
        let (rows, _) = self.0.screen().size();
        self.0.process(format!("\x1b[?47l\x1b[r\x1b[{rows}S\x1b[3J").as_bytes());
        std::mem::take(&mut self.0.callbacks_mut().0)
    }

    /// Where a program that leaves the alternate screen finds the cursor, and its attributes.
    fn saved_cursor(&mut self) -> String {
        self.0.process(b"\x1b[?47l\x1b8");
        self.position()
    }

    /// What DECRC would restore.
    fn saved_state(&mut self) -> String {
        self.0.process(b"\x1b8");
        self.position()
    }

    fn position(&self) -> String {
        let (row, col) = self.0.screen().cursor_position();
        let mut text = String::new();
        write!(text, "\x1b[{};{}H", row + 1, col + 1).expect("a String takes every write");
        text + &self.0.screen().attributes_formatted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal of the screen's size shows after the dump: lines from the oldest, and everything that can be asked.
    fn state(screen: &Screen) -> (Vec<String>, String) {
        let main = Scratch::new(screen.parser.screen()).all_lines();
        let lines = screen.parser.callbacks().lines.iter().chain(&main);
        let lines = lines.map(|l| format!("{}{}", l.text, if l.wrapped { "↩" } else { "" })).collect();
        let screen = screen.parser.screen();
        let cells = (0..5).flat_map(|row| (0..20).map(move |col| (row, col)));
        // An empty cell and a space look the same.
        let look = cells.filter_map(|(row, col)| screen.cell(row, col)).map(|c| {
            let text = if c.has_contents() { c.contents() } else { " " };
            format!("{text}{:?}{:?}{}{}{}", c.fgcolor(), c.bgcolor(), c.bold(), c.underline(), c.inverse())
        });
        let modes = screen.input_mode_formatted() + &screen.attributes_formatted();
        let cursor = format!("{:?} {}", screen.cursor_position(), screen.hide_cursor());
        (lines, look.collect::<String>() + &modes + &cursor)
    }

    /// Feeds `bytes`, dumps, feeds the dump to a new terminal, and compares; again with a dump in the middle of the bytes.
    fn check(bytes: &[u8]) {
        for cut in 0..=bytes.len() {
            let mut direct = Screen::new(20, 5, 1500);
            direct.feed(&bytes[..cut]);
            let mut copy = Screen::new(20, 5, 1500);
            copy.feed(&direct.dump());
            assert_eq!(
                state(&copy),
                state(&direct),
                "dump after {:?}",
                bytes[..cut].escape_ascii().to_string()
            );
            direct.feed(&bytes[cut..]);
            copy.feed(&bytes[cut..]);
            assert_eq!(
                state(&copy),
                state(&direct),
                "cut at {cut} of {:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_dump_shows_the_same_at_every_cut() {
        check(b"one\r\ntwo\r\n\r\nthree");
        check(b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n\x1b[31m8\r\n\x1b[44m9\r\n");
        check("wide 漢字漢字漢字漢字漢字漢字漢字 é\r\n😀".as_bytes());
        check(b"a line that is much longer than twenty cells wraps twice at least\r\nx");
        check(b"exactly twenty cells\r\nexactly twenty cells");
        check(b"\x1b[1;4;38;5;200mbold\x1b[0;2m dim\x1b[48;2;1;2;3m\r\nrgb\x1b[K\r\n\r\n\r\n\r\n\r\nend");
        check(b"main\x1b[?1049h\x1b[2;3Halt\x1b[?25l\x1b[?1h\x1b[?2004h\x1b[?1002;1006h\x1b[?1049lback");
        check(b"\x1b[2;4r\x1b[4;1Ha\nb\nc\x1b[?6h\x1b[1;1Hd");
        check(b"\x1b7\x1b[3;3H\x1b[32mx\x1b8y");
        check(b"\x1b(0lqqk\r\nx  x\x1b(B ok");
        check(b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n\x1b[3Jz\x1bcnew");
        check(b"\x1b]0;a title\x07text\x1bPdcs\x1b\\more");
    }

    #[test]
    fn older_lines_are_kept_as_text_up_to_the_limit() {
        let mut screen = Screen::new(20, 5, 1500);
        for n in 0..5000 {
            screen.feed(format!("line {n}\r\n").as_bytes());
        }
        let text = String::from_utf8(screen.dump()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], "line 3496");
        assert_eq!(lines[1503], "line 4999");
        assert!(!text.contains("line 3495"));
    }

    #[test]
    fn growing_pulls_lines_back() {
        let mut screen = Screen::new(20, 5, 1500);
        (0..50).for_each(|n| screen.feed(format!("line {n}\r\n").as_bytes()));
        screen.resize(20, 10);
        let rows: Vec<String> = screen.parser.screen().rows(0, 20).collect();
        assert_eq!(rows[0], "line 41");
        assert_eq!(rows[8], "line 49");
    }

    #[test]
    fn escapes_alone_keep_modes_and_colours() {
        let bytes = b"text\x1b[?1049h\x1b[31mred\x1b[?2004h \xe2\x82\xac \x1b]2;t\x07more";
        for cut in 0..bytes.len() {
            let mut screen = Screen::new(20, 5, 0);
            screen.feed_escapes(&bytes[..cut]);
            screen.feed_escapes(&bytes[cut..]);
            let state = screen.parser.screen();
            assert!(state.alternate_screen() && state.bracketed_paste(), "{cut}");
            assert_eq!(state.fgcolor(), vt100::Color::Idx(1));
            assert_eq!(state.contents(), "");
        }
    }
}
