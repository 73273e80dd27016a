//! What the orchestrator knows: projects, and the runs that are not over. Ended runs are the store's.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{Plan, Project, ReplyId};
use crate::lifecycle::Run;
use crate::model::{BackendKind, ErrorWord, InstanceId, ProjectId};
use crate::policy::{Confirmations, TaskLimits};

/// All of it.
#[derive(Debug)]
pub struct State {
    /// How much may run at once.
    pub limits: TaskLimits,
    /// The backend new runs are started on.
    pub backend: BackendKind,
    /// Registered projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// Runs that are starting, running or being finished. At most `limits.per_operator` of each operator run; those being finished
    /// cannot pile up, for while the database takes nothing no launch is recorded either.
    pub live: BTreeMap<InstanceId, Live>,
    /// Questions that wait for a person. Capped inside.
    pub confirmations: Confirmations,
    /// Projects being taken off, and the caller that waits for it.
    pub removing: BTreeMap<ProjectId, ReplyId>,
}

/// How far a live run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its row is being written; nothing was started.
    Recording {
        /// The caller that waits for the launch.
        reply: ReplyId,
        /// Whether it is the answer to a question.
        confirmed: bool,
    },
    /// It is recorded, and nothing of it is started: the run that it replaces is not over, or its turn after a start has not come.
    Due,
    /// Its shim is being started.
    Spawning,
    /// The command was let go, and runs or is about to.
    Running,
    /// It is over; its transcript is being stored.
    Finishing,
}

/// One run that is not over.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its row, and whether a stop of it was asked for.
    pub run: Run,
    /// What was planned; empty for one adopted after a restart.
    pub plan: Option<Plan>,
    /// How far it is.
    pub phase: Phase,
    /// The callers that wait for its end.
    pub waiting: Vec<ReplyId>,
    /// Further callers that are told of the launch: those that asked for the same by its key while its row was being written, and of a
    /// replacement those that wait until the run that it replaces is over.
    pub also: Vec<ReplyId>,
    /// The callers that want it deleted once its end is stored.
    pub deleting: Vec<ReplyId>,
    /// Why it is being ended, where no operator asked for that.
    pub given_up: Option<ErrorWord>,
    /// The run in whose place it is launched, while that is not over; nothing of this one is started before.
    pub replaces: Option<InstanceId>,
}

/// Callers that may wait for one thing of a run. The oldest of more is told to ask again, for it may have left: a stop or a deletion of what
/// cannot be ended or stored may be tried any number of times.
const WAITING: usize = 64;

/// Notes a caller that waits; answers the one that waits no longer for that.
pub(super) fn wait(waiting: &mut Vec<ReplyId>, reply: ReplyId) -> Option<ReplyId> {
    waiting.push(reply);
    (waiting.len() > WAITING).then(|| waiting.remove(0))
}

impl State {
    /// A state that knows nothing yet.
    #[must_use]
    pub fn new(limits: TaskLimits, backend: BackendKind) -> Self {
        Self {
            limits,
            backend,
            projects: BTreeMap::new(),
            live: BTreeMap::new(),
            confirmations: Confirmations::default(),
            removing: BTreeMap::new(),
        }
    }

    /// Runs that hold a place: those that are starting or running, but for those that make room for their replacement, for the two have one
    /// place. What has ended holds none, stored or not.
    pub fn places(&self) -> impl Iterator<Item = &Live> {
        let open = |live: &&Live| !live.run.instance.state.is_terminal();
        let replaced: BTreeSet<_> =
            self.live.values().filter(open).filter_map(|live| live.replaces).collect();
        self.live.values().filter(open).filter(move |live| !replaced.contains(&live.run.instance.id))
    }

    /// Whether a project has a run that is not over, or whose end is not stored.
    #[must_use]
    pub fn is_busy(&self, project: &ProjectId) -> bool {
        self.live.values().any(|live| live.run.instance.project_id == *project)
    }
}

impl Live {
    /// A recorded run that goes on after the daemon was away.
    #[must_use]
    pub const fn resumed(run: Run) -> Self {
        Self::at(run, None, Phase::Running)
    }

    /// A recorded run that the daemon was away before it began.
    #[must_use]
    pub const fn due(run: Run) -> Self {
        Self::at(run, None, Phase::Due)
    }

    /// A run that no caller waits for.
    #[must_use]
    pub const fn at(run: Run, plan: Option<Plan>, phase: Phase) -> Self {
        Self {
            run,
            plan,
            phase,
            waiting: Vec::new(),
            also: Vec::new(),
            deleting: Vec::new(),
            given_up: None,
            replaces: None,
        }
    }

    /// Whether its tree is being ended: then its end counts when nothing of the tree lives.
    #[must_use]
    pub const fn is_being_ended(&self) -> bool {
        self.run.stop.is_some() || self.given_up.is_some()
    }

    /// Whether it came of the same key as this plan.
    #[must_use]
    pub fn is_launch_of(&self, plan: &Plan, operator: &str) -> bool {
        let key = self.plan.as_ref().and_then(|plan| plan.idempotency_key.as_ref());
        let instance = &self.run.instance;
        key.is_some()
            && key == plan.idempotency_key.as_ref()
            && instance.project_id == plan.project
            && instance.launched_by == operator
    }

    /// Whether its row is in the store, so that others may see it.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        !matches!(self.phase, Phase::Recording { .. })
    }
}
