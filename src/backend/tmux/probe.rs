//! Whether there is a tmux, and which.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::oneshot::{self, Failure};
use super::settings::Settings;

/// How long `tmux -V` may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// tmux's version, as `3.3a`, `next-3.8` or `3.5-rc2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    is_next: bool,
    major: u16,
    minor: u16,
    letter: Option<char>,
    candidate: Option<u8>,
}

/// Not a version of tmux that can be compared with another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of tmux that can be compared")]
pub struct NoVersion(String);

/// What a look for tmux found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// No `tmux` on `PATH`.
    Missing,
    /// There is something, and it cannot be used.
    Unusable {
        /// Why.
        why: String,
    },
    /// A tmux that can be used.
    Found {
        /// Which.
        version: Version,
    },
}

impl Version {
    /// The oldest that is used: `-f` for clients and windows of their own size (`seeds/004`, "Backend resolution").
    pub const OLDEST: (u16, u16) = (3, 2);

    /// Whether it is this release or a later one.
    #[must_use]
    pub const fn at_least(self, major: u16, minor: u16) -> bool {
        self.major > major || self.major == major && self.minor >= minor
    }

    /// Whether a pane may be kept after its command: below 3.3 that kills the server when output is queued.
    #[must_use]
    pub const fn can_keep_panes(self) -> bool {
        self.at_least(3, 3)
    }

    /// Whether the server dies at the next new window when `window-size manual` is set globally (3.3 to 3.6).
    #[must_use]
    pub const fn dies_of_manual_size(self) -> bool {
        self.at_least(3, 3) && !self.at_least(3, 7)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = if self.is_next { "next-" } else { "" };
        write!(f, "{next}{}.{}", self.major, self.minor)?;
        self.letter.iter().try_for_each(|letter| write!(f, "{letter}"))?;
        self.candidate.iter().try_for_each(|number| write!(f, "-rc{number}"))
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        parse(text).ok_or_else(|| NoVersion(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Version> {
    let (is_next, rest) = text.strip_prefix("next-").map_or((false, text), |rest| (true, rest));
    let (rest, candidate) = match rest.split_once("-rc") {
        Some((rest, "")) => (rest, Some(1)),
        Some((rest, number)) => (rest, Some(number.parse().ok()?)),
        None => (rest, None),
    };
    let (major, rest) = rest.split_once('.')?;
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let mut letters = rest[digits.len()..].chars();
    let letter = letters.next();
    letters.next().is_none().then_some(Version {
        is_next,
        major: major.parse().ok()?,
        minor: digits.parse().ok()?,
        letter,
        candidate,
    })
}

impl Probe {
    /// The version, of a tmux that can be used.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::Found { version } => Some(*version),
            Self::Missing | Self::Unusable { .. } => None,
        }
    }
}

/// Looks for tmux and asks it for its version, for at most 2 s.
pub async fn probe(settings: &Settings) -> Probe {
    let Some(exe) = settings.exe() else { return Probe::Missing };
    let unusable = |why: String| Probe::Unusable { why: format!("{} {why}", exe.display()) };
    match oneshot::version(settings, DEADLINE).await {
        Ok(said) => understood(&said).unwrap_or_else(unusable),
        Err(Failure::Hangs(deadline)) => unusable(format!("did not answer within {} s", deadline.as_secs())),
        Err(why) => unusable(format!("does not tell its version: {why}")),
    }
}

/// What `tmux -V` printed, judged; the error continues a sentence that begins with the program.
fn understood(said: &[u8]) -> Result<Probe, String> {
    let line = String::from_utf8_lossy(said.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
    let shown = || line.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
    let version: Option<Version> = line.strip_prefix("tmux ").and_then(|text| text.trim_end().parse().ok());
    let Some(version) = version else { return Err(format!("says {:?}, which is no version", shown())) };
    let (major, minor) = Version::OLDEST;
    if version.at_least(major, minor) {
        Ok(Probe::Found { version })
    } else {
        Err(format!("is tmux {version}, and {major}.{minor} is the oldest that can be used"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_print_as_they_were_read() {
        for text in ["3.2", "3.2a", "3.3a", "3.4", "3.7c", "next-3.8", "3.5-rc2", "10.0"] {
            assert_eq!(text.parse::<Version>().map(|v| v.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("3.5-rc".parse::<Version>().unwrap().to_string(), "3.5-rc1");
    }

    #[test]
    fn versions_are_compared_by_release() {
        let check =
            |text: &str, expect: bool| assert_eq!(text.parse::<Version>().unwrap().at_least(3, 3), expect);
        check("3.2a", false);
        check("2.9", false);
        check("3.3", true);
        check("next-3.4", true);
        check("4.0", true);
    }

    #[test]
    fn what_says_no_comparable_version_is_unusable() {
        let check = |said: &str, expect: &str| {
            assert_eq!(understood(said.as_bytes()), Err(expect.to_owned()));
        };
        check("tmux 3.1c\n", "is tmux 3.1c, and 3.2 is the oldest that can be used");
        check("tmux openbsd-7.5\n", "says \"tmux openbsd-7.5\", which is no version");
        check("tmux master\n", "says \"tmux master\", which is no version");
        check("\x1b[1mhello\n", "says \"[1mhello\", which is no version");
        check("", "says \"\", which is no version");
        assert!(matches!(understood(b"tmux 3.2\n"), Ok(Probe::Found { .. })));
    }
}
