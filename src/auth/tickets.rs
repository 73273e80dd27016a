//! Secrets that work once and for a short time.

use super::Hash;
use crate::model::TimeMs;

/// Tickets of one owner that are out at one time; at the cap the oldest of the same owner is forgotten, as if it had expired. Owners are
/// the operator's sessions and the links, which are bounded themselves.
const OUT: usize = 64;

/// Tickets that are out, each of an owner `O` and for one `T`; kept as hashes, in memory only.
#[derive(Debug)]
pub(super) struct Tickets<O, T> {
    life_ms: i64,
    out: Vec<Ticket<O, T>>,
}

#[derive(Debug)]
struct Ticket<O, T> {
    hash: Hash,
    expires_at: TimeMs,
    owner: O,
    of: T,
}

impl<O: PartialEq, T> Tickets<O, T> {
    pub(super) const fn new(life_ms: i64) -> Self {
        Self { life_ms, out: Vec::new() }
    }

    /// Remembers a freshly drawn secret and says when it expires.
    pub(super) fn give(&mut self, secret: &str, owner: O, of: T, now: TimeMs) -> TimeMs {
        self.forget_old(now);
        let same = |ticket: &Ticket<O, T>| ticket.owner == owner;
        if self.out.iter().filter(|ticket| same(ticket)).count() >= OUT
            && let Some(oldest) = self.out.iter().position(same)
        {
            self.out.remove(oldest);
        }
        let expires_at = now.plus_ms(self.life_ms);
        self.out.push(Ticket { hash: Hash::of(secret), expires_at, owner, of });
        expires_at
    }

    /// Takes a ticket back; it works no more.
    pub(super) fn take(&mut self, secret: &str, now: TimeMs) -> Option<T> {
        self.forget_old(now);
        let hash = Hash::of(secret);
        let at = self.out.iter().position(|ticket| ticket.hash == hash)?;
        Some(self.out.remove(at).of)
    }

    /// A clock that went back far ends tickets too, else they would work for as long.
    fn forget_old(&mut self, now: TimeMs) {
        let life = self.life_ms;
        self.out.retain(|it| (it.expires_at.0 - 2 * life..it.expires_at.0).contains(&now.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_works_once_and_not_for_long() {
        let check = |secret: &str, now: i64, expect: Option<u8>| {
            let mut tickets = Tickets::new(60_000);
            tickets.give("a", (), 1_u8, TimeMs(0));
            assert_eq!(tickets.take(secret, TimeMs(now)), expect, "{secret} at {now}");
            assert_eq!(tickets.take(secret, TimeMs(now)), None);
        };
        check("a", 0, Some(1));
        check("a", 59_999, Some(1));
        check("a", 60_000, None);
        check("a", -60_001, None);
        check("b", 0, None);
        check("", 0, None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut tickets = Tickets::new(60_000);
        tickets.give("other", "other", 0, TimeMs(0));
        for n in 0..=OUT {
            tickets.give(&n.to_string(), "one", n, TimeMs(0));
        }
        assert_eq!((tickets.out.len(), tickets.take("other", TimeMs(0))), (OUT + 1, Some(0)));
        assert_eq!([tickets.take("0", TimeMs(1)), tickets.take("1", TimeMs(1))], [None, Some(1)]);
    }
}
