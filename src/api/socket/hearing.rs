//! What the client says, and what is done about it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;

use super::connection::{Connection, Counted, Kind};
use super::desk::Desk;
use super::frame::{self, ChannelName};
use super::input::Piece;
use super::owners::Subscriber;
use super::subscription::{Pty, start};
use super::waiting::Done;
use crate::api::error::{invalid, not_found};
use crate::api::wire;
use crate::api::wire::frames::{self, Mode, Said, Subscribe};
use crate::daemon::{Answer, Code, Refusal, TerminalId};
use crate::model::{Offset, Scope, Size};
use crate::terminal::Theme;

/// Channels of one connection. One more is refused.
const CHANNEL_LIMIT: usize = 256;
/// The least time between two resizes by one subscriber.
const RESIZE_PAUSE: Duration = Duration::from_millis(50);

/// A refusal and the channel it is about.
type Failure = (Refusal, Option<String>);

impl<D: Desk> Connection<D> {
    pub(super) async fn hear(&mut self, message: Message) {
        let (request, failure) = match message {
            Message::Text(text) => match frames::parse(&text) {
                Ok(said) => (Some(said.word()), self.obey(said).await.err()),
                Err(failure) => (None, Some(failure)),
            },
            Message::Binary(bytes) => (None, self.typed_binary(&bytes).err()),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => (None, None),
        };
        if let Some((refusal, channel)) = failure {
            self.outbox.push_back(frame::error(&refusal, channel.as_deref(), request));
        }
    }

