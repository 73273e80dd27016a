//! The daemon's handle on tmux.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::guard;
use super::pane::{Follower, Lease};
use super::probe::Version;
use super::scan::{self, Scan};
use super::server::{self, ServerId};
use super::session::{Ask, Session};
use super::settings::Settings;
use super::shared::Shared;
use super::types::{FoundForeign, Report, Window, WindowPlan};
use crate::backend::BackendError;
use crate::broker::Channel;
use crate::control::command::Keys;
use crate::control::{Command, PaneId, SessionId};
use crate::journal::Nonce;
use crate::model::{InstanceId, ProjectId, Size};
use crate::shim::Client;

/// How long an actor may take. It is at most once busy with an attach.
const DEADLINE: Duration = Duration::from_secs(8);
/// The longest that the status waits for what a server is set to, which may hang: well within the 2 s of a command.
const NOTES_WITHIN: Duration = Duration::from_millis(300);
/// Time between two looks at whether a server lives.
const LIVES_EVERY: Duration = Duration::from_millis(100);
/// How long the end of a run may take through tmux; its shim stays 2 s.
const SHOWN_DEADLINE: Duration = Duration::from_secs(1);
/// Commands of one typed sequence: enough to be fast, few enough that other commands get between.
const KEYS_AT_ONCE: usize = 64;

/// tmux as one backend. Clones share it; when the last is dropped its control clients end, its windows stay.
#[derive(Clone)]
pub struct Tmux(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// One per project that had a window since the start.
    sessions: Mutex<HashMap<ProjectId, Arc<Session>>>,
}

/// A run's window that is followed for as long as this, or a clone of it, is there.
#[derive(Clone)]
pub struct Followed {
    tmux: Tmux,
    window: Window,
    _lease: Lease,
}

impl Followed {
    /// The window.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Waits until everything of an ended run has gone through tmux, so that a kept window shows it all; at most 1 s. tmux throws away what
    /// it has not read yet when a window's process ends.
    pub async fn shown(&self) {
        let Self { tmux, window, .. } = self;
        if !window.is_kept {
            return;
        }
        let (done, shown) = oneshot::channel();
        let wait = async {
            let session = tmux.session(&window.project)?;
            send(&session, Ask::Shown(window.server, window.pane, done)).await?;
            // Dropped means that there is nothing to wait for.
            shown.await.or(Ok::<_, BackendError>(()))
        };
        if tokio::time::timeout(SHOWN_DEADLINE, wait).await.is_err() {
            tracing::debug!(project = %window.project, "tmux did not show the end of a run in time");
        }
    }

    /// Gives a run's window a size, whatever its viewers have. At most 20 a second are passed on, the newest always.
    ///
    /// # Errors
    /// When the actor does not answer.
    pub async fn resize(&self, size: Size) -> Result<(), BackendError> {
        let Self { tmux, window, .. } = self;
        let session = tmux.session(&window.project)?;
        send(&session, Ask::Resize(window.server, window.window, size)).await
    }
}

impl Tmux {
    /// A handle; nothing is started. What happens on the side goes to `reports`.
    #[must_use]
    pub fn new(settings: Settings, version: Version, reports: mpsc::Sender<Report>) -> Self {
        let shared = Arc::new(Shared::new(settings, version, reports));
        Self(Arc::new(Inner { shared, sessions: Mutex::default() }))
    }

    /// Whether a window outlives the shim in it. Where it does not, the shim itself has to stay for the window to be read.
    #[must_use]
    pub fn keeps_windows(&self) -> bool {
        self.0.shared.version.can_keep_panes()
    }

    /// Whether tmux answers; that no server runs is an answer.
    ///
    /// # Errors
    /// When it hangs or says no.
    pub async fn ping(&self) -> Result<(), BackendError> {
        server::ping(self.settings()).await
    }

    /// What is to be said of the server that runs: what it is set to that kas overrides, cannot override, or goes without it for, and which
    /// of these projects' sessions is a stranger's.
    pub async fn notes(&self, projects: &[ProjectId]) -> Vec<String> {
        let asked = guard::notes(self.settings(), self.0.shared.version, projects);
        match tokio::time::timeout(NOTES_WITHIN, asked).await {
            Ok(Ok(notes)) => notes,
            Ok(Err(error)) => vec![format!("the server cannot be asked what it is set to: {error}")],
            Err(_) => vec![format!(
                "the server did not say within {} ms what it is set to; ask again when it answers",
                NOTES_WITHIN.as_millis()
            )],
        }
    }

