//! Cuts the stream into lines before anything looks inside them, in bounded memory.

use memchr::memchr;

/// What is kept of one line, bytes. Pane output needs at most 10 931; the rest of a longer line is counted and dropped.
pub const LINE_LIMIT_BYTES: usize = 256 * 1024;

/// What `tmux -CC` writes first.
const DCS: &[u8] = b"\x1bP1000p";

/// What `tmux -CC` writes last.
const ST: &[u8] = b"\x1b\\";

/// One line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line, at most [`LINE_LIMIT_BYTES`] of it.
    pub bytes: &'a [u8],
    /// How many bytes beyond the limit were dropped.
    pub dropped: u64,
    /// Whether the stream ended before the line did.
    pub cut: bool,
}

/// The stream as lines. A line that lies whole inside one piece of input is not copied.
///
/// `last` and `ending` are what remains when tmux has gone; [`super::Client`] looks for the exit in it.
///
/// ```abnf
/// stream = [ dcs ] *line [ last ]
/// dcs = ESC "P1000p"
/// st = ESC "\"
/// eol = [ CR ] LF
/// last = *octet [ exit ] [ eol ] [ st ]
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stream {
    partial: Vec<u8>,
    dropped: u64,
    spent: bool,
    wrapping: Wrapping,
}

impl Stream {
    /// The next whole line, taking what it needs from the front of `input`. `None` when more input is needed.
    pub fn next_line<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Line<'a>> {
        self.forget_spent();
        let Some(at) = memchr(b'\n', input) else {
            self.keep(input);
            *input = &[];
            return None;
        };
        let head = &input[..at];
        *input = &input[at + 1..];
        if self.partial.is_empty() && head.len() <= LINE_LIMIT_BYTES {
            return Some(Line { bytes: self.wrapping.remove(head), dropped: 0, cut: false });
        }
        self.keep(head);
        self.spent = true;
        Some(Line { bytes: self.wrapping.remove(&self.partial), dropped: self.dropped, cut: false })
    }

    /// What was left unfinished when the stream ended, if anything.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.forget_spent();
        self.spent = true;
        let bytes = self.wrapping.remove_last(&self.partial);
        (!bytes.is_empty()).then_some(Line { bytes, dropped: self.dropped, cut: true })
    }

    fn forget_spent(&mut self) {
        if self.spent {
            self.partial.clear();
            self.dropped = 0;
            self.spent = false;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT_BYTES - self.partial.len();
        let kept = bytes.len().min(room);
        self.partial.extend_from_slice(&bytes[..kept]);
        self.dropped += (bytes.len() - kept) as u64;
    }
}

/// What `-CC` adds around lines: a DCS before the first, a CR at the end of each, an ST after the last.
#[derive(Debug, Clone, Default)]
struct Wrapping {
    begun: bool,
    on_tty: bool,
}

impl Wrapping {
    /// Without the DCS, only a bare LF ends a line and a CR belongs to it.
    fn remove<'a>(&mut self, mut line: &'a [u8]) -> &'a [u8] {
        if !self.begun {
            self.begun = true;
            if let Some(rest) = line.strip_prefix(DCS) {
                self.on_tty = true;
                line = rest;
            }
        }
        if self.on_tty { line.strip_suffix(b"\r").unwrap_or(line) } else { line }
    }

    fn remove_last<'a>(&mut self, tail: &'a [u8]) -> &'a [u8] {
        let line = self.remove(tail);
        if self.on_tty { line.strip_suffix(ST).unwrap_or(line) } else { line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `input` given in pieces of `size`, and the tail.
    fn lines(input: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let mut stream = Stream::default();
        let mut seen = Vec::new();
        for mut piece in input.chunks(size) {
            while let Some(line) = stream.next_line(&mut piece) {
                seen.push(line.bytes.to_vec());
            }
        }
        (seen, stream.finish().map(|line| line.bytes.to_vec()))
    }

    fn check(input: &[u8], expect: &[&[u8]], tail: Option<&[u8]>) {
        for size in 1..=input.len() {
            let (seen, rest) = lines(input, size);
            assert_eq!(seen, expect, "in pieces of {size}");
            assert_eq!(rest.as_deref(), tail, "in pieces of {size}");
        }
    }

    #[test]
    fn lines_end_at_lf_and_a_cr_belongs_to_the_line() {
        check(b"a\r\n\nb\x1b\\\nc", &[b"a\r", b"", b"b\x1b\\"], Some(b"c"));
        check(b"\x1b\\", &[], Some(b"\x1b\\"));
    }

    #[test]
    fn on_a_tty_one_cr_and_the_wrapping_go() {
        check(b"\x1bP1000p%begin\r\na\r\r\nb\n%exit\r\n\x1b\\", &[b"%begin", b"a\r", b"b", b"%exit"], None);
        check(b"\x1bP1000pab\x1b\\", &[], Some(b"ab"));
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_whole() {
        let mut input = vec![b'x'; LINE_LIMIT_BYTES + 10];
        input.extend_from_slice(b"\nnext\n");
        for size in [1, 4096, input.len()] {
            let mut stream = Stream::default();
            let mut seen = Vec::new();
            for mut piece in input.chunks(size) {
                while let Some(line) = stream.next_line(&mut piece) {
                    seen.push((line.bytes.len(), line.dropped));
                }
            }
            assert_eq!(seen, [(LINE_LIMIT_BYTES, 10), (4, 0)]);
        }
    }
}
