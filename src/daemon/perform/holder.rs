//! What holds a run: its shim, started up to the gate, then listened to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use crate::backend::tmux::{Window, WindowPlan};
use crate::backend::{BackendError, Holder, pty};
use crate::broker::History;
use crate::daemon::ended::JournalHistory;
use crate::daemon::input::{Input, Placement, Plan, ShimReport, SpawnFailure};
use crate::daemon::terminals::LiveTerminal;
use crate::journal::{self, Cause, ExitRecord, Nonce, Spec};
use crate::model::{BackendKind, ErrorWord, InstanceId, ProjectId};
use crate::shim::{Client, ClientError, Event, EventStream};

/// How long a shim may take to listen after it was started.
const SHIM_STARTS_IN: Duration = Duration::from_secs(10);
/// Time between two looks for a window that comes too late.
const LATE_WINDOW_AFTER: Duration = Duration::from_secs(1);
/// How long a shim may take to leave after it was let go.
const SHIM_LEAVES_IN: Duration = Duration::from_secs(5);

impl Performer {
    /// Starts a run's shim up to its gate and listens to it from then on.
    pub(super) async fn spawn(&self, plan: Plan, backend: BackendKind) {
        let id = plan.id;
        let result = match self.place(&plan, backend).await {
            Ok(placement) => Ok(placement),
            Err(error) => {
                self.clear(&self.places.dir(id));
                if backend == BackendKind::Tmux {
                    let project = plan.project.clone();
                    self.apart(move |it| async move { it.close_late(&project, id).await });
                }
                Err(SpawnFailure { backend, message: error.to_string() })
            }
        };
        self.wake(Input::Spawned { id, result }).await;
    }

    /// Ends the window of a run that goes on without it: tmux may have made it, and may make it yet when it answers again.
    async fn close_late(&self, project: &ProjectId, id: InstanceId) {
        let Some(tmux) = &self.shared.tmux else { return };
        let mut hung = false;
        loop {
            match tmux.kill_window(project, id).await {
                // What waited for tmux may come after this.
                Ok(()) if hung => hung = false,
                Ok(()) => return,
                Err(BackendError::TmuxHangs(_)) => hung = true,
                Err(error) => return tracing::warn!(%id, %error, "a window may be left over"),
            }
            tokio::time::sleep(LATE_WINDOW_AFTER).await;
        }
    }

    async fn place(&self, plan: &Plan, backend: BackendKind) -> Result<Placement, BackendError> {
        let Some(terminal) = self.shared.terminals.get(plan.id) else { return Err(BackendError::Gone) };
        let spec = self.spec(plan, backend)?;
        let dir = journal::create(&self.places.instances, &spec)?;
        let window = match backend {
            BackendKind::Pty => {
                pty::spawn(&self.places.kas, &dir)?;
                None
            }
            BackendKind::Tmux => Some(self.open_window(plan, &dir).await?),
        };
        let (shim, events) = self.shim_of(&dir, &spec.nonce, window.as_ref()).await?;
        let ends = (shim.clone(), events);
        if let Err(error) = self.attach(plan.id, &terminal, ends, &spec.nonce, window.clone()).await {
            // It waits at its gate: nothing has run. If it cannot be told, it leaves by itself.
            let _ = shim.abort().await;
            return Err(error);
        }
        let names = window.map(|window| (window.session_name, window.window_name));
        Ok(Placement { backend, window: names })
    }

    /// Connects to a shim that was started. One whose tmux server is gone may never have begun.
    async fn shim_of(
        &self,
        dir: &Path,
        nonce: &Nonce,
        window: Option<&Window>,
    ) -> Result<(Client, EventStream), BackendError> {
        let gone = async {
            match (&self.shared.tmux, window) {
                (Some(tmux), Some(window)) => tmux.server_gone(window).await,
                (None, _) | (_, None) => std::future::pending().await,
            }
        };
        tokio::select! {
            connected = Client::connect(dir, nonce, Instant::now() + SHIM_STARTS_IN) => Ok(connected?),
            () = gone => Err(BackendError::Gone),
        }
    }

