//! The same thing asked for twice, many times at once, and across deaths: it happens once.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::truth::{End, MARK, Truth, project};
use crate::harness::{Backend, World};

const RUN: &str = "/api/v1/projects/demo/tasks/run";
const CALLERS: usize = 100;

/// Asks by one key many times at once; answers the ids that were told.
async fn ask_at_once(world: &World, truth: &Truth) -> Vec<tokio::task::JoinHandle<Option<String>>> {
    let asked = (0..CALLERS).map(|_| {
        let (caller, key, body) =
            ((**world).clone(), truth.name.clone(), json!({"command": truth.command()}));
        tokio::spawn(async move {
            let answer = caller.try_post(RUN, Some(&key), &body).await?;
            Some(answer.expect(202)["id"].as_str().unwrap().to_owned())
        })
    });
    asked.collect()
}

async fn told(asked: Vec<tokio::task::JoinHandle<Option<String>>>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for answer in asked {
        ids.extend(answer.await.unwrap());
    }
    ids
}

/// A hundred callers with one key, the daemon dies at each step of the launch, and they all come again.
async fn a_key_launches_once_across_a_death(backend: Backend) {
    let points = [
        "launch_recording",
        "launch_recorded",
        "spawn_begun",
        "shim_spawned",
        "gate_asked",
        "start_recorded",
    ];
    let mut world = World::asleep(backend, "");
    for (n, point) in points.iter().enumerate() {
        world.set_env("KAS_FAILPOINTS", &format!("{point}=exit"));
        world.start();
        if n == 0 {
            project(&world, "demo").await;
        }
        let truth = Truth::new(&world, "demo", &format!("key{n}"), End::Code(7), 100);
        let asked = ask_at_once(&world, &truth).await;
        assert!(!world.died().success());
        let mut ids = told(asked).await;
        world.unset_env("KAS_FAILPOINTS");
        world.start();
        let asked = ask_at_once(&world, &truth).await;
        ids.extend(told(asked).await);
        assert_eq!(ids.len(), 1, "{point}: {ids:?}");
        truth.release();
        let run = world.until_ended(ids.first().unwrap()).await;
        // Also where it died before anything was started: the next one begins it.
        truth.is_exact(&world, &run).await;
        world.end(Signal::KILL);
    }
    world.start();
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), points.len());
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_launches_once_across_a_death_pty() {
    a_key_launches_once_across_a_death(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_launches_once_across_a_death_tmux() {
    a_key_launches_once_across_a_death(Backend::Tmux).await;
}

/// Answers by status.
async fn at_once(world: &World, count: usize, path: &str, body: &Value) -> Vec<u16> {
    let asked = (0..count).map(|_| {
        let (caller, path, body) = ((**world).clone(), path.to_owned(), body.clone());
        tokio::spawn(async move { caller.post(&path, body).await.status })
    });
    let asked: Vec<_> = asked.collect();
    let mut statuses = Vec::new();
    for answer in asked {
        statuses.push(answer.await.unwrap());
    }
    statuses.sort_unstable();
    statuses
}

/// Confirmed, stopped and restarted by many at once: one run, one stop, no more runs than are allowed.
async fn what_is_done_twice_is_done_once(backend: Backend) {
    let world = World::with(backend, "[limits]\ntasks_per_project = 4");
    let tasks = format!(
        "project: demo\ntasks:\n  asks: {{command: 'echo asked >> ledger; exec env {MARK} sleep 1000', confirm: true}}\n  \
         waits: {{command: 'echo ran >> ledger; exec env {MARK} sleep 1000'}}\n"
    );
    world.project("demo", &tasks).await;
    let question = world.post(RUN, json!({"task": "asks"})).await.expect(200);
    let confirm = json!({"confirm_id": question["confirm_id"], "proceed": true});
    let answers = at_once(&world, 20, "/api/v1/projects/demo/tasks/run/confirm", &confirm).await;
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 202 | 410)), "{answers:?}");
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    let [run] = &listed["items"].as_array().unwrap()[..] else { panic!("{listed}") };
    let id = run["id"].as_str().unwrap().to_owned();
    world.until_running(&id).await;
    world.delete(&format!("/api/v1/tasks/{id}")).await.refused(409, "conflict", "still_running");
    let answers = at_once(&world, 20, &format!("/api/v1/tasks/{id}/stop"), &json!({})).await;
    assert!(answers.contains(&200) && answers.iter().all(|it| matches!(it, 200 | 409)), "{answers:?}");
    let stops = world.get("/api/v1/audit-events?kind=task.stopped").await.expect(200);
    assert_eq!(stops["items"].as_array().unwrap().len(), 1);

    // Restarts and stops of one run race with launches: at no time do more run than may.
    let id = world.run_task("demo", "waits").await;
    world.until_running(&id).await;
    let (restart, stop) = (format!("/api/v1/tasks/{id}/restart"), format!("/api/v1/tasks/{id}/stop"));
    let waits = json!({"task": "waits"});
    let nothing = json!({});
    let (restarts, stops, launches) = tokio::join!(
        at_once(&world, 20, &restart, &nothing),
        at_once(&world, 5, &stop, &nothing),
        at_once(&world, 20, RUN, &waits)
    );
    for status in restarts.iter().chain(&launches) {
        assert!(matches!(status, 202 | 409 | 429), "{restarts:?} {launches:?}");
    }
    assert!(stops.iter().all(|it| matches!(it, 200 | 409)), "{stops:?}");
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    let running = listed["items"].as_array().unwrap().iter().filter(|it| it["exited_at"].is_null()).count();
    assert!((1..=4).contains(&running), "{running}");
    let audit = world.get("/api/v1/audit-events?limit=200").await.expect(200);
    assert!(most_at_once(audit["items"].as_array().unwrap()) <= 4);
    world.fsck();
}

/// The most runs at any time, as the audit trail tells.
fn most_at_once(events: &[Value]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for event in events {
        match event["event"].as_str().unwrap() {
            "task.launched" => now += 1,
            "task.exited" | "task.stopped" => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_twice_is_done_once_pty() {
    what_is_done_twice_is_done_once(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_twice_is_done_once_tmux() {
    what_is_done_twice_is_done_once(Backend::Tmux).await;
}
