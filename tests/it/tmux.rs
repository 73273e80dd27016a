//! The tmux backend on a real tmux, each test with a server of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kas::backend::BackendError;
use kas::backend::tmux::{self, Probe, Report, Settings, Tmux, Window, WindowPlan};
use kas::broker::{Channel, Read};
use kas::config::{BackendChoice, Config, Env, TaskRunner, TmuxConfig, TmuxOutput};
use kas::journal::{self, ExitRecord, Nonce, Spec};
use kas::model::{BackendKind, InstanceId, Offset, ProjectId, Size, TimeMs};
use kas::shim::{Client, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const KAS: &str = env!("CARGO_BIN_EXE_kas");
/// Room for everything a test prints, so that what is read came live.
const RING: usize = 64 << 20;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout_at(soon(), wait).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// A home, a server's socket directory, and a handle.
struct World {
    home: tempfile::TempDir,
    tmux: Tmux,
    reports: mpsc::Receiver<Report>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Only what was started in this home's socket directory.
        self.sh(&["kill-server"]);
    }
}

fn settings(home: &Path, change: impl FnOnce(&mut TaskRunner)) -> Settings {
    let mut task_runner = Config::default().task_runner;
    task_runner.tmux.config = TmuxConfig::Min;
    change(&mut task_runner);
    let path = std::env::var_os("PATH").unwrap();
    let env = Env::from_vars([("PATH", path), ("HOME", home.into()), ("TMUX_TMPDIR", home.into())]);
    Settings::new(&task_runner, &env, home, 1000)
}

async fn connect(home: &Path, change: impl FnOnce(&mut TaskRunner)) -> (Tmux, mpsc::Receiver<Report>) {
    let settings = settings(home, change);
    let version = tmux::probe(&settings).await.version().expect("these tests need a tmux");
    let (report, reports) = mpsc::channel(100);
    (Tmux::new(settings, version, report), reports)
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut TaskRunner)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (tmux, reports) = connect(home.path(), change).await;
        Self { home, tmux, reports }
    }

    /// What an operator types after `tmux` in a shell.
    fn sh(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.home.path());
        let ran = command.env("TMUX_TMPDIR", self.home.path()).args(args).output().unwrap();
        String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
    }

    /// Opens a window for a command whose gate stays closed.
    async fn gated(&self, project: &ProjectId, name: &str, command: &str) -> Task {
        let spec = spec(command);
        let dir = journal::create(&self.home.path().join("instances"), &spec).unwrap();
        let plan = plan(&spec, name, vec![KAS.into(), "shim".into(), dir.clone().into()]);
        let window = self.tmux.open_window(project, &plan).await.unwrap();
        Task::tie(&self.tmux, dir, spec, window).await
    }

    async fn run(&self, project: &ProjectId, name: &str, command: &str) -> Task {
        let task = self.gated(project, name, command).await;
        task.client.open_gate().await.unwrap();
        task
    }

    /// Waits for a report that is wanted.
    async fn report<T>(&mut self, what: &str, mut wanted: impl FnMut(&Report) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = wanted(&self.reports.recv().await.expect("the handle lives")) {
                    return found;
                }
            }
        };
        in_time(what, found).await
    }

    /// The process id of the project's control client.
    fn control_client(&self, project: &ProjectId) -> Option<i32> {
        let format = "#{client_control_mode} #{client_pid} #{client_session}";
        let all = self.sh(&["list-clients", "-F", format]);
        let of = |line: &str| {
            let mut words = line.split(' ');
            let (control, pid, session) = (words.next()?, words.next()?, words.next()?);
            (control == "1" && session == format!("kaged-{project}")).then(|| pid.parse().ok())?
        };
        all.lines().find_map(of)
    }
}

fn spec(command: &str) -> Spec {
    let nonce = Nonce::random().unwrap();
    Spec {
        id: InstanceId::from_parts(TimeMs::now().0.cast_unsigned(), u128::from_be_bytes(*nonce.as_bytes())),
        nonce,
        command: command.into(),
        cwd: PathBuf::from("/"),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("TERM".into(), "xterm-256color".into())],
        size: Size::DEFAULT,
        limit_bytes: RING as u64,
        scrollback_lines: 100,
        backend: BackendKind::Tmux,
        keep_window: false,
        boot_id: journal::boot_id().unwrap(),
    }
}

