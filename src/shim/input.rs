//! Bytes on their way to the command's standard input: in order, once, and never more waiting than allowed.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use bytes::{Buf as _, Bytes};

/// The operator's own typing waits up to this many bytes; then the window's terminal keeps it.
const MAX_TYPING: usize = 64 * 1024;

/// Who typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The window: the operator, or answers of tmux and of the shim.
    Window,
    /// A client.
    Peer(u64),
}

/// Input that the terminal has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    queue: VecDeque<(Source, Bytes)>,
    typing: usize,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether more may be read from the window.
    pub(super) const fn takes_typing(&self) -> bool {
        self.typing < MAX_TYPING
    }

    pub(super) fn push(&mut self, source: Source, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if source == Source::Window {
            self.typing += bytes.len();
        }
        self.queue.push_back((source, bytes));
    }

    /// Before everything that waits: a ^C must not stand in line behind a paste that nobody reads.
    pub(super) fn push_first(&mut self, bytes: Bytes) {
        self.typing += bytes.len();
        self.queue.push_front((Source::Window, bytes));
    }

    /// Writes what the terminal takes now; tells `taken` whose bytes it took.
    pub(super) fn pump(&mut self, master: &OwnedFd, mut taken: impl FnMut(Source, usize)) {
        while let Some((source, bytes)) = self.queue.front_mut() {
            // "Would block": it goes on when the terminal is writable. Any other error: nobody holds the terminal, and its end is near.
            let Ok(count @ 1..) = rustix::io::write(master, bytes) else { return };
            bytes.advance(count);
            taken(*source, count);
            if *source == Source::Window {
                self.typing -= count;
            }
            if bytes.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    /// Drops everything: there is no terminal any more. Tells `taken` whose bytes these were.
    pub(super) fn discard(&mut self, mut taken: impl FnMut(Source, usize)) {
        for (source, bytes) in self.queue.drain(..) {
            taken(source, bytes.len());
        }
        self.typing = 0;
    }
}
