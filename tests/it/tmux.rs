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
    Instant::now() + Duration::from_secs(20)
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
                match event {
                    Event::Output { offset, bytes } => drop(to.push(offset, bytes)),
                    Event::Resized(size) => to.set_size(size),
                    Event::Exited(record) => drop(ended.send_replace(Some(*record))),
                    _ => {}
                }
            }
        });
        Self { spec, window, client, channel, record }
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
        self.client.ack().await.unwrap();
        (self.bytes().await, record)
    }

    async fn bytes(&self) -> Vec<u8> {
        match self.channel.read(Offset(0), RING).await {
            Read::Data { bytes, .. } => bytes.to_vec(),
            Read::Wait => Vec::new(),
            other => panic!("{other:?}"),
        }
    }
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
