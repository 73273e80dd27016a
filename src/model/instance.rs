//! One run of a command, as the store keeps it and the API shows it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{InstanceId, InvalidId, ProjectId, TaskName, TimeMs};

/// Where a run is in its life (`spec/protocol.md` §3). States only move forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    /// Recorded; the command does not run yet.
    Starting,
    /// The command runs.
    Running,
    /// It ended with code 0.
    Done,
    /// It ended otherwise, or could not be started, or its end is unknown.
    Failed,
    /// The operator stopped it.
    Stopped,
}

impl RunState {
    /// Every state, in order.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Running, Self::Done, Self::Failed, Self::Stopped];

    /// Whether nothing more can happen to the run.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Stopped)
    }

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Which kind of holder a run lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// A window of the project's tmux session.
    Tmux,
    /// A detached shim without a window.
    Pty,
}

impl BackendKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Tmux, Self::Pty];

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tmux => "tmux",
            Self::Pty => "pty",
        }
    }
}

/// Why there is no honest exit code (`spec/protocol.md` §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorWord {
    /// The command could not be started.
    SpawnFailed,
    /// The daemon restarted and was told not to adopt PTY runs.
    DaemonRestart,
    /// The tmux server went away under the run.
    TmuxCrash,
    /// The machine was restarted.
    HostRestart,
    /// The shim was killed before it could write down the end.
    ShimLost,
}

impl ErrorWord {
    /// Every word.
    pub const ALL: [Self; 5] =
        [Self::SpawnFailed, Self::DaemonRestart, Self::TmuxCrash, Self::HostRestart, Self::ShimLost];

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SpawnFailed => "spawn_failed",
            Self::DaemonRestart => "daemon_restart",
            Self::TmuxCrash => "tmux_crash",
            Self::HostRestart => "host_restart",
            Self::ShimLost => "shim_lost",
        }
    }

    /// The cause in words, where nothing more exact is known.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SpawnFailed => "The command was never started",
            Self::DaemonRestart => {
                "The daemon restarted, and its configuration says `pty_on_restart = \"fail\"`"
            }
            Self::TmuxCrash => "The tmux server went away",
            Self::HostRestart => "The machine was restarted",
            Self::ShimLost => "The shim was killed before it could record the end",
        }
    }
}

macro_rules! closed_words {
    ($type:ty, $expected:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let found = Self::ALL.into_iter().find(|it| it.word() == text);
                found.ok_or_else(|| InvalidId { text: text.chars().take(80).collect(), expected: $expected })
            }
        }
    };
}

closed_words!(RunState, "a state (starting, running, done, failed, stopped)");
closed_words!(BackendKind, "a backend (tmux, pty)");
closed_words!(ErrorWord, "an error word");

/// How the kernel said the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called `exit` with this code, 0 to 255.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// The code shown to people and scripts: a death by signal n is 128+n, as in a shell.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Code(code) => code as i32,
            Self::Signal(signal) => 128 + signal as i32,
        }
    }

    /// The signal's name (`"SIGKILL"`; `"SIGRTMIN+3"` for real-time ones), if a signal it was.
    #[must_use]
    pub fn signal_name(self) -> Option<String> {
        match self {
            Self::Code(_) => None,
            Self::Signal(number) => Some(signal_name(number)),
        }
    }

    /// The state a run that ended by itself is in.
    #[must_use]
    pub const fn state(self) -> RunState {
        match self {
            Self::Code(0) => RunState::Done,
            Self::Code(_) | Self::Signal(_) => RunState::Failed,
        }
    }
}

/// Names of Linux signals 1 to 31 (signal(7), x86 and ARM numbering).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn signal_name(number: u8) -> String {
    match usize::from(number).checked_sub(1).and_then(|index| SIGNALS.get(index)) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIGRTMIN+{}", i32::from(number) - 34),
    }
}

/// The signals that a stop sends, in a window also by its interrupt key, or a window that closes: SIGHUP, SIGINT, SIGKILL, SIGTERM.
const STOP_SIGNALS: [u8; 4] = [1, 2, 9, 15];

/// The number of a signal by the name that [`Exit::signal_name`] gives it.
#[must_use]
pub fn signal_number(name: &str) -> Option<u8> {
    (1..=64).find(|number| signal_name(*number) == name)
}

