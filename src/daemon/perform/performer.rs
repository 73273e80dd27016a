//! Carries out effects. Each run has one actor, so that what concerns a run happens in order; the rest is independent.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::run::Order;
use crate::backend::{Program, Scopes};
use crate::daemon::effect::Effect;
use crate::daemon::handle::Shared;
use crate::daemon::input::Input;
use crate::daemon::refusal::Refusal;
use crate::model::{InstanceId, ProjectId, TimeMs};
use crate::store::{Change, Error, NewEvent, Registered};

/// Effects waiting for one run's actor. A run meets fewer than a dozen in its whole life.
const RUN_QUEUE: usize = 64;
/// Ends that are stored at one time, each with a whole transcript in memory; further ones wait, their bytes still on disk.
const STORING: usize = 2;
/// How long a change that must not be lost waits before it is tried again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// Where runs live on disk and what starts them.
#[derive(Debug, Clone)]
pub struct Places {
    /// `<state dir>/instances`
    pub instances: PathBuf,
    /// The daemon's own program, for `kas shim`.
    pub kas: Program,
    /// Where shims are put when the daemon is a service.
    pub scopes: Scopes,
    /// The environment every command starts from.
    pub env: Vec<(OsString, OsString)>,
    /// How many lines above the screen a terminal state holds.
    pub scrollback_lines: u32,
    /// This boot.
    pub boot_id: String,
}

impl Places {
    /// A run's directory.
    #[must_use]
    pub fn dir(&self, id: InstanceId) -> PathBuf {
        self.instances.join(id.to_string())
    }
}

/// Carries out effects.
#[derive(Clone)]
pub(in crate::daemon) struct Performer {
    pub(super) shared: Arc<Shared>,
    pub(super) places: Arc<Places>,
    pub(super) runs: Arc<DashMap<InstanceId, mpsc::Sender<Order>>>,
    pub(super) storing: Arc<Semaphore>,
}

impl Performer {
    pub(in crate::daemon) fn new(shared: Arc<Shared>, places: Places) -> Self {
        Self {
            shared,
            places: Arc::new(places),
            runs: Arc::default(),
            storing: Arc::new(Semaphore::new(STORING)),
        }
    }

    /// Starts an effect and returns at once.
    pub(in crate::daemon) fn start(&self, effect: Effect) {
        match effect {
            Effect::Reply { to, answer } => self.shared.replies.answer(to, *answer),
            Effect::Run { id, effect } => self.tell(id, Order::Do(*effect)),
            // After what was wanted of the run before: the wish is on disk before anything is signalled.
            Effect::StopTree(id) => self.tell(id, Order::StopTree),
            Effect::RecordEvents(events) => {
                self.apart(move |it| async move { it.record_events(events).await })
            }
            Effect::Cull { project, task, history, spared } => {
                self.apart(move |it| async move { it.cull(project, task, history, spared).await });
            }
            Effect::Delete { reply, target } => self.apart(move |it| async move {
                let answer = it.delete(target).await;
                it.shared.replies.answer(reply, answer);
            }),
            Effect::RecordProject { reply, project, moved_from } => self.apart(move |it| async move {
                let result = it.record_project(&project.id, project.path.clone(), moved_from).await;
                it.wake(Input::ProjectRecorded { reply, project, result }).await;
            }),
            Effect::RemoveProject { reply, id } => self.apart(move |it| async move {
                let result = it.remove_project(&id).await;
                it.wake(Input::ProjectRemoved { reply, id, result }).await;
            }),
        }
    }

    /// Says how many runs are not over.
    pub(in crate::daemon) fn count_running(&self, running: usize) {
        self.shared.metrics.running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// Gives an order to the run's actor, which is made by its first.
    pub(super) fn tell(&self, id: InstanceId, order: Order) {
        let entry = self.runs.entry(id).or_insert_with(|| {
            let (sender, mailbox) = mpsc::channel(RUN_QUEUE);
            self.apart(move |it| async move { it.act(id, mailbox).await });
            sender
        });
        if let Err(full) = entry.try_send(order) {
            tracing::error!(%id, "an effect was lost: {full}");
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "effects end by themselves, with a deadline or with their run"
    )]
    pub(super) fn apart<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Self) -> F) {
        let counting = self.clone();
        let work = work(self.clone());
        tokio::spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                counting.count_panic("an effect was given up");
            }
        });
    }

    /// Counts a panic that was caught, and says what it came to.
    pub(super) fn count_panic(&self, what: &str) {
        self.shared.metrics.panics.inc();
        tracing::error!("a panic, which the daemon survives: {what}");
    }

    pub(super) async fn wake(&self, input: Input) {
        if self.shared.inbox.send(input).await.is_err() {
            tracing::debug!("shutting down: an input came too late");
        }
    }

    /// Writes what must not be lost: tries until it is written, saying why it was not.
    pub(super) async fn write(&self, change: Change) -> Result<(), Error> {
        let mut written = self.shared.store.record(change.clone()).await;
        if !waits(&written) {
            return written.map(|_| ());
        }
        self.shared.unwritten.inc();
        while waits(&written) {
            tokio::time::sleep(std::time::Duration::from_millis(RETRY_MS)).await;
            written = self.shared.store.record(change.clone()).await;
        }
        self.shared.unwritten.dec();
        written.map(|_| ())
    }

    async fn record_events(&self, events: Vec<NewEvent>) {
        if let Err(error) = self.write(Change { events, ..Change::default() }).await {
            tracing::error!(%error, "events were lost");
        }
    }

    async fn record_project(
        &self,
        id: &ProjectId,
        path: PathBuf,
        moved_from: Option<PathBuf>,
    ) -> Result<(), Refusal> {
        let now = TimeMs::now();
        let change = if moved_from.is_some() { "moved" } else { "added" };
        let event =
            NewEvent::new(crate::model::EventKind::ProjectChanged, now).project(id).detail("change", change);
        let registered = Registered { id: id.clone(), path, registered_at: now };
        Ok(self.shared.store.add_project(registered, moved_from, vec![event]).await?)
    }

    async fn remove_project(&self, id: &ProjectId) -> Result<(), Refusal> {
        if let Some(tmux) = &self.shared.tmux {
            tmux.destroy_session(id).await?;
        }
        self.shared.files.forget(id);
        let ended = self.shared.store.all_ended(id.clone()).await?;
        // Before the records: a directory that no record knows would be left alone for ever.
        for instance in ended.iter().filter(|it| !self.shared.unread.contains_key(&it.id)) {
            self.clear(&self.places.dir(instance.id));
        }
        let now = TimeMs::now();
        let event = NewEvent::new(crate::model::EventKind::ProjectChanged, now)
            .project(id)
            .detail("change", "removed");
        self.shared.store.remove_project(id.clone(), vec![event]).await?;
        self.clear_unread(&ended);
        Ok(())
    }
}

/// Whether a change was refused that the database may take later.
fn waits<T>(written: &Result<T, Error>) -> bool {
    match written {
        Err(error @ (Error::Busy | Error::Full | Error::Undone | Error::ReadOnly(_) | Error::Io(_))) => {
            tracing::error!(%error, "a change waits for the database");
            true
        }
        Ok(_) | Err(_) => false,
    }
}
