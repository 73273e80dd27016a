//! What callers ask of the daemon and what it answers, as plain data; `api::wire` turns it into JSON.

use std::path::PathBuf;
use std::sync::Arc;

use crate::broker::{Channel, History};
use crate::model::{BackendKind, Instance, InstanceId, ProjectId, Size, TimeMs};
use crate::project::{Problem, TaskDef};
pub use crate::store::{EventFilter as AuditFilter, Page, RunFilter as InstanceFilter, StoredEvent};

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A named task of the project file.
    Task(String),
    /// A command typed by the operator, with an optional directory relative to the project.
    AdHoc {
        /// The shell command, verbatim.
        command: String,
        /// Relative to the project root.
        cwd: Option<String>,
    },
}

/// A launch, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// What to run.
    pub what: What,
    /// The terminal's first size.
    pub size: Size,
    /// The same key within 24 h answers the first result and launches nothing. At most 128 bytes.
    pub idempotency_key: Option<String>,
}

/// What a launch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launched {
    /// It is recorded and being started.
    Instance(Box<Instance>),
    /// The task wants a person's yes first.
    Confirm(ConfirmRequired),
}

/// A question to a person before a task with `confirm: true` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmRequired {
    /// Single use; to be sent back.
    pub confirm_id: String,
    /// The task.
    pub task_name: String,
    /// What would be run.
    pub command: String,
    /// The question.
    pub message: String,
    /// When the id stops working.
    pub expires_at: TimeMs,
}

/// What a confirmation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// It is recorded and being started.
    Instance(Box<Instance>),
    /// The person said no.
    Cancelled,
}

/// A registered project in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectSummary {
    /// Its id.
    pub id: ProjectId,
    /// Its directory.
    pub path: PathBuf,
    /// How many named tasks it has.
    pub tasks: usize,
    /// How many of its instances are starting or running.
    pub running: usize,
    /// What is wrong with its project file now; the last good definition is in force.
    pub problems: Vec<Problem>,
}

/// A named task and its newest instance.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// The definition in force.
    pub task: TaskDef,
    /// Its newest instance.
    pub latest: Option<Instance>,
}

/// A project's tasks, its live instances, and what is wrong with its file.
#[derive(Debug, Clone, PartialEq)]
pub struct TasksView {
    /// Named tasks in file order.
    pub tasks: Vec<TaskView>,
    /// Instances that are starting or running, newest first.
    pub instances: Vec<Instance>,
    /// Problems of the project file.
    pub problems: Vec<Problem>,
}

/// A pane of a project's tmux session that no instance owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneView {
    /// The number of tmux's `%n`.
    pub pane: u32,
    /// The number of tmux's `@n`.
    pub window: u32,
    /// The window's or pane's title, printable characters only.
    pub title: String,
    /// The program in it.
    pub command: String,
    /// Its size.
    pub size: Size,
}

/// The daemon in one look (`/v1/status`).
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Registered projects.
    pub projects: Vec<ProjectSummary>,
    /// Since when it runs.
    pub started_at: TimeMs,
    /// Its process id.
    pub pid: u32,
    /// Where HTTP is served, if it is.
    pub http_addr: Option<String>,
    /// The page's address as a browser is to use it.
    pub http_url: Option<String>,
    /// The backend in force.
    pub backend: BackendKind,
    /// tmux's version as it tells it, when there is a tmux.
    pub tmux_version: Option<String>,
    /// Problems of the configuration file since the last reload that failed.
    pub config_problems: Vec<String>,
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadReport {
    /// Keys in force now.
    pub applied: Vec<String>,
    /// Keys that wait for the next start.
    pub needs_restart: Vec<String>,
}

/// A terminal that can be watched: an instance's or an operator's pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TerminalId {
    /// `pty:task:<id>`
    Task(InstanceId),
    /// `pty:pane:<number>`
    Pane(u32),
}

/// A terminal to watch.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Which one.
    pub id: TerminalId,
    /// Its bytes, size and end.
    pub channel: Arc<Channel>,
}

/// What an instance wrote, as far as it is held.
#[derive(Clone)]
pub struct Transcript {
    /// Whose it is.
    pub instance: Instance,
    /// The bytes by offset; live while the instance runs.
    pub history: Arc<dyn History>,
}
