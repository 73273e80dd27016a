//! Wrong credentials: who presented how many, who is answered late for it, and what is told of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::TimeMs;

/// Wrong credentials of one peer in a minute that are answered at once. Every further one is answered late, and nothing else changes: a
/// right credential is never looked at differently.
const AT_ONCE: u32 = 10;
const MINUTE_MS: i64 = 60_000;
/// Peers that are counted one by one. At the cap those of whom nothing is to be remembered or told any more are forgotten; where there is
/// none, new ones are counted together, as if they were one peer.
const PEERS: usize = 1024;
/// Peers that one telling names; the others are summed up.
const NAMED: usize = 16;

/// Who presented wrong credentials. It holds addresses and numbers, never what was presented.
#[derive(Debug, Default)]
pub struct Failures {
    peers: BTreeMap<IpAddr, Count>,
    others: Count,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// When its first one came.
    since: Option<TimeMs>,
    in_minute: u32,
    untold: u64,
}

/// What happened since it was last told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldFailures {
    /// Wrong credentials of all peers together.
    pub failures: u64,
    /// How many each peer presented, those with most: at most [`NAMED`], so that a telling has a bounded size.
    pub peers: Vec<(IpAddr, u64)>,
}

impl Failures {
    /// Counts a wrong credential; whether its answer is to be late.
    #[must_use]
    pub fn note(&mut self, peer: IpAddr, now: TimeMs) -> bool {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, count| count.untold > 0 || count.runs(now));
        }
        let counted_alone = self.peers.len() < PEERS || self.peers.contains_key(&peer);
        let count = if counted_alone { self.peers.entry(peer).or_default() } else { &mut self.others };
        count.add(now);
        count.in_minute > AT_ONCE
    }

    /// What was not told yet; `None` when there is nothing.
    pub fn take(&mut self) -> Option<ToldFailures> {
        let mut peers: Vec<_> = self.peers.iter_mut().map(|(peer, count)| (*peer, count.told())).collect();
        let failures = peers.iter().map(|(_, untold)| untold).sum::<u64>() + self.others.told();
        peers.retain(|(_, untold)| *untold > 0);
        peers.sort_by_key(|(_, untold)| std::cmp::Reverse(*untold));
        peers.truncate(NAMED);
        (failures > 0).then_some(ToldFailures { failures, peers })
    }
}

impl Count {
    /// Whether its minute is not over. A clock that was set back ends it too.
    fn runs(&self, now: TimeMs) -> bool {
        self.since.is_some_and(|since| (since.0..since.0.saturating_add(MINUTE_MS)).contains(&now.0))
    }

    fn add(&mut self, now: TimeMs) {
        if !self.runs(now) {
            (self.since, self.in_minute) = (Some(now), 0);
        }
        self.in_minute = self.in_minute.saturating_add(1);
        self.untold = self.untold.saturating_add(1);
    }

    fn told(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn the_eleventh_in_a_minute_is_late_and_each_peer_has_its_own_minute() {
        let mut failures = Failures::default();
        let check = |failures: &mut Failures, number, now, late: bool| {
            assert_eq!(failures.note(peer(number), TimeMs(now)), late, "{number} at {now}");
        };
        for at in 0..10 {
            check(&mut failures, 1, at, false);
        }
        check(&mut failures, 1, 10, true);
        check(&mut failures, 1, 59_999, true);
        check(&mut failures, 2, 59_999, false);
        check(&mut failures, 1, 60_000, false);
        for _ in 0..9 {
            check(&mut failures, 1, 60_000, false);
        }
        check(&mut failures, 1, 60_000, true);
        check(&mut failures, 1, 59_999, false);
    }

    #[test]
    fn every_failure_is_told_once() {
        let mut failures = Failures::default();
        assert_eq!(failures.take(), None);
        for number in [7, 9, 9] {
            let _ = failures.note(peer(number), TimeMs(0));
        }
        let told = failures.take();
        assert_eq!(told, Some(ToldFailures { failures: 3, peers: vec![(peer(9), 2), (peer(7), 1)] }));
        assert_eq!(failures.take(), None);
    }

    #[test]
    fn the_table_and_what_is_told_are_bounded_and_nobody_escapes_by_changing_address() {
        let mut failures = Failures::default();
        let crowd = u32::try_from(PEERS).unwrap();
        for number in 0..crowd {
            assert!(!failures.note(peer(number), TimeMs(0)));
        }
        let late: Vec<_> = (0..12).map(|n| failures.note(peer(crowd + n), TimeMs(1))).collect();
        assert_eq!((late[..10].contains(&true), &late[10..]), (false, &[true, true][..]), "counted together");
        assert_eq!(failures.peers.len(), PEERS);
        let told = failures.take().unwrap();
        assert_eq!((told.failures, told.peers.len()), (u64::from(crowd) + 12, NAMED));
        assert!(!failures.note(peer(crowd + 50), TimeMs(60_000)), "the crowd's minute is over");
        assert_eq!(failures.peers.len(), 1);
    }
}