    fn spec(&self, plan: &Plan, backend: BackendKind) -> Result<Spec, BackendError> {
        let places = &self.places;
        let mut env = places.env.clone();
        for (name, value) in &plan.definition.env {
            env.retain(|(known, _)| known.to_str() != Some(name));
            env.push((name.into(), value.into()));
        }
        Ok(Spec {
            id: plan.id,
            nonce: Nonce::random()?,
            command: plan.definition.command.clone().into(),
            cwd: plan.definition.cwd.clone(),
            env,
            size: plan.definition.size,
            limit_bytes: self.shared.facts.config().limits.transcript_bytes,
            scrollback_lines: places.scrollback_lines,
            backend,
            keep_window: self.shim_stays(plan, backend),
            boot_id: places.boot_id.clone(),
        })
    }

    /// Whether the shim stays in its window after the end: history is kept, and tmux cannot keep a window by itself.
    fn shim_stays(&self, plan: &Plan, backend: BackendKind) -> bool {
        let alone = self.shared.tmux.as_ref().is_some_and(|tmux| !tmux.keeps_windows());
        backend == BackendKind::Tmux && plan.history.is_some() && alone
    }

    async fn open_window(&self, plan: &Plan, dir: &Path) -> Result<Window, BackendError> {
        let tmux = self.shared.tmux.as_ref().ok_or(BackendError::Gone)?;
        let (name, or_else) = window_names(plan);
        let window = WindowPlan {
            instance: plan.id,
            name,
            or_else,
            argv: vec![self.places.kas.clone().into(), "shim".into(), dir.into()],
            size: plan.definition.size,
            keep: plan.history.is_some(),
        };
        tmux.open_window(&plan.project, &window).await
    }

    /// Ties a shim to its run's terminal and listens to it.
    pub(super) async fn attach(
        &self,
        id: InstanceId,
        terminal: &Arc<LiveTerminal>,
        (shim, events): (Client, EventStream),
        nonce: &Nonce,
        window: Option<Window>,
    ) -> Result<(), BackendError> {
        let behind: Arc<dyn History> = Arc::new(JournalHistory::new(&self.places.dir(id)));
        terminal.history.move_to(behind);
        match (&window, &self.shared.tmux) {
            (Some(window), Some(tmux)) => {
                tmux.follow(window, nonce, terminal.channel.clone(), shim.clone()).await?;
            }
            (None, _) | (_, None) => shim.follow(terminal.channel.live_end()).await?,
        }
        let holder = Holder::new(shim, window.zip(self.shared.tmux.clone()));
        if terminal.holder.set(holder).is_err() {
            // A second try, on the other backend: the first one's shim never got as far as this.
            return Err(BackendError::Gone);
        }
        let (listener, terminal) = (self.clone(), terminal.clone());
        self.apart(move |_| async move { listener.listen(id, &terminal, events).await });
        Ok(())
    }