    /// Makes a window in the project's session, and the session if it is not there. When this returns, the control client is attached, or
    /// it was reported that none can be had.
    ///
    /// # Errors
    /// [`BackendError::Foreign`] when the session's name is taken by one that is not ours; what tmux said; that it hangs.
    pub async fn open_window(&self, project: &ProjectId, plan: &WindowPlan) -> Result<Window, BackendError> {
        let session = self.session_for(project);
        let _one_at_a_time = session.opening.lock().await;
        let quiet = self.0.shared.quiet.read().await;
        let window = server::open(self.settings(), self.0.shared.version, project, plan).await?;
        drop(quiet);
        self.attach(&session, project, (window.server, window.session)).await;
        Ok(window)
    }

    /// The window of a live run whose shim proved itself, as a look found it, wherever the operator may have moved it; attaches the control
    /// client. A session that is the project's by this proof, and carries no mark of this state directory, gets it.
    pub async fn adopt_window(
        &self,
        project: &ProjectId,
        instance: InstanceId,
        scan: &Scan,
    ) -> Option<Window> {
        let (window, target) = scan.window_of(project, instance)?;
        let session = self.session_for(project);
        let _one_at_a_time = session.opening.lock().await;
        if let Some(unmarked) = scan.unmarked_home(project, instance) {
            match server::claim(self.settings(), project, unmarked).await {
                Ok(()) => {
                    tracing::info!(%project, "a session without this state directory's mark is the project's by its runs")
                }
                Err(error) => tracing::warn!(%project, %error, "the project's session could not be marked"),
            }
        }
        self.attach(&session, project, target).await;
        Some(window)
    }

    /// Gives the channel the run's bytes from here on, as long as what is answered is kept: from the control stream while it is aligned,
    /// and from the shim while it is not. The shim's `Output` events are to be pushed into the same channel.
    ///
    /// # Errors
    /// When the actor does not answer; the shim streams all the same.
    pub async fn follow(
        &self,
        window: Window,
        nonce: &Nonce,
        channel: &Arc<Channel>,
        shim: Client,
    ) -> Result<Followed, BackendError> {
        let lease = Lease::default();
        let follower = Follower::new(nonce, channel, shim, &lease);
        let session = self.session(&window.project)?;
        send(&session, Ask::Follow(window.server, window.pane, follower)).await?;
        Ok(Followed { tmux: self.clone(), window, _lease: lease })
    }

    /// Ends the pane that carries this run's id, and its window if nothing else is in it. Gone already is fine.
    ///
    /// # Errors
    /// What tmux said; that it hangs.
    pub async fn kill_window(&self, _project: &ProjectId, instance: InstanceId) -> Result<(), BackendError> {
        let _quiet = self.0.shared.quiet.read().await;
        server::kill(self.settings(), instance).await
    }

    /// Ends the kept window of a run that nobody knows any more; one in which something lives stays.
    ///
    /// # Errors
    /// What tmux said; that it hangs.
    pub async fn close_dead_window(&self, instance: InstanceId) -> Result<(), BackendError> {
        let _quiet = self.0.shared.quiet.read().await;
        server::kill_dead(self.settings(), instance).await
    }

    /// Ends the session that carries the project's mark. Gone already is fine.
    ///
    /// # Errors
    /// What tmux said; that it hangs.
    pub async fn destroy_session(&self, project: &ProjectId) -> Result<(), BackendError> {
        let _quiet = self.0.shared.quiet.read().await;
        server::destroy(self.settings(), project).await?;
        self.sessions().remove(project);
        self.0.shared.forget(project);
        Ok(())
    }

    /// All sessions and windows of kas's, in one look.
    ///
    /// # Errors
    /// What tmux said; that it hangs.
    pub async fn scan(&self) -> Result<Scan, BackendError> {
        scan::scan(self.settings()).await
    }

    /// The panes of the project's session that the operator opened.
    ///
    /// # Errors
    /// What tmux said; that it hangs.
    pub async fn foreign_panes(&self, project: &ProjectId) -> Result<Vec<FoundForeign>, BackendError> {
        server::foreign_panes(self.settings(), project).await
    }

    /// The terminal of an operator's pane: offset 0 is its screen as it is now. `None` when there is no such pane, or no control client.
    pub async fn pane_channel(&self, project: &ProjectId, pane: u32) -> Option<Arc<Channel>> {
        let session = match self.session(project) {
            Ok(session) if session.knows(pane) => session,
            Ok(_) | Err(_) => self.find_foreign(project, pane).await?,
        };
        let (done, answer) = oneshot::channel();
        send(&session, Ask::View(PaneId(pane), done)).await.ok()?;
        tokio::time::timeout(DEADLINE, answer).await.ok()?.ok()
    }

