//! Descriptors and memory that run out.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::json;

use super::{RECOVERY, launched_again, strace, tracer_of};
use crate::harness::{Backend, PATIENCE, Seen, Viewer, World, eventually, promised, soon};
use crate::process::{lives, pid, roomy};

/// Gives the daemon another soft limit.
fn limit(world: &World, resource: Resource, current: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    prlimit(
        Some(pid(u64::from(world.daemon_pid()))),
        resource,
        Rlimit { current: current.or(maximum), maximum },
    )
    .unwrap();
}

/// What the control socket answers to one question.
fn answer_of(socket: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

/// A run that writes lines until it is told to go, and a viewer of it.
struct Ticking {
    id: String,
    viewer: Viewer,
    seen: Seen,
}

impl Ticking {
    async fn start(world: &World) -> Self {
        let command = "n=0; until [ -e ../go ]; do n=$((n+1)); echo line $n; sleep 0.02; done; exit 9";
        let id = world.run_command("demo", command).await;
        let mut viewer = Viewer::open(world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
        viewer.follow(&mut seen, |seen| seen.at > 100).await;
        Self { id, viewer, seen }
    }

    /// Its output flows on, and an end that comes now is known exactly.
    async fn ends(&mut self, world: &World) {
        let far = self.seen.at + 500;
        self.viewer.follow(&mut self.seen, |seen| seen.at > far).await;
        world.write("go", "");
        self.viewer.follow(&mut self.seen, Seen::ended).await;
        assert!(self.seen.gaps.is_empty());
        assert_eq!(self.seen.exit.as_ref().unwrap()["exit_code"], 9);
    }

    /// The fault is over: a launch works soon, and all of this run is kept.
    async fn kept_through(self, world: &World) {
        let (again, took) = launched_again(world, "exit 4").await;
        println!("G12: a launch afterwards took {took:?}");
        assert!(took < promised(RECOVERY), "{took:?}");
        assert_eq!(world.until_ended(again["id"].as_str().unwrap()).await["exit_code"], 4);
        assert_eq!(world.instance(&self.id).await["exit_code"], 9);
        assert_eq!(world.transcript(&self.id).await.1, self.seen.bytes);
        world.fsck();
    }
}

/// No descriptor is left: who connects is told, what runs is not touched, and with descriptors everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_connections_are_told_and_runs_go_on() {
    let world = roomy(Backend::Pty).await;
    let mut run = Ticking::start(&world).await;
    limit(&world, Resource::Nofile, Some(64));
    let socket = world.path("run/kasmos/kas.sock");
    let mut idle: Vec<UnixStream> = (0..64).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    world.logged("a connection was not accepted");
    let asked = Instant::now();
    let path = socket.clone();
    let told = tokio::task::spawn_blocking(move || answer_of(&path)).await.unwrap();
    println!("F67: without descriptors the answer after {:?} is {:?}", asked.elapsed(), told.lines().next());
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("\"reason\":\"descriptors\""), "{told}");
    run.ends(&world).await;

    idle.clear();
    run.kept_through(&world).await;
}

/// The whole machine has no descriptor left, as strace has it: not even the spare one helps. Who connects waits, what runs is not touched,
/// and when the machine has some again everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_machine_without_descriptors_connections_wait_and_runs_go_on() {
    let mut world = World::asleep(Backend::Pty, "");
    // Each thread counts its own calls.
    let rule = "inject=accept4:error=ENFILE:when=24+";
    world.wrap(&["strace", "-D", "-I2", "-f", "-qq", "-e", "trace=accept4", "-e", rule, "-o", "/dev/null"]);
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let mut run = Ticking::start(&world).await;
    let socket = world.path("run/kasmos/kas.sock");
    let idle: Vec<UnixStream> = (0..64).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let said = world.logged("a connection was not accepted");
    assert!(said.contains("os error 23"), "{said}");
    run.ends(&world).await;

    let daemon = PathBuf::from(format!("/proc/{}", world.daemon_pid()));
    kill_process(pid(tracer_of(&daemon).into()), Signal::TERM).unwrap();
    let over = || if tracer_of(&daemon) == 0 { Ok(()) } else { Err("it traces".to_owned()) };
    eventually("the end of the fault", over).await;
    drop(idle);
    run.kept_through(&world).await;
}

