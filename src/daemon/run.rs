//! The loop: one owner of the state, inputs one after the other, effects started in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::input::{Input, Project};
use super::perform::Performer;
use super::state::{Phase, State};
use super::step::step;
use crate::model::{Instance, InstanceId, ProjectId, TimeMs};

/// How many inputs may wait. A caller beyond it waits for its turn; a shim's watcher too, which costs the command nothing.
pub(super) const INBOX: usize = 1024;

/// Inputs taken in one turn. Publishing what readers see costs as much as there are runs, so it is done once a turn.
const A_TURN: usize = 64;

/// What readers may see of the state: published whenever it changed.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Registered projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// Runs that are starting or running.
    pub live: BTreeMap<InstanceId, Instance>,
    /// Runs whose end is being stored: of them the store alone tells, so that no reader sees an end that a crash could still undo.
    pub finishing: BTreeMap<InstanceId, ProjectId>,
    /// Recorded replacements that wait, and the run that each of them waits for.
    pub replaces: BTreeMap<InstanceId, InstanceId>,
}

impl View {
    /// What is visible of a state.
    #[must_use]
    pub(super) fn of(state: &State) -> Self {
        let recorded = || state.live.iter().filter(|(_, live)| live.is_recorded());
        let (finishing, live): (Vec<_>, Vec<_>) =
            recorded().partition(|(_, live)| live.phase == Phase::Finishing);
        Self {
            projects: state.projects.clone(),
            live: live.into_iter().map(|(id, live)| (*id, live.run.instance.clone())).collect(),
            finishing: finishing
                .into_iter()
                .map(|(id, live)| (*id, live.run.instance.project_id.clone()))
                .collect(),
            replaces: recorded().filter_map(|(id, live)| Some((*id, live.replaces?))).collect(),
        }
    }

    /// How many runs of a project are starting or running.
    #[must_use]
    pub(super) fn running_in(&self, project: &ProjectId) -> usize {
        self.live.values().filter(|instance| instance.project_id == *project).count()
    }

    /// The runs of a project that are not over, or whose end is not stored.
    #[must_use]
    pub(super) fn runs_of(&self, project: &ProjectId) -> Vec<InstanceId> {
        let live = self.live.iter().map(|(id, run)| (id, &run.project_id));
        live.chain(&self.finishing).filter(|(_, of)| *of == project).map(|(id, _)| *id).collect()
    }

    /// The runs that the replacement of this one waits for, this one first. It waits for more than that where this one is itself a replacement
    /// that waited.
    #[must_use]
    pub(super) fn replaced_with(&self, id: InstanceId) -> Vec<InstanceId> {
        let of_this = |by: &InstanceId| self.live.get(by).is_some_and(|run| run.restarted_from == Some(id));
        let waits_for = |by: InstanceId| std::iter::successors(Some(by), |by| self.replaces.get(by).copied());
        self.replaces.keys().copied().filter(of_this).flat_map(|by| waits_for(by).skip(1)).collect()
    }
}

/// Runs until every sender of inputs is gone.
pub(super) async fn run(
    mut state: State,
    mut inbox: mpsc::Receiver<Input>,
    performer: Performer,
    view: watch::Sender<Arc<View>>,
) {
    let mut inputs = Vec::with_capacity(A_TURN);
    while inbox.recv_many(&mut inputs, A_TURN).await > 0 {
        let now = TimeMs::now();
        let effects: Vec<_> = inputs.drain(..).flat_map(|input| step(&mut state, input, now)).collect();
        view.send_replace(Arc::new(View::of(&state)));
        performer.count_running(state.live.len());
        for effect in effects {
            performer.start(effect);
        }
    }
}
