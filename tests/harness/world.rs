//! A private home and the daemon in it.

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::done::{Done, ends_within};
use super::http::Caller;
use super::log::Log;
use super::{PATIENCE, Seen, Viewer, eventually, soon};

/// What tasks run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Pty,
    Tmux,
}

impl Backend {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pty => "pty",
            Self::Tmux => "tmux",
        }
    }
}

/// A home with one daemon, which may be ended and started again. Derefs to a caller over the control socket.
pub(crate) struct World {
    temp: tempfile::TempDir,
    caller: Caller,
    pub(crate) backend: Backend,
    daemon: Option<(Child, Log)>,
    /// What the next daemon finds in its environment besides the home.
    env: Vec<(String, String)>,
    /// The words before the next daemon's own command line, such as a tracer's.
    wrapper: Vec<String>,
    /// Whether a panic of a daemon is part of the test.
    may_panic: bool,
}

impl Deref for World {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl World {
    /// A home without a daemon, whose configuration is the backend and `more`.
    pub(crate) fn asleep(backend: Backend, more: &str) -> Self {
        let temp = tempfile::Builder::new().prefix("kas").tempdir().unwrap();
        let socket = temp.path().join("run/kasmos/kas.sock");
        let caller = Caller::Socket { socket, recordings: recordings(temp.path()) };
        let world = Self {
            temp,
            caller,
            backend,
            daemon: None,
            env: Vec::new(),
            wrapper: Vec::new(),
            may_panic: false,
        };
        for dir in ["run", "tmux"] {
            fs::create_dir(world.path(dir)).unwrap();
        }
        world.configure(more);
        world
    }

    /// A home with a daemon that answers.
    pub(crate) fn new(backend: Backend) -> Self {
        Self::with(backend, "")
    }

    pub(crate) fn with(backend: Backend, more: &str) -> Self {
        let mut world = Self::asleep(backend, more);
        world.start();
        world
    }

    /// Writes `daemon.toml`.
    pub(crate) fn configure(&self, more: &str) {
        let backend = self.backend.word();
        let text =
            format!("{more}\n[task_runner]\nbackend = \"{backend}\"\n[task_runner.tmux]\nconfig = \"min\"\n");
        self.write(".config/kasmos/daemon.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path(".local/state/kasmos")
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a shell script that can be run.
    pub(crate) fn program(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        program(&path, body);
        path
    }

    /// A command that knows no home but this one.
    pub(crate) fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.temp.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("LANG", "C.UTF-8");
        command.env("HOME", self.temp.path()).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("TMUX_TMPDIR", self.path("tmux"));
        command
    }

    pub(crate) fn kas_command(&self, words: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_kas"), words)
    }

    pub(crate) fn kas(&self, words: &[&str]) -> Done {
        Done::of(self.kas_command(words))
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> Done {
        Done::of(self.command("tmux", words))
    }

    // ---- the daemon

    /// Starts a daemon in the foreground and waits until it serves.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.logged("ready socket=");
    }

    /// Starts a daemon and says whether it serves; if not, it has ended, with what it said.
    pub(crate) fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        let log = self.daemon.as_ref().unwrap().1.clone();
        if log.wait("ready socket=").is_some() {
            return Ok(());
        }
        self.end(Signal::KILL);
        Err(log.text())
    }

