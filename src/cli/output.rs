//! What every command prints with: two streams, exit codes, errors as text or JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::project::Problem;
use crate::terminal::{is_harmful, shown};

/// Exit codes of `kas` (`spec/protocol.md` §5). A task's own code passes through as it is.
pub mod code {
    /// It worked.
    pub const OK: u8 = 0;
    /// It did not.
    pub const FAILED: u8 = 1;
    /// The arguments make no sense.
    pub const USAGE: u8 = 2;
    /// What was named is not there.
    pub const NOT_FOUND: u8 = 3;
    /// A project file or the configuration is invalid.
    pub const INVALID: u8 = 4;
    /// No daemon answers.
    pub const UNREACHABLE: u8 = 5;
    /// It took too long.
    pub const TIMED_OUT: u8 = 6;
    /// Something else is in the way, or a limit is reached.
    pub const CONFLICT: u8 = 7;
    /// Not allowed.
    pub const NOT_PERMITTED: u8 = 8;
    /// tmux is demanded and there is no usable one.
    pub const NO_TMUX: u8 = 16;
    /// Another daemon holds the lock.
    pub const LOCKED: u8 = 17;
}

/// Where a command writes. Text may hold terminal colours; the streams of a process drop them where they are not wanted.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors and remarks.
    pub err: &'a mut dyn Write,
}

impl Output<'_> {
    /// Prints one line of JSON as the result.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{}", harmless(value))
    }

    /// Says what failed: on stderr, or with `json` as an error body (`spec/protocol.md` §2) on stdout. Returns `exit`.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn failure(&mut self, json: bool, error: &Failure<'_>, exit: u8) -> io::Result<u8> {
        if json {
            let Failure { code, message, details } = error;
            let error = json!({"code": code, "message": message, "details": details});
            self.json(&json!({"ok": false, "error": error}))?;
        } else {
            // It may quote names and paths.
            writeln!(self.err, "kas: {}", shown(&error.message))?;
        }
        Ok(exit)
    }
}

/// The JSON text of a value in one line that cannot write to a terminal: what JSON itself lets stand, such as C1 controls and marks that
/// turn the order of text around, is escaped.
#[must_use]
pub fn harmless(value: &Value) -> String {
    harmless_json(&value.to_string())
}

/// The same for JSON text of one line.
pub(super) fn harmless_json(text: &str) -> String {
    if !text.chars().any(is_harmful) {
        return text.to_owned();
    }
    // Outside of its strings JSON has no such character, and none of them is beyond the 16 bits of an escape.
    let escaped = |c: char| if is_harmful(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// The parts of an error body.
#[derive(Debug, Clone)]
pub struct Failure<'a> {
    /// A word of `spec/protocol.md` §2.
    pub code: &'a str,
    /// One line for people.
    pub message: String,
    /// An object with a `reason`, or an empty one.
    pub details: Value,
}

/// A problem of a file as it stands in `details.problems`.
#[must_use]
pub fn problem_json(problem: &Problem) -> Value {
    let Problem { file, line, column, path, message, hint, span: _, reason: _ } = problem;
    json!({"file": file, "line": line, "column": column, "path": path, "message": message, "hint": hint})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_on_a_terminal_is_only_json() {
        let value = json!({"a\u{9b}31m": "\u{1b}]0;t\u{7}\u{7f}\u{202e}é€😀\"\\\n"});
        let text = harmless(&value);
        assert!(!text.chars().any(is_harmful), "{text}");
        assert!(text.contains("é€😀"));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
