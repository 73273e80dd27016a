//! The loop: one owner of the state, one input at a time, effects started in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::input::{Input, Project};
use super::perform::Performer;
use super::state::State;
use super::step::step;
use crate::model::{Instance, InstanceId, ProjectId, TimeMs};

/// How many inputs may wait. A caller beyond it waits for its turn; a shim's watcher too, which costs the command nothing.
pub(super) const INBOX: usize = 1024;

/// What readers may see of the state: published whenever it changed.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Registered projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// Runs that are not over.
    pub live: BTreeMap<InstanceId, Instance>,
}

impl View {
    /// What is visible of a state.
    #[must_use]
    pub(super) fn of(state: &State) -> Self {
        let live = state.live.iter().filter(|(_, live)| live.is_recorded());
        Self {
            projects: state.projects.clone(),
            live: live.map(|(id, live)| (*id, live.shown().clone())).collect(),
        }
    }

    /// How many runs of a project are starting or running.
    #[must_use]
    pub(super) fn running_in(&self, project: &ProjectId) -> usize {
        let runs = |it: &&Instance| it.project_id == *project && !it.state.is_terminal();
        self.live.values().filter(runs).count()
    }
}

/// Runs until every sender of inputs is gone.
pub(super) async fn run(
    mut state: State,
    mut inbox: mpsc::Receiver<Input>,
    performer: Performer,
    view: watch::Sender<Arc<View>>,
) {
    while let Some(input) = inbox.recv().await {
        let effects = step(&mut state, input, TimeMs::now());
        view.send_replace(Arc::new(View::of(&state)));
        performer.count_running(state.live.len());
        for effect in effects {
            performer.start(effect);
        }
    }
}
