//! One WebSocket connection: what it hears, what it says, in which order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, close_code};
use bytes::Bytes;
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use super::desk::Desk;
use super::frame::{self, ChannelName, Mode, Said};
use super::input::Inputs;
use super::owners::{Owners, Subscriber};
use super::subscription::{Pty, Turn, start};
use crate::api::error::{invalid, not_found};
use crate::api::state::closed;
use crate::api::wire;
use crate::broker::{Lease, Snapshot};
use crate::daemon::{Answer, Code, Refusal, TerminalId};
use crate::metrics::Metrics;
use crate::model::{Offset, Scope, Size};

/// Channels of one connection. One more is refused.
const CHANNEL_LIMIT: usize = 256;
/// Text frames that wait to be sent. At the cap the client is not listened to.
const OUTBOX_LIMIT: usize = 64;
/// Events sent in one turn.
const EVENTS_AT_ONCE: usize = 32;
/// How long small pieces of output are collected after one was sent.
const REST: Duration = Duration::from_millis(4);
/// The least time between two resizes by one subscriber.
const RESIZE_PAUSE: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// How long a connection that is over may take to say goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// A subscription, and the futures that die with it.
struct Sub {
    kind: Kind,
    queued: bool,
    watch: Option<Guard>,
    job: Option<Guard>,
}

enum Kind {
    Pty(Box<Pty>, #[expect(dead_code, reason = "held to be counted")] Counted),
    /// The id of the last event sent.
    Events(i64),
}

/// Aborts a future when dropped.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts a subscription while it stands.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.subscribers.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscribers.dec();
    }
}

/// Something a connection waited for. The numbers are handles.
enum Done {
    Nothing,
    TerminalChanged(u32, watch::Receiver<u64>),
    EventsChanged(u32, watch::Receiver<i64>),
    Rested(u32),
    Caught(u32, Snapshot),
    Delivered(TerminalId, Answer<()>),
    Resized(u32, Size, Answer<()>),
}

/// What the peer did.
enum Peer {
    Said(Message),
    /// It can take a frame.
    Ready,
    /// It took all frames.
    Flushed,
    Failed(axum::Error),
    Gone,
}

/// A refusal and the channel it is about.
type Failure = (Refusal, Option<String>);

