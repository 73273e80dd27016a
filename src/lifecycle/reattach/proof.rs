//! Evidence that something may be ended or removed. Only a finding makes one, so a decision without evidence cannot be written.

use super::facts::{FoundDir, FoundWindow, Shim};
use crate::model::InstanceId;

/// The instance's own shim listens: it showed the nonce, and may be told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvedShim(InstanceId);

/// Processes of the instance live that no shim holds: they carry its label, or descend from what does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvedTree(InstanceId);

/// Nothing of the instance lives, and its directory holds no output that is nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadDir(InstanceId);

/// A window that was made here for an instance nobody knows any more, or that has no window, in which nothing lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadWindow(InstanceId);

impl ProvedShim {
    pub(super) const fn of(dir: &FoundDir) -> Option<Self> {
        match dir.shim {
            Shim::AtGate | Shim::Live => Some(Self(dir.id)),
            Shim::Gone | Shim::Silent => None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(self) -> InstanceId {
        self.0
    }
}

impl ProvedTree {
    pub(super) const fn of(dir: &FoundDir) -> Option<Self> {
        match dir.shim {
            Shim::Gone if dir.left => Some(Self(dir.id)),
            Shim::Gone | Shim::Silent | Shim::AtGate | Shim::Live => None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(self) -> InstanceId {
        self.0
    }
}

impl DeadDir {
    /// Of a run that is recorded to be over: what it wrote is in the store.
    pub(super) const fn of_ended(dir: &FoundDir) -> Option<Self> {
        match dir.shim {
            Shim::Gone if !(dir.left || dir.only_copy && dir.output) => Some(Self(dir.id)),
            Shim::Gone | Shim::Silent | Shim::AtGate | Shim::Live => None,
        }
    }

    /// Of no recorded run: it may hold the only copy of something, unless there is nothing in it.
    pub(super) const fn of_nobody(dir: &FoundDir) -> Option<Self> {
        if dir.output { None } else { Self::of_ended(dir) }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(self) -> InstanceId {
        self.0
    }
}

impl DeadWindow {
    /// Of an instance that is neither recorded nor has a directory, or is recorded to be on a PTY.
    pub(super) const fn of_nobody(window: &FoundWindow) -> Option<Self> {
        if window.live || !window.made_here || !window.registered { None } else { Some(Self(window.id)) }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(self) -> InstanceId {
        self.0
    }
}
