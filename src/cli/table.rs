//! Tables for people.

use std::io::{self, Write};

use crate::terminal::shown;

/// The narrowest a last column is cut to.
const MIN_LAST: usize = 10;

/// Writes rows under a header, columns aligned; on a terminal of `width` columns the last column is cut to fit.
pub(super) fn write(
    out: &mut dyn Write,
    header: &[&str],
    rows: &[Vec<String>],
    width: Option<usize>,
) -> io::Result<()> {
    let all =
        || std::iter::once(header.iter().map(|it| (*it).to_owned()).collect()).chain(rows.iter().cloned());
    let rows: Vec<Vec<String>> =
        all().map(|row: Vec<String>| row.iter().map(|it| shown(it)).collect()).collect();
    let last = header.len() - 1;
    let widths: Vec<usize> =
        (0..last).map(|at| rows.iter().map(|row| length(&row[at])).max().unwrap_or(0)).collect();
    let room = width.map(|width| width.saturating_sub(widths.iter().map(|it| it + 2).sum()).max(MIN_LAST));
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            write!(out, "{cell}{:1$}", "", width + 2 - length(cell))?;
        }
        let cell = &row[last];
        let cell = room.map_or_else(|| cell.clone(), |room| cut(cell, room));
        writeln!(out, "{cell}")?;
    }
    Ok(())
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A text of at most `room` characters; one that was longer ends with an ellipsis.
pub(super) fn cut(text: &str, room: usize) -> String {
    if length(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

/// A span of time in its largest unit: `850ms`, `12s`, `3m`, `5h`, `2d`.
pub(super) fn span(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..1_000 => format!("{ms}ms"),
        ms @ 1_000..60_000 => format!("{}s", ms / 1_000),
        ms @ 60_000..3_600_000 => format!("{}m", ms / 60_000),
        ms @ 3_600_000..86_400_000 => format!("{}h", ms / 3_600_000),
        ms => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::is_harmful;

    fn table(rows: &[[&str; 2]], width: Option<usize>) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|&it| it.to_owned()).collect()).collect();
        let mut out = Vec::new();
        write(&mut out, &["NAME", "COMMAND"], &rows, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn aligns_and_cuts() {
        let rows = [["test", "cargo test --workspace"], ["x", "é"]];
        assert_eq!(table(&rows, None), "NAME  COMMAND\ntest  cargo test --workspace\nx     é\n");
        assert_eq!(table(&rows, Some(17)), "NAME  COMMAND\ntest  cargo test…\nx     é\n");
    }

    #[test]
    fn nothing_in_a_table_reaches_the_terminal() {
        let text = table(&[["a\x1b[2J", "b\n\u{9b}31m\u{202e}c\r"]], None);
        assert!(text.contains(r"a\u{1b}[2J") && text.contains(r"b\n\u{9b}31m\u{202e}c\r"), "{text}");
        assert!(!text.replace('\n', "").chars().any(is_harmful));
    }

    #[test]
    fn spans_have_one_unit() {
        for (ms, expect) in [
            (-5, "0ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (60_000, "1m"),
            (7_200_000, "2h"),
            (200_000_000, "2d"),
        ] {
            assert_eq!(span(ms), expect);
        }
    }
}
