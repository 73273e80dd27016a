//! When bytes came and which size the terminal had: fixed records of 24 bytes, appended.
//!
//! A record is `u8 kind, 3 bytes 0, u16 cols, u16 rows, u64 offset, u64 value`, big endian. The file is bounded: after every
//! [`PER_STEP`] time records the interval between them doubles, and after [`MAX_OTHERS`] of the others no more are written.

use std::fs::File;
use std::io::Write as _;

use crate::model::{Offset, Size, TimeMs};

/// The file's name in an instance directory.
pub(super) const FILE: &str = "index";
const RECORD: usize = 24;
/// Between two time records at first, in milliseconds.
const FIRST_INTERVAL_MS: i64 = 50;
/// Time records of one interval: about 7 minutes of output at first, 200 KiB each time the interval doubles.
const PER_STEP: u32 = 8192;
/// Sizes and gaps that are recorded, 400 KiB; later ones are not.
const MAX_OTHERS: u32 = 16_384;

const TIME: u8 = 1;
const SIZE: u8 = 2;
const GAP: u8 = 3;

/// What an index says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Bytes from this offset on came at this time or later; in order.
    pub times: Vec<(Offset, TimeMs)>,
    /// From this offset on the terminal had this size; in order, the first at 0.
    pub sizes: Vec<(Offset, Size)>,
    /// Bytes that could not be written, first and after-last.
    pub gaps: Vec<(Offset, Offset)>,
}

impl Index {
    /// Reads an index file's bytes; what is not a record is passed over.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut index = Self::default();
        for record in bytes.chunks_exact(RECORD) {
            let short = |at: usize| i64::from(u16::from_be_bytes([record[at], record[at + 1]]));
            let long = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("eight bytes"));
            let offset = Offset(long(8));
            match record[0] {
                TIME => index.times.push((offset, TimeMs(long(16).cast_signed()))),
                SIZE => index.sizes.extend(Size::clamped(short(4), short(6)).map(|size| (offset, size))),
                GAP => index.gaps.push((offset, Offset(long(16)))),
                _ => {}
            }
        }
        index
    }
}

/// Appends to an index. What cannot be written is left out: the bytes matter more than their times.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: File,
    interval_ms: i64,
    left_in_step: u32,
    others_left: u32,
    last: Option<TimeMs>,
}

impl IndexWriter {
    pub(super) const fn new(file: File) -> Self {
        let (interval_ms, left_in_step) = (FIRST_INTERVAL_MS, PER_STEP);
        Self { file, interval_ms, left_in_step, others_left: MAX_OTHERS, last: None }
    }

    /// Bytes from `offset` on come at `now`.
    pub(super) fn time(&mut self, offset: u64, now: TimeMs) {
        // A clock that was set back begins anew.
        if self.last.is_some_and(|last| (0..self.interval_ms).contains(&(now.0 - last.0))) {
            return;
        }
        self.last = Some(now);
        self.left_in_step -= 1;
        if self.left_in_step == 0 {
            self.left_in_step = PER_STEP;
            self.interval_ms = self.interval_ms.saturating_mul(2);
        }
        self.put(TIME, None, offset, now.0.cast_unsigned());
    }

    /// The terminal has this size from `offset` on.
    pub(super) fn size(&mut self, offset: u64, size: Size) {
        if self.others_left > 0 {
            self.others_left -= 1;
            self.put(SIZE, Some(size), offset, 0);
        }
    }

    /// Bytes `from..to` could not be written.
    pub(super) fn gap(&mut self, from: u64, to: u64) {
        if self.others_left > 0 {
            self.others_left -= 1;
            self.put(GAP, None, from, to);
        }
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    fn put(&mut self, kind: u8, size: Option<Size>, offset: u64, value: u64) {
        let mut record = [0; RECORD];
        record[0] = kind;
        if let Some(size) = size {
            record[4..6].copy_from_slice(&size.cols().to_be_bytes());
            record[6..8].copy_from_slice(&size.rows().to_be_bytes());
        }
        record[8..16].copy_from_slice(&offset.to_be_bytes());
        record[16..].copy_from_slice(&value.to_be_bytes());
        // A full disk may take a part of a record: back to the last whole one.
        if self.file.write_all(&record).is_err() {
            let whole = self.file.metadata().map_or(0, |m| m.len() / RECORD as u64 * RECORD as u64);
            let _ = self.file.set_len(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded_and_sizes_and_gaps_come_back() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().append(true).open(path.path()).unwrap();
        let mut writer = IndexWriter::new(file);
        writer.size(0, Size::DEFAULT);
        for ms in 0..2_000_000_i64 {
            writer.time(ms.cast_unsigned(), TimeMs(ms));
        }
        writer.time(7, TimeMs(-5));
        writer.gap(10, 20);
        let index = Index::parse(&std::fs::read(path.path()).unwrap());
        assert_eq!(index.sizes, [(Offset(0), Size::DEFAULT)]);
        assert_eq!(index.gaps, [(Offset(10), Offset(20))]);
        assert_eq!(index.times[1], (Offset(50), TimeMs(50)));
        assert_eq!(index.times.last(), Some(&(Offset(7), TimeMs(-5))));
        assert!(index.times.len() < 3 * PER_STEP as usize, "{}", index.times.len());
    }
}
