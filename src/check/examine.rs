//! Looking until only what lasts is left.

use std::time::Duration;

use super::evidence::{Evidence, Windows};
use super::gather::{Error, Sources, gather};
use super::verify::{unjudged, verify};
use super::violation::{Unjudged, Violation};

/// How long what looks wrong has to come right, between looks, in milliseconds: together longer than a shim that was stopped takes to end
/// its tree, and than the daemon waits before it tries again.
const PAUSES_MS: [u64; 7] = [50, 100, 200, 400, 1000, 2500, 5000];

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// How many runs are recorded.
    pub runs: usize,
    /// How many instance directories there are.
    pub directories: usize,
    /// How many windows tmux has.
    pub windows: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What could not be seen.
    pub unjudged: Vec<Unjudged>,
}

/// Looks at a state directory, more than once where something looks wrong: a daemon at work changes things between one read and the
/// next, and only what every look shows is reported. It takes up to ten seconds, and none of them when nothing looks wrong.
///
/// # Errors
/// As [`gather`].
pub async fn examine(sources: &Sources) -> Result<Report, Error> {
    let mut evidence = gather(sources).await?;
    let mut violations = verify(&evidence);
    for pause in PAUSES_MS {
        if violations.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        evidence = gather(sources).await?;
        let again = verify(&evidence);
        violations.retain(|it| again.contains(it));
    }
    Ok(report(&evidence, violations))
}

fn report(evidence: &Evidence, violations: Vec<Violation>) -> Report {
    Report {
        runs: evidence.database.as_ref().map_or(0, |it| it.runs.len() + it.unreadable.len()),
        directories: evidence.directories.len(),
        windows: match &evidence.windows {
            Windows::Seen(census) => census.windows,
            Windows::NoTmux | Windows::Unknown(_) => 0,
        },
        violations,
        unjudged: unjudged(evidence),
    }
}
