//! What a look at the store, the instance directories, the shims and tmux can find.

use crate::model::{BackendKind, Exit, InstanceId, RunState, TimeMs};

/// How a window is called: the session's name and its own.
pub type WindowName = (String, String);

/// A run as the store has it: every one that is not over, and the others of which a directory or a window was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The run.
    pub id: InstanceId,
    /// Its recorded state.
    pub state: RunState,
    /// What holds it.
    pub backend: BackendKind,
    /// The window it is recorded to be in.
    pub window: Option<WindowName>,
    /// In which boot of the machine it was recorded.
    pub boot: Boot,
}

/// What answered for an instance directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shim {
    /// No process of this instance lives.
    Gone,
    /// Something may live, but did not prove itself with the instance's nonce; it is not touched.
    Silent,
    /// It proved itself and waits at its gate; the command has not run.
    AtGate,
    /// It proved itself and holds the command, or waits for its end to be acknowledged.
    Live,
}

/// The end as the shim wrote it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRecord {
    /// How the command ended.
    pub exit: Exit,
    /// The offset after its last byte of output.
    pub total: u64,
    /// When it ended.
    pub at: TimeMs,
}

/// In which boot of the machine something was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boot {
    /// In this one.
    This,
    /// In an earlier one: no process of it can live.
    Earlier,
    /// What says so is missing or damaged: a directory's spec, a row of an older kas.
    Unknown,
}

/// An instance directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundDir {
    /// The instance it is named after.
    pub id: InstanceId,
    /// Its exit record, if there is one.
    pub end: Option<EndRecord>,
    /// Who answered for it.
    pub shim: Shim,
    /// When it was made.
    pub boot: Boot,
    /// Whether a shim ever came to its gate here, so that the gate may have been opened. Without a doubt only where it is `false`.
    pub ran: bool,
    /// Whether it holds bytes that the command wrote.
    pub output: bool,
    /// Whether its run is recorded to be over and the store has no transcript of it: the directory may hold the only copy.
    pub only_copy: bool,
    /// Whether processes live that are proved to be the command's and that no shim holds, of a run that did not end by itself.
    pub left: bool,
}

/// A tmux session of kas's naming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// Its name.
    pub name: String,
    /// Whether its project is registered.
    pub registered: bool,
}

/// A tmux window that carries an instance's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundWindow {
    /// The instance.
    pub id: InstanceId,
    /// How it is called now.
    pub name: WindowName,
    /// Whether a process lives in it.
    pub live: bool,
    /// Whether it was made to show the instance's directory of this very state directory: another daemon's windows may be on the same
    /// server, and only what was made here is ours.
    pub made_here: bool,
    /// Whether it is in the session of a registered project.
    pub registered: bool,
}

/// What the tmux server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// It answers, and has sessions of ours.
    Up,
    /// None runs, or it has none of our sessions: what was in one is gone.
    Down,
    /// It did not answer, so its windows are not known.
    Unknown,
}

/// What a restart of the daemon does to runs on a PTY (`pty_on_restart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnRestart {
    /// They are adopted.
    Reattach,
    /// They are ended and `failed` with `daemon_restart` (`seeds/004`).
    Fail,
}

/// Everything the decisions are made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Runs of the store.
    pub recorded: Vec<Recorded>,
    /// Directories of the state directory.
    pub dirs: Vec<FoundDir>,
    /// Sessions of the tmux server; empty without one.
    pub sessions: Vec<FoundSession>,
    /// Windows of the tmux server that carry an instance's id.
    pub windows: Vec<FoundWindow>,
    /// What the tmux server said.
    pub tmux: Server,
    /// The operator's choice for PTY runs.
    pub on_restart: OnRestart,
}
