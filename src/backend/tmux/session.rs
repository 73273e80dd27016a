//! The actor of one project's session: owns its control client and says where each pane's bytes go.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::link::{AttachError, End, Link, Told};
use super::listing::{self, Row};
use super::pane::{Follower, Viewed};
use super::screen::{self, Screen};
use super::server::ServerId;
use super::shared::Shared;
use super::types::Report;
use crate::backend::BackendError;
use crate::broker::Channel;
use crate::config::TmuxOutput;
use crate::control::command::{ClientFlag, Panes, WindowTarget};
use crate::control::{Command, Event, Notification, PaneId, Reason, SessionId, WindowId};
use crate::model::{ProjectId, Size};

/// Wishes waiting for the actor; one more and the asker waits.
const ASKS: usize = 64;
/// Reports waiting for the daemon; more are dropped with a line in the log.
const REPORTS_LIMIT: usize = 1024;
/// Time between two looks at what panes there are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Time between two changes of a window's size.
const RESIZE_EVERY: Duration = Duration::from_millis(50);
/// Time before a control client is started again: at first none, then this, then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(10);

/// The operator's panes of one session, by pane and window, as last seen.
pub(super) type Known = Arc<Mutex<BTreeMap<u32, u32>>>;

/// What an actor can be asked.
pub(super) enum Ask {
    /// Have a control client attached to this session. Answered when it is, or when it cannot be.
    Attach(ServerId, SessionId, oneshot::Sender<Result<(), String>>),
    /// Give a run's pane its bytes.
    Follow(ServerId, PaneId, Follower),
    /// Say when the end of a run's output came by; dropped when it will not, or did.
    Shown(PaneId, oneshot::Sender<()>),
    /// Give an operator's pane a channel; dropped when there is no such pane.
    View(PaneId, oneshot::Sender<Arc<Channel>>),
    /// Give a run's window a size. The newest wish counts.
    Resize(WindowId, Size),
    /// Give an operator's pane a size, if nobody else looks at its session.
    ResizePane(PaneId, Size),
    /// Run commands as one sequence.
    Run(Vec<Command>, oneshot::Sender<Result<(), BackendError>>),
}

/// The way to an actor. The actor ends when this is dropped.
pub(super) struct Session {
    pub(super) asks: mpsc::Sender<Ask>,
    /// Who makes windows in the session; one at a time.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// Who types into the operator's panes; one at a time, so that what is typed stays in order.
    pub(super) typing: tokio::sync::Mutex<()>,
    pub(super) known: Known,
}

impl Session {
    /// Starts the actor of a project.
    pub(super) fn start(project: ProjectId, shared: Arc<Shared>) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS);
        let known = Known::default();
        let actor = Actor {
            project,
            shared,
            inbox,
            target: None,
            link: None,
            retry: None,
            panes: HashMap::new(),
            captures: JoinSet::new(),
            wishes: HashMap::new(),
            flush_at: None,
            outbox: VecDeque::new(),
            listing: Listing::Idle,
            known: known.clone(),
            is_output_on: false,
            fallback_told: false,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when its Session is dropped, and its control client with it"
        )]
        tokio::spawn(actor.run());
        Self { asks, opening: tokio::sync::Mutex::default(), typing: tokio::sync::Mutex::default(), known }
    }
}

impl Session {
    /// Whether the session has this pane and it is the operator's.
    pub(super) fn knows(&self, pane: u32) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&pane)
    }
}

enum Bound {
    /// A run's. `is_here`: it is in the session, as far as is known; tmux sends nothing of panes elsewhere.
    Run { follower: Follower, is_here: bool, until_shown: Vec<oneshot::Sender<()>> },
    /// The operator's, looked at.
    Operator(Viewed),
}

/// What an answer of tmux is for.
enum Waiter {
    Listed,
    Paused(PaneId),
    Run(oneshot::Sender<Result<(), BackendError>>),
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Idle,
    Asked,
    /// Asked, and something changed since.
    AskedAndStale,
}

struct Retry {
    at: Instant,
    wait: Duration,
    why: String,
}

struct Actor {
    project: ProjectId,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Ask>,
    target: Option<(ServerId, SessionId)>,
    link: Option<Link<Waiter>>,
    retry: Option<Retry>,
    panes: HashMap<PaneId, Bound>,
    captures: JoinSet<(PaneId, Result<Screen, BackendError>)>,
    wishes: HashMap<WindowId, Size>,
    flush_at: Option<Instant>,
    outbox: VecDeque<Report>,
    listing: Listing,
    known: Known,
    /// Whether the control client gets output at all.
    is_output_on: bool,
    fallback_told: bool,
}

