//! From a decision about a found run to what is done about it. Pure, so that a simulation does what the daemon does.

use super::input::{Reached, ShimReport};
use crate::journal::{Cause, Ending, ExitRecord};
use crate::lifecycle::{Decision, Run, Server};
use crate::model::ErrorWord;

/// What is done about one run that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Resume {
    /// The orchestrator is told.
    Tell(Box<ShimReport>),
    /// It never began: the orchestrator begins it.
    Begin,
    /// It is looked at again later.
    LookAgain,
    /// It is over: its shim is sent away, then its directory goes.
    EndShim,
    /// It is over and nothing of it lives: its directory goes.
    Discard,
    /// It is over, and its output is only in its directory: that is read until it can be.
    Salvage,
    /// It is left alone.
    Leave,
}

/// What a decision about a recorded run comes to, given its exit record and what its shim answered.
#[must_use]
pub fn resume(
    decision: &Decision,
    run: &Run,
    end: Option<Box<ExitRecord>>,
    shim: Option<Reached>,
    tmux: Server,
) -> Resume {
    let tell = |report| Resume::Tell(Box::new(report));
    match decision {
        Decision::Adopt(_) => match shim {
            Some(reached) => tell(ShimReport::Reached(reached)),
            None => Resume::LookAgain,
        },
        Decision::Finish(..) => match (end, shim) {
            // The stop is carried out although the command has ended: others of its tree may live.
            (Some(_), Some(reached)) if run.stop.is_some() => tell(ShimReport::Reached(reached)),
            (Some(end), _) => tell(end_report(end, tmux == Server::Down)),
            (None, _) => tell(ShimReport::Lost(ErrorWord::ShimLost, None)),
        },
        Decision::Lost { word, end: Some(_), .. } => match shim {
            // To be ended anyhow: then as the stop that was asked for.
            Some(reached) if run.stop.is_some() => tell(ShimReport::Reached(reached)),
            Some(_) => tell(ShimReport::GiveUp(*word)),
            None => Resume::LookAgain,
        },
        Decision::Lost { word, end: None, .. } => tell(ShimReport::Lost(*word, None)),
        Decision::Begin(_) => Resume::Begin,
        Decision::NeverStarted(_) => tell(ShimReport::Lost(ErrorWord::SpawnFailed, None)),
        Decision::EndTree(_) | Decision::Wait(_) => Resume::LookAgain,
        Decision::EndShim(_) => Resume::EndShim,
        Decision::Discard(_) => Resume::Discard,
        Decision::Salvage(_) => Resume::Salvage,
        Decision::Repair(..)
        | Decision::CloseWindow(_)
        | Decision::OrphanDir(_)
        | Decision::OrphanWindow(_)
        | Decision::OrphanSession(_) => Resume::Leave,
    }
}

/// Whether a shim left its gate because no daemon came to open it: its command never ran, and the record of it counts for none.
#[must_use]
pub fn waited_in_vain(record: &ExitRecord) -> bool {
    record.ending == Ending::NeverStarted && record.cause == Cause::Itself
}

/// How an end is told: a window that closed under a run closed with its server when that is gone.
#[must_use]
pub fn end_report(record: Box<ExitRecord>, server_gone: bool) -> ShimReport {
    if record.cause == Cause::WindowClosed && server_gone {
        return ShimReport::TmuxGone(record);
    }
    ShimReport::Ended(record)
}
