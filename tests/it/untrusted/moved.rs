//! A directory lends its commands to no project but its own, by whatever name or link it is reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, World};

fn write(dir: &Path, command: &str) {
    fs::create_dir_all(dir.join(".kaged")).unwrap();
    let text = format!(
        "project: demo\ntasks:\n  test: {{command: {command}}}\n  ask: {{command: {command}, confirm: true}}\n"
    );
    fs::write(dir.join(".kaged/project.yaml"), text).unwrap();
}

async fn commands(world: &World) -> (Vec<String>, Value) {
    let tasks = world.get("/api/v1/projects/demo/tasks").await.expect(200);
    let items = tasks["items"].as_array().unwrap().iter();
    (items.map(|it| it["command"].as_str().unwrap().to_owned()).collect(), tasks["problems"].clone())
}

/// What `test` writes when it is run now.
async fn output(world: &World) -> String {
    let id = world.run_task("demo", "test").await;
    world.until_ended(&id).await;
    String::from_utf8(world.transcript(&id).await.1.to_vec()).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_refused_registration_lends_nothing() {
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks:\n  test: {command: echo good}\n").await;
    write(&world.path("evil"), "echo evil");
    let refused = async || {
        let add = world.post("/v1/repos", json!({"path": world.path("evil").to_str()})).await;
        add.refused(409, "conflict", "id_taken");
    };
    refused().await;
    assert_eq!(output(&world).await, "good");
    // Somebody is in the middle of an edit: the last good tasks are the project's own.
    fs::write(world.path("demo/.kaged/project.yaml"), "project: demo\ntasks:\n  test: {command: 5}\n")
        .unwrap();
    refused().await;
    let (listed, problems) = commands(&world).await;
    assert_eq!((listed, problems.as_array().unwrap().len()), (vec!["echo good".to_owned()], 1));
    assert_eq!(output(&world).await, "good");
}

#[tokio::test]
async fn a_link_in_a_projects_place_runs_nothing_until_it_is_added_again() {
    let mut world = World::new(Backend::Pty);
    fs::create_dir(world.path("above")).unwrap();
    write(&world.path("above/demo"), "echo good");
    let add = async |world: &World, dir: &str| {
        world.post("/v1/repos", json!({"path": world.path(dir).to_str()})).await
    };
    add(&world, "above/demo").await.expect(201);
    let old = world.run_task("demo", "test").await;
    world.until_ended(&old).await;
    let question = world.post("/api/v1/projects/demo/tasks/run", json!({"task": "ask"})).await.expect(200);
    write(&world.path("evil/demo"), "echo evil");
    // A link higher up is one as well.
    fs::rename(world.path("above"), world.path("before")).unwrap();
    symlink("evil", world.path("above")).unwrap();
    for _ in 0..2 {
        let (listed, problems) = commands(&world).await;
        assert!(!listed.contains(&"echo evil".to_owned()), "{listed:?}");
        assert_eq!(
            (&problems[0]["reason"], &problems[1]),
            (&json!("project_moved"), &Value::Null),
            "{problems}"
        );
        let confirm = json!({"confirm_id": question["confirm_id"], "proceed": true});
        let launches = [
            ("projects/demo/tasks/run", json!({"task": "test"})),
            ("projects/demo/tasks/run", json!({"task": "ask"})),
            ("projects/demo/tasks/run", json!({"command": "echo evil"})),
            ("projects/demo/tasks/run", json!({"command": "echo evil", "cwd": ".kaged"})),
            ("projects/demo/tasks/run/confirm", confirm),
            (&format!("tasks/{old}/restart"), json!({})),
        ];
        for (path, body) in launches {
            world.post(&format!("/api/v1/{path}"), body).await.refused(409, "conflict", "project_moved");
        }
        // A daemon that starts finds it so too.
        world.end(Signal::TERM);
        world.start();
    }
    // Made anew at the same path it goes on, as a fresh clone does.
    fs::remove_file(world.path("above")).unwrap();
    write(&world.path("above/demo"), "echo anew");
    assert_eq!((output(&world).await.as_str(), &commands(&world).await.1), ("anew", &json!([])));
    // Moved on purpose: it is added again where it is, and keeps its runs.
    fs::rename(world.path("above/demo"), world.path("moved")).unwrap();
    symlink(world.path("moved"), world.path("above/demo")).unwrap();
    let run = world.post("/api/v1/projects/demo/tasks/run", json!({"task": "test"})).await;
    run.refused(409, "conflict", "project_moved");
    add(&world, "above/demo").await.expect(201);
    assert_eq!((output(&world).await.as_str(), &commands(&world).await.1), ("anew", &json!([])));
    assert_eq!(world.instance(&old).await["state"], "done");
    world.fsck();
}
