//! Bytes that arrive in pieces, as text.

/// UTF-8 cut anywhere; what is not UTF-8 becomes U+FFFD, as `String::from_utf8_lossy` has it.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character, at most 3 bytes.
    rest: Vec<u8>,
}

impl Utf8 {
    /// Appends the text of `bytes` to `out`; the beginning of a character at their end waits for the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut String) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let cut = all.len() - unfinished(&all);
        out.push_str(&String::from_utf8_lossy(&all[..cut]));
        self.rest = all.split_off(cut);
    }

    /// Appends what is left at the end of the stream.
    pub(super) fn end(&mut self, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.rest)));
    }
}

/// How many bytes at the end begin a character that more bytes could complete.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let starts = (1..=tail.len()).find(|n| tail[tail.len() - n] & 0xC0 != 0x80);
    let begun = starts.map(|n| &tail[tail.len() - n..]).unwrap_or_default();
    match std::str::from_utf8(begun) {
        Err(error) if error.error_len().is_none() => begun.len(),
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same_text() {
        let stream = b"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xe2\x82z\xc3";
        for size in 1..=stream.len() {
            let (mut utf8, mut out) = (Utf8::default(), String::new());
            stream.chunks(size).for_each(|chunk| utf8.feed(chunk, &mut out));
            utf8.end(&mut out);
            assert_eq!(out, String::from_utf8_lossy(stream), "pieces of {size}");
        }
    }
}
