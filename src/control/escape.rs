//! The octal escaping of pane output: a backslash and exactly three octal digits for 0x00–0x1f and the backslash.

use bytes::BytesMut;
use memchr::memchr;

/// How far to look byte by byte before searching.
const NEAR_BYTES: usize = 8;

/// Appends the decoded form of `value` to `out`.
///
/// Total and exact for everything tmux writes. A backslash that does not begin a well-formed escape stands for itself.
///
/// ```abnf
/// value = *( %x20-5B / %x5D-FF / escape )
/// ```
pub fn value(value: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.resize(start + value.len(), 0);
    let len = decode(value, &mut out[start..]);
    out.truncate(start + len);
}

/// Decodes into a buffer that is at least as long; answers how much of it is used.
fn decode(mut rest: &[u8], out: &mut [u8]) -> usize {
    let mut len = 0;
    while let Some(&first) = rest.first() {
        if let Some(byte) = escape(rest) {
            out[len] = byte;
            rest = &rest[4..];
            len += 1;
            continue;
        }
        let plain = if first == b'\\' { 1 } else { plain_run(rest) };
        out[len..len + plain].copy_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        len += plain;
    }
    len
}

/// How many bytes come before the next backslash. Coloured text has one every few bytes, where starting a search costs more than looking.
fn plain_run(bytes: &[u8]) -> usize {
    let near = &bytes[..bytes.len().min(NEAR_BYTES)];
    match near.iter().position(|&b| b == b'\\') {
        Some(at) => at,
        None => near.len() + memchr(b'\\', &bytes[near.len()..]).unwrap_or(bytes.len() - near.len()),
    }
}

/// The byte of the escape `input` begins with.
///
/// ```abnf
/// escape = "\" %x30-33 %x30-37 %x30-37
/// ```
fn escape(input: &[u8]) -> Option<u8> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = *input else { return None };
    Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
}

/// `value` without an escape cut short at its end, as in a line that tmux did not live to finish.
#[must_use]
pub fn whole_escapes(value: &[u8]) -> &[u8] {
    let tail = &value[value.len().saturating_sub(3)..];
    match memchr::memrchr(b'\\', tail) {
        Some(at) => &value[..value.len() - (tail.len() - at)],
        None => value,
    }
}

/// Encodes bytes as tmux does.
#[must_use]
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            0..=0x1f | b'\\' => {
                out.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)])
            }
            0x20..=0x5b | 0x5d..=0xff => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::from(&b"before"[..]);
        value(text, &mut out);
        out.strip_prefix(b"before").unwrap().to_vec()
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), all);
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        for text in [&b"\\"[..], b"\\0", b"\\01", b"\\018", b"\\400", b"\\777", b"\\x41", b"a\\", b"\\\\"] {
            assert_eq!(decoded(text), text);
        }
        assert_eq!(decoded(b"\\\\101"), b"\\A");
        assert_eq!(decoded(b"\\377\\200\\077"), b"\xff\x80?");
        assert_eq!(decoded(b"\\015\\012x\\134"), b"\r\nx\\");
    }

    #[test]
    fn a_cut_escape_is_left_out() {
        for (cut, whole) in [
            (&b"ab\\01"[..], &b"ab"[..]),
            (b"ab\\0", b"ab"),
            (b"ab\\", b"ab"),
            (b"\\015", b"\\015"),
            (b"\\015\\01", b"\\015"),
            (b"ab", b"ab"),
            (b"", b""),
        ] {
            assert_eq!(whole_escapes(cut), whole);
        }
    }
}
