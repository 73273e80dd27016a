//! I8 and I10: what lies open, and what the daemon's log admits.

use super::say;
use super::view::View;
use crate::check::violation::{Invariant, Violation};

/// Private files are private, secrets are told nowhere, and nothing panicked.
pub(super) fn guard(view: &View<'_>, found: &mut Vec<Violation>) {
    for exposed in &view.all.exposed {
        say(found, Invariant::Authority, "the state directory", exposed);
    }
    for line in &view.all.panics {
        say(found, Invariant::Liveness, "the daemon's log", format!("it tells of a panic: {line}"));
    }
}
