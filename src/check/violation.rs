//! What is promised, and what was found against it.

use std::fmt;

/// A promise that holds whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: a run is launched once, and a key stands for one run.
    SingleLaunch,
    /// I2: states only move forward, with one event each.
    StateMachine,
    /// I3: what lives is recorded as living, and the other way round.
    NoOrphans,
    /// I4: an exit code is what the kernel said.
    ExitTruth,
    /// I5: every byte is kept and delivered as it was written.
    Bytes,
    /// I6: no run's output reaches another's viewer.
    NoCrossTalk,
    /// I7: what was typed arrives once, in order, and nothing else does.
    Input,
    /// I8: nothing happens without authority.
    Authority,
    /// I9: everything is bounded.
    Bounds,
    /// I10: it recovers by itself.
    Liveness,
    /// I11: nothing that is not kas's is touched.
    NoCollateral,
    /// I12: what was answered lasts.
    Durability,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::SingleLaunch,
        Self::StateMachine,
        Self::NoOrphans,
        Self::ExitTruth,
        Self::Bytes,
        Self::NoCrossTalk,
        Self::Input,
        Self::Authority,
        Self::Bounds,
        Self::Liveness,
        Self::NoCollateral,
        Self::Durability,
    ];

    /// Its short name, `I1` to `I12`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SingleLaunch => "I1",
            Self::StateMachine => "I2",
            Self::NoOrphans => "I3",
            Self::ExitTruth => "I4",
            Self::Bytes => "I5",
            Self::NoCrossTalk => "I6",
            Self::Input => "I7",
            Self::Authority => "I8",
            Self::Bounds => "I9",
            Self::Liveness => "I10",
            Self::NoCollateral => "I11",
            Self::Durability => "I12",
        }
    }

    /// What a person does about a violation.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::SingleLaunch => "look at both with `kas ps` and stop the one that is not wanted",
            Self::StateMachine => "the record is wrong; keep a copy of the state directory for a report",
            Self::NoOrphans => "restart the daemon, which takes up or ends what it can prove to be its own",
            Self::ExitTruth => "do not rely on this exit; keep a copy of the state directory for a report",
            Self::Bytes => "do not rely on this output; keep a copy of the state directory for a report",
            Self::NoCrossTalk | Self::Input => "keep the recording and the state directory for a report",
            Self::Authority => "make the file private, and make a new token with `kas token`",
            Self::Bounds => "restart the daemon; runs live on",
            Self::Liveness => "see daemon.log and restart the daemon; runs live on",
            Self::NoCollateral => "unset the option with `tmux set-option -gu`",
            Self::Durability => "stop the daemon and restore runner.db from a copy, or move it aside",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Something that contradicts an invariant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Of what: `run <id>`, `process <pid>`, a file.
    pub subject: String,
    /// What is wrong, one plain sentence without its full stop. Equal for the same fault seen twice.
    pub sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.invariant, self.subject, self.sentence)
    }
}

/// A part of an invariant that the evidence does not show; it is not said to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unjudged {
    /// Which.
    pub invariant: Invariant,
    /// What is not known, and why.
    pub why: &'static str,
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} not judged: {}", self.invariant, self.why)
    }
}