/// Its user may start no more processes and threads, as strace has it: what is launched has failed and says why, what runs is not touched, and
/// when some may be started again everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_processes_launches_fail_and_runs_go_on() {
    let world = roomy(Backend::Pty).await;
    let mut run = Ticking::start(&world).await;
    let (calls, log) = ("clone,clone3,fork,vfork", world.path("strace.log"));
    let (trace, rule) = (format!("trace={calls}"), format!("inject={calls}:error=EAGAIN"));
    let mut tracer = strace(world.daemon_pid(), &["-f", "-e", &trace, "-e", &rule], &log).await;
    for _ in 0..3 {
        let id = world.run_command("demo", "true").await;
        let failed = world.until_ended(&id).await;
        assert_eq!(
            (&failed["state"], &failed["error"]),
            (&json!("failed"), &json!("spawn_failed")),
            "{failed}"
        );
        assert!(failed["pid"].is_null() && failed["exit_code"].is_null(), "{failed}");
    }
    assert!(world.log().contains("Resource temporarily unavailable"), "{}", world.log());
    world.get("/v1/status").await.expect(200);
    run.ends(&world).await;

    tracer.start_kill().unwrap();
    soon("the end of the fault", tracer.wait()).await.unwrap();
    run.kept_through(&world).await;
}

/// Memory runs out where a transcript is read: the daemon may die of it; nothing else does, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_nothing_is_lost() {
    let mut world = roomy(Backend::Pty).await;
    let big = world
        .run_command(
            "demo",
            "until [ -e ../go ]; do sleep 0.02; done; stty raw; yes | head -c 9000000; exit 9",
        )
        .await;
    let other = world.run_command("demo", "echo up; exec sleep 1000").await;
    let command = world.until_running(&other).await["pid"].as_u64().unwrap();
    world.until_running(&big).await;
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", world.daemon_pid())).unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    limit(&world, Resource::As, Some(pages * 4096 / 2));
    world.write("go", "");
    let deadline = Instant::now() + PATIENCE;
    let record = world.state_dir().join("instances").join(&big).join("exit.json");
    while !record.exists() && lives(u64::from(world.daemon_pid())) {
        assert!(Instant::now() < deadline, "the command does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It dies soon, or it lives.
    let decided = Instant::now() + Duration::from_secs(5);
    while lives(u64::from(world.daemon_pid())) && Instant::now() < decided {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let died = !lives(u64::from(world.daemon_pid()));
    println!("F67: without memory the daemon {}", if died { "died" } else { "lived" });
    world.end(Signal::KILL);
    world.start();
    let done = world.until_ended(&big).await;
    assert_eq!((&done["exit_code"], &done["output_bytes"]), (&json!(9), &json!(9_000_000)));
    assert_eq!(world.transcript(&big).await.1.len(), 9_000_000);
    assert!(lives(command));
    assert_eq!(world.stop(&other).await["state"], "stopped");
    world.fsck();
}

/// Twenty floods, their shims and the daemon in 256 MiB: the daemon is not who has to go. (Pairs of a shim and its ward and the newest output alone
/// take about half of that.) Only the long run has the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_in_a_small_memory_do_not_end_the_daemon() {
    if !crate::long() {
        println!("F68 runs with KAS_FAULTS=long only: it keeps every core busy");
        return;
    }
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/memory/kas-flood-{}", std::process::id()));
    std::fs::create_dir(&group).expect("the floods need a memory cgroup (v1), made by root");
    std::fs::write(group.join("memory.limit_in_bytes"), (256 << 20).to_string()).unwrap();
    let mut world =
        World::asleep(Backend::Pty, "[limits]\ntasks_per_project = 100\ntasks_per_operator = 100");
    let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    world.wrap(&["sh", "-c", &join, "sh"]);
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let ids: Vec<String> = futures_util::future::join_all(
        (0..20).map(|_| world.run_command("demo", "yes | head -c 6000000; exit 9")),
    )
    .await;
    for id in &ids {
        let done = world.until_ended(id).await;
        assert!(done["exit_code"] == 9 || done["signal"] == "SIGKILL" || !done["error"].is_null(), "{done}");
    }
    let peak = std::fs::read_to_string(group.join("memory.max_usage_in_bytes")).unwrap();
    let oom = std::fs::read_to_string(group.join("memory.oom_control")).unwrap();
    println!("F68: peak {} bytes, {}", peak.trim(), oom.replace('\n', ", "));
    assert!(world.end(Signal::TERM).success(), "the daemon was ended");
    world.fsck();
    drop(world);
    std::fs::remove_dir(&group).unwrap();
}
