//! Project files while the daemon runs.

use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World};

const GOOD: &str = "project: demo\ntasks: {first: {command: 'echo one'}}";

async fn tasks(world: &World) -> (Vec<String>, Value) {
    let listed = world.get("/api/v1/projects/demo/tasks").await.expect(200);
    let names = listed["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
    (names.collect(), listed["problems"].clone())
}

pub(super) async fn a_bad_edit_keeps_the_last_good_definition(backend: Backend) {
    let world = World::with(backend, "poll_interval_sec = 0.2");
    world.project("demo", GOOD).await;
    assert_eq!(tasks(&world).await, (vec!["first".to_owned()], json!([])));
    let mut events = world.events(None).await;
    let edit = |text: &str| world.write("demo/.kaged/project.yaml", text);

    edit("project: demo\ntasks:\n  first: {comand: 'echo two'}\n");
    // The file is looked at without anybody asking.
    let (_, kind, event) = events.next().await;
    assert_eq!((kind.as_str(), &event["project_id"]), ("project.changed", &json!("demo")));
    let (names, problems) = tasks(&world).await;
    assert_eq!(names, ["first"]);
    let lines: Vec<_> = problems.as_array().unwrap().iter().map(|it| (&it["file"], &it["line"])).collect();
    assert!(lines.contains(&(&json!(".kaged/project.yaml"), &json!(3))), "{problems}");
    assert!(problems.to_string().contains("comand"), "{problems}");
    assert_eq!(world.get("/api/v1/projects/demo").await.expect(200)["problems"], problems);
    let id = world.run_task("demo", "first").await;
    assert_eq!(Viewer::open(&world, "demo").await.whole(&id).await.text(), "one\r\n");

    for bad in ["", "tasks: [", "\t", "a: &a [*a]", "tasks: {first: {command: 'x'}, first: {command: 'y'}}"] {
        edit(bad);
        let (names, problems) = tasks(&world).await;
        assert_eq!(names, ["first"], "{bad:?}");
        assert!(!problems.as_array().unwrap().is_empty(), "{bad:?}");
    }
    std::fs::remove_file(world.path("demo/.kaged/project.yaml")).unwrap();
    let (names, problems) = tasks(&world).await;
    assert_eq!((names.len(), problems.as_array().unwrap().len()), (1, 1), "{problems}");

    edit("project: demo\ntasks: {first: {command: 'echo three'}, second: {command: 'true'}}");
    assert_eq!(tasks(&world).await, (vec!["first".to_owned(), "second".to_owned()], json!([])));
    let id = world.run_task("demo", "first").await;
    assert_eq!(Viewer::open(&world, "demo").await.whole(&id).await.text(), "three\r\n");
    world.write("demo/.kaged/project.local.yaml", "tasks: {second: null}");
    assert_eq!(tasks(&world).await.0, ["first"]);
}

pub(super) async fn a_project_is_taken_off_with_its_tasks(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", GOOD).await;
    world.project("other", &GOOD.replace("demo", "other")).await;
    let mut pids = Vec::new();
    for command in ["exec sleep 1000", "trap '' INT TERM; while :; do sleep 1000; done"] {
        let id = world.run_command("demo", command).await;
        pids.push(world.until_running(&id).await["pid"].as_u64().unwrap());
    }
    let spared = world.run_command("other", "exec sleep 1000").await;
    world.until_running(&spared).await;
    let taken = world.path("second");
    world.write("second/.kaged/project.yaml", GOOD);
    let refused = world.post("/v1/repos", json!({"path": taken.to_str().unwrap()})).await;
    let details = refused.refused(409, "conflict", "id_taken");
    assert_eq!(details["paths"], json!([world.path("demo").to_str(), taken.to_str()]));

    let mut events = world.events(None).await;
    let removed = world.delete("/v1/repos/demo").await.expect(200);
    assert_eq!(removed, json!({"status": "removed", "project": "demo"}));
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(events.next().await.1);
    }
    assert_eq!(kinds, ["task.stopped", "task.stopped", "project.changed"]);
    assert_eq!(world.get("/api/v1/projects/demo").await.status, 404);
    assert_eq!(world.delete("/v1/repos/demo").await.status, 404);
    assert_eq!(world.instance(&spared).await["state"], "running");
    if backend == Backend::Tmux {
        let sessions = world.tmux(&["list-sessions", "-F", "#{session_name}"]);
        assert_eq!(sessions.stdout, "kaged-other\n");
    }
    assert_eq!(world.add(&taken).await, "demo");
}
