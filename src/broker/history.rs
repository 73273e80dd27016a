//! What lies behind a ring: an instance's journal, or its stored transcript.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Offset, Size};

/// A terminal's state at an offset: `dump` written to a freshly reset terminal of `size` shows it.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The offset whose state it is.
    pub offset: Offset,
    /// The size it was taken at.
    pub size: Size,
    /// The bytes to write.
    pub dump: Bytes,
}

/// Bytes that are no longer, or not yet, in a ring: an instance's journal or its stored transcript.
pub trait History: Send + Sync {
    /// What is held now: `start..end`.
    fn range(&self) -> Range<Offset>;
    /// Up to `max` bytes from `from`; empty at the end; `ErrorKind::NotFound` when `from` was dropped.
    ///
    /// # Errors
    /// What the file system said.
    fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes>;
    /// Where the bytes go on after `from`, which `read_at` did not find.
    fn next_held(&self, _from: Offset) -> Offset {
        self.range().start
    }
    /// The terminal's state where the held bytes start, when they do not start at 0.
    fn checkpoint(&self) -> Option<Checkpoint>;
    /// When bytes were written: (offset, epoch milliseconds), ascending, coarse.
    fn times(&self) -> Vec<(Offset, i64)>;
    /// The sizes the terminal had: (offset, size), ascending; the first is at or before `range().start`.
    fn sizes(&self) -> Vec<(Offset, Size)>;
    /// What is held now, of which nothing is dropped while it is in use; `None` when nothing ever is.
    ///
    /// # Errors
    /// What the file system said; `ErrorKind::NotFound` when there is nothing.
    fn pinned(&self) -> io::Result<Option<Arc<dyn History>>> {
        Ok(None)
    }
}
