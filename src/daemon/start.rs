//! Puts the daemon together: what was recorded and found is taken up before anybody is served.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};

use super::effect::Effect;
use super::facts::{Facts, task_limits};
use super::handle::{Handle, Shared};
use super::ids::Ids;
use super::input::Project;
use super::perform::{Performer, Places};
use super::run::{INBOX, View, run};
use super::state::State;
use crate::backend::tmux::{Report, Tmux};
use crate::failpoint::{Failpoint, hit};
use crate::journal;
use crate::lifecycle::OnRestart;
use crate::model::{EventKind, TimeMs};
use crate::store::{Change, NewEvent, Registered, Store};

/// How long the ends found after a start may take to be recorded before the API answers all the same.
const SETTLES_IN: Duration = Duration::from_secs(5);

/// What a daemon is made of.
pub struct Parts {
    /// What is known of the daemon itself.
    pub facts: Facts,
    /// The database.
    pub store: Store,
    /// tmux, when there is a usable one, and what it will report.
    pub tmux: Option<(Tmux, mpsc::Receiver<Report>)>,
    /// Where runs live.
    pub places: Places,
    /// What to do with runs on a PTY that outlived the daemon.
    pub on_restart: OnRestart,
}

/// Takes up what goes on, starts the loop, and answers with its handle.
///
/// # Errors
/// When the store or the instance directories cannot be read.
pub async fn start(parts: Parts) -> anyhow::Result<Handle> {
    let (inbox, inputs) = mpsc::channel(INBOX);
    let (publish, view) = watch::channel(Arc::new(View::default()));
    let mut state = State::new(task_limits(&parts.facts.config()), parts.facts.backend);
    let (tmux, reports) = parts.tmux.unzip();
    let known = journal::list(&parts.places.instances)?.into_iter().chain(parts.store.newest().await?);
    let ids = Ids::above(known);
    let shared = Arc::new(Shared::new(inbox, view, parts.store, ids, tmux, parts.facts));
    for registered in shared.store.projects().await? {
        let project = shared.files.load(registered).await;
        state.projects.insert(project.id.clone(), project);
    }
    publish.send_replace(Arc::new(View::of(&state)));
    let performer = Performer::new(shared.clone(), parts.places);
    resolved(&shared, &performer).await;
    let found = performer.find(parts.on_restart).await?;
    hit(Failpoint::LookedAround);
    let ending = found.ending();
    let first = performer.take_up(&mut state, found).await;
    hit(Failpoint::TakenUp);
    publish.send_replace(Arc::new(View::of(&state)));
    let handle = Handle(shared.clone());
    spawn(decide(run(state, inputs, performer.clone(), publish)));
    for input in first {
        shared.inbox.send(input).await?;
    }
    spawn(super::projects::poll(handle.clone()));
    if let Some(reports) = reports {
        spawn(super::panes::watch(handle.clone(), reports));
    }
    settle(&handle, &ending).await;
    hit(Failpoint::Settled);
    Ok(handle)
}

#[expect(clippy::disallowed_methods, reason = "the daemon's own loops; they end when the process does")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

/// The loop is what everything waits for: if it panics, the daemon ends, and the next one finds everything as it was recorded.
async fn decide(orchestrate: impl Future<Output = ()> + Send + 'static) {
    if AssertUnwindSafe(orchestrate).catch_unwind().await.is_err() {
        tracing::error!("the orchestrator panicked: the daemon ends, and its tasks live on; start it again");
        std::process::exit(1);
    }
}

/// Whoever asks first sees the true states: the ends that were found are recorded before the API answers.
async fn settle(handle: &Handle, ending: &[crate::model::InstanceId]) {
    let recorded = async {
        for id in ending {
            if let Err(refusal) = handle.ended(*id).await {
                tracing::warn!(%id, %refusal, "an end that was found could not be read back");
            }
        }
    };
    if tokio::time::timeout(SETTLES_IN, recorded).await.is_err() {
        tracing::warn!("some ends that were found are still being recorded");
    }
}

/// Records the backend. A database that takes nothing now keeps no daemon from starting: the event is written when it does.
async fn resolved(shared: &Shared, performer: &Performer) {
    let event = NewEvent::new(EventKind::BackendResolved, TimeMs::now())
        .detail("backend", shared.facts.backend.word())
        .detail("tmux_version", shared.facts.tmux_version.clone());
    let change = Change { events: vec![event.clone()], ..Change::default() };
    if let Err(error) = shared.store.record(change).await {
        tracing::error!(%error, "the database takes no change: what runs is found and shown, and nothing is launched before it does");
        performer.start(Effect::RecordEvents(vec![event]));
    }
}

impl super::projects::Files {
    /// A registered project as its files say now; one whose files are bad has no tasks yet and its problems.
    async fn load(&self, registered: Registered) -> Project {
        let empty = Project {
            id: registered.id,
            path: registered.path,
            tasks: Arc::default(),
            problems: Arc::default(),
        };
        self.refresh(&empty).await.0
    }
}
