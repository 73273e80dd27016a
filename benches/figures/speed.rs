//! How soon: the API after a start, live bytes after a restart, the end after SIGTERM, a stop, recovery.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::figure::{Figure, percentile};
use crate::harness::{Backend, World};
use crate::scene::{answered, first_live_bytes, launched, ms, roomy};

/// Echoes what is typed, with as few processes as can be.
const ECHO: &str = "exec cat";

/// From starting the program to the first answer of its API, after kill -9, with so many tasks alive.
pub(crate) async fn start(tasks: usize, rounds: usize) -> Vec<Figure> {
    let mut world = roomy(Backend::Pty, tasks);
    let demo = world.project("demo", "tasks: {}").await;
    launched(&world, &demo, ECHO, tasks).await;
    let (mut ready, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        world.end(Signal::KILL);
        ready.push(answered(&mut world).await);
        let begun = Instant::now();
        assert_eq!(world.kas(&["--version"]).code, Some(0));
        alone.push(ms(begun));
    }
    let name = format!("start to API ready, {tasks} tasks");
    vec![Figure::new(name, "ms", ready).beside("`kas --version`", alone)]
}

/// From starting the program to the first byte that each task writes after it, seen by a viewer.
pub(crate) async fn reattach(backend: Backend, tasks: usize, rounds: usize) -> Vec<Figure> {
    let mut world = roomy(backend, tasks);
    let demo = world.project("demo", "tasks: {}").await;
    let ids = launched(&world, &demo, ECHO, tasks).await;
    let (mut ready, mut half, mut most, mut undisturbed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        world.end(Signal::KILL);
        let begun = Instant::now();
        ready.push(answered(&mut world).await);
        let came = first_live_bytes(&world, &demo, &ids, begun, &format!("again-{round}-")).await;
        half.push(percentile(&came, 50));
        most.push(percentile(&came, 99));
        let begun = Instant::now();
        let came = first_live_bytes(&world, &demo, &ids, begun, &format!("still-{round}-")).await;
        undisturbed.push(percentile(&came, 99));
    }
    let of = format!("{tasks} tasks, {}", backend.word());
    vec![
        Figure::new(format!("reattach, {of}: API ready"), "ms", ready),
        Figure::new(format!("reattach, {of}: p50 live byte"), "ms", half),
        Figure::new(format!("reattach, {of}: p99 live byte"), "ms", most)
            .beside("p99 of new viewers without a restart", undisturbed),
    ]
}

/// From SIGTERM to the daemon's end; its tasks live on.
pub(crate) async fn terminate(tasks: usize, rounds: usize) -> Vec<Figure> {
    let mut world = roomy(Backend::Pty, tasks);
    let demo = world.project("demo", "tasks: {}").await;
    let ids = launched(&world, &demo, ECHO, tasks).await;
    let mut took = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        assert!(world.end(Signal::TERM).success());
        took.push(ms(begun));
        world.start();
        for id in &ids {
            assert_eq!(world.instance(id).await["state"], "running");
        }
    }
    vec![Figure::new(format!("SIGTERM to exit 0, {tasks} tasks"), "ms", took)]
}

/// Trees that end at the first signal, and trees whose every process ignores all of them but the last.
pub(crate) async fn stop(rounds: usize) -> Vec<Figure> {
    let world = roomy(Backend::Pty, 8);
    let demo = world.project("demo", "tasks: {}").await;
    let (mut polite, mut deaf) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mark = world.path(&format!("escaped-{round}"));
        polite.push(stopped(&world, &demo, "sleep 1000 & sleep 1000").await);
        let escape = format!(
            "trap '' INT TERM HUP; setsid sh -c \"trap '' INT TERM HUP; echo > {}; while :; do sleep 1000; done\" & \
             while :; do sleep 1000; done",
            mark.display()
        );
        deaf.push(stopped(&world, &demo, &escape).await);
        world.nothing_is_held("\0no command\0").await;
    }
    vec![
        Figure::new("stop of a tree", "ms", polite),
        Figure::new("stop of a deaf tree with an escapee", "ms", deaf).beside("grace", vec![5000.0]),
    ]
}

async fn stopped(world: &World, project: &str, command: &str) -> f64 {
    let id = world.run_command(project, command).await;
    world.until_running(&id).await;
    // Whatever it starts, it has started by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert_eq!(world.stop(&id).await["state"], "stopped");
    ms(begun)
}

/// From the end of a fault to the first launch that runs.
pub(crate) async fn recover(rounds: usize) -> Vec<Figure> {
    let (mut stopped, mut locked, mut crashed) = (Vec::new(), Vec::new(), Vec::new());
    let mut world = roomy(Backend::Tmux, 8);
    let demo = world.project("demo", "tasks: {}").await;
    for _ in 0..rounds {
        world.outcome(&demo, "exit 0").await;
        world.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.signal(Signal::CONT);
        stopped.push(runs_again(&world, &demo).await);

        let lock = crate::stall::lock(&world);
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(lock);
        locked.push(runs_again(&world, &demo).await);

        let pid = world.tmux(&["display-message", "-p", "#{pid}"]).stdout;
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        crashed.push(runs_again(&world, &demo).await);
    }
    world.end(Signal::TERM);
    vec![
        Figure::new("recovery: daemon stopped 2 s", "ms", stopped),
        Figure::new("recovery: database locked 2 s", "ms", locked),
        Figure::new("recovery: tmux server killed", "ms", crashed),
    ]
}

async fn runs_again(world: &World, project: &str) -> f64 {
    let begun = Instant::now();
    let path = format!("/api/v1/projects/{project}/tasks/run");
    loop {
        let answer = world.post(&path, json!({"command": "exec sleep 1000"})).await;
        if answer.status == 202 {
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            world.until_running(&id).await;
            let took = ms(begun);
            world.stop(&id).await;
            return took;
        }
    }
}