/// A connection before and while it runs.
pub(super) struct Connection<D> {
    desk: D,
    scope: Scope,
    owners: Arc<Owners>,
    metrics: Arc<Metrics>,
    closing: watch::Receiver<bool>,
    number: u64,
    next_handle: u32,
    subs: BTreeMap<u32, Sub>,
    handles: HashMap<ChannelName, u32>,
    /// Subscriptions whose turn may bring something, each at most once.
    ready: VecDeque<u32>,
    outbox: VecDeque<Message>,
    inputs: Inputs,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl<D: Desk> Connection<D> {
    pub(super) fn new(
        desk: D,
        scope: Scope,
        owners: Arc<Owners>,
        metrics: Arc<Metrics>,
        closing: watch::Receiver<bool>,
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
            ready: VecDeque::new(),
            outbox: VecDeque::new(),
            inputs: Inputs::default(),
            work: FuturesUnordered::new(),
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
    async fn talk<S>(&mut self, socket: &mut S) -> Option<CloseFrame>
    where
        S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
    {
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(heard + PING_EVERY, PING_EVERY);
        let mut unflushed = false;
        let mut turn = false;
        loop {
            turn = !turn;
            let writing = !self.outbox.is_empty() || !self.ready.is_empty();
            let listening = self.outbox.len() < OUTBOX_LIMIT;
            let peer = std::future::poll_fn(|cx| {
                poll_peer(Pin::new(&mut *socket), cx, [listening, writing, unflushed, turn])
            });
            tokio::select! {
                peer = peer => match peer {
                    Peer::Said(Message::Close(_)) | Peer::Gone => return None,
                    Peer::Failed(error) => return close_for(error),
                    Peer::Said(message) => {
                        heard = Instant::now();
                        self.hear(message).await;
                    }
                    Peer::Flushed => unflushed = false,
                    Peer::Ready => if let Some(frame) = self.next_frame().await {
                        unflushed = true;
                        if let Err(error) = socket.start_send_unpin(frame) {
                            return close_for(error);
                        }
                    },
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.take(done),
                _ = ping.tick() => self.outbox.push_back(Message::Ping(Bytes::new())),
                () = tokio::time::sleep_until(heard + SILENCE_LIMIT) => {
                    return close(close_code::POLICY, "silence");
                }
                () = closed(&mut self.closing) => {
                    return close(close_code::AWAY, "the daemon shuts down");
                }
            }
        }
    }

    // ---- hearing

    async fn hear(&mut self, message: Message) {
        let failure = match message {
            Message::Text(text) => match frame::parse(&text) {
                Ok(said) => self.obey(said).await.err(),
                Err(failure) => Some(failure),
            },
            Message::Binary(bytes) => self.typed_binary(&bytes).err().map(|refusal| (refusal, None)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
        };
        if let Some((refusal, channel)) = failure {
            self.outbox.push_back(frame::error(&refusal, channel.as_deref()));
        }
    }

    async fn obey(&mut self, said: Said) -> Result<(), Failure> {
        let (channel, answer) = match said {
            Said::Subscribe(it) => (it.channel.clone(), self.subscribe(it).await),
            Said::Unsubscribe(it) => {
                let answer = self.handle_of(&it.channel).map(|(_, handle)| handle);
                if let Ok(handle) = answer {
                    self.drop_sub(handle).await;
                }
                (it.channel, answer.map(drop))
            }
            Said::Input(it) => {
                let answer = self.handle_of(&it.channel);
                let answer = answer.and_then(|(_, handle)| self.typed(handle, it.data.into()));
                (it.channel, answer)
            }
            Said::Resize(it) => {
                let size = wire::wished_size(Some(&it.cols), Some(&it.rows));
                let answer = self.handle_of(&it.channel);
                (it.channel, answer.and_then(|(_, handle)| self.resize(handle, size)))
            }
            Said::Ack(it) => {
                let answer = self.handle_of(&it.channel);
                (it.channel, answer.and_then(|(_, handle)| self.acknowledge(handle, Offset(it.offset))))
            }
        };
        answer.map_err(|refusal| (refusal, Some(channel)))
    }

    fn handle_of(&self, channel: &str) -> Answer<(ChannelName, u32)> {
        let name = ChannelName::parse(channel)?;
        let handle = self.handles.get(&name).copied();
        handle.map(|handle| (name, handle)).ok_or_else(|| not_found("not subscribed to this channel"))
    }

    fn pty(&mut self, handle: u32) -> Answer<&mut Pty> {
        match self.subs.get_mut(&handle).map(|sub| &mut sub.kind) {
            Some(Kind::Pty(pty, _)) => Ok(pty),
            Some(Kind::Events(_)) => Err(invalid("events are not a terminal").reason("not_a_terminal")),
            None => Err(not_found("there is no such handle")),
        }
    }

    async fn subscribe(&mut self, it: frame::Subscribe) -> Answer<()> {
        let name = ChannelName::parse(&it.channel)?;
        if self.handles.len() >= CHANNEL_LIMIT && !self.handles.contains_key(&name) {
            let message = format!("a connection may have {CHANNEL_LIMIT} channels");
            let refusal = Refusal::new(Code::RateLimited, message).reason("channel_limit");
            return Err(refusal.detail("limit", CHANNEL_LIMIT));
        }
        match name {
            ChannelName::Events => self.subscribe_events(it.since).await,
            ChannelName::Pty(terminal) => self.subscribe_pty(terminal, &it).await,
        }
    }

    async fn subscribe_events(&mut self, since: Option<i64>) -> Answer<()> {
        let mut latest = self.desk.latest_event();
        let newest = *latest.borrow_and_update();
        if since.is_some_and(|since| since > newest) {
            let refusal = invalid(format!("`since` is beyond the newest event, {newest}"));
            return Err(refusal.reason("offset").detail("end", newest));
        }
        let handle = self.add(ChannelName::Events, Kind::Events(since.unwrap_or(newest))).await;
        self.outbox.push_back(frame::subscribed_events(handle, newest, since.is_some()));
        self.watch_events(handle, latest);
        self.enqueue(handle);
        Ok(())
    }

    async fn subscribe_pty(&mut self, terminal: TerminalId, it: &frame::Subscribe) -> Answer<()> {
        let interactive = self.interactive(it.mode)?;
        let channel = self.desk.terminal(terminal).await?;
        let changes = channel.watch();
        let (held, ended) = (channel.held_from()..channel.live_end(), channel.ended());
        let checkpoint = channel.history().is_some_and(|history| history.checkpoint().is_some());
        let whole = held.start == Offset(0) && !checkpoint;
        let start = start(it.from.map(Offset), &held, whole, ended.is_some())?;

        let name = ChannelName::Pty(terminal);
        self.drop_named(name).await;
        let handle = self.next_handle;
        let (mut pty, replay) = Pty::new(terminal, handle, channel, start, interactive);
        pty.wish = wire::wished_size(it.cols.as_ref(), it.rows.as_ref());
        let state = ended.as_ref().map_or("running", |ended| ended.state.word());
        let size = pty.channel.size();
        self.outbox.push_back(frame::subscribed(name, handle, held.end, size, (state, replay)));
        let lease = pty.first_lease();
        self.add(name, Kind::Pty(Box::new(pty), Counted::new(&self.metrics))).await;
        self.watch_terminal(handle, changes);
        match lease {
            Some(lease) => self.catch_up(handle, lease),
            None => self.enqueue(handle),
        }
        if ended.is_none() {
            self.joined(handle, terminal, it.from.is_some()).await;
        }
        Ok(())
    }

    /// A living terminal has a new subscriber: it is recorded, and sizes the terminal if nobody else does.
    async fn joined(&mut self, handle: u32, terminal: TerminalId, resumed: bool) {
        if let TerminalId::Task(id) = terminal {
            self.desk.attached(id, resumed).await;
        }
        let subscriber = self.subscriber(handle);
        let wants = self.pty(handle).is_ok_and(|pty| pty.interactive && pty.wish.is_some());
        if wants && self.owners.claim_free(terminal, subscriber) {
            self.apply_wish(handle);
        }
    }

    /// Whether a subscription may type, from what it asks for and what the credential allows.
    fn interactive(&self, mode: Option<Mode>) -> Answer<bool> {
        let may = self.scope >= Scope::Run;
        match mode {
            Some(Mode::View) => Ok(false),
            None => Ok(may),
            Some(Mode::Interactive) if may => Ok(true),
            Some(Mode::Interactive) => {
                let refusal = Refusal::new(Code::Forbidden, "typing needs the scope run");
                Err(refusal.reason("scope").detail("needs", "run"))
            }
        }
    }

    fn typed_binary(&mut self, bytes: &Bytes) -> Answer<()> {
        let (handle, payload) = frame::parse_binary(bytes)?;
        self.typed(handle, payload)
    }

    fn typed(&mut self, handle: u32, bytes: Bytes) -> Answer<()> {
        let terminal = self.may_act(handle)?;
        if let Some(first) = self.inputs.push(terminal, bytes)? {
            self.deliver(terminal, first);
        }
        self.own(handle, terminal);
        Ok(())
    }

    fn resize(&mut self, handle: u32, size: Option<Size>) -> Answer<()> {
        let terminal = self.may_act(handle)?;
        let size = size.ok_or_else(|| invalid("`cols` and `rows` are positive integers").reason("size"))?;
        self.pty(handle)?.wish = Some(size);
        self.own(handle, terminal);
        Ok(())
    }

    /// The terminal of a subscription that may type and resize.
    fn may_act(&mut self, handle: u32) -> Answer<TerminalId> {
        let pty = self.pty(handle)?;
        if !pty.interactive {
            return Err(Refusal::new(Code::Forbidden, "this subscription only views").reason("view_mode"));
        }
        if pty.channel.ended().is_some() {
            return Err(Refusal::new(Code::Conflict, "the program has ended").reason("not_running"));
        }
        Ok(pty.terminal)
    }

    fn acknowledge(&mut self, handle: u32, offset: Offset) -> Answer<()> {
        if self.pty(handle)?.acknowledge(offset) {
            self.enqueue(handle);
        }
        Ok(())
    }

    // ---- size

    fn subscriber(&self, handle: u32) -> Subscriber {
        Subscriber { connection: self.number, handle }
    }

    fn own(&mut self, handle: u32, terminal: TerminalId) {
        self.owners.claim(terminal, self.subscriber(handle));
        self.apply_wish(handle);
    }

    /// Resizes the terminal to what its owner wishes, one resize at a time.
    fn apply_wish(&mut self, handle: u32) {
        let desk = self.desk.clone();
        let Ok(pty) = self.pty(handle) else { return };
        let Some(size) = pty.wish.filter(|wish| *wish != pty.channel.size() && !pty.resizing) else { return };
        pty.resizing = true;
        let terminal = pty.terminal;
        self.work.push(Box::pin(async move {
            let answer = desk.resize(terminal, size).await;
            tokio::time::sleep(RESIZE_PAUSE).await;
            Done::Resized(handle, size, answer)
        }));
    }

    fn resized(&mut self, handle: u32, size: Size, answer: Answer<()>) {
        let subscriber = self.subscriber(handle);
        let owners = Arc::clone(&self.owners);
        let Ok(pty) = self.pty(handle) else { return };
        pty.resizing = false;
        let (name, terminal, newer) = (pty.name(), pty.terminal, pty.wish != Some(size));
        if let Err(refusal) = answer {
            self.outbox.push_back(frame::error(&refusal, Some(&name.to_string())));
        } else if newer && owners.owns(terminal, subscriber) {
            self.apply_wish(handle);
        }
    }

    // ---- waiting

    fn take(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::TerminalChanged(handle, changes) => {
                self.watch_terminal(handle, changes);
                self.enqueue(handle);
            }
            Done::EventsChanged(handle, latest) => {
                self.watch_events(handle, latest);
                self.enqueue(handle);
            }
            Done::Rested(handle) => {
                if let Ok(pty) = self.pty(handle) {
                    pty.rested();
                }
                self.enqueue(handle);
            }
            Done::Caught(handle, snapshot) => {
                if let Ok(pty) = self.pty(handle) {
                    pty.caught(snapshot);
                }
                self.enqueue(handle);
            }
            Done::Delivered(terminal, Ok(())) => {
                if let Some(next) = self.inputs.delivered(terminal) {
                    self.deliver(terminal, next);
                }
            }
            Done::Delivered(terminal, Err(refusal)) => {
                self.inputs.failed(terminal);
                let name = ChannelName::Pty(terminal).to_string();
                self.outbox.push_back(frame::error(&refusal, Some(&name)));
            }
            Done::Resized(handle, size, answer) => self.resized(handle, size, answer),
        }
    }

    fn deliver(&mut self, terminal: TerminalId, bytes: Bytes) {
        let desk = self.desk.clone();
        self.work.push(Box::pin(async move { Done::Delivered(terminal, desk.input(terminal, bytes).await) }));
    }

    /// Waits for something on behalf of a subscription that still stands.
    fn wait(&mut self, waiting: impl Future<Output = Done> + Send + 'static) -> Guard {
        let (waiting, abort) = abortable(waiting);
        self.work.push(Box::pin(async move { waiting.await.unwrap_or(Done::Nothing) }));
        Guard(abort)
    }

    fn watch_terminal(&mut self, handle: u32, mut changes: watch::Receiver<u64>) {
        let guard = self.wait(async move {
            match changes.changed().await {
                Ok(()) => Done::TerminalChanged(handle, changes),
                Err(_) => Done::Nothing,
            }
        });
        self.subs.entry(handle).and_modify(|sub| sub.watch = Some(guard));
    }

    fn watch_events(&mut self, handle: u32, mut latest: watch::Receiver<i64>) {
        let guard = self.wait(async move {
            match latest.changed().await {
                Ok(()) => Done::EventsChanged(handle, latest),
                Err(_) => Done::Nothing,
            }
        });
        self.subs.entry(handle).and_modify(|sub| sub.watch = Some(guard));
    }

    fn rest(&mut self, handle: u32) {
        let guard = self.wait(async move {
            tokio::time::sleep(REST).await;
            Done::Rested(handle)
        });
        self.subs.entry(handle).and_modify(|sub| sub.job = Some(guard));
    }

    fn catch_up(&mut self, handle: u32, lease: Arc<Lease>) {
        let guard = self.wait(async move { Done::Caught(handle, lease.snapshot().await) });
        self.subs.entry(handle).and_modify(|sub| sub.job = Some(guard));
    }

    // ---- speaking

    fn enqueue(&mut self, handle: u32) {
        if let Some(sub) = self.subs.get_mut(&handle)
            && !sub.queued
        {
            sub.queued = true;
            self.ready.push_back(handle);
        }
    }

    /// The next frame to send: what was to be said first, then the terminals in turn.
    async fn next_frame(&mut self) -> Option<Message> {
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
                    Turn::Idle => {}
                },
            }
        }
    }

