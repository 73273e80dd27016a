//! One terminal's bytes: a ring of the newest, history behind it, its size and its end.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::history::History;
use super::ring::Ring;
use super::snapshot::Slot;
use crate::model::{Offset, RunState, Size};

/// How a terminal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The run's last state.
    pub state: RunState,
    /// What a shell would show; `None` when nobody knows.
    pub exit_code: Option<i32>,
    /// The signal's name, if one ended it.
    pub signal: Option<String>,
    /// The offset after the last byte.
    pub offset: Offset,
}

/// What became of pushed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// So many of them were new and continue the stream.
    Appended(usize),
    /// All of them had come before.
    Duplicate,
    /// They do not continue the stream: `from..to` was not pushed and is read from history, where there is one.
    Gap {
        /// Where the stream ended.
        from: Offset,
        /// Where it goes on.
        to: Offset,
    },
}

/// Why bytes will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// They are older than what is held.
    Evicted,
    /// They should be held and cannot be read.
    Unrecoverable,
}

/// What a subscriber finds at its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Bytes, at least one.
    Data {
        /// The offset of the first, which is the one asked for.
        offset: Offset,
        /// The bytes.
        bytes: Bytes,
    },
    /// Nothing yet; [`Channel::watch`] tells when.
    Wait,
    /// The bytes up to `to` will not come.
    Dropped {
        /// The first offset that is held.
        to: Offset,
        /// Why.
        reason: GapReason,
    },
    /// The stream is over and was read to its end.
    Ended(Ended),
}

struct Inner {
    ring: Ring,
    size: Size,
    ended: Option<Ended>,
}

/// What a position means, decided under the lock; history is read outside of it.
enum Place {
    Here(Read),
    /// Older than the ring, which starts at this offset.
    Behind(Offset),
}

/// One terminal. Producers push without waiting; subscribers pull from positions of their own.
pub struct Channel {
    inner: Mutex<Inner>,
    history: Option<Arc<dyn History>>,
    ring_cap: usize,
    /// Grows by one with every change. Receivers see the newest value only, so there is no queue to bound.
    version: watch::Sender<u64>,
    pub(super) slot: Slot,
}

impl Channel {
    /// Memory for one terminal's newest bytes, in bytes, where nothing else was asked for.
    pub const RING_CAP: usize = 1 << 20;
    /// The same while nobody watches it: history has what the next viewer will want, and there may be hundreds of terminals.
    const UNWATCHED_CAP: usize = 64 << 10;

    /// A live terminal whose next byte has offset `start`; bytes before it are in `history`.
    #[must_use]
    pub fn new(start: Offset, size: Size, history: Option<Arc<dyn History>>, ring_cap: usize) -> Self {
        let inner = Inner { ring: Ring::new(start, ring_cap), size, ended: None };
        let (inner, version) = (Mutex::new(inner), watch::Sender::new(0));
        Self { inner, history, ring_cap, version, slot: Slot::default() }
    }

    /// A finished terminal, all of it in `history`.
    #[must_use]
    pub fn stored(history: Arc<dyn History>, size: Size, ended: Ended) -> Self {
        let channel = Self::new(ended.offset, size, Some(history), 1);
        channel.lock().ended = Some(ended);
        channel
    }

    // ---- producer side

