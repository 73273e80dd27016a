//! How fast a terminal's screen is followed: what the daemon does for each viewer that comes late, and a shim for a long journal.

use std::time::Instant;

use kas::terminal::Screen;

use crate::figure::Figure;

const BYTES: usize = 32 << 20;
const COLS: u16 = 80;
const ROWS: u16 = 24;
const SCROLLBACK: usize = 2000;

/// MB a second of plain lines, of coloured ones, of a program that paints the whole screen, and of text that is not ASCII; beside each what
/// the vt100 crate makes of the same bytes, which knows fewer attributes, links and modes.
pub(crate) fn followed(rounds: usize) -> Vec<Figure> {
    let plain = "2026-01-01T00:00:00 INFO a line of a log as programs write them, sixty\r\n".to_owned();
    let coloured =
        "\x1b[32m   Compiling\x1b[0m \x1b[1mcrate\x1b[0m v1.2.3 (\x1b[38;5;244m/home/user/crate\x1b[0m)\r\n"
            .to_owned();
    let painted: String = (1..=24)
        .map(|row| format!("\x1b[{row};1H\x1b[48;2;{row};0;0m{:<40}\x1b[K\x1b[7mstate\x1b[m", row * 7919))
        .collect();
    let wide = "漢字 and é, ─── 😀 e\u{301}\r\n".to_owned();
    [
        ("plain lines", plain),
        ("coloured lines", coloured),
        ("a painted screen", painted),
        ("other text", wide),
    ]
    .into_iter()
    .map(|(name, piece)| {
        let bytes = piece.repeat(BYTES / piece.len()).into_bytes();
        let ours = speeds(rounds, bytes.len(), || {
            let mut screen = Screen::new(COLS, ROWS, SCROLLBACK);
            bytes.chunks(64 << 10).for_each(|piece| screen.feed(piece));
            assert!(!screen.dump().is_empty());
        });
        let theirs = speeds(rounds, bytes.len(), || {
            let sides = [ROWS, COLS].map(|side| side.try_into().unwrap());
            let mut parser = vt100::Parser::new(sides[0], sides[1], SCROLLBACK);
            bytes.chunks(64 << 10).for_each(|piece| parser.process(piece));
            assert!(!parser.screen().contents().is_empty());
        });
        Figure::new(format!("screen: {name}"), "MB/s", ours).beside("the vt100 crate", theirs)
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a size of megabytes")]
fn speeds(rounds: usize, len: usize, follow: impl Fn()) -> Vec<f64> {
    let timed = |_| {
        let begun = Instant::now();
        follow();
        len as f64 / 1e6 / begun.elapsed().as_secs_f64()
    };
    (0..rounds).map(timed).collect()
}