    /// Types bytes into an operator's pane, in order. A pane in copy mode leaves it first, or it would swallow them.
    ///
    /// # Errors
    /// [`BackendError::Gone`] when the pane is none of a project's session; what tmux said.
    pub async fn type_into(&self, pane: u32, bytes: Bytes) -> Result<(), BackendError> {
        let session = self.owner(pane)?;
        let _one_at_a_time = session.typing.lock().await;
        let _quiet = self.0.shared.quiet.read().await;
        let keys: Vec<Command> =
            Keys::split(&bytes).map(|keys| Command::SendKeys(PaneId(pane), keys)).collect();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut commands = vec![Command::LeaveMode(PaneId(pane))];
            commands.extend_from_slice(keys);
            run(&session, commands).await?;
        }
        Ok(())
    }

    /// Gives an operator's pane a size.
    ///
    /// # Errors
    /// [`BackendError::Gone`] when the pane is none of a project's session.
    pub async fn resize_pane(&self, pane: u32, size: Size) -> Result<(), BackendError> {
        send(&*self.owner(pane)?, Ask::ResizePane(PaneId(pane), size)).await
    }

    /// Whether the server process of this window, or else the one that last held a window of ours, still lives, or ended in order: tells
    /// "the operator closed it" from "the server died". Waits at most 1 s for a dead server's control client to tell.
    pub async fn serves_what_it_served(&self, window: Option<&Window>) -> bool {
        self.0.shared.ended_in_order(window.map(|window| window.server)).await
    }

    /// Waits until the server process of this window is gone.
    pub async fn server_gone(&self, window: &Window) {
        while window.server.lives() {
            tokio::time::sleep(LIVES_EVERY).await;
        }
    }

    /// Bytes of runs that came by the control stream and not by a shim, since the start.
    #[must_use]
    pub fn control_bytes(&self) -> u64 {
        self.0.shared.control_bytes()
    }

    fn settings(&self) -> &Settings {
        &self.0.shared.settings
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<ProjectId, Arc<Session>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the actor of a project that has or had windows; there is none any more when the project was removed.
    fn session(&self, project: &ProjectId) -> Result<Arc<Session>, BackendError> {
        self.sessions().get(project).cloned().ok_or(BackendError::Gone)
    }

    /// The same for a project that has a window now.
    fn session_for(&self, project: &ProjectId) -> Arc<Session> {
        let mut sessions = self.sessions();
        let start = || Arc::new(Session::start(project.clone(), self.0.shared.clone()));
        sessions.entry(project.clone()).or_insert_with(start).clone()
    }

    /// The session a pane of the operator's is in.
    fn owner(&self, pane: u32) -> Result<Arc<Session>, BackendError> {
        self.sessions().values().find(|session| session.knows(pane)).cloned().ok_or(BackendError::Gone)
    }

    /// Attaches the control client. That it cannot be had is reported by the actor and no reason to fail: shims stream.
    async fn attach(&self, session: &Session, project: &ProjectId, target: (ServerId, SessionId)) {
        if let Err(error) = ask_attach(session, target).await {
            tracing::debug!(%project, %error, "no control client for now");
        }
    }

    /// After a restart no control client may be there yet: attaches one if the project's session has this pane.
    async fn find_foreign(&self, project: &ProjectId, pane: u32) -> Option<Arc<Session>> {
        let panes = self.foreign_panes(project).await.ok()?;
        panes.iter().find(|found| found.pane == pane)?;
        let target = server::session_of(self.settings(), project).await.ok()??;
        let session = self.session_for(project);
        ask_attach(&session, target).await.ok()?;
        Some(session)
    }
}

async fn ask_attach(session: &Session, (server, id): (ServerId, SessionId)) -> Result<(), BackendError> {
    let (done, attached) = oneshot::channel();
    send(session, Ask::Attach(server, id, done)).await?;
    answer(attached).await?.map_err(BackendError::Tmux)
}

async fn run(session: &Session, commands: Vec<Command>) -> Result<(), BackendError> {
    let (done, ran) = oneshot::channel();
    send(session, Ask::Run(commands, done)).await?;
    answer(ran).await?
}

async fn send(session: &Session, ask: Ask) -> Result<(), BackendError> {
    let sent = tokio::time::timeout(DEADLINE, session.asks.send(ask)).await;
    sent.map_err(|_| BackendError::TmuxHangs(DEADLINE))?.map_err(|_| BackendError::Gone)
}

async fn answer<T>(answer: oneshot::Receiver<T>) -> Result<T, BackendError> {
    let answered = tokio::time::timeout(DEADLINE, answer).await;
    answered.map_err(|_| BackendError::TmuxHangs(DEADLINE))?.map_err(|_| BackendError::Gone)
}
