//! Appending to a journal: what a shim does with every byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::cutter::Cutter;
use super::index::{self, IndexWriter};
use super::record::{ExitRecord, Spec};
use super::segment;
use crate::config::limits;
use crate::failpoint::{Failpoint, hit};
use crate::model::{Size, TimeMs};
use crate::terminal::last_safe_cut;

/// A journal has about so many segments when it is full: what is cut off at once is that part of it.
const SEGMENTS: u64 = 16;
const MAX_SEGMENT: u64 = 1024 * 1024;
const MIN_SEGMENT: u64 = 4096;
/// After a failed write the next try comes after so many milliseconds.
const RETRY_MS: i64 = 100;
/// The most of a file that a segment takes: it ends with a line, and may so become somewhat longer than it should.
const OF_A_FILE: u64 = 2;
/// Space kept for the exit record, so that a full disk cannot swallow it.
const EXIT_SPACE: u64 = 4096;
const EXIT_TEMPORARY: &str = "exit.json.tmp";

/// The one writer of an instance's journal.
///
/// Writing never fails as far as the command is concerned: bytes that the disk does not take are counted, their range is recorded, and
/// writing goes on where the disk takes bytes again.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    index: IndexWriter,
    segment: Option<File>,
    /// Where the open segment begins, or where the last one ended.
    segment_start: u64,
    segment_bytes: u64,
    limit_bytes: u64,
    scrollback_lines: u32,
    /// Starts of all segments not yet told to the cutter to be cut, oldest first.
    starts: Vec<u64>,
    sizes: Vec<(u64, Size)>,
    cutter: Option<Cutter>,
    /// The first byte held when no cutter runs.
    front: u64,
    total: u64,
    lost: u64,
    /// Where the bytes that the disk does not take begin, and when to try again.
    failing: Option<(u64, TimeMs)>,
}

/// How long a segment becomes, in bytes: well below what a file may have, so that no write meets that limit.
fn segment_bytes(kept: u64, file: Option<u64>) -> u64 {
    let file = file.map_or(u64::MAX, |bytes| bytes / OF_A_FILE);
    (kept / SEGMENTS).min(file).clamp(MIN_SEGMENT, MAX_SEGMENT)
}

