//! What goes into the store and comes out of it, as plain data.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::lifecycle::Run;
use crate::model::{
    Definition, EventKind, Instance, InstanceId, Offset, ProjectId, RunState, Size, TaskName, TimeMs,
};

/// A run and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The run.
    pub run: Run,
    /// What to launch to have the same again, or to begin it where that was not done.
    pub definition: Definition,
    /// The boot of the machine in which it was recorded; `None` in rows of a kas that did not keep it.
    pub boot_id: Option<String>,
}

/// A caller's own name for a launch; unique per operator and project for 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The operator's name.
    pub operator: String,
    /// The key as sent, at most 128 bytes.
    pub key: String,
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// This run was launched under it.
    Run(Box<Record>),
    /// A run was, and has been deleted since.
    Deleted(InstanceId),
}

/// One change: everything in it is kept, or nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Runs with new values; each must be recorded.
    pub updates: Vec<Run>,
    /// What runs wrote; a second transcript replaces the first.
    pub transcripts: Vec<(InstanceId, Transcript)>,
    /// Ended runs to delete with their transcripts; one that is gone already is no error.
    pub deletes: Vec<InstanceId>,
    /// What to tell and to keep in the audit log.
    pub events: Vec<NewEvent>,
}

/// What came of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// How many runs were deleted.
    pub deleted: u64,
    /// The ids the events got, in order.
    pub events: Vec<i64>,
}

/// What a run wrote, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The offset of the first byte kept.
    pub start: Offset,
    /// The bytes.
    pub bytes: Bytes,
    /// When they were written: (offset, epoch milliseconds), ascending, coarse.
    pub times: Vec<(Offset, i64)>,
    /// The sizes the terminal had: (offset, size), ascending.
    pub sizes: Vec<(Offset, Size)>,
    /// The terminal's state at `start`, when that is not 0: its size and the bytes that show it.
    pub checkpoint: Option<(Size, Bytes)>,
    /// How many lines the bytes have.
    pub line_count: u64,
    /// When it was stored.
    pub created_at: TimeMs,
}

/// An event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: TimeMs,
    /// In which project, if in one.
    pub project_id: Option<ProjectId>,
    /// To which run, if to one.
    pub task_id: Option<InstanceId>,
    /// What the contract tells of the kind.
    pub details: Map<String, Value>,
}

/// Characters of a command an audit event carries (`seeds/004`, "Audit events").
const COMMAND_CHARS: usize = 200;

impl NewEvent {
    /// An event without details.
    #[must_use]
    pub fn new(kind: EventKind, at: TimeMs) -> Self {
        Self { kind, at, project_id: None, task_id: None, details: Map::new() }
    }

    /// An event of a run, with the details its kind carries (`seeds/004`, "Audit events"); `user` is who caused it.
    #[must_use]
    pub fn of_run(kind: EventKind, at: TimeMs, instance: &Instance, user: &str) -> Self {
        let event = Self {
            project_id: Some(instance.project_id.clone()),
            task_id: Some(instance.id),
            ..Self::new(kind, at)
        };
        let event = event.detail("task_name", instance.task_name.as_ref().map(ToString::to_string));
        match kind {
            EventKind::TaskLaunched => event
                .detail("command", instance.command.chars().take(COMMAND_CHARS).collect::<String>())
                .detail("backend", instance.backend.word())
                .detail("user_id", instance.launched_by.as_str()),
            EventKind::TaskExited => event
                .detail("state", instance.state.word())
                .detail("exit_code", instance.exit_code())
                .detail("signal", instance.signal())
                .detail("error", instance.error.map(|error| error.word()))
                .detail("error_text", instance.error_text.as_deref())
                .detail("duration_ms", instance.duration_ms()),
            EventKind::TaskStopped => event
                .detail("user_id", user)
                .detail("exit_code", instance.exit_code())
                .detail("signal", instance.signal()),
            EventKind::TaskAttached | EventKind::TaskDetached | EventKind::TaskReattached => {
                event.detail("user_id", user)
            }
            EventKind::TaskReadOnly
            | EventKind::BackendResolved
            | EventKind::TmuxFallback
            | EventKind::TmuxPipeFallback
            | EventKind::OrphanedSession
            | EventKind::ProjectChanged
            | EventKind::PaneOpened
            | EventKind::PaneClosed
            | EventKind::AuthFailed => event,
        }
    }

    /// The same in a project.
    #[must_use]
    pub fn project(mut self, id: &ProjectId) -> Self {
        self.project_id = Some(id.clone());
        self
    }

    /// The same with one more detail.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

/// An event as it was kept. Ids grow by one.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its id.
    pub id: i64,
    /// What happened, as on the wire.
    pub kind: String,
    /// When.
    pub at: TimeMs,
    /// In which project, if in one.
    pub project_id: Option<String>,
    /// To which run, if to one.
    pub task_id: Option<String>,
    /// The rest.
    pub details: Map<String, Value>,
}

/// A registered project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: ProjectId,
    /// Its directory, absolute.
    pub path: PathBuf,
    /// Since when.
    pub registered_at: TimeMs,
}

/// Which runs of a project to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this task.
    pub task_name: Option<String>,
    /// Only these states; empty means all.
    pub states: Vec<RunState>,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only of this project.
    pub project: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those with a larger id.
    pub since: Option<i64>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `None` at the end.
    pub next_cursor: Option<String>,
}

/// Which ended runs retention looks at: those of one named task, or the ad-hoc ones (`None`).
pub type OfTask = Option<TaskName>;
