//! Which ended runs are deleted when another one ends.

use crate::model::InstanceId;

/// Ended ad-hoc runs kept as records per project; they have no window to come back to.
pub const AD_HOC_KEPT: usize = 100;

/// How many ended runs of a named task stay: `history_count`, and without history the newest one alone, so that the
/// task list can say how it ended. (Its window is gone in that case.)
#[must_use]
pub fn kept_of_task(history: Option<u8>) -> usize {
    history.map_or(1, |count| usize::from(count.max(1)))
}

/// The runs to delete so that the newest `keep` stay, the oldest first. `ended` are the ended runs of one named task, or the ad-hoc ones of a
/// project, in any order; runs that are not over must not be among them. Ids are in launch order, so no clock has a part in it.
///
/// `spared` is the run whose end is the occasion. It stays, also where `keep` newer ones ended before it: a caller that waits for its end can
/// read what it came to. The next end takes it.
#[must_use]
pub fn cull(mut ended: Vec<InstanceId>, keep: usize, spared: InstanceId) -> Vec<InstanceId> {
    ended.sort_unstable();
    ended.truncate(ended.len().saturating_sub(keep));
    ended.retain(|id| *id != spared);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> InstanceId {
        InstanceId::from_parts(1, n)
    }

    fn check(ended: &[u128], keep: usize, spared: u128, expect: &[u128]) {
        let ids = |numbers: &[u128]| numbers.iter().copied().map(id).collect::<Vec<_>>();
        assert_eq!(cull(ids(ended), keep, id(spared)), ids(expect), "{ended:?} keep {keep} spare {spared}");
    }

    #[test]
    fn the_oldest_by_launch_go_first() {
        check(&[], 3, 9, &[]);
        check(&[3, 1, 2], 3, 3, &[]);
        check(&[3, 1, 2, 4], 3, 4, &[1]);
        check(&[3, 1, 2, 4], 1, 4, &[1, 2, 3]);
        check(&[1, 2], 0, 9, &[1, 2]);
    }

    #[test]
    fn the_run_that_ends_stays_though_newer_ones_ended_before_it() {
        check(&[1, 2, 3], 2, 1, &[]);
        check(&[1, 2, 3], 1, 1, &[2]);
        check(&[1, 2, 3, 4], 2, 4, &[1, 2]);
    }

    #[test]
    fn without_history_only_the_newest_stays() {
        assert_eq!([None, Some(0), Some(1), Some(20)].map(kept_of_task), [1, 1, 1, 20]);
    }
}
