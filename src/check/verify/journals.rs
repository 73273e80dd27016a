//! I5 and I9: what is kept of a run's bytes, in the database and on disk.

use super::say;
use super::view::{View, run};
use crate::check::evidence::{Directory, Journal, Stored};
use crate::check::violation::{Invariant, Violation};
use crate::journal::ExitRecord;
use crate::model::{Instance, InstanceId};

/// What a full journal may be longer than its limit, in bytes: its segments end with lines, and the newest is not cut.
const JOURNAL_SLACK: u64 = 4 * 1024 * 1024;

/// Each ended run's transcript is as long as its row says, and says of itself what is true.
pub(super) fn transcripts(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, row) in &view.runs {
        let it = &row.run.instance;
        for sentence in stored(it, view.transcripts.get(id).copied(), view.all.disk_was_full) {
            say(found, Invariant::Bytes, run(*id), sentence);
        }
    }
}

fn stored(it: &Instance, transcript: Option<&Stored>, disk_was_full: bool) -> Vec<String> {
    let total = it.output_bytes;
    let Some(transcript) = transcript else {
        let missing = it.state.is_terminal() && total > 0 && !disk_was_full;
        return missing.then(|| format!("its {total} bytes are not stored")).into_iter().collect();
    };
    let (recorded, counted) = transcript.lines;
    let end = transcript.end;
    let rules = [
        (it.state.is_terminal(), format!("it is {} and has a transcript", it.state)),
        (end <= total, format!("its transcript ends at byte {end} and its output at {total}")),
        (end >= total || disk_was_full, format!("its transcript ends at byte {end} of {total}")),
        (recorded == counted, format!("its transcript has {counted} lines and {recorded} are recorded")),
        (
            transcript.indexed_to <= total.max(end),
            "its transcript has times or sizes of bytes after its end".to_owned(),
        ),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, why)| why).collect()
}

/// Each journal is whole, and is what was stored.
pub(super) fn directories(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, directory) in &view.directories {
        let journal = match &directory.journal {
            Ok(journal) => journal,
            Err(why) => {
                say(found, Invariant::Bytes, run(*id), format!("its journal cannot be read ({why})"));
                continue;
            }
        };
        if !is_stored(view, *id) {
            unstored(view, directory, journal, found);
        }
        if let Some(transcript) = view.transcripts.get(id)
            && let Some(sentence) = differs(transcript, journal)
        {
            say(found, Invariant::Bytes, run(*id), sentence);
        }
    }
}

/// Whether a run's end is recorded, so that its directory may be half removed.
fn is_stored(view: &View<'_>, id: InstanceId) -> bool {
    view.runs.get(&id).is_some_and(|row| row.run.instance.state.is_terminal())
}

/// What is wrong with a journal that is the only place where its bytes are.
fn unstored(view: &View<'_>, directory: &Directory, journal: &Journal, found: &mut Vec<Violation>) {
    let record = directory.exit.as_ref().ok().and_then(Option::as_ref);
    if !view.all.disk_was_full {
        for sentence in holes(journal, record) {
            say(found, Invariant::Bytes, run(directory.id), sentence);
        }
    }
    if let Some(record) = record {
        ended(directory, journal, record, found);
    }
}

/// What is missing of a journal and not recorded as missing.
fn holes(journal: &Journal, record: Option<&ExitRecord>) -> Vec<String> {
    let is_known = |from: u64, to: u64| journal.gaps.iter().any(|gap| gap.0 <= from && to <= gap.1);
    let lost = record.map_or(0, |record| record.lost_bytes);
    let mut wrong = Vec::new();
    for pair in journal.pieces.windows(2) {
        let (from, to) = (pair[0].0 + pair[0].1.len() as u64, pair[1].0);
        if !is_known(from, to) {
            wrong.push(format!("bytes {from} to {to} are missing from its journal"));
        }
    }
    let start = journal.start();
    if start > 0 && journal.checkpoint.is_none_or(|at| at < start) && !is_known(0, start) {
        wrong.push(format!("its journal begins at byte {start} without the terminal's state there"));
    }
    if journal.indexed_to > journal.end() && lost == 0 && journal.gaps.is_empty() {
        wrong.push("its journal ends before bytes that its index knows".to_owned());
    }
    wrong
}

/// A journal that ended has as many bytes as its record says, and not more than it may.
fn ended(directory: &Directory, journal: &Journal, record: &ExitRecord, found: &mut Vec<Violation>) {
    let id = directory.id;
    let (end, total, lost) = (journal.end(), record.total_bytes, record.lost_bytes);
    if end > total || end + lost < total {
        let sentence = format!("its journal ends at byte {end} and its exit record says {total}");
        say(found, Invariant::Bytes, run(id), sentence);
    }
    let held: u64 = journal.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if let Ok(spec) = &directory.spec
        && held > spec.limit_bytes + JOURNAL_SLACK
    {
        let sentence = format!("its journal holds {held} bytes and may hold {}", spec.limit_bytes);
        say(found, Invariant::Bounds, run(id), sentence);
    }
}

/// Where a transcript is not what its journal is.
fn differs(transcript: &Stored, journal: &Journal) -> Option<String> {
    let bytes = transcript.bytes.as_ref()?;
    let at =
        first_difference((transcript.start, bytes), journal.pieces.iter().map(|(at, it)| (*at, &it[..])));
    at.map(|at| format!("its transcript and its journal differ at byte {at}"))
}

/// The first offset at which these bytes and those, as far as both are there, are not the same.
pub(super) fn first_difference<'a>(
    (start, bytes): (u64, &[u8]),
    others: impl Iterator<Item = (u64, &'a [u8])>,
) -> Option<u64> {
    let end = start + bytes.len() as u64;
    let part = |from: u64, to: u64, base: u64| {
        usize::try_from(from - base).unwrap_or(usize::MAX)..usize::try_from(to - base).unwrap_or(usize::MAX)
    };
    others
        .filter_map(|(other_start, other)| {
            let from = start.max(other_start);
            let to = end.min(other_start + other.len() as u64);
            if from >= to {
                return None;
            }
            let (one, two) = (&bytes[part(from, to, start)], &other[part(from, to, other_start)]);
            if one == two {
                return None;
            }
            let at = one.iter().zip(two).position(|(a, b)| a != b).unwrap_or(0);
            Some(from + at as u64)
        })
        .min()
}
