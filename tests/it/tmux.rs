//! The tmux backend on a real tmux, each test with a server of its own.

mod operator;
mod probe;
mod trouble;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kas::backend::BackendError;
use kas::backend::tmux::{self, Followed, Probe, Report, Settings, Tmux, Window, WindowPlan};
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

    async fn find(&self, project: &ProjectId, instance: InstanceId) -> Option<Window> {
        let scan = self.tmux.scan().await.unwrap();
        self.tmux.adopt_window(project, instance, &scan).await
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
    followed: Followed,
    client: Client,
    channel: Arc<Channel>,
    record: watch::Receiver<Option<ExitRecord>>,
}

impl Task {
    async fn tie(tmux: &Tmux, dir: PathBuf, spec: Spec, window: Window) -> Self {
        let (client, mut events) = Client::connect(&dir, &spec.nonce, soon()).await.unwrap();
        let channel = Arc::new(Channel::new(Offset(0), spec.size, None, RING));
        let followed = tmux.follow(window.clone(), &spec.nonce, &channel, client.clone()).await.unwrap();
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
        Self { tmux: tmux.clone(), spec, window, followed, client, channel, record }
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
        in_time("the window", self.followed.shown()).await;
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
    assert_eq!(world.tmux.scan().await.unwrap().sessions, []);
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
    assert_eq!(world.tmux.scan().await.unwrap().sessions, []);
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
    assert_eq!(world.find(&p, task.spec.id).await, None);
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
    let found = world.find(&p, spec.id).await.expect("the window");
    assert_eq!((&found.session_name, &found.window_name), (&window.session_name, &window.window_name));
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
        task.followed.resize(size(n)).await.unwrap();
    }
    task.until("the size", |channel| channel.size() == size(49)).await;
    assert_eq!(
        world.sh(&["display-message", "-p", "-t", "=kaged-p:task-x", "#{window_width}x#{window_height}"]),
        "149x40"
    );
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
