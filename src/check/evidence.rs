//! What is there, as plain data; nothing in it is a judgement.

use bytes::Bytes;

use crate::backend::tmux::Census;
use crate::journal::{ExitRecord, Nonce};
use crate::model::{InstanceId, TimeMs};
use crate::store::{KeyRow, Log, RunRow, StoredEvent, Unreadable};

/// Everything that was seen at about one moment.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// How the daemon is.
    pub daemon: Health,
    /// This boot.
    pub boot_id: String,
    /// What is recorded; `None` when there is no database yet.
    pub database: Option<Database>,
    /// Instance directories, oldest first.
    pub directories: Vec<Directory>,
    /// Every process of the machine.
    pub processes: Vec<Process>,
    /// What the daemon, shims and wards hold; of those that could be looked at.
    pub holdings: Vec<Holding>,
    /// What tmux shows.
    pub windows: Windows,
    /// What clients were sent.
    pub streams: Vec<Stream>,
    /// Lines of the daemon's log that tell of a panic.
    pub panics: Vec<String>,
    /// Private files that others may use, and places that hold a secret they must not.
    pub exposed: Vec<String>,
    /// Whether the disk was full at some time, so that bytes which it did not take are no violation.
    pub disk_was_full: bool,
}

/// How the daemon of the state directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nobody holds the lock.
    Absent,
    /// This process holds it and is stopped by a signal or traced to a halt: what it has not done means nothing.
    Halted(u32),
    /// This process holds it.
    Works(u32),
}

impl Health {
    /// The daemon's process id.
    #[must_use]
    pub const fn pid(self) -> Option<u32> {
        match self {
            Self::Absent => None,
            Self::Halted(pid) | Self::Works(pid) => Some(pid),
        }
    }
}

/// What is recorded.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// Runs, oldest first.
    pub runs: Vec<RunRow>,
    /// Rows that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// What SQLite says is wrong.
    pub damage: Vec<String>,
    /// Idempotency keys.
    pub keys: Vec<KeyRow>,
    /// The events of launches, ends, deletions and removals, oldest first.
    pub events: Vec<StoredEvent>,
    /// From where to where the audit log reaches.
    pub log: Log,
    /// Transcripts.
    pub transcripts: Vec<Stored>,
}

/// A stored transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub id: InstanceId,
    /// The offset of its first byte.
    pub start: u64,
    /// The offset after its last.
    pub end: u64,
    /// How many lines are recorded, and how many there are.
    pub lines: (u64, u64),
    /// The largest offset that its times and sizes name.
    pub indexed_to: u64,
    /// Its bytes, where there is something to compare them with.
    pub bytes: Option<Bytes>,
}

/// An instance directory.
#[derive(Debug, Clone)]
pub struct Directory {
    /// The instance it is named after.
    pub id: InstanceId,
    /// What its spec says; why not, when it cannot be read.
    pub spec: Result<Spec, String>,
    /// Its exit record, if there is one.
    pub exit: Result<Option<ExitRecord>, String>,
    /// Its bytes.
    pub journal: Result<Journal, String>,
}

/// What matters here of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Whose it is.
    pub id: InstanceId,
    /// The run's secret.
    pub nonce: Nonce,
    /// The boot in which it was launched.
    pub boot_id: String,
    /// Whether the shim stays in its window after the end.
    pub keep_window: bool,
    /// How much output is kept, in bytes.
    pub limit_bytes: u64,
}

/// A journal's bytes and what its index says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Bytes without a hole between them, each with the offset of its first; in order.
    pub pieces: Vec<(u64, Bytes)>,
    /// Ranges that are recorded as not written, first and after-last.
    pub gaps: Vec<(u64, u64)>,
    /// The largest offset that the index names.
    pub indexed_to: u64,
    /// Where the checkpoint is, if there is one.
    pub checkpoint: Option<u64>,
}

impl Journal {
    /// The first byte held.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.pieces.first().map_or(0, |(start, _)| *start)
    }

    /// The offset after the last byte held.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// The state's letter (proc_pid_stat(5)).
    pub state: char,
    /// When it was started, by the wall clock; about a second exact.
    pub started_at: TimeMs,
    /// The instance whose shim it is.
    pub shim_of: Option<InstanceId>,
    /// The instance above whose shim it is, to end what a killed shim held.
    pub ward_of: Option<InstanceId>,
    /// The run whose id it has in its environment, which proves nothing.
    pub says_it_is_of: Option<InstanceId>,
}

impl Process {
    /// Whether it has ended and only waits to be reaped.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether a signal or a tracer has stopped it.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// What a process holds of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Its id.
    pub pid: u32,
    /// Memory that no file backs, in KiB (`RssAnon`, proc_pid_status(5)).
    pub memory_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// What tmux shows.
#[derive(Debug, Clone)]
pub enum Windows {
    /// It was asked.
    Seen(Census),
    /// There is no tmux here.
    NoTmux,
    /// It could not be asked.
    Unknown(String),
}

/// What a client was sent of one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where it was recorded.
    pub name: String,
    /// Whose terminal it is.
    pub instance: InstanceId,
    /// The offset that was asked for.
    pub from: Option<u64>,
    /// What came, in order.
    pub frames: Vec<Frame>,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes.
    Output {
        /// The offset of the first.
        offset: u64,
        /// Themselves.
        bytes: Bytes,
    },
    /// The terminal's state.
    Snapshot {
        /// It is the state before this byte.
        offset: u64,
    },
    /// Bytes that will not come.
    Gap {
        /// The first.
        from: u64,
        /// After the last.
        to: u64,
    },
    /// The end.
    Exit {
        /// The offset after the last byte.
        offset: u64,
        /// The state's word.
        state: String,
        /// The exit code.
        code: Option<i64>,
    },
    /// More came and was not recorded.
    Cut,
}
