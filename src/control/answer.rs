//! Reads the answers to the commands kas sends: ids, numbers and fixed words, a space between them.

use std::str;

use super::block::Block;
use super::id::{PaneId, SessionId, WindowId};

/// What [`super::Command::NewSession`] and [`super::Command::NewWindow`] have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The session it is in.
    pub session: SessionId,
    /// The window.
    pub window: WindowId,
    /// Its one pane.
    pub pane: PaneId,
    /// The process in the pane.
    pub pid: u32,
}

impl Made {
    /// `None` if the answer is not of that form.
    #[must_use]
    pub fn from_block(block: &Block) -> Option<Self> {
        let [session, window, pane, pid] = columns(block.lines().next()?)?;
        Some(Self {
            session: session.parse().ok()?,
            window: window.parse().ok()?,
            pane: pane.parse().ok()?,
            pid: pid.parse().ok()?,
        })
    }
}

/// The fields of one line, empty where tmux has no value. `None` if there are not exactly `N`.
#[must_use]
pub fn columns<const N: usize>(line: &[u8]) -> Option<[&str; N]> {
    let fields: Vec<&str> = str::from_utf8(line).ok()?.split(' ').collect();
    fields.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::control::Guard;

    #[test]
    fn a_line_has_the_fields_that_were_asked_for() {
        assert_eq!(columns(b"%1 1  9"), Some(["%1", "1", "", "9"]));
        assert_eq!(columns::<2>(b"%1 1  9"), None);
        assert_eq!(columns::<1>(b"\xff"), None);
        assert_eq!(columns(b""), Some([""]));
    }

    #[test]
    fn what_was_made() {
        let of = |body: &'static str| {
            let guard = Guard { time: 1, number: 2, flags: 1 };
            Made::from_block(&Block { guard, ok: true, body: Bytes::from(body), dropped: 0 })
        };
        let made = Made { session: SessionId(1), window: WindowId(2), pane: PaneId(3), pid: 4 };
        assert_eq!(of("$1 @2 %3 4\n"), Some(made));
        for bad in ["", "$1 @2 %3\n", "$1 @2 %3 4 5\n", "%1 @2 %3 4\n", "$1 @2 %3 x\n"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