    /// Starts a daemon that is not expected to serve.
    pub(crate) fn spawn(&mut self) {
        let words = [env!("CARGO_BIN_EXE_kas"), "daemon", "start", "--foreground", "--http", "127.0.0.1:0"];
        let words: Vec<&str> = self.wrapper.iter().map(String::as_str).chain(words).collect();
        let mut command = self.command(words[0], &words[1..]);
        command.envs(self.env.iter().cloned());
        // What a failing test prints can be made to say more.
        command.envs(std::env::var_os("KAS_LOG").map(|filter| ("KAS_LOG", filter)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        self.daemon = Some((child, log));
    }

    /// Gives daemons started from now on a variable.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable away from daemons started from now on.
    pub(crate) fn unset_env(&mut self, name: &str) {
        self.env.retain(|(other, _)| other != name);
    }

    /// Starts daemons from now on with these words before their own; [`Self::daemon_pid`] is then the wrapper's.
    pub(crate) fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Checks every invariant over what is there now, and fails the test with each one that does not hold.
    pub(crate) fn fsck(&self) {
        self.must_be_sound(&[]);
    }

    /// As [`Self::fsck`], where bytes may be missing that the disk did not take.
    pub(crate) fn fsck_after_full_disk(&self) {
        self.must_be_sound(&["--disk-was-full"]);
    }

    fn must_be_sound(&self, more: &[&str]) {
        let checked = self.checked(more);
        let violations = checked["violations"].as_array().unwrap();
        let said = |it: &Value| format!("{} {}: {}", it["invariant"], it["subject"], it["sentence"]);
        let all: Vec<_> = violations.iter().map(said).collect();
        assert!(all.is_empty(), "what was found does not hold together:\n{}", all.join("\n"));
    }

    /// What the checker says of this home and of what viewers were sent.
    pub(crate) fn checked(&self, more: &[&str]) -> Value {
        let streams = fs::read_dir(recordings(self.temp.path())).into_iter().flatten().flatten();
        let streams: Vec<_> = streams.map(|it| format!("--stream={}", it.path().display())).collect();
        let words = ["debug", "fsck", "--json"].iter().chain(more).copied();
        let words: Vec<_> = words.chain(streams.iter().map(String::as_str)).collect();
        let done = self.kas(&words);
        let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert!(report["violations"].is_array(), "{report}");
        assert_eq!(done.code, Some(i32::from(report["ok"] != true)), "{report}");
        report
    }

    /// A panic in a daemon's log is expected from now on; else it fails the test.
    pub(crate) fn expect_panics(&mut self) {
        self.may_panic = true;
    }

    fn no_panic(&self, log: &Log) {
        let text = log.text();
        let calm = self.may_panic || std::thread::panicking() || !text.contains("panicked at");
        assert!(calm, "the daemon panicked:\n{text}");
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.daemon_pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Ends the daemon with a signal.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let (mut child, log) = self.daemon.take().unwrap();
        let status = ended(&mut child);
        self.no_panic(&log);
        status
    }

    /// Waits for the daemon to end by itself.
    pub(crate) fn died(&mut self) -> ExitStatus {
        let (mut child, _) = self.daemon.take().unwrap();
        ended(&mut child)
    }

    /// Waits for the end of a daemon that was told to end; answers what it said in its life.
    pub(crate) fn gone(&mut self) -> (ExitStatus, String) {
        let (mut child, log) = self.daemon.take().unwrap();
        (ended(&mut child), log.whole())
    }

    /// Waits until a spawned daemon serves, or has ended; whether it serves.
    pub(crate) fn serves(&self) -> bool {
        self.daemon.as_ref().unwrap().1.tells("ready socket=")
    }

    /// Starts a daemon that is not expected to serve.
    pub(crate) fn start_in_vain(&mut self) -> (ExitStatus, String) {
        self.spawn();
        self.gone()
    }

    /// Waits for a line of the daemon's log.
    pub(crate) fn logged(&self, text: &str) -> String {
        self.daemon.as_ref().unwrap().1.wait_for(text)
    }

    /// The daemon's log so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().unwrap().1.text()
    }

    /// A caller over TCP with the daemon's own token.
    pub(crate) async fn over_tcp(&self) -> Caller {
        let token = fs::read_to_string(self.state_dir().join("token")).unwrap();
        self.with_token(token.trim().to_owned()).await
    }

    pub(crate) async fn with_token(&self, token: String) -> Caller {
        let status = self.get("/v1/status").await.expect(200);
        let recordings = self.caller.recordings().to_owned();
        Caller::Tcp { recordings, address: status["http_addr"].as_str().unwrap().to_owned(), token }
    }

    // ---- projects and runs

    /// Registers a project with this file and answers its id.
    pub(crate) async fn project(&self, name: &str, yaml: &str) -> String {
        self.write(&format!("{name}/.kaged/project.yaml"), yaml);
        self.add(&self.path(name)).await
    }

    pub(crate) async fn add(&self, path: &Path) -> String {
        let added = self.post("/v1/repos", json!({"path": path.to_str().unwrap()})).await.expect(201);
        added["project"].as_str().unwrap().to_owned()
    }

    /// Launches and answers the instance.
    pub(crate) async fn launch(&self, project: &str, request: Value) -> Value {
        self.post(&format!("/api/v1/projects/{project}/tasks/run"), request).await.expect(202)
    }

    pub(crate) async fn run_task(&self, project: &str, task: &str) -> String {
        id_of(&self.launch(project, json!({"task": task})).await)
    }

    pub(crate) async fn run_command(&self, project: &str, command: &str) -> String {
        id_of(&self.launch(project, json!({"command": command})).await)
    }

    pub(crate) async fn instance(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/tasks/{id}")).await.expect(200)
    }

    pub(crate) async fn stop(&self, id: &str) -> Value {
        self.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await.expect(200)
    }

    /// The bytes an instance wrote, as the API tells them, and the offset of the first.
    pub(crate) async fn transcript(&self, id: &str) -> (u64, bytes::Bytes) {
        let answer = self.get(&format!("/api/v1/tasks/{id}/transcript?format=raw")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.header("x-kas-start-offset").unwrap().parse().unwrap(), answer.body)
    }

    /// Waits until an instance is as wanted, looking again at every event.
    pub(crate) async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut events = self.events(None).await;
        soon(&format!("instance {id} being {what}"), async {
            loop {
                let instance = self.instance(id).await;
                if wanted(&instance) {
                    return instance;
                }
                events.next().await;
            }
        })
        .await
    }