    async fn tell_events(&mut self, handle: u32, last: i64) {
        let events = match self.desk.events_after(last, EVENTS_AT_ONCE).await {
            Ok(events) => events,
            Err(refusal) => return self.outbox.push_back(frame::error(&refusal, Some("events"))),
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
    async fn add(&mut self, name: ChannelName, kind: Kind) -> u32 {
        self.drop_named(name).await;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(name, handle);
        self.subs.insert(handle, Sub { kind, queued: false, watch: None, job: None });
        handle
    }

    async fn drop_named(&mut self, name: ChannelName) {
        if let Some(handle) = self.handles.get(&name).copied() {
            self.drop_sub(handle).await;
        }
    }

    async fn drop_sub(&mut self, handle: u32) {
        let Some(sub) = self.subs.remove(&handle) else { return };
        self.handles.retain(|_, it| *it != handle);
        let Kind::Pty(pty, _) = sub.kind else { return };
        self.owners.release(pty.terminal, self.subscriber(handle));
        if let (TerminalId::Task(id), false) = (pty.terminal, pty.is_over()) {
            self.desk.detached(id).await;
        }
    }

    /// Ends all subscriptions, after what was typed has been delivered.
    async fn leave(&mut self) {
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

/// Listens and writes as far as wanted, in changing order so that neither starves the other.
fn poll_peer<S>(mut socket: Pin<&mut S>, cx: &mut Context<'_>, wants: [bool; 4]) -> Poll<Peer>
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error>,
{
    let [listening, writing, unflushed, read_first] = wants;
    for reading in [read_first, !read_first] {
        let polled = if reading && listening {
            socket.as_mut().poll_next(cx).map(|said| match said {
                Some(Ok(message)) => Peer::Said(message),
                Some(Err(error)) => Peer::Failed(error),
                None => Peer::Gone,
            })
        } else if !reading && writing {
            socket.as_mut().poll_ready(cx).map(|ready| ready.map_or_else(Peer::Failed, |()| Peer::Ready))
        } else if !reading && unflushed {
            socket.as_mut().poll_flush(cx).map(|done| done.map_or_else(Peer::Failed, |()| Peer::Flushed))
        } else {
            Poll::Pending
        };
        if polled.is_ready() {
            return polled;
        }
    }
    Poll::Pending
}

fn close(code: u16, reason: &'static str) -> Option<CloseFrame> {
    Some(CloseFrame { code, reason: reason.into() })
}

/// What to tell a peer that broke the rules; nothing when the connection itself broke.
fn close_for(error: axum::Error) -> Option<CloseFrame> {
    match error.into_inner().downcast::<tungstenite::Error>().map(|error| *error) {
        Ok(tungstenite::Error::Capacity(_)) => close(close_code::SIZE, "a frame may have 64 KiB"),
        Ok(tungstenite::Error::Utf8(_)) => close(close_code::INVALID, "text frames are UTF-8"),
        Ok(tungstenite::Error::Protocol(_)) => close(close_code::PROTOCOL, "not a WebSocket frame"),
        Ok(_) | Err(_) => None,
    }
}

async fn say_goodbye<S>(socket: &mut S, goodbye: Option<CloseFrame>)
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    if goodbye.is_some() && socket.send(Message::Close(goodbye)).await.is_err() {
        return;
    }
    let _ = socket.flush().await;
    // The peer's answer; after a frame that could not be read there is none to be had.
    while let Some(Ok(_)) = socket.next().await {}
}
