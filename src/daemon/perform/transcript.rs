//! From a journal on disk to the transcript that the store keeps.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::journal::{Found, Reader};
use crate::model::{Offset, TimeMs};
use crate::store::Transcript;

/// One read, in bytes.
const PIECE: usize = 1 << 20;

/// Ranges of bytes that could not be written; at most as many as there are segments.
pub(super) type Missing = Vec<(Offset, Offset)>;

/// What a run wrote, as far as its journal holds it; `None` when there is no journal.
///
/// # Errors
/// When it is there and cannot be read now.
pub(super) async fn read(dir: &Path) -> io::Result<Option<(Transcript, Missing)>> {
    let at = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || read_blocking(&at)).await;
    match read.map_err(io::Error::other).flatten() {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::error!(dir = %dir.display(), "there is no journal; the run is kept without it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What is missing of a run that wrote `total` bytes, of which this is kept.
pub(super) fn missing_of(kept: &Transcript, mut missing: Missing, total: Offset) -> Missing {
    let end = kept.start.after(kept.bytes.len());
    missing.extend((end < total).then_some((end, total)));
    missing
}

fn read_blocking(dir: &Path) -> io::Result<(Transcript, Missing)> {
    let mut reader = Reader::new(dir);
    let (start, end) = reader.range()?;
    let mut missing = Missing::new();
    let (start, bytes) = newest_contiguous(&mut reader, start, end, &mut missing)?;
    let index = reader.index()?;
    let checkpoint = reader.checkpoint()?.filter(|checkpoint| checkpoint.offset == start);
    let transcript = Transcript {
        start,
        line_count: memchr::memchr_iter(b'\n', &bytes).count() as u64,
        bytes,
        times: index.times.into_iter().map(|(offset, at)| (offset, at.0)).collect(),
        sizes: index.sizes,
        checkpoint: checkpoint.map(|checkpoint| (checkpoint.size, checkpoint.dump)),
        created_at: TimeMs::now(),
    };
    Ok((transcript, missing))
}

/// The bytes after the last hole. A hole is there only where the disk was full; what is before it is dropped with it.
fn newest_contiguous(
    reader: &mut Reader,
    mut start: Offset,
    end: Offset,
    missing: &mut Missing,
) -> io::Result<(Offset, Bytes)> {
    let mut bytes = BytesMut::new();
    loop {
        let at = start.after(bytes.len());
        if at >= end {
            return Ok((start, bytes.freeze()));
        }
        match reader.read_at(at, PIECE)? {
            Found::Bytes(piece) => bytes.extend_from_slice(&piece),
            Found::End => return Ok((start, bytes.freeze())),
            Found::Missing { to, .. } => {
                tracing::warn!(from = at.0, to = to.0, "bytes could not be written while the run lasted");
                missing.push((at, to));
                start = to;
                bytes.clear();
            }
        }
    }
}
