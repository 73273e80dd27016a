//! One subscriber of one terminal: its position, its credit, and what it gets when its turn comes.

use std::ops::Range;
use std::sync::Arc;

use axum::extract::ws::Message;
use tokio::sync::watch;

use super::frame::{self, ChannelName, Replay};
use crate::api::error::invalid;
use crate::broker::{Channel, GapReason, Lease, Read, Snapshot};
use crate::daemon::{Answer, TerminalId};
use crate::model::{Offset, Size};
use crate::terminal::Theme;

/// Bytes of output in one frame, so also what one terminal may send before the others have their turn.
pub(super) const SLICE: usize = 32 << 10;
/// A subscriber gets no more while it has so many bytes unacknowledged…
const UNACKED_LIMIT: u64 = 100_000;
/// …until it is below this.
const UNACKED_RESUME: u64 = 5_000;
/// What is sent whole to a subscriber that has nothing yet; above it a snapshot is shorter.
const WHOLE_LIMIT: u64 = 256 << 10;

/// Where a new subscriber starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At this byte.
    Bytes(Offset),
    /// With a snapshot; the offset is where it had been, when a part from there is lost.
    Snapshot(Option<Offset>),
    /// At the second offset, and what lies between the two is lost.
    Gap(Offset, Offset),
}

/// Decides where to start. `whole` says that the held bytes are everything the terminal ever got.
///
/// # Errors
/// `from` is beyond the end.
pub(super) fn start(from: Option<Offset>, held: &Range<Offset>, whole: bool, ended: bool) -> Answer<Start> {
    match from {
        Some(from) if from > held.end => {
            let refusal = invalid(format!("`from` is {from}, but the output ends at {}", held.end));
            Err(refusal.reason("offset").detail("end", held.end.0))
        }
        Some(from) if from >= held.start => Ok(Start::Bytes(from)),
        Some(from) if ended => Ok(Start::Gap(from, held.start)),
        Some(from) => Ok(Start::Snapshot(Some(from))),
        None if whole && held.end.0 - held.start.0 <= WHOLE_LIMIT => Ok(Start::Bytes(held.start)),
        None => Ok(Start::Snapshot(None)),
    }
}

/// What a subscriber waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing but its turn.
    Live,
    /// A moment, so that small pieces come together.
    Resting,
    /// Acknowledgements.
    Full,
    /// A snapshot.
    Catching,
    /// Nothing: it got the end.
    Over,
}

/// What comes of a turn.
pub(super) enum Turn {
    /// A frame; there may be more at once.
    More(Message),
    /// A frame, and nothing was left after it: the next turn is after a moment.
    Rest(Message),
    /// The same, and the frame tells a gap.
    Gap(Message),
    /// A snapshot has to be made; [`Pty::caught`] takes it.
    Catch(Arc<Lease>),
    /// Nothing until the terminal changes.
    Wait,
    /// Nothing until it is told of what it waits for, or ever.
    Idle,
}

/// One subscriber of one terminal.
pub(super) struct Pty {
    pub(super) terminal: TerminalId,
    pub(super) handle: u32,
    pub(super) channel: Arc<Channel>,
    pub(super) interactive: bool,
    /// Tells of changes. It is listened to only in [`Turn::Wait`]: who waits for something else is not woken by a flood.
    pub(super) changes: Option<watch::Receiver<u64>>,
    /// The size it would like the terminal to have.
    pub(super) wish: Option<Size>,
    /// Whether a resize is under way.
    pub(super) resizing: bool,
    /// The colours it draws the terminal with.
    pub(super) theme: Option<Theme>,
    /// Of these, what the terminal was told, and whether that is under way.
    pub(super) told_theme: Option<Theme>,
    pub(super) telling_theme: bool,
    /// Whether it wants to be told when a program's terminal took what it typed.
    pub(super) confirms: bool,
    /// Bytes it typed that were taken and it was not told of yet.
    pub(super) taken: usize,
    /// The first of the subscriptions that it took the place of one after the other; what was typed on them is told to it.
    pub(super) first_handle: u32,
    /// A frame of input was refused or lost: nothing typed on this subscription is delivered any more, for it would follow a hole.
    pub(super) input_closed: bool,
    at: Offset,
    acked: Offset,
    flow: Flow,
    /// From where on bytes are lost, to be told once it is known up to where.
    lost: Option<(Offset, GapReason)>,
    snapshot: Option<Snapshot>,
    /// Kept while it lags, so that its next snapshot continues from the last.
    lease: Option<Arc<Lease>>,
    told_size: Size,
}

impl Pty {
    /// A subscriber that starts as decided; with it, how its beginning is called.
    pub(super) fn new(
        terminal: TerminalId,
        handle: u32,
        channel: Arc<Channel>,
        start: Start,
        interactive: bool,
    ) -> (Self, Replay) {
        let changes = Some(channel.watch());
        let told_size = channel.size();
        let live_end = channel.live_end();
        let (at, flow, lost, replay) = match start {
            Start::Bytes(at) if at == live_end => (at, Flow::Live, None, Replay::None),
            Start::Bytes(at) => (at, Flow::Live, None, Replay::Resume),
            Start::Gap(from, _) => (from, Flow::Live, None, Replay::Resume),
            Start::Snapshot(None) => (live_end, Flow::Catching, None, Replay::Snapshot),
            Start::Snapshot(Some(from)) => {
                (from, Flow::Catching, Some((from, GapReason::Evicted)), Replay::Snapshot)
            }
        };
        let lease = (flow == Flow::Catching).then(|| Arc::new(Lease::new(&channel)));
        let it = Self {
            terminal,
            handle,
            channel,
            interactive,
            changes,
            wish: None,
            resizing: false,
            theme: None,
            told_theme: None,
            telling_theme: false,
            confirms: false,
            taken: 0,
            first_handle: handle,
            input_closed: false,
            at,
            acked: at,
            flow,
            lost,
            snapshot: None,
            lease,
            told_size,
        };
        (it, replay)
    }

