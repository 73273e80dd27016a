//! What a list of a session's panes says.

use crate::control::command::Field;
use crate::control::{PaneId, WindowId};
use crate::model::Size;

/// One pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) pane: PaneId,
    pub(super) window: WindowId,
    pub(super) size: Size,
    /// A run lives in it, or did.
    pub(super) is_kas: bool,
}

/// What is asked for.
pub(super) fn fields() -> Vec<Field> {
    vec![Field::PaneId, Field::WindowId, Field::PaneWidth, Field::PaneHeight, Field::PaneIsKas]
}

/// The answer; `None` when it is not one: a session has at least one pane, and every line is one.
pub(super) fn rows(body: &[u8]) -> Option<Vec<Row>> {
    let rows: Vec<Row> = String::from_utf8_lossy(body).lines().map(row).collect::<Option<_>>()?;
    (!rows.is_empty()).then_some(rows)
}

fn row(line: &str) -> Option<Row> {
    let mut words = line.split(' ');
    Some(Row {
        pane: PaneId(words.next()?.strip_prefix('%')?.parse().ok()?),
        window: WindowId(words.next()?.strip_prefix('@')?.parse().ok()?),
        size: Size::clamped(words.next()?.parse().ok()?, words.next()?.parse().ok()?)?,
        is_kas: words.next()? == "1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rows_and_nonsense_is_no_answer() {
        for nonsense in [&b""[..], b"what\n", b"%1 @2 80 24 1\nwhat\n", b"%3 @4 0 0\n"] {
            assert_eq!(rows(nonsense), None);
        }
        let rows = rows(b"%1 @2 80 24 1\n%9 @4 100 30 0\n").unwrap();
        let shown: Vec<_> =
            rows.iter().map(|row| (row.pane.0, row.window.0, row.size.cols(), row.is_kas)).collect();
        assert_eq!(shown, [(1, 2, 80, true), (9, 4, 100, false)]);
    }
}
