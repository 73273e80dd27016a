//! The private OSC by which a shim tells, inside a terminal's stream, which offset the next byte has.
//!
//! `ESC ] 7777 ; kas ; NONCE ; OFFSET BEL`, and with `; END` after the offset when the whole output has gone by. Terminals ignore it.
//! Where the stream before it is in the middle of something, `ESC \ ESC \` comes first and belongs to the mark: it ends any
//! unfinished sequence, so that the mark is seen as one.

/// Ends whatever is unfinished, also a DCS that has just seen an ESC.
const TERMINATOR: &[u8] = b"\x1b\\\x1b\\";
const START: &[u8] = b"\x1b]7777;kas;";
const END: &[u8] = b";END";

/// A place in a stream: the byte after the mark has this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset of the byte that follows.
    pub offset: u64,
    /// Whether nothing follows: `offset` is the length of the whole output.
    pub end: bool,
}

impl Mark {
    /// The longest a mark with a nonce of 32 characters can be.
    pub const MAX_LEN: usize = TERMINATOR.len() + START.len() + 32 + 1 + 20 + END.len() + 1;

    /// The mark's bytes, appended to `out`. `unfinished`: the stream before it is not in the ground state.
    pub fn write(self, nonce: &str, unfinished: bool, out: &mut Vec<u8>) {
        use std::io::Write as _;
        if unfinished {
            out.extend_from_slice(TERMINATOR);
        }
        out.extend_from_slice(START);
        out.extend_from_slice(nonce.as_bytes());
        let end = if self.end { ";END" } else { "" };
        write!(out, ";{}{end}\x07", self.offset).expect("a Vec takes every write");
    }
}

/// A part of a stream with marks in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The command's own bytes.
    Bytes(&'a [u8]),
    /// A mark that was cut out.
    Mark(Mark),
}

/// Cuts one run's marks out of its stream, however the stream is chopped.
///
/// What may be the beginning of a mark is held back until it is known, at most [`Mark::MAX_LEN`] bytes.
#[derive(Debug)]
pub struct Splitter {
    /// `ESC ] 7777 ; kas ; NONCE ;`
    head: Vec<u8>,
    held: Vec<u8>,
}

/// What the bytes at an ESC are.
enum Found {
    Mark(Mark, usize),
    Partial,
    Other,
}

impl Splitter {
    /// A splitter for the run with this nonce.
    #[must_use]
    pub fn new(nonce: &str) -> Self {
        let head = [START, nonce.as_bytes(), b";"].concat();
        Self { head, held: Vec::new() }
    }

    /// Takes the next bytes of the stream and gives each part of it in order to `sink`.
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        if self.held.is_empty() {
            let kept = self.split(bytes, &mut sink);
            self.held.extend_from_slice(&bytes[kept..]);
            return;
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        let kept = self.split(&joined, &mut sink);
        joined.drain(..kept);
        self.held = joined;
    }

    /// Gives back what was held, when nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Splits as far as is certain and returns how far that was.
    fn split(&self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> usize {
        let mut from = 0;
        let mut at = 0;
        while let Some(escape) = memchr::memchr(0x1b, &bytes[at..]).map(|i| at + i) {
            match self.look(&bytes[escape..]) {
                Found::Mark(mark, len) => {
                    emit(&bytes[from..escape], sink);
                    sink(Piece::Mark(mark));
                    from = escape + len;
                    at = from;
                }
                Found::Partial => {
                    emit(&bytes[from..escape], sink);
                    return escape;
                }
                Found::Other => at = escape + 1,
            }
        }
        emit(&bytes[from..], sink);
        bytes.len()
    }

    fn look(&self, bytes: &[u8]) -> Found {
        let terminated = bytes.strip_prefix(TERMINATOR);
        let body = terminated.unwrap_or(bytes);
        if let Some(rest) = body.strip_prefix(self.head.as_slice()) {
            return tail(rest, bytes.len() - rest.len());
        }
        let partial = |whole: &[u8]| bytes.len() < whole.len() && whole.starts_with(bytes);
        let both = [TERMINATOR, self.head.as_slice()].concat();
        if partial(&self.head) || partial(&both) { Found::Partial } else { Found::Other }
    }
}

fn emit(bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
    if !bytes.is_empty() {
        sink(Piece::Bytes(bytes));
    }
}

/// Reads `OFFSET BEL` or `OFFSET ; END BEL`; `before` bytes of the mark came already.
fn tail(rest: &[u8], before: usize) -> Found {
    let window = &rest[..rest.len().min(20 + END.len() + 1)];
    let Some(bell) = memchr::memchr(0x07, window) else {
        return if rest.len() > 20 + END.len() { Found::Other } else { Found::Partial };
    };
    let text = &rest[..bell];
    let (digits, end) = text.strip_suffix(END).map_or((text, false), |digits| (digits, true));
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(offset) => Found::Mark(Mark { offset, end }, before + bell + 1),
        None => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0123456789abcdef0123456789abcdef";

    fn mark(offset: u64, end: bool, unfinished: bool) -> Vec<u8> {
        let mut out = Vec::new();
        Mark { offset, end }.write(NONCE, unfinished, &mut out);
        out
    }

    /// Splits `stream` in chunks of `size`; returns the bytes, the marks with the count of bytes before them.
    fn split(stream: &[u8], size: usize) -> (Vec<u8>, Vec<(usize, Mark)>) {
        let mut splitter = Splitter::new(NONCE);
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        for chunk in stream.chunks(size) {
            splitter.feed(chunk, |piece| match piece {
                Piece::Bytes(part) => bytes.extend_from_slice(part),
                Piece::Mark(mark) => marks.push((bytes.len(), mark)),
            });
        }
        bytes.extend(splitter.finish());
        (bytes, marks)
    }

    #[test]
    fn marks_are_cut_out_at_every_chunk_size() {
        let stream = [
            mark(0, false, false).as_slice(),
            b"one\x1b[31mtwo\x1b",
            mark(12, false, true).as_slice(),
            b"\x1b\\three\x1b]7777;kas;ffff;1\x07",
            mark(u64::MAX, true, true).as_slice(),
        ]
        .concat();
        let bytes = b"one\x1b[31mtwo\x1b\x1b\\three\x1b]7777;kas;ffff;1\x07";
        let marks = vec![
            (0, Mark { offset: 0, end: false }),
            (12, Mark { offset: 12, end: false }),
            (bytes.len(), Mark { offset: u64::MAX, end: true }),
        ];
        for size in 1..=stream.len() {
            assert_eq!(split(&stream, size), (bytes.to_vec(), marks.clone()), "chunks of {size}");
        }
    }

    #[test]
    fn a_mark_is_never_longer_than_said() {
        assert_eq!(mark(u64::MAX, true, true).len(), Mark::MAX_LEN);
    }

    #[test]
    fn what_only_looks_like_a_mark_stays() {
        for stream in [
            &b"\x1b]7777;kas;"[..],
            b"\x1b\\\x1b\\\x1b\\",
            b"\x1b]7777;kas;0123456789abcdef0123456789abcdef;x\x07",
        ] {
            for size in 1..=stream.len() {
                assert_eq!(split(stream, size), (stream.to_vec(), vec![]));
            }
        }
    }
}
