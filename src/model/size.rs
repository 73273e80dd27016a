//! A terminal's size in character cells.

/// Columns and rows, each 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    cols: u16,
    rows: u16,
}

impl Size {
    /// 80x24, what a terminal has when nobody said otherwise.
    pub const DEFAULT: Self = Self { cols: 80, rows: 24 };
    /// The most columns or rows; larger wishes are clamped to it (`spec/protocol.md` §3).
    pub const MAX: u16 = 1000;

    /// The size nearest to the wish, or `None` when a side is not positive.
    #[must_use]
    pub fn clamped(cols: i64, rows: i64) -> Option<Self> {
        let side = |n: i64| u16::try_from(n.min(i64::from(Self::MAX))).ok().filter(|&n| n > 0);
        Some(Self { cols: side(cols)?, rows: side(rows)? })
    }

    /// Characters in a line.
    #[must_use]
    pub const fn cols(self) -> u16 {
        self.cols
    }

    /// Lines on the screen.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_large_and_refuses_nothing() {
        let pair = |cols, rows| Size::clamped(cols, rows).map(|s| (s.cols(), s.rows()));
        assert_eq!(pair(132, 44), Some((132, 44)));
        assert_eq!(pair(1_000_000_000, 65_535), Some((1000, 1000)));
        assert_eq!(pair(0, 10), None);
        assert_eq!(pair(10, -1), None);
    }
}
