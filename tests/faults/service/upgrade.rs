//! Shims of other versions: the one before, recorded; one of the future; and one that cannot be understood at all.
//!
//! A shim is played from its recording in `fixtures/shim`: it checks every byte that the daemon sends, and answers with what was recorded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kas::lifecycle::{Event, Run, transition};
use kas::model::{BackendKind, Definition, EventKind, Instance, InstanceId, RunState, Size, TimeMs};
use kas::store::{Change, NewEvent, Record, Store};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World, soon};

const ID: &str = "01JCZW0000000000000000SH1M";
const OUTPUT: &[u8] = b"before\r\nafter\xff\r\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shim/v1").join(name)
}

/// Puts the files of a state into the instance directory, as of this boot.
fn put(world: &World, state: &str, change: fn(&mut Value)) {
    let dir = world.state_dir().join("instances").join(ID);
    fs::create_dir_all(&dir).unwrap();
    for path in [dir.parent().unwrap(), &dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    for entry in fs::read_dir(fixture(state)).unwrap() {
        let (name, from) = { entry.map(|it| (it.file_name(), it.path())).unwrap() };
        let mut bytes = fs::read(from).unwrap();
        if name.to_str().unwrap().ends_with(".json") {
            let mut value: Value = serde_json::from_slice(&bytes).unwrap();
            value["boot_id"] = json!(fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
            change(&mut value);
            bytes = value.to_string().into_bytes();
        }
        // Whole or not at all, as a shim does it.
        let new = dir.join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, dir.join(name)).unwrap();
    }
}

/// The row of the run, as the daemon that launched it left it behind.
async fn record(world: &World, project: &str) {
    let store = Store::open(&world.state_dir().join("runner.db")).unwrap();
    let id: InstanceId = ID.parse().unwrap();
    let instance = Instance {
        id,
        project_id: project.parse().unwrap(),
        task_name: None,
        command: "recorded".to_owned(),
        cwd: world.path("demo"),
        state: RunState::Starting,
        backend: BackendKind::Pty,
        tmux_session: None,
        tmux_window: None,
        pid: None,
        exit: None,
        error: None,
        error_text: None,
        launched_at: TimeMs(1_732_000_000_000),
        exited_at: None,
        stopped_at: None,
        launched_by: "root".to_owned(),
        output_bytes: 0,
        restarted_from: None,
        history: None,
    };
    let definition = Definition {
        command: "recorded".to_owned(),
        cwd: world.path("demo"),
        env: BTreeMap::new(),
        size: Size::DEFAULT,
    };
    let run = Run::new(instance);
    store.insert(Record { run: run.clone(), definition, boot_id: None }, None).await.unwrap();
    let next = transition(&run, Event::Started { pid: 15410 }, TimeMs(1_732_000_000_500)).unwrap();
    let event =
        NewEvent::of_run(EventKind::TaskLaunched, TimeMs(1_732_000_000_500), &next.run.instance, "root");
    store.record(Change { updates: vec![next.run], events: vec![event], ..Change::default() }).await.unwrap();
}

/// A world with the run in it and no daemon.
async fn world_with_run() -> (World, String) {
    let mut world = World::new(Backend::Pty);
    let project = world.project("demo", super::PROJECT).await;
    assert!(world.end(Signal::TERM).success());
    record(&world, &project).await;
    (world, project)
}

/// One line of a conversation.
enum Turn {
    /// What the daemon must say next.
    Hear(Vec<u8>),
    /// What the shim says then.
    Say(Vec<u8>),
    /// Waits until the test lets it go on.
    Pause,
    /// The end is on disk now.
    Ended,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn recorded() -> Vec<Turn> {
    let text = fs::read_to_string(fixture("conversation")).unwrap();
    let turns = text.lines().map(|line| match line.split_once(' ').unwrap() {
        (">", hex) => Turn::Hear(bytes(hex)),
        ("<", hex) => Turn::Say(bytes(hex)),
        ("=", "ended") => Turn::Ended,
        other => panic!("{other:?}"),
    });
    turns.collect()
}

/// A shim that is played.
struct Played {
    thread: JoinHandle<()>,
    go_on: Sender<()>,
    reached: Receiver<()>,
}

impl Played {
    /// Listens in the run's directory and plays its part once; then it waits for the daemon to close, or leaves when `leaves`.
    fn start(world: &World, turns: Vec<Turn>, ended: impl Fn() + Send + 'static, leaves: bool) -> Self {
        let path = world.state_dir().join("instances").join(ID).join("shim.sock");
        let listener = UnixListener::bind(path).unwrap();
        let (go_on, wait) = channel();
        let (reach, reached) = channel();
        let thread = std::thread::spawn(move || {
            let (mut daemon, _) = listener.accept().unwrap();
            for (at, turn) in turns.into_iter().enumerate() {
                match turn {
                    Turn::Hear(expect) => hear(&mut daemon, &expect, at),
                    Turn::Say(bytes) => daemon.write_all(&bytes).unwrap(),
                    Turn::Ended => ended(),
                    Turn::Pause => {
                        reach.send(()).unwrap();
                        wait.recv().unwrap();
                    }
                }
            }
            if !leaves {
                let mut rest = Vec::new();
                daemon.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"", "the daemon asked for something");
            }
        });
        Self { thread, go_on, reached }
    }
}

fn hear(daemon: &mut UnixStream, expect: &[u8], at: usize) {
    let mut heard = vec![0; expect.len()];
    daemon.read_exact(&mut heard).unwrap_or_else(|error| panic!("turn {at}: {error}, not {expect:x?}"));
    assert_eq!(heard, expect, "turn {at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_shim_of_version_1_is_taken_up() {
    let (mut world, project) = world_with_run().await;
    put(&world, "running", |_| {});
    let mut turns = recorded();
    // After the daemon asked to follow, and before the output goes on.
    turns.insert(3, Turn::Pause);
    let dir = world.state_dir().join("instances").join(ID);
    let home = world.path("");
    let shim = Played::start(&world, turns, move || end_in(&home, |_| {}), true);
    world.start();
    shim.reached.recv().unwrap();
    let found = world.instance(ID).await;
    assert_eq!((&found["state"], &found["pid"]), (&json!("running"), &json!(15410)));
    let mut viewer = Viewer::open(&world, &project).await;
    let mut seen = viewer.watch(ID, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.at == 8).await;
    shim.go_on.send(()).unwrap();
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!((seen.bytes.as_slice(), seen.gaps.len()), (OUTPUT, 0));
    let ended = world.until_ended(ID).await;
    assert_eq!((&ended["state"], &ended["exit_code"]), (&json!("failed"), &json!(7)));
    assert_eq!((world.transcript(ID).await.1.as_ref(), &ended["output_bytes"]), (OUTPUT, &json!(16)));
    // It heard its acknowledgement, and what it left behind is stored and gone.
    shim.thread.join().unwrap();
    soon("the directory's end", async {
        while dir.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    world.fsck();
}

/// The files of the end, put there by the shim's thread.
fn end_in(home: &Path, change: fn(&mut Value)) {
    let dir = home.join(".local/state/kasmos/instances").join(ID);
    for name in ["seg.0", "index", "exit.json"] {
        let mut bytes = fs::read(fixture("ended").join(name)).unwrap();
        if name == "exit.json" {
            let mut value: Value = serde_json::from_slice(&bytes).unwrap();
            change(&mut value);
            bytes = value.to_string().into_bytes();
        }
        fs::write(dir.join("new"), bytes).unwrap();
        fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }
}

/// A frame of a shim.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap().to_be_bytes();
    [&length[..], &[kind], payload].concat()
}

/// What a later version adds: fields in the records, files, bytes at the end of its greeting, kinds of frames, and longer ones.
fn later(turns: Vec<Turn>) -> Vec<Turn> {
    let mut all = Vec::new();
    for (at, turn) in turns.into_iter().enumerate() {
        match turn {
            Turn::Say(bytes) if at == 1 => {
                let mut payload = bytes[5..].to_vec();
                payload[0] = 9;
                payload.extend_from_slice(b"and more");
                all.push(Turn::Say(frame(1, &payload)));
                all.push(Turn::Say(frame(200, b"who knows")));
            }
            Turn::Say(bytes) => {
                all.push(Turn::Say(frame(201, &vec![7; 300_000])));
                // A kind that version 1 knows, in a layout that it does not.
                all.push(Turn::Say(frame(6, b"80x24")));
                all.push(Turn::Say(bytes));
            }
            // It is never asked for what version 1 means by an acknowledgement.
            Turn::Hear(bytes) if bytes[4] == 10 => {}
            other @ (Turn::Hear(_) | Turn::Pause | Turn::Ended) => all.push(other),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_of_a_later_version_is_followed_and_asked_for_nothing() {
    let (mut world, project) = world_with_run().await;
    world.configure("");
    let add = |value: &mut Value| value["of_the_future"] = json!({"a": [1, 2]});
    put(&world, "running", add);
    let dir = world.state_dir().join("instances").join(ID);
    fs::write(dir.join("of_the_future"), "?").unwrap();
    let mut turns = later(recorded());
    let follow = turns.iter().position(|turn| matches!(turn, Turn::Hear(bytes) if bytes[4] == 3)).unwrap();
    turns.insert(follow + 1, Turn::Pause);
    let home = world.path("");
    let add_exit = |value: &mut Value| value["of_the_future"] = json!(null);
    let shim = Played::start(&world, turns, move || end_in(&home, add_exit), true);
    world.start();
    shim.reached.recv().unwrap();
    let said = world.logged("is of another kas: it can be watched, and nothing else");
    assert!(said.contains("version=9") && said.contains(ID), "{said}");
    assert_eq!(world.instance(ID).await["state"], "running");
    let audit = world.get(&format!("/api/v1/audit-events?project={project}&limit=500")).await.expect(200);
    let told = audit["items"].as_array().unwrap().iter().filter(|event| event["event"] == "task.read_only");
    assert_eq!(told.count(), 1, "{audit}");

    // Whoever wants more than to watch is told why not, at once.
    let refused = world.post(&format!("/api/v1/tasks/{ID}/stop"), json!({})).await;
    refused.refused(503, "unavailable", "read_only");
    world.post(&format!("/api/v1/tasks/{ID}/restart"), json!({})).await.refused(
        503,
        "unavailable",
        "read_only",
    );
    world.delete(&format!("/v1/repos/{project}")).await.refused(503, "unavailable", "read_only");
    let stop = world.kas(&["stop", ID]);
    assert_eq!(stop.stderr.lines().count(), 1, "{stop:?}");
    assert!(stop.code != Some(0) && stop.stderr.contains("it can be watched"), "{stop:?}");
    let mut viewer = Viewer::open(&world, &project).await;
    let mut seen = viewer.watch(ID, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.at == 8).await;
    viewer.type_in(seen.handle(), b"hello").await;
    let refusal = viewer.refusal().await;
    assert!(refusal.to_string().contains("it can be watched, and nothing else"), "{refusal}");

    shim.go_on.send(()).unwrap();
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!(seen.bytes, OUTPUT);
    let ended = world.until_ended(ID).await;
    assert_eq!((&ended["exit_code"], &ended["error"]), (&json!(7), &Value::Null));
    assert_eq!(world.transcript(ID).await.1, OUTPUT);
    shim.thread.join().unwrap();
    assert!(!world.state_dir().join("panicked").exists());
    world.fsck();
}

/// `pty_on_restart = "fail"` ends runs with their shims. One that cannot be told to end is not called ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_of_a_later_version_is_not_given_up_either() {
    let (mut world, _) = world_with_run().await;
    let backend = "[task_runner]\nbackend = \"pty\"\npty_on_restart = \"fail\"\n";
    world.write(".config/kasmos/daemon.toml", backend);
    put(&world, "running", |_| {});
    let mut turns = later(recorded());
    let follow = turns.iter().position(|turn| matches!(turn, Turn::Hear(bytes) if bytes[4] == 3)).unwrap();
    turns.insert(follow + 1, Turn::Pause);
    let home = world.path("");
    let shim = Played::start(&world, turns, move || end_in(&home, |_| {}), true);
    world.start();
    shim.reached.recv().unwrap();
    assert_eq!(world.instance(ID).await["state"], "running");
    shim.go_on.send(()).unwrap();
    assert_eq!(world.until_ended(ID).await["exit_code"], 7);
    shim.thread.join().unwrap();
    world.fsck();
}

/// A shim whose greeting means nothing here: nothing is decided while it lives, and its record is believed when it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_cannot_be_understood_is_left_alone() {
    let (mut world, _) = world_with_run().await;
    put(&world, "running", |_| {});
    let dir = world.state_dir().join("instances").join(ID);
    let listener = UnixListener::bind(dir.join("shim.sock")).unwrap();
    let (connected, connections) = channel();
    let answering = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut daemon, _) = listener.accept().unwrap();
            daemon.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            connected.send(()).unwrap();
        }
    });
    world.start();
    connections.recv().unwrap();
    world.logged("a shim may live and does not answer");
    assert_eq!(world.instance(ID).await["state"], "running");
    world.post(&format!("/api/v1/tasks/{ID}/stop"), json!({})).await.refused(503, "unavailable", "holder");
    // It is asked again, and still nothing is decided.
    connections.recv().unwrap();
    assert_eq!(world.instance(ID).await["state"], "running");
    answering.join().unwrap();
    put(&world, "ended", |_| {});
    let ended = world.until_ended(ID).await;
    assert_eq!((&ended["exit_code"], &ended["error"]), (&json!(7), &Value::Null));
    assert_eq!(world.transcript(ID).await.1, OUTPUT);
    world.fsck();
}
