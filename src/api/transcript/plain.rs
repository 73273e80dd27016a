//! The text of a terminal's stream.
use anstream::adapter::StripBytes;
/// Strips escape sequences.
#[derive(Debug, Default)]
pub(super) struct Plain(StripBytes);
impl Plain {
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for part in self.0.strip_next(bytes) {
            out.extend(part.iter().filter(|&&b| b != b'\r'));
        }
    }
}
