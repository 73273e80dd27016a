//! `kas` as people and scripts use it: the real binary, its words and its exit codes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

/// A private home with nothing in it.
struct Home {
    temp: tempfile::TempDir,
}

/// What a command came to.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Self {
        let home = Self { temp: tempfile::tempdir().unwrap() };
        home.write("run/.keep", "");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A project with these tasks, not registered.
    fn project(&self, name: &str, tasks: &str) -> PathBuf {
        self.write(&format!("{name}/.kaged/project.yaml"), tasks);
        self.path(name)
    }

    fn command(&self, dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kas"));
        command.args(words).current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.temp.path()).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("TMUX_TMPDIR", self.temp.path()).stdin(Stdio::null());
        command
    }

    fn kas_in(&self, dir: &Path, words: &[&str]) -> Done {
        let output = self.command(dir, words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn kas(&self, words: &[&str]) -> Done {
        self.kas_in(self.temp.path(), words)
    }

    fn socket(&self) -> PathBuf {
        fs::create_dir_all(self.path("run/kasmos")).unwrap();
        self.path("run/kasmos/kas.sock")
    }
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[test]
fn arguments_that_make_no_sense_are_2() {
    let home = Home::new();
    for line in [
        "",
        "nonsense",
        "run",
        "run a -- b",
        "run a --cwd x",
        "run a --cols 80",
        "run a --cols 0 --rows 1",
        "rm",
        "rm a --ended",
        "logs",
        "logs a --raw --json",
        "wait a --timeout -1",
        "attach",
        "daemon",
        "daemon nonsense",
        "token create --scope all",
        "ps --nonsense",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = home.kas(&words);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        let told = if words.contains(&"--json") { &done.stdout } else { &done.stderr };
        assert!(!told.is_empty(), "{line}: {done:?}");
    }
    let done = home.kas(&["ps", "--json", "--nonsense"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(2), ""));
    let error = done.json();
    assert_eq!((&error["ok"], &error["error"]["code"]), (&json!(false), &json!("invalid_request")));
    assert!(error["error"]["message"].as_str().unwrap().contains("--nonsense"));
}

#[test]
fn help_and_version_are_0_on_stdout() {
    let home = Home::new();
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["daemon", "start", "--help"],
        &["d", "--help"],
        &["--version"],
    ] {
        let done = home.kas(words);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(!done.stdout.is_empty() && !done.stdout.contains('\x1b'), "{done:?}");
    }
}

#[test]
fn without_a_daemon_every_question_to_it_is_5() {
    let home = Home::new();
    let project = home.project("p", "tasks: {test: {command: 'true'}}");
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for line in [
        "run test",
        "run -- ls -l",
        "ps",
        "ps -a",
        "logs test",
        "logs ID -f",
        "wait ID",
        "stop ID",
        "restart test",
        "rm ID",
        "rm --ended",
        "open",
        "projects",
        "token list",
        "token create",
        "token revoke x",
        "daemon status",
        "d status",
        "daemon stop",
        "daemon add .",
        "daemon remove .",
        "daemon reload",
    ] {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "ID" { id } else { word }).collect();
        let done = home.kas_in(&project, &words);
        assert_eq!(done.code, Some(5), "{line}: {done:?}");
        assert!((done.stdout.clone() + &done.stderr).contains("daemon not running"), "{line}: {done:?}");
        let json = home.kas_in(&project, &[&["--json"], &words[..]].concat());
        assert_eq!((json.code, json.stderr.as_str()), (Some(5), ""), "{line}: {json:?}");
        let error = &json.json()["error"];
        assert_eq!(
            (&error["code"], &error["details"]["reason"]),
            (&json!("unavailable"), &json!("not_running")),
            "{line}"
        );
    }
    // For `status` that is no failure but the answer.
    let status = home.kas(&["daemon", "status"]);
    assert_eq!((status.stdout.as_str(), status.stderr.as_str()), ("daemon not running\n", ""));
}

#[test]
fn a_project_is_needed_or_named() {
    let home = Home::new();
    for words in [&["run", "test"][..], &["logs", "test"], &["rm", "--ended"]] {
        let done = home.kas(words);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("--project"), "{done:?}");
    }
    assert_eq!(home.kas(&["run", "test", "--project", "Not An Id"]).code, Some(2));
    assert_eq!(home.kas(&["run", "test", "-p", "demo"]).code, Some(5));
    // What can be no task's name names nothing.
    assert_eq!(home.kas(&["logs", "No such", "-p", "demo"]).code, Some(3));
}

