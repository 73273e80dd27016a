//! Viewers that never read, and viewers that are gone without a word.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Holds, PONG, Raw, frame, subscribe, unnoticed, until_metric};
use crate::harness::{Backend, Seen, Viewer, World, ended};

/// The silence after which a client is gone, and what a busy machine may add.
const SILENCE: Duration = Duration::from_secs(45);
const LATE: Duration = Duration::from_secs(60);
const DEAF: usize = 50;

/// Follows a run over the control socket into a file.
fn follower(world: &World, id: &str, file: &str) -> Child {
    let out = fs::File::create(world.path(file)).unwrap();
    let mut command = world.kas_command(&["logs", "--follow", "--raw", id]);
    command.stdout(out).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Fifty viewers never read, of which ten at least say that they live, and a client is stopped: the command writes as fast as it can all the
/// same, an honest viewer gets every byte, the dead are closed after their silence, and who was stopped takes up where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_that_never_read_cost_nobody_anything() {
    let world = World::with(Backend::Pty, "[limits]\ntranscript_bytes = 1000000000");
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    let lines = if crate::long() { 60_000_000 } else { 3_000_000 };
    let script = format!(
        "stty raw; until [ -e ../go ]; do sleep 0.02; done; seq {lines}; \
         until [ -e ../over ]; do echo tick; sleep 0.2; done; echo end"
    );
    let id = world.run_command("demo", &script).await;
    world.until_running(&id).await;
    let mut honest = Viewer::open(&caller, "demo").await;
    let mut seen = honest.watch(&id, json!({"from": 0, "mode": "view"})).await;
    until_metric(&world, "kas_subscribers", |now| now == 1).await;
    // A flood with nobody else there: what one takes is taken before.
    world.outcome("demo", &format!("seq {}", lines / 10)).await;
    // The honest one and the one that asks.
    until_metric(&world, "kas_connections", |now| now == 2).await;
    let before = Holds::of(&world);

    let mut stopped = follower(&world, &id, "followed");
    until_metric(&world, "kas_subscribers", |now| now == 2).await;
    signal(&stopped, Signal::STOP);
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let mut raw = Raw::socket(&caller, "demo").await;
        raw.say(subscribe(&id)).await;
        deaf.push(raw);
    }
    until_metric(&world, "kas_subscribers", |now| now == 2 + DEAF as u64).await;
    let silent_since = Instant::now();
    let (alive, dead) = (deaf.split_off(DEAF - 10), deaf);

    world.write("go", "");
    let far = expected(lines).len() as u64;
    let follow = async move {
        honest.follow(&mut seen, |seen| seen.at >= far).await;
        (honest, seen)
    };
    let (mut honest, mut seen) = unnoticed("fifty that never read", &caller, follow).await;
    assert!(seen.bytes.starts_with(&expected(lines)), "an honest viewer got other bytes");
    let honest = tokio::spawn(async move {
        honest.follow(&mut seen, Seen::ended).await;
        seen
    });
    let now = Holds::of(&world);
    println!("with {DEAF} that never read the daemon holds {now:?}, before it was {before:?}");
    // A ring for the terminal, and for each viewer at most what the contract says.
    let most = before.memory_kib + super::ALLOWANCE_KIB + (DEAF as u64) * 1024;
    assert!(now.memory_kib < most, "{now:?}, {before:?}");

    let alive = tokio::spawn(stay(alive));
    // The honest one and those that say they live are left; the stopped one went with the dead.
    until_left(&world, 11).await;
    let after = silent_since.elapsed();
    println!("half-open clients were closed after {after:?}");
    assert!(after < SILENCE + LATE, "{after:?}");
    drop(dead);
    alive.abort();
    until_metric(&world, "kas_subscribers", |now| now == 1).await;
    before.again(&world, "viewers that never read").await;

    signal(&stopped, Signal::CONT);
    world.write("over", "");
    let seen = honest.await.unwrap();
    assert!(seen.gaps.is_empty() && seen.snapshots.is_empty());
    assert!(ended(&mut stopped).success());
    assert!(fs::read(world.path("followed")).unwrap() == seen.bytes, "the stopped client missed something");
    world.fsck();
}

/// What `seq` writes.
fn expected(lines: usize) -> Vec<u8> {
    (1..=lines).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// Says again and again that it lives, and reads nothing.
async fn stay(mut deaf: Vec<Raw>) {
    loop {
        for raw in &mut deaf {
            raw.say(frame(PONG, &[])).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Waits, longer than for anything else, until so many subscriptions are left.
async fn until_left(world: &World, count: u64) {
    let until = Instant::now() + SILENCE + LATE;
    while super::metric(world, "kas_subscribers").await > count {
        assert!(Instant::now() < until, "silent clients stay");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(super::metric(world, "kas_subscribers").await, count);
}
