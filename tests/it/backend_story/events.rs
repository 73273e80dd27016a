//! The event stream and the audit trail.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Frame, Viewer, World, soon};

const TASKS: &str = "project: demo\ntasks: {quick: {command: 'exit 4'}}";

/// Subscribes to events after `since` and takes this many.
async fn channel(world: &World, since: i64, count: usize) -> Vec<Value> {
    let mut viewer = Viewer::open(world, "demo").await;
    viewer.say(&json!({"type": "subscribe", "channel": "events", "since": since})).await;
    viewer.text("subscribed").await;
    let mut events = Vec::new();
    while events.len() < count {
        let frame = viewer.next().await;
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        assert_eq!(text["type"], "event", "{text}");
        events.push(text);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

pub(super) async fn events_are_replayed_from_where_one_was(backend: Backend) {
    let mut world = World::new(backend);
    world.project("demo", TASKS).await;
    let id = world.run_task("demo", "quick").await;
    world.until_ended(&id).await;
    let first = channel(&world, 0, 4).await;
    let expect = ["task_runner.backend_resolved", "project.changed", "task.launched", "task.exited"];
    assert_eq!(kinds(&first), expect);
    let ids: Vec<_> = first.iter().map(|event| event["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(first[0]["backend"], backend.word());
    let launched =
        json!([first[2]["task_id"], first[2]["task_name"], first[2]["command"], first[2]["backend"]]);
    assert_eq!(launched, json!([id, "quick", "exit 4", backend.word()]));
    let ended = world.instance(&id).await;
    let exited = json!([first[3]["exit_code"], first[3]["duration_ms"], first[3]["state"]]);
    assert_eq!(exited, json!([4, ended["duration_ms"], "failed"]));
    assert!(first[3]["at"].as_i64() >= ended["exited_at"].as_i64(), "{first:?} {ended}");

    for (signal, at) in [(Signal::KILL, 5), (Signal::TERM, 6)] {
        world.end(signal);
        world.start();
        assert_eq!(channel(&world, 0, 4).await, first);
        let since = channel(&world, 3, usize::try_from(at - 3).unwrap()).await;
        assert_eq!((&since[0], since.last().unwrap()["id"].as_i64()), (&first[3], Some(at)));
        assert_eq!(since.last().unwrap()["event"], "task_runner.backend_resolved");
    }
    let mut stream = world.events(Some(2)).await;
    for n in 2..4 {
        let (id, kind, data) = stream.next().await;
        assert_eq!((id, kind.as_str()), (ids[n], expect[n]));
        let mut event = first[n].clone();
        event.as_object_mut().unwrap().remove("type");
        assert_eq!(data, event);
    }
    let mut viewer = Viewer::open(&world, "demo").await;
    viewer.say(&json!({"type": "subscribe", "channel": "events", "since": 999})).await;
    assert_eq!(viewer.refusal().await["details"]["reason"], "offset");
}

/// Waits until an event about a run is recorded.
async fn recorded(world: &World, kind: &str, id: &str) {
    soon(kind, async {
        loop {
            let page = world.get(&format!("/api/v1/audit-events?kind={kind}")).await.expect(200);
            if page["items"].as_array().unwrap().iter().any(|event| event["task_id"] == id) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub(super) async fn the_audit_trail_is_listed_in_pages(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    world.project("other", &TASKS.replace("demo", "other")).await;
    for project in ["demo", "demo", "other"] {
        let id = world.run_task(project, "quick").await;
        world.until_ended(&id).await;
    }
    let id = world.run_command("demo", &format!("exec sleep 1000 # {}", "é".repeat(300))).await;
    world.until_running(&id).await;
    let viewer = Viewer::open(&world, "demo").await;
    let mut again = Viewer::open(&world, "demo").await;
    let mut viewer = viewer;
    viewer.watch(&id, json!({})).await;
    recorded(&world, "task.attached", &id).await;
    viewer.close().await;
    recorded(&world, "task.detached", &id).await;
    again.watch(&id, json!({"from": 0})).await;
    recorded(&world, "task.reattached", &id).await;
    world.stop(&id).await;
    let list = async |query: &str| {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("/api/v1/audit-events?limit=3&{query}{cursor}")).await.expect(200);
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    };
    let all = list("").await;
    let ids: Vec<_> = all.iter().map(|it| it["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=i64::try_from(all.len()).unwrap()).collect::<Vec<_>>());
    let of_it: Vec<Value> = all.iter().filter(|it| it["task_id"] == id.as_str()).cloned().collect();
    let expect = ["task.launched", "task.attached", "task.detached", "task.reattached", "task.stopped"];
    assert_eq!(kinds(&of_it)[..5], expect);
    let command = of_it[0]["command"].as_str().unwrap();
    assert_eq!((command.chars().count(), &command[..7]), (200, "exec sl"));
    let user = of_it[4]["user_id"].as_str().unwrap();
    assert!(!user.is_empty() && of_it.iter().all(|it| it["user_id"] == user), "{of_it:?}");
    let exited = list("kind=task.exited").await;
    assert_eq!(exited.len(), 3);
    assert_eq!(list("kind=task.exited&project=other").await, exited[2..]);
    let since = exited[1]["id"].as_i64().unwrap();
    assert_eq!(list(&format!("kind=task.exited&since={since}")).await, exited[2..]);
    let wrong = world.get("/api/v1/audit-events?since=x").await;
    assert_eq!(wrong.refused(400, "invalid_request", "query")["field"], "since");
}
