//! What becomes of one pane's output: a run's goes to its channel by offset, the operator's as it comes.

use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::{oneshot, watch};

use super::align::{Aligner, Piece};
use super::screen::Screen;
use crate::broker::{Channel, Ended, Pushed};
use crate::journal::Nonce;
use crate::model::{Offset, RunState};
use crate::shim::{Client, ClientError};

/// Output of an operator's pane that waits for the screen it continues; with more the screen is taken again.
const HELD_LIMIT_BYTES: usize = 1024 * 1024;

/// Where a run's live bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From the shim itself. `align`: it shall write a mark too, so that the control stream can take over.
    Shim { align: bool, turn: u64 },
    /// From the control stream.
    Control,
}

/// Says for how long a run's pane is followed: until the last clone is dropped, whatever its stream told or did not tell.
pub(super) type Lease = Arc<()>;

/// A run's pane: bytes get their offsets from the marks; while there is none, the shim streams.
///
/// It owns nothing of the run: the channel, and the transcript behind it, belong to its viewers.
#[derive(Debug)]
pub(super) struct Follower {
    aligner: Aligner,
    channel: Weak<Channel>,
    lease: Weak<()>,
    /// The offset of the next byte, by what came so far.
    next: Option<Offset>,
    turn: u64,
    /// The newest wish is all that counts, so there is no queue.
    source: watch::Sender<Source>,
}

/// What a piece of a run's output was, for the books.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes that were new to the channel.
    pub(super) new_bytes: u64,
    /// The end mark was there.
    pub(super) ended: bool,
}

impl Follower {
    /// Has the shim stream from now on, in a task that ends with the follower or the shim.
    pub(super) fn new(nonce: &Nonce, channel: &Arc<Channel>, shim: Client, lease: &Lease) -> Self {
        let (source, wishes) = watch::channel(Source::Shim { align: false, turn: 0 });
        let (channel, lease) = (Arc::downgrade(channel), Arc::downgrade(lease));
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when the follower is dropped or the shim leaves"
        )]
        tokio::spawn(tell(shim, channel.clone(), wishes));
        Self { aligner: Aligner::new(&nonce.hex()), channel, lease, next: None, turn: 0, source }
    }

    /// Whether the run was released.
    pub(super) fn is_released(&self) -> bool {
        self.lease.strong_count() == 0
    }

    /// The place in the control stream is lost. `align`: a mark may give it back.
    pub(super) fn lose(&mut self, align: bool) {
        self.aligner.lose();
        self.next = None;
        self.turn += 1;
        self.source.send_replace(Source::Shim { align, turn: self.turn });
    }

    /// The control stream is further on than the channel: the shim brings what is between, and whatever it says of it is missing.
    fn fall_behind(&mut self) {
        if self.is_aligned() {
            self.turn += 1;
            self.source.send_replace(Source::Shim { align: false, turn: self.turn });
        }
    }

    /// Whether the control stream is what is shown.
    pub(super) fn is_aligned(&self) -> bool {
        *self.source.borrow() == Source::Control
    }

    /// Compares the place a mark tells with the place counted. A place further on is a window that fell so far behind that its shim left
    /// out what the journal no longer held; one further back cannot be.
    fn check(&self, told: Offset) {
        match self.next {
            Some(next) if next < told => {
                tracing::info!(
                    from = next.0,
                    to = told.0,
                    "the window fell behind what is kept, and goes on after it"
                );
            }
            Some(next) if next > told => {
                tracing::error!(
                    counted = next.0,
                    told = told.0,
                    "tmux passed on bytes that it was not given"
                );
            }
            Some(_) | None => {}
        }
    }

    /// Takes output of the pane.
    pub(super) fn output(&mut self, bytes: &Bytes) -> Taken {
        let mut taken = Taken::default();
        for piece in self.aligner.feed(bytes) {
            match piece {
                Piece::Output(at, bytes) => {
                    self.next = Some(at.after(bytes.len()));
                    taken.new_bytes += self.push(at, &bytes);
                }
                Piece::Mark { at, end } => {
                    self.check(at);
                    self.next = Some(at);
                    taken.ended |= end;
                    match end {
                        true => {}
                        false if self.is_behind(at) => self.fall_behind(),
                        false => self.take_over(),
                    }
                }
                Piece::Unaligned(_) => {}
            }
        }
        taken
    }

    /// Gives the channel bytes that continue it, and takes over from the shim. While the shim is still behind, it brings these bytes too.
    fn push(&mut self, at: Offset, bytes: &Bytes) -> u64 {
        let Some(channel) = self.channel.upgrade() else { return 0 };
        if at > channel.live_end() {
            self.fall_behind();
            return 0;
        }
        self.take_over();
        match channel.push(at, bytes) {
            Pushed::Appended(new) => new as u64,
            Pushed::Duplicate | Pushed::Gap { .. } => 0,
        }
    }

    /// Whether bytes are missing in the channel before this offset. None are once no viewer has the channel.
    fn is_behind(&self, at: Offset) -> bool {
        self.channel.upgrade().is_some_and(|channel| at > channel.live_end())
    }

    /// What comes now continues the channel or is in it already: the shim need not stream.
    fn take_over(&self) {
        self.source.send_if_modified(|now| std::mem::replace(now, Source::Control) != Source::Control);
    }
}