    pub(super) async fn obey(&mut self, said: Said) -> Result<(), Failure> {
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
            Said::Colours(it) => {
                let answer = self.handle_of(&it.channel);
                let answer = answer.and_then(|(name, handle)| self.draws_with(name, handle, it.theme()?));
                (it.channel, answer)
            }
            Said::Ack(it) => {
                let answer = self.handle_of(&it.channel);
                (it.channel, answer.and_then(|(_, handle)| self.acknowledge(handle, Offset(it.offset))))
            }
            Said::Ping(it) => {
                self.outbox.push_back(frame::pong(it.id));
                return Ok(());
            }
        };
        answer.map_err(|refusal| (refusal, Some(channel)))
    }

    pub(super) fn handle_of(&self, channel: &str) -> Answer<(ChannelName, u32)> {
        let name = ChannelName::parse(channel)?;
        let handle = self.handles.get(&name).copied();
        handle.map(|handle| (name, handle)).ok_or_else(|| not_found("not subscribed to this channel"))
    }

    pub(super) fn pty(&mut self, handle: u32) -> Answer<&mut Pty> {
        match self.subs.get_mut(&handle).map(|sub| &mut sub.kind) {
            Some(Kind::Pty(pty, _)) => Ok(pty),
            Some(Kind::Events(_)) => Err(invalid("events are not a terminal").reason("not_a_terminal")),
            None => Err(not_found("there is no such handle")),
        }
    }

    pub(super) async fn subscribe(&mut self, it: Subscribe) -> Answer<()> {
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

    pub(super) async fn subscribe_events(&mut self, since: Option<i64>) -> Answer<()> {
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

    pub(super) async fn subscribe_pty(&mut self, terminal: TerminalId, it: &Subscribe) -> Answer<()> {
        let interactive = self.interactive(it.mode)?;
        let channel = self.desk.terminal(terminal).await?;
        let (held, ended) = (channel.held_from()..channel.live_end(), channel.ended());
        let checkpoint = channel.history().is_some_and(|history| history.checkpoint().is_some());
        let whole = held.start == Offset(0) && !checkpoint;
        let start = start(it.from.map(Offset), &held, whole, ended.is_some())?;

        let name = ChannelName::Pty(terminal);
        let former = self.handles.get(&name).copied();
        let replaced =
            former.and_then(|it| self.pty(it).ok()).map(|former| (former.first_handle, former.taken));
        self.drop_named(name).await;
        let handle = self.next_handle;
        let (mut pty, replay) = Pty::new(terminal, handle, channel, start, interactive);
        pty.wish = wire::wished_size(it.cols.as_ref(), it.rows.as_ref());
        pty.confirms = it.confirm_input;
        if let Some((first_handle, taken)) = replaced {
            (pty.first_handle, pty.taken) = (first_handle, if pty.confirms { taken } else { 0 });
        }
        let state = ended.as_ref().map_or("running", |ended| ended.state.word());
        let size = pty.channel.size();
        self.outbox.push_back(frame::subscribed(name, handle, held.end, size, (state, replay)));
        let lease = pty.first_lease();
        self.add(name, Kind::Pty(Box::new(pty), Counted::new(&self.metrics))).await;
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
    pub(super) async fn joined(&mut self, handle: u32, terminal: TerminalId, resumed: bool) {
        if let TerminalId::Task(id) = terminal {
            self.desk.attached(id, resumed).await;
        }
        let subscriber = self.subscriber(handle);
        let Ok(pty) = self.pty(handle) else { return };
        let wants = pty.interactive && pty.wish.is_some();
        if wants && self.owners.claim_free(terminal, subscriber) {
            self.apply_wish(handle);
            self.apply_theme(handle);
        }
    }

    /// Whether a subscription may type, from what it asks for and what the credential allows.
    pub(super) fn interactive(&self, mode: Option<Mode>) -> Answer<bool> {
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

    pub(super) fn typed_binary(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        let (handle, typed) = frames::parse_binary(bytes);
        let answer = match (handle, typed) {
            (Some(handle), Ok(typed)) => self.typed(handle, typed),
            (_, typed) => typed.map(drop),
        };
        let name = || handle.and_then(|handle| self.name_of(handle)).map(|name| name.to_string());
        answer.map_err(|refusal| (refusal, name()))
    }

    /// Takes what was typed. After the first refusal nothing more of the subscription is taken: it would follow a hole.
    pub(super) fn typed(&mut self, handle: u32, bytes: Bytes) -> Answer<()> {
        let terminal = self.may_act(handle)?;
        if self.pty(handle)?.input_closed {
            let message = "nothing typed here is delivered since input was refused: subscribe again";
            return Err(Refusal::new(Code::Conflict, message).reason("input_closed"));
        }
        match self.inputs.push(terminal, Piece { handle, bytes }) {
            Ok(Some(first)) => self.deliver(terminal, first),
            Ok(None) => {}
            Err(refusal) => {
                let pty = self.pty(handle)?;
                pty.input_closed = true;
                let (first, taken) = (pty.first_handle, pty.taken);
                return Err(refusal.detail("accepted", self.inputs.waiting(terminal, first) + taken));
            }
        }
        self.own(handle, terminal);
        Ok(())
    }

    /// The channel that a handle stands for, or stood for not long ago.
    pub(super) fn name_of(&self, handle: u32) -> Option<ChannelName> {
        let current = self.handles.iter().find(|(_, it)| **it == handle).map(|(name, _)| *name);
        current.or_else(|| self.retired.iter().find(|(it, _)| *it == handle).map(|(_, name)| *name))
    }

    pub(super) fn resize(&mut self, handle: u32, size: Option<Size>) -> Answer<()> {
        let terminal = self.may_act(handle)?;
        let size = size.ok_or_else(|| invalid("`cols` and `rows` are positive integers").reason("size"))?;
        self.pty(handle)?.wish = Some(size);
        self.own(handle, terminal);
        Ok(())
    }

    /// Takes the colours that a subscriber draws with. They count while it is the owner; on the channel of events, for runs to come.
    pub(super) fn draws_with(&mut self, name: ChannelName, handle: u32, theme: Theme) -> Answer<()> {
        if name == ChannelName::Events {
            self.interactive(Some(Mode::Interactive))?;
            self.desk.theme_of_later(theme);
            return Ok(());
        }
        self.may_act(handle)?;
        self.pty(handle)?.theme = Some(theme);
        self.apply_theme(handle);
        Ok(())
    }

    /// The terminal of a subscription that may type and resize.
    pub(super) fn may_act(&mut self, handle: u32) -> Answer<TerminalId> {
        let pty = self.pty(handle)?;
        if !pty.interactive {
            return Err(Refusal::new(Code::Forbidden, "this subscription only views").reason("view_mode"));
        }
        if pty.channel.ended().is_some() {
            return Err(Refusal::new(Code::Conflict, "the program has ended").reason("not_running"));
        }
        Ok(pty.terminal)
    }

    pub(super) fn acknowledge(&mut self, handle: u32, offset: Offset) -> Answer<()> {
        if self.pty(handle)?.acknowledge(offset) {
            self.enqueue(handle);
        }
        Ok(())
    }

    // ---- size

    pub(super) fn subscriber(&self, handle: u32) -> Subscriber {
        Subscriber { connection: self.number, handle }
    }

    pub(super) fn own(&mut self, handle: u32, terminal: TerminalId) {
        if self.owners.claim(terminal, self.subscriber(handle))
            && let Ok(pty) = self.pty(handle)
        {
            pty.told_theme = None;
            self.apply_theme(handle);
        }
        self.apply_wish(handle);
    }

    /// Resizes the terminal to what its owner wishes, one resize at a time.
    pub(super) fn apply_wish(&mut self, handle: u32) {
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

    pub(super) fn resized(&mut self, handle: u32, size: Size, answer: Answer<()>) {
        let subscriber = self.subscriber(handle);
        let owners = Arc::clone(&self.owners);
        let Ok(pty) = self.pty(handle) else { return };
        pty.resizing = false;
        let (name, terminal, newer) = (pty.name(), pty.terminal, pty.wish != Some(size));
        if let Err(refusal) = answer {
            self.outbox.push_back(frame::error(&refusal, Some(&name.to_string()), Some("pty.resize")));
        } else if newer && owners.owns(terminal, subscriber) {
            self.apply_wish(handle);
        }
    }

    /// Tells the terminal the colours of its owner, one telling at a time.
    pub(super) fn apply_theme(&mut self, handle: u32) {
        let (desk, subscriber, owners) =
            (self.desk.clone(), self.subscriber(handle), Arc::clone(&self.owners));
        let Ok(pty) = self.pty(handle) else { return };
        let terminal = pty.terminal;
        let Some(theme) = pty.theme.filter(|theme| {
            Some(*theme) != pty.told_theme && !pty.telling_theme && owners.owns(terminal, subscriber)
        }) else {
            return;
        };
        pty.told_theme = Some(theme);
        pty.telling_theme = true;
        self.work.push(Box::pin(async move { Done::ThemeTold(handle, desk.theme(terminal, theme).await) }));
    }

    pub(super) fn theme_told(&mut self, handle: u32, answer: Answer<()>) {
        let Ok(pty) = self.pty(handle) else { return };
        pty.telling_theme = false;
        let name = pty.name();
        match answer {
            Ok(()) => self.apply_theme(handle),
            Err(refusal) => {
                self.outbox.push_back(frame::error(&refusal, Some(&name.to_string()), Some("pty.colours")))
            }
        }
    }
}
