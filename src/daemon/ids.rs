//! New instance ids. Their order is launch order, so each is greater than every earlier one: within a millisecond, across daemons, and
//! when the clock was ahead or goes back.

use std::sync::{Mutex, PoisonError};

use crate::model::{InstanceId, TimeMs};

/// Bits of an id below its time.
const RANDOM_BITS: u32 = 80;
/// The greatest time an id has room for: the year 10889.
const LATEST: u64 = (1 << 48) - 1;
/// No id is made from here on. Random parts are below half of their range, so at least 2^79 launches fit between any id that was made here
/// and this one.
const END: u128 = InstanceId::from_parts(LATEST, 1 << (RANDOM_BITS - 1)).as_number();

/// Makes ids.
#[derive(Debug)]
pub(super) struct Ids {
    last: Mutex<u128>,
}

impl Ids {
    /// Makes ids that are greater than the `known` ones. An id that is not made here, because it leaves no room above it, is not counted:
    /// a directory that was given such a name would end all launches.
    pub(super) fn above(known: impl IntoIterator<Item = InstanceId>) -> Self {
        let last = known.into_iter().map(InstanceId::as_number).filter(|id| *id < END).max();
        Self { last: Mutex::new(last.unwrap_or(0)) }
    }

    /// The next id. Where the clock stands or is behind, ids count up from the last one, for good if need be.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(super) fn next(&self, now: TimeMs) -> Result<InstanceId, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = u64::try_from(now.0).unwrap_or(0).min(LATEST);
        let is_later = u128::from(now) > *last >> RANDOM_BITS;
        // 79 of the 80 random bits, so that counting up has room.
        let random = u128::from_be_bytes(random) >> (u128::BITS - RANDOM_BITS + 1);
        *last = if is_later { InstanceId::from_parts(now, random).as_number() } else { *last + 1 };
        Ok(InstanceId::from_number(*last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(known: &[InstanceId], clock: &[i64]) -> Vec<InstanceId> {
        let ids = Ids::above(known.iter().copied());
        let made: Vec<_> = clock.iter().map(|&now| ids.next(TimeMs(now)).unwrap()).collect();
        assert!(made.is_sorted() && made.windows(2).all(|pair| pair[0] != pair[1]), "{made:?}");
        made
    }

    fn time(id: InstanceId) -> u128 {
        id.as_number() >> RANDOM_BITS
    }

    #[test]
    fn ids_ascend_when_the_clock_stands_or_jumps() {
        let made = check(&[], &[5, 5, 5, 3, 6, -1, i64::MIN]);
        assert_eq!(made.iter().map(|id| time(*id)).collect::<Vec<_>>(), [5, 5, 5, 5, 6, 6, 6]);
        check(&[], &[i64::MAX, 1, i64::MAX]);
    }

    #[test]
    fn ids_of_a_later_daemon_are_above_all_that_are_known() {
        let ahead = InstanceId::from_parts(9_000, 1 << 78);
        let made = check(
            &[InstanceId::from_parts(3, 0), ahead, InstanceId::from_parts(8, 9)],
            &[10, 11, 9_000, 9_001],
        );
        assert!(made[0] > ahead);
        assert_eq!(made.iter().map(|id| time(*id)).collect::<Vec<_>>(), [9_000, 9_000, 9_000, 9_001]);
    }

    #[test]
    fn counting_up_goes_on_into_the_next_millisecond() {
        let full = InstanceId::from_parts(7, (1 << RANDOM_BITS) - 1);
        assert_eq!(check(&[full], &[7]), [InstanceId::from_parts(8, 0)]);
    }

    #[test]
    fn an_id_that_leaves_no_room_ends_no_launches() {
        let last = InstanceId::from_number(u128::MAX);
        assert_eq!(time(check(&[last, InstanceId::from_parts(4, 4)], &[9, 9])[0]), 9);
        let far = InstanceId::from_number(END - 1);
        assert!(check(&[far], &[9, 9])[0] > far);
    }
}