/// Tells the shim what is wanted of it, until nobody wants anything or it is gone.
async fn tell(shim: Client, channel: Weak<Channel>, mut wishes: watch::Receiver<Source>) {
    loop {
        let wish = *wishes.borrow_and_update();
        let Some(end) = channel.upgrade().map(|channel| channel.live_end()) else { return };
        if let Err(error) = tell_once(&shim, end, wish).await {
            tracing::debug!(%error, "the shim is not there to be told");
            return;
        }
        if wishes.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_once(shim: &Client, end: Offset, wish: Source) -> Result<(), ClientError> {
    match wish {
        Source::Shim { align, .. } => {
            shim.follow(end).await?;
            if align { shim.align().await } else { Ok(()) }
        }
        Source::Control => shim.unfollow().await,
    }
}

/// Where the screen of an operator's pane is in being taken.
#[derive(Debug)]
enum Splice {
    /// The pane was asked to pause; what still comes is in the screen that will be taken.
    Asked,
    /// It is paused and its screen is being taken; what comes continues it.
    Held(BytesMut),
    /// Nothing is being taken.
    Live,
}

/// An operator's pane that somebody looks at. Its offsets count from the first screen taken of it.
#[derive(Debug)]
pub(super) struct Viewed {
    channel: Option<Arc<Channel>>,
    splice: Splice,
    waiting: Vec<oneshot::Sender<Arc<Channel>>>,
}

impl Viewed {
    /// A pane that was just asked to pause.
    pub(super) const fn asked() -> Self {
        Self { channel: None, splice: Splice::Asked, waiting: Vec::new() }
    }

    /// Gives the channel, now or when there is one. Who waits is dropped when there will be none.
    pub(super) fn wait(&mut self, done: oneshot::Sender<Arc<Channel>>) {
        match &self.channel {
            // Who asked may have gone.
            Some(channel) => drop(done.send(channel.clone())),
            None => {
                // Nothing is kept for a viewer that left meanwhile.
                self.waiting.retain(|waiting| !waiting.is_closed());
                self.waiting.push(done);
            }
        }
    }

    /// Whether nobody looks any more.
    pub(super) fn is_unwatched(&self) -> bool {
        matches!(self.splice, Splice::Live)
            && self.channel.as_ref().is_some_and(|channel| Arc::strong_count(channel) == 1)
    }

    /// Begins anew: the pane is asked to pause.
    pub(super) fn ask(&mut self) {
        self.splice = Splice::Asked;
    }

    /// Whether tmux pausing the pane was not our wish: its output is lost and the screen is to be taken again.
    pub(super) const fn is_live(&self) -> bool {
        matches!(self.splice, Splice::Live)
    }

    /// The pane is paused; what comes now continues the screen that is taken.
    pub(super) fn paused(&mut self) {
        self.splice = Splice::Held(BytesMut::new());
    }

    /// Takes output; says whether the splice must begin anew.
    pub(super) fn output(&mut self, bytes: &Bytes) -> bool {
        match &mut self.splice {
            Splice::Asked => false,
            Splice::Held(held) if held.len() + bytes.len() > HELD_LIMIT_BYTES => true,
            Splice::Held(held) => {
                held.extend_from_slice(bytes);
                false
            }
            Splice::Live => {
                self.push(bytes);
                false
            }
        }
    }

    /// The screen was taken: it comes first, then what was held.
    pub(super) fn screen(&mut self, screen: &Screen) {
        let Splice::Held(held) = std::mem::replace(&mut self.splice, Splice::Live) else {
            // Begun anew meanwhile; another screen comes.
            self.splice = Splice::Asked;
            return;
        };
        match &self.channel {
            Some(channel) => channel.set_size(screen.size),
            None => {
                let channel = Channel::new(Offset(0), screen.size, None, Channel::RING_CAP);
                self.channel = Some(Arc::new(channel));
            }
        }
        self.push(&screen.bytes);
        self.push(&held);
        if let Some(channel) = &self.channel {
            self.waiting.drain(..).for_each(|done| drop(done.send(channel.clone())));
        }
    }

    /// The pane has this size.
    pub(super) fn set_size(&self, size: crate::model::Size) {
        self.channel.iter().for_each(|channel| channel.set_size(size));
    }

    /// The pane is gone.
    pub(super) fn end(self) {
        if let Some(channel) = self.channel {
            let offset = channel.live_end();
            channel.end(Ended { state: RunState::Done, exit_code: None, signal: None, offset });
        }
    }

    fn push(&self, bytes: &[u8]) {
        if let Some(channel) = &self.channel {
            channel.push(channel.live_end(), bytes);
        }
    }
}
