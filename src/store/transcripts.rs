//! What runs wrote, kept with their rows and deleted with them.

use std::collections::BTreeSet;

use bytes::Bytes;
use rusqlite::{Connection, Row, params};

use super::row::{first, number, signed, size, time};
use super::{Error, Transcript};
use crate::model::{InstanceId, Offset, Size};

const TIME_BYTES: usize = 16;
const SIZE_BYTES: usize = 12;

pub(super) fn put(conn: &Connection, id: InstanceId, transcript: &Transcript) -> Result<(), Error> {
    let checkpoint = transcript.checkpoint.as_ref();
    conn.prepare_cached(
        "INSERT OR REPLACE INTO task_transcripts (task_id, created_at, start_offset, line_count, times, sizes,
           checkpoint_cols, checkpoint_rows, checkpoint, transcript) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        id.to_string(),
        transcript.created_at.0,
        signed(transcript.start.0),
        signed(transcript.line_count),
        pack_times(&transcript.times),
        pack_sizes(&transcript.sizes),
        checkpoint.map(|(size, _)| size.cols()),
        checkpoint.map(|(size, _)| size.rows()),
        checkpoint.map(|(_, dump)| dump.as_ref()),
        transcript.bytes.as_ref(),
    ])?;
    Ok(())
}

pub(super) fn get(conn: &Connection, id: InstanceId) -> Result<Option<Transcript>, Error> {
    let mut query = conn.prepare_cached("SELECT * FROM task_transcripts WHERE task_id = ?1")?;
    first(&mut query, [id.to_string()], read)
}

/// Which of these runs have one.
pub(super) fn which(conn: &Connection, ids: &[InstanceId]) -> Result<BTreeSet<InstanceId>, Error> {
    let mut query = conn.prepare_cached("SELECT 1 FROM task_transcripts WHERE task_id = ?1")?;
    let mut found = BTreeSet::new();
    for id in ids {
        if query.exists([id.to_string()])? {
            found.insert(*id);
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Transcript, Error> {
    let dump: Option<Vec<u8>> = row.get("checkpoint")?;
    let checkpoint = match dump {
        Some(dump) => {
            Some((size(number(row, "checkpoint_cols")?, number(row, "checkpoint_rows")?)?, Bytes::from(dump)))
        }
        None => None,
    };
    Ok(Transcript {
        start: Offset(number(row, "start_offset")?),
        bytes: Bytes::from(row.get::<_, Vec<u8>>("transcript")?),
        times: unpack_times(&row.get::<_, Vec<u8>>("times")?)?,
        sizes: unpack_sizes(&row.get::<_, Vec<u8>>("sizes")?)?,
        checkpoint,
        line_count: number(row, "line_count")?,
        created_at: time(row, "created_at")?,
    })
}

fn pack_times(times: &[(Offset, i64)]) -> Vec<u8> {
    times.iter().flat_map(|(offset, at)| [offset.0.to_be_bytes(), at.to_be_bytes()]).flatten().collect()
}

fn pack_sizes(sizes: &[(Offset, Size)]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(sizes.len() * SIZE_BYTES);
    for (offset, size) in sizes {
        packed.extend(offset.0.to_be_bytes());
        packed.extend(size.cols().to_be_bytes());
        packed.extend(size.rows().to_be_bytes());
    }
    packed
}

fn unpack_times(packed: &[u8]) -> Result<Vec<(Offset, i64)>, Error> {
    let (entries, []) = packed.as_chunks::<TIME_BYTES>() else {
        return Err(Error::bad_value("times of a transcript"));
    };
    Ok(entries
        .iter()
        .map(|e| {
            let offset = u64::from_be_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]);
            let at = i64::from_be_bytes([e[8], e[9], e[10], e[11], e[12], e[13], e[14], e[15]]);
            (Offset(offset), at)
        })
        .collect())
}

fn unpack_sizes(packed: &[u8]) -> Result<Vec<(Offset, Size)>, Error> {
    let (entries, []) = packed.as_chunks::<SIZE_BYTES>() else {
        return Err(Error::bad_value("sizes of a transcript"));
    };
    entries
        .iter()
        .map(|e| {
            let offset = u64::from_be_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]);
            let (cols, rows) = (u16::from_be_bytes([e[8], e[9]]), u16::from_be_bytes([e[10], e[11]]));
            Ok((Offset(offset), size(cols.into(), rows.into())?))
        })
        .collect()
}
