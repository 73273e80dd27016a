//! What is told to subscribers and kept in the audit log.

use std::fmt;

/// The kinds of events (`spec/protocol.md` §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A run's command started.
    TaskLaunched,
    /// Somebody watches a run's terminal.
    TaskAttached,
    /// They left.
    TaskDetached,
    /// A run ended by itself, or could not start, or its end is unknown.
    TaskExited,
    /// A run was stopped by the operator.
    TaskStopped,
    /// Somebody came back to a run's terminal.
    TaskReattached,
    /// A run's holder is of another version of kas: the run can be watched, and nothing else.
    TaskReadOnly,
    /// The daemon chose its backend.
    BackendResolved,
    /// tmux failed for one run, which went to a PTY.
    TmuxFallback,
    /// Control mode cannot be used; runs stream from their shims.
    TmuxPipeFallback,
    /// A session of kas's naming belongs to no registered project.
    OrphanedSession,
    /// A project was added or removed, or its file changed.
    ProjectChanged,
    /// The operator opened a pane in a project's session.
    PaneOpened,
    /// Such a pane is gone.
    PaneClosed,
    /// Credentials that do not work were presented; told at most once a minute.
    AuthFailed,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::TaskLaunched,
        Self::TaskAttached,
        Self::TaskDetached,
        Self::TaskExited,
        Self::TaskStopped,
        Self::TaskReattached,
        Self::TaskReadOnly,
        Self::BackendResolved,
        Self::TmuxFallback,
        Self::TmuxPipeFallback,
        Self::OrphanedSession,
        Self::ProjectChanged,
        Self::PaneOpened,
        Self::PaneClosed,
        Self::AuthFailed,
    ];

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TaskLaunched => "task.launched",
            Self::TaskAttached => "task.attached",
            Self::TaskDetached => "task.detached",
            Self::TaskExited => "task.exited",
            Self::TaskStopped => "task.stopped",
            Self::TaskReattached => "task.reattached",
            Self::TaskReadOnly => "task.read_only",
            Self::BackendResolved => "task_runner.backend_resolved",
            Self::TmuxFallback => "task_runner.tmux_fallback",
            Self::TmuxPipeFallback => "task_runner.tmux_pipe_fallback",
            Self::OrphanedSession => "task_runner.orphaned_session",
            Self::ProjectChanged => "project.changed",
            Self::PaneOpened => "pane.opened",
            Self::PaneClosed => "pane.closed",
            Self::AuthFailed => "auth.failed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