    /// Passes on what a shim tells: bytes to the terminal, the rest to the orchestrator, until the shim leaves.
    async fn listen(&self, id: InstanceId, terminal: &LiveTerminal, mut events: EventStream) {
        let mut record: Option<Box<ExitRecord>> = None;
        let mut told = false;
        loop {
            let event = match events.next().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%id, %error, "the connection to the shim failed");
                    break;
                }
            };
            match event {
                Event::Output { offset, bytes } => drop(terminal.channel.push(offset, bytes)),
                Event::Resized(size) => terminal.channel.set_size(size),
                Event::Started { pid } => self.report(id, ShimReport::Started { pid }).await,
                Event::Exited(ended) if terminal.stopping() => record = Some(ended),
                Event::Exited(ended) => {
                    told = true;
                    self.report_end(id, ended).await;
                }
                Event::Stopped => {
                    if let Some(record) = record.take() {
                        told = true;
                        self.report_end(id, record).await;
                    }
                }
                Event::SpawnFailed { text } => {
                    tracing::info!(%id, "the command could not be started: {text}")
                }
                Event::Hello(_) | Event::Gap { .. } | Event::InputTaken(_) | Event::End { .. } => {}
            }
        }
        terminal.left.notify_one();
        if !told {
            self.report_loss(id, record).await;
        }
    }

    async fn report(&self, id: InstanceId, report: ShimReport) {
        self.wake(Input::Shim { id, report }).await;
    }

    /// Tells an end. A window that closed under a run was closed by the operator, or its server is gone.
    async fn report_end(&self, id: InstanceId, record: Box<ExitRecord>) {
        let holder = self.shared.terminals.holder(id);
        let window = holder.as_ref().and_then(Holder::window);
        let gone = match &self.shared.tmux {
            Some(tmux) if record.cause == Cause::WindowClosed => !tmux.serves_what_it_served(window).await,
            Some(_) | None => false,
        };
        self.report(id, if gone { ShimReport::TmuxGone(record) } else { ShimReport::Ended(record) }).await;
    }

    /// The shim left without a word: its record may be on disk all the same.
    async fn report_loss(&self, id: InstanceId, record: Option<Box<ExitRecord>>) {
        let on_disk = || match ExitRecord::read(&self.places.dir(id)) {
            Ok(found) => found.map(Box::new),
            Err(error) => {
                tracing::error!(%id, %error, "the exit record cannot be read");
                None
            }
        };
        match record.or_else(on_disk) {
            Some(record) => self.report_end(id, record).await,
            None => self.report(id, ShimReport::Lost(ErrorWord::ShimLost)).await,
        }
    }

    pub(super) async fn open_gate(&self, id: InstanceId) {
        self.ask_shim(id, "open its gate", |shim| async move { shim.open_gate().await }).await;
    }

    pub(super) async fn abort(&self, id: InstanceId) {
        self.ask_shim(id, "leave", |shim| async move { shim.abort().await }).await;
    }

    /// Ends a run's process tree; on tmux the command is interrupted first (`seeds/004`, "POST /tasks/:tid/stop").
    pub(super) async fn stop_tree(&self, id: InstanceId) {
        let Some(terminal) = self.shared.terminals.get(id) else { return };
        terminal.begin_stopping();
        let in_window = terminal.holder.get().is_some_and(Holder::has_window);
        self.ask_shim(id, "stop", |shim| async move { shim.stop(in_window).await }).await;
    }

    /// A shim that cannot be asked has left, which its listener tells.
    async fn ask_shim<F: Future<Output = Result<(), ClientError>>>(
        &self,
        id: InstanceId,
        what: &str,
        ask: impl FnOnce(Client) -> F,
    ) {
        let Some(holder) = self.shared.terminals.holder(id) else { return };
        if let Err(error) = ask(holder.shim().clone()).await {
            tracing::warn!(%id, %error, "the shim could not be told to {what}");
        }
    }

    /// Everything is stored: the shim leaves, then its directory goes.
    pub(super) async fn let_go(&self, id: InstanceId, terminal: Option<Arc<LiveTerminal>>) {
        let dir = self.places.dir(id);
        if let Some(terminal) = terminal
            && let Some(holder) = terminal.holder.get()
            && holder.let_go().await.is_ok()
            && tokio::time::timeout(SHIM_LEAVES_IN, terminal.left.notified()).await.is_err()
        {
            tracing::warn!(%id, "the shim does not leave; its directory stays until the next start");
            return;
        }
        self.clear(&dir);
    }

    fn clear(&self, dir: &Path) {
        if let Err(error) = journal::remove(dir) {
            tracing::warn!(dir = %dir.display(), %error, "an instance directory could not be removed");
        }
    }
}

/// A window's name: `task-<name>`, and where that is taken or there is no name, told apart by the end of the id.
fn window_names(plan: &Plan) -> (String, String) {
    match &plan.task {
        Some(task) => (format!("task-{task}"), format!("task-{task}-{}", plan.id.tail(6))),
        None => (format!("task-{}", plan.id.tail(10)), format!("task-{}", plan.id.tail(26))),
    }
}
