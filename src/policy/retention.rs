//! Which ended runs are deleted when another one ends.

use crate::model::{InstanceId, TimeMs};

/// Ended ad-hoc runs kept as records per project; they have no window to come back to.
pub const AD_HOC_KEPT: usize = 100;

/// How many ended runs of a named task stay: `history_count`, and without history the newest one alone, so that the
/// task list can say how it ended. (Its window is gone in that case.)
#[must_use]
pub fn kept_of_task(history: Option<u8>) -> usize {
    history.map_or(1, |count| usize::from(count.max(1)))
}

/// The runs to delete so that `keep` stay, the oldest by launch time first. `ended` are the ended runs of one named
/// task, or the ad-hoc ones of a project, in any order; runs that are not over must not be among them.
#[must_use]
pub fn cull(mut ended: Vec<(InstanceId, TimeMs)>, keep: usize) -> Vec<InstanceId> {
    ended.sort_unstable_by_key(|&(id, launched_at)| (launched_at, id));
    ended.truncate(ended.len().saturating_sub(keep));
    ended.into_iter().map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> InstanceId {
        InstanceId::from_parts(1, n)
    }

    fn check(launched_at: &[i64], keep: usize, expect: &[u128]) {
        let ended = (0..).zip(launched_at).map(|(n, at)| (id(n), TimeMs(*at))).collect();
        let culled: Vec<_> = expect.iter().copied().map(id).collect();
        assert_eq!(cull(ended, keep), culled, "{launched_at:?} keep {keep}");
    }

    #[test]
    fn the_oldest_by_launch_go_first() {
        check(&[], 3, &[]);
        check(&[30, 10, 20], 3, &[]);
        check(&[30, 10, 20, 40], 3, &[1]);
        check(&[30, 10, 20, 40], 1, &[1, 2, 0]);
        check(&[5, 5, 5], 1, &[0, 1]);
        check(&[5, 6], 0, &[0, 1]);
    }

    #[test]
    fn without_history_only_the_newest_stays() {
        assert_eq!([None, Some(0), Some(1), Some(20)].map(kept_of_task), [1, 1, 1, 20]);
    }
}