fn plan(spec: &Spec, name: &str, argv: Vec<std::ffi::OsString>) -> WindowPlan {
    let or_else = format!("{name}-{}", spec.id.tail(6));
    WindowPlan { instance: spec.id, name: name.into(), or_else, argv, size: spec.size, keep: false }
}

/// A run in a window, tied to a channel.
struct Task {
    tmux: Tmux,
    spec: Spec,
    window: Window,
    client: Client,
    channel: Arc<Channel>,
    record: watch::Receiver<Option<ExitRecord>>,
}

impl Task {
    async fn tie(tmux: &Tmux, dir: PathBuf, spec: Spec, window: Window) -> Self {
        let (client, mut events) = Client::connect(&dir, &spec.nonce, soon()).await.unwrap();
        let channel = Arc::new(Channel::new(Offset(0), spec.size, None, RING));
        tmux.follow(&window, &spec.nonce, channel.clone(), client.clone()).await.unwrap();
        let (ended, record) = watch::channel(None);
        let to = channel.clone();
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.next().await {
                if let Event::Output { offset, bytes } = event {
                    to.push(offset, bytes);
                } else if let Event::Resized(size) = event {
                    to.set_size(size);
                } else if let Event::Exited(record) = event {
                    ended.send_replace(Some(*record));
                }
            }
        });
        Self { tmux: tmux.clone(), spec, window, client, channel, record }
    }

    /// Waits until the channel satisfies `wanted`.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&Channel) -> bool) {
        let mut changes = self.channel.watch();
        let satisfied = async {
            while !wanted(&self.channel) {
                changes.changed().await.unwrap();
            }
        };
        in_time(what, satisfied).await;
    }

    /// Waits for the end and for every byte to have come live; then lets the shim go.
    async fn finish(&mut self) -> (Vec<u8>, ExitRecord) {
        let record = in_time("the exit record", self.record.wait_for(Option::is_some)).await;
        let record = record.unwrap().clone().unwrap();
        self.until("every byte", |channel| channel.live_end().0 >= record.total_bytes).await;
        in_time("the window", self.tmux.shown(&self.window)).await;
        self.client.ack().await.unwrap();
        (self.bytes().await, record)
    }

    async fn bytes(&self) -> Vec<u8> {
        read_all(&self.channel).await
    }
}

/// Everything a channel has; it must have all of it.
async fn read_all(channel: &Channel) -> Vec<u8> {
    let read = channel.read(Offset(0), RING).await;
    if let Read::Data { bytes, .. } = read {
        return bytes.to_vec();
    }
    assert_eq!(read, Read::Wait);
    Vec::new()
}

/// The pane of a report that the operator opened one.
fn opened(report: &Report) -> Option<u32> {
    if let Report::PaneOpened { pane, .. } = report { Some(*pane) } else { None }
}

fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

fn lines(n: usize) -> Vec<u8> {
    (1..=n).flat_map(|i| format!("{i}\r\n").into_bytes()).collect()
}

