//! The label that a run's processes carry in the kernel: by it they are known when the shim and its ward are dead.
//!
//! It is a hard limit on a resource that Linux has not counted since 2.4 (`RLIMIT_LOCKS`, setrlimit(2)), set once, between fork and exec of the
//! command. The kernel hands limits down at fork and keeps them at exec, so a process that carries the label descends from the command,
//! wherever it fled to; no service manager, `at` or `tmux` copies it to a process of its own, as they do with an environment. An ordinary
//! process can only lower a hard limit: one that does so on purpose carries the label no more, and none can take one on by accident.

use std::fs;

use rustix::process::{Resource, Rlimit};
use sha2::{Digest as _, Sha256};

use crate::journal::Nonce;

/// The lower bits say which run it is. The upper ones count down where a command of kas runs another kas: limits only sink.
const RUN_BITS: u32 = 48;
const RUN: u64 = (1 << RUN_BITS) - 1;
/// The upper bits of a label that is in no other one. No limit that a person sets is as high, and "unlimited" is higher.
const OUTERMOST: u64 = 0x3fff;
/// The line of `/proc/PID/limits` (proc_pid_limits(5)).
const LINE: &str = "Max file locks";

/// A run's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Label(u64);

impl Label {
    /// The label of the run with this secret. It tells nothing of the secret.
    pub(super) fn of(nonce: &Nonce) -> Self {
        let hash = Sha256::new().chain_update(b"kas label").chain_update(nonce.as_bytes()).finalize();
        let bytes = hash.iter().take(8).fold(0, |all: u64, byte| all << 8 | u64::from(*byte));
        // Never 0, which says that a process has left its run.
        Self((bytes & RUN).max(1))
    }

    /// Has this process carry it, and all that will descend from it. Only makes system calls.
    ///
    /// Where the system or an earlier limit does not allow that it carries none, and is known by its ancestors alone.
    pub(super) fn take_on(self) {
        let Some(depth) = next_depth(rustix::process::getrlimit(Resource::Locks).maximum) else { return };
        let limit = Some(depth << RUN_BITS | self.0);
        let _ = rustix::process::setrlimit(Resource::Locks, Rlimit { current: limit, maximum: limit });
    }
}

/// The label that a process carries; none where it has ended or cannot be looked at.
pub(super) fn carried_by(pid: u32) -> Option<Label> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let limit = hard_limit(&limits)?;
    depth_of(limit).map(|_| Label(limit & RUN))
}

/// Takes this process, and all that will descend from it, out of the run that it was started in, if it was: a daemon is no run's.
pub fn leave_run() {
    if depth_of(rustix::process::getrlimit(Resource::Locks).maximum.unwrap_or(u64::MAX)).is_some() {
        Label(0).take_on();
    }
}

/// How deep a label of this limit is, if it is one.
fn depth_of(limit: u64) -> Option<u64> {
    Some(limit >> RUN_BITS).filter(|depth| (1..=OUTERMOST).contains(depth))
}

/// The upper bits of a label below this limit.
fn next_depth(limit: Option<u64>) -> Option<u64> {
    match limit.map_or(u64::MAX, |limit| limit >> RUN_BITS) {
        0 | 1 => None,
        depth => Some((depth - 1).min(OUTERMOST)),
    }
}

fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(LINE))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_runs_apart_and_is_no_limit_of_a_person() {
        let (one, other) = (Label::of(&Nonce::from_bytes([1; 16])), Label::of(&Nonce::from_bytes([2; 16])));
        assert!(one != other && one.0 <= RUN && one == Label::of(&Nonce::from_bytes([1; 16])));
        let line =
            |limit: u64| hard_limit(&format!("Max x 1 2 y\n{LINE}            {limit}  {limit}  locks\n"));
        assert_eq!(line(77), Some(77));
        assert_eq!(hard_limit(&format!("{LINE}      unlimited     unlimited     locks")), None);
        for limit in [0, 1000, RUN, u64::MAX] {
            assert_eq!(depth_of(limit), None, "{limit}");
        }
        assert_eq!(depth_of(OUTERMOST << RUN_BITS | 5), Some(OUTERMOST));
    }

    #[test]
    fn labels_within_labels_sink() {
        assert_eq!(next_depth(None), Some(OUTERMOST));
        assert_eq!(next_depth(Some(u64::MAX - 1)), Some(OUTERMOST));
        assert_eq!(next_depth(Some(OUTERMOST << RUN_BITS | 9)), Some(OUTERMOST - 1));
        assert_eq!(next_depth(Some(1 << RUN_BITS | 9)), None);
        assert_eq!(next_depth(Some(100)), None);
    }
}
