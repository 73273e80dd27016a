//! What the orchestrator wants done, as data.

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
        answer: Result<Reply, Refusal>,
    },
    /// Write a new run's row; ends in `Input::Recorded`.
    RecordLaunch {
        /// The row.
        instance: Box<Instance>,
        /// The plan, kept with the row so that a restart runs the same.
        plan: Box<Plan>,
    },
    /// Write a changed row. Order is kept; a failure is retried by the store and logged.
    RecordChange {
        /// The row, and whether a stop was asked for.
        run: Box<Run>,
        /// What happened.
        events: Vec<NewEvent>,
    },
    /// Write events that concern no row.
    RecordEvents(Vec<NewEvent>),
    /// Start a shim, up to its gate; ends in `Input::Spawned`.
    Spawn {
        /// What to run.
        plan: Box<Plan>,
        /// Where.
        backend: BackendKind,
    },
    /// Let the command run.
    OpenGate(InstanceId),
    /// Send a shim that waits at its gate away.
    Abort(InstanceId),
    /// End a run's whole process tree: interrupt, terminate, kill.
    StopTree(InstanceId),
    /// Write an ended run's row and transcript, then let the shim go; ends in `Input::Finished`.
    Finish {
        /// The row.
        run: Box<Run>,
        /// What the shim wrote down.
        record: Option<Box<ExitRecord>>,
        /// What happened.
        events: Vec<NewEvent>,
    },
    /// Forget an ended run's live parts: its terminal ends for its viewers.
    Release(InstanceId),
    /// Delete what history does not keep, of one task or of the ad-hoc runs.
    Cull {
        /// Which project.
        project: ProjectId,
        /// Which task.
        task: Option<TaskName>,
        /// How many ended runs to keep.
        history: Option<u8>,
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
    },
    /// Destroy a project's tmux session and record; ends in `Input::ProjectRemoved`.
    RemoveProject {
        /// Whom it is for.
        reply: ReplyId,
        /// Which.
        id: ProjectId,
    },
}
