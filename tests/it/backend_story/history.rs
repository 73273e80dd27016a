//! What stays of ended runs, and how it goes.

use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World, eventually};

const TASKS: &str = "project: demo
tasks:
  kept: {command: 'echo kept', history_count: 2}
  gone: {command: 'echo gone', history: false}
  wait: {command: 'echo $WHO; read x', env: {WHO: me}, history_count: 20}
  none: {command: 'true', history_count: 20}
";

/// The ids of a project's instances, newest first.
async fn ids(world: &World, query: &str) -> Vec<String> {
    let listed =
        world.get(&format!("/api/v1/projects/demo/tasks/instances?limit=500&{query}")).await.expect(200);
    let items = listed["items"].as_array().unwrap();
    items.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// The instance a window belongs to is told by its name alone; ids of tmux are not the API's.
fn windows(world: &World) -> Vec<String> {
    let listed = world.tmux(&["list-windows", "-t", "=kaged-demo", "-F", "#{window_name} #{pane_dead}"]);
    listed.stdout.lines().map(str::to_owned).collect()
}

/// Waits until an instance is not known any more.
async fn culled(world: &World, id: &str) {
    let mut viewer = Viewer::open(world, "demo").await;
    crate::harness::soon("the oldest being culled", async {
        while world.get(&format!("/api/v1/tasks/{id}")).await.status != 404 {
            // Each run of another task wakes what is asked again.
            let other = world.run_task("demo", "none").await;
            viewer.whole(&other).await;
        }
    })
    .await;
}

pub(super) async fn the_oldest_is_culled(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let mut kept = Vec::new();
    let mut names = Vec::new();
    for _ in 0..4 {
        let id = world.run_task("demo", "kept").await;
        let ended = world.until_ended(&id).await;
        assert_eq!(ended["state"], "done");
        names.push(ended["tmux_window"].as_str().map(str::to_owned));
        kept.push(id);
    }
    culled(&world, &kept[1]).await;
    assert_eq!(ids(&world, "task_name=kept").await, [kept[3].clone(), kept[2].clone()]);
    for id in &kept[..2] {
        for path in ["", "/transcript"] {
            assert_eq!(world.get(&format!("/api/v1/tasks/{id}{path}")).await.status, 404);
        }
        let database = rusqlite::Connection::open(world.state_dir().join("runner.db")).unwrap();
        let left = "SELECT count(*) FROM task_transcripts WHERE task_id = ?1";
        assert_eq!(database.query_row(left, [id], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }
    assert_eq!(&world.transcript(&kept[3]).await.1[..], b"kept\r\n");
    if backend == Backend::Tmux {
        let mut expect: Vec<_> =
            names[2..].iter().map(|name| format!("{} 1", name.as_ref().unwrap())).collect();
        let mut open = windows(&world);
        open.retain(|it| it.starts_with("task-kept"));
        expect.sort();
        open.sort();
        assert_eq!(open, expect, "{names:?}");
        let target = format!("=kaged-demo:={}", names[3].as_ref().unwrap());
        let screen = world.tmux(&["capture-pane", "-p", "-S", "-", "-t", &target]);
        assert!(screen.stdout.starts_with("kept\n"), "{screen:?}");
    }
}

pub(super) async fn without_history_nothing_stays_open(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let mut gone = Vec::new();
    for _ in 0..3 {
        let id = world.run_task("demo", "gone").await;
        let ended = world.until_ended(&id).await;
        if backend == Backend::Tmux {
            let name = ended["tmux_window"].as_str().unwrap();
            // The window goes with its shim, a moment after the run has ended.
            eventually("the end of its window", || {
                let stays = windows(&world).iter().any(|it| it.starts_with(&format!("{name} ")));
                if stays { Err(format!("{name} stays")) } else { Ok(()) }
            })
            .await;
        }
        gone.push(id);
    }
    culled(&world, &gone[1]).await;
    assert_eq!(ids(&world, "task_name=gone").await, [gone[2].clone()]);
    assert_eq!(&world.transcript(&gone[2]).await.1[..], b"gone\r\n");
}

pub(super) async fn ended_ones_are_deleted_and_running_ones_are_not(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let running = world.run_task("demo", "wait").await;
    let path = format!("/api/v1/tasks/{running}");
    world.delete(&path).await.refused(409, "conflict", "still_running");
    world.until_running(&running).await;
    world.delete(&path).await.refused(409, "conflict", "still_running");
    let mut viewer = Viewer::open(&world, "demo").await;
    // Gone the moment its end is told, with everything that belongs to it.
    for _ in 0..10 {
        let id = world.run_task("demo", "none").await;
        viewer.whole(&id).await;
        assert_eq!(world.delete(&format!("/api/v1/tasks/{id}")).await.expect(204), Value::Null);
        assert_eq!(world.get(&format!("/api/v1/tasks/{id}")).await.status, 404);
        assert_eq!(world.delete(&format!("/api/v1/tasks/{id}")).await.status, 404);
    }
    for command in ["true", "false", "kill $$"] {
        world.outcome("demo", command).await;
    }
    let stopped = world.run_task("demo", "wait").await;
    world.until_running(&stopped).await;
    world.stop(&stopped).await;
    let cleanup = || world.post("/api/v1/projects/demo/tasks/cleanup", json!({}));
    assert_eq!(cleanup().await.expect(200), json!({"deleted": 4}));
    assert_eq!(cleanup().await.expect(200), json!({"deleted": 0}));
    assert_eq!(ids(&world, "").await, std::slice::from_ref(&running));
    if backend == Backend::Tmux {
        assert_eq!(windows(&world).iter().filter(|it| it.starts_with("task-")).count(), 1);
    }
    world.stop(&running).await;
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(ids(&world, "").await, Vec::<String>::new());
}

pub(super) async fn a_restart_runs_the_same_again(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let first = world.run_task("demo", "wait").await;
    let pid = world.until_running(&first).await["pid"].as_u64().unwrap();
    // What runs again is what ran, whatever the file says now.
    world.write("demo/.kaged/project.yaml", TASKS.replace("WHO: me", "WHO: you"));
    let again = async |id: &str| world.post(&format!("/api/v1/tasks/{id}/restart"), json!({})).await;
    let second = again(&first).await.expect(202);
    assert_eq!(world.instance(&first).await["state"], "stopped");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let told = json!([second["restarted_from"], second["task_name"], second["command"], second["cwd"]]);
    assert_eq!(told, json!([first, "wait", "echo $WHO; read x", world.path("demo").to_str().unwrap()]));
    let second = second["id"].as_str().unwrap();
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(second, json!({})).await;
    viewer.follow(&mut seen, |seen| seen.bytes == b"me\r\n").await;
    viewer.type_in(seen.handle(), b"\r").await;
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    let third = again(second).await.expect(202);
    assert_eq!(third["restarted_from"], second);
    assert_eq!(world.instance(second).await["state"], "done");
    world.until_running(third["id"].as_str().unwrap()).await;
    assert_eq!(ids(&world, "state=running").await, [third["id"].as_str().unwrap()]);
    assert_eq!(again("01ARZ3NDEKTSV4RRFFQ69G5FAV").await.status, 404);
}

/// A directory that is gone, or another one in its place, refuses a restart before anything is stopped; of two at once one is refused; and a key
/// launches once, also when the run that was restarted is deleted by then.
pub(super) async fn a_restart_that_is_refused_stops_nothing(backend: Backend) {
    let world = World::new(backend);
    world.write("demo/sub/.keep", "");
    let slow = "trap 'sleep 1; exit 0' INT TERM; while :; do sleep 0.05; done";
    world
        .project("demo", &format!("project: demo\ntasks: {{dev: {{command: \"{slow}\", cwd: sub}}}}\n"))
        .await;
    let id = world.run_task("demo", "dev").await;
    world.until_running(&id).await;
    let restart = async |id: &str, key: Option<&str>| {
        world.try_post(&format!("/api/v1/tasks/{id}/restart"), key, &json!({})).await.unwrap()
    };
    let (here, there) = (world.path("demo/sub"), world.path("demo/elsewhere"));
    std::fs::rename(&here, &there).unwrap();
    restart(&id, None).await.refused(400, "invalid_request", "cwd_not_found");
    std::os::unix::fs::symlink("elsewhere", &here).unwrap();
    restart(&id, None).await.refused(400, "invalid_request", "cwd_outside_project");
    std::fs::remove_file(&here).unwrap();
    std::fs::rename(&there, &here).unwrap();
    assert_eq!(world.instance(&id).await["state"], "running");
    assert_eq!(ids(&world, "").await, std::slice::from_ref(&id));

    let (one, two) = tokio::join!(restart(&id, None), restart(&id, None));
    let (launched, refused) = if one.status == 202 { (one, two) } else { (two, one) };
    refused.refused(409, "conflict", "restarting");
    let second = launched.expect(202)["id"].as_str().unwrap().to_owned();
    assert_eq!(world.instance(&id).await["state"], "stopped");
    world.until_running(&second).await;
    assert_eq!(ids(&world, "").await, [second.clone(), id]);

    let third = restart(&second, Some("again")).await.expect(202)["id"].clone();
    assert_eq!(restart(&second, Some("again")).await.expect(202)["id"], third);
    assert_eq!(world.delete(&format!("/api/v1/tasks/{second}")).await.status, 204);
    assert_eq!(restart(&second, Some("again")).await.expect(202)["id"], third);
    assert_eq!(restart(&second, None).await.status, 404);
    world.stop(third.as_str().unwrap()).await;
}

pub(super) async fn lists_come_in_pages(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut all = Vec::new();
    for n in 0..11 {
        let id = if n % 3 == 0 {
            world.run_command("demo", "exit 1").await
        } else {
            world.run_task("demo", "none").await
        };
        viewer.whole(&id).await;
        all.insert(0, id);
    }
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            world.get(&format!("/api/v1/projects/demo/tasks/instances?limit=4{cursor}")).await.expect(200);
        paged
            .extend(page["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        assert_eq!(paged.len() % 4, 0);
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(ids(&world, "state=failed").await.len(), 4);
    assert_eq!(ids(&world, "state=failed&state=done").await, all);
    assert_eq!(ids(&world, "task_name=none").await.len(), 7);
    let list = |query: &str| format!("/api/v1/projects/demo/tasks/instances?{query}");
    for (query, field) in
        [("limit=0", "limit"), ("limit=501", "limit"), ("state=odd", "state"), ("colour=1", "colour")]
    {
        let details = world.get(&list(query)).await.refused(400, "invalid_request", "query");
        assert_eq!(details["field"], field);
    }
    assert_eq!(world.get(&list("cursor=nonsense")).await.status, 400);
}
