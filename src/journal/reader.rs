//! Reading a journal while its writer, another process, appends to it and cuts it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::index::{self, Index};
use super::pinned::Pinned;
use super::segment::{self, Segment};
use crate::model::Offset;

/// What is at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T = Bytes> {
    /// These bytes (never none).
    Bytes(T),
    /// Nothing yet.
    End,
    /// Bytes from there to `to` are missing.
    Missing {
        /// The first byte that is there again.
        to: Offset,
        /// Whether they were cut off the front; else they could not be written.
        evicted: bool,
    },
}

/// Reads one instance's output by offset. It keeps one segment open; that one may be cut off meanwhile and is still read.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    open: Option<(u64, File)>,
}

impl Reader {
    /// A reader of the instance directory `dir`. Opens nothing yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: None }
    }

    /// The first byte held and the offset after the last; equal when there is none.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn range(&self) -> io::Result<(Offset, Offset)> {
        let segments = segment::list(&self.dir)?;
        let start = segments.first().map_or(0, |s| s.start);
        let end = segments.last().map_or(0, |s| s.end());
        Ok((Offset(start), Offset(end)))
    }

    /// Up to `max` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn read_at(&mut self, offset: Offset, max: usize) -> io::Result<Found> {
        let mut bytes = vec![0; max];
        Ok(match self.read_into(offset.0, &mut bytes)? {
            Found::Bytes(count) => {
                bytes.truncate(count);
                Found::Bytes(bytes.into())
            }
            Found::End => Found::End,
            Found::Missing { to, evicted } => Found::Missing { to, evicted },
        })
    }

    /// Fills `buffer` from `offset` on, from one segment, and says how many bytes that were.
    pub(crate) fn read_into(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<Found<usize>> {
        if let Some(count) = self.read_open(offset, buffer)? {
            return Ok(Found::Bytes(count));
        }
        if self.try_open(offset)?
            && let Some(count) = self.read_open(offset, buffer)?
        {
            return Ok(Found::Bytes(count));
        }
        let segments = segment::list(&self.dir)?;
        if let Some(holder) = segments.iter().find(|s| (s.start..s.end()).contains(&offset)) {
            // It may be cut off between the list and this: then look again, from a later front.
            if !self.try_open(holder.start)? {
                return self.read_into(offset, buffer);
            }
            if let Some(count) = self.read_open(offset, buffer)? {
                return Ok(Found::Bytes(count));
            }
        }
        Ok(missing(&segments, offset))
    }

    fn read_open(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some((start, file)) = &self.open else { return Ok(None) };
        let Some(at) = offset.checked_sub(*start) else { return Ok(None) };
        let count = file.read_at(buffer, at)?;
        Ok(Some(count).filter(|&count| count > 0))
    }

    fn try_open(&mut self, start: u64) -> io::Result<bool> {
        match File::open(segment::path(&self.dir, start)) {
            Ok(file) => {
                self.open = Some((start, file));
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What is held now, of which nothing is cut off while somebody has it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn pin(&self) -> io::Result<Pinned> {
        Pinned::open(&self.dir)
    }

    /// The terminal's state where the front was cut off; `None` while nothing was.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        Checkpoint::read(&self.dir)
    }

    /// Times, sizes and gaps.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn index(&self) -> io::Result<Index> {
        match fs::read(self.dir.join(index::FILE)) {
            Ok(bytes) => Ok(Index::parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(e),
        }
    }
}

/// What to say of an offset that no segment holds.
fn missing(segments: &[Segment], offset: u64) -> Found<usize> {
    let evicted = segments.first().is_some_and(|first| first.start > offset);
    match segments.iter().find(|s| s.start > offset) {
        Some(next) => Found::Missing { to: Offset(next.start), evicted },
        None => Found::End,
    }
}
