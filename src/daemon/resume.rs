//! From a decision about a found run to what is done about it. Pure, so that a simulation does what the daemon does.

use super::input::{Reached, ShimReport};
use crate::journal::{Cause, ExitRecord};
use crate::lifecycle::{Decision, Run, Server};
use crate::model::ErrorWord;

/// What is done about one run that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Resume {
    /// The orchestrator is told.
    Tell {
        /// What.
        report: Box<ShimReport>,
        /// Its shim is told to end its process tree before.
        stop_tree: bool,
    },
    /// It is looked at again later.
    LookAgain,
    /// It is over: its shim is sent away, then its directory goes.
    EndShim,
    /// It is over and nothing of it lives: its directory goes.
    Discard,
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
    let tell = |report, stop_tree| Resume::Tell { report: Box::new(report), stop_tree };
    match decision {
        Decision::Adopt(_) => match shim {
            Some(reached) => tell(ShimReport::Reached(reached), false),
            None => Resume::LookAgain,
        },
        // A stop that was asked for is carried out although the command ended by itself: more of its tree may live.
        Decision::Finish(..) => match end {
            Some(end) => tell(end_report(end, tmux == Server::Down), shim.is_some() && run.stop.is_some()),
            None => tell(ShimReport::Lost(ErrorWord::ShimLost), false),
        },
        Decision::Lost { word, end, .. } => tell(ShimReport::Lost(*word), end.is_some()),
        Decision::NeverStarted(_) => tell(ShimReport::Lost(ErrorWord::SpawnFailed), false),
        Decision::Wait(_) => Resume::LookAgain,
        Decision::EndShim(_) => Resume::EndShim,
        Decision::Discard(_) => Resume::Discard,
        Decision::Repair(..)
        | Decision::CloseWindow(_)
        | Decision::OrphanDir(_)
        | Decision::OrphanWindow(_)
        | Decision::OrphanSession(_) => Resume::Leave,
    }
}

/// How an end is told: a window that closed under a run closed with its server when that is gone.
#[must_use]
pub fn end_report(record: Box<ExitRecord>, server_gone: bool) -> ShimReport {
    if record.cause == Cause::WindowClosed && server_gone {
        return ShimReport::TmuxGone(record);
    }
    ShimReport::Ended(record)
}