/// What the actor woke up for.
enum Woken {
    Ask(Option<Ask>),
    Link(Result<(), End>),
    Look,
    Retry,
    Flush,
    Captured(PaneId, Result<Screen, BackendError>),
    Nothing,
}

impl Actor {
    async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.wake(&mut look).await {
                Woken::Ask(None) => return,
                Woken::Ask(Some(ask)) => self.ask(ask).await,
                Woken::Link(Ok(())) => self.drain(),
                Woken::Link(Err(end)) => self.lost(end),
                Woken::Look => self.look_again(),
                Woken::Retry => self.reattach().await,
                Woken::Flush => self.flush_sizes(),
                Woken::Captured(pane, screen) => self.captured(pane, screen),
                Woken::Nothing => {}
            }
        }
    }

    async fn wake(&mut self, look: &mut tokio::time::Interval) -> Woken {
        let far = || look_far();
        let retry_at = self.retry.as_ref().map_or_else(far, |retry| retry.at);
        let flush_at = self.flush_at.unwrap_or_else(far);
        tokio::select! {
            ask = self.inbox.recv() => Woken::Ask(ask),
            turned = turn(&mut self.link) => Woken::Link(turned),
            _ = look.tick() => Woken::Look,
            () = tokio::time::sleep_until(retry_at), if self.retry.is_some() => Woken::Retry,
            () = tokio::time::sleep_until(flush_at), if self.flush_at.is_some() => Woken::Flush,
            Some(done) = self.captures.join_next(), if !self.captures.is_empty() => match done {
                Ok((pane, screen)) => Woken::Captured(pane, screen),
                Err(error) => {
                    tracing::error!(%error, "taking a screen failed");
                    Woken::Nothing
                }
            },
            permit = self.shared.reports.reserve(), if !self.outbox.is_empty() => {
                match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(report)) => permit.send(report),
                    // Nobody listens any more: the daemon ends.
                    (Err(_), _) | (_, None) => self.outbox.clear(),
                }
                Woken::Nothing
            }
        }
    }

    fn report(&mut self, report: Report) {
        if self.outbox.len() < REPORTS_LIMIT {
            self.outbox.push_back(report);
        } else {
            tracing::warn!(project = %self.project, "too many reports of tmux wait; one is dropped");
        }
    }

    async fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Attach(server, session, done) => {
                let attached = self.attach(server, session).await;
                // Who asked may have gone.
                drop(done.send(attached));
            }
            Ask::Follow(server, pane, follower) => self.follow(server, pane, follower),
            Ask::Shown(pane, done) => {
                if let Some(Bound::Run { is_here: true, until_shown, .. }) = self.panes.get_mut(&pane)
                    && self.link.is_some()
                    && self.is_output_on
                {
                    until_shown.push(done);
                }
            }
            Ask::View(pane, done) => self.view(pane, done),
            Ask::Resize(window, size) => {
                self.wishes.insert(window, size);
                self.flush_at.get_or_insert_with(now);
            }
            Ask::ResizePane(pane, size) => self.resize_pane(pane, size),
            Ask::Run(commands, done) => match &mut self.link {
                Some(link) => {
                    link.send(&commands, Waiter::Run(done));
                    self.drain();
                }
                None => drop(done.send(Err(BackendError::Gone))),
            },
        }
    }

    // ---- coming and going of the control client

    async fn attach(&mut self, server: ServerId, session: SessionId) -> Result<(), String> {
        if self.target == Some((server, session)) && self.link.is_some() {
            return Ok(());
        }
        if self.target != Some((server, session)) {
            self.leave();
            self.target = Some((server, session));
            self.shared.serve(server, &self.project);
        }
        self.connect("it was not attached".to_owned()).await
    }

    /// Starts a control client; sees to another try when that fails and may work later.
    async fn connect(&mut self, why: String) -> Result<(), String> {
        let Some((server, session)) = self.target else { return Ok(()) };
        let wait = self.retry.take().map_or(Duration::ZERO, |retry| retry.wait);
        let quiet = self.shared.quiet.write().await;
        let attached = Link::attach(&self.shared.settings, server, session).await;
        drop(quiet);
        match attached {
            Ok(link) => {
                self.link = Some(link);
                self.attached(server);
                Ok(())
            }
            Err(AttachError::NoSession) => {
                self.leave();
                Err("the session is gone".to_owned())
            }
            Err(AttachError::Failed(text)) => {
                if !self.fallback_told {
                    self.fallback_told = true;
                    self.report(Report::PipeFallback { project: self.project.clone(), why: text.clone() });
                }
                let wait = (wait * 2).clamp(RETRY_FIRST, RETRY_LIMIT);
                self.retry = Some(Retry { at: now() + wait, wait, why });
                Err(text)
            }
        }
    }

    fn attached(&mut self, server: ServerId) {
        self.shared.attached(server);
        self.fallback_told = false;
        self.listing = Listing::Idle;
        self.is_output_on = self.shared.settings.output() == TmuxOutput::Control;
        for bound in self.panes.values_mut() {
            if let Bound::Run { follower, is_here: true, .. } = bound {
                follower.lose(self.is_output_on);
            }
        }
        let viewed = self.panes.iter().filter(|(_, bound)| matches!(bound, Bound::Operator(_)));
        let viewed: Vec<PaneId> = viewed.map(|(pane, _)| *pane).collect();
        viewed.into_iter().for_each(|pane| self.pause(pane));
        self.look();
    }

    /// The control client ended: what it had told is taken, and the shims stream until there is another.
    fn lost(&mut self, end: End) {
        self.drain();
        let end = self.link.take().and_then(|mut link| link.exit()).unwrap_or(end);
        tracing::debug!(project = %self.project, ?end, "the control client ended");
        self.listing = Listing::Idle;
        self.lose_all(false);
        if let Some((server, _)) = self.target {
            self.shared.ended(server, end.is_clean);
        }
        self.retry = Some(Retry { at: now(), wait: Duration::ZERO, why: end.why });
    }

    async fn reattach(&mut self) {
        let Some((server, _)) = self.target else {
            self.retry = None;
            return;
        };
        if !server.lives() {
            let projects = self.shared.gone(server);
            if !projects.is_empty() {
                self.report(Report::ServerGone { projects });
            }
            return self.leave();
        }
        let retry = self.retry.as_ref();
        let (why, is_first) =
            retry.map_or_else(Default::default, |retry| (retry.why.clone(), retry.wait.is_zero()));
        let attached = self.connect(why.clone()).await;
        if is_first && self.target.is_some() {
            self.report(Report::ControlLost { project: self.project.clone(), why });
        }
        if let Err(error) = attached {
            tracing::debug!(project = %self.project, error, "the control client could not be started again");
        }
    }

    /// The session is gone, and all its panes.
    fn leave(&mut self) {
        self.link = None;
        self.retry = None;
        self.target = None;
        self.listing = Listing::Idle;
        self.wishes.clear();
        for (_, bound) in self.panes.drain() {
            match bound {
                Bound::Run { mut follower, .. } => follower.lose(false),
                Bound::Operator(viewed) => viewed.end(),
            }
        }
        self.seen(BTreeMap::new());
    }

    fn lose_all(&mut self, align: bool) {
        for bound in self.panes.values_mut() {
            if let Bound::Run { follower, is_here, .. } = bound {
                follower.lose(align && *is_here);
            }
        }
    }

    // ---- what tmux tells

    fn drain(&mut self) {
        while let Some(told) = self.link.as_mut().and_then(Link::next) {
            match told {
                Told::Event(Event::Output { pane, bytes, .. }) => self.output(pane, &bytes),
                Told::Event(Event::Notification(notification)) => self.notified(&notification),
                Told::Event(Event::Unparsed(unparsed)) => {
                    tracing::debug!(?unparsed, "a line of tmux that is not understood");
                    if unparsed.reason == Reason::LineTooLong {
                        self.lose_all(self.is_output_on);
                    }
                }
                Told::Event(Event::Block(_) | Event::Reply { .. } | Event::Closed) => {}
                Told::Answer(waiter, answer) => self.answered(waiter, answer),
            }
        }
    }

    fn output(&mut self, pane: PaneId, bytes: &Bytes) {
        match self.panes.get_mut(&pane) {
            Some(Bound::Run { follower, .. }) => {
                let taken = follower.output(bytes);
                self.shared.count(taken.new_bytes);
                if taken.ended {
                    self.panes.remove(&pane);
                }
            }
            Some(Bound::Operator(viewed)) => {
                let is_too_much = viewed.output(bytes);
                if is_too_much {
                    self.pause(pane);
                }
            }
            None => {}
        }
    }

    fn notified(&mut self, notification: &Notification) {
        match notification {
            Notification::Pause { pane } => self.paused_by_tmux(*pane),
            Notification::LayoutChange { .. }
            | Notification::UnlinkedWindowAdd { .. }
            | Notification::UnlinkedWindowClose { .. }
            | Notification::WindowAdd { .. }
            | Notification::WindowClose { .. } => self.look(),
            Notification::SessionChanged { session, .. } => {
                if self.target.is_some_and(|(_, own)| own != *session) {
                    // Somebody switched our client to another session.
                    self.lost(End { why: "it was moved to another session".to_owned(), is_clean: true });
                }
            }
            Notification::ClientDetached { .. }
            | Notification::ClientSessionChanged { .. }
            | Notification::ConfigError { .. }
            | Notification::Continue { .. }
            | Notification::Exit { .. }
            | Notification::Message { .. }
            | Notification::PaneModeChanged { .. }
            | Notification::PasteBufferChanged { .. }
            | Notification::PasteBufferDeleted { .. }
            | Notification::SessionRenamed { .. }
            | Notification::SessionWindowChanged { .. }
            | Notification::SessionsChanged
            | Notification::SubscriptionChanged(_)
            | Notification::UnlinkedWindowRenamed { .. }
            | Notification::WindowPaneChanged { .. }
            | Notification::WindowRenamed { .. } => {}
        }
    }

    /// Output of the pane was thrown away because we read too slowly.
    fn paused_by_tmux(&mut self, pane: PaneId) {
        match self.panes.get_mut(&pane) {
            Some(Bound::Run { follower, .. }) => {
                // Alignment is asked for after this command is on its way; the mark cannot come before output flows again,
                // and one that is lost all the same is asked for again at the next look.
                follower.lose(true);
                self.send(Command::ContinueOutput(pane), Waiter::Nobody);
            }
            Some(Bound::Operator(viewed)) => {
                if viewed.is_live() {
                    self.pause(pane);
                }
            }
            None => self.send(Command::ContinueOutput(pane), Waiter::Nobody),
        }
    }

    fn answered(&mut self, waiter: Waiter, answer: Result<Bytes, String>) {
        match waiter {
            Waiter::Listed => self.listed(answer),
            Waiter::Paused(pane) => match answer {
                Ok(_) => self.capture(pane),
                Err(_) => drop(self.panes.remove(&pane)),
            },
            // Who asked may have gone.
            Waiter::Run(done) => drop(done.send(answer.map(drop).map_err(BackendError::Tmux))),
            Waiter::Nobody => {
                if let Err(error) = answer {
                    tracing::debug!(project = %self.project, error, "tmux would not");
                }
            }
        }
    }

    fn send(&mut self, command: Command, waiter: Waiter) {
        if let Some(link) = &mut self.link {
            link.send(&[command], waiter);
        }
    }

    // ---- what panes there are

    fn look(&mut self) {
        let Some((_, session)) = self.target.filter(|_| self.link.is_some()) else { return };
        self.listing = match self.listing {
            Listing::Idle => {
                let list = Command::ListPanes { of: Panes::Session(session), fields: listing::fields() };
                self.send(list, Waiter::Listed);
                Listing::Asked
            }
            Listing::Asked | Listing::AskedAndStale => Listing::AskedAndStale,
        };
    }

    /// Looks from time to time, since not every change is notified.
    fn look_again(&mut self) {
        if self.link.is_none() {
            return;
        }
        if self.listing != Listing::Idle {
            // tmux has not answered since the last look: nothing is to wait for it.
            for bound in self.panes.values_mut() {
                if let Bound::Run { follower, is_here: true, .. } = bound
                    && follower.is_aligned()
                {
                    follower.lose(self.is_output_on);
                }
            }
            return;
        }
        self.panes.retain(|_, bound| !matches!(bound, Bound::Operator(viewed) if viewed.is_unwatched()));
        if self.is_output_on {
            for bound in self.panes.values_mut() {
                if let Bound::Run { follower, is_here: true, .. } = bound
                    && !follower.is_aligned()
                {
                    follower.lose(true);
                }
            }
        }
        self.look();
    }

    fn listed(&mut self, answer: Result<Bytes, String>) {
        let is_stale = self.listing == Listing::AskedAndStale;
        self.listing = Listing::Idle;
        let Ok(rows) = answer.map(|body| listing::rows(&body)) else { return };
        self.compare(&rows);
        if is_stale {
            self.look();
        }
    }

    fn compare(&mut self, rows: &[Row]) {
        for (pane, bound) in &mut self.panes {
            let row = rows.iter().find(|row| row.pane == *pane);
            match bound {
                Bound::Run { follower, is_here, .. } => {
                    if *is_here != row.is_some() {
                        *is_here = row.is_some();
                        follower.lose(*is_here && self.is_output_on);
                    }
                }
                Bound::Operator(viewed) => row.iter().for_each(|row| viewed.set_size(row.size)),
            }
        }
        let foreign = rows.iter().filter(|row| !row.is_kas);
        self.seen(foreign.map(|row| (row.pane.0, row.window.0)).collect());
    }

    /// Takes note of the operator's panes and reports what changed.
    fn seen(&mut self, now: BTreeMap<u32, u32>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, now.clone());
        drop(known);
        for pane in before.keys().filter(|pane| !now.contains_key(pane)) {
            if let Some(Bound::Operator(viewed)) = self.panes.remove(&PaneId(*pane)) {
                viewed.end();
            }
            self.report(Report::PaneClosed { project: self.project.clone(), pane: *pane });
        }
        for (pane, window) in now.iter().filter(|(pane, _)| !before.contains_key(pane)) {
            self.report(Report::PaneOpened { project: self.project.clone(), pane: *pane, window: *window });
        }
    }

    // ---- runs

    fn follow(&mut self, server: ServerId, pane: PaneId, mut follower: Follower) {
        if self.target.is_none_or(|(own, _)| own != server) {
            // The session is gone already; the follower's shim streams as long as it lives.
            return;
        }
        if self.link.is_some() && self.is_output_on {
            follower.lose(true);
        }
        self.panes.insert(pane, Bound::Run { follower, is_here: true, until_shown: Vec::new() });
    }

    fn flush_sizes(&mut self) {
        self.flush_at = (!self.wishes.is_empty()).then(|| now() + RESIZE_EVERY);
        for (window, size) in std::mem::take(&mut self.wishes) {
            self.send(resize(window, size), Waiter::Nobody);
        }
        self.drain();
    }

    // ---- the operator's panes

    fn view(&mut self, pane: PaneId, done: oneshot::Sender<Arc<Channel>>) {
        if self.link.is_none() {
            return;
        }
        if let Some(bound) = self.panes.get_mut(&pane) {
            if let Bound::Operator(viewed) = bound {
                viewed.wait(done);
            }
            return;
        }
        if !self.is_output_on {
            self.is_output_on_for_views();
        }
        let mut viewed = Viewed::asked();
        viewed.wait(done);
        self.panes.insert(pane, Bound::Operator(viewed));
        self.pause(pane);
    }

    /// Where runs stream from their shims, the control client gets output for the operator's panes only when one is looked at.
    fn is_output_on_for_views(&mut self) {
        self.send(Command::SetFlags(vec![ClientFlag::Output]), Waiter::Nobody);
    }

    /// Takes the screen of an operator's pane, or takes it again.
    fn pause(&mut self, pane: PaneId) {
        if let Some(Bound::Operator(viewed)) = self.panes.get_mut(&pane) {
            viewed.ask();
            self.send(Command::PauseOutput(pane), Waiter::Paused(pane));
        }
    }

    fn capture(&mut self, pane: PaneId) {
        let client = self.link.as_ref().and_then(Link::pid);
        if let (Some(Bound::Operator(viewed)), Some(client)) = (self.panes.get_mut(&pane), client) {
            viewed.paused();
            let shared = self.shared.clone();
            self.captures.spawn(async move { (pane, screen::take(&shared.settings, pane, client).await) });
        }
    }

    fn captured(&mut self, pane: PaneId, screen: Result<Screen, BackendError>) {
        match screen {
            Ok(screen) => {
                if let Some(Bound::Operator(viewed)) = self.panes.get_mut(&pane) {
                    viewed.screen(&screen);
                }
            }
            Err(error) => {
                tracing::debug!(%pane, %error, "the pane's screen could not be taken");
                if let Some(Bound::Operator(viewed)) = self.panes.remove(&pane) {
                    viewed.end();
                }
            }
        }
    }

    fn resize_pane(&mut self, pane: PaneId, size: Size) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&pane.0).copied();
        let Some(window) = known.map(WindowId) else { return };
        if let Some(link) = &mut self.link {
            let free = Command::FreeSize(WindowTarget::Id(window));
            link.send(&[resize(window, size), free], Waiter::Nobody);
            self.look();
        }
    }
}

fn resize(window: WindowId, size: Size) -> Command {
    Command::ResizeWindow { window: WindowTarget::Id(window), cols: size.cols(), rows: size.rows() }
}

async fn turn(link: &mut Option<Link<Waiter>>) -> Result<(), End> {
    match link {
        Some(link) => link.turn().await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    Instant::now()
}

/// A time that does not come: for timers that are not set.
fn look_far() -> Instant {
    now() + Duration::from_secs(3600)
}
