//! Commands end while no daemon runs, while one comes back, or while a stop was under way.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::truth::{End, MARK, Truth, project};
use crate::harness::{Backend, Viewer, World, eventually, promised, soon};

/// Waits until the shim of a run has left its exit record.
async fn recorded(world: &World, id: &str) {
    let record = world.state_dir().join("instances").join(id).join("exit.json");
    let there = || if record.exists() { Ok(()) } else { Err(id.to_owned()) };
    eventually("no exit record", there).await;
}

async fn launched(world: &World, truth: &Truth) -> String {
    let id = world.run_command(&truth.project, &truth.command()).await;
    world.until_running(&id).await;
    id
}

/// Twenty at once, of every kind and size.
async fn ends_in_downtime_are_exact(backend: Backend) {
    let mut world = World::with(backend, "[limits]\ntasks_per_project = 20");
    project(&world, "demo").await;
    let ends = [End::Code(0), End::Code(7), End::Kill, End::Segv];
    let mut runs = Vec::new();
    for n in 0..20 {
        let lines = [0, 3, 500, 4000, 30_000][n / 4];
        let truth = Truth::new(&world, "demo", &format!("t{n}"), ends[n % 4], lines);
        let id = launched(&world, &truth).await;
        runs.push((truth, id));
    }
    world.end(Signal::KILL);
    for (truth, _) in &runs {
        truth.release();
    }
    for (_, id) in &runs {
        recorded(&world, id).await;
    }
    world.start();
    for (truth, id) in &runs {
        let run = world.instance(id).await;
        truth.is_exact(&world, &run).await;
    }
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_in_downtime_are_exact_pty() {
    ends_in_downtime_are_exact(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_in_downtime_are_exact_tmux() {
    ends_in_downtime_are_exact(Backend::Tmux).await;
}

/// A start is held at each of its steps, and a command ends there.
async fn an_end_in_each_phase_of_a_start(backend: Backend) {
    let phases = ["lock_taken", "store_opened", "looked_around", "taking_up", "taken_up", "settled"];
    let mut world = World::new(backend);
    project(&world, "demo").await;
    for (n, phase) in phases.iter().enumerate() {
        let truth = Truth::new(&world, "demo", &format!("t{n}"), End::Code(7), 3000);
        let id = launched(&world, &truth).await;
        world.end(Signal::KILL);
        world.set_env("KAS_FAILPOINTS", &format!("{phase}=stop"));
        world.spawn();
        world.logged(&format!("failpoint {phase}: stop"));
        truth.release();
        recorded(&world, &id).await;
        world.signal(Signal::CONT);
        world.logged("ready socket=");
        let run = world.until_ended(&id).await;
        truth.is_exact(&world, &run).await;
        let exits = world.get("/api/v1/audit-events?kind=task.exited").await.expect(200);
        let of_it = exits["items"].as_array().unwrap().iter().filter(|it| it["task_id"] == id.as_str());
        assert_eq!(of_it.count(), 1, "{phase}: one end, one event");
    }
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_each_phase_of_a_start_pty() {
    an_end_in_each_phase_of_a_start(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_each_phase_of_a_start_tmux() {
    an_end_in_each_phase_of_a_start(Backend::Tmux).await;
}

/// How long a command has from TERM.
const GRACE: Duration = Duration::from_secs(5);

/// Between TERM and KILL the daemon dies: the stop goes on without it, and is a stop for the next one.
async fn a_stop_outlives_the_daemon(backend: Backend) {
    let mut world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let deaf = format!(
        "{MARK}; export KASTEST_MARK; trap '' INT HUP; trap 'echo termed' TERM; echo up; while :; do sleep 0.05; done"
    );
    let id = world.run_command("demo", &deaf).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"up\r\n")).await;
    let (caller, path) = ((*world).clone(), format!("/api/v1/tasks/{id}/stop"));
    let began = Instant::now();
    let asked = tokio::spawn(async move { caller.try_post(&path, None, &json!({})).await });
    viewer.follow(&mut seen, |seen| seen.text().contains("termed")).await;
    let termed = Instant::now();
    world.end(Signal::KILL);
    assert!(soon("the caller's end", asked).await.unwrap().is_none());
    world.start();
    let found = world.instance(&id).await;
    // It is found while it is ending, unless this machine took longer to start a daemon.
    assert!(found["state"] == "running" || began.elapsed() > GRACE, "{found}");
    let run = world.until_ended(&id).await;
    let took = termed.elapsed();
    let told = (&run["state"], &run["exit_code"], &run["signal"]);
    assert_eq!(told, (&json!("stopped"), &json!(null), &json!("SIGKILL")), "{run}");
    // The grace runs from TERM, whoever lives meanwhile. TERM came after the stop was asked for and before it was seen.
    assert!(began.elapsed() >= GRACE && took < promised(GRACE + Duration::from_secs(3)), "{took:?}");
    println!("stopped {took:?} after TERM on {}", backend.word());
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_outlives_the_daemon_pty() {
    a_stop_outlives_the_daemon(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_outlives_the_daemon_tmux() {
    a_stop_outlives_the_daemon(Backend::Tmux).await;
}
