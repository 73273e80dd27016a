//! One thing that is wrong with a file.

use std::fmt;
use std::ops::Range;

/// The word for a registered directory to which a link leads now, so that another one may be read and run in its name.
pub const PROJECT_MOVED: &str = "project_moved";

/// A problem that is not about the text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The way to the registered directory is a link now.
    ProjectMoved,
}

impl Reason {
    /// The stable word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ProjectMoved => PROJECT_MOVED,
        }
    }
}

/// What is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as [`super::Source::name`] has it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The bytes of the file it is about.
    pub span: Range<usize>,
    /// The place in the document as a JSON pointer (RFC 6901); empty for the whole of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do, when that is known.
    pub hint: Option<Box<str>>,
    /// What programs must tell apart; problems of a file's text have none.
    pub reason: Option<Reason>,
}

impl Problem {
    /// The same with this advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// The same with this advice, if there is any.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(String::into_boxed_str).or(self.hint);
        self
    }

    /// The same at this place of the document.
    #[must_use]
    pub fn path(mut self, segments: &[String]) -> Self {
        self.path = pointer(segments);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// The JSON pointer of a path.
fn pointer(segments: &[String]) -> String {
    segments.iter().map(|it| format!("/{}", it.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The path of a JSON pointer.
pub(super) fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|it| it.replace("~1", "/").replace("~0", "~")).collect()
}

/// Text from a file as it can stand in a message: at most 40 characters, control characters escaped.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(escape).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// Escapes what would move the cursor, and leaves quotes alone.
fn escape(c: char) -> String {
    if matches!(c, '"' | '\'' | '\\') { c.to_string() } else { c.escape_debug().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_round_trip() {
        let path = ["tasks".to_owned(), "a/b~c".to_owned()];
        assert_eq!(pointer(&path), "/tasks/a~1b~0c");
        assert_eq!(segments(&pointer(&path)), path);
        assert!(segments("").is_empty());
    }

    #[test]
    fn shown_text_is_short_and_harmless() {
        assert_eq!(shown("it's \"x\""), "it's \"x\"");
        assert_eq!(shown("a\x1b[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!(shown(&"é".repeat(41)), format!("{}…", "é".repeat(40)));
    }
}
