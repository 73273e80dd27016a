//! The daemon goes and comes back; the tasks do not notice, and neither does who watches.

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Caller, Seen, Viewer, World};

const TASKS: &str = "project: demo\ntasks: {ticking: {command: 'sh tick.sh'}}";
/// Prints a line for each one read, so that a test says when what is printed.
const TICK: &str = "n=0; while read x; do n=$((n+1)); echo \"tick $n $x\"; [ \"$x\" = end ] && exit 9; done";

pub(super) async fn tasks_outlive_a_killed_daemon(backend: Backend) {
    tasks_outlive(backend, Signal::KILL).await;
}

pub(super) async fn tasks_outlive_a_stopped_daemon(backend: Backend) {
    tasks_outlive(backend, Signal::TERM).await;
}

/// A run that ends by itself once this file is there, after `bytes` of output.
async fn waiting(world: &World, name: &str, code: u8, bytes: usize) -> String {
    let command = format!(
        "echo up; while ! [ -e {name} ]; do sleep 0.02; done; seq 1 99999999 | tr -d '\\n' | head -c {bytes}; exit {code}"
    );
    world.run_command("demo", &command).await
}

async fn typed(viewer: &mut Viewer, seen: &mut Seen, line: &str, n: usize) {
    viewer.type_in(seen.handle(), format!("{line}\r").as_bytes()).await;
    let expect = format!("{line}\r\ntick {n} {line}\r\n");
    viewer.follow(seen, |seen| seen.bytes.ends_with(expect.as_bytes())).await;
}

async fn tasks_outlive(backend: Backend, signal: Signal) {
    let mut world = World::new(backend);
    world.project("demo", TASKS).await;
    world.write("demo/tick.sh", TICK);
    let goes_on = world.run_task("demo", "ticking").await;
    let ends: [(u8, usize); 3] = [(0, 0), (5, 70_000), (42, 1_000_000)];
    let mut ended = Vec::new();
    for (code, bytes) in ends {
        ended.push(waiting(&world, &format!("go{code}"), code, bytes).await);
    }
    let stopped = world.run_command("demo", "exec sleep 1000").await;
    let mut pids = Vec::new();
    for id in ended.iter().chain([&goes_on, &stopped]) {
        pids.push(world.until_running(id).await["pid"].clone());
    }
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&goes_on, json!({"from": 0})).await;
    typed(&mut viewer, &mut seen, "before", 1).await;
    for id in &ended {
        let mut seen = viewer.watch(id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.bytes == b"up\r\n").await;
    }
    let before = world.instance(&goes_on).await;
    let open = windows(&world);

    let status = world.end(signal);
    assert_eq!(status.success(), signal == Signal::TERM, "{status}");
    let done = world.kas(&["daemon", "status"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(5), "daemon not running\n"));
    assert_eq!(windows(&world), open, "the session and its windows outlive the daemon");
    for (code, _) in ends {
        world.write(&format!("demo/go{code}"), "");
    }
    for pid in &pids[..3] {
        gone(pid.as_u64().unwrap().try_into().unwrap()).await;
    }
    world.start();
    the_ended_are_exact(&world, &ended, &ends).await;
    let after = world.instance(&goes_on).await;
    assert_eq!(after, before, "nothing changed for it");
    resumes(&world, &goes_on, seen).await;
    assert_eq!(world.stop(&stopped).await["state"], "stopped");
    let again = world.launch("demo", json!({"task": "ticking"})).await;
    assert_eq!((&again["state"], &again["backend"]), (&json!("starting"), &json!(backend.word())));
    let exits = world.get("/api/v1/audit-events?kind=task.exited").await.expect(200);
    assert_eq!(exits["items"].as_array().unwrap().len(), 4, "each end is told once");
}

/// Names of tmux windows; none on the other backend.
fn windows(world: &World) -> Vec<String> {
    let listed = match world.backend {
        Backend::Pty => return Vec::new(),
        Backend::Tmux => world.tmux(&["list-windows", "-t", "=kaged-demo", "-F", "#{window_name}"]),
    };
    assert!(listed.stdout.contains("task-ticking\n"), "{listed:?}");
    listed.stdout.lines().map(str::to_owned).collect()
}

