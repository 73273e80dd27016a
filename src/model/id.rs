//! Names of things. Each type can hold only what the contract allows.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
    /// What would have been right, in words.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), expected }
    }
}

/// One run of a command: a ULID. The order of ids is launch order; the time in one is only how it was made, and may be ahead of the clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Ulid);

impl InstanceId {
    /// The id whose time part is `now_ms` (epoch milliseconds) and whose random part is `random`.
    #[must_use]
    pub const fn from_parts(now_ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(now_ms, random))
    }

    /// The id as a number, in the same order.
    #[must_use]
    pub const fn as_number(self) -> u128 {
        self.0.0
    }

    /// The id that [`InstanceId::as_number`] gives back.
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self(Ulid(number))
    }

    /// The last `n` characters in lower case, as used in tmux window names. `n` is at most 26.
    #[must_use]
    pub fn tail(&self, n: usize) -> String {
        let text = self.0.to_string().to_ascii_lowercase();
        text[text.len() - n.min(text.len())..].to_owned()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

impl FromStr for InstanceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let expected = "an instance id (26 characters, a ULID)";
        Ulid::from_string(text).map(Self).map_err(|_| InvalidId::new(text, expected))
    }
}

/// A project's id: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(Box<str>);

impl ProjectId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a slug of any text: lower case, every run of other characters one `-`. `None` when nothing is left.
    #[must_use]
    pub fn slug(text: &str) -> Option<Self> {
        let mut slug = String::new();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
            if slug.len() == 63 {
                break;
            }
        }
        slug.trim_end_matches('-').parse().ok()
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let head = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if head && rest && text.len() <= 63 {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(text, "a project id (a-z, 0-9 and '-', 1 to 63 characters, not '-' first)"))
        }
    }
}

/// A named task's key: `[a-z][a-z0-9_-]{0,30}[a-z0-9]`, and not a reserved word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName(Box<str>);

impl TaskName {
    /// Words that cannot be task names (`seeds/004`, "Task key").
    pub const RESERVED: [&'static str; 3] = ["adhoc", "all", "new"];

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TaskName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if Self::RESERVED.contains(&text) {
            return Err(InvalidId::new(text, "a task name ('adhoc', 'all' and 'new' are reserved)"));
        }
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let head = text.starts_with(|c: char| c.is_ascii_lowercase());
        let tail = text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if head && tail && (2..=32).contains(&text.len()) && text.bytes().all(inner) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(
                text,
                "a task name (2 to 32 of a-z, 0-9, '_' and '-', a letter first, no '_' or '-' last)",
            ))
        }
    }
}

/// A position in an instance's output: byte 0 is the first byte the command wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The position `len` bytes later.
    #[must_use]
    pub const fn after(self, len: usize) -> Self {
        Self(self.0 + len as u64)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_names_follow_the_pattern() {
        for good in ["ab", "test", "a-1", "db_migrate", &"a".repeat(32)] {
            assert!(good.parse::<TaskName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "A1", "1a", "a-", "a_", "new", "all", "adhoc", "a b", "é1", &"a".repeat(33)] {
            assert!(bad.parse::<TaskName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn any_directory_name_becomes_a_slug_or_nothing() {
        let slug = |text: &str| ProjectId::slug(text).map(|id| id.to_string());
        assert_eq!(slug("Music Site").as_deref(), Some("music-site"));
        assert_eq!(slug("x#(touch PWNED)").as_deref(), Some("x-touch-pwned"));
        assert_eq!(slug("#S").as_deref(), Some("s"));
        assert_eq!(slug("a\nb").as_deref(), Some("a-b"));
        assert_eq!(slug("-t").as_deref(), Some("t"));
        assert_eq!(slug(";"), None);
        assert_eq!(slug(&"é".repeat(5)), None);
        assert_eq!(slug(&"ab".repeat(80)).map(|s| s.len()), Some(63));
    }

    #[test]
    fn instance_ids_round_trip_and_sort_by_time() {
        let early = InstanceId::from_parts(1, u128::MAX);
        let late = InstanceId::from_parts(2, 0);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(late.tail(6).len(), 6);
        assert!("nonsense".parse::<InstanceId>().is_err());
    }
}
