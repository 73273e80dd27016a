//! Replies: everything between `%begin` and the `%end` or `%error` with the very same numbers.

use bytes::{BufMut, Bytes, BytesMut};
use nom::bytes::complete::tag;
use nom::character::complete::u64;
use nom::combinator::{all_consuming, consumed};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use super::id::number;

/// What is kept of one reply, bytes. kas asks for ids and numbers, 40 bytes a pane; the rest of a longer reply is counted and dropped.
pub const BLOCK_LIMIT_BYTES: usize = 1024 * 1024;

/// What names one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Unix seconds at which the command began.
    pub time: u64,
    /// Counts the server's queue items; grows, with holes.
    pub number: u64,
    /// Bit 0: the command came from this client's own input.
    pub flags: u32,
}

impl Guard {
    /// Whether the block answers a line this client has sent, not a hook, a key binding or the command it was started with.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// A finished block.
///
/// ```abnf
/// block = begin *( inner / body eol ) ( end / error )
/// inner = ( pause / continue / message ) eol
/// body = *octet
/// octet = %x00-09 / %x0B-FF
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The numbers around it.
    pub guard: Guard,
    /// `%end` (true) or `%error`.
    pub ok: bool,
    /// The lines between, each ended by LF, at most [`BLOCK_LIMIT_BYTES`] of them.
    pub body: Bytes,
    /// How many bytes beyond the limits on line and block were dropped.
    pub dropped: u64,
}

impl Block {
    /// The lines of the body.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let body = self.body.strip_suffix(b"\n");
        body.into_iter().flat_map(|lines| lines.split(|&b| b == b'\n'))
    }
}

/// A block whose end has not been seen.
#[derive(Debug, Clone)]
pub struct Open {
    guard: Guard,
    raw: Vec<u8>,
    body: BytesMut,
    dropped: u64,
}

impl Open {
    /// Opens a block if `line` is a `%begin`.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        let (_, (raw, guard)) = begin(line).ok()?;
        Some(Self { guard, raw: raw.to_vec(), body: BytesMut::new(), dropped: 0 })
    }

    /// What names the block.
    #[must_use]
    pub const fn guard(&self) -> Guard {
        self.guard
    }

    /// Whether `line` ends this block, and if so whether with success. Any other `%end` is body: commands can print it.
    #[must_use]
    pub fn ends(&self, line: &[u8]) -> Option<bool> {
        let is_own = |(_, (raw, _)): (&[u8], (&[u8], Guard))| raw == self.raw;
        if end(line).is_ok_and(is_own) {
            Some(true)
        } else if error(line).is_ok_and(is_own) {
            Some(false)
        } else {
            None
        }
    }

    /// Adds a line of body, `dropped` bytes of which are already gone.
    pub fn push(&mut self, line: &[u8], dropped: u64) {
        let room = BLOCK_LIMIT_BYTES.saturating_sub(self.body.len() + 1);
        let kept = line.len().min(room);
        self.dropped += dropped + (line.len() - kept) as u64;
        if room > 0 {
            self.body.put_slice(&line[..kept]);
            self.body.put_u8(b'\n');
        } else {
            self.dropped += 1;
        }
    }

    /// The block, ended.
    #[must_use]
    pub fn close(self, ok: bool) -> Block {
        Block { guard: self.guard, ok, body: self.body.freeze(), dropped: self.dropped }
    }
}

type Guarded<'a> = IResult<&'a [u8], (&'a [u8], Guard)>;

/// ```abnf
/// begin = "%begin" SP guard eol
/// ```
fn begin(line: &[u8]) -> Guarded<'_> {
    all_consuming(preceded(tag("%begin "), consumed(guard))).parse(line)
}

/// ```abnf
/// end = "%end" SP guard eol
/// ```
fn end(line: &[u8]) -> Guarded<'_> {
    all_consuming(preceded(tag("%end "), consumed(guard))).parse(line)
}

/// ```abnf
/// error = "%error" SP guard eol
/// ```
fn error(line: &[u8]) -> Guarded<'_> {
    all_consuming(preceded(tag("%error "), consumed(guard))).parse(line)
}

/// Time, number, flags; the two guards of a block are the same bytes.
///
/// ```abnf
/// guard = count SP count SP number
/// ```
fn guard(input: &[u8]) -> IResult<&[u8], Guard> {
    let whole = separated_pair(separated_pair(count, tag(" "), count), tag(" "), number);
    whole.map(|((time, number), flags)| Guard { time, number, flags }).parse(input)
}

/// At most 2^64 − 1.
///
/// ```abnf
/// count = 1*DIGIT
/// ```
pub(super) fn count(input: &[u8]) -> IResult<&[u8], u64> {
    u64(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_triple_ends_a_block() {
        let open = Open::from_line(b"%begin 100 7 1").unwrap();
        assert_eq!(open.guard(), Guard { time: 100, number: 7, flags: 1 });
        assert_eq!(open.ends(b"%end 100 7 1"), Some(true));
        assert_eq!(open.ends(b"%error 100 7 1"), Some(false));
        for body in
            ["%end 100 7 0", "%end 100 8 1", "%end 100 7 1 ", "%end 100 07 1", "%end", "x%end 100 7 1"]
        {
            assert_eq!(open.ends(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn what_is_no_guard_opens_nothing() {
        for line in ["%begin", "%begin 1 2", "%begin 1 2 3 4", "%begin a 2 3", "%begin  1 2 3", "%end 1 2 3"]
        {
            assert!(Open::from_line(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_body_is_its_lines() {
        let mut open = Open::from_line(b"%begin 1 2 1").unwrap();
        assert_eq!(Open::from_line(b"%begin 1 2 1").unwrap().close(true).lines().count(), 0);
        open.push(b"a", 0);
        open.push(b"", 0);
        let block = open.close(true);
        assert_eq!(block.lines().collect::<Vec<_>>(), [&b"a"[..], b""]);
    }

    #[test]
    fn a_long_body_is_cut() {
        let mut open = Open::from_line(b"%begin 1 2 1").unwrap();
        let line = [b'x'; 999];
        for _ in 0..2000 {
            open.push(&line, 0);
        }
        let block = open.close(true);
        assert!(block.body.len() <= BLOCK_LIMIT_BYTES);
        assert!(block.body.len() as u64 + block.dropped >= 2_000_000 - 1);
    }
}
