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

/// The answer; lines that make no sense are left out.
pub(super) fn rows(body: &[u8]) -> Vec<Row> {
    String::from_utf8_lossy(body).lines().filter_map(row).collect()
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
    fn lines_become_rows_and_nonsense_is_left_out() {
        let rows = rows(b"%1 @2 80 24 1\nwhat\n%3 @4 0 0\n%9 @4 100 30 0\n");
        let shown: Vec<_> =
            rows.iter().map(|row| (row.pane.0, row.window.0, row.size.cols(), row.is_kas)).collect();
        assert_eq!(shown, [(1, 2, 80, true), (9, 4, 100, false)]);
    }
}
