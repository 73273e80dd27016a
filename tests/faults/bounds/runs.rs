//! Runs that ended: what they wrote is in the store, and nothing of it stays in the daemon.

use serde_json::{Value, json};

use super::{Holds, peak};
use crate::harness::{Backend, World};

/// What a run writes, in bytes, and how many run at one time.
const SIZE: u64 = 2_000_000;
const SIZE_LONG: u64 = 8_000_000;
const AT_ONCE: usize = 4;

/// Launches one of each kind: named and ad hoc, one whose end tmux passes on and one that is faster than tmux, kept and not kept.
fn requests(size: u64) -> [Value; AT_ONCE] {
    let fast = format!("yes 0123456789abcdef | head -c {size}");
    let slow = format!(
        "for i in $(seq 20); do {}; sleep .05; done",
        fast.replace(&size.to_string(), &(size / 20).to_string())
    );
    [json!({"task": "fast"}), json!({"task": "slow"}), json!({"command": fast}), json!({"command": slow})]
}

fn yaml(size: u64) -> String {
    let [_, _, fast, slow] = requests(size);
    let task = |command: &Value| format!("{{command: {command}, history: true, history_count: 1}}");
    format!("project: demo\ntasks:\n  fast: {}\n  slow: {}", task(&fast["command"]), task(&slow["command"]))
}

async fn run_each(world: &World, size: u64) {
    let mut ids = Vec::new();
    for request in requests(size) {
        ids.push(world.launch("demo", request).await["id"].as_str().unwrap().to_owned());
    }
    for id in ids {
        let run = world.until_ended(&id).await;
        // A terminal makes two bytes of each newline.
        assert!(run["state"] == "done" && run["output_bytes"].as_u64() > Some(size), "{run}");
    }
}

async fn ended_runs_leave_nothing(output: &str) {
    let (size, rounds) = if crate::long() { (SIZE_LONG, 50) } else { (SIZE, 6) };
    let mut world = World::asleep(Backend::Tmux, "");
    let config = format!(
        "[task_runner]\nbackend = \"tmux\"\n[task_runner.tmux]\nconfig = \"min\"\noutput = \"{output}\""
    );
    world.write(".config/kasmos/daemon.toml", config);
    world.start();
    world.project("demo", &yaml(size)).await;
    for _warming_up in 0..2 {
        run_each(&world, size).await;
    }
    let before = Holds::of(&world);
    for _ in 0..rounds {
        run_each(&world, size).await;
    }
    let runs = rounds * AT_ONCE;
    before.again(&world, &format!("{runs} runs of {size} bytes ({output})")).await;
    println!("{} KiB at most", peak(&world));
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_on_tmux_leave_nothing() {
    ended_runs_leave_nothing("control").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_on_tmux_streamed_by_their_shims_leave_nothing() {
    ended_runs_leave_nothing("shim").await;
}
