//! A private home with a `kas`, and a daemon that ends with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Done;

/// A private home with nothing in it.
pub(super) struct Home {
    pub(super) temp: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        let home = Self { temp: tempfile::tempdir().unwrap() };
        home.write("run/.keep", "");
        home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A project with these tasks, not registered.
    pub(super) fn project(&self, name: &str, tasks: &str) -> PathBuf {
        self.write(&format!("{name}/.kaged/project.yaml"), tasks);
        self.path(name)
    }

    pub(super) fn command(&self, dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kas"));
        command.args(words).current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.temp.path()).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("TMUX_TMPDIR", self.temp.path()).stdin(Stdio::null());
        command
    }

    pub(super) fn kas_in(&self, dir: &Path, words: &[&str]) -> Done {
        Done::of(self.command(dir, words))
    }

    pub(super) fn kas(&self, words: &[&str]) -> Done {
        self.kas_in(self.temp.path(), words)
    }

    pub(super) fn socket(&self) -> PathBuf {
        fs::create_dir_all(self.path("run/kasmos")).unwrap();
        self.path("run/kasmos/kas.sock")
    }
}

/// A home with a daemon, ended with it.
pub(super) struct Daemon {
    pub(super) home: Home,
}

pub(super) const TASKS: &str = r#"
project: demo
tasks:
  hello: {command: "printf 'he\\033[31mllo\\033[0m\\033]0;title\\007\\n'"}
  seven: {command: "echo out; exit 7"}
  killed: {command: "kill -9 $$"}
  echo: {command: "echo ready; while read -r line; do echo \"got $line\"; done"}
  ask: {command: "echo asked", confirm: true}
  lines: {command: "for i in 1 2 3 4 5; do echo line $i; done"}
"#;

impl Daemon {
    /// A daemon on this backend, not asked to serve HTTP beyond a free port.
    pub(super) fn start(backend: &str) -> Self {
        let home = Home::new();
        let config = format!("http_addr = \"127.0.0.1:0\"\n[task_runner]\nbackend = \"{backend}\"\n");
        home.write(".config/kasmos/daemon.toml", &config);
        let daemon = Self { home };
        daemon.again();
        daemon
    }

    pub(super) fn again(&self) {
        let done = self.home.kas(&["daemon", "start"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// The daemon, halted by a signal until this is dropped.
    pub(super) fn halt(&self) -> Halted {
        let status = self.home.kas(&["daemon", "status", "--json"]).json();
        let pid = Pid::from_raw(i32::try_from(status["pid"].as_i64().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Halted(pid)
    }

    pub(super) fn demo(&self) -> PathBuf {
        self.home.project("demo", TASKS)
    }
}

pub(super) struct Halted(Pid);

impl Halted {
    pub(super) fn pid(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
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
