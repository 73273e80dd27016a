//! A text file as it was read, and positions in it.

use std::ops::Range;

use super::Problem;

/// The most bytes of a project or configuration file that are looked at.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// A file's bytes and the name to show for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as people should see it.
    pub name: String,
    /// What is in it.
    pub text: Vec<u8>,
}

impl Source {
    /// A source called `name`. A byte order mark is not part of the text.
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        let mut text = text.into();
        if text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        Self { name: name.into(), text }
    }

    /// The text, if it is UTF-8 of a bearable size. Offsets in it are offsets in the file.
    ///
    /// # Errors
    /// One problem: too large, or the place of the first byte that neither YAML nor TOML allows, or that is not UTF-8.
    pub fn text(&self) -> Result<&str, Problem> {
        if self.text.len() > MAX_SOURCE_BYTES {
            let message = format!("the file is larger than {} KiB", MAX_SOURCE_BYTES / 1024);
            return Err(self.problem(0..0, message).hint("move long scripts into files of their own"));
        }
        if let Some(at) = self.text.iter().position(|&byte| is_control(byte)) {
            let message = format!("a control character (0x{:02x}) in the text", self.text[at]);
            let hint = "remove it, or write it as an escape in double quotes";
            return Err(self.problem(at..at + 1, message).hint(hint));
        }
        std::str::from_utf8(&self.text).map_err(|error| {
            let at = error.valid_up_to();
            self.problem(at..at + 1, "the text is not valid UTF-8").hint("save the file as UTF-8")
        })
    }

    /// A problem at these bytes of this file.
    pub fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let (line, column) = self.position(start);
        Problem {
            file: self.name.clone(),
            line,
            column,
            span: start..end,
            path: String::new(),
            message: message.into(),
            hint: None,
            reason: None,
        }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let before = &self.text[..offset.min(self.text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (number(line), number(column))
    }
}

/// Whether the byte is a control character other than tab and line ends.
const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("f", "ab\nçé x\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 3));
        assert_eq!(source.position(3), (2, 1));
        assert_eq!(source.position(8), (2, 4));
        assert_eq!(source.position(1000), (3, 1));
    }

    #[test]
    fn refuses_large_and_broken_text() {
        assert!(Source::new("f", vec![b'a'; MAX_SOURCE_BYTES]).text().is_ok());
        assert!(Source::new("f", vec![b'a'; MAX_SOURCE_BYTES + 1]).text().is_err());
        let problem = Source::new("f", b"a\nb\xff".to_vec()).text().unwrap_err();
        assert_eq!((problem.line, problem.column), (2, 2));
    }
}
