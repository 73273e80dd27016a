//! A terminal's state as bytes, for those who cannot have every byte.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::channel::{Channel, Read};
use crate::model::{Offset, Size};
use crate::terminal::Screen;

/// Lines above the screen that a snapshot carries: enough to scroll back, few enough that its bytes stay well below 1 MiB.
const SCROLLBACK_LINES: usize = 2_000;
/// What a snapshot should not exceed, in bytes, so that a subscriber's share stays below 1 MiB.
const DUMP_BYTES: usize = 768 << 10;
/// Bytes fed to the emulator at once.
const FEED_BYTES: usize = 256 << 10;
/// A snapshot made for another subscriber serves too while at most so many bytes have come since.
const FRESH_BYTES: u64 = 64 << 10;

/// What a terminal shows at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The offset whose state it is; the next live byte to send.
    pub offset: Offset,
    /// The size it was taken at.
    pub size: Size,
    /// Written to a freshly reset terminal of `size`, shows screen and scrollback.
    pub bytes: Bytes,
}

/// Where a channel keeps its emulator while somebody needs one. An emulator with its scrollback is megabytes,
/// so it lives exactly as long as the leases on it.
#[derive(Default)]
pub(super) struct Slot(Mutex<Weak<tokio::sync::Mutex<State>>>);

#[derive(Default)]
struct State {
    emulator: Option<Emulator>,
    last: Option<Snapshot>,
}

struct Emulator {
    screen: Screen,
    offset: Offset,
    size: Size,
}

/// The right to snapshots of one channel. Keep it while lagging: the next snapshot then continues from the last.
pub struct Lease {
    channel: Arc<Channel>,
    state: Arc<tokio::sync::Mutex<State>>,
}

impl Lease {
    /// A lease on the channel's emulator, which all its leases share.
    #[must_use]
    pub fn new(channel: &Arc<Channel>) -> Self {
        let mut slot = channel.slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = slot.upgrade().unwrap_or_default();
        *slot = Arc::downgrade(&state);
        drop(slot);
        Self { channel: Arc::clone(channel), state }
    }

    /// What the terminal shows now, or showed a moment ago. One is made at a time per channel; those who wait share it.
    pub async fn snapshot(&self) -> Snapshot {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let channel = Arc::clone(&self.channel);
        let task = tokio::task::spawn_blocking(move || state.advance(&channel));
        match task.await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // The emulator met bytes it cannot take. A blank screen at the live end is the honest rest.
                tracing::error!(%error, "the snapshot emulator failed");
                *self.state.lock().await = State::default();
                let (offset, size) = (self.channel.live_end(), self.channel.size());
                Snapshot { offset, size, bytes: Bytes::new() }
            }
        }
    }
}

impl State {
    fn advance(&mut self, channel: &Channel) -> Snapshot {
        let (end, size) = (channel.live_end(), channel.size());
        if let Some(last) = &self.last
            && last.size == size
            && last.offset >= channel.ring_start()
            && end.0 - last.offset.0 <= FRESH_BYTES
        {
            return last.clone();
        }
        let mut emulator = self.emulator.take().unwrap_or_else(|| Emulator::start(channel));
        emulator.feed_to(channel, end);
        emulator.resize(size);
        let snapshot = Snapshot { offset: emulator.offset, size, bytes: bounded(&emulator.screen, size) };
        self.emulator = Some(emulator);
        self.last = Some(snapshot.clone());
        snapshot
    }
}

impl Emulator {
    /// An emulator at the oldest state that is held: the checkpoint, or a blank screen at the first byte held.
    fn start(channel: &Channel) -> Self {
        let checkpoint = channel.history().and_then(|history| history.checkpoint());
        if let Some(point) = checkpoint {
            let mut screen = blank(point.size, SCROLLBACK_LINES);
            screen.feed(&point.dump);
            return Self { screen, offset: point.offset, size: point.size };
        }
        let offset = channel.held_from();
        let sizes = channel.history().map(|history| history.sizes()).unwrap_or_default();
        let before = sizes.iter().take_while(|(at, _)| *at <= offset).last();
        let size = before.map_or_else(|| channel.size(), |(_, size)| *size);
        Self { screen: blank(size, SCROLLBACK_LINES), offset, size }
    }

    /// Feeds bytes and resizes up to `end`. Where bytes were dropped it starts anew from what is held.
    fn feed_to(&mut self, channel: &Channel, end: Offset) {
        let sizes = channel.history().map(|history| history.sizes()).unwrap_or_default();
        // Each turn gains at least a byte or skips a hole; a flood that outruns the emulator cannot move `end`.
        while self.offset < end {
            let due = sizes.iter().take_while(|(at, _)| *at <= self.offset).last();
            if let Some((_, size)) = due {
                self.resize(*size);
            }
            let next = sizes.iter().map(|(at, _)| *at).find(|at| *at > self.offset).unwrap_or(end).min(end);
            let room = usize::try_from(next.0 - self.offset.0).unwrap_or(usize::MAX);
            match channel.read_blocking(self.offset, room.min(FEED_BYTES)) {
                Read::Data { bytes, .. } => {
                    self.screen.feed(&bytes);
                    self.offset = self.offset.after(bytes.len());
                }
                Read::Dropped { to, .. } => {
                    let fresh = Self::start(channel);
                    *self = if fresh.offset > self.offset { fresh } else { self.blank_at(to) };
                }
                Read::Wait | Read::Ended(_) => return,
            }
        }
    }