#[test]
fn check_and_schema_need_no_daemon() {
    let home = Home::new();
    let good = home.project("good", "tasks: {test: {command: 'true'}}");
    let bad = home.project("bad", "tasks: {test: {comand: 'true'}}");
    assert_eq!(home.kas_in(&good, &["check"]).code, Some(0));
    let done = home.kas_in(&bad, &["check"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(4), ""), "{done:?}");
    assert!(done.stderr.contains("comand"), "{done:?}");
    assert_eq!(home.kas_in(&bad, &["check", "--json"]).json()["ok"], false);
    assert_eq!(home.kas_in(&bad, &["--json", "check"]).json()["ok"], false);
    assert_eq!(home.kas(&["check"]).code, Some(3));
    assert!(home.kas(&["schema"]).json()["$schema"].is_string());
}

#[test]
fn attach_needs_a_terminal() {
    let done = Home::new().kas(&["attach", "test"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("kas logs -f"), "{done:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut child = home
        .command(home.temp.path(), &["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn stop_signals_nobody_it_cannot_prove() {
    let home = Home::new();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let file = home.write(".config/kasmos/daemon.pid", &format!("{}\n", bystander.id()));
    let done = home.kas(&["daemon", "stop"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&bystander.id().to_string()), "{done:?}");
    assert!(bystander.try_wait().unwrap().is_none(), "it was signalled");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    // The file of a process that is gone is removed.
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(5));
    assert!(!file.exists());
}

/// Answers one request with this, and gives back what was asked.
fn answering(home: &Home, status: &'static str, body: &'static str) -> JoinHandle<String> {
    let listener = UnixListener::bind(home.socket()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "the request broke off");
            request.extend_from_slice(&piece[..count]);
        }
        if !status.is_empty() {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        String::from_utf8(request).unwrap()
    })
}

#[test]
fn what_the_daemon_refuses_has_its_exit_code() {
    let check = |status: &'static str, body: &'static str, expect: i32| {
        let home = Home::new();
        let daemon = answering(&home, status, body);
        let done = home.kas(&["stop", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--json"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(expect), ""), "{status}: {done:?}");
        assert_eq!(done.json()["ok"], false);
        let request = daemon.join().unwrap();
        assert!(
            request.starts_with("GET /api/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV HTTP/1.1\r\n"),
            "{request}"
        );
        done.json()
    };
    let error = check(
        "404 Not Found",
        r#"{"error":{"code":"not_found","message":"no such run","details":{"a":1}}}"#,
        3,
    );
    assert_eq!(error["error"], json!({"code": "not_found", "message": "no such run", "details": {"a": 1}}));
    check("409 Conflict", r#"{"error":{"code":"conflict","message":"m","details":{}}}"#, 7);
    check("429 Too Many Requests", r#"{"error":{"code":"rate_limited","message":"m","details":{}}}"#, 7);
    check("403 Forbidden", r#"{"error":{"code":"forbidden","message":"m","details":{}}}"#, 8);
    check("503 Service Unavailable", r#"{"error":{"code":"unavailable","message":"m","details":{}}}"#, 5);
    check("500 Internal Server Error", "oops", 1);
    check("200 OK", "not json", 1);
    check("200 OK", r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, 1);
    check("", "", 5);
}

// ---- with a daemon

/// A home with a daemon, ended with it.
struct Daemon {
    home: Home,
}

const TASKS: &str = r#"
project: demo
tasks:
  hello: {command: "printf 'he\\033[31mllo\\033[0m\\033]0;title\\007\\n'"}
  seven: {command: "echo out; exit 7"}
  killed: {command: "kill -9 $$"}
  echo: {command: "while read -r line; do echo \"got $line\"; done"}
  ask: {command: "echo asked", confirm: true}
  lines: {command: "for i in 1 2 3 4 5; do echo line $i; done"}
"#;

impl Daemon {
    /// A daemon on this backend, not asked to serve HTTP beyond a free port.
    fn start(backend: &str) -> Self {
        let home = Home::new();
        let config = format!("http_addr = \"127.0.0.1:0\"\n[task_runner]\nbackend = \"{backend}\"\n");
        home.write(".config/kasmos/daemon.toml", &config);
        let daemon = Self { home };
        daemon.again();
        daemon
    }

    fn again(&self) {
        let done = self.home.kas(&["daemon", "start"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    fn demo(&self) -> PathBuf {
        self.home.project("demo", TASKS)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Runs outlive a daemon, so they are ended first; what is not there needs no ending.
        for run in self.home.kas(&["ps", "--json"]).json()["items"].as_array().into_iter().flatten() {
            self.home.kas(&["stop", run["id"].as_str().unwrap()]);
        }
        self.home.kas(&["daemon", "stop"]);
        let mut tmux = Command::new("tmux");
        tmux.arg("kill-server").env("TMUX_TMPDIR", self.home.temp.path()).env_remove("TMUX");
        tmux.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
}

#[test]
fn the_daemon_starts_once_and_stops() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let status = home.kas(&["daemon", "status", "--json"]).json();
    let pid = fs::read_to_string(home.path(".config/kasmos/daemon.pid")).unwrap();
    assert_eq!(pid.trim(), status["pid"].to_string());
    assert!(
        home.kas(&["d", "status"])
            .stdout
            .contains(&format!("http://{}", status["http_addr"].as_str().unwrap()))
    );
    let second = home.kas(&["daemon", "start", "--json"]);
    assert_eq!(second.code, Some(17), "{second:?}");
    assert!(second.json()["error"]["message"].as_str().unwrap().contains(pid.trim()));
    assert_eq!(home.kas(&["daemon", "start", "--foreground"]).code, Some(17));
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(0));
    assert!(!home.path(".config/kasmos/daemon.pid").exists());
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(5));
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(5));
}

#[test]
fn a_daemon_elsewhere_is_found_by_its_lock() {
    let home = Home::new();
    let socket = home.path("elsewhere/s");
    let config = format!("http_addr = \"\"\nsocket_path = \"{}\"\n", socket.display());
    let config = home.write("my.toml", &config);
    let started = home.kas(&["daemon", "start", "--config", config.to_str().unwrap()]);
    assert_eq!(started.code, Some(0), "{started:?}");
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(5));
    assert_eq!(home.kas(&["daemon", "status", "--socket", socket.to_str().unwrap()]).code, Some(0));
    let stopped = home.kas(&["daemon", "stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
}

#[test]
fn a_bad_configuration_is_4_and_told() {
    let home = Home::new();
    home.write(".config/kasmos/daemon.toml", "nonsense = 1\n");
    for words in [&["daemon", "start"][..], &["daemon", "start", "--foreground"]] {
        let done = home.kas(words);
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.stderr.contains("nonsense"), "{done:?}");
    }
    let details = &home.kas(&["daemon", "start", "--json"]).json()["error"]["details"];
    assert_eq!((&details["reason"], &details["problems"][0]["line"]), (&json!("config_invalid"), &json!(1)));
    assert_eq!(home.kas(&["daemon", "start", "--config", "/nowhere.toml"]).code, Some(3));
}

#[test]
fn a_bad_reload_is_told_and_changes_nothing() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    assert_eq!(home.kas(&["daemon", "reload"]).code, Some(0));
    home.write(".config/kasmos/daemon.toml", "http_addr = 7\n");
    let done = home.kas(&["daemon", "reload"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("http_addr"), "{done:?}");
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(0));
}

/// Everything one does with runs, on a backend.
fn a_day_with(backend: &str) {
    let daemon = Daemon::start(backend);
    let home = &daemon.home;
    let demo = daemon.demo();
    let kas = |line: &str| home.kas_in(&demo, &line.split(' ').collect::<Vec<_>>());
    // The first run registers the project and says so, not on stdout.
    let first = kas("run hello --wait");
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "hello\n"), "{first:?}");
    assert!(first.stderr.contains("registered project demo"), "{first:?}");
    assert_eq!(kas("projects --json").json()["items"][0]["id"], "demo");
    let seven = kas("run seven --wait");
    assert_eq!((seven.code, seven.stdout.as_str(), seven.stderr.as_str()), (Some(7), "out\n", ""));
    let killed = kas("run killed --wait --json");
    assert_eq!((killed.code, &killed.json()["signal"]), (Some(137), &json!("SIGKILL")));
    assert_eq!(kas("wait seven").code, Some(7));

    assert_eq!(kas("logs hello").stdout, "hello\n");
    assert_eq!(kas("logs hello --raw").stdout, "he\x1b[31mllo\x1b[0m\x1b]0;title\x07\r\n");
    kas("run lines --wait");
    assert_eq!(kas("logs lines -n 2").stdout, "line 4\nline 5\n");
    assert_eq!(kas("logs lines -f -n 1").stdout, "line 5\n");

    let run = kas("run echo --json").json();
    assert_eq!((&run["backend"], &run["task_name"]), (&json!(backend), &json!("echo")));
    assert!(kas("ps").stdout.contains(run["id"].as_str().unwrap()));
    assert_eq!(kas("ps --json").json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(kas("wait echo --timeout 0.05").code, Some(6));
    assert_eq!(kas("rm echo").code, Some(7), "it runs");
    let new = kas("restart echo --json").json();
    assert_eq!(new["restarted_from"], run["id"]);
    assert_eq!(kas("stop echo --json").json()["state"], "stopped");
    assert_eq!(kas("stop echo").code, Some(7), "it does not run");
    assert_eq!(kas(&format!("rm {}", new["id"].as_str().unwrap())).code, Some(0));
    assert_eq!(kas(&format!("logs {}", new["id"].as_str().unwrap())).code, Some(3));
    assert!(kas("rm --ended --json").json()["deleted"].as_u64().unwrap() > 0);
    assert_eq!(kas("ps -a --json").json(), json!({"items": []}));
    assert_eq!(kas("run nonsense").code, Some(3));
    assert_eq!(kas("daemon remove .").code, Some(0));
    assert_eq!(kas("logs hello").code, Some(3));
}

#[test]
fn a_day_with_the_pty() {
    a_day_with("pty");
}

#[test]
fn a_day_with_tmux() {
    a_day_with("tmux");
}

#[test]
fn what_was_typed_is_what_runs_and_where() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let demo = daemon.demo();
    fs::create_dir(demo.join("sub dir")).unwrap();
    let ran = |dir: &Path, words: &[&str]| {
        let done = home.kas_in(dir, &[&["run", "--wait"], words].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stdout
    };
    assert_eq!(ran(&demo, &["--", "printf", "%s|", "a b", "", "it's", "$HOME", "*"]), "a b||it's|$HOME|*|");
    assert_eq!(ran(&demo, &["--", "echo one && echo two"]), "one\ntwo\n");
    let sub = demo.join("sub dir");
    let shown = |path: &Path| format!("{}\n", path.canonicalize().unwrap().display());
    assert_eq!(ran(&sub, &["--", "pwd"]), shown(&sub));
    assert_eq!(ran(&sub, &["--cwd", "..", "--", "pwd"]), shown(&demo));
    assert_eq!(ran(&demo, &["--cwd", "sub dir", "--", "pwd"]), shown(&sub));
    assert_eq!(ran(&demo, &["--cols", "101", "--rows", "33", "--", "stty size"]), "33 101\n");
    let outside = home.kas_in(&demo, &["run", "--cwd", "/", "--", "pwd"]);
    assert_eq!(outside.code, Some(2), "{outside:?}");
}

#[test]
fn a_task_to_confirm_runs_only_with_a_yes() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let kas = |words: &[&str]| daemon.home.kas_in(&demo, words);
    let refused = kas(&["run", "ask", "--json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.json()["error"]["details"]["reason"], "confirm_required");
    assert_eq!(kas(&["ps", "-a", "--json"]).json(), json!({"items": []}));
    assert_eq!(kas(&["run", "ask", "--yes", "--wait"]).stdout, "asked\n");
}

#[test]
fn following_outlives_the_daemon() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let demo = daemon.demo();
    home.kas_in(
        &demo,
        &["run", "--", "echo begin; while ! test -e go; do sleep 0.05; done; echo end; exit 3"],
    );
    let items = home.kas_in(&demo, &["ps", "--json"]).json();
    let id = items["items"][0]["id"].as_str().unwrap();
    let follow = |words: &[&str]| {
        let mut command = home.command(&demo, words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (mut logs, wait) = (follow(&["logs", "-f", id]), follow(&["wait", id]));
    let mut begun = [0; 6];
    logs.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"begin\n");
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(0));
    daemon.again();
    fs::write(demo.join("go"), "").unwrap();
    let logs = logs.wait_with_output().unwrap();
    assert_eq!((logs.status.code(), logs.stdout.as_slice()), (Some(0), &b"end\n"[..]), "{logs:?}");
    assert!(String::from_utf8_lossy(&logs.stderr).contains("the daemon is away"), "{logs:?}");
    assert_eq!(wait.wait_with_output().unwrap().status.code(), Some(3));
}

// ---- on a terminal

/// A command on a terminal of its own, and what it showed.
struct Screen {
    master: fs::File,
    terminal: OwnedFd,
    child: Child,
    shown: String,
    /// Where the next wait begins to look.
    seen: usize,
}

impl Screen {
    fn run(mut command: Command, cols: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let terminal =
            ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .unwrap();
        tcsetwinsize(&master, Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        Self { master: master.into(), terminal, child, shown: String::new(), seen: 0 }
    }

    /// Reads once; false when nothing came in time.
    fn read(&mut self, within: Duration) -> bool {
        let timeout = Timespec::try_from(within).unwrap();
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout)).unwrap() == 0 {
            return false;
        }
        let mut piece = [0; 4096];
        let count = self.master.read(&mut piece).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        true
    }

    /// Waits until this is shown after what was waited for before.
    fn until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(self.read(Duration::from_secs(20)), "no {text:?} in {:?}", &self.shown[self.seen..]);
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn resize(&self, cols: u16, rows: u16) {
        tcsetwinsize(&self.master, Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        self.signal(Signal::WINCH);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, the last words read, and the terminal proven to be as it was.
    fn end(mut self, before: &Termios) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        while self.read(Duration::ZERO) {}
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(format!("{after:?}"), format!("{before:?}"), "the terminal was not restored");
        (code, std::mem::take(&mut self.shown))
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Only a test that failed leaves it running.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// Attaches to a run of `echo`; the modes are those from before kas changed them, as the new terminal of another command has them.
fn attached(daemon: &Daemon, demo: &Path, words: &[&str]) -> (Screen, Termios) {
    let plain = Screen::run(Command::new("true"), 80, 24).modes();
    let words = [&["attach"], words].concat();
    let mut screen = Screen::run(daemon.home.command(demo, &words), 80, 24);
    screen.until("Ctrl-\\ Ctrl-\\ leaves it running");
    (screen, plain)
}

fn attaching_to(backend: &str) {
    let daemon = Daemon::start(backend);
    let demo = daemon.demo();
    assert_eq!(daemon.home.kas_in(&demo, &["run", "echo"]).code, Some(0));
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.type_in("héllo\r");
    screen.until("got héllo");
    // One of the keys goes to the program; two leave it.
    screen.type_in("\x1c\x1c");
    screen.until("kas: detached");
    assert_eq!(screen.end(&before).0, Some(0));
    // It goes on, and shows what was there.
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.until("got héllo");
    screen.signal(Signal::TERM);
    screen.until("kas: detached");
    assert_eq!(screen.end(&before).0, Some(0));
    // Looking does not type.
    let (mut screen, before) = attached(&daemon, &demo, &["echo", "--view"]);
    screen.until("got héllo");
    screen.type_in("unheard\r\x1c\x1c");
    assert_eq!(screen.end(&before).0, Some(0));
    // The daemon's end is not the end, and what is typed meanwhile is not lost.
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.until("got héllo");
    assert_eq!(daemon.home.kas(&["daemon", "stop"]).code, Some(0));
    screen.until("the daemon is away");
    screen.type_in("meanwhile\r");
    daemon.again();
    screen.until("got héllo");
    screen.until("got meanwhile");
    screen.type_in("\x04");
    screen.until("kas: echo done (exit code 0)");
    let (code, shown) = screen.end(&before);
    assert_eq!(code, Some(0));
    assert!(!shown.contains("unheard"), "{shown:?}");
}

#[test]
fn attaching_on_the_pty() {
    attaching_to("pty");
}

#[test]
fn attaching_on_tmux() {
    attaching_to("tmux");
}

/// Waits until a run has written this.
fn written(daemon: &Daemon, id: &str, text: &str) {
    let mut command = daemon.home.command(daemon.home.temp.path(), &["logs", "-f", id]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains(text) {
        let count = follower.stdout.as_mut().unwrap().read(&mut piece).unwrap();
        assert!(count > 0, "it ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn the_terminal_gives_its_size_and_answers_only_live_questions() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let ask =
        "printf 'old \\033[6n\\n'; stty size; read x; stty size; printf 'new \\033[6n\\n'; read y; echo over";
    let run = daemon.home.kas_in(&demo, &["run", "--json", "--", ask]).json();
    let id = run["id"].as_str().unwrap();
    written(&daemon, id, "24 80");
    let (mut screen, before) = attached(&daemon, &demo, &[id]);
    screen.until("old \r\n24 80");
    screen.resize(100, 30);
    screen.type_in("\r");
    screen.until("30 100");
    screen.until("new \x1b[6n");
    screen.type_in("\r");
    screen.until("over");
    screen.until("done (exit code 0)");
    assert_eq!(screen.end(&before).0, Some(0));
}

#[test]
fn a_person_is_asked() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    for (answer, code, told) in [("n\r", Some(1), "cancelled"), ("y\r", Some(0), "started ask")] {
        let mut screen = Screen::run(daemon.home.command(&demo, &["run", "ask"]), 80, 24);
        let before = screen.modes();
        screen.until("ask runs: echo asked");
        screen.until("[y/N]");
        screen.type_in(answer);
        screen.until(told);
        assert_eq!(screen.end(&before).0, code);
    }
}
