//! A terminal's screen and the lines above it, followed in memory and written out as bytes that make another terminal show the same.

use std::fmt;

use super::dump::dump;
use super::parser::Parser;
use super::state::State;

/// Of a sequence or string that is not finished, so much is kept and comes at the end of a dump.
const MAX_UNFINISHED: usize = 4096;
/// Bytes of a dump that links may take; where they would take more, text is linked to nothing.
const MAX_LINKED: usize = 128 * 1024;
/// So many bytes are followed before it is looked whether something can be forgotten.
const PIECE: usize = 64 * 1024;
/// A side has at most so many cells.
const MAX_SIDE: usize = u16::MAX as usize;

/// A terminal that is fed bytes and can tell what it shows.
///
/// It behaves as xterm.js 6 does, which the page shows terminals with, down to what that does otherwise than others. Memory: 20 bytes a
/// cell, for lines only as far as they are written on, and a bounded amount for links and joined characters.
#[derive(Clone)]
pub struct Screen {
    parser: Parser,
    state: State,
    /// Bytes of what is half done.
    unfinished: Vec<u8>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.state.shown();
        f.debug_struct("Screen").field("cols", &shown.cols).field("rows", &shown.rows).finish_non_exhaustive()
    }
}

/// A side has at least one cell; a zero is taken for that. A screen of one column would have no room for a wide character.
fn side(cells: u16, least: usize) -> usize {
    usize::from(cells).clamp(least, MAX_SIDE)
}

impl Screen {
    /// An empty screen of `cols` by `rows` cells that keeps `scrollback_lines` lines above it.
    #[must_use]
    pub fn new(cols: u16, rows: u16, scrollback_lines: usize) -> Self {
        let state = State::new(side(cols, 2), side(rows, 1), scrollback_lines);
        Self { parser: Parser::default(), state, unfinished: Vec::new() }
    }

