//! tmux's own ids. Unique for the life of a server and never reused.

use std::fmt;

use nom::bytes::complete::tag;
use nom::character::complete::u32;
use nom::sequence::preceded;
use nom::{IResult, Parser};

macro_rules! tmux_id {
    ($(#[$doc:meta])* $name:ident, $sigil:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($sigil, "{}"), self.0)
            }
        }
    };
}

tmux_id! {
    /// A pane, written `%1`.
    PaneId, "%"
}
tmux_id! {
    /// A window, written `@2`.
    WindowId, "@"
}
tmux_id! {
    /// A session, written `$3`.
    SessionId, "$"
}

/// ```abnf
/// pane = "%" number
/// ```
pub(super) fn pane(input: &[u8]) -> IResult<&[u8], PaneId> {
    preceded(tag("%"), number).map(PaneId).parse(input)
}

/// ```abnf
/// window = "@" number
/// ```
pub(super) fn window(input: &[u8]) -> IResult<&[u8], WindowId> {
    preceded(tag("@"), number).map(WindowId).parse(input)
}

/// ```abnf
/// session = "$" number
/// ```
pub(super) fn session(input: &[u8]) -> IResult<&[u8], SessionId> {
    preceded(tag("$"), number).map(SessionId).parse(input)
}

/// At most 4 294 967 295.
///
/// ```abnf
/// number = 1*DIGIT
/// ```
pub(super) fn number(input: &[u8]) -> IResult<&[u8], u32> {
    u32(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_print() {
        assert_eq!(pane(b"%7 x"), Ok((&b" x"[..], PaneId(7))));
        assert_eq!(window(b"@0"), Ok((&b""[..], WindowId(0))));
        assert_eq!(session(SessionId(u32::MAX).to_string().as_bytes()), Ok((&b""[..], SessionId(u32::MAX))));
    }

    #[test]
    fn an_id_too_large_or_of_another_kind_is_refused() {
        for bad in [&b"%4294967296"[..], b"@1", b"%", b"1", b"%-1", b"%+1", b""] {
            assert!(pane(bad).is_err(), "{bad:?}");
        }
    }
}
