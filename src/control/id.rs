//! tmux's own ids. Unique for the life of a server and never reused.

use std::fmt;
use std::str::FromStr;

use nom::bytes::complete::tag;
use nom::character::complete::u32;
use nom::combinator::all_consuming;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// A text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tmux id ({sigil} and a number below 2^32)")]
pub struct NotAnId {
    /// What the id would begin with.
    pub sigil: &'static str,
}

macro_rules! tmux_id {
    ($(#[$doc:meta])* $name:ident, $sigil:literal, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($sigil, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let whole = all_consuming($rule).parse(text.as_bytes());
                whole.map(|(_, id)| id).map_err(|_| NotAnId { sigil: $sigil })
            }
        }
    };
}

tmux_id! {
    /// A pane, written `%1`.
    PaneId, "%", pane
}
tmux_id! {
    /// A window, written `@2`.
    WindowId, "@", window
}
tmux_id! {
    /// A session, written `$3`.
    SessionId, "$", session
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
    fn a_text_is_an_id_or_not() {
        assert_eq!("@12".parse(), Ok(WindowId(12)));
        assert_eq!("@12 ".parse::<WindowId>(), Err(NotAnId { sigil: "@" }));
        assert_eq!("%1".parse::<SessionId>(), Err(NotAnId { sigil: "$" }));
    }

    #[test]
    fn an_id_too_large_or_of_another_kind_is_refused() {
        for bad in [&b"%4294967296"[..], b"@1", b"%", b"1", b"%-1", b"%+1", b""] {
            assert!(pane(bad).is_err(), "{bad:?}");
        }
    }
}
