//! A link that shows one task: what it opens, what it hides, and how it ends.

use serde_json::{Value, json};

use crate::harness::{Backend, Caller, Viewer, World};

const TASKS: &str = "project: demo\ntasks: {shown: {command: 'echo shown; read x'}, hidden: {command: 'echo hidden; read x'}}";

/// Makes a token by the command line; what it printed, as JSON.
fn token(world: &World, words: &[&str]) -> Value {
    let all: Vec<&str> =
        ["token", "create", "--json", "--project", "demo"].iter().chain(words).copied().collect();
    let done = world.kas(&all);
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

async fn with(world: &World, token: &Value) -> Caller {
    world.with_token(token["token"].as_str().unwrap().to_owned()).await
}

fn names(list: &Value, key: &str, name: &str) -> Vec<String> {
    list[key].as_array().unwrap().iter().map(|it| it[name].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_shows_one_task_and_nothing_else() {
    let world = World::new(Backend::Pty);
    world.project("demo", TASKS).await;
    world.project("other", "project: other\ntasks: {shown: {command: 'true'}}").await;
    let shown = world.run_task("demo", "shown").await;
    let hidden = world.run_task("demo", "hidden").await;
    let ad_hoc = world.run_command("demo", "read x").await;
    for id in [&shown, &hidden, &ad_hoc] {
        world.until_running(id).await;
    }
    let made = token(&world, &["--scope", "view", "--task", "shown", "--expires", "1h"]);
    assert_eq!(
        (&made["scope"], &made["project"], &made["task"]),
        (&json!("view"), &json!("demo"), &json!("shown"))
    );
    let life = made["expires_at"].as_i64().unwrap() - made["created_at"].as_i64().unwrap();
    assert_eq!(life, 3_600_000);
    let link = with(&world, &made).await;

    let projects = link.get("/api/v1/projects").await.expect(200);
    assert_eq!(names(&projects, "items", "id"), ["demo"]);
    let tasks = link.get("/api/v1/projects/demo/tasks").await.expect(200);
    assert_eq!(names(&tasks, "items", "name"), ["shown"]);
    assert_eq!(names(&tasks, "instances", "id"), [shown.as_str()]);
    let instances = link.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    assert_eq!(names(&instances, "items", "id"), [shown.as_str()]);
    link.get("/api/v1/projects/demo/tasks/instances?task_name=hidden").await.expect(404);
    link.get(&format!("/api/v1/tasks/{shown}")).await.expect(200);
    assert_eq!(link.get(&format!("/api/v1/tasks/{shown}/transcript?format=text")).await.status, 200);
    for id in [&hidden, &ad_hoc] {
        link.get(&format!("/api/v1/tasks/{id}")).await.expect(404);
        link.get(&format!("/api/v1/tasks/{id}/transcript")).await.expect(404);
    }
    for path in ["/api/v1/projects/other", "/api/v1/projects/other/tasks", "/api/v1/projects/other/panes"] {
        link.get(path).await.expect(404);
    }
    assert_eq!(link.get("/api/v1/projects/demo/panes").await.expect(200)["items"], json!([]));
    for path in ["/api/v1/audit-events", "/metrics", "/readyz", "/openapi.json"] {
        link.get(path).await.refused(403, "forbidden", "shared");
    }
    let run = link.post("/api/v1/projects/demo/tasks/run", json!({"task": "shown"})).await;
    run.refused(403, "forbidden", "shared");
    link.post(&format!("/api/v1/tasks/{shown}/stop"), json!({})).await.refused(403, "forbidden", "shared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_watches_its_task_until_it_is_taken_back() {
    let world = World::new(Backend::Pty);
    world.project("demo", TASKS).await;
    let shown = world.run_task("demo", "shown").await;
    let hidden = world.run_task("demo", "hidden").await;
    for id in [&shown, &hidden] {
        world.until_running(id).await;
    }
    let made = token(&world, &["--scope", "view", "--task", "shown"]);
    let link = with(&world, &made).await;
    let mut viewer = Viewer::open(&link, "demo").await;
    let mut seen = viewer.watch(&shown, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.bytes == b"shown\r\n").await;
    let subscribe = |id: &str, mode: &str| json!({"type": "subscribe", "channel": format!("pty:task:{id}"), "mode": mode});
    viewer.say(&subscribe(&hidden, "view")).await;
    assert_eq!(viewer.refusal().await["code"], "not_found");
    viewer.say(&subscribe(&shown, "interactive")).await;
    assert_eq!(viewer.refusal().await["code"], "forbidden");
    viewer.say(&json!({"type": "pty.input", "channel": format!("pty:task:{shown}"), "data": "x\r"})).await;
    assert_eq!(viewer.refusal().await["code"], "forbidden");

    // Events of its task come, others do not: the stop of the hidden run is told before that of the shown one.
    viewer.say(&json!({"type": "subscribe", "channel": "events", "since": 0})).await;
    viewer.text("subscribed").await;
    world.stop(&hidden).await;
    world.stop(&shown).await;
    loop {
        let event = viewer.text("event").await;
        assert_eq!((&event["task_id"], &event["task_name"]), (&json!(shown), &json!("shown")), "{event}");
        if event["event"] == "task.stopped" {
            break;
        }
    }

    let done = world.kas(&["token", "revoke", made["id"].as_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(viewer.closed().await, Some(1008));
    link.get("/api/v1/projects").await.expect(401);
    let listed = world.kas(&["token", "list"]).stdout;
    assert!(listed.contains("demo/shown") && listed.contains("revoked"), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_expires_closes_what_is_open() {
    let world = World::new(Backend::Pty);
    world.project("demo", TASKS).await;
    let made = token(&world, &["--scope", "view", "--expires", "2s"]);
    let link = with(&world, &made).await;
    let viewer = Viewer::open(&link, "demo").await;
    assert_eq!(viewer.closed().await, Some(1008));
    link.get("/api/v1/projects").await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_of_what_goes_together() {
    let world = World::new(Backend::Pty);
    world.project("demo", TASKS).await;
    let check = async |body: Value, field: &str| {
        let details = world.post("/v1/tokens", body.clone()).await.expect(400)["error"]["details"].take();
        assert_eq!(details["field"], field, "{body}");
    };
    check(json!({"scope": "run", "project": "demo", "task": "shown"}), "task").await;
    check(json!({"scope": "view", "task": "shown"}), "task").await;
    check(json!({"scope": "view", "project": "demo"}), "project").await;
    check(json!({"scope": "view", "project": "No", "task": "shown"}), "project").await;
    check(json!({"scope": "view", "expires_in": 0}), "expires_in").await;
    check(json!({"scope": "view", "expires_in": 1_000_000_000_000_i64}), "expires_in").await;
    let done = world.kas(&["token", "create", "--scope", "view", "--expires", "1w"]);
    assert!(done.code == Some(2) && done.stderr.contains("1h"), "{done:?}");
    // The link is told to people beside the token, which stays alone on stdout; only for who may look and no more.
    let link = |scope: &str| world.kas(&["token", "create", "--scope", scope]);
    let view = link("view");
    assert!(view.stdout.starts_with("kas_") && view.stdout.lines().count() == 1, "{view:?}");
    assert!(view.stderr.contains(&format!("/#s={}", view.stdout.trim())), "{view:?}");
    assert_eq!(link("run").stderr, "");
}
