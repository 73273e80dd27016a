//! Why a holder could not do what was asked.

use std::io;
use std::time::Duration;

use crate::shim::ClientError;

/// What can go wrong between the daemon and what holds a run.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// tmux said no.
    #[error("tmux: {0}")]
    Tmux(String),
    /// tmux did not answer.
    #[error("tmux did not answer within {} s", .0.as_secs())]
    TmuxHangs(Duration),
    /// A session of this name is there and is not kas's.
    #[error(
        "tmux session {0} is there, and nothing proves that a kas of this state directory made it: runs of its project go on PTYs; say `tmux rename-session -t ={0} other`, or end it"
    )]
    Foreign(String),
    /// The shim could not be reached or told.
    #[error(transparent)]
    Shim(#[from] ClientError),
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was meant is not there any more.
    #[error("it is not there any more")]
    Gone,
}
