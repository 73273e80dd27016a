//! `kas wait` and `kas run --wait` when nothing of the run is left.

use std::io::Read as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Backend, World, soon};

/// How many WebSockets were opened.
async fn sockets(world: &World) -> u64 {
    let metrics = world.get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("kas_websockets_total "));
    count.unwrap().parse().unwrap()
}

/// One that waits, which listens when this returns.
async fn waiting(world: &World, words: &[&str]) -> Child {
    let before = sockets(world).await;
    let child = world.kas_command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    soon("a WebSocket", async {
        while sockets(world).await == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    child
}

/// Two that wait stand still while their run ends and is deleted. When they go on, nothing is left of it but what was told.
async fn ends_while_they_stand_still(world: &mut World, dies: bool) {
    let go = world.path("go");
    let script = format!("echo begin; while ! test -e {}; do sleep 0.05; done; exit 7", go.display());
    let mut shows = waiting(world, &["run", "-p", "demo", "--wait", "--", &script]).await;
    let mut begun = [0; 6];
    shows.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let listed = world.get("/api/v1/projects/demo/tasks/instances?limit=1").await.expect(200);
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let waits = waiting(world, &["wait", &id]).await;
    let both = |signal| {
        for child in [&shows, &waits] {
            kill_process(Pid::from_child(child), signal).unwrap();
        }
    };
    both(Signal::STOP);
    std::fs::write(&go, "").unwrap();
    world.until_ended(&id).await;
    if dies {
        world.end(Signal::KILL);
        world.start();
    }
    world.delete(&format!("/api/v1/tasks/{id}")).await.expect(204);
    both(Signal::CONT);
    for child in [shows, waits] {
        let done = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(done.status.code(), Some(7), "{dies}: {done:?}");
    }
    assert_eq!(world.kas(&["wait", &id]).code, Some(3), "nobody was told of it");
    std::fs::remove_file(&go).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_takes_the_end_from_what_was_told() {
    let mut world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}\n").await;
    ends_while_they_stand_still(&mut world, false).await;
    ends_while_they_stand_still(&mut world, true).await;
}
