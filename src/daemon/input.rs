//! Everything that can wake the orchestrator, in one closed enum.

use std::path::PathBuf;
use std::sync::Arc;

use super::refusal::Refusal;
use super::view::{Confirmed, Launched, ProjectSummary};
use crate::journal::ExitRecord;
use crate::model::{
    Actor, BackendKind, Definition, ErrorWord, Instance, InstanceId, ProjectId, RunState, TaskName, TimeMs,
};
use crate::policy::TaskLimits;
use crate::project::{Problem, TaskDef};

/// Which caller waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What a caller is told in the end.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A launch.
    Launched(Launched),
    /// A confirmation.
    Confirmed(Confirmed),
    /// An instance as it is now.
    Instance(Box<Instance>),
    /// A project as it is now.
    Project(Project),
    /// How many.
    Count(u64),
    /// Done.
    Done,
}

/// A launch with everything resolved: what will run, where, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The id the instance will have.
    pub id: InstanceId,
    /// Its project.
    pub project: ProjectId,
    /// The named task, or `None` for an ad-hoc command.
    pub task: Option<TaskName>,
    /// The command, its directory, variables and first size.
    pub definition: Definition,
    /// `Some(n)`: keep the newest n ended runs of the task, with their windows.
    pub history: Option<u8>,
    /// The run this is a restart of.
    pub restarted_from: Option<InstanceId>,
    /// The caller's key against launching twice.
    pub idempotency_key: Option<String>,
}

impl Plan {
    /// The run as it is recorded before anything of it is started.
    #[must_use]
    pub fn instance(&self, backend: BackendKind, operator: &str, now: TimeMs) -> Instance {
        Instance {
            id: self.id,
            project_id: self.project.clone(),
            task_name: self.task.clone(),
            command: self.definition.command.clone(),
            cwd: self.definition.cwd.clone(),
            state: RunState::Starting,
            backend,
            tmux_session: None,
            tmux_window: None,
            pid: None,
            exit: None,
            error: None,
            error_text: None,
            launched_at: now,
            exited_at: None,
            stopped_at: None,
            launched_by: operator.to_owned(),
            output_bytes: 0,
            restarted_from: self.restarted_from,
            history: self.history,
        }
    }
}

/// A project as the orchestrator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its directory.
    pub path: PathBuf,
    /// The last good definition's tasks, in file order.
    pub tasks: Arc<Vec<TaskDef>>,
    /// What is wrong with the file now.
    pub problems: Arc<Vec<Problem>>,
}

impl Project {
    /// The project in one line.
    #[must_use]
    pub fn summary(&self, running: usize) -> ProjectSummary {
        ProjectSummary {
            id: self.id.clone(),
            path: self.path.clone(),
            tasks: self.tasks.len(),
            running,
            problems: self.problems.to_vec(),
        }
    }
}

/// Where a shim was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What holds it.
    pub backend: BackendKind,
    /// The tmux session's and window's names.
    pub window: Option<(String, String)>,
}

/// How a shim was found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Whether it waits at its gate.
    pub at_gate: bool,
    /// The command's process id, once it ran.
    pub pid: Option<u32>,
    /// The session's and the window's names, where it has a window.
    pub window: Option<(String, String)>,
}

/// What a shim said, or that it says nothing any more.
#[derive(Debug, Clone, PartialEq)]
pub enum ShimReport {
    /// It answers again after the daemon, or the shim, was away.
    Reached(Reached),
    /// The command runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// The command ended before the shim knew of a stop: others of its tree may live, and `Ended` follows if one is asked for.
    Exited(Box<ExitRecord>),
    /// The command ended or could not be started, and of a stopped one nothing of its tree lives; this is the record.
    Ended(Box<ExitRecord>),
    /// The same, because the tmux server went away under it.
    TmuxGone(Box<ExitRecord>),
    /// The shim went away without an exit record; with words where something was left of the run.
    Lost(ErrorWord, Option<String>),
    /// It lives and is not to live on: its tree is ended, and where nothing else ends it before, this is why.
    GiveUp(ErrorWord),
}

