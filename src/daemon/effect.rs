//! What the orchestrator wants done, as data.

use std::path::PathBuf;

use super::input::{DeleteTarget, Plan, Project, Reply, ReplyId};
use super::refusal::Refusal;
use crate::journal::ExitRecord;
use crate::lifecycle::Run;
use crate::model::{BackendKind, Instance, InstanceId, ProjectId, TaskName};
use crate::store::NewEvent;

/// One thing to do. Effects of one step are started in order; each ends in at most one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a caller.
    Reply {
        /// Whom.
        to: ReplyId,
        /// What.
        answer: Box<Result<Reply, Refusal>>,
    },
    /// Something about one run; done after what was wanted of it before.
    Run {
        /// Which run.
        id: InstanceId,
        /// What.
        effect: Box<RunEffect>,
    },
    /// End a run's whole process tree: interrupt, terminate, kill.
    StopTree(InstanceId),
    /// Write events that concern no row.
    RecordEvents(Vec<NewEvent>),
    /// Delete what history does not keep, of one task or of the ad-hoc runs.
    Cull {
        /// Which project.
        project: ProjectId,
        /// Which task.
        task: Option<TaskName>,
        /// How many ended runs to keep.
        history: Option<u8>,
        /// The run whose end is the occasion; it stays.
        spared: InstanceId,
    },
    /// Delete ended instances, then tell the caller.
    Delete {
        /// Whom to tell.
        reply: ReplyId,
        /// Which.
        target: DeleteTarget,
    },
    /// Write a project's record; ends in `Input::ProjectRecorded`.
    RecordProject {
        /// Whom it is for.
        reply: ReplyId,
        /// The project.
        project: Project,
        /// Where it was registered before.
        moved_from: Option<PathBuf>,
    },
    /// Destroy a project's tmux session and record; ends in `Input::ProjectRemoved`.
    RemoveProject {
        /// Whom it is for.
        reply: ReplyId,
        /// Which.
        id: ProjectId,
    },
}

/// One thing to do about a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEffect {
    /// Write its row; ends in `Input::Recorded`.
    RecordLaunch {
        /// The row.
        instance: Instance,
        /// The plan, kept with the row so that a restart runs the same.
        plan: Plan,
    },
    /// Write its changed row.
    RecordChange {
        /// The row, and whether a stop was asked for.
        run: Run,
        /// What happened.
        events: Vec<NewEvent>,
    },
    /// Take away what an earlier daemon made for it and did not begin: its directory, its window.
    Clear {
        /// Its project.
        project: ProjectId,
    },
    /// Start its shim, up to the gate; ends in `Input::Spawned`.
    Spawn {
        /// What to run.
        plan: Plan,
        /// Where.
        backend: BackendKind,
    },
    /// Let the command run.
    OpenGate,
    /// Send a shim that waits at its gate away.
    Abort,
    /// Write its last row and its transcript, end its terminal, let the shim go; ends in `Input::Finished`.
    Finish {
        /// The row.
        run: Run,
        /// What the shim wrote down.
        record: Option<ExitRecord>,
        /// What happened.
        events: Vec<NewEvent>,
    },
    /// Forget it: everything of it is stored.
    Release,
    /// Forget it, though its end could not be stored: its directory stays for the next start.
    Leave,
}

impl RunEffect {
    /// The effect on a run.
    #[must_use]
    pub fn on(self, id: InstanceId) -> Effect {
        Effect::Run { id, effect: Box::new(self) }
    }
}
