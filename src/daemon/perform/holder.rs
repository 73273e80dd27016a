//! A run's shim: started up to its gate, then listened to.

use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::performer::Performer;
use super::salvage::Shim;
use crate::backend::tmux::{Window, WindowPlan};
use crate::backend::{BackendError, Holder, pty};
use crate::broker::History;
use crate::config::recorded_cwd;
use crate::daemon::ended::JournalHistory;
use crate::daemon::input::{Input, Placement, Plan, ShimReport, SpawnFailure};
use crate::daemon::resume::end_report;
use crate::daemon::terminals::LiveTerminal;
use crate::failpoint::{self, Failpoint, hit};
use crate::journal::{self, Cause, ExitRecord, Nonce, RecordError, Spec};
use crate::model::{BackendKind, ErrorWord, InstanceId, ProjectId};
use crate::shim::{self, Client, ClientError, Event, EventStream};

/// How long a shim may take to listen after it was started.
const SHIM_STARTS_IN: Duration = Duration::from_secs(10);
/// Time between two looks for a window that comes too late.
const LATE_WINDOW_AFTER: Duration = Duration::from_secs(1);
/// How long a shim may take to leave after it was let go.
const SHIM_LEAVES_IN: Duration = Duration::from_secs(5);

/// What a listener has heard so far.
struct Heard {
    events: EventStream,
    /// What is being passed on, and whether for the second time.
    event: Option<Event>,
    again: bool,
    /// The end, told once more when nothing of the tree lives; the orchestrator takes the first that counts.
    record: Option<Box<ExitRecord>>,
    /// It was told for the last time.
    told: bool,
}
/// How often the exit record of a run is tried to be read, and the pause between.
const READ_TRIES: u32 = 120;
pub(super) const READ_AGAIN_IN: Duration = Duration::from_millis(500);

impl Performer {
    /// Starts a run's shim up to its gate and listens to it from then on.
    pub(super) async fn spawn(&self, plan: Plan, backend: BackendKind) {
        let id = plan.id;
        hit(Failpoint::SpawnBegun);
        let result = match self.place(&plan, backend).await {
            Ok(placement) => Ok(placement),
            Err(error) => {
                self.unplace(&plan, backend);
                Err(SpawnFailure { backend, message: error.to_string() })
            }
        };
        self.wake(Input::Spawned { id, result }).await;
    }

    /// Takes away what was made for a run that did not start. A shim that waits for a daemon leaves when its directory is gone.
    pub(super) fn unplace(&self, plan: &Plan, backend: BackendKind) {
        self.clear(&self.places.dir(plan.id));
        if backend == BackendKind::Tmux {
            self.close_window(&plan.project, plan.id);
        }
    }

    /// Takes away what an earlier daemon made for a run that it did not begin. The directory first: whatever shim comes to it late finds
    /// another of that name, or none, and one that has it already leaves when it is gone. A window that tmux does not close now is closed
    /// with the run's own.
    pub(super) async fn clear_away(&self, project: &ProjectId, id: InstanceId) {
        self.clear(&self.places.dir(id));
        if let Some(tmux) = &self.shared.tmux
            && let Err(error) = tmux.kill_window(project, id).await
        {
            tracing::warn!(%id, %error, "what an earlier daemon may have opened in tmux was not closed");
        }
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
        failpoint::hand_down(&dir)?;
        hit(Failpoint::SpecWritten);
        let (window, process) = match backend {
            BackendKind::Pty => {
                let shim = pty::spawn_outside(&self.places.scopes, &self.places.kas.path(), &dir).await?;
                (None, Some(shim))
            }
            BackendKind::Tmux => (Some(self.open_window(plan, &dir).await?), None),
        };
        hit(Failpoint::ShimSpawned);
        let (shim, events) = tokio::select! {
            connected = self.shim_of(&dir, &spec.nonce, window.as_ref()) => connected?,
            () = pty::ended(process) => return Err(BackendError::Gone),
        };
        hit(Failpoint::ShimConnected);
        let ends = (shim.clone(), events);
        if let Err(error) = self.attach(plan.id, &terminal, ends, &spec.nonce, window.clone()).await {
            // It waits at its gate: nothing has run. If it cannot be told, it leaves by itself.
            let _ = shim.abort().await;
            return Err(error);
        }
        hit(Failpoint::ShimAttached);
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
        env.retain(|(known, _)| known != shim::RUN_ID);
        env.push((shim::RUN_ID.into(), plan.id.to_string().into()));
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
            argv: vec![self.places.kas.path().into(), "shim".into(), dir.into()],
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
        let followed = match (window, &self.shared.tmux) {
            (Some(window), Some(tmux)) => {
                Some(tmux.follow(window, nonce, &terminal.channel, shim.clone()).await?)
            }
            (None, _) | (_, None) => {
                shim.follow(terminal.channel.live_end()).await?;
                None
            }
        };
        let holder = Holder::new(shim, followed);
        if terminal.holder.set(holder).is_err() {
            // A second try, on the other backend: the first one's shim never got as far as this.
            return Err(BackendError::Gone);
        }
        let _ = terminal.nonce.set(*nonce);
        let (listener, terminal) = (self.clone(), terminal.clone());
        let nonce = *nonce;
        self.apart(move |_| async move { listener.listen(id, nonce, &terminal, events).await });
        Ok(())
    }