impl Writer {
    /// Begins the journal of instance directory `dir`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written or has no space for the exit record.
    pub fn create(dir: &Path, spec: &Spec, size: Size) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let index = IndexWriter::new(options.open(dir.join(index::FILE))?);
        let exit = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(dir.join(EXIT_TEMPORARY))?;
        rustix::fs::fallocate(&exit, FallocateFlags::empty(), 0, EXIT_SPACE)?;
        let mut writer = Self {
            dir: dir.to_owned(),
            index,
            segment: None,
            segment_start: 0,
            segment_bytes: segment_bytes(spec.limit_bytes, limits::file_size()),
            limit_bytes: spec.limit_bytes.max(SEGMENTS / 4 * MIN_SEGMENT),
            scrollback_lines: spec.scrollback_lines,
            starts: Vec::new(),
            sizes: Vec::new(),
            cutter: None,
            front: 0,
            total: 0,
            lost: 0,
            failing: None,
        };
        writer.resized(size);
        Ok(writer)
    }

    /// The offset after the last byte.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How many bytes the disk did not take.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost + self.failing.map_or(0, |(from, _)| self.total - from)
    }

    /// The first byte held.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.cutter.as_ref().map_or(self.front, Cutter::front)
    }

    /// The terminal has a new size from here on.
    pub fn resized(&mut self, size: Size) {
        self.index.size(self.total, size);
        match &self.cutter {
            Some(cutter) => cutter.resized(self.total, size),
            None => {
                // Sizes without output between them: only the last one was seen by anybody.
                self.sizes.retain(|&(offset, _)| offset != self.total);
                self.sizes.truncate(255);
                self.sizes.push((self.total, size));
            }
        }
    }

    /// Appends what the command wrote.
    pub fn append(&mut self, bytes: &[u8], now: TimeMs) {
        self.index.time(self.total, now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let roll = self.roll_after(rest);
            let (part, later) = rest.split_at(roll.unwrap_or(rest.len()));
            self.put(part, now);
            self.total += part.len() as u64;
            if roll.is_some() {
                self.segment = None;
            }
            rest = later;
        }
    }

    /// After how many of the bytes a new segment begins: at the end of a line, once the current one is long enough.
    fn roll_after(&self, bytes: &[u8]) -> Option<usize> {
        self.segment.as_ref()?;
        let len = self.total - self.segment_start;
        let from = usize::try_from(self.segment_bytes.saturating_sub(len)).unwrap_or(usize::MAX);
        match memchr::memchr(b'\n', bytes.get(from..)?) {
            Some(newline) => Some(from + newline + 1),
            // A line that goes on and on is cut where no character or sequence is.
            None if len > self.segment_bytes + self.segment_bytes / 4 => Some(last_safe_cut(bytes).max(1)),
            None => None,
        }
    }

    fn put(&mut self, bytes: &[u8], now: TimeMs) {
        if let Some((from, retry_at)) = self.failing {
            // A clock that was set back does not put off the next try.
            if (0..RETRY_MS).contains(&(retry_at.0 - now.0)) {
                return;
            }
            if self.open_segment().is_err() {
                self.failing = Some((from, now.plus_ms(RETRY_MS)));
                return;
            }
        } else if self.segment.is_none() && self.open_segment().is_err() {
            self.failing = Some((self.total, now.plus_ms(RETRY_MS)));
            return;
        }
        let written = self.write(bytes);
        if written > 0
            && let Some((from, _)) = self.failing.take()
        {
            self.lost += self.total - from;
            self.index.gap(from, self.total);
        }
        if written < bytes.len() {
            self.give_up(written, now);
        }
    }

    /// Writes what the disk takes, and says how much that was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(file) = &mut self.segment else { return 0 };
        let mut written = 0;
        while written < bytes.len() {
            match file.write(&bytes[written..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => written += count,
            }
        }
        written
    }

    /// Closes a segment that takes no more; the bytes after the first `written` are missing.
    fn give_up(&mut self, written: usize, now: TimeMs) {
        let from = self.failing.map_or(self.total + written as u64, |(from, _)| from);
        self.failing = Some((from, now.plus_ms(RETRY_MS)));
        self.segment = None;
        if written == 0 && self.segment_start == self.total {
            // An empty segment would look like bytes that are still to come.
            self.starts.pop();
            let _ = fs::remove_file(segment::path(&self.dir, self.total));
        }
    }

    /// Begins a segment at the current offset; sees to it that the front is cut.
    fn open_segment(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        self.segment = Some(options.open(segment::path(&self.dir, self.total))?);
        self.segment_start = self.total;
        self.starts.push(self.total);
        self.plan_cut();
        Ok(())
    }

    /// Has the front cut, so that what is held stays within the limit while this segment fills.
    fn plan_cut(&mut self) {
        // A segment ends with a line, and may so become somewhat longer than it should.
        let full = self.total + 2 * self.segment_bytes;
        let old = self.starts.iter().take_while(|&&start| full - start > self.limit_bytes).count();
        // The front goes to the start of a segment that stays.
        let gone = old.min(self.starts.len() - 1);
        if gone == 0 || !self.start_cutter() {
            return;
        }
        let Some(cutter) = &self.cutter else { return };
        cutter.plan(self.starts[gone]);
        self.starts.drain(..gone);
    }

    /// Whether a cutter runs. Without one the journal grows until the next segment tries again.
    fn start_cutter(&mut self) -> bool {
        if self.cutter.is_none() {
            let fluent = 2 * self.segment_bytes;
            self.cutter = Cutter::start(&self.dir, self.sizes.clone(), self.scrollback_lines, fluent).ok();
        }
        self.cutter.is_some()
    }

    /// Puts everything on disk and leaves the exit record: the last act.
    ///
    /// # Errors
    ///
    /// When the record could not be written; it may be tried again.
    pub fn finish(&mut self, record: &ExitRecord) -> io::Result<()> {
        self.segment = None;
        if let Some(cutter) = self.cutter.take() {
            self.front = cutter.finish();
        }
        // What does not reach the disk now is still in memory, where the daemon reads it from; the record matters more.
        let _ = self.sync();
        hit(Failpoint::JournalSynced);
        self.write_exit(&record.to_bytes())?;
        hit(Failpoint::ExitWritten);
        fs::rename(self.dir.join(EXIT_TEMPORARY), self.dir.join(ExitRecord::FILE))?;
        hit(Failpoint::ExitRenamed);
        File::open(&self.dir)?.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        for held in segment::list(&self.dir)? {
            File::open(segment::path(&self.dir, held.start))?.sync_data()?;
        }
        self.index.sync()
    }

    fn write_exit(&self, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.join(EXIT_TEMPORARY))?;
        file.write_all_at(bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_below_what_a_file_may_have() {
        assert_eq!(segment_bytes(10 << 20, None), 640 << 10);
        assert_eq!(segment_bytes(10 << 20, Some(300 << 10)), 150 << 10);
        assert_eq!(segment_bytes(1 << 30, Some(u64::MAX)), MAX_SEGMENT);
        assert_eq!(segment_bytes(10 << 20, Some(100)), MIN_SEGMENT);
    }
}