    /// Shows `bytes`; they may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            let begun = self.parser.feed(piece, &mut self.state);
            self.note(piece, begun);
            self.state.tidy();
        }
    }

    /// Applies only the escape sequences of `bytes`: modes and colours, not the text.
    pub fn feed_escapes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let ground = self.parser.is_ground();
            if ground {
                let Some(escape) = memchr::memchr(0x1b, rest) else { break };
                rest = &rest[escape..];
            }
            let (sequence, after) = rest.split_at(self.parser.feed_until_ground(rest, &mut self.state));
            self.note(sequence, ground.then_some(0));
            rest = after;
        }
        self.state.tidy();
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// Gives the terminal another size. The scroll region becomes the whole screen, as in xterm.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = (side(cols, 2), side(rows, 1));
        if (self.state.main.cols, self.state.main.rows) != (cols, rows) {
            self.state.resize(cols, rows);
        }
    }

    /// Bytes that, written to a freshly reset terminal of the same size, show the lines above the screen, the screen, and the cursor, and
    /// set every mode. What was unfinished comes last, so that the next bytes of the stream can follow.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let mut out = dump(&self.state, true);
        if out.len() > MAX_LINKED && self.state.tables.has_links() {
            let bare = dump(&self.state, false);
            if out.len() - bare.len() > MAX_LINKED {
                out = bare;
            }
        }
        let mut out = out.into_bytes();
        // A control within a sequence has done its work already.
        out.extend(self.unfinished.iter().filter(|b| **b >= 0x20 || **b == 0x1b));
        out
    }

    /// Keeps what is half done; it began at `begun` in `bytes`, or before them.
    fn note(&mut self, bytes: &[u8], begun: Option<usize>) {
        if begun.is_some() || self.parser.is_ground() {
            self.unfinished.clear();
        }
        if self.parser.is_ground() {
            return;
        }
        let tail = &bytes[begun.unwrap_or(0)..];
        let room = MAX_UNFINISHED.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(&tail[..tail.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::buffer::Buffer;
    use super::super::cell::{Cell, EXTENDED, Line, Look, UNDERLINE};
    use super::*;

    const COLS: u16 = 20;

    /// The rows of the screen, as text.
    fn rows(screen: &Screen) -> Vec<String> {
        let shown = screen.state.shown();
        (0..shown.rows).map(|row| text(screen, shown.row(row)).trim_end().to_owned()).collect()
    }

    fn text(screen: &Screen, line: &Line) -> String {
        let mut out = String::new();
        for cell in line.cells() {
            screen.state.tables.push_text(*cell, &mut out);
            if !cell.has_text() && !cell.is_second() {
                out.push(' ');
            }
        }
        out
    }

    /// A line's text with how it looks: an empty cell and a space look the same, and so do numbers of the same link.
    fn looks(screen: &Screen, cells: impl Iterator<Item = Cell>) -> String {
        let mut out = String::new();
        let mut last = Look::default();
        for cell in cells.filter(|cell| !cell.is_second()) {
            if cell.look != last {
                last = cell.look;
                let linked = screen.state.tables.linked(last.link);
                let _ = write!(out, "<{:x?} {} {linked:?}>", seen(last), last.underline());
            }
            let before = out.len();
            screen.state.tables.push_text(cell, &mut out);
            if out.len() == before {
                out.push(' ');
            }
        }
        out
    }

    /// What is to be seen of a look.
    fn seen(look: Look) -> Look {
        let look = Look { bg: look.bg & !EXTENDED, ..Look { link: 0, ..look } };
        if look.underline() == 0 { Look { fg: look.fg & !UNDERLINE, line: 0, ..look } } else { look }
    }

    fn of_buffer(screen: &Screen, buffer: &Buffer) -> String {
        let cells = |line: &Line| looks(screen, (0..buffer.cols).map(|col| line.get(col)));
        let lines: Vec<_> = buffer.lines().map(cells).collect();
        let stops: Vec<_> = buffer.changed_stops().collect();
        let saved = buffer.saved;
        let saved = (
            saved.x,
            saved.y.saturating_sub(buffer.base()).min(buffer.rows - 1),
            seen(saved.look),
            saved.charset,
        );
        format!("{lines:#?}\n{stops:?} {saved:?} {:?}", (buffer.top, buffer.bottom))
    }

    /// Everything there is to see, and everything that what comes later depends on.
    fn state(screen: &Screen) -> String {
        let state = &screen.state;
        let shown = state.shown();
        let other = if state.alternate { of_buffer(screen, &state.other) } else { String::new() };
        format!(
            "{}\n{other}\n{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            of_buffer(screen, &state.main),
            (shown.x, shown.y),
            state.modes,
            looks(screen, std::iter::once(Cell::empty(state.look.of_text()))),
            state.charset,
            state.title,
            state.colours,
            state.tables.linked(state.look.of_text().link),
        )
    }

    fn screen(bytes: &[u8]) -> Screen {
        let mut screen = Screen::new(COLS, 5, 1500);
        screen.feed(bytes);
        screen
    }

    fn assert_same(copy: &Screen, direct: &Screen, what: &str) {
        let (copy, direct) = (state(copy), state(direct));
        let parts = copy.lines().zip(direct.lines()).find(|(a, b)| a != b);
        assert!(copy == direct, "{what}: {parts:?}");
    }

    /// Feeds `bytes`, dumps, feeds the dump to a new terminal, and compares; again with a dump in the middle of the bytes.
    fn check(bytes: &[u8]) {
        for cut in 0..=bytes.len() {
            let mut direct = screen(&bytes[..cut]);
            let mut copy = screen(&direct.dump());
            assert_same(&copy, &direct, &format!("dump after {}", bytes[..cut].escape_ascii()));
            direct.feed(&bytes[cut..]);
            copy.feed(&bytes[cut..]);
            assert_same(&copy, &direct, &format!("cut at {cut} of {}", bytes.escape_ascii()));
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
    fn what_was_lost_once_is_kept() {
        check(b"\x1b[5;8;9;53mall\x1b[25;28;29;55m\x1b[4:3;58:2::1:2:3mcurl\x1b[4:2;59m=\x1b[21m=\x1b[4:5;58:5:9m-\x1b[24mx");
        check(b"\x1b]8;id=a;http://one/\x1b\\one\x1b]8;;http://two/\x07two\x1b]8;;\x07none");
        check(b"\x1b[3g\x1b[1;5H\x1bH\x1b[1;17H\x1bH\x1b[1;1H\ta\tb\x1b[1;5H\x1b[g\ta\x1b[2Zb");
        check(b"\x1b[?1h\x1b[4h\x1b[2;3r\x1b[3;1H\x1b[31m\x1b[!pdone\x1b8x");
        check(b"ab\x1b[2;5H\x1b[?1049hAB\x1b[3;3H\x1b7\x1b[?1049lc\x1b[?47h\x1b8D");
        check(b"\x1b[?45hab\x1b[1;20Hxy\x08\x08\x08z\x1b[?1002;1016h\x1b[?2026h");
        check(b"\x1b]2;a title\x07\x1b]4;1;#102030\x07\x1b]11;rgb:1/2/3\x07x\x1b]104;1\x07");
        check(b"\x1b[1\"qkept\x1b[0\"qgone\x1b[?2Kx\x1b[6 q");
        check("e\u{301}\x1b[1mo\u{302}\u{303}漢\u{301}x\x1b[4b漢\x1b[3b".as_bytes());
        check("👨\u{200d}👩\u{200d}👧x👨\u{200d}\x1b[m👩é".as_bytes());
        check("exactly twenty cell漢x\r\nnineteen cells here漢".as_bytes());
        check(b"\x1b(0a\x1b7\x1b(Bq\x1b8q\x1b)A\x0e#\x0f#\x1b*K\x1bn[");
        check(b"\x1b[44mblue\x1b[K\r\n\x1b[45mexactly twenty cells+\x1b[2Jx\x1b[3;3H\x1b[1J");
        check(b"1\r\n2\r\n3\r\n4\r\n5\x1b7\r\n6\r\n7\x1b8x\x1b[2;4r\x1b[?6h\x1b[2;2Hy\x1b[3Az");
        check("\u{9b}31mred\u{9d}2;t\u{9c}x\u{85}y".as_bytes());
    }

    #[test]
    fn older_lines_are_kept_as_text_up_to_the_limit() {
        let mut screen = Screen::new(COLS, 5, 1500);
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
        let mut screen = Screen::new(COLS, 5, 1500);
        (0..50).for_each(|n| screen.feed(format!("line {n}\r\n").as_bytes()));
        screen.resize(COLS, 10);
        let rows = rows(&screen);
        assert_eq!((rows[0].as_str(), rows[8].as_str()), ("line 41", "line 49"));
    }

    #[test]
    fn another_width_lays_lines_out_anew_and_loses_nothing() {
        let mut screen = screen("abcdefghij漢漢漢漢klm\r\nshort\r\n$ ".as_bytes());
        screen.resize(6, 5);
        assert_eq!(rows(&screen), ["ghij漢", "漢漢漢", "klm", "short", "$"]);
        screen.resize(COLS, 5);
        assert_eq!(rows(&screen), ["abcdefghij漢漢漢漢kl", "m", "short", "$", ""]);
    }

    #[test]
    fn escapes_alone_keep_modes_and_colours() {
        let bytes = b"text\x1b[?1049h\x1b[31mred\x1b[?2004h \xe2\x82\xac \x1b]2;t\x07more";
        for cut in 0..bytes.len() {
            let mut screen = Screen::new(COLS, 5, 0);
            screen.feed_escapes(&bytes[..cut]);
            screen.feed_escapes(&bytes[cut..]);
            assert!(screen.state.alternate && screen.state.modes.paste, "{cut}");
            assert_eq!(screen.state.look, Look { fg: 0x0100_0001, ..Look::default() });
            assert_eq!(rows(&screen).concat(), "");
        }
    }

    #[test]
    fn what_a_program_makes_without_end_is_bounded() {
        let mut screen = Screen::new(COLS, 5, 100);
        for n in 0..6_000 {
            let line = format!(
                "\x1b]8;;http://host/{n}/{}\x07e{}\x1b]8;;\x07\r\n",
                "x".repeat(200),
                "\u{301}".repeat(100)
            );
            screen.feed(line.as_bytes());
        }
        assert!(screen.dump().len() < 100 * 1024, "{}", screen.dump().len());
        assert!(rows(&screen)[3].starts_with("e\u{301}"));
        screen.feed(b"\x1b]2;");
        (0..1000).for_each(|_| screen.feed(&[b'x'; 1000]));
        assert!(screen.unfinished.len() <= MAX_UNFINISHED);
        // A few bytes that repeat a character fill no more than a screen.
        let mut screen = Screen::new(COLS, 5, 100);
        screen.feed(b"a\x1b[65535b");
        assert_eq!(screen.state.shown().lines().count(), 5 + 1);
    }

    #[test]
    fn a_table_that_was_full_has_room_again() {
        let mut screen = Screen::new(200, 5, 320);
        (0..2_000).for_each(|_| screen.feed(format!("{}\r\n", "e\u{301}".repeat(200)).as_bytes()));
        assert!(rows(&screen)[3].starts_with("e\u{301}e\u{301}"), "{}", rows(&screen)[3]);
        let mut screen = Screen::new(COLS, 5, 270);
        for n in 0..2_000 {
            screen.feed(format!("\x1b]8;;http://{n}/{}\x07e\r\n", "x".repeat(3_500)).as_bytes());
        }
        let look = screen.state.shown().row(3).get(0).look;
        assert!(screen.state.tables.linked(look.link).unwrap().address.starts_with("http://1999/"));
    }

    #[test]
    fn links_make_no_dump_long() {
        let mut screen = Screen::new(COLS, 100, 0);
        for n in 0..2_000 {
            screen.feed(format!("\x1b]8;;http://{}/{}\x07e", n % 2, "x".repeat(4_000)).as_bytes());
        }
        let dump = screen.dump();
        assert!(dump.len() < MAX_LINKED, "{}", dump.len());
        let mut copy = Screen::new(COLS, 100, 0);
        copy.feed(&dump);
        assert_eq!(rows(&copy), rows(&screen));
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

        fn feed(pieces: &[Do]) -> Screen {
            let mut screen = Screen::new(20, 5, 30);
            for piece in pieces {
                match piece {
                    Do::Bytes(bytes) => screen.feed(bytes),
                    Do::Resize(cols, rows) => screen.resize(*cols, *rows),
                    Do::Dump => drop(screen.dump()),
                }
            }
            screen
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

            #[test]
            fn a_dump_of_a_copy_is_the_same(pieces in prop::collection::vec(piece(), 0..60)) {
                let screen = feed(&pieces);
                let shown = screen.state.shown();
                let copy = |dump: &[u8]| {
                    let (cols, rows) = (shown.cols.try_into().unwrap(), shown.rows.try_into().unwrap());
                    let mut copy = Screen::new(cols, rows, 30);
                    copy.feed(dump);
                    copy
                };
                let first = copy(&screen.dump());
                let again = copy(&first.dump());
                prop_assert_eq!(super::rows(&first), super::rows(&screen));
                prop_assert_eq!(super::state(&again), super::state(&first));
            }
        }
    }
}
