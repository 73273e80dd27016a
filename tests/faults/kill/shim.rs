//! A shim is killed: its command's tree is ended, its run is `failed` with `shim_lost`, and nothing is launched again.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::truth::MARK;
use crate::harness::{Backend, Viewer, World};

/// Counts for ever; beside it run a child in a session of its own, one without the terminal, and one that is stopped, all deaf.
const TREE: &str = "echo ran >> ledger; export KASTEST_MARK=held; trap '' HUP INT; \
    setsid sh -c 'trap \"\" HUP INT TERM; while :; do sleep 0.2; done' & \
    (setsid sh -c 'trap \"\" HUP; exec sleep 1000 </dev/null >/dev/null 2>&1' &); \
    sh -c 'kill -STOP $$' & seq 1 99999999";

/// The process that is `kas shim` for a run, and not its ward.
fn shim_of(world: &World, id: &str) -> Pid {
    let held = world.held(MARK);
    let shims: Vec<_> =
        held.iter().filter(|line| line.contains("\\x00shim\\x00") && line.contains(id)).collect();
    assert_eq!(shims.len(), 1, "{held:#?}");
    shims[0].split_once(':').unwrap().0.parse().ok().and_then(Pid::from_raw).unwrap()
}

async fn is_lost(world: &World, id: &str) {
    let run = world.until_ended(id).await;
    let told = json!([run["state"], run["error"], run["exit_code"], run["signal"]]);
    assert_eq!(told, json!(["failed", "shim_lost", null, null]), "{run}");
    let (start, bytes) = world.transcript(id).await;
    let all: String = (1..=10_000_000_u32).map(|n| format!("{n}\r\n")).take_while_bytes(bytes.len());
    assert!(start == 0 && all.as_bytes().starts_with(&bytes), "{} bytes", bytes.len());
    assert!(!bytes.is_empty());
    let ledger = std::fs::read_to_string(world.path("demo/ledger")).unwrap();
    assert_eq!(ledger, "ran\n");
}

trait TakeWhileBytes {
    /// The text of the items until there are so many bytes.
    fn take_while_bytes(self, count: usize) -> String;
}

impl<I: Iterator<Item = String>> TakeWhileBytes for I {
    fn take_while_bytes(self, count: usize) -> String {
        let mut all = String::new();
        for item in self {
            if all.len() >= count {
                break;
            }
            all += &item;
        }
        all
    }
}

async fn a_killed_shim(backend: Backend, is_daemon_up: bool) {
    // The oldest byte is to be there still.
    let mut world = World::with(backend, "[limits]\ntranscript_bytes = 1000000000");
    world.project("demo", "project: demo\ntasks: {}").await;
    let mut stranger = world.command("sleep", &["1000"]).spawn().unwrap();
    let other = world.run_command("demo", "echo up; read x; exit 4").await;
    let id = world.run_command("demo", TREE).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.at > 100_000).await;
    let shim = shim_of(&world, &id);
    drop(viewer);
    if !is_daemon_up {
        world.end(Signal::KILL);
    }
    kill_process(shim, Signal::KILL).unwrap();
    if !is_daemon_up {
        world.start();
    }
    is_lost(&world, &id).await;
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    assert_eq!(world.instance(&other).await["state"], "running");
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&other, json!({"from": 0, "mode": "interactive"})).await;
    viewer.type_in(seen.handle(), b"\r").await;
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!(world.until_ended(&other).await["exit_code"], Value::from(4));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    world.nothing_is_held(MARK).await;
    world.fsck();
}

/// Hung up with its terminal, and behind it live: one in a session of its own that is deaf to TERM, one that is not, both without a parent; and
/// one that put its label off, of which nothing proves whose it is.
const SCATTERED: &str = "export KASTEST_MARK=held; \
    (setsid sh -c 'trap \"\" HUP INT TERM; while :; do sleep 0.2; done' </dev/null >/dev/null 2>&1 &); \
    (setsid sleep 1000 </dev/null >/dev/null 2>&1 &); \
    (setsid bash -c 'ulimit -x 77; : > off; exec sleep 1001' </dev/null >/dev/null 2>&1 &); \
    until [ -e off ]; do :; done; echo ran >> ledger; echo up; read x";