#[tokio::test]
async fn a_run_in_a_window_is_seen_whole_and_its_code_told() {
    let world = World::new().await;
    let mut task = world.run(&project("p"), "task-hello", "echo hello; exit 7").await;
    let (bytes, record) = task.finish().await;
    assert_eq!(String::from_utf8_lossy(&bytes), "hello\r\n");
    assert_eq!(record.ending, kas::journal::Ending::Exited(kas::model::Exit::Code(7)));
    assert_eq!(
        (task.window.session_name.as_str(), task.window.window_name.as_str()),
        ("kaged-p", "task-hello")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_runs_at_once_are_exact_to_the_byte() {
    let world = Arc::new(World::new().await);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8_usize {
        let world = world.clone();
        workers.spawn(async move {
            let mut total = 0;
            for n in (worker..80).step_by(8) {
                let count = [0, 1, 10, 500, 9000][n % 5];
                let project = project(["one", "two", "three"][n % 3]);
                let command = format!("seq {count}; exit {}", n % 256);
                let mut task = world.run(&project, "task-short", &command).await;
                let (bytes, record) = task.finish().await;
                assert_eq!(record.total_bytes, lines(count).len() as u64);
                assert!(bytes == lines(count), "run {n}: {} of {} bytes", bytes.len(), record.total_bytes);
                total += record.total_bytes;
            }
            total
        });
    }
    let mut total = 0;
    while let Some(done) = workers.join_next().await {
        total += done.unwrap();
    }
    let by_control = world.tmux.control_bytes();
    println!("short runs: {by_control} of {total} bytes came first by the control stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_comes_by_the_control_stream() {
    let world = World::new().await;
    let began = Instant::now();
    let mut task = world.run(&project("p"), "task-flood", "seq 1000000").await;
    let (bytes, record) = task.finish().await;
    let share = world.tmux.control_bytes() * 100 / record.total_bytes;
    println!("flood: {} bytes in {:?}, {share} % by the control stream", record.total_bytes, began.elapsed());
    assert!(bytes == lines(1_000_000));
    assert!(share > 0, "the control stream was never aligned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_client_costs_nothing() {
    let mut world = World::new().await;
    let p = project("p");
    let mut task =
        world.run(&p, "task-flood", "stty -echo; seq 600000; read x; seq 600000; read x; seq 10").await;
    for goal in [1_000_000, 2_500_000] {
        task.until("some bytes", |channel| channel.live_end().0 > goal).await;
        let pid = in_time("a control client", async {
            loop {
                if let Some(pid) = world.control_client(&p) {
                    return pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let pid = rustix::process::Pid::from_raw(pid.await).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        world.report("the loss", |report| matches!(report, Report::ControlLost { .. }).then_some(())).await;
    }
    let before = world.tmux.control_bytes();
    let all = [lines(600_000), lines(600_000), lines(10)].concat();
    task.until("the first part", |channel| channel.live_end().0 >= lines(600_000).len() as u64).await;
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    let (bytes, _) = task.finish().await;
    assert!(bytes == all, "{} of {} bytes", bytes.len(), all.len());
    println!("after two kills: {} bytes by the control stream", world.tmux.control_bytes() - before);
}

#[tokio::test]
async fn runs_are_followed_wherever_the_operator_puts_them() {
    let world = World::new().await;
    let p = project("p");
    let mut renamed = world.run(&p, "task-a", "read x; echo renamed").await;
    let mut moved = world.run(&p, "task-b", "read x; seq 1000; read x; echo moved").await;
    let mut split = world.run(&p, "task-c", "read x; echo split").await;
    world.sh(&["rename-window", "-t", "=kaged-p:task-a", "vi"]);
    world.sh(&["rename-session", "-t", "=kaged-p", "other"]);
    world.sh(&["new-session", "-d", "-s", "mine", "cat"]);
    world.sh(&["move-window", "-s", "=other:task-b", "-t", "mine:9"]);
    world.sh(&["split-window", "-d", "-t", "=other:task-c", "cat"]);
    for task in [&mut renamed, &mut split, &mut moved] {
        task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    }
    assert!(renamed.finish().await.0.ends_with(b"renamed\r\n"));
    assert!(split.finish().await.0.ends_with(b"split\r\n"));
    moved.until("the moved one", |channel| channel.live_end().0 >= lines(1000).len() as u64).await;
    world.sh(&["move-window", "-s", "mine:9", "-t", "=other:20"]);
    moved.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(moved.finish().await.0.ends_with(b"moved\r\n"));
}

#[tokio::test]
async fn a_window_the_operator_kills_ends_its_run_and_no_other() {
    let world = World::new().await;
    let p = project("p");
    let killed = world.run(&p, "task-a", "echo ready; exec sleep 1000").await;
    let mut other = world.run(&p, "task-b", "read x; echo fine").await;
    killed.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["kill-window", "-t", "=kaged-p:task-a"]);
    let mut record = killed.record.clone();
    let record = in_time("the end", record.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    assert_eq!(record.cause, kas::journal::Cause::WindowClosed);
    assert!(world.tmux.serves_what_it_served().await);
    other.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(other.finish().await.0.ends_with(b"fine\r\n"));
}

#[tokio::test]
async fn a_killed_server_is_reported_and_the_next_run_gets_another() {
    let mut world = World::new().await;
    let runs = [world.run(&project("a"), "task-x", "exec sleep 1000").await];
    let other = world.run(&project("b"), "task-x", "exec sleep 1000").await;
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let gone = world.report("the server's end", |report| {
        if let Report::ServerGone { projects } = report { Some(projects.clone()) } else { None }
    });
    assert_eq!(gone.await, [project("a"), project("b")]);
    assert!(!world.tmux.serves_what_it_served().await);
    for run in runs.iter().chain([&other]) {
        let mut record = run.record.clone();
        in_time("the run's end", record.wait_for(Option::is_some)).await.unwrap();
    }
    let mut again = world.run(&project("a"), "task-x", "echo again").await;
    assert_eq!(again.finish().await.0, b"again\r\n");
    assert!(world.tmux.serves_what_it_served().await);
}

#[tokio::test]
async fn a_server_that_is_told_to_end_is_no_crash() {
    let world = World::new().await;
    let run = world.run(&project("a"), "task-x", "echo ready; exec sleep 1000").await;
    run.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["kill-server"]);
    let mut record = run.record.clone();
    in_time("the end", record.wait_for(Option::is_some)).await.unwrap();
    assert!(world.tmux.serves_what_it_served().await);
    let mut again = world.run(&project("a"), "task-x", "echo again").await;
    assert_eq!(again.finish().await.0, b"again\r\n");
}

#[tokio::test]
async fn the_session_outlives_its_runs_until_the_project_goes() {
    let world = World::new().await;
    let p = project("a");
    let mut run = world.run(&p, "task-x", "read x").await;
    run.client.input(Bytes::from_static(b"\n")).await.unwrap();
    run.finish().await;
    world.tmux.kill_window(&p, run.spec.id).await.unwrap();
    assert_eq!(world.sh(&["list-windows", "-t", "=kaged-a:", "-F", "#{window_name}"]), "kas");
    assert_eq!(world.tmux.foreign_panes(&p).await.unwrap(), []);
    world.tmux.destroy_session(&p).await.unwrap();
    assert_eq!(world.tmux.scan().await.unwrap(), []);
}

#[tokio::test]
async fn projects_with_like_names_and_foreign_sessions_are_left_alone() {
    let world = World::new().await;
    let (a, ab) = (project("a"), project("ab"));
    world.sh(&["new-session", "-d", "-s", "kaged-c", "cat"]);
    let _in_ab = world.run(&ab, "task-x", "exec sleep 1000").await;
    let in_a = world.run(&a, "task-x", "exec sleep 1000").await;
    let names: Vec<_> = world.tmux.scan().await.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["kaged-a", "kaged-ab", "kaged-c"]);
    world.tmux.destroy_session(&a).await.unwrap();
    world.tmux.destroy_session(&project("c")).await.unwrap();
    world.tmux.kill_window(&a, in_a.spec.id).await.unwrap();
    let names: Vec<_> = world.tmux.scan().await.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["kaged-ab", "kaged-c"]);
    let spec = spec("true");
    let plan = plan(&spec, "task-x", vec!["sleep".into(), "9".into()]);
    let refused = world.tmux.open_window(&project("c"), &plan).await;
    assert!(matches!(refused, Err(BackendError::Foreign(name)) if name == "kaged-c"));
    assert_eq!(world.sh(&["list-windows", "-t", "=kaged-c:", "-F", "#{window_index}"]), "0");
}

#[tokio::test]
async fn a_name_in_use_is_made_longer_and_only_the_own_window_is_killed() {
    let world = World::new().await;
    let p = project("p");
    let first = world.run(&p, "task-x", "exec sleep 1000").await;
    let second = world.run(&p, "task-x", "exec sleep 1000").await;
    let longer = format!("task-x-{}", second.spec.id.tail(6));
    assert_eq!(second.window.window_name, longer);
    world.tmux.kill_window(&p, first.spec.id).await.unwrap();
    world.tmux.kill_window(&p, first.spec.id).await.unwrap();
    assert_eq!(
        world.sh(&["list-windows", "-t", "=kaged-p:", "-F", "#{window_name}"]),
        format!("kas\n{longer}")
    );
    world.tmux.kill_window(&p, second.spec.id).await.unwrap();
    world.tmux.destroy_session(&p).await.unwrap();
    assert_eq!(world.tmux.scan().await.unwrap(), []);
    world.tmux.ping().await.unwrap();
}

#[tokio::test]
async fn a_kept_window_stays_with_its_last_screen() {
    let world = World::new().await;
    let p = project("p");
    let spec = spec("echo last words");
    let dir = journal::create(&world.home.path().join("instances"), &spec).unwrap();
    let argv = vec![KAS.into(), "shim".into(), dir.clone().into()];
    let plan = WindowPlan { keep: true, ..plan(&spec, "task-kept", argv) };
    let window = world.tmux.open_window(&p, &plan).await.unwrap();
    let mut task = Task::tie(&world.tmux, dir, spec, window).await;
    task.client.open_gate().await.unwrap();
    task.finish().await;
    let dead = in_time("the pane's end", async {
        while world.sh(&["display-message", "-p", "-t", "=kaged-p:task-kept", "#{pane_dead}"]) != "1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    dead.await;
    // Saying that the pane is dead, tmux moves the screen up by a line.
    let screen = world.sh(&["capture-pane", "-p", "-S", "-", "-t", "=kaged-p:task-kept"]);
    assert!(screen.contains("last words"), "{screen:?}");
    assert_eq!(world.tmux.adopt_window(&p, task.spec.id).await.unwrap(), None);
    world.tmux.kill_window(&p, task.spec.id).await.unwrap();
    assert_eq!(world.sh(&["list-windows", "-t", "=kaged-p:", "-F", "#{window_name}"]), "kas");
}

#[tokio::test]
async fn another_daemon_takes_a_run_over() {
    let mut world = World::new().await;
    let p = project("p");
    let task = world.run(&p, "task-x", "seq 1000; read x; echo over").await;
    task.until("the first part", |channel| channel.live_end().0 >= lines(1000).len() as u64).await;
    let Task { spec, window, client, tmux: old, .. } = task;
    drop((client, old));
    (world.tmux, world.reports) = connect(world.home.path(), |_| {}).await;
    let found = world.tmux.adopt_window(&p, spec.id).await.unwrap().expect("the window");
    assert_eq!(found, window);
    let dir = world.home.path().join("instances").join(spec.id.to_string());
    let mut task = Task::tie(&world.tmux, dir, spec, found).await;
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    let (bytes, _) = task.finish().await;
    assert_eq!(String::from_utf8_lossy(&bytes).replace("\r\n\r\n", "\r\n").len(), lines(1000).len() + 6);
}

#[tokio::test]
async fn windows_have_the_size_they_are_given_and_the_newest_wish_wins() {
    let world = World::new().await;
    let task = world.run(&project("p"), "task-x", "exec sleep 1000").await;
    let size = |n: i64| Size::clamped(100 + n, 40).unwrap();
    for n in 0..50 {
        world.tmux.resize(&task.window, size(n)).await.unwrap();
    }
    task.until("the size", |channel| channel.size() == size(49)).await;
    assert_eq!(
        world.sh(&["display-message", "-p", "-t", "=kaged-p:task-x", "#{window_width}x#{window_height}"]),
        "149x40"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_pane_is_reported_seen_typed_into_and_missed() {
    let mut world = World::new().await;
    let p = project("p");
    let _run = world.run(&p, "task-x", "exec sleep 1000").await;
    world.sh(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-p:",
        "-n",
        "mine",
        "printf 'be\\033[1mfore\\n'; stty -echo; exec cat",
    ]);
    let pane = world.report("the pane", opened).await;
    in_time("cat", async {
        while world.sh(&["display-message", "-p", "-t", &format!("%{pane}"), "#{pane_current_command}"])
            != "cat"
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    world.sh(&["select-pane", "-t", &format!("%{pane}"), "-T", "%end 1 2 3 title"]);
    let foreign = world.tmux.foreign_panes(&p).await.unwrap();
    assert_eq!(foreign.iter().map(|found| found.pane).collect::<Vec<_>>(), [pane]);
    assert!(foreign[0].title == "%end 1 2 3 title" && foreign[0].command == "cat", "{foreign:?}");
    let channel = world.tmux.pane_channel(&p, pane).await.expect("a channel");
    let text = |channel: Arc<Channel>| async move { String::from_utf8(read_all(&channel).await).unwrap() };
    let shown = text(channel.clone()).await;
    assert!(shown.contains("before") || shown.contains("be\u{1b}[1mfore"), "{shown:?}");
    let all: Vec<u8> = (0..500).flat_map(|n| format!("typed {n}\r").into_bytes()).collect();
    world.sh(&["copy-mode", "-t", &format!("%{pane}")]);
    world.tmux.type_into(pane, all.into()).await.unwrap();
    let mut changes = channel.watch();
    in_time("what was typed", async {
        while !text(channel.clone()).await.contains("typed 499\r\n") {
            changes.changed().await.unwrap();
        }
    })
    .await;
    let shown = text(channel.clone()).await;
    assert!((0..500).all(|n| shown.contains(&format!("typed {n}\r\n"))));
    let again = world.tmux.pane_channel(&p, pane).await.expect("the same channel");
    assert!(Arc::ptr_eq(&channel, &again));
    world.tmux.resize_pane(pane, Size::clamped(91, 33).unwrap()).await.unwrap();
    in_time("its size", async {
        while channel.size() != Size::clamped(91, 33).unwrap() {
            changes.changed().await.unwrap();
        }
    })
    .await;
    world.sh(&["kill-pane", "-t", &format!("%{pane}")]);
    let closed = |report: &Report| {
        matches!(report, Report::PaneClosed { pane: gone, .. } if *gone == pane).then_some(())
    };
    world.report("its end", closed).await;
    assert!(channel.ended().is_some());
    assert!(matches!(world.tmux.type_into(pane, Bytes::from_static(b"x")).await, Err(BackendError::Gone)));
    assert!(world.tmux.pane_channel(&p, pane).await.is_none());
}

/// A screen of 24 lines and the output that continues it, where the cursor is.
fn as_one_text(shown: &str) -> String {
    let (screen, rest) = shown.split_once("\x1b[m\x1b[").unwrap();
    let (cursor, output) = rest.split_once('H').unwrap();
    let (y, x) = cursor.split_once(';').unwrap();
    let (y, x): (usize, usize) = (y.parse().unwrap(), x.parse().unwrap());
    let lines: Vec<&str> = screen.split("\r\n").collect();
    let current = lines.len() - 24 + y - 1;
    format!("{}\r\n{:<width$}{output}", lines[..current].join("\r\n"), lines[current], width = x - 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_pane_of_the_operators_is_spliced_without_a_hole() {
    let mut world = World::new().await;
    let p = project("p");
    let _run = world.run(&p, "task-x", "exec sleep 1000").await;
    world.sh(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-p:",
        "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo n$i; done; cat",
    ]);
    let pane = world.report("the pane", opened).await;
    let channel = world.tmux.pane_channel(&p, pane).await.expect("a channel");
    let mut changes = channel.watch();
    let shown = in_time("the last line", async {
        loop {
            if let Read::Data { bytes, .. } = channel.read(Offset(0), RING).await
                && memchr::memmem::find(&bytes, b"n30000\r\n").is_some()
            {
                return String::from_utf8(bytes.to_vec()).unwrap();
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    let shown = as_one_text(&shown);
    let numbers: Vec<u32> = shown
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.strip_prefix('n')?.parse().ok())
        .collect();
    assert!(numbers.len() > 1, "{shown:?}");
    println!("the splice was at line {} of 30000", 30_000 - numbers.len());
    let whole = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(whole, "{:?}", numbers.windows(2).find(|pair| pair[1] != pair[0] + 1));
}

#[tokio::test]
async fn with_output_from_the_shim_all_works_and_nothing_comes_by_control() {
    let mut world = World::with(|it| it.tmux.output = TmuxOutput::Shim).await;
    let p = project("p");
    let mut task = world.run(&p, "task-x", "seq 1000; read x; echo end").await;
    task.until("some bytes", |channel| channel.live_end().0 >= lines(1000).len() as u64).await;
    world.sh(&["new-window", "-d", "-t", "=kaged-p:", "echo mine; cat"]);
    let pane = world.report("the pane", opened).await;
    let channel = world.tmux.pane_channel(&p, pane).await.expect("a channel");
    world.tmux.type_into(pane, Bytes::from_static(b"hello\r")).await.unwrap();
    let mut changes = channel.watch();
    in_time("the pane's output", async {
        loop {
            if let Read::Data { bytes, .. } = channel.read(Offset(0), RING).await
                && memchr::memmem::find_iter(&bytes, b"hello\r\n").count() == 2
            {
                return;
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(task.finish().await.0.ends_with(b"end\r\n"));
    assert_eq!(world.tmux.control_bytes(), 0);
}

/// A directory with a `tmux` that is a shell script.
fn fake(home: &Path, script: &str) {
    let path = home.join("tmux");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

fn fake_settings(home: &Path) -> Settings {
    let path = format!("{}:/usr/bin:/bin", home.display());
    let env = Env::from_vars([("PATH", path.as_str()), ("HOME", home.to_str().unwrap())]);
    Settings::new(&Config::default().task_runner, &env, home, 1000)
}

#[tokio::test]
async fn what_calls_itself_tmux_is_looked_at_first() {
    let home = tempfile::tempdir().unwrap();
    let why = |script: &str| {
        fake(home.path(), script);
        let settings = fake_settings(home.path());
        async move {
            match tmux::probe(&settings).await {
                Probe::Unusable { why } => why.split_once("tmux ").unwrap().1.to_owned(),
                Probe::Found { version } => format!("found {version}"),
                Probe::Missing => "missing".to_owned(),
            }
        }
    };
    assert_eq!(why("echo tmux 3.2a").await, "found 3.2a");
    assert_eq!(why("echo tmux next-3.8").await, "found next-3.8");
    assert_eq!(why("echo tmux 3.1c").await, "is tmux 3.1c, and 3.2 is the oldest that can be used");
    assert_eq!(why("exec sleep 1000").await, "did not answer within 2 s");
    assert_eq!(why("exec yes junk").await, "does not tell its version: it says more than 4194304 bytes");
    assert_eq!(why("exit 3").await, "does not tell its version: it ended without a word (exit status: 3)");
    let none = Env::from_vars([("PATH", "/nowhere")]);
    let none = Settings::new(&Config::default().task_runner, &none, home.path(), 1000);
    assert_eq!(tmux::probe(&none).await, Probe::Missing);
}

#[tokio::test]
async fn the_six_rows_of_the_table_with_real_programs() {
    let home = tempfile::tempdir().unwrap();
    fake(home.path(), "echo tmux 3.4");
    let yes = tmux::probe(&fake_settings(home.path())).await;
    let log = |choice, probe: &Probe| match tmux::resolve(choice, probe) {
        Ok(resolved) => resolved.log,
        Err(error) => error.to_string(),
    };
    assert_eq!(log(BackendChoice::Tmux, &yes), "task_runner: backend=tmux (tmux 3.4 found)");
    assert_eq!(log(BackendChoice::Auto, &yes), "task_runner: backend=tmux (auto-detected)");
    assert_eq!(log(BackendChoice::Pty, &yes), "task_runner: backend=pty (tmux available but not selected)");
    fake(home.path(), "echo tmux 2.9");
    let no = tmux::probe(&fake_settings(home.path())).await;
    assert!(log(BackendChoice::Tmux, &no).contains("install the package `tmux`"));
    assert_eq!(log(BackendChoice::Auto, &no), "task_runner: backend=pty (tmux not found)");
    assert_eq!(log(BackendChoice::Pty, &no), "task_runner: backend=pty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_holds_up_no_output_and_answers_are_not_waited_for() {
    let world = World::new().await;
    let p = project("p");
    let mut task = world.run(&p, "task-x", "read x; seq 1000; read x; echo end").await;
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let server = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    let whole = task.until("output past a stopped server", |channel| {
        channel.live_end().0 >= lines(1000).len() as u64 + 2
    });
    whole.await;
    assert!(matches!(world.tmux.ping().await, Err(BackendError::TmuxHangs(_))));
    assert!(world.tmux.serves_what_it_served().await);
    rustix::process::kill_process(server, rustix::process::Signal::CONT).unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(task.finish().await.0.ends_with(b"end\r\n"));
}

#[tokio::test]
async fn where_control_mode_does_not_work_runs_stream_from_their_shims() {
    // A tmux that is the real one, but for control mode.
    let home = tempfile::tempdir().unwrap();
    fake(home.path(), "for a in \"$@\"; do [ \"$a\" = -C ] && exit 1; done\nexec /usr/bin/tmux \"$@\"");
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let vars = [("PATH", path.as_str()), ("HOME", home.path().to_str().unwrap())];
    let env = Env::from_vars(vars.into_iter().chain([("TMUX_TMPDIR", home.path().to_str().unwrap())]));
    let settings = Settings::new(&Config::default().task_runner, &env, home.path(), 1000);
    let version = tmux::probe(&settings).await.version().unwrap();
    let (report, reports) = mpsc::channel(100);
    let mut world = World { home, tmux: Tmux::new(settings, version, report), reports };
    let mut task = world.run(&project("p"), "task-x", "echo all the same").await;
    assert_eq!(task.finish().await.0, b"all the same\r\n");
    world.report("the fallback", |report| matches!(report, Report::PipeFallback { .. }).then_some(())).await;
}

#[tokio::test]
async fn under_systemd_the_server_is_started_outside_the_daemons_unit() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("systemd-run");
    let log = home.path().join("asked");
    fs::write(&script, format!("#!/bin/sh\necho \"$*\" >>{}\nshift 5\nexec \"$@\"\n", log.display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let dir = home.path().to_str().unwrap();
    let path = format!("{dir}:/usr/bin:/bin");
    let vars = [("PATH", path.as_str()), ("HOME", dir), ("TMUX_TMPDIR", dir), ("INVOCATION_ID", "1")];
    let settings = Settings::new(&Config::default().task_runner, &Env::from_vars(vars), home.path(), 1000);
    let version = tmux::probe(&settings).await.version().unwrap();
    let (report, reports) = mpsc::channel(100);
    let world = World { home, tmux: Tmux::new(settings, version, report), reports };
    let mut task = world.run(&project("p"), "task-x", "echo scoped").await;
    assert_eq!(task.finish().await.0, b"scoped\r\n");
    let asked = fs::read_to_string(log).unwrap();
    assert!(asked.starts_with("--user --scope --quiet --collect -- /"), "{asked}");
    assert_eq!(asked.lines().filter(|line| line.starts_with("--user")).count(), 1, "{asked}");
}

#[tokio::test]
async fn a_client_let_go_earlier_does_not_hide_a_crash() {
    let mut world = World::new().await;
    let run = world.run(&project("a"), "task-x", "echo ready; exec sleep 1000").await;
    run.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["detach-client", "-s", "=kaged-a"]);
    world.report("the loss", |report| matches!(report, Report::ControlLost { .. }).then_some(())).await;
    assert!(world.tmux.serves_what_it_served().await);
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut record = run.record.clone();
    in_time("the end", record.wait_for(Option::is_some)).await.unwrap();
    assert!(!world.tmux.serves_what_it_served().await);
}
