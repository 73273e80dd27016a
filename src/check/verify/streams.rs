//! I4, I5 and I6: what clients were sent, against what the run wrote.

use std::collections::BTreeMap;

use super::journals::first_difference;
use super::say;
use super::view::{View, run};
use crate::check::evidence::{Frame, Stream};
use crate::check::violation::{Invariant, Violation};
use crate::model::InstanceId;

/// Fewer bytes than these may be the same in two runs by chance.
const TELLING: usize = 16;

/// Bytes of a run that are kept, each piece with its offset.
type Kept<'a> = Vec<(u64, &'a [u8])>;

/// Every stream is its run's output from where it began, but for what it was told it would not get.
pub(super) fn streams(view: &View<'_>, found: &mut Vec<Violation>) {
    let mut kept: BTreeMap<InstanceId, Kept<'_>> = BTreeMap::new();
    for id in view.runs.keys().chain(view.directories.keys()) {
        kept.entry(*id).or_insert_with(|| kept_of(view, *id));
    }
    for stream in &view.all.streams {
        let subject = format!("{} ({})", run(stream.instance), stream.name);
        if let Some(sentence) = broken(stream) {
            say(found, Invariant::Bytes, &subject, sentence);
        }
        let own = kept.get(&stream.instance);
        for (offset, bytes) in outputs(stream) {
            let Some(at) = own.and_then(|own| first_difference((offset, bytes), own.iter().copied())) else {
                continue;
            };
            let (invariant, sentence) = match other_source(&kept, stream.instance, bytes) {
                Some(other) => {
                    (Invariant::NoCrossTalk, format!("it was sent output of {} at byte {offset}", run(other)))
                }
                None => (Invariant::Bytes, format!("it was sent something else than is kept at byte {at}")),
            };
            say(found, invariant, &subject, sentence);
            break;
        }
        for (invariant, sentence) in against_the_row(view, stream) {
            say(found, invariant, &subject, sentence);
        }
    }
}

fn kept_of<'a>(view: &View<'a>, id: InstanceId) -> Kept<'a> {
    if let Some(transcript) = view.transcripts.get(&id) {
        return transcript.bytes.iter().map(|bytes| (transcript.start, &bytes[..])).collect();
    }
    let directory = view.directories.get(&id).copied();
    let journal = directory.and_then(|it| it.journal.as_ref().ok());
    journal.into_iter().flat_map(|it| &it.pieces).map(|(at, bytes)| (*at, &bytes[..])).collect()
}

fn outputs(stream: &Stream) -> impl Iterator<Item = (u64, &[u8])> {
    stream.frames.iter().filter_map(|frame| match frame {
        Frame::Output { offset, bytes } => Some((*offset, &bytes[..])),
        Frame::Snapshot { .. } | Frame::Gap { .. } | Frame::Exit { .. } | Frame::Cut => None,
    })
}

/// The other run whose output these bytes are.
fn other_source(kept: &BTreeMap<InstanceId, Kept<'_>>, own: InstanceId, bytes: &[u8]) -> Option<InstanceId> {
    let has = |pieces: &Kept<'_>| pieces.iter().any(|(_, it)| memchr::memmem::find(it, bytes).is_some());
    let others = kept.iter().filter(|(id, _)| **id != own && bytes.len() >= TELLING);
    others.into_iter().find(|(_, pieces)| has(pieces)).map(|(id, _)| *id)
}

/// Where a stream does not follow from itself.
fn broken(stream: &Stream) -> Option<String> {
    let mut at = stream.from;
    let mut over = false;
    for frame in &stream.frames {
        if over {
            return Some("something came after the end".to_owned());
        }
        let (begins, next) = match frame {
            Frame::Output { offset, bytes } => (*offset, offset + bytes.len() as u64),
            Frame::Gap { from, to } => (*from, *to),
            Frame::Snapshot { offset } | Frame::Exit { offset, .. } => (*offset, *offset),
            Frame::Cut => return None,
        };
        over = matches!(frame, Frame::Exit { .. });
        // A stream that asked for no offset begins where it is told.
        let due = at.unwrap_or(begins);
        if begins != due {
            let word = if begins > due { "are missing without being told" } else { "came twice" };
            return Some(format!("bytes {} to {} {word}", due.min(begins), due.max(begins)));
        }
        if next < begins {
            return Some(format!("a gap ends at byte {next}, before it begins"));
        }
        at = Some(next);
    }
    None
}

/// What a stream says against the row of its run.
fn against_the_row(view: &View<'_>, stream: &Stream) -> Vec<(Invariant, String)> {
    let Some(row) = view.runs.get(&stream.instance) else { return Vec::new() };
    let it = &row.run.instance;
    let mut wrong = Vec::new();
    let sent = outputs(stream).map(|(offset, bytes)| offset + bytes.len() as u64).max().unwrap_or(0);
    let journal = view.directories.get(&it.id).copied().and_then(|dir| dir.journal.as_ref().ok());
    let total = if it.state.is_terminal() { Some(it.output_bytes) } else { journal.map(|it| it.end()) };
    if total.is_some_and(|total| sent > total) && !view.all.disk_was_full {
        wrong.push((Invariant::Bytes, "it was sent bytes that are not kept".to_owned()));
    }
    for frame in &stream.frames {
        let Frame::Exit { offset, state, code } = frame else { continue };
        if (state.as_str(), *code) != (it.state.word(), row.exit_code) {
            let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            let sentence = format!("it was told {state} with {code}, and its row says otherwise");
            wrong.push((Invariant::ExitTruth, sentence));
        }
        if *offset != it.output_bytes {
            let total = it.output_bytes;
            wrong.push((Invariant::Bytes, format!("it was told an end at byte {offset} of {total}")));
        }
    }
    wrong
}