    /// Passes on what a shim tells: bytes to the terminal, the rest to the orchestrator, until the shim leaves.
    async fn listen(&self, id: InstanceId, nonce: Nonce, terminal: &LiveTerminal, events: EventStream) {
        let mut heard = Heard { events, event: None, again: false, record: None, told: false };
        while AssertUnwindSafe(self.hear(id, terminal, &mut heard)).catch_unwind().await.is_err() {
            self.count_panic(&format!("the shim of run {id} is listened to again"));
            // What was being passed on is passed on once more; if it is that which panics, without it.
            heard.again = !heard.again;
            if !heard.again {
                heard.event = None;
            }
        }
        terminal.left.notify_one();
        // What was typed and not taken is not waited for any longer.
        let Heard { events, record, told, .. } = heard;
        drop(events);
        if !told {
            self.report_loss(id, nonce, terminal, record).await;
        }
    }

    async fn hear(&self, id: InstanceId, terminal: &LiveTerminal, heard: &mut Heard) {
        loop {
            if heard.event.is_none() {
                heard.event = match heard.events.next().await {
                    Ok(Some(event)) => Some(event),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%id, %error, "the connection to the shim failed");
                        return;
                    }
                };
            }
            if let Some(event) = heard.event.clone() {
                self.pass_on(id, terminal, event, heard).await;
            }
            (heard.event, heard.again) = (None, false);
        }
    }

    async fn pass_on(&self, id: InstanceId, terminal: &LiveTerminal, event: Event, heard: &mut Heard) {
        match event {
            Event::Output { offset, bytes } => drop(terminal.channel.push(offset, bytes)),
            Event::Resized(size) => terminal.channel.set_size(size),
            Event::Started { pid } => {
                hit(Failpoint::StartHeard);
                self.report(id, ShimReport::Started { pid }).await;
            }
            Event::Exited(ended) => {
                heard.record = Some(ended.clone());
                if !terminal.stopping() {
                    hit(Failpoint::ExitHeard);
                    self.report_exit(id, ended).await;
                }
            }
            Event::Stopped => {
                if let Some(record) = heard.record.take() {
                    heard.told = true;
                    self.report_end(id, record).await;
                }
            }
            Event::SpawnFailed { text } => {
                tracing::info!(%id, "the command could not be started: {text}");
            }
            Event::Hello(_) | Event::Gap { .. } | Event::InputTaken(_) | Event::End { .. } => {}
        }
    }

    async fn report(&self, id: InstanceId, report: ShimReport) {
        self.wake(Input::Shim { id, report }).await;
    }

    /// Tells that the command ended; a stop may be on its way all the same.
    async fn report_exit(&self, id: InstanceId, record: Box<ExitRecord>) {
        if record.cause == Cause::Itself {
            return self.report(id, ShimReport::Exited(record)).await;
        }
        self.report_end(id, record).await;
    }

    /// Tells an end. A window that closed under a run was closed by the operator, or its server is gone.
    async fn report_end(&self, id: InstanceId, record: Box<ExitRecord>) {
        let holder = self.shared.terminals.holder(id);
        let window = holder.as_ref().and_then(Holder::window);
        let gone = match &self.shared.tmux {
            Some(tmux) if record.cause == Cause::WindowClosed => !tmux.serves_what_it_served(window).await,
            Some(_) | None => false,
        };
        self.report(id, end_report(record, gone)).await;
    }

    /// The shim left without a word: its record may be on disk all the same. Nothing is called over before nothing of it lives.
    async fn report_loss(
        &self,
        id: InstanceId,
        nonce: Nonce,
        terminal: &LiveTerminal,
        record: Option<Box<ExitRecord>>,
    ) {
        let found = match record {
            Some(record) => Some(record),
            None => self.record_on_disk(id).await,
        };
        let by_itself = found.as_ref().is_some_and(|record| record.cause == Cause::Itself);
        let mut ended = Vec::new();
        if !by_itself || terminal.stopping() {
            self.until_ward_left(id).await;
            ended = self.end_remains(id, nonce).await;
        }
        match found {
            Some(record) => self.report_end(id, record).await,
            None => {
                let word = ErrorWord::ShimLost;
                let text = self.loss_text(id, word, &ended).await;
                self.report(id, ShimReport::Lost(word, text)).await;
            }
        }
    }

    /// The exit record, tried again while it is the machine that keeps it from being read.
    async fn record_on_disk(&self, id: InstanceId) -> Option<Box<ExitRecord>> {
        for _ in 0..READ_TRIES {
            match ExitRecord::read(&self.places.dir(id)) {
                Ok(found) => return found.map(Box::new),
                Err(error @ RecordError::Invalid { .. }) => {
                    tracing::error!(%id, %error, "the exit record means nothing");
                    return None;
                }
                Err(error @ RecordError::Io { .. }) => {
                    tracing::error!(%id, %error, "the exit record cannot be read");
                }
            }
            tokio::time::sleep(READ_AGAIN_IN).await;
        }
        None
    }

    pub(super) async fn open_gate(&self, id: InstanceId) {
        hit(Failpoint::GateOpening);
        let dir = self.directory_of(id);
        let theme = self.shared.terminals.theme();
        let open = |shim: Client| async move {
            if let Some(theme) = theme {
                shim.theme(theme).await?;
            }
            match dir {
                Some(dir) => shim.open_gate_in(dir).await,
                // The shim tries by itself, and tells why it cannot.
                None => shim.open_gate().await,
            }
        };
        self.ask_shim(id, "open its gate", open).await;
        hit(Failpoint::GateAsked);
    }

    /// The directory that was recorded for a run, proven once more to be in its project, and from now on held open: between this proof and
    /// the command nothing looks at its path.
    fn directory_of(&self, id: InstanceId) -> Option<OwnedFd> {
        let (root, cwd) = {
            let view = self.shared.view.borrow();
            let run = view.live.get(&id)?;
            (view.projects.get(&run.project_id)?.path.clone(), run.cwd.clone())
        };
        let below = cwd.strip_prefix(&root).ok()?;
        let opened = recorded_cwd(&root, below);
        opened
            .inspect_err(|error| tracing::warn!(%id, cwd = %cwd.display(), %error, "not to be entered"))
            .ok()
    }

    pub(super) async fn abort(&self, id: InstanceId) {
        self.ask_shim(id, "leave", |shim| async move { shim.abort().await }).await;
    }

    /// Ends a run's process tree; on tmux the command is interrupted first (`seeds/004`, "POST /tasks/:tid/stop").
    pub(super) async fn stop_tree(&self, id: InstanceId) {
        let Some(terminal) = self.shared.terminals.get(id) else { return };
        if terminal.holder.get().is_some_and(|holder| holder.shim().is_read_only()) {
            tracing::warn!(%id, "the run's shim is of another kas and is not stopped");
            return;
        }
        terminal.begin_stopping();
        let in_window = terminal.holder.get().is_some_and(Holder::has_window);
        self.ask_shim(id, "stop", |shim| async move { shim.stop(in_window).await }).await;
        hit(Failpoint::StopAsked);
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

    /// The end is stored: the shim leaves, then its directory goes, where the output is stored too.
    pub(super) async fn let_go(&self, id: InstanceId, terminal: Option<Arc<LiveTerminal>>) {
        let shim = match &terminal {
            Some(terminal) if !self.leaves(terminal).await => Shim::Stays,
            Some(_) | None => Shim::Left,
        };
        if shim == Shim::Stays {
            tracing::warn!(%id, "the shim does not leave; its directory stays until the next start");
        }
        if self.shared.unread.contains_key(&id) {
            self.begin_salvage(id, shim);
        } else if shim == Shim::Left {
            self.clear(&self.places.dir(id));
            hit(Failpoint::DirRemoved);
        }
    }

    /// Lets a shim go; whether it has left then. One that cannot be told has left.
    async fn leaves(&self, terminal: &LiveTerminal) -> bool {
        let Some(holder) = terminal.holder.get() else { return true };
        if holder.let_go().await.is_err() {
            return true;
        }
        hit(Failpoint::ShimLetGo);
        tokio::time::timeout(SHIM_LEAVES_IN, terminal.left.notified()).await.is_ok()
    }

    /// Ends the window of a run that does not live in it, as soon as tmux can.
    pub(super) fn close_window(&self, project: &ProjectId, id: InstanceId) {
        let project = project.clone();
        self.apart(move |it| async move { it.close_late(&project, id).await });
    }

    pub(super) fn clear(&self, dir: &Path) {
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