    /// Gives bytes whose first has offset `at`. What came before is dropped; on a hole the ring starts anew at `at`.
    /// After the end nothing is taken.
    pub fn push(&self, at: Offset, bytes: impl AsRef<[u8]>) -> Pushed {
        let bytes = bytes.as_ref();
        let mut inner = self.lock();
        let end = inner.ring.end();
        let known = usize::try_from(end.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
        if known >= bytes.len() || inner.ended.is_some() {
            return Pushed::Duplicate;
        }
        let gap = at > end;
        if gap {
            inner.ring.restart(at);
        }
        inner.ring.limit(self.cap_now());
        inner.ring.append(&bytes[known..]);
        drop(inner);
        self.bump();
        if gap { Pushed::Gap { from: end, to: at } } else { Pushed::Appended(bytes.len() - known) }
    }

    /// Says that history holds bytes up to `end` which nobody will push.
    pub fn extend_to(&self, end: Offset) {
        let mut inner = self.lock();
        if end > inner.ring.end() && inner.ended.is_none() {
            inner.ring.restart(end);
            drop(inner);
            self.bump();
        }
    }

    /// Says that the terminal has a new size.
    pub fn set_size(&self, size: Size) {
        let mut inner = self.lock();
        if inner.size != size {
            inner.size = size;
            drop(inner);
            self.bump();
        }
    }

    /// Says that no byte after `ended.offset` will come. The first end counts.
    pub fn end(&self, mut ended: Ended) {
        self.extend_to(ended.offset);
        let mut inner = self.lock();
        if inner.ended.is_none() {
            ended.offset = inner.ring.end();
            inner.ended = Some(ended);
            drop(inner);
            self.bump();
        }
    }

    // ---- consumer side

    /// Up to `max` bytes from `from`, or why there are none.
    pub async fn read(&self, from: Offset, max: usize) -> Read {
        let place = self.lock().place(from, max);
        match place {
            Place::Here(read) => read,
            Place::Behind(ring_start) => self.read_behind(from, ring_start, max).await,
        }
    }

    /// A receiver that changes whenever there are bytes, another size, or an end.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The offset the next byte will have.
    #[must_use]
    pub fn live_end(&self) -> Offset {
        self.lock().ring.end()
    }

    /// The oldest offset that can be read now.
    #[must_use]
    pub fn held_from(&self) -> Offset {
        let ring_start = self.lock().ring.start();
        self.history.as_ref().map_or(ring_start, |history| history.range().start.min(ring_start))
    }

    /// The size now.
    #[must_use]
    pub fn size(&self) -> Size {
        self.lock().size
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// What lies behind the ring.
    #[must_use]
    pub fn history(&self) -> Option<&Arc<dyn History>> {
        self.history.as_ref()
    }

    /// Where the ring starts.
    pub(super) fn ring_start(&self) -> Offset {
        self.lock().ring.start()
    }

    /// As [`Channel::read`], but blocks while history is read: only for threads that may.
    pub(super) fn read_blocking(&self, from: Offset, max: usize) -> Read {
        let place = self.lock().place(from, max);
        match place {
            Place::Here(read) => read,
            Place::Behind(ring_start) => match &self.history {
                None => Read::Dropped { to: ring_start, reason: GapReason::Evicted },
                Some(history) => behind(history.as_ref(), from, ring_start, max),
            },
        }
    }

    async fn read_behind(&self, from: Offset, ring_start: Offset, max: usize) -> Read {
        let Some(history) = self.history.clone() else {
            return Read::Dropped { to: ring_start, reason: GapReason::Evicted };
        };
        let task = tokio::task::spawn_blocking(move || behind(history.as_ref(), from, ring_start, max));
        task.await.unwrap_or(Read::Dropped { to: ring_start, reason: GapReason::Unrecoverable })
    }

    fn cap_now(&self) -> usize {
        let unwatched = self.history.is_some() && self.version.receiver_count() == 0;
        if unwatched { self.ring_cap.min(Self::UNWATCHED_CAP) } else { self.ring_cap }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        let held = inner.ring.start()..inner.ring.end();
        f.debug_struct("Channel").field("ring", &held).field("ended", &inner.ended).finish_non_exhaustive()
    }
}

impl Inner {
    fn place(&self, from: Offset, max: usize) -> Place {
        if from < self.ring.start() {
            return Place::Behind(self.ring.start());
        }
        if from < self.ring.end() {
            let bytes = Bytes::from(self.ring.copy(from, max));
            return Place::Here(Read::Data { offset: from, bytes });
        }
        Place::Here(self.ended.clone().map_or(Read::Wait, Read::Ended))
    }
}

/// Reads from `from` towards the ring's start. History may hold more than was announced, so it is cut there.
fn behind(history: &dyn History, from: Offset, ring_start: Offset, max: usize) -> Read {
    let room = usize::try_from(ring_start.0 - from.0).unwrap_or(usize::MAX);
    match history.read_at(from, max.min(room)) {
        Ok(bytes) if !bytes.is_empty() => Read::Data { offset: from, bytes },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let held = history.next_held(from);
            let to = if held > from { held.min(ring_start) } else { ring_start };
            // What lies in front of something held that is older could not be kept in the first place.
            let in_front = history.range().start > from;
            let reason = if in_front { GapReason::Evicted } else { GapReason::Unrecoverable };
            Read::Dropped { to, reason }
        }
        Ok(_) => Read::Dropped { to: ring_start, reason: GapReason::Unrecoverable },
        Err(error) => {
            tracing::warn!(%from, %error, "history cannot be read");
            Read::Dropped { to: ring_start, reason: GapReason::Unrecoverable }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::history::Checkpoint;
    use super::*;

    /// A history over known bytes, whose front can be dropped.
    pub(in super::super) struct Truth {
        pub(in super::super) bytes: Vec<u8>,
        pub(in super::super) start: AtomicU64,
        pub(in super::super) sizes: Vec<(Offset, Size)>,
        pub(in super::super) checkpoint: Mutex<Option<Checkpoint>>,
    }

    impl Truth {
        pub(in super::super) fn of(bytes: &[u8]) -> Arc<Self> {
            let sizes = vec![(Offset(0), Size::DEFAULT)];
            Arc::new(Self {
                bytes: bytes.to_vec(),
                start: AtomicU64::new(0),
                sizes,
                checkpoint: Mutex::new(None),
            })
        }
    }

    impl History for Truth {
        fn range(&self) -> Range<Offset> {
            Offset(self.start.load(Ordering::Relaxed))..Offset(self.bytes.len() as u64)
        }
        fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes> {
            if from < self.range().start {
                return Err(io::ErrorKind::NotFound.into());
            }
            let rest = self.bytes.get(from.0 as usize..).unwrap_or_default();
            Ok(Bytes::copy_from_slice(&rest[..rest.len().min(max)]))
        }
        fn checkpoint(&self) -> Option<Checkpoint> {
            self.checkpoint.lock().unwrap().clone()
        }
        fn times(&self) -> Vec<(Offset, i64)> {
            vec![]
        }
        fn sizes(&self) -> Vec<(Offset, Size)> {
            self.sizes.clone()
        }
    }

    fn ended(offset: u64) -> Ended {
        Ended { state: RunState::Done, exit_code: Some(0), signal: None, offset: Offset(offset) }
    }

    fn data(offset: u64, bytes: &'static [u8]) -> Read {
        Read::Data { offset: Offset(offset), bytes: Bytes::from_static(bytes) }
    }

    fn dropped(to: u64, reason: GapReason) -> Read {
        Read::Dropped { to: Offset(to), reason }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn says_what_became_of_a_push() {
        let channel = Channel::new(Offset(5), Size::DEFAULT, None, 100);
        assert_eq!(channel.push(Offset(5), b"abc"), Pushed::Appended(3));
        assert_eq!(channel.push(Offset(5), b"abc"), Pushed::Duplicate);
        assert_eq!(channel.push(Offset(0), b"abc"), Pushed::Duplicate);
        assert_eq!(channel.push(Offset(7), b"cde"), Pushed::Appended(2));
        assert_eq!(channel.push(Offset(20), b"z"), Pushed::Gap { from: Offset(10), to: Offset(20) });
        channel.end(ended(21));
        assert_eq!(channel.push(Offset(21), b"late"), Pushed::Duplicate);
        assert_eq!(channel.live_end(), Offset(21));
    }

    #[test]
    fn a_reader_gets_ring_history_and_end() {
        run(async {
            let channel = Channel::new(Offset(0), Size::DEFAULT, Some(Truth::of(b"0123456789abcdef")), 4);
            channel.push(Offset(0), b"01234567");
            assert_eq!(channel.read(Offset(0), 3).await, data(0, b"012"));
            assert_eq!(channel.read(Offset(3), 99).await, data(3, b"3"));
            assert_eq!(channel.read(Offset(4), 99).await, data(4, b"4567"));
            assert_eq!(channel.read(Offset(8), 99).await, Read::Wait);
            channel.push(Offset(10), b"ab");
            assert_eq!(channel.read(Offset(8), 99).await, data(8, b"89"));
            channel.extend_to(Offset(14));
            assert_eq!(channel.read(Offset(12), 99).await, data(12, b"cd"));
            channel.end(ended(16));
            assert_eq!(channel.read(Offset(14), 99).await, data(14, b"ef"));
            assert_eq!(channel.read(Offset(16), 99).await, Read::Ended(ended(16)));
        });
    }

    #[test]
    fn a_missing_range_is_said() {
        run(async {
            let pane = Channel::new(Offset(0), Size::DEFAULT, None, 4);
            pane.push(Offset(0), b"abcdefgh");
            assert_eq!(pane.read(Offset(1), 9).await, dropped(4, GapReason::Evicted));

            let truth = Truth::of(b"0123456789");
            truth.start.store(3, Ordering::Relaxed);
            let task = Channel::stored(truth, Size::DEFAULT, ended(12));
            assert_eq!(task.held_from(), Offset(3));
            assert_eq!(task.read(Offset(0), 9).await, dropped(3, GapReason::Evicted));
            assert_eq!(task.read(Offset(3), 99).await, data(3, b"3456789"));
            assert_eq!(task.read(Offset(10), 9).await, dropped(12, GapReason::Unrecoverable));
            assert_eq!(task.read(Offset(12), 9).await, Read::Ended(ended(12)));
        });
    }

    #[test]
    fn changes_wake_watchers_and_nothing_else_does() {
        let channel = Channel::new(Offset(0), Size::DEFAULT, None, 4);
        let mut watch = channel.watch();
        let mut changed = |act: &dyn Fn(&Channel)| {
            watch.mark_unchanged();
            act(&channel);
            watch.has_changed().unwrap()
        };
        assert!(changed(&|c| {
            c.push(Offset(0), b"a");
        }));
        assert!(!changed(&|c| {
            c.push(Offset(0), b"a");
        }));
        assert!(!changed(&|c| c.set_size(Size::DEFAULT)));
        assert!(changed(&|c| c.set_size(Size::clamped(10, 10).unwrap())));
        assert!(changed(&|c| c.end(ended(1))));
        assert!(!changed(&|c| c.end(ended(2))));
        assert_eq!(channel.ended(), Some(ended(1)));
    }

    #[derive(Debug, Clone)]
    enum Op {
        /// Pushes `len` bytes, starting `back` before the end or `ahead` after it.
        Push {
            back: u64,
            ahead: u64,
            len: u64,
        },
        Extend(u64),
        DropFront(u64),
        Read {
            reader: usize,
            max: usize,
        },
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let push = (0..20_u64, prop_oneof![4 => Just(0), 1 => 1..30_u64], 0..60_u64)
            .prop_map(|(back, ahead, len)| Op::Push { back: if ahead > 0 { 0 } else { back }, ahead, len });
        let read = (0..3_usize, 1..50_usize).prop_map(|(reader, max)| Op::Read { reader, max });
        let other = prop_oneof![(0..40_u64).prop_map(Op::Extend), (0..60_u64).prop_map(Op::DropFront)];
        proptest::collection::vec(prop_oneof![3 => push, 4 => read, 1 => other], 1..80)
    }

    fn truth_bytes() -> Vec<u8> {
        (0..8192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// One step of a reader at `at`: bytes must be the truth at that offset, a gap must go forward.
    async fn step(channel: &Channel, truth: &Truth, at: &mut Offset, max: usize) -> Option<Ended> {
        match channel.read(*at, max).await {
            Read::Data { offset, bytes } => {
                assert_eq!(offset, *at);
                assert!(!bytes.is_empty() && bytes.len() <= max);
                let here = at.0 as usize;
                assert_eq!(bytes, truth.bytes[here..here + bytes.len()]);
                *at = at.after(bytes.len());
                assert!(*at <= channel.live_end());
            }
            Read::Dropped { to, .. } => {
                assert!(to > *at && to <= channel.live_end());
                assert!(*at < truth.range().start, "only what history lost may be dropped");
                *at = to;
            }
            Read::Wait => assert_eq!(*at, channel.live_end()),
            Read::Ended(end) => return Some(end),
        }
        None
    }

    proptest! {
        #[test]
        fn every_reader_sees_the_truth_or_a_gap(ops in ops(), cap in 1..100_usize) {
            run(async {
                let truth = Truth::of(&truth_bytes());
                let channel = Channel::new(Offset(0), Size::DEFAULT, Some(Arc::clone(&truth) as _), cap);
                let mut at = [Offset(0); 3];
                for op in ops {
                    let end = channel.live_end().0;
                    match op {
                        Op::Push { back, ahead, len } => {
                            let from = (end + ahead).saturating_sub(back);
                            let to = (from + len).min(8192);
                            channel.push(Offset(from), &truth.bytes[from as usize..to as usize]);
                            prop_assert!(channel.live_end().0 >= end);
                        }
                        Op::Extend(by) => channel.extend_to(Offset(end + by)),
                        // A journal drops only what is older than its end.
                        Op::DropFront(by) => {
                            let start = truth.start.load(Ordering::Relaxed);
                            truth.start.store((start + by).min(end), Ordering::Relaxed);
                        }
                        Op::Read { reader, max } => drop(step(&channel, &truth, &mut at[reader], max).await),
                    }
                }
                channel.end(ended(channel.live_end().0));
                for mut at in at {
                    while step(&channel, &truth, &mut at, 33).await.is_none() {}
                    prop_assert_eq!(at, channel.live_end());
                }
                Ok(())
            })?;
        }
    }
}
