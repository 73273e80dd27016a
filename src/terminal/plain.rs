//! The text of a terminal's stream, without its escape sequences.

use anstream::adapter::StripBytes;

/// Strips escape sequences; keeps its state between chunks, so a sequence may be cut anywhere.
#[derive(Debug, Default)]
pub struct Plain(StripBytes);

impl Plain {
    /// A stripper at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the text of `bytes` to `out`. Carriage returns before a newline go too.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for part in self.0.strip_next(bytes) {
            out.extend(part.iter().filter(|&&b| b != b'\r'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_at_every_chunk_size() {
        let stream = "a\x1b[31mré\x1b[0md\r\n\x1b]0;t\x07b\u{1F600}".as_bytes();
        for size in 1..=stream.len() {
            let mut plain = Plain::new();
            let mut out = Vec::new();
            stream.chunks(size).for_each(|chunk| plain.feed(chunk, &mut out));
            assert_eq!(String::from_utf8_lossy(&out), "aréd\nb\u{1F600}", "chunks of {size}");
        }
    }
}
