//! A journal as it was at one moment, held open: what is cut off meanwhile can still be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::index::Index;
use super::reader::Reader;
use super::segment::{self, Segment};
use crate::model::Offset;

/// How often the front may move away while the segments are opened. A cut is made every megabyte or so, so twice is rare.
const TRIES: usize = 16;

/// The newest bytes of a journal that have no hole, with everything that is known of them.
#[derive(Debug)]
pub struct Pinned {
    /// About twenty at most: a journal keeps no more.
    segments: Vec<(Segment, File)>,
    /// The terminal's state at the first byte, when that is not byte 0.
    pub checkpoint: Option<Checkpoint>,
    /// Times and sizes.
    pub index: Index,
}

impl Pinned {
    /// Opens what the instance directory `dir` holds now.
    ///
    /// # Errors
    ///
    /// When the directory or a file in it cannot be read, or the front never stands still.
    pub fn open(dir: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            if let Some(segments) = open_all(dir)? {
                // Stored before what it replaces is cut off, so it may be newer than the list, never older.
                let checkpoint = Checkpoint::read(dir)?;
                let index = Reader::new(dir).index()?;
                return Ok(Self::of(segments, checkpoint, index));
            }
        }
        Err(io::Error::other("the journal is cut faster than it can be opened"))
    }

    fn of(mut segments: Vec<(Segment, File)>, checkpoint: Option<Checkpoint>, index: Index) -> Self {
        let front = checkpoint.as_ref().map_or(0, |it| it.offset.0);
        segments.retain(|(segment, _)| segment.start >= front);
        let hole = segments.windows(2).rposition(|pair| pair[0].0.end() != pair[1].0.start);
        segments.drain(..hole.map_or(0, |at| at + 1));
        let start = segments.first().map(|(first, _)| Offset(first.start));
        let checkpoint = checkpoint.filter(|it| Some(it.offset) == start);
        Self { segments, checkpoint, index }
    }

    /// The first byte held and the offset after the last; equal when there is none.
    #[must_use]
    pub fn range(&self) -> (Offset, Offset) {
        let end = |it: Option<&(Segment, File)>| it.map_or(0, |(segment, _)| segment.end());
        let start = self.segments.first().map_or(0, |(segment, _)| segment.start);
        (Offset(start), Offset(end(self.segments.last())))
    }

    /// Up to `max` bytes from `offset`, from one segment; none at the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] before the first byte; what the file system said.
    pub fn read_at(&self, offset: Offset, max: usize) -> io::Result<Bytes> {
        let (start, end) = self.range();
        if offset < start {
            return Err(io::ErrorKind::NotFound.into());
        }
        if offset >= end {
            return Ok(Bytes::new());
        }
        let after = self.segments.partition_point(|(segment, _)| segment.start <= offset.0);
        let (segment, file) = &self.segments[after.saturating_sub(1)];
        let left = usize::try_from(segment.end() - offset.0).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max)];
        file.read_exact_at(&mut bytes, offset.0 - segment.start)?;
        Ok(bytes.into())
    }
}

/// Opens every segment; `None` when one was cut off meanwhile.
fn open_all(dir: &Path) -> io::Result<Option<Vec<(Segment, File)>>> {
    let mut opened = Vec::new();
    for Segment { start, .. } in segment::list(dir)? {
        match File::open(segment::path(dir, start)) {
            // Measured now: one that was still growing when it was listed is complete if another follows it.
            Ok(file) => opened.push((Segment { start, len: file.metadata()?.len() }, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(opened))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::Size;

    fn journal(segments: &[(u64, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (start, text) in segments {
            fs::write(segment::path(dir.path(), *start), text).unwrap();
        }
        dir
    }

    fn text(pinned: &Pinned) -> String {
        let (mut at, end) = pinned.range();
        let mut all = Vec::new();
        while at < end {
            let bytes = pinned.read_at(at, 3).unwrap();
            at = at.after(bytes.len());
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn what_is_cut_off_or_grows_later_changes_nothing() {
        let dir = journal(&[(0, "first "), (6, "second "), (13, "th")]);
        let pinned = Pinned::open(dir.path()).unwrap();
        fs::remove_file(segment::path(dir.path(), 0)).unwrap();
        fs::write(segment::path(dir.path(), 13), "third").unwrap();
        assert_eq!(text(&pinned), "first second th");
        assert_eq!(pinned.range(), (Offset(0), Offset(15)));
        assert_eq!(pinned.read_at(Offset(15), 9).unwrap(), Bytes::new());
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(text(&pinned), "first second th");
    }

    #[test]
    fn begins_after_the_last_hole_and_at_the_checkpoint() {
        let dir = journal(&[(0, "abc"), (5, "lost before"), (16, "end")]);
        let pinned = Pinned::open(dir.path()).unwrap();
        assert_eq!((text(&pinned).as_str(), pinned.range().0), ("lost beforeend", Offset(5)));
        assert_eq!(pinned.read_at(Offset(4), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        let checkpoint = Checkpoint { offset: Offset(16), size: Size::DEFAULT, dump: Bytes::new() };
        checkpoint.write(dir.path()).unwrap();
        let pinned = Pinned::open(dir.path()).unwrap();
        assert_eq!((text(&pinned).as_str(), &pinned.checkpoint), ("end", &Some(checkpoint)));
    }

    #[test]
    fn an_empty_journal_holds_nothing() {
        let pinned = Pinned::open(journal(&[]).path()).unwrap();
        assert_eq!(
            (pinned.range(), pinned.read_at(Offset(0), 1).unwrap()),
            ((Offset(0), Offset(0)), Bytes::new())
        );
    }
}
