//! The thread that cuts a journal's front off: it follows the terminal's state up to each cut, stores it, then removes the segments.
//!
//! It starts with the first cut, so an ordinary run has neither the thread nor an emulator. It never slows the writer: in a flood it makes
//! few cuts, and feeds only the escape sequences of what it skips. Modes and colours stay exact; the skipped text has scrolled away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::reader::{Found, Reader};
use super::segment;
use crate::model::{Offset, Size};
use crate::terminal::Screen;

/// Of output whose text is skipped, the last bytes are fed wholly: more than a screenful.
const FED_WHOLLY: u64 = 64 * 1024;
/// Output before so many bytes ahead of a cut is passed over altogether: a flood faster than even escape sequences can be found.
const MAX_BEHIND: u64 = 64 * 1024 * 1024;
/// Between two cuts; the journal may meanwhile be longer than its limit by what is written in this time.
const PAUSE: Duration = Duration::from_millis(100);
/// The most lines above the screen that a checkpoint holds; each costs memory in the shim.
const MAX_SCROLLBACK: u32 = 1000;
/// Sizes waiting for the thread; the oldest go first, only the last one matters to a program that redraws.
const MAX_SIZES: usize = 256;
/// The thread yields to whatever else wants to run, first of all the command.
const NICE: i32 = 10;

/// What writer and thread share.
#[derive(Debug)]
struct Plan {
    /// Segments that end at or before this are to go.
    cut: u64,
    /// The front as cut so far.
    front: u64,
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
    /// Starts the thread. `sizes` are the terminal's so far, the first at offset 0; text is skipped when more than `fluent` bytes are
    /// to be cut at once.
    pub(super) fn start(
        dir: &Path,
        sizes: Vec<(u64, Size)>,
        scrollback_lines: u32,
        fluent: u64,
    ) -> io::Result<Self> {
        let size = sizes.first().map_or(Size::DEFAULT, |&(_, size)| size);
        let plan = Plan { cut: 0, front: 0, sizes, closing: false };
        let shared = Arc::new(Shared { plan: Mutex::new(plan), changed: Condvar::new() });
        let lines = scrollback_lines.min(MAX_SCROLLBACK) as usize;
        let mut follower = Follower {
            dir: dir.to_owned(),
            shared: Arc::clone(&shared),
            reader: Reader::new(dir),
            screen: Screen::new(size.cols(), size.rows(), lines),
            size,
            at: 0,
            fluent,
            buffer: vec![0; 64 * 1024],
        };
        let thread = std::thread::Builder::new()
            .name("cutter".into())
            .stack_size(512 * 1024)
            .spawn(move || follower.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Segments that end at or before `cut`, where another begins, are to go.
    pub(super) fn plan(&self, cut: u64) {
        self.shared.lock().cut = cut;
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
        self.shared.lock().front
    }

    /// Waits until the planned cut is made, and says where the front is then. It takes some milliseconds, for text is skipped.
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
    /// The screen is that before the byte at this offset: the front.
    at: u64,
    fluent: u64,
    buffer: Vec<u8>,
}

impl Follower {
    fn run(&mut self) {
        // Without it the thread only competes harder.
        let _ = rustix::process::setpriority_process(None, NICE);
        while let Some(cut) = self.next_cut() {
            let skips = cut - self.at > self.fluent;
            let skipped_to = if skips { cut.saturating_sub(FED_WHOLLY).max(self.at) } else { self.at };
            self.at = self.at.max(cut.saturating_sub(MAX_BEHIND));
            // What cannot be read is not followed; the cut must be made all the same.
            let _ = self.follow(cut, skipped_to);
            self.at = cut;
            self.cut();
            self.pause();
        }
    }

    /// Waits for a cut to make; `None` at the end.
    fn next_cut(&self) -> Option<u64> {
        let waiting = |plan: &mut Plan| plan.cut <= self.at && !plan.closing;
        let plan = self.shared.changed.wait_while(self.shared.lock(), waiting);
        let plan = plan.unwrap_or_else(PoisonError::into_inner);
        Some(plan.cut).filter(|&cut| cut > self.at)
    }

    fn pause(&self) {
        let lasting = |plan: &mut Plan| !plan.closing;
        let _woken = self.shared.changed.wait_timeout_while(self.shared.lock(), PAUSE, lasting);
    }

    /// Follows the output up to `end`; of what is before `skipped_to` only the escape sequences.
    fn follow(&mut self, end: u64, skipped_to: u64) -> io::Result<()> {
        let mut at = self.at;
        while at < end {
            let next_size = self.apply_sizes(at).unwrap_or(end);
            let stop = if at < skipped_to { skipped_to } else { end }.min(next_size);
            let max = usize::try_from(stop - at).unwrap_or(usize::MAX).min(self.buffer.len());
            at = match self.reader.read_into(at, &mut self.buffer[..max])? {
                Found::Bytes(count) if at < skipped_to => {
                    self.screen.feed_escapes(&self.buffer[..count]);
                    at + count as u64
                }
                Found::Bytes(count) => {
                    self.screen.feed(&self.buffer[..count]);
                    at + count as u64
                }
                Found::Missing { to, .. } => to.0,
                Found::End => end,
            };
        }
        self.apply_sizes(end);
        Ok(())
    }

    /// Applies every size that holds at `at`, and says where the next one begins.
    fn apply_sizes(&mut self, at: u64) -> Option<u64> {
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

    /// Stores the state at the new front, then removes the segments before it.
    fn cut(&self) {
        let checkpoint =
            Checkpoint { offset: Offset(self.at), size: self.size, dump: self.screen.dump().into() };
        let stored = checkpoint.write(&self.dir);
        for old in segment::list(&self.dir).unwrap_or_default().iter().filter(|s| s.start < self.at) {
            // One that stays is seen, and tried again, at the next cut.
            let _ = std::fs::remove_file(segment::path(&self.dir, old.start));
        }
        if stored.is_err() {
            // There is room now; if not, the older checkpoint says by its offset that it does not fit.
            let _ = checkpoint.write(&self.dir);
        }
        self.shared.lock().front = self.at;
    }
}
