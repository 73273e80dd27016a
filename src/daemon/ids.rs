//! New instance ids, ascending even within a millisecond.

use std::sync::{Mutex, PoisonError};

use crate::model::{InstanceId, TimeMs};

/// Makes ids.
#[derive(Debug, Default)]
pub(super) struct Ids {
    last: Mutex<(u64, u128)>,
}

impl Ids {
    /// An id that sorts after every earlier one of this daemon, whatever the clock does.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(super) fn next(&self, now: TimeMs) -> Result<InstanceId, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = u64::try_from(now.0).unwrap_or(0);
        // 79 of the 80 random bits, so that counting up within a millisecond has room.
        *last = if now > last.0 { (now, u128::from_be_bytes(random) >> 49) } else { (last.0, last.1 + 1) };
        Ok(InstanceId::from_parts(last.0, last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_when_the_clock_stands_or_jumps_back() {
        let ids = Ids::default();
        let made: Vec<_> = [5, 5, 5, 3, 6].iter().map(|&now| ids.next(TimeMs(now)).unwrap()).collect();
        assert!(made.is_sorted() && made.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
