//! The thread that cuts a journal's front off: it follows the terminal's state up to each cut, stores it, then removes the segments.
//!
//! It starts only when the first cut nears, so an ordinary run has neither the thread nor an emulator. It never slows the writer: when it
//! falls behind, it feeds only the escape sequences of what it skips. Modes and colours stay exact; the skipped text has scrolled away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::checkpoint::Checkpoint;
use super::reader::{Found, Reader};
use super::segment;
use crate::model::{Offset, Size};
use crate::terminal::Screen;

/// Of a segment whose text is skipped, the last bytes are fed wholly: more than a screenful.
const FED_WHOLLY: u64 = 128 * 1024;
/// The most lines above the screen that a checkpoint holds; each costs memory in the shim.
const MAX_SCROLLBACK: u32 = 1000;
/// Sizes waiting for the thread; the oldest go first, only the last one matters to a program that redraws.
const MAX_SIZES: usize = 256;

/// What writer and thread share.
#[derive(Debug)]
struct Plan {
    /// Segments that begin before this are complete.
    sealed: u64,
    /// Segments that end at or before this are to go.
    cut: u64,
    /// The front as cut so far.
    start: u64,
    /// The terminal's sizes from offsets on.
    sizes: Vec<(u64, Size)>,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's handle to the thread.
#[derive(Debug)]
pub(super) struct Cutter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Cutter {
    /// Starts the thread. `sizes` are the terminal's so far, the first at offset 0.
    pub(super) fn start(dir: &Path, sizes: Vec<(u64, Size)>, scrollback_lines: u32) -> io::Result<Self> {
        let size = sizes.first().map_or(Size::DEFAULT, |&(_, size)| size);
        let plan = Plan { sealed: 0, cut: 0, start: 0, sizes, closing: false };
        let shared = Arc::new(Shared { plan: Mutex::new(plan), changed: Condvar::new() });
        let lines = scrollback_lines.min(MAX_SCROLLBACK) as usize;
        let mut follower = Follower {
            dir: dir.to_owned(),
            shared: Arc::clone(&shared),
            reader: Reader::new(dir),
            screen: Screen::new(size.cols(), size.rows(), lines),
            size,
            at: 0,
            buffer: vec![0; 64 * 1024],
        };
        let thread = std::thread::Builder::new()
            .name("cutter".into())
            .stack_size(256 * 1024)
            .spawn(move || follower.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Segments before `sealed` are complete; those that end at or before `cut` are to go.
    pub(super) fn plan(&self, sealed: u64, cut: u64) {
        let mut plan = self.shared.lock();
        plan.sealed = sealed;
        plan.cut = cut;
        self.shared.changed.notify_one();
    }

    /// The terminal has this size from `offset` on.
    pub(super) fn resized(&self, offset: u64, size: Size) {
        let mut plan = self.shared.lock();
        if plan.sizes.len() == MAX_SIZES {
            plan.sizes.remove(0);
        }
        plan.sizes.push((offset, size));
    }

    /// The first byte held.
    pub(super) fn front(&self) -> u64 {
        self.shared.lock().start
    }
}

impl Cutter {
    /// Waits until every planned cut is made, and says where the front is then. It takes some milliseconds, for only escape sequences
    /// are fed of what is late.
    pub(super) fn finish(mut self) -> u64 {
        self.close();
        self.front()
    }

    fn close(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.close();
    }
}

struct Follower {
    dir: PathBuf,
    shared: Arc<Shared>,
    reader: Reader,
    screen: Screen,
    size: Size,
    at: u64,
    buffer: Vec<u8>,
}

impl Follower {
    fn run(&mut self) {
        while let Some(cut) = self.next_plan() {
            let segments = segment::list(&self.dir).unwrap_or_default();
            let Some(next) = segments.iter().map(|s| s.start).find(|&start| start > self.at) else {
                // The planned segment took no byte, for the disk is full: wait for another.
                self.shared.lock().sealed = self.at;
                continue;
            };
            // A segment whose cut is due has its text skipped but for the end.
            let skipped_to = if next <= cut { next.saturating_sub(FED_WHOLLY) } else { self.at };
            // What cannot be read is not followed; the cut must be made all the same.
            let _ = self.follow(next, skipped_to);
            self.at = next;
            if next <= cut {
                self.cut_to(next, &segments);
            }
        }
    }

    /// Waits until there is a complete segment to follow; `None` at the end, when nothing is left to cut.
    fn next_plan(&self) -> Option<u64> {
        let mut plan = self.shared.lock();
        loop {
            let due = plan.cut > self.at;
            if plan.sealed > self.at && (due || !plan.closing) {
                return Some(plan.cut);
            }
            if plan.closing {
                return None;
            }
            plan = self.shared.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Follows the output up to `end`; of what is before `skipped_to` only the escape sequences.
    fn follow(&mut self, end: u64, skipped_to: u64) -> io::Result<()> {
        let mut at = self.at;
        while at < end {
            let stop = self.resize_due(at).unwrap_or(end).min(end);
            let stop = if at < skipped_to { stop.min(skipped_to) } else { stop };
            let max = usize::try_from(stop - at).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut buffer = std::mem::take(&mut self.buffer);
            let found = self.reader.read_into(at, &mut buffer[..max]);
            if let Ok(Found::Bytes(count)) = found {
                if at < skipped_to {
                    self.screen.feed_escapes(&buffer[..count]);
                } else {
                    self.screen.feed(&buffer[..count]);
                }
            }
            self.buffer = buffer;
            at = match found? {
                Found::Bytes(count) => at + count as u64,
                Found::Missing { to, .. } => to.0,
                Found::End => end,
            };
        }
        Ok(())
    }

    /// Applies every size that holds at `at`, and says where the next one begins.
    fn resize_due(&mut self, at: u64) -> Option<u64> {
        let mut plan = self.shared.lock();
        let passed = plan.sizes.iter().take_while(|(offset, _)| *offset <= at).count();
        if let Some((_, size)) = plan.sizes.drain(..passed).next_back() {
            self.size = size;
        }
        let next = plan.sizes.first().map(|&(offset, _)| offset);
        drop(plan);
        self.screen.resize(self.size.cols(), self.size.rows());
        next
    }

    /// Stores the state at `front`, then removes the segments before it.
    fn cut_to(&mut self, front: u64, segments: &[segment::Segment]) {
        let checkpoint =
            Checkpoint { offset: Offset(front), size: self.size, dump: self.screen.dump().into() };
        let stored = checkpoint.write(&self.dir);
        for old in segments.iter().filter(|s| s.start < front) {
            // One that stays is seen, and tried again, at the next cut.
            let _ = std::fs::remove_file(segment::path(&self.dir, old.start));
        }
        if stored.is_err() {
            // There is room now; if not, the older checkpoint says by its offset that it does not fit.
            let _ = checkpoint.write(&self.dir);
        }
        self.shared.lock().start = front;
    }
}
