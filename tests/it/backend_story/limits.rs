//! How much may run at once.

use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World};

const TASKS: &str = "project: PROJECT\ntasks: {wait: {command: 'exec sleep 1000'}}";

async fn project(world: &World, name: &str) -> String {
    world.project(name, &TASKS.replace("PROJECT", name)).await
}

async fn running(world: &World, project: &str) -> u64 {
    world.get(&format!("/api/v1/projects/{project}")).await.expect(200)["running"].as_u64().unwrap()
}

pub(super) async fn the_ninth_is_refused_and_ended_ones_do_not_count(backend: Backend) {
    let world = World::new(backend);
    let project = project(&world, "demo").await;
    let mut viewer = Viewer::open(&world, &project).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(world.run_command(&project, "read x; exit $x").await);
    }
    let run = || world.post("/api/v1/projects/demo/tasks/run", json!({"task": "wait"}));
    assert_eq!(run().await.refused(429, "rate_limited", "task_limit")["limit"], 8);
    assert_eq!(running(&world, &project).await, 8);
    // The moment a viewer is told of an end, there is room.
    for (code, id) in ids.iter().enumerate() {
        let mut seen = viewer.watch(id, json!({"from": 0})).await;
        viewer.type_in(seen.handle(), format!("{code}\r").as_bytes()).await;
        viewer.follow(&mut seen, crate::harness::Seen::ended).await;
        assert_eq!(seen.exit.unwrap()["exit_code"], code);
        assert_eq!(run().await.expect(202)["state"], "starting");
        run().await.refused(429, "rate_limited", "task_limit");
    }
    assert_eq!(running(&world, &project).await, 8);
}

pub(super) async fn the_thirty_third_of_an_operator_is_refused(backend: Backend) {
    let world = World::new(backend);
    for name in ["p1", "p2", "p3", "p4", "p5"] {
        project(&world, name).await;
    }
    for name in ["p1", "p2", "p3", "p4"] {
        for _ in 0..8 {
            world.run_task(name, "wait").await;
        }
    }
    let refused = world.post("/api/v1/projects/p5/tasks/run", json!({"task": "wait"})).await;
    assert_eq!(refused.refused(429, "rate_limited", "operator_limit")["limit"], 32);
    let one = world.get("/api/v1/projects/p3/tasks").await.expect(200);
    let one = one["instances"][0]["id"].as_str().unwrap().to_owned();
    world.until_running(&one).await;
    world.stop(&one).await;
    world.run_task("p5", "wait").await;
    let refused = world.post("/api/v1/projects/p5/tasks/run", json!({"task": "wait"})).await;
    refused.refused(429, "rate_limited", "operator_limit");
}

/// 60 callers at once, some over TCP: exactly 8 get in, and the rest are told the reason.
pub(super) async fn launches_at_once_never_exceed(backend: Backend) {
    let world = World::new(backend);
    project(&world, "demo").await;
    let tcp = world.over_tcp().await;
    let asked = (0..60).map(|n| {
        let caller = if n % 2 == 0 { tcp.clone() } else { (*world).clone() };
        tokio::spawn(async move {
            let answer = caller.post("/api/v1/projects/demo/tasks/run", json!({"task": "wait"})).await;
            if answer.status != 202 {
                answer.refused(429, "rate_limited", "task_limit");
            }
            answer.status
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut accepted = 0;
    for answer in asked {
        accepted += u32::from(answer.await.unwrap() == 202);
    }
    assert_eq!(accepted, 8);
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 8);
}

pub(super) async fn a_key_launches_once(backend: Backend) {
    let world = World::new(backend);
    project(&world, "demo").await;
    let ask = |caller: crate::harness::Caller, key: &'static str, body: Value| async move {
        let path = "/api/v1/projects/demo/tasks/run";
        caller.ask(hyper::Method::POST, path, &[("idempotency-key", key)], Some(&body)).await
    };
    let body = json!({"command": "echo ran >> ran.txt"});
    let asked: Vec<_> = (0..100).map(|_| tokio::spawn(ask((*world).clone(), "k1", body.clone()))).collect();
    let mut ids = std::collections::BTreeSet::new();
    for answer in asked {
        ids.insert(answer.await.unwrap().expect(202)["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.pop_first().unwrap();
    world.until_ended(&id).await;
    let again = ask((*world).clone(), "k1", body.clone()).await.expect(202);
    assert_eq!((&again["id"], &again["state"]), (&json!(id), &json!("done")));
    let other = ask((*world).clone(), "k2", body.clone()).await.expect(202);
    assert_ne!(other["id"], json!(id));
    world.until_ended(other["id"].as_str().unwrap()).await;
    assert_eq!(std::fs::read_to_string(world.path("demo/ran.txt")).unwrap(), "ran\nran\n");
    let long = "k".repeat(129).leak();
    ask((*world).clone(), long, body).await.refused(400, "invalid_request", "idempotency_key");
}
