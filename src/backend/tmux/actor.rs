//! The actor of one project's session: comes and goes with its control client, and answers what it is asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::link::{AttachError, End, Link};
use super::pane::{Follower, Viewed};
use super::screen::Screen;
use super::server::ServerId;
use super::session::{Ask, Known};
use super::shared::Shared;
use super::types::Report;
use crate::backend::BackendError;
use crate::config::TmuxOutput;
use crate::control::{PaneId, SessionId, WindowId};
use crate::model::{ProjectId, Size};

/// Reports waiting for the daemon; more are dropped with a line in the log.
const REPORTS_LIMIT: usize = 1024;
/// Time between two looks at whether there is something to look after.
const TICK: Duration = Duration::from_millis(500);
/// Time before a control client is started again: none after one that answered, else this, then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// Control clients are not started more often than this.
const ATTACH_EVERY: Duration = Duration::from_millis(50);
/// Control mode counts as unusable when for so long no client answered.
const UNUSABLE_AFTER: Duration = Duration::from_millis(800);
/// While it is unusable it is tried this seldom at most,
const RETRY_UNUSABLE: Duration = Duration::from_secs(2);
/// and given so long to attach, since windows that are made wait for it,
const ATTACH_UNUSABLE: Duration = Duration::from_secs(1);
/// but so long otherwise.
const ATTACH_DEADLINE: Duration = Duration::from_secs(5);
/// A client whose server is gone tells how it ended within this time.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A pane somebody wants output of.
pub(super) enum Bound {
    /// A run's. `is_here`: it is in the session, as far as is known; tmux sends nothing of panes elsewhere.
    Run { follower: Follower, is_here: bool, until_shown: Vec<oneshot::Sender<()>> },
    /// The operator's, looked at.
    Operator(Viewed),
}

/// What an answer of tmux is for.
pub(super) enum Waiter {
    Listed,
    Paused(PaneId),
    Run(oneshot::Sender<Result<(), BackendError>>),
    Nobody,
}

/// Whether a list of the panes is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    Idle,
    Asked,
    /// Asked, and something changed since.
    AskedAndStale,
}

/// The next try to have a control client.
struct Retry {
    at: Instant,
    wait: Duration,
    why: String,
    /// The loss was reported.
    is_told: bool,
}

/// Owns the control client of one session.
pub(super) struct Actor {
    pub(super) project: ProjectId,
    pub(super) shared: Arc<Shared>,
    inbox: mpsc::Receiver<Ask>,
    pub(super) target: Option<(ServerId, SessionId)>,
    pub(super) link: Option<Link<Waiter>>,
    retry: Option<Retry>,
    pub(super) panes: HashMap<PaneId, Bound>,
    pub(super) captures: JoinSet<(PaneId, Result<Screen, BackendError>)>,
    pub(super) wishes: HashMap<WindowId, Size>,
    pub(super) flush_at: Option<Instant>,
    pub(super) outbox: VecDeque<Report>,
    pub(super) listing: Listing,
    /// When the panes were asked for last.
    pub(super) asked_at: Instant,
    /// Asks the server by another way, when the control client does not answer.
    pub(super) ping: JoinSet<Result<(), BackendError>>,
    /// The server answered there since, and the control client has not.
    pub(super) is_deaf: bool,
    attached_at: Instant,
    /// This control client answered once.
    pub(super) has_answered: bool,
    /// How long was waited after the last control client that never answered.
    flapping: Duration,
    /// Since when no control client answers.
    failing_since: Option<Instant>,
    pub(super) known: Known,
    /// Whether the control client gets output at all.
    pub(super) is_output_on: bool,
    pub(super) fallback_told: bool,
}

/// What the actor woke up for.
enum Woken {
    Ask(Option<Ask>),
    Link(Result<(), End>),
    Look,
    Retry,
    Flush,
    Captured(PaneId, Result<Screen, BackendError>),
    Pinged(bool),
    Nothing,
}

impl Actor {
    pub(super) fn new(
        project: ProjectId,
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Ask>,
        known: Known,
    ) -> Self {
        Self {
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
            asked_at: now(),
            ping: JoinSet::new(),
            is_deaf: false,
            attached_at: now(),
            has_answered: false,
            flapping: Duration::ZERO,
            failing_since: None,
            known,
            is_output_on: false,
            fallback_told: false,
        }
    }

