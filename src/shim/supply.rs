//! Where a sink gets its next bytes: from the piece just read, else from the journal.

use std::io;

use crate::journal::{Found, Reader};

/// The most bytes handed over at once; also what one turn of the loop reads from the command.
pub(super) const PIECE: usize = 64 * 1024;

/// The last bytes that the command wrote, still in memory.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Box<[u8]>,
    len: usize,
    offset: u64,
    /// For bytes read back from the journal.
    scratch: Box<[u8]>,
}

/// What comes next for a sink.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Bytes(&'a [u8]),
    /// Nothing before this offset is held.
    Gap(u64),
}

impl Piece {
    pub(super) fn new() -> Self {
        let (bytes, scratch) = (vec![0; PIECE].into(), vec![0; PIECE].into());
        Self { bytes, len: 0, offset: 0, scratch }
    }

    /// Fills the piece, whose first byte will have this offset, by reading until `read` has no more or it is full.
    ///
    /// Returns the error that ended it, if it was one; what came before is in the piece.
    pub(super) fn fill(
        &mut self,
        offset: u64,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.offset = offset;
        self.len = 0;
        while self.len < PIECE {
            match read(&mut self.bytes[self.len..])? {
                0 => break,
                count => self.len += count,
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The bytes at `at`, which is before `total`.
    pub(super) fn next(&mut self, reader: &mut Reader, at: u64, total: u64) -> Next<'_> {
        if let Some(from) = at.checked_sub(self.offset).and_then(|from| usize::try_from(from).ok())
            && from < self.len
        {
            return Next::Bytes(&self.bytes[from..self.len]);
        }
        match reader.read_into(at, &mut self.scratch) {
            Ok(Found::Bytes(count)) => Next::Bytes(&self.scratch[..count]),
            Ok(Found::Missing { to, .. }) => Next::Gap(to.0),
            // What the disk did not take, or no longer gives, is missing up to what is in memory.
            Ok(Found::End) | Err(_) => Next::Gap(if at < self.offset { self.offset } else { total }),
        }
    }
}