    pub(super) fn name(&self) -> ChannelName {
        ChannelName::Pty(self.terminal)
    }

    /// The lease to make the first snapshot with, if it starts with one.
    pub(super) fn first_lease(&self) -> Option<Arc<Lease>> {
        self.lease.clone()
    }

    /// Whether it got the end.
    pub(super) fn is_over(&self) -> bool {
        self.flow == Flow::Over
    }

    /// Takes its turn.
    pub(super) async fn turn(&mut self) -> Turn {
        let size = self.channel.size();
        if size != self.told_size {
            self.told_size = size;
            return Turn::More(frame::size(self.name(), size));
        }
        if self.taken > 0 {
            return Turn::More(frame::input_taken(self.name(), std::mem::take(&mut self.taken)));
        }
        if let Some(snapshot) = self.snapshot.take() {
            return self.tell(snapshot);
        }
        if self.flow != Flow::Live {
            return Turn::Idle;
        }
        let credit = UNACKED_LIMIT.saturating_sub(self.at.0 - self.acked.0);
        let max = SLICE.min(usize::try_from(credit).unwrap_or(SLICE));
        // The end needs no credit, so it is looked for even without.
        match self.channel.read(self.at, max.max(1)).await {
            Read::Data { .. } if max == 0 => {
                self.flow = Flow::Full;
                Turn::Idle
            }
            Read::Data { offset, bytes } => {
                self.at = offset.after(bytes.len());
                let frame = frame::output(self.handle, offset, &bytes);
                if bytes.len() == max {
                    return Turn::More(frame);
                }
                self.flow = Flow::Resting;
                Turn::Rest(frame)
            }
            Read::Wait => {
                self.lease = None;
                Turn::Wait
            }
            Read::Dropped { to, reason } => self.dropped(to, reason),
            Read::Ended(ended) => {
                self.flow = Flow::Over;
                self.lease = None;
                Turn::More(frame::exit(self.name(), &ended))
            }
        }
    }

    /// What it needs next is gone. After the end only the stored bytes are left; before it a snapshot takes it to the present.
    fn dropped(&mut self, to: Offset, reason: GapReason) -> Turn {
        if self.channel.ended().is_some() {
            let frame = frame::gap(self.name(), self.at, to, reason);
            self.at = to;
            self.acked = to;
            return Turn::Gap(frame);
        }
        self.lost = Some((self.at, reason));
        self.flow = Flow::Catching;
        let lease = self.lease.get_or_insert_with(|| Arc::new(Lease::new(&self.channel)));
        Turn::Catch(Arc::clone(lease))
    }

    /// Tells of a snapshot that was made: what is lost first, then the snapshot.
    fn tell(&mut self, snapshot: Snapshot) -> Turn {
        if let Some((from, reason)) = self.lost.take() {
            let frame = frame::gap(self.name(), from, snapshot.offset, reason);
            self.snapshot = Some(snapshot);
            return Turn::Gap(frame);
        }
        self.at = snapshot.offset;
        self.acked = snapshot.offset;
        self.flow = Flow::Live;
        Turn::More(frame::snapshot(self.handle, &snapshot))
    }

    /// The snapshot it waited for is there. Its turn comes next.
    pub(super) fn caught(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    /// The moment is over. Its turn comes next.
    pub(super) fn rested(&mut self) {
        if self.flow == Flow::Resting {
            self.flow = Flow::Live;
        }
    }

    /// The viewer has shown everything before `offset`. Whether its turn comes next.
    pub(super) fn acknowledge(&mut self, offset: Offset) -> bool {
        self.acked = self.acked.max(offset.min(self.at));
        let resume = self.flow == Flow::Full && self.at.0 - self.acked.0 < UNACKED_RESUME;
        if resume {
            self.flow = Flow::Live;
        }
        resume
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn check(from: Option<u64>, held: Range<u64>, whole: bool, ended: bool, expect: Start) {
        let held = Offset(held.start)..Offset(held.end);
        let got = start(from.map(Offset), &held, whole, ended);
        assert_eq!(got, Ok(expect), "{from:?} of {held:?}, whole {whole}, ended {ended}");
    }

    #[test]
    fn starts_where_the_contract_says() {
        const BIG: u64 = 256 * 1024;
        check(Some(5), 0..10, true, false, Start::Bytes(Offset(5)));
        check(Some(10), 0..10, true, false, Start::Bytes(Offset(10)));
        check(Some(7), 7..10, false, false, Start::Bytes(Offset(7)));
        check(Some(6), 7..10, false, false, Start::Snapshot(Some(Offset(6))));
        check(Some(6), 7..10, false, true, Start::Gap(Offset(6), Offset(7)));
        check(None, 0..BIG, true, false, Start::Bytes(Offset(0)));
        check(None, 0..BIG + 1, true, false, Start::Snapshot(None));
        check(None, 7..10, false, false, Start::Snapshot(None));
        check(None, 7..10, false, true, Start::Snapshot(None));
        let beyond = start(Some(Offset(11)), &(Offset(0)..Offset(10)), true, false).unwrap_err();
        assert_eq!(beyond.details["reason"], "offset");
    }
}
