//! Crowds of connections: dribbling, idle, and coming and going.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Holds, Raw, many_descriptors, metric, peak, subscribe, unnoticed, until_metric};
use crate::harness::{Backend, Caller, PATIENCE, Seen, Viewer, World, soon};

/// Writes a byte each so often until the daemon has enough of it, and answers what it said.
async fn dribble(mut raw: Raw, text: String) -> String {
    let until = Instant::now() + PATIENCE;
    for byte in text.bytes().cycle() {
        assert!(Instant::now() < until, "it may go on for ever");
        if raw.0.write_all(&[byte]).await.is_err() {
            break;
        }
        let said = tokio::time::timeout(Duration::from_millis(200), raw.0.readable()).await;
        if said.is_ok() {
            break;
        }
    }
    raw.rest().await
}

/// Heads that never end: of each kind the answers.
async fn slow_heads(caller: Caller, count: usize) -> Vec<String> {
    let one = async |kind: usize| {
        let mut raw = Raw::connect(&caller).await;
        match kind % 4 {
            // A TLS hello is no request.
            0 => raw.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await,
            1 => raw.say(Raw::head(&caller, "GET /healthz") + "\r\n").await,
            2 => {}
            _ => {
                raw.say("GET /healthz HTTP/1.1\r\nx-slow: ").await;
                return dribble(raw, "x".to_owned()).await;
            }
        }
        raw.rest().await
    };
    join_all((0..count).map(one)).await
}

