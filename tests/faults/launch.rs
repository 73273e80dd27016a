//! The daemon dies, or a step fails, at each named point of a launch and of a stop.
//!
//! `table` says for each point what happens around it and what may become of the run. A point that is not in it does not compile.

mod scene;
mod table;

use std::sync::Arc;

use kas::failpoint::Failpoint;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::{Backend, World};
use table::Case;

/// Cases at a time; most of the time they wait.
const AT_ONCE: usize = 4;

/// Plays every case, several at a time.
async fn sweep(backend: Backend, action: &'static str, cases: Vec<Case>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    let count = cases.len();
    for case in cases {
        let room = room.clone();
        playing.spawn(async move {
            let _room = room.acquire_owned().await.unwrap();
            let name = format!("{}={action}@{} on {}", case.point.word(), case.at, backend.word());
            (tokio::spawn(scene::play(backend, action, case)).await, name)
        });
    }
    let mut failed = Vec::new();
    while let Some(played) = playing.join_next().await {
        let (outcome, name) = played.unwrap();
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} of {count} points: {failed:#?}", failed.len());
}

fn deaths() -> Vec<Case> {
    Failpoint::ALL.iter().flat_map(|point| table::cases(*point)).collect()
}

/// The points of the daemon's that a panic may reach while it serves.
fn panics() -> Vec<Case> {
    Failpoint::ALL.iter().filter_map(|point| table::panics(*point)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn death_at_every_point_pty() {
    sweep(Backend::Pty, "exit", deaths()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn death_at_every_point_tmux() {
    sweep(Backend::Tmux, "exit", deaths()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_panic_marks_one_run_and_no_other_pty() {
    sweep(Backend::Pty, "panic", panics()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_panic_marks_one_run_and_no_other_tmux() {
    sweep(Backend::Tmux, "panic", panics()).await;
}

#[test]
fn an_unknown_failpoint_is_told_at_the_start() {
    let mut world = World::asleep(Backend::Pty, "");
    world.set_env("KAS_FAILPOINTS", "launch_recoded=exit");
    world.spawn();
    let told = world.logged("KAS_FAILPOINTS");
    assert!(told.contains("there is no failpoint \"launch_recoded\""), "{told}");
    assert_eq!(world.died().code(), Some(1));
}