/// What the configuration calls `fail`: runs on a PTY do not outlive the daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_on_a_pty_may_be_failed_instead() {
    let fail = "[task_runner]\nbackend = \"pty\"\npty_on_restart = \"fail\"\n";
    let mut world = World::asleep(Backend::Pty, "");
    world.write(".config/kasmos/daemon.toml", fail);
    world.start();
    world.project("demo", TASKS).await;
    world.write("demo/tick.sh", TICK);
    let id = world.run_task("demo", "ticking").await;
    let pid = world.until_running(&id).await["pid"].as_u64().unwrap();
    let ended = waiting(&world, "go5", 5, 1000).await;
    let second = world.until_running(&ended).await["pid"].as_u64().unwrap();
    world.end(Signal::KILL);
    world.write("demo/go5", "");
    gone(second.try_into().unwrap()).await;
    world.start();
    let failed = world.until_ended(&id).await;
    let told = json!([failed["state"], failed["exit_code"], failed["error"]]);
    assert_eq!(told, json!(["failed", null, "daemon_restart"]));
    gone(pid.try_into().unwrap()).await;
    // What had ended by itself before is known exactly all the same.
    let exact = world.until_ended(&ended).await;
    assert_eq!((&exact["exit_code"], &exact["error"]), (&json!(5), &Value::Null));
}

/// Waits until a process that is none of our children is gone.
async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let ended = tokio::task::spawn_blocking(move || {
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
    });
    crate::harness::soon("the end of a command", ended).await.unwrap();
}

/// Codes and bytes of what ended while nobody was there.
async fn the_ended_are_exact(world: &World, ids: &[String], ends: &[(u8, usize)]) {
    for (id, (code, bytes)) in ids.iter().zip(ends) {
        let run = world.until_ended(id).await;
        let state = if *code == 0 { "done" } else { "failed" };
        let told = json!([run["state"], run["exit_code"], run["error"], run["output_bytes"]]);
        assert_eq!(told, json!([state, code, null, 4 + bytes]), "{run}");
        let mut expect = b"up\r\n".to_vec();
        let digits: String = (1..=200_000).map(|n: u32| n.to_string()).collect();
        expect.extend_from_slice(&digits.as_bytes()[..*bytes]);
        let (start, stored) = world.transcript(id).await;
        assert!((start, &stored[..]) == (0, &expect[..]), "{} bytes of {}", stored.len(), expect.len());
        let seen = Viewer::open(world, "demo").await.whole(id).await;
        assert!(seen.bytes == expect, "the viewer's differ");
        let dir = world.state_dir().join("instances").join(id);
        let cleared = || if dir.exists() { Err("it is still there".to_owned()) } else { Ok(()) };
        crate::harness::eventually("what is stored is cleared away", cleared).await;
    }
}

/// Who watched comes back with the offset it had, over another way in, and goes on byte by byte.
async fn resumes(world: &World, id: &str, mut before: Seen) {
    let tcp: Caller = world.over_tcp().await;
    let mut viewer = Viewer::open(&tcp, "demo").await;
    let from = before.at;
    let mut seen = viewer.watch(id, json!({"from": from, "mode": "interactive"})).await;
    assert_eq!((&seen.subscribed["state"], &seen.subscribed["offset"]), (&json!("running"), &json!(from)));
    typed(&mut viewer, &mut seen, "after", 2).await;
    viewer.type_in(seen.handle(), b"end\r").await;
    viewer.follow(&mut seen, Seen::ended).await;
    assert_eq!((&seen.gaps, seen.snapshots.len()), (&Vec::new(), 0));
    let exit: Value = seen.exit.clone().unwrap();
    assert_eq!((&exit["state"], &exit["exit_code"]), (&json!("failed"), &json!(9)));
    before.bytes.extend_from_slice(&seen.bytes);
    let expect = "before\r\ntick 1 before\r\nafter\r\ntick 2 after\r\nend\r\ntick 3 end\r\n";
    assert_eq!(before.text(), expect);
    assert_eq!(&world.transcript(id).await.1[..], expect.as_bytes());
    let whole = Viewer::open(&tcp, "demo").await.whole(id).await;
    assert_eq!(whole.text(), expect);
}
