//! The database, as of one moment.

use std::collections::BTreeSet;
use std::path::Path;

use crate::check::evidence::{Database, Stored};
use crate::model::{EventKind, InstanceId};
use crate::store::{Error, Snapshot, Transcript, TranscriptRow};

/// The events that are looked at.
const KINDS: [EventKind; 4] =
    [EventKind::TaskLaunched, EventKind::TaskExited, EventKind::TaskStopped, EventKind::ProjectChanged];

/// What is recorded, and whether it tells the secret; `None` without a database. The bytes of transcripts are kept for `compared`.
pub(super) fn read(
    path: &Path,
    compared: &BTreeSet<InstanceId>,
    secret: Option<&str>,
) -> Result<Option<(Database, Option<String>)>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let snapshot = Snapshot::open(path)?;
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for row in snapshot.runs()? {
        match row {
            Ok(row) => runs.push(row),
            Err(why) => unreadable.push(why),
        }
    }
    let mut transcripts = Vec::new();
    for row in snapshot.transcripts()? {
        let whole = snapshot.transcript(row.id)?;
        transcripts.extend(whole.map(|it| stored(row, it, compared.contains(&row.id))));
    }
    let told = secret.map(|secret| snapshot.events_that_say(secret)).transpose()?.unwrap_or(0);
    let database = Database {
        runs,
        unreadable,
        damage: snapshot.damage()?,
        keys: snapshot.keys()?,
        events: snapshot.events(&KINDS.map(EventKind::word))?,
        log: snapshot.log()?,
        transcripts,
    };
    Ok(Some((database, (told > 0).then(|| "events in the audit log tell the daemon's token".to_owned()))))
}

/// One transcript at a time is in memory, but for those that are compared.
fn stored(row: TranscriptRow, whole: Transcript, is_compared: bool) -> Stored {
    let times = whole.times.iter().map(|(offset, _)| offset.0);
    let indexed_to = times.chain(whole.sizes.iter().map(|(offset, _)| offset.0)).max().unwrap_or(0);
    let counted = memchr::memchr_iter(b'\n', &whole.bytes).count() as u64;
    Stored {
        id: row.id,
        start: row.start,
        end: row.start + row.len,
        lines: (row.line_count, counted),
        indexed_to,
        bytes: is_compared.then_some(whole.bytes),
    }
}
