//! What a task finds in its environment, and what a tmux server and a holder are started with, as the kernel tells it to everybody who asks.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Backend, World, eventually};

/// Secrets, sockets that act for the operator, and what is true for the daemon alone.
const SECRET: [&[&str]; 2] = [&NEVER, &DECLARABLE];
const DECLARABLE: [&str; 9] = [
    "SSH_AUTH_SOCK",
    "SSH_ORIGINAL_COMMAND",
    "DBUS_SESSION_BUS_ADDRESS",
    "GITHUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "BASH_ENV",
    "LD_LIBRARY_PATH",
    "PYTHONSTARTUP",
    "http_proxy",
];
/// What cannot be had by declaring it.
const NEVER: [&str; 7] = [
    "KAS_SECRET",
    "KAS_LOG",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

fn environ(pid: &str) -> BTreeMap<String, String> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pairs = text.split('\0').filter_map(|it| it.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A command's environment; while it executes its program it has none.
async fn environ_of_command(pid: &str) -> BTreeMap<String, String> {
    let some = || if environ(pid).is_empty() { Err(pid.to_owned()) } else { Ok(()) };
    eventually("an environment", some).await;
    environ(pid)
}

fn armed(world: &mut World) {
    for name in SECRET.concat() {
        let value = if name == "KAS_LOG" { "info" } else { "secret" };
        world.set_env(name, value);
    }
    // Where nothing listens, and within the rules of sd_notify(3).
    world.set_env("NOTIFY_SOCKET", "/nonexistent/secret");
    world.set_env("WATCHDOG_USEC", "9000000");
    world.set_env("LC_TIME", "C.UTF-8");
}

/// Every process that runs for the task: shim, ward and command, by the instance's directory or the task's own variable.
fn processes(world: &World, id: &str, pid: &str) -> Vec<String> {
    let dir = world.state_dir().join("instances").join(id);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let ours = memchr::memmem::find(&words, dir.as_os_str().as_encoded_bytes()).is_some();
        ours.then(|| entry.file_name().into_string().unwrap())
    });
    found.chain([pid.to_owned()]).collect()
}

async fn nothing_leaks(backend: Backend) {
    for declared in [false, true] {
        let more = if declared { "[task_runner]\npass_env = [\"*\"]" } else { "" };
        let mut world = World::asleep(backend, "");
        let config = fs::read_to_string(world.path(".config/kasmos/daemon.toml")).unwrap();
        let config = if declared { config.replace("[task_runner]", more) } else { config };
        world.write(".config/kasmos/daemon.toml", config);
        armed(&mut world);
        world.start();
        let project = world.project("demo", r#"{"project": "demo", "tasks": {"own": {"command": "exec sleep 1000", "env": {"GITHUB_TOKEN": "of the file", "EMPTY": ""}}}}"#).await;
        for launch in [json!({"command": "exec sleep 1000 # canary"}), json!({"task": "own"})] {
            let by_file = launch.get("task").is_some();
            let run = world.launch(&project, launch).await;
            let id = run["id"].as_str().unwrap();
            let pid = world.until_running(id).await["pid"].to_string();
            let all = processes(&world, id, &pid);
            assert!(all.len() >= 3, "{all:?}");
            for process in &all {
                let words = fs::read(format!("/proc/{process}/cmdline")).unwrap();
                assert!(
                    memchr::memmem::find(&words, b"canary").is_none(),
                    "a command in a list of processes"
                );
                let is_task = *process == pid;
                let found = if is_task { environ_of_command(process).await } else { environ(process) };
                let leaks = |name: &&str| {
                    found.contains_key(*name) && !(by_file && is_task && *name == "GITHUB_TOKEN")
                };
                let forbidden = if declared && is_task { NEVER.to_vec() } else { SECRET.concat() };
                let leaked: Vec<_> = forbidden.iter().filter(|name| leaks(name)).collect();
                assert!(
                    leaked.is_empty(),
                    "{backend:?} {declared} process {process}: {leaked:?} of {found:?}"
                );
            }
            let task = environ_of_command(&pid).await;
            for name in ["PATH", "HOME", "LANG", "LC_TIME", "TERM"] {
                assert!(task.contains_key(name), "{name} in {task:?}");
            }
            assert_eq!(task.get("SSH_AUTH_SOCK").map(String::as_str), declared.then_some("secret"));
            if by_file {
                assert_eq!((task["GITHUB_TOKEN"].as_str(), task["EMPTY"].as_str()), ("of the file", ""));
            }
        }
        if backend == Backend::Tmux {
            let server = world.tmux(&["display-message", "-p", "#{pid}"]).stdout;
            let found = environ(server.trim());
            let leaked: Vec<_> =
                SECRET.concat().into_iter().filter(|name| found.contains_key(*name)).collect();
            assert!(leaked.is_empty() && found.contains_key("PATH"), "{found:?}");
            let global = world.tmux(&["show-environment", "-g"]).stdout;
            assert!(!global.contains("secret") && global.contains("LC_TIME=C.UTF-8"), "{global}");
        }
        assert!(world.end(Signal::TERM).success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_on_the_pty() {
    nothing_leaks(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_on_tmux() {
    nothing_leaks(Backend::Tmux).await;
}
