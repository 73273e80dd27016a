//! One WebSocket connection: what it hears, what it says, in which order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, close_code};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::desk::Desk;
use super::frame::{self, ChannelName};
use super::input::Inputs;
use super::owners::Owners;
use super::peer::{Peer, close, close_for, poll_peer, say_goodbye};
use super::subscription::{Pty, Turn};
use super::waiting::{Done, Guard};
use crate::api::state::closed;
use crate::daemon::TerminalId;
use crate::metrics::Metrics;
use crate::model::Scope;

/// Text frames that wait to be sent, and their bytes. At either cap the client is not listened to.
const OUTBOX_LIMIT: usize = 64;
const OUTBOX_BYTES: usize = 64 << 10;
/// Pings that were heard and whose answers the client has not taken yet. At the cap it is not listened to.
const PINGS_LIMIT: u32 = 64;
/// Messages heard in one window. At the cap the client is not listened to until the window is over, and waits with what it would say. It is far
/// above what acknowledging the fastest output takes, one message for 32 KiB.
const HEARD_LIMIT: u32 = 100;
const HEARD_WINDOW: Duration = Duration::from_millis(10);
/// Handles of former subscriptions that are remembered, so that an error about a late frame names its channel; about an older one it names none.
const RETIRED_LIMIT: usize = 256;
/// Events sent in one turn.
const EVENTS_AT_ONCE: usize = 32;
/// How often the client is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Who says nothing for so long, not even that it lives, is closed with 1008: a peer that is gone, or does not read.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Of this time the last part begins when this side looks: after it was itself stopped, what the peer said meanwhile is heard first.
const SILENCE_LOOK: Duration = Duration::from_secs(1);
/// How long a connection that is over may take to say goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// A subscription, and the futures that die with it.
pub(super) struct Sub {
    pub(super) kind: Kind,
    pub(super) queued: bool,
    pub(super) watch: Option<Guard>,
    pub(super) job: Option<Guard>,
}

pub(super) enum Kind {
    Pty(Box<Pty>, #[expect(dead_code, reason = "held to be counted")] Counted),
    /// The id of the last event sent.
    Events(i64),
}

/// Counts a subscription while it stands.
pub(super) struct Counted(Arc<Metrics>);

impl Counted {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.subscribers.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscribers.dec();
    }
}

/// How many more messages are heard, and until when that counts.
struct Window {
    until: Instant,
    left: u32,
}

impl Window {
    fn at(now: Instant) -> Self {
        Self { until: now + HEARD_WINDOW, left: HEARD_LIMIT }
    }

    fn count(&mut self, now: Instant) {
        if now >= self.until {
            *self = Self::at(now);
        }
        self.left = self.left.saturating_sub(1);
    }
}

/// A connection before and while it runs.
pub(super) struct Connection<D> {
    pub(super) desk: D,
    pub(super) scope: Scope,
    pub(super) owners: Arc<Owners>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) number: u64,
    pub(super) next_handle: u32,
    pub(super) subs: BTreeMap<u32, Sub>,
    pub(super) handles: HashMap<ChannelName, u32>,
    /// The last handles that stand for nothing any more, newest last.
    pub(super) retired: VecDeque<(u32, ChannelName)>,
    /// Subscriptions whose turn may bring something, each at most once.
    pub(super) ready: VecDeque<u32>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) inputs: Inputs,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Ends when the credential it was opened with opens nothing any more.
    pub(super) useless: BoxFuture<'static, ()>,
}

impl<D: Desk> Connection<D> {
    pub(super) fn new(
        desk: D,
        scope: Scope,
        owners: Arc<Owners>,
        metrics: Arc<Metrics>,
        closing: watch::Receiver<bool>,
        useless: BoxFuture<'static, ()>,
    ) -> Self {
        let number = owners.connection();
        metrics.websockets.inc();
        Self {
            desk,
            scope,
            owners,
            metrics,
            closing,
            number,
            next_handle: 1,
            subs: BTreeMap::new(),
            handles: HashMap::new(),
            retired: VecDeque::new(),
            ready: VecDeque::new(),
            outbox: VecDeque::new(),
            inputs: Inputs::default(),
            work: FuturesUnordered::new(),
            useless,
        }
    }

    /// Runs the connection until either side ends it.
    pub(super) async fn run<S>(mut self, mut socket: S)
    where
        S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
    {
        let goodbye = self.talk(&mut socket).await;
        // Who does not say goodbye in time is gone.
        let _ = tokio::time::timeout(GOODBYE_LIMIT, async {
            tokio::join!(say_goodbye(&mut socket, goodbye), self.leave());
        })
        .await;
    }

