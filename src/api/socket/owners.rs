//! Who sizes which terminal: the last interactive subscriber that typed or resized.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::daemon::TerminalId;

/// One subscription among all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) connection: u64,
    pub(super) handle: u32,
}

/// The owners of all terminals that are watched interactively: at most one entry per subscription.
#[derive(Debug, Default)]
pub(in crate::api) struct Owners {
    owner: DashMap<TerminalId, Subscriber>,
    connections: AtomicU64,
}

impl Owners {
    /// A number no other connection has.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a subscriber the owner; whether it was not before.
    pub(super) fn claim(&self, terminal: TerminalId, subscriber: Subscriber) -> bool {
        self.owner.insert(terminal, subscriber) != Some(subscriber)
    }

    /// Makes a subscriber the owner if nobody is; whether it is now.
    pub(super) fn claim_free(&self, terminal: TerminalId, subscriber: Subscriber) -> bool {
        *self.owner.entry(terminal).or_insert(subscriber) == subscriber
    }

    /// Whether a subscriber is the owner.
    pub(super) fn owns(&self, terminal: TerminalId, subscriber: Subscriber) -> bool {
        self.owner.get(&terminal).is_some_and(|owner| *owner == subscriber)
    }

    /// A subscriber leaves. The terminal keeps its size.
    pub(super) fn release(&self, terminal: TerminalId, subscriber: Subscriber) {
        self.owner.remove_if(&terminal, |_, owner| *owner == subscriber);
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_last_to_claim_owns_until_it_leaves() {
        let owners = Owners::default();
        let terminal = TerminalId::Pane(1);
        let [a, b] = [1, 2].map(|handle| Subscriber { connection: owners.connection(), handle });
        assert!(owners.claim_free(terminal, a));
        assert!(!owners.claim_free(terminal, b));
        assert!(!owners.claim(terminal, a) && owners.owns(terminal, a));
        assert!(owners.claim(terminal, b));
        assert!(owners.owns(terminal, b) && !owners.owns(terminal, a));
        owners.release(terminal, a);
        assert!(owners.owns(terminal, b));
        owners.release(terminal, b);
        assert!(owners.claim_free(terminal, a) && owners.owns(terminal, a));
    }
}