    pub(crate) async fn until_running(&self, id: &str) -> Value {
        self.until(id, "running", |it| it["state"] == "running").await
    }

    pub(crate) async fn until_ended(&self, id: &str) -> Value {
        self.until(id, "ended", |it| !it["exited_at"].is_null()).await
    }

    /// Runs a command to its end and answers what a viewer saw and the instance.
    pub(crate) async fn outcome(&self, project: &str, command: &str) -> (Seen, Value) {
        let id = self.run_command(project, command).await;
        let seen = Viewer::open(self, project).await.whole(&id).await;
        (seen, self.until_ended(&id).await)
    }
}

/// Where the viewers of a home record what they are sent.
fn recordings(home: &Path) -> PathBuf {
    home.join("recordings")
}

/// Writes a shell script that can be run. Another process does it: what this one has open for writing, a child that another test just
/// forked has open too, and until that child has become something else nobody can run it (`ETXTBSY`).
pub(crate) fn program(path: &Path, body: &str) {
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{body}\n").unwrap();
    assert!(writer.wait().unwrap().success(), "{}", path.display());
}

pub(crate) fn id_of(instance: &Value) -> String {
    instance["id"].as_str().unwrap_or_else(|| panic!("no instance: {instance}")).to_owned()
}

/// Everything below a directory.
pub(crate) fn everything(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            everything(&path, found);
        }
        found.push(path);
    }
}

/// Waits for the end of a child.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    assert!(ends_within(&pidfd, PATIENCE), "process {} does not end", child.id());
    child.wait().unwrap()
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "what the daemon said belongs to a test's failure")]
    /// Ends what was started here and nothing else: the daemon, then every process that names this home.
    fn drop(&mut self) {
        let mut last = None;
        if let Some((mut child, log)) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("---- the daemon's log\n{}", log.text());
            }
            last = Some(log);
        }
        self.kill_all();
        if let Some(log) = last {
            self.no_panic(&log);
        }
    }
}

impl World {
    /// Kills everything of this home at once: shims, commands, tmux and all, as a power cut does. The daemon must have ended before.
    pub(crate) async fn kill_everything(&self) {
        tokio::task::block_in_place(|| {
            // Nobody is to see another one's end.
            for pidfd in self.processes() {
                let _ = pidfd_send_signal(&pidfd, Signal::STOP);
            }
            self.kill_all();
        });
    }

    fn kill_all(&self) {
        for _ in 0..100 {
            let ours = self.processes();
            if ours.is_empty() {
                break;
            }
            for pidfd in &ours {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
                ends_within(pidfd, Duration::from_secs(5));
            }
        }
    }
}

impl World {
    /// A named pipe, held open so that neither side waits for the other to open it.
    pub(crate) fn fifo(&self, name: &str) -> fs::File {
        let path = self.path(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    /// Waits until no instance directory is left, no shim, no ward, and no command that has `mark` in its environment.
    pub(crate) async fn nothing_is_held(&self, mark: &str) {
        let instances = self.state_dir().join("instances");
        eventually("an instance directory stays", || {
            let left: Vec<_> = fs::read_dir(&instances).into_iter().flatten().flatten().collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        eventually("a process stays", || {
            let held = self.held(mark);
            if held.is_empty() { Ok(()) } else { Err(held.join("\n")) }
        })
        .await;
    }

    /// The command lines of shims and wards, and of commands whose environment has `mark`.
    pub(crate) fn held(&self, mark: &str) -> Vec<String> {
        let instances = self.state_dir().join("instances");
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let held = entries.filter_map(|dir| {
            let words = fs::read(dir.join("cmdline")).unwrap_or_default();
            let env = fs::read(dir.join("environ")).unwrap_or_default();
            let has = |text: &[u8], part: &[u8]| memchr::memmem::find(text, part).is_some();
            let shim = has(&words, instances.as_os_str().as_encoded_bytes()) && !has(&words, b"new-windo");
            let command =
                has(&env, mark.as_bytes()) && has(&env, self.temp.path().as_os_str().as_encoded_bytes());
            let pid = dir.file_name()?.to_str()?.to_owned();
            (shim || command).then(|| format!("{pid}: {}", words.escape_ascii()))
        });
        held.collect()
    }

    /// Every process that has this home in its environment or its arguments, which no other can have.
    fn processes(&self) -> Vec<std::os::fd::OwnedFd> {
        let home = self.temp.path().as_os_str().as_encoded_bytes();
        let ours = |pid: Pid| {
            let dir = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
            let dead = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
            let named = |file: &str| {
                let text = fs::read(dir.join(file)).unwrap_or_default();
                memchr::memmem::find(&text, home).is_some()
            };
            !dead && (named("environ") || named("cmdline"))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        let others = pids.filter(|pid| pid.as_raw_nonzero().get().cast_unsigned() != std::process::id());
        // Opened before it is looked at, so that it is this process that is signalled.
        others.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok().filter(|_| ours(pid))).collect()
    }
}
