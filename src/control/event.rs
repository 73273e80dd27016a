//! What comes out of a control stream.

use bytes::Bytes;

use super::block::Block;
use super::client::Ticket;
use super::id::PaneId;
use super::notification::{Notification, Rejected};

/// One thing that happened, in the order tmux wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pane wrote.
    Output {
        /// Which pane.
        pane: PaneId,
        /// How long the bytes waited in tmux, ms; only told when the client has `pause-after`.
        age_ms: Option<u64>,
        /// Exactly what the program wrote. They share a larger buffer: copy what is kept for long.
        bytes: Bytes,
    },
    /// tmux told something else. Also those it writes inside blocks.
    Notification(Notification),
    /// A command that was sent has its answer; every ticket gets exactly one.
    Reply {
        /// Which command.
        ticket: Ticket,
        /// What became of it.
        outcome: Outcome,
    },
    /// A block that answers no command of ours: the command line tmux was started with, hooks, key bindings.
    Block(Block),
    /// Something that was not understood, or had to be shortened.
    Unparsed(Unparsed),
    /// The stream has ended. Comes once, and last.
    Closed,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded (`%end`).
    Done(Block),
    /// It failed (`%error`); the body says why.
    Failed(Block),
    /// An earlier command of the same line failed, so tmux dropped this one without a word.
    NotRun,
    /// The stream ended first. The command may or may not have been carried out.
    Lost,
    /// It was never sent: too many commands wait for answers, or the stream has ended.
    Refused,
}

/// A piece of the stream that is no event of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unparsed {
    /// How it begins, at most [`Unparsed::LIMIT_BYTES`].
    pub line: Bytes,
    /// How many bytes more there were.
    pub dropped: u64,
    /// Why.
    pub reason: Reason,
}

impl Unparsed {
    /// How much of a line is shown.
    pub const LIMIT_BYTES: usize = 4096;

    pub(super) fn new(line: &[u8], dropped: u64, reason: Reason) -> Self {
        let shown = &line[..line.len().min(Self::LIMIT_BYTES)];
        let dropped = dropped + (line.len() - shown.len()) as u64;
        Self { line: Bytes::copy_from_slice(shown), dropped, reason }
    }
}

/// Why something is [`Unparsed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The line is no notification.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The line is longer than [`super::line::LINE_LIMIT_BYTES`].
    #[error("line too long")]
    LineTooLong,
    /// The reply that follows is incomplete: it was longer than [`super::block::BLOCK_LIMIT_BYTES`], or a line of it too long.
    #[error("block too long")]
    BlockTooLong,
    /// The stream ended inside this line.
    #[error("line cut off")]
    LineCut,
    /// The stream ended inside the block that begins like this.
    #[error("block cut off")]
    BlockCut,
}
