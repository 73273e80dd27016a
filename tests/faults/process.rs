//! Commands that misbehave: escapees, deaf ones, floods, and what cannot be started.

mod another_user;
mod input;
mod pids;
mod start;
mod stop;
mod streams;

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub(crate) use input::{noise, parent};
pub(crate) use start::spec;

use crate::harness::{Backend, World};

/// Room for many runs at a time, all in project `demo`.
pub(crate) async fn roomy(backend: Backend) -> World {
    let world = World::with(backend, "[limits]\ntasks_per_project = 100\ntasks_per_operator = 100");
    world.project("demo", "project: demo\ntasks: {}").await;
    world
}

pub(crate) fn pid(number: u64) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// When a process ends, seen by its pidfd in a thread of its own; `None` when it outlives `patience`.
pub(crate) fn end_of(number: u64, patience: Duration) -> tokio::task::JoinHandle<Option<Instant>> {
    let pidfd = pidfd_open(pid(number), PidfdFlags::empty()).unwrap();
    tokio::task::spawn_blocking(move || {
        let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
        let count = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
        (count == 1).then(Instant::now)
    })
}

/// Whether a process lives and is no zombie.
pub(crate) fn lives(number: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The numbers in a file that processes append theirs to.
pub(crate) fn numbers(world: &World, file: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}