/// Bodies that never end, of those who may send one and of those who may not.
async fn slow_bodies(caller: Caller, count: usize) -> Vec<String> {
    let one = async |kind: usize| {
        let mut raw = Raw::connect(&caller).await;
        let head = if kind.is_multiple_of(2) {
            Raw::head(&caller, "POST /api/v1/projects/demo/tasks/run")
        } else {
            format!("POST /api/v1/session HTTP/1.1\r\nhost: {}\r\n", super::address(&caller).0)
        };
        raw.say(head + "content-type: application/json\r\ncontent-length: 60000\r\n\r\n{").await;
        dribble(raw, " ".to_owned()).await
    };
    join_all((0..count).map(one)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_heads_and_two_hundred_slow_bodies_are_cut_and_disturb_nobody() {
    many_descriptors();
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    let script = "n=0; until [ -e ../go ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo $n";
    let id = world.run_command("demo", script).await;
    let mut viewer = Viewer::open(&caller, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
    viewer.follow(&mut seen, |seen| seen.at > 100).await;
    let (before, peak_before) = (Holds::of(&world), peak(&world));

    let (to_heads, to_bodies) = (caller.clone(), caller.clone());
    let attack = async move { tokio::join!(slow_heads(to_heads, 500), slow_bodies(to_bodies, 200)) };
    let follow = tokio::spawn(async move {
        viewer.follow(&mut seen, Seen::ended).await;
        seen
    });
    let (heads, bodies) = unnoticed("slowloris", &caller, attack).await;
    let count = |answers: &[String], start: &str| answers.iter().filter(|it| it.starts_with(start)).count();
    let counts = ["HTTP/1.1 400", "HTTP/1.1 200", "HTTP/1.1 408"].map(|it| count(&heads, it));
    assert_eq!(
        counts,
        [125, 125, 125],
        "no requests, answered and then idle, and too slow; the others said nothing"
    );
    assert_eq!(bodies.len(), 200);
    for answer in bodies {
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"body_timeout\""), "{answer}");
    }
    let grown = peak(&world) - peak_before;
    println!("seven hundred slow connections took {grown} KiB");
    assert!(grown < 700 * 64, "{grown} KiB");
    before.again(&world, "slowloris").await;
    world.write("go", "");
    let seen = follow.await.unwrap();
    assert!(seen.gaps.is_empty() && seen.snapshots.is_empty());
    assert_eq!(world.transcript(&id).await.1, seen.bytes);
    world.fsck();
}

/// Comes and goes in every way there is: with a goodbye, without one, in the middle of a request, on each surface.
async fn come_and_go(world: &World, caller: &Caller, id: &str, count: usize) {
    for n in 0..count {
        match n % 5 {
            0 => {
                let mut raw = Raw::socket(caller, "demo").await;
                raw.say(subscribe(id)).await;
                assert!(raw.frame().await.is_some());
                raw.reset();
            }
            1 => {
                let mut viewer = Viewer::open(caller, "demo").await;
                viewer.watch(id, json!({"mode": "view"})).await;
                viewer.close().await;
            }
            2 => {
                let mut viewer = Viewer::open(world, "demo").await;
                viewer.watch(id, json!({"mode": "view"})).await;
                // Dropped without goodbye.
            }
            3 => {
                let mut raw = Raw::connect(caller).await;
                raw.say("GET /api/v1/pro").await;
                raw.reset();
            }
            _ => {
                world.get("/v1/status").await.expect(200);
                caller.get("/api/v1/projects").await.expect(200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_comings_and_goings_leave_nothing() {
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    let id = world.run_command("demo", "echo up; exec sleep 1000").await;
    world.until_running(&id).await;
    let world = std::sync::Arc::new(world);
    // What is allocated once is allocated by then.
    join_all((0..4).map(|_| come_and_go(&world, &caller, &id, 50))).await;
    until_metric(&world, "kas_subscribers", |now| now == 0).await;
    let before = Holds::of(&world);
    let count = if crate::long() { 100_000 } else { 1_000 };
    let attack = {
        let (world, caller, id) = (std::sync::Arc::clone(&world), caller.clone(), id.clone());
        async move {
            join_all((0..4).map(|_| come_and_go(&world, &caller, &id, count / 4))).await;
        }
    };
    unnoticed("comings and goings", &caller, attack).await;
    until_metric(&world, "kas_subscribers", |now| now == 0).await;
    // The one that asks is there itself.
    until_metric(&world, "kas_connections", |now| now == 1).await;
    before.again(&world, "comings and goings").await;
    world.stop(&id).await;
    world.fsck();
}

/// Far more tabs than a person has, and connections that browsers open ahead of their requests: on this machine they are no crowd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tabs_are_no_crowd() {
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    let id = world.run_command("demo", "cat").await;
    world.until_running(&id).await;
    let mut tabs = Vec::new();
    for _ in 0..100 {
        let mut viewer = Viewer::open(&caller, "demo").await;
        let seen = viewer.watch(&id, json!({"mode": "interactive"})).await;
        tabs.push((viewer, seen));
    }
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Raw::connect(&caller).await);
    }
    for (viewer, seen) in &mut tabs {
        let end = seen.at + 6;
        viewer.type_in(seen.handle(), b"tab\n").await;
        viewer.follow(seen, |seen| seen.at >= end).await;
    }
    caller.get("/api/v1/projects").await.expect(200);
    world.get("/v1/status").await.expect(200);
    assert_eq!(metric(&world, "kas_connections_refused_total").await, 0);
    drop((tabs, idle));
    world.stop(&id).await;
    world.fsck();
}

/// The control socket's places are counted apart. When all are held by those who were let in, the next one is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_control_socket_says_so() {
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    let before = Holds::of(&world);
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(Viewer::open(&world, "demo").await);
    }
    world.get("/v1/status").await.refused(503, "unavailable", "connections");
    caller.get("/api/v1/projects").await.expect(200);
    held.clear();
    // A place is free as soon as one of them is gone.
    loop {
        let answer = world.get("/v1/status").await;
        if answer.status == 200 {
            break;
        }
        answer.refused(503, "unavailable", "connections");
    }
    before.again(&world, "a full control socket").await;

    // Who only came makes room for who asks.
    let path = world.path("run/kasmos/kas.sock");
    let mut strangers = Vec::new();
    for _ in 0..300 {
        let mut stranger = UnixStream::connect(&path).await.unwrap();
        stranger.write_all(b"GET /v1/st").await.unwrap();
        strangers.push(stranger);
        if strangers.len() % 50 == 0 {
            world.get("/v1/status").await.expect(200);
        }
    }
    let mut said = String::new();
    soon("an answer to the first", strangers[0].read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("\"reason\":\"connections\""), "{said}");
    drop(strangers);
    before.again(&world, "strangers on the control socket").await;
    world.fsck();
}
