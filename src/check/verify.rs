//! The judgement: evidence in, what contradicts an invariant out. No I/O and no clock.

mod ends;
mod guard;
mod journals;
mod launches;
mod lives;
mod streams;
mod view;

use self::view::View;
use super::evidence::{Evidence, Health, Windows};
use super::violation::{Invariant, Unjudged, Violation};

/// Looks for violations of one kind.
type Rule = fn(&View<'_>, &mut Vec<Violation>);

const RULES: [Rule; 19] = [
    launches::keys,
    launches::events,
    launches::told_runs_last,
    launches::database_is_whole,
    ends::rows,
    ends::records,
    ends::events,
    lives::shims,
    lives::wards,
    lives::rows,
    lives::panes,
    lives::commands,
    lives::doubtful,
    lives::zombies,
    lives::holdings,
    journals::transcripts,
    journals::directories,
    streams::streams,
    guard::guard,
];

/// Everything that contradicts an invariant, in the order of the invariants.
#[must_use]
pub fn verify(evidence: &Evidence) -> Vec<Violation> {
    let view = View::new(evidence);
    let mut found = Vec::new();
    for rule in RULES {
        rule(&view, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// What the evidence does not show, so that nobody takes silence for a promise kept.
#[must_use]
pub fn unjudged(evidence: &Evidence) -> Vec<Unjudged> {
    use Invariant as I;
    let always = [
        (I::Input, "what was typed is recorded nowhere"),
        (
            I::Authority,
            "denied attempts are recorded as numbers; only private files and the token were looked at",
        ),
        (I::Bounds, "whether what a load took was given back needs a baseline; only limits were looked at"),
        (I::Liveness, "how long a recovery took needs somebody who watches; only its result was looked at"),
        (I::NoCollateral, "other processes need a witness; only tmux's global options were looked at"),
    ];
    let when = [
        (evidence.database.is_none(), I::Durability, "there is no database yet"),
        (
            evidence.streams.is_empty(),
            I::Bytes,
            "no client stream was given (--stream); only what is kept was looked at",
        ),
        (evidence.streams.is_empty(), I::NoCrossTalk, "no client stream was given (--stream)"),
        (evidence.disk_was_full, I::Bytes, "bytes that the disk did not take were said to be no violation"),
        (
            evidence.daemon == Health::Absent,
            I::NoOrphans,
            "no daemon runs as far as this PID namespace shows; the next one decides about runs that nothing holds",
        ),
        (
            matches!(evidence.daemon, Health::Halted(_)),
            I::NoOrphans,
            "the daemon is halted; what it has not recorded means nothing",
        ),
        (
            matches!(evidence.windows, Windows::Unknown(_)),
            I::NoOrphans,
            "tmux could not be asked for its windows",
        ),
        (
            matches!(evidence.windows, Windows::NoTmux),
            I::NoOrphans,
            "there is no tmux to be asked for windows",
        ),
    ];
    let when = when.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, invariant, why)| (invariant, why));
    let mut all: Vec<_> =
        always.into_iter().chain(when).map(|(invariant, why)| Unjudged { invariant, why }).collect();
    all.sort();
    all
}

fn say(found: &mut Vec<Violation>, invariant: Invariant, subject: impl ToString, sentence: impl ToString) {
    found.push(Violation { invariant, subject: subject.to_string(), sentence: sentence.to_string() });
}