/// The most characters of a cause in words; the rest is cut.
const CAUSE_CHARS: usize = 400;

/// A cause as it is recorded and shown: one line of at most 400 characters that begins with a capital, controls made visible.
#[must_use]
pub fn cause_text(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let space = if line.is_empty() { "" } else { " " };
        line.extend([space, word]);
    }
    let mut chars = line.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let visible =
        |char: char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() };
    first.chars().chain(chars).take(CAUSE_CHARS).map(visible).collect()
}

/// One run, everything that is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The named task it is a run of; `None` for an ad-hoc command.
    pub task_name: Option<TaskName>,
    /// The shell command, verbatim.
    pub command: String,
    /// The absolute directory it runs in.
    pub cwd: PathBuf,
    /// Where it is in its life.
    pub state: RunState,
    /// What holds it.
    pub backend: BackendKind,
    /// The tmux session's name, on tmux.
    pub tmux_session: Option<String>,
    /// The tmux window's name, on tmux.
    pub tmux_window: Option<String>,
    /// The command's process id, once it runs.
    pub pid: Option<u32>,
    /// How it ended, when the kernel said so.
    pub exit: Option<Exit>,
    /// Why there is no exit, when there is none.
    pub error: Option<ErrorWord>,
    /// The same in words, as exactly as it is known; set exactly where `error` is.
    pub error_text: Option<String>,
    /// When it was recorded.
    pub launched_at: TimeMs,
    /// When the command ended; set exactly in terminal states.
    pub exited_at: Option<TimeMs>,
    /// When the operator's stop was done.
    pub stopped_at: Option<TimeMs>,
    /// Who asked for it: the operator's name.
    pub launched_by: String,
    /// The offset after its last byte of output.
    pub output_bytes: u64,
    /// The run this one is a restart of.
    pub restarted_from: Option<InstanceId>,
    /// Whether the ended run is kept to be read (`history`), and how many of its task are.
    pub history: Option<u8>,
}

impl Instance {
    /// How long it ran, in milliseconds; `None` while it is not over. Never negative, whatever the clock did.
    #[must_use]
    pub fn duration_ms(&self) -> Option<i64> {
        self.exited_at.map(|end| (end.0 - self.launched_at.0).max(0))
    }

    /// The exit code that is told: the program's own, 128+n for a death by signal n. A stopped run that the stop's signal killed has none.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let by_the_stop = |exit: &Exit| {
            self.state == RunState::Stopped
                && matches!(exit, Exit::Signal(signal) if STOP_SIGNALS.contains(signal))
        };
        self.exit.filter(|exit| !by_the_stop(exit)).map(Exit::code)
    }

    /// The name of the signal that ended it, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<String> {
        self.exit.and_then(Exit::signal_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for state in RunState::ALL {
            assert_eq!(state.word().parse(), Ok(state));
        }
        for word in ErrorWord::ALL {
            assert_eq!(word.word().parse(), Ok(word));
        }
        assert!("lost".parse::<RunState>().is_err());
    }

    #[test]
    fn a_cause_is_one_visible_line() {
        let check = |text: &str, expect: &str| assert_eq!(cause_text(text), expect);
        check("argument list too long", "Argument list too long");
        check(" cannot\n  enter \u{1b}[31m/x ", "Cannot enter \\u{1b}[31m/x");
        check("", "");
        assert_eq!(cause_text(&"é".repeat(900)).chars().count(), CAUSE_CHARS);
    }

    #[test]
    fn signals_are_known_by_their_names() {
        for number in 1..=64 {
            assert_eq!(signal_number(&signal_name(number)), Some(number));
        }
        assert_eq!(signal_number("SIGNONE"), None);
    }

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Signal(9).signal_name().as_deref(), Some("SIGKILL"));
        assert_eq!(Exit::Signal(34).signal_name().as_deref(), Some("SIGRTMIN+0"));
        assert_eq!(Exit::Code(7).signal_name(), None);
        assert_eq!(Exit::Code(0).state(), RunState::Done);
        assert_eq!(Exit::Signal(15).state(), RunState::Failed);
    }
}
