//! Nothing is wrong with a world in which nothing is: asleep, busy, crashed and come back.

use rustix::process::Signal;
use serde_json::json;

use super::violations;
use crate::harness::{Backend, Viewer, World};

/// Launches and ends runs of every kind while the checker looks again and again.
fn busy(world: &World, project: &str) {
    let churn = async {
        for round in 0..12 {
            let command = format!("seq {}; exit {}", round * 400, round % 3);
            let ids = [world.run_command(project, &command).await, world.run_command(project, "true").await];
            let waiting = world.run_command(project, "echo up; exec sleep 1000").await;
            Viewer::open(world, project).await.whole(&ids[0]).await;
            world.until_running(&waiting).await;
            world.stop(&waiting).await;
            world.until_ended(&ids[1]).await;
        }
    };
    // In a thread of its own, or whoever launches would stand still whenever somebody looks.
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let checking = scope.spawn(|| (0..6).for_each(|_| world.fsck()));
            tokio::runtime::Handle::current().block_on(churn);
            checking.join().unwrap();
        });
    });
}

async fn a_healthy_world_has_no_violation(backend: Backend) {
    let mut world = World::new(backend);
    world.fsck();
    let project = world.project("demo", "tasks:\n  say: {command: echo hello, history: true}\n").await;
    let ticking = world.run_command(&project, "while :; do echo tick; sleep 0.01; done").await;
    world.until_running(&ticking).await;
    let ended = world.run_task(&project, "say").await;
    world.until_ended(&ended).await;
    let mut viewer = Viewer::open(&world.over_tcp().await, &project).await;
    let mut other = viewer.watch(&ticking, json!({"from": 0})).await;
    viewer.follow(&mut other, |it| it.bytes.len() > 20).await;
    world.fsck();
    busy(&world, &project);
    // Whatever the last one was in the middle of, the next one decides.
    world.end(Signal::KILL);
    world.fsck();
    world.start();
    world.fsck();
    let report = world.checked(&[]);
    assert!(report["runs"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["directories"], 1, "{report}");
    assert_eq!(report["windows"].as_u64().unwrap() > 0, backend == Backend::Tmux, "{report}");
    world.stop(&ticking).await;
    world.end(Signal::TERM);
    world.fsck();
    assert_eq!(violations(&world.checked(&[])), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_world_has_no_violation_on_pty() {
    a_healthy_world_has_no_violation(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_world_has_no_violation_on_tmux() {
    a_healthy_world_has_no_violation(Backend::Tmux).await;
}
