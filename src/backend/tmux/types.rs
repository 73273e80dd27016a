//! What the daemon and tmux tell each other.

use std::ffi::OsString;

use super::server::ServerId;
use crate::control::{PaneId, SessionId, WindowId};
use crate::model::{InstanceId, ProjectId, Size};

/// A run's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The session's name when the window was made or found.
    pub session_name: String,
    /// The window's name then; the operator may have given it another since.
    pub window_name: String,
    pub(super) project: ProjectId,
    pub(super) server: ServerId,
    pub(super) session: SessionId,
    pub(super) window: WindowId,
    pub(super) pane: PaneId,
    /// Whether it stays when the run is over; assumed of one that was found.
    pub(super) is_kept: bool,
}

/// A window to be made.
#[derive(Debug, Clone)]
pub struct WindowPlan {
    /// Whose it is. The pane carries the id as its option `@kas-id`, which is the proof that it is ours.
    pub instance: InstanceId,
    /// Its name: `[a-z0-9_][a-z0-9_-]*`.
    pub name: String,
    /// Its name when a window of the session has that one already.
    pub or_else: String,
    /// What runs in it, without a shell; two words at least.
    pub argv: Vec<OsString>,
    /// Its size.
    pub size: Size,
    /// Whether it stays when the run is over. Below tmux 3.3 none does.
    pub keep: bool,
}

/// A session named like a project's, or marked as one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// Its name.
    pub name: String,
    /// The project it was made for by a daemon of this state directory (`@kas-project` and `@kas-home`).
    pub project: Option<String>,
    pub(super) server: ServerId,
    pub(super) session: SessionId,
}

/// A window whose pane carries a run's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundWindow {
    /// The run.
    pub instance: InstanceId,
    /// The name of the session it is in.
    pub session_name: String,
    /// Its own name.
    pub window_name: String,
    /// Whether a process lives in it.
    pub is_live: bool,
    /// What was started in it, as tmux shows it: words that need it are quoted.
    pub command: String,
    pub(super) server: ServerId,
    pub(super) session: SessionId,
    pub(super) window: WindowId,
    pub(super) pane: PaneId,
}

/// A pane of a project's session that the operator opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundForeign {
    /// The number of tmux's `%n`.
    pub pane: u32,
    /// The number of tmux's `@n`.
    pub window: u32,
    /// Its title, any text a program chose.
    pub title: String,
    /// The name of the program in its foreground, any text.
    pub command: String,
    /// Its size.
    pub size: Size,
}

/// What happens on the side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The server that held our windows does not live any more. Told once for all projects it served.
    ServerGone {
        /// Which projects had a session there.
        projects: Vec<ProjectId>,
    },
    /// A control client ended although its session lives; it is started again.
    ControlLost {
        /// Whose.
        project: ProjectId,
        /// Why it ended.
        why: String,
    },
    /// A control client cannot be had although its session lives: runs stream from their shims. Told once until one is had again.
    PipeFallback {
        /// Whose.
        project: ProjectId,
        /// What tmux said.
        why: String,
    },
    /// The operator opened a pane.
    PaneOpened {
        /// In whose session.
        project: ProjectId,
        /// The number of tmux's `%n`.
        pane: u32,
        /// The number of tmux's `@n`.
        window: u32,
    },
    /// A pane of the operator's is gone.
    PaneClosed {
        /// From whose session.
        project: ProjectId,
        /// The number of tmux's `%n`.
        pane: u32,
    },
}
