//! Who sizes which terminal, and answers its program's questions: the last interactive subscriber that typed or resized.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::{DashMap, Entry};

use crate::daemon::TerminalId;
use crate::model::Offset;

/// One subscription among all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) connection: u64,
    pub(super) handle: u32,
}

/// An owner, and the first byte of output that it may answer: what was there before is the former owner's, or replay.
#[derive(Debug, Clone, Copy)]
struct Owner {
    subscriber: Subscriber,
    since: Offset,
}

/// The owners of all terminals that are watched interactively: at most one entry per subscription.
#[derive(Debug, Default)]
pub(in crate::api) struct Owners {
    owner: DashMap<TerminalId, Owner>,
    connections: AtomicU64,
}

impl Owners {
    /// A number no other connection has.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a subscriber the owner. `live_end` is asked while nobody can become it.
    pub(super) fn claim(
        &self,
        terminal: TerminalId,
        subscriber: Subscriber,
        live_end: impl FnOnce() -> Offset,
    ) {
        match self.owner.entry(terminal) {
            Entry::Occupied(owner) if owner.get().subscriber == subscriber => {}
            entry @ (Entry::Occupied(_) | Entry::Vacant(_)) => {
                drop(entry.insert(Owner { subscriber, since: live_end() }))
            }
        }
    }

    /// Makes a subscriber the owner if nobody is; whether it is now.
    pub(super) fn claim_free(
        &self,
        terminal: TerminalId,
        subscriber: Subscriber,
        live_end: impl FnOnce() -> Offset,
    ) -> bool {
        let new = || Owner { subscriber, since: live_end() };
        self.owner.entry(terminal).or_insert_with(new).subscriber == subscriber
    }

    /// Whether a subscriber is the owner.
    pub(super) fn owns(&self, terminal: TerminalId, subscriber: Subscriber) -> bool {
        self.answers_from(terminal, subscriber).is_some()
    }

    /// The first byte that a subscriber may answer, if it is the owner. Of bytes read before this is asked no other
    /// subscriber is ever told the same: a later owner begins behind them.
    pub(super) fn answers_from(&self, terminal: TerminalId, subscriber: Subscriber) -> Option<Offset> {
        self.owner.get(&terminal).filter(|owner| owner.subscriber == subscriber).map(|owner| owner.since)
    }

    /// A subscriber leaves. The terminal keeps its size.
    pub(super) fn release(&self, terminal: TerminalId, subscriber: Subscriber) {
        self.owner.remove_if(&terminal, |_, owner| owner.subscriber == subscriber);
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
        let at = |offset| move || Offset(offset);
        assert!(owners.claim_free(terminal, a, at(5)));
        assert!(!owners.claim_free(terminal, b, at(6)));
        owners.claim(terminal, a, at(7));
        assert_eq!(owners.answers_from(terminal, a), Some(Offset(5)), "an owner that goes on misses nothing");
        owners.claim(terminal, b, at(8));
        assert!(owners.owns(terminal, b) && !owners.owns(terminal, a));
        assert_eq!(owners.answers_from(terminal, a), None);
        assert_eq!(owners.answers_from(terminal, b), Some(Offset(8)));
        owners.release(terminal, a);
        assert!(owners.owns(terminal, b));
        owners.release(terminal, b);
        assert!(owners.claim_free(terminal, a, at(9)));
        assert_eq!(owners.answers_from(terminal, a), Some(Offset(9)));
        owners.release(terminal, a);
        owners.claim(terminal, b, at(10));
        assert_eq!(owners.answers_from(terminal, b), Some(Offset(10)));
    }
}
