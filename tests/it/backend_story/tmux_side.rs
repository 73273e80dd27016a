//! The same runs as seen from tmux: by who attaches there, opens windows there, or ends it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Frame, Seen, Viewer, World};

const TASKS: &str =
    "project: demo\ntasks: {talk: {command: 'stty -echo; echo up; while read x; do echo got $x; done'}}";

/// Waits until tmux answers as wanted.
async fn until_tmux(world: &World, words: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    crate::harness::soon(&format!("the answer to tmux {words:?}"), async {
        loop {
            let said = world.tmux(words).stdout;
            if wanted(&said) {
                return said;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn talking(world: &World) -> (String, Viewer, Seen) {
    let id = world.run_task("demo", "talk").await;
    let mut viewer = Viewer::open(world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.bytes == b"up\r\n").await;
    (id, viewer, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_type_and_both_see() {
    let world = World::new(Backend::Tmux);
    world.project("demo", TASKS).await;
    let (id, mut viewer, mut seen) = talking(&world).await;
    let run = world.instance(&id).await;
    assert_eq!((&run["tmux_session"], &run["tmux_window"]), (&json!("kaged-demo"), &json!("task-talk")));
    viewer.type_in(seen.handle(), b"browser\r").await;
    viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"got browser\r\n")).await;
    let window = "=kaged-demo:=task-talk";
    let shows = ["capture-pane", "-p", "-t", window];
    until_tmux(&world, &shows, |it| it.starts_with("up\ngot browser\n")).await;
    world.tmux(&["send-keys", "-t", window, "window", "Enter"]);
    viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"got window\r\n")).await;
    assert_eq!(seen.text(), "up\r\ngot browser\r\ngot window\r\n");
    // Closed by hand, it is stopped, and that is told.
    let closed = world.tmux(&["kill-window", "-t", window]);
    assert_eq!(closed.code, Some(0), "{closed:?}");
    viewer.follow(&mut seen, Seen::ended).await;
    let stopped = world.until_ended(&id).await;
    assert_eq!((&stopped["state"], &stopped["error"]), (&json!("stopped"), &Value::Null));
    assert_eq!(&world.transcript(&id).await.1[..], seen.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pane_opened_by_hand_is_listed_seen_and_typed_into() {
    let world = World::new(Backend::Tmux);
    world.project("demo", TASKS).await;
    let (id, ..) = talking(&world).await;
    let mut events = world.events(None).await;
    let command = "stty -echo; echo mine; read x; echo you typed $x; exec sleep 1000";
    let made = world.tmux(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-demo:",
        "-P",
        "-F",
        "#{pane_id}",
        "-n",
        "mine",
        command,
    ]);
    let number: u32 = made.stdout.trim().trim_start_matches('%').parse().unwrap();
    loop {
        let (_, kind, event) = events.next().await;
        if kind == "pane.opened" && event["pane"] == number {
            assert_eq!(event["project_id"], "demo");
            break;
        }
    }
    let panes = world.get("/api/v1/projects/demo/panes").await.expect(200);
    let listed: Vec<_> = panes["items"].as_array().unwrap().iter().map(|it| it["pane"].clone()).collect();
    assert!(listed.contains(&json!(number)), "{panes}");
    let task = world.tmux(&["list-panes", "-t", "=kaged-demo:=task-talk", "-F", "#{pane_id}"]);
    let task: u32 = task.stdout.trim().trim_start_matches('%').parse().unwrap();
    assert!(!listed.contains(&json!(task)), "a run's window {task} is no pane of the operator's: {panes}");

    let mut viewer = Viewer::open(&world.over_tcp().await, "demo").await;
    let channel = format!("pty:pane:{number}");
    viewer.say(&json!({"type": "subscribe", "channel": channel, "mode": "interactive"})).await;
    let subscribed = viewer.text("subscribed").await;
    let handle = subscribed["handle"].as_u64().unwrap().try_into().unwrap();
    viewer.type_in(handle, b"hello\r").await;
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("you typed hello") {
        match viewer.next().await {
            Frame::Output { bytes, .. } | Frame::Snapshot { bytes, .. } => shown.extend_from_slice(&bytes),
            Frame::Text(text) => assert_ne!(text["type"], "error", "{text}"),
        }
    }
    assert!(String::from_utf8_lossy(&shown).contains("mine"));
    world.tmux(&["kill-pane", "-t", &format!("%{number}")]);
    loop {
        let (_, kind, event) = events.next().await;
        if kind == "pane.closed" && event["pane"] == number {
            break;
        }
    }
    let panes = world.get("/api/v1/projects/demo/panes").await.expect(200);
    assert!(panes["items"].as_array().unwrap().iter().all(|it| it["pane"] != number), "{panes}");
    assert_eq!(world.instance(&id).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_fails_its_runs_and_the_next_run_gets_another() {
    let mut world = World::new(Backend::Tmux);
    world.project("demo", TASKS).await;
    let (first, mut viewer, mut seen) = talking(&world).await;
    kill_server(&world);
    viewer.follow(&mut seen, Seen::ended).await;
    crashed(&world, &first).await;
    let (second, ..) = talking(&world).await;
    assert_eq!(world.instance(&second).await["backend"], "tmux");
    // The same while no daemon is there to see it.
    world.end(Signal::KILL);
    kill_server(&world);
    world.start();
    crashed(&world, &second).await;
    talking(&world).await;
}

/// Kills the server as a crash would, with no good-bye.
fn kill_server(world: &World) {
    let pid = world.tmux(&["display-message", "-p", "-t", "=kaged-demo:", "#{pid}"]).stdout;
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    rustix::event::poll(&mut [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)], None)
        .unwrap();
}

async fn crashed(world: &World, id: &str) {
    let run = world.until_ended(id).await;
    let told = json!([run["state"], run["exit_code"], run["error"]]);
    assert_eq!(told, json!(["failed", null, "tmux_crash"]), "{run}");
    assert_eq!(&world.transcript(id).await.1[..], b"up\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_nobodys_is_told_and_left_alone() {
    let mut world = World::new(Backend::Tmux);
    world.project("demo", TASKS).await;
    let (id, ..) = talking(&world).await;
    world.tmux(&["new-session", "-d", "-s", "kaged-stranger", "exec sleep 1000"]);
    world.end(Signal::TERM);
    let sessions = ["list-sessions", "-F", "#{session_name}"];
    assert_eq!(world.tmux(&sessions).stdout, "kaged-demo\nkaged-stranger\n", "sessions outlive the daemon");
    world.start();
    let told = world.get("/api/v1/audit-events?kind=task_runner.orphaned_session").await.expect(200);
    let names: Vec<_> =
        told["items"].as_array().unwrap().iter().map(|it| it["tmux_session_name"].clone()).collect();
    assert_eq!(names, ["kaged-stranger"]);
    assert_eq!(world.tmux(&sessions).stdout, "kaged-demo\nkaged-stranger\n");
    assert_eq!(world.instance(&id).await["state"], "running");
}