/// What wakes the orchestrator.
#[derive(Debug)]
pub enum Input {
    /// A caller wants something run.
    Launch {
        /// Who waits.
        reply: ReplyId,
        /// Who asks.
        actor: Actor,
        /// What to run.
        plan: Box<Plan>,
        /// The id to ask a person under, when the task wants a yes first.
        ask: Option<String>,
    },
    /// A caller wants the run that the plan is a restart of ended, if it is not over, and launched again.
    Restart {
        /// Who waits.
        reply: ReplyId,
        /// Who asks.
        actor: Actor,
        /// What to run; its directory was found to be there.
        plan: Box<Plan>,
    },
    /// A launch was recorded, and an earlier daemon provably went away before it began.
    Begin {
        /// What to run.
        plan: Box<Plan>,
        /// Why it cannot be run any more, where that is so.
        refused: Option<String>,
    },
    /// A caller answers a question.
    Confirm {
        /// Who waits.
        reply: ReplyId,
        /// Who answers.
        actor: Actor,
        /// The answer.
        given: Box<Confirmation>,
    },
    /// A caller wants a run stopped.
    Stop {
        /// Who waits.
        reply: ReplyId,
        /// Who asks.
        actor: Actor,
        /// Which run.
        id: InstanceId,
    },
    /// A caller wants ended instances gone.
    Delete {
        /// Who waits.
        reply: ReplyId,
        /// Which.
        target: DeleteTarget,
    },
    /// A caller registers a directory.
    AddProject {
        /// Who waits.
        reply: ReplyId,
        /// What was read there.
        project: Project,
        /// The path at which a project of this id is registered and from which a link leads to this directory now: it is registered here instead.
        moved_from: Option<PathBuf>,
    },
    /// A project's record was written, or could not be.
    ProjectRecorded {
        /// Who waits.
        reply: ReplyId,
        /// The project.
        project: Project,
        /// What the store said.
        result: Result<(), Refusal>,
    },
    /// A caller takes a project off.
    RemoveProject {
        /// Who waits.
        reply: ReplyId,
        /// Who asks.
        actor: Actor,
        /// Which.
        id: ProjectId,
    },
    /// A removed project's session and record are gone, or could not be removed.
    ProjectRemoved {
        /// Who waits.
        reply: ReplyId,
        /// Which.
        id: ProjectId,
        /// What came of it.
        result: Result<(), Refusal>,
    },
    /// A project's file changed and was read again; `tasks` is `None` when it has problems.
    ProjectRead {
        /// Which.
        id: ProjectId,
        /// The directory that was read; the project may be another one by now.
        path: PathBuf,
        /// The new definition.
        tasks: Option<Vec<TaskDef>>,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// A launch's record was written (or found, for a repeated key), or could not be.
    Recorded {
        /// Which launch.
        id: InstanceId,
        /// The instance of the key's first launch, when the key was used before.
        result: Result<Option<Instance>, Refusal>,
    },
    /// A shim waits at its gate, or could not be started.
    Spawned {
        /// Which run.
        id: InstanceId,
        /// Where it is.
        result: Result<Placement, SpawnFailure>,
    },
    /// A shim's report.
    Shim {
        /// Which run.
        id: InstanceId,
        /// What it said.
        report: ShimReport,
    },
    /// An ended run's record and transcript are in the store.
    Finished {
        /// Which run.
        id: InstanceId,
        /// What the store said.
        result: Result<(), Refusal>,
    },
    /// Somebody wants to know whether the loop still turns.
    Turn {
        /// Who waits.
        reply: ReplyId,
    },
    /// New limits.
    Limits(TaskLimits),
}

/// An answer to a question, and what would run now.
#[derive(Debug)]
pub struct Confirmation {
    /// The project of the request's path.
    pub project: ProjectId,
    /// Which question.
    pub confirm_id: String,
    /// Yes or no.
    pub proceed: bool,
    /// The id the run will have.
    pub id: InstanceId,
    /// What the project's tasks that ask first would run now.
    pub definitions: Vec<(TaskName, Definition)>,
}

/// Which ended instances to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteTarget {
    /// One.
    One(InstanceId),
    /// Every one of a project.
    Project(ProjectId),
}

/// Why a shim does not wait at its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The backend that failed.
    pub backend: BackendKind,
    /// What went wrong, for people.
    pub message: String,
}