    /// A blank screen after a hole that no checkpoint bridges.
    fn blank_at(&self, offset: Offset) -> Self {
        Self { screen: blank(self.size, SCROLLBACK_LINES), offset, size: self.size }
    }

    fn resize(&mut self, size: Size) {
        if self.size != size {
            self.screen.resize(size.cols(), size.rows());
            self.size = size;
        }
    }
}

fn blank(size: Size, scrollback_lines: usize) -> Screen {
    Screen::new(size.cols(), size.rows(), scrollback_lines)
}

/// The screen's dump, with fewer lines above it where it would be too long.
fn bounded(screen: &Screen, size: Size) -> Bytes {
    let mut dump = screen.dump();
    for lines in [SCROLLBACK_LINES / 8, 0] {
        if dump.len() <= DUMP_BYTES {
            break;
        }
        let mut shorter = blank(size, lines);
        shorter.feed(&dump);
        dump = shorter.dump();
    }
    Bytes::from(dump)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::channel::tests::Truth;
    use super::super::history::Checkpoint;
    use super::*;

    const SMALL: usize = 16;

    fn shown(snapshot: &Snapshot) -> String {
        let [rows, cols] = [snapshot.size.rows(), snapshot.size.cols()].map(|n| n.try_into().unwrap());
        let mut parser = vt100::Parser::new(rows, cols, 0);
        parser.process(&snapshot.bytes);
        parser.screen().contents().trim_end().to_owned()
    }

    fn channel(truth: &Arc<Truth>, end: u64) -> Arc<Channel> {
        let channel = Channel::new(Offset(0), Size::DEFAULT, Some(Arc::clone(truth) as _), SMALL);
        channel.extend_to(Offset(end));
        Arc::new(channel)
    }

    #[tokio::test]
    async fn shows_the_screen_at_the_live_end() {
        let text = b"one\r\ntwo\r\n\x1b[1mthree";
        let channel = channel(&Truth::of(text), text.len() as u64);
        let snapshot = Lease::new(&channel).snapshot().await;
        assert_eq!((snapshot.offset, shown(&snapshot).as_str()), (channel.live_end(), "one\ntwo\nthree"));
    }

    #[tokio::test]
    async fn starts_from_the_checkpoint_when_the_front_is_gone() {
        let text = b"lost\r\nkept";
        let truth = Truth::of(text);
        truth.start.store(6, Ordering::Relaxed);
        *truth.checkpoint.lock().unwrap() = Some(Checkpoint {
            offset: Offset(6),
            size: Size::DEFAULT,
            dump: Bytes::from_static(b"as it was\r\n"),
        });
        let snapshot = Lease::new(&channel(&truth, text.len() as u64)).snapshot().await;
        assert_eq!(shown(&snapshot), "as it was\nkept");
    }

    #[tokio::test]
    async fn a_kept_lease_continues_and_a_dropped_one_frees_the_emulator() {
        let text = [b"x".repeat(200), b"\r\nend".to_vec()].concat();
        let channel = channel(&Truth::of(&text), 100);
        let lease = Lease::new(&channel);
        assert_eq!(lease.snapshot().await.offset, Offset(100));
        channel.extend_to(Offset(205));
        let others = (Lease::new(&channel), Lease::new(&channel));
        let (a, b) = tokio::join!(others.0.snapshot(), others.1.snapshot());
        assert_eq!((a.offset, &a), (Offset(205), &b));
        assert!(shown(&a).ends_with("end"));
        drop((lease, others));
        assert!(channel.slot.0.lock().unwrap().upgrade().is_none());
    }

    #[tokio::test]
    async fn a_resize_takes_effect_where_it_happened() {
        let mut truth = Arc::into_inner(Truth::of(b"12345678\r\n12345678")).unwrap();
        truth.sizes.push((Offset(10), Size::clamped(4, 10).unwrap()));
        let channel = channel(&Arc::new(truth), 18);
        channel.set_size(Size::clamped(4, 10).unwrap());
        let snapshot = Lease::new(&channel).snapshot().await;
        assert_eq!((snapshot.size.cols(), shown(&snapshot).as_str()), (4, "12345678\n12345678"));
    }

    #[tokio::test]
    async fn without_history_it_shows_what_the_ring_has() {
        let channel = Arc::new(Channel::new(Offset(40), Size::DEFAULT, None, SMALL));
        channel.push(Offset(40), b"a pane by hand");
        let snapshot = Lease::new(&channel).snapshot().await;
        assert_eq!((snapshot.offset, shown(&snapshot).as_str()), (Offset(54), "a pane by hand"));
    }
}
