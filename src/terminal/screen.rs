//! A terminal's screen and the lines above it, followed in memory and written out as bytes that make another terminal show the same.

use std::fmt::{self, Write as _};
use std::num::NonZeroU16;

use super::scanner::Scanner;
use super::watch::Watch;

/// Of a sequence or string that is not finished, so much is kept and comes at the end of a dump.
const MAX_UNFINISHED: usize = 4096;
/// Of a title, so many bytes are kept.
const MAX_TITLE: usize = 1024;

/// A terminal that is fed bytes and can tell what it shows.
///
/// Memory: 32 bytes a cell, for the lines above the screen only as far as they are written on.
pub struct Screen {
    parser: vt100::Parser<Title>,
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

/// The window's title, as the program set it.
#[derive(Default)]
struct Title(Vec<u8>);

impl vt100::Callbacks for Title {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.0 = title[..title.len().min(MAX_TITLE)].to_vec();
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
        Self {
            parser: vt100::Parser::new_with_callbacks(
                side(rows),
                side(cols),
                scrollback_lines,
                Title::default(),
            ),
            watch: Watch::default(),
            translated: Vec::new(),
            scanner: Scanner::new(),
            unfinished: Vec::new(),
        }
    }

    /// Shows `bytes`; they may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.note_unfinished(bytes);
        self.translated.clear();
        self.watch.feed(bytes, &mut self.translated);
        self.parser.process(&self.translated);
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
        let alternate = screen.alternate_screen();
        let mut scratch = Scratch::new(screen);
        let mut out = self.title();
        scratch.write_lines(&mut out);
        if alternate {
            out += &scratch.saved_cursor();
            out += "\x1b[?1049h";
            out += &screen.contents_formatted();
            scratch.0.process(b"\x1b[?47h");
        }
        out += &scratch.saved_cursor();
        out += "\x1b7";
        let mut out = out.into_bytes();
        self.write_cursor(&mut out);
        out.extend_from_slice(&self.unfinished);
        out
    }

    fn title(&self) -> String {
        let title = String::from_utf8_lossy(&self.parser.callbacks().0);
        if title.is_empty() {
            return String::new();
        }
        format!("\x1b]2;{}\x07", title.chars().filter(|c| !c.is_control()).collect::<String>())
    }

    /// Region, modes, cursor and attributes, in the order in which they do not disturb each other.
    fn write_cursor(&self, out: &mut Vec<u8>) {
        let screen = self.parser.screen();
        let region = self.region();
        if let Some((top, bottom)) = region {
            out.extend_from_slice(format!("\x1b[{top};{bottom}r").as_bytes());
        }
        if self.watch.origin {
            let top = region.map_or(1, |(top, _)| top);
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

    /// The scroll region where it is one: the emulator takes a region of less than two rows for the whole screen.
    fn region(&self) -> Option<(u16, u16)> {
        let (rows, _) = self.parser.screen().size();
        let (top, bottom) = self.watch.region?;
        Some((top, bottom.min(rows.get()))).filter(|(top, bottom)| top < bottom)
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

/// A copy of a screen that may be changed to learn what the screen keeps to itself.
struct Scratch(vt100::Parser);

impl Scratch {
    /// A copy that shows the main screen, also while a program is on the alternate one.
    fn new(screen: &vt100::Screen) -> Self {
        let (rows, cols) = screen.size();
        let mut parser = vt100::Parser::new(rows, cols, 0);
        *parser.screen_mut() = screen.clone();
        parser.process(b"\x1b[?47l");
        Self(parser)
    }

    /// Writes every line from the oldest above the screen to the last on it, so that the terminal wraps those that go on.
    fn write_lines(&mut self, out: &mut String) {
        let screen = self.0.screen_mut();
        let (rows, _) = screen.size();
        let mut goes_on = false;
        let mut above = screen.scrollback_len();
        let mut first = true;
        loop {
            screen.set_scrollback(above);
            // A view begins with the lines above the screen that were not written yet; the last view is the screen itself.
            let view = if above == 0 {
                rows.get()
            } else {
                u16::try_from(above).unwrap_or(u16::MAX).min(rows.get())
            };
            for row in 0..view {
                let empty = screen.cell(row, 0).is_none_or(is_blank);
                // A line that was emptied later does not continue anything.
                if !first && (!goes_on || empty) {
                    out.push_str("\r\n");
                }
                first = false;
                goes_on = write_row(screen, row, out);
            }
            if above == 0 {
                return;
            }
            above -= usize::from(view);
        }
    }

    /// Where DECRC would put the cursor, and its attributes. Puts it there.
    fn saved_cursor(&mut self) -> String {
        self.0.process(b"\x1b8");
        let (row, col) = self.0.screen().cursor_position();
        format!("\x1b[{};{}H{}", row + 1, col + 1, self.0.screen().attributes_formatted())
    }
}

/// Whether a cell is as a reset terminal has it.
fn is_blank(cell: &vt100::Cell) -> bool {
    !cell.has_contents() && !cell.is_wide_continuation() && rendition(cell).is_empty()
}

/// Writes a row in a terminal whose attributes are reset, and resets them. Says whether the next row continues it.
fn write_row(screen: &vt100::Screen, row: u16, out: &mut String) -> bool {
    let (_, cols) = screen.size();
    let mut current = String::new();
    let mut gap = 0;
    for cell in (0..cols.get()).filter_map(|col| screen.cell(row, col)).filter(|c| !c.is_wide_continuation())
    {
        if is_blank(cell) {
            gap += 1;
            continue;
        }
        if gap > 0 {
            write!(out, "\x1b[{gap}C").expect("a String takes every write");
            gap = 0;
        }
        let wanted = rendition(cell);
        if wanted != current {
            write!(out, "\x1b[0{wanted}m").expect("a String takes every write");
            current = wanted;
        }
        out.push_str(if cell.has_contents() { cell.contents() } else { " " });
    }
    if !current.is_empty() {
        out.push_str("\x1b[m");
    }
    gap == 0 && screen.row_wrapped(row)
}

/// A cell's attributes as SGR parameters (ECMA-48 8.3.117), each with a semicolon before it.
fn rendition(cell: &vt100::Cell) -> String {
    let mut text = String::new();
    let flags = [
        (cell.bold(), ";1"),
        (cell.dim(), ";2"),
        (cell.italic(), ";3"),
        (cell.underline(), ";4"),
        (cell.inverse(), ";7"),
    ];
    flags.into_iter().filter(|(on, _)| *on).for_each(|(_, parameter)| text.push_str(parameter));
    for (color, base) in [(cell.fgcolor(), 30), (cell.bgcolor(), 40)] {
        let written = match color {
            vt100::Color::Default => Ok(()),
            vt100::Color::Idx(index @ 0..8) => write!(text, ";{}", base + index),
            vt100::Color::Idx(index @ 8..16) => write!(text, ";{}", base + 52 + index),
            vt100::Color::Idx(index) => write!(text, ";{};5;{index}", base + 8),
            vt100::Color::Rgb(r, g, b) => write!(text, ";{};2;{r};{g};{b}", base + 8),
        };
        written.expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal of the screen's size shows after the dump: lines from the oldest, and everything that can be asked.
    fn state(screen: &Screen) -> (String, String) {
        let mut lines = String::new();
        Scratch::new(screen.parser.screen()).write_lines(&mut lines);
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

    mod any_bytes {
        use proptest::prelude::*;

        use super::super::*;

        #[derive(Debug, Clone)]
        enum Do {
            Bytes(Vec<u8>),
            Resize(u16, u16),
            Dump,
        }

        fn piece() -> impl Strategy<Value = Do> {
            let number = 0_u16..40;
            let csi = (number.clone(), number, prop::sample::select(b"@ABCDEFGHJKLMPSTXZdfhlmru`b".to_vec()));
            prop_oneof![
                4 => "[a-z \\r\\n\t]{0,30}".prop_map(|text| Do::Bytes(text.into_bytes())),
                3 => csi.prop_map(|(a, b, c)| Do::Bytes(format!("\x1b[{a};{b}{}", char::from(c)).into_bytes())),
                2 => prop::sample::select(vec!["漢字", "é", "e\u{301}", "😀", "\x1b(0", "\x1b(B", "\x1b[?1049h", "\x1b[?1049l",
                        "\x1b7", "\x1b8", "\x1bM", "\x1bD", "\x1b[?6h", "\x1b[?7l", "\x1bc", "\x1b[!p", "\x08"])
                    .prop_map(|text| Do::Bytes(text.as_bytes().to_vec())),
                1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Do::Bytes),
                1 => (0_u16..30, 0_u16..12).prop_map(|(cols, rows)| Do::Resize(cols, rows)),
                1 => Just(Do::Dump),
            ]
        }

        proptest! {
            #[test]
            fn a_dump_shows_the_same(pieces in prop::collection::vec(piece(), 0..60)) {
                let mut screen = Screen::new(20, 5, 30);
                for piece in pieces {
                    if let Do::Bytes(bytes) = piece {
                        screen.feed(&bytes);
                    }
                }
                let mut copy = Screen::new(20, 5, 30);
                copy.feed(&screen.dump());
                // A control character within a sequence acts at once, and `ESC k` is a string only to tmux: again in the copy.
                let plain = |b: &u8| *b != 0x1b && !b.is_ascii_control();
                prop_assume!(screen.unfinished.iter().skip(1).all(plain) && !screen.unfinished.starts_with(b"\x1bk"));
                // With origin mode the cursor cannot be put behind the last column.
                let exact = !screen.watch.origin;
                let (copy, screen) = (super::state(&copy), super::state(&screen));
                // Whether a line goes on may be lost where the next one was emptied; then only the break is another.
                let text = |lines: &str| lines.replace("\r\n", "");
                prop_assert_eq!(text(&copy.0), text(&screen.0));
                prop_assert!(!exact || copy.1 == screen.1, "cells, modes or cursor of {:?}", screen.0);
            }

            #[test]
            fn never_panics(pieces in prop::collection::vec(piece(), 0..60)) {
                let mut screen = Screen::new(20, 5, 30);
                for piece in pieces {
                    match piece {
                        Do::Bytes(bytes) => screen.feed(&bytes),
                        Do::Resize(cols, rows) => screen.resize(cols, rows),
                        Do::Dump => {
                            let mut copy = Screen::new(20, 5, 30);
                            copy.feed(&screen.dump());
                        }
                    }
                }
            }
        }
    }
}
