//! tmux dies, hangs, lies, or is steered by its operator.

mod exits;
mod fake;
mod fallback;
mod operator;
mod server;
mod settings;
mod stream;

use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::harness::{Frame, Seen, Viewer, World, promised, soon};

const NO_TASKS: &str = "project: demo\ntasks: {}";

/// Room for everything that a test starts.
const ROOMY: &str =
    "[limits]\ntasks_per_project = 100\ntasks_per_operator = 200\ntranscript_bytes = 67108864";

/// The server that holds the project's session.
fn server_of(world: &World, project: &str) -> Pid {
    let said = world.tmux(&["display-message", "-p", "-t", &format!("=kaged-{project}:"), "#{pid}"]);
    Pid::from_raw(said.stdout.trim().parse().unwrap_or_else(|_| panic!("no server: {said:?}"))).unwrap()
}

/// Ends a process with a signal and waits until it has ended.
fn end(pid: Pid, signal: Signal) {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&pidfd, signal).unwrap();
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
}

/// The control client of a project's session.
fn control_client(world: &World, project: &str) -> Option<Pid> {
    let format = "#{client_control_mode} #{client_session} #{client_pid}";
    let all = world.tmux(&["list-clients", "-F", format]).stdout;
    let wanted = format!("1 kaged-{project} ");
    all.lines().find_map(|line| Pid::from_raw(line.strip_prefix(&wanted)?.parse().ok()?))
}

/// Waits, looking again and again, for something no event tells.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// The processes of this world with this word in their command line.
fn processes(world: &World, word: &str) -> BTreeSet<u32> {
    let home = world.path("");
    let home = home.to_str().unwrap().trim_end_matches('/').as_bytes();
    let has = |pid: u32, file: &str, text: &[u8]| {
        let found = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        memchr::memmem::find(&found, text).is_some()
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| has(pid, "environ", home) && has(pid, "cmdline", word.as_bytes())).collect()
}

/// How a run ended, in three words of its row.
fn end_of(run: &Value) -> Value {
    json!([run["state"], run["exit_code"], run["error"]])
}

/// The audited events of a kind.
async fn audited(world: &World, kind: &str) -> Vec<Value> {
    let told = world.get(&format!("/api/v1/audit-events?kind={kind}&limit=500")).await.expect(200);
    told["items"].as_array().unwrap().clone()
}

/// The next event of a kind on a viewer's events channel.
async fn event(viewer: &mut Viewer, kind: &str) -> Value {
    loop {
        if let Frame::Text(text) = viewer.next().await
            && text["event"] == kind
        {
            return text;
        }
    }
}

/// A viewer that listens to events from now on.
async fn listener(world: &World) -> Viewer {
    let mut viewer = Viewer::open(world, "demo").await;
    viewer.say(&json!({"type": "subscribe", "channel": "events"})).await;
    viewer.text("subscribed").await;
    viewer
}

/// Proves that the control client works: only it tells of panes that are opened by hand.
async fn control_works(world: &World, project: &str) {
    let mut events = world.events(None).await;
    let made = world.tmux(&[
        "new-window",
        "-d",
        "-P",
        "-F",
        "#{pane_id}",
        "-t",
        &format!("=kaged-{project}:"),
        "cat",
    ]);
    let pane = made.stdout.trim().to_owned();
    let number: u32 = pane.trim_start_matches('%').parse().unwrap_or_else(|_| panic!("{made:?}"));
    while events.next().await.2["pane"] != number {}
    world.tmux(&["kill-pane", "-t", &pane]);
}

/// Types a line into a run.
async fn type_line(viewer: &mut Viewer, seen: &Seen) {
    viewer.type_in(seen.handle(), b"\r").await;
}

/// What is not kas's, beside it: another tmux server with a session that could be a project's, and a process.
struct Bystanders {
    process: Child,
    panes: String,
}

/// What tells a pane and whether it still runs what it ran.
const PANES: [&str; 4] =
    ["list-panes", "-a", "-F", "#{pid} #{session_name} #{pane_id} #{pane_pid} #{pane_dead}"];

impl Bystanders {
    fn of(world: &World) -> Self {
        for name in ["kaged-demo", "kaged-ab"] {
            let made = world.tmux(&["-L", "bystander", "new-session", "-d", "-s", name, "exec sleep 10000"]);
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        let process = world.command("sleep", &["10001"]).spawn().unwrap();
        Self { process, panes: Self::panes(world) }
    }

    fn panes(world: &World) -> String {
        let words: Vec<&str> = ["-L", "bystander"].into_iter().chain(PANES).collect();
        world.tmux(&words).stdout
    }

    /// Ends the test: everything that is not kas's is as it was, and everything of kas's is in order.
    fn check(mut self, world: &World) {
        assert_eq!(Self::panes(world), self.panes, "another server was touched");
        assert_eq!(self.process.try_wait().unwrap(), None, "another process was ended");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        world.fsck();
    }
}