    /// The conversation. Answers the reason to give when this side ends it.
    pub(super) async fn talk<S>(&mut self, socket: &mut S) -> Option<CloseFrame>
    where
        S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
    {
        let mut heard = Instant::now();
        let mut silent_until = None;
        let mut ping = tokio::time::interval_at(heard + PING_EVERY, PING_EVERY);
        let mut window = Window::at(heard);
        let (mut unflushed, mut pings, mut turn) = (false, 0, false);
        loop {
            turn = !turn;
            let writing = !self.outbox.is_empty() || !self.ready.is_empty();
            let listening = pings < PINGS_LIMIT && window.left > 0 && self.outbox_has_room();
            let peer = std::future::poll_fn(|cx| {
                poll_peer(Pin::new(&mut *socket), cx, [listening, writing, unflushed, turn])
            });
            tokio::select! {
                peer = peer => match peer {
                    Peer::Said(Message::Close(_)) | Peer::Gone => return None,
                    Peer::Failed(error) => return close_for(error),
                    Peer::Said(message) => {
                        heard = Instant::now();
                        silent_until = None;
                        window.count(heard);
                        // The answer to a ping is written by the socket itself, and has to be taken by the client too.
                        if let Message::Ping(_) = message {
                            (unflushed, pings) = (true, pings + 1);
                        }
                        self.hear(message).await;
                    }
                    Peer::Flushed => (unflushed, pings) = (false, 0),
                    Peer::Ready => if let Some(frame) = self.next_frame().await {
                        unflushed = true;
                        if let Err(error) = socket.start_send_unpin(frame) {
                            return close_for(error);
                        }
                    },
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.take(done),
                () = tokio::time::sleep_until(window.until), if window.left == 0 => {
                    window = Window::at(Instant::now());
                }
                _ = ping.tick() => self.outbox.push_back(Message::Ping(Bytes::new())),
                () = tokio::time::sleep_until(silent_until.unwrap_or(heard + SILENCE_LIMIT - SILENCE_LOOK)) => {
                    if silent_until.is_some() {
                        return close(close_code::POLICY, "silence");
                    }
                    silent_until = Some(Instant::now() + SILENCE_LOOK);
                }
                () = &mut self.useless => {
                    return close(close_code::POLICY, "the credential was revoked or has expired");
                }
                () = closed(&mut self.closing) => {
                    return close(close_code::AWAY, "the daemon shuts down");
                }
            }
        }
    }

    // ---- speaking

    fn outbox_has_room(&self) -> bool {
        let bytes: usize = self.outbox.iter().map(frame::len).sum();
        self.outbox.len() < OUTBOX_LIMIT && bytes < OUTBOX_BYTES
    }

    pub(super) fn enqueue(&mut self, handle: u32) {
        if let Some(sub) = self.subs.get_mut(&handle)
            && !sub.queued
        {
            sub.queued = true;
            self.ready.push_back(handle);
        }
    }

    /// The next frame to send: what was to be said first, then the terminals in turn.
    pub(super) async fn next_frame(&mut self) -> Option<Message> {
        loop {
            if let Some(frame) = self.outbox.pop_front() {
                return Some(frame);
            }
            let handle = self.ready.pop_front()?;
            let Some(sub) = self.subs.get_mut(&handle) else { continue };
            sub.queued = false;
            match &mut sub.kind {
                Kind::Events(last) => {
                    let last = *last;
                    self.tell_events(handle, last).await;
                }
                Kind::Pty(pty, _) => match pty.turn().await {
                    Turn::More(frame) => {
                        self.enqueue(handle);
                        return Some(frame);
                    }
                    Turn::Gap(frame) => {
                        self.metrics.gaps.inc();
                        self.enqueue(handle);
                        return Some(frame);
                    }
                    Turn::Rest(frame) => {
                        self.rest(handle);
                        return Some(frame);
                    }
                    Turn::Catch(lease) => self.catch_up(handle, lease),
                    Turn::Wait => self.watch_terminal(handle),
                    Turn::Idle => {}
                },
            }
        }
    }

    pub(super) async fn tell_events(&mut self, handle: u32, last: i64) {
        let events = match self.desk.events_after(last, EVENTS_AT_ONCE).await {
            Ok(events) => events,
            Err(refusal) => return self.outbox.push_back(frame::error(&refusal, Some("events"), None)),
        };
        let concerning = events.iter().filter(|event| self.desk.concerns(event));
        self.outbox.extend(concerning.map(frame::event));
        if let (Some(newest), Some(sub)) = (events.last(), self.subs.get_mut(&handle)) {
            sub.kind = Kind::Events(newest.id);
        }
        if events.len() == EVENTS_AT_ONCE {
            self.enqueue(handle);
        }
    }

    // ---- coming and going

    /// Adds a subscription in place of an older one of that name. Answers its handle.
    pub(super) async fn add(&mut self, name: ChannelName, kind: Kind) -> u32 {
        self.drop_named(name).await;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(name, handle);
        self.subs.insert(handle, Sub { kind, queued: false, watch: None, job: None });
        handle
    }

    pub(super) async fn drop_named(&mut self, name: ChannelName) {
        if let Some(handle) = self.handles.get(&name).copied() {
            self.drop_sub(handle).await;
        }
    }

    pub(super) async fn drop_sub(&mut self, handle: u32) {
        let Some(sub) = self.subs.remove(&handle) else { return };
        if let Some(name) = self.name_of(handle) {
            self.handles.remove(&name);
            self.retired.push_back((handle, name));
            self.retired.drain(..self.retired.len().saturating_sub(RETIRED_LIMIT));
        }
        let Kind::Pty(pty, _) = sub.kind else { return };
        self.owners.release(pty.terminal, self.subscriber(handle));
        if let (TerminalId::Task(id), false) = (pty.terminal, pty.is_over()) {
            self.desk.detached(id).await;
        }
    }

    /// Ends all subscriptions, after what was typed has been delivered.
    pub(super) async fn leave(&mut self) {
        while !self.inputs.is_empty()
            && let Some(done) = self.work.next().await
        {
            self.take(done);
        }
        while let Some(handle) = self.subs.keys().next().copied() {
            self.drop_sub(handle).await;
        }
    }
}