    /// Until the way to it is dropped.
    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(TICK);
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
                Woken::Pinged(answered) => self.is_deaf = answered && self.listing != Listing::Idle,
                Woken::Nothing => {}
            }
        }
    }

    async fn wake(&mut self, look: &mut tokio::time::Interval) -> Woken {
        let retry_at = self.retry.as_ref().map_or_else(far_away, |retry| retry.at);
        let flush_at = self.flush_at.unwrap_or_else(far_away);
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
            Some(done) = self.ping.join_next(), if !self.ping.is_empty() => {
                Woken::Pinged(done.is_ok_and(|asked| asked.is_ok()))
            }
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

    pub(super) fn report(&mut self, report: Report) {
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
            Ask::Shown(server, pane, done) => {
                if self.serves(server)
                    && let Some(Bound::Run { is_here: true, until_shown, .. }) = self.panes.get_mut(&pane)
                    && self.link.is_some()
                    && self.is_output_on
                {
                    until_shown.push(done);
                }
            }
            Ask::View(pane, done) => self.view(pane, done),
            Ask::Resize(server, window, size) => {
                if self.serves(server) {
                    self.wishes.insert(window, size);
                    self.flush_at.get_or_insert_with(now);
                }
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

    /// Whether it is this server's windows that are looked after: another's have the same ids.
    pub(super) fn serves(&self, server: ServerId) -> bool {
        self.target.is_some_and(|(own, _)| own == server)
    }

    // ---- coming and going of the control client

    async fn attach(&mut self, server: ServerId, session: SessionId) -> Result<(), String> {
        if self.target == Some((server, session)) {
            if self.link.is_some() {
                return Ok(());
            }
            // Nobody who only wants a window waits for what did not work a moment ago.
            if let Some(retry) = self.retry.as_ref().filter(|_| self.fallback_told) {
                return Err(retry.why.clone());
            }
        }
        if self.target != Some((server, session)) {
            self.hear_out().await;
            self.leave();
            self.target = Some((server, session));
            self.shared.serve(server, &self.project);
        }
        self.connect("it was not attached".to_owned()).await
    }

    /// Lets the client of a server that is gone tell how it ended.
    async fn hear_out(&mut self) {
        if self.target.is_none_or(|(server, _)| server.lives()) {
            return;
        }
        let last_words = async {
            loop {
                match &mut self.link {
                    Some(link) => match link.turn().await {
                        Ok(()) => {}
                        Err(end) => return Some(end),
                    },
                    None => return None,
                }
            }
        };
        if let Ok(Some(end)) = tokio::time::timeout(LAST_WORDS, last_words).await {
            self.lost(end);
        }
    }

    /// Starts a control client; sees to another try when that fails and may work later.
    async fn connect(&mut self, why: String) -> Result<(), String> {
        let Some((server, session)) = self.target else { return Ok(()) };
        let wait = self.retry.take().map_or(Duration::ZERO, |retry| retry.wait);
        let (deadline, least) = match self.fallback_told {
            true => (ATTACH_UNUSABLE, RETRY_UNUSABLE),
            false => (ATTACH_DEADLINE, RETRY_FIRST),
        };
        let tried_at = now();
        let quiet = self.shared.quiet.write().await;
        let attached = Link::attach(&self.shared.settings, server, session, deadline).await;
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
                self.is_failing(tried_at, &text);
                let wait = (wait * 2).clamp(least, RETRY_LIMIT);
                self.retry = Some(Retry { at: now() + wait, wait, why, is_told: true });
                Err(text)
            }
        }
    }

    /// Says that runs stream from their shims when that lasts; once, until a control client answers again.
    fn is_failing(&mut self, since: Instant, why: &str) {
        let since = *self.failing_since.get_or_insert(since);
        let lasts = now() - since >= UNUSABLE_AFTER;
        if lasts && !std::mem::replace(&mut self.fallback_told, true) {
            self.report(Report::PipeFallback { project: self.project.clone(), why: why.to_owned() });
        }
    }

    /// The control client does what it is for.
    pub(super) fn answers(&mut self) {
        self.has_answered = true;
        self.is_deaf = false;
        self.fallback_told = false;
        self.failing_since = None;
        self.flapping = Duration::ZERO;
    }

    fn attached(&mut self, server: ServerId) {
        self.shared.attached(server);
        self.attached_at = now();
        self.has_answered = false;
        self.is_deaf = false;
        self.listing = Listing::Idle;
        // Screens that were being taken were for the client before.
        self.captures = JoinSet::new();
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
    pub(super) fn lost(&mut self, end: End) {
        self.drain();
        let end = self.link.take().and_then(|mut link| link.exit()).unwrap_or(end);
        tracing::debug!(project = %self.project, ?end, "the control client ended");
        self.listing = Listing::Idle;
        self.lose_all(false);
        if let Some((server, _)) = self.target {
            self.shared.ended(server, end.is_clean);
        }
        let at = now().max(self.attached_at + ATTACH_EVERY);
        if !self.has_answered {
            self.flapping = (self.flapping * 2).clamp(RETRY_FIRST, RETRY_LIMIT);
            self.is_failing(now(), &end.why);
        }
        let wait = self.flapping;
        self.retry = Some(Retry { at: at + wait, wait, why: end.why, is_told: false });
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
        let (why, is_told) = retry.map_or_else(Default::default, |retry| (retry.why.clone(), retry.is_told));
        let attached = self.connect(why.clone()).await;
        if !is_told && self.target.is_some() {
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

    pub(super) fn lose_all(&mut self, align: bool) {
        for bound in self.panes.values_mut() {
            if let Bound::Run { follower, is_here, .. } = bound {
                follower.lose(align && *is_here);
            }
        }
    }
}

async fn turn(link: &mut Option<Link<Waiter>>) -> Result<(), End> {
    match link {
        Some(link) => link.turn().await,
        None => std::future::pending().await,
    }
}

pub(super) fn now() -> Instant {
    Instant::now()
}

/// A time that does not come: for timers that are not set.
fn far_away() -> Instant {
    now() + Duration::from_secs(3600)
}
