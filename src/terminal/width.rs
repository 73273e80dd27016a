//! How many cells a character takes, and whether it joins the one before it.

use unicode_width::UnicodeWidthChar as _;

/// Joins what comes after it to what is before it, as in tmux.
pub(super) const JOINER: char = '\u{200d}';
/// Takes a cell, though it is seen only where a word is broken: so tmux, `wcwidth` and xterm.js count.
const SOFT_HYPHEN: char = '\u{ad}';

/// What was printed last: nothing since the last control or sequence, or a character of so many cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Before {
    width: Option<u8>,
    joiner: bool,
}

impl Before {
    /// After a control or a sequence nothing joins.
    pub(super) const NOTHING: Self = Self { width: None, joiner: false };

    /// After an ASCII character.
    pub(super) const NARROW: Self = Self { width: Some(1), joiner: false };

    /// The cells of what was printed last.
    pub(super) const fn width(self) -> Option<u8> {
        self.width
    }
}

/// What becomes of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its cells; of a joined one those of the whole.
    pub(super) width: u8,
    /// Whether it goes where the one before it is.
    pub(super) joins: bool,
    joiner: bool,
}

impl Place {
    /// Where a character goes that is printed after `before`.
    pub(super) fn of(character: char, before: Before) -> Self {
        let joined = before.joiner && !character.is_ascii();
        let width = if joined { 0 } else { cells(character) };
        let joiner = character == JOINER;
        match before.width {
            Some(old @ 1..) if width == 0 => Self { width: old, joins: true, joiner },
            _ => Self { width, joins: false, joiner },
        }
    }

    pub(super) const fn before(self) -> Before {
        Before { width: Some(self.width), joiner: self.joiner }
    }
}

/// The cells of a character by itself.
pub(super) fn cells(character: char) -> u8 {
    if character == SOFT_HYPHEN {
        return 1;
    }
    character.width().map_or(0, |width| u8::try_from(width.min(2)).unwrap_or(1))
}
