//! Instance directories: spec, journal, exit record.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::Error;
use crate::check::evidence::{Directory, Journal, Spec};
use crate::journal::{self, ExitRecord, Found, Reader};
use crate::model::{InstanceId, Offset};

/// One read, in bytes.
const PIECE: usize = 1 << 20;

/// Every instance directory that is there from the beginning of this to its end.
pub(super) fn read(instances: &Path) -> Result<Vec<Directory>, Error> {
    let ids = journal::list(instances).map_err(Error::io(instances))?;
    let all = ids.into_iter().map(|id| (instances.join(id.to_string()), id));
    // Removed meanwhile: what was read of it is a part.
    Ok(all
        .map(|(path, id)| (one(&path, id), path))
        .filter(|(_, path)| path.exists())
        .map(|(it, _)| it)
        .collect())
}

fn one(path: &Path, id: InstanceId) -> Directory {
    let spec = journal::Spec::read(path).map_err(|error| error.to_string()).map(|spec| Spec {
        id: spec.id,
        nonce: spec.nonce,
        boot_id: spec.boot_id,
        keep_window: spec.keep_window,
        limit_bytes: spec.limit_bytes,
    });
    // The record first: a journal that is read after it is complete.
    let exit = ExitRecord::read(path).map_err(|error| error.to_string());
    Directory { id, spec, exit, journal: journal(path).map_err(|error| error.to_string()) }
}

fn journal(path: &Path) -> io::Result<Journal> {
    let mut reader = Reader::new(path);
    // The index first: it names no byte that is not there by then.
    let index = reader.index()?;
    let sizes = index.sizes.iter().map(|(offset, _)| offset.0);
    let indexed_to = index.times.iter().map(|(offset, _)| offset.0).chain(sizes).max().unwrap_or(0);
    let gaps = index.gaps.iter().map(|(from, to)| (from.0, to.0)).collect();
    let pieces = pieces(&mut reader)?;
    let checkpoint = reader.checkpoint()?.map(|it| it.offset.0);
    Ok(Journal { pieces, gaps, indexed_to, checkpoint })
}

/// The bytes held; what is cut off meanwhile is left out.
fn pieces(reader: &mut Reader) -> io::Result<Vec<(u64, Bytes)>> {
    let (mut start, _) = reader.range()?;
    let (mut all, mut bytes) = (Vec::new(), BytesMut::new());
    loop {
        match reader.read_at(start.after(bytes.len()), PIECE)? {
            Found::Bytes(more) => bytes.extend_from_slice(&more),
            Found::Missing { to, evicted } => {
                if evicted {
                    all.clear();
                    bytes.clear();
                }
                finish(&mut all, start, &mut bytes);
                start = to;
            }
            Found::End => {
                finish(&mut all, start, &mut bytes);
                return Ok(all);
            }
        }
    }
}

fn finish(all: &mut Vec<(u64, Bytes)>, start: Offset, bytes: &mut BytesMut) {
    if !bytes.is_empty() {
        all.push((start.0, bytes.split().freeze()));
    }
}