fn pid_of(line: &str) -> Pid {
    line.split_once(':').unwrap().0.parse().ok().and_then(Pid::from_raw).unwrap()
}

/// The shim and the ward of a run.
fn shim_and_ward(world: &World, id: &str) -> [Pid; 2] {
    let held = world.held(MARK);
    let ours: Vec<_> = held.iter().filter(|line| line.contains(id)).map(|line| pid_of(line)).collect();
    ours.try_into().unwrap_or_else(|ours| panic!("{ours:?} of {held:#?}"))
}

/// Daemon, ward and shim die at once: what lives on and is proved to be the run's is ended before the run is over, and the rest is told.
async fn kas_is_killed_at_once(backend: Backend, is_daemon_up: bool) {
    let mut world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let mut stranger = world.command("setsid", &["sleep", "1000"]).spawn().unwrap();
    let id = world.run_command("demo", SCATTERED).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"up\r\n")).await;
    let ours = shim_and_ward(&world, &id);
    let both = |signal| ours.iter().for_each(|pid| kill_process(*pid, signal).unwrap());
    // Stopped first, so that neither sees the other's end.
    if is_daemon_up {
        both(Signal::STOP);
        viewer.type_in(seen.handle(), b"never read").await;
        both(Signal::KILL);
        // It is told at once, and not when the run is over.
        assert_eq!(viewer.refusal().await["details"]["reason"], "input_lost");
    } else {
        world.end(Signal::KILL);
        both(Signal::STOP);
        both(Signal::KILL);
        world.start();
    }
    drop(viewer);
    world.logged("what is left of the run is ended");
    // The deaf one has its grace, and as long as it lives the run is not over.
    assert_eq!(world.instance(&id).await["state"], "running");
    let run = world.until_ended(&id).await;
    let told = json!([run["state"], run["error"], run["exit_code"], run["signal"]]);
    assert_eq!(told, json!(["failed", "shim_lost", null, null]), "{run}");
    let (start, bytes) = world.transcript(&id).await;
    assert_eq!((start, &bytes[..]), (0, &b"up\r\n"[..]));
    assert_eq!(std::fs::read_to_string(world.path("demo/ledger")).unwrap(), "ran\n", "it ran once");
    let left = world.held(MARK);
    assert!(left.len() == 1 && left[0].contains("1001"), "{left:#?}");
    let doubtful = pid_of(&left[0]);
    let said = world.logged("which is no proof that they are its");
    assert!(said.contains(&format!("[{}]", doubtful.as_raw_nonzero())), "{said}");
    let checked = world.checked(&[]);
    let violations = checked["violations"].as_array().unwrap();
    let named = format!("process {} has its id", doubtful.as_raw_nonzero());
    assert!(violations.len() == 1 && violations[0].to_string().contains(&named), "{checked}");
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    kill_process(doubtful, Signal::KILL).unwrap();
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kas_leaves_when_all_of_it_is_killed_is_ended_pty() {
    kas_is_killed_at_once(Backend::Pty, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kas_leaves_when_all_of_it_is_killed_is_ended_tmux() {
    kas_is_killed_at_once(Backend::Tmux, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shim_and_its_ward_leave_is_ended_pty() {
    kas_is_killed_at_once(Backend::Pty, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shim_and_its_ward_leave_is_ended_tmux() {
    kas_is_killed_at_once(Backend::Tmux, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_leaves_nothing_behind_pty() {
    a_killed_shim(Backend::Pty, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_leaves_nothing_behind_tmux() {
    a_killed_shim(Backend::Tmux, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_killed_in_downtime_leaves_nothing_behind_pty() {
    a_killed_shim(Backend::Pty, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_killed_in_downtime_leaves_nothing_behind_tmux() {
    a_killed_shim(Backend::Tmux, false).await;
}
