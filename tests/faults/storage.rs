//! Disks that fill, databases that fail, descriptors and memory that run out.

mod damaged;
mod full;
mod kept;
mod limits;
mod locked;
mod sweep;
mod unread;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, World, eventually};

/// How long after a fault everything may still be away.
pub(crate) const RECOVERY: Duration = Duration::from_secs(2);

/// The database of a world, opened by another program.
pub(crate) fn outsider(world: &World) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(world.state_dir().join("runner.db")).unwrap();
    conn.busy_timeout(PATIENCE).unwrap();
    conn
}

pub(crate) fn integrity(path: &Path) -> String {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Who traces a process or thread, 0 for nobody.
pub(crate) fn tracer_of(place: &Path) -> u32 {
    let status = std::fs::read_to_string(place.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.map_or(0, |pid| pid.trim().parse().unwrap())
}

/// Lets strace take hold of every thread of a process, with these words before it.
pub(crate) async fn strace(process: u32, words: &[&str], log: &Path) -> tokio::process::Child {
    let mut tracer = tokio::process::Command::new("strace");
    tracer.args(words).args(["-qq", "-p", &process.to_string(), "-o"]).arg(log);
    let tracer = tracer.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let threads = format!("/proc/{process}/task");
    eventually("strace at every thread", || {
        let loose = std::fs::read_dir(&threads).unwrap().flatten().filter(|it| tracer_of(&it.path()) == 0);
        let loose: Vec<_> = loose.map(|it| it.file_name()).collect();
        if loose.is_empty() { Ok(()) } else { Err(format!("{loose:?}")) }
    })
    .await;
    tracer
}

/// What an ended run's record says is missing of its output, as `[from, to]` ranges; null when nothing is.
pub(crate) async fn missing(world: &World, id: &str) -> Value {
    let events = world.get("/api/v1/audit-events?kind=task.exited").await.expect(200);
    let events = events["items"].as_array().unwrap();
    let told = events.iter().find(|it| it["task_id"] == id).unwrap_or_else(|| panic!("{events:?}"));
    if told["missing"].is_null() { told["details"]["missing"].clone() } else { told["missing"].clone() }
}

/// Asks for a launch once.
pub(crate) async fn try_launch(world: &World, command: &str) -> crate::harness::Answer {
    world.post("/api/v1/projects/demo/tasks/run", json!({"command": command})).await
}

/// Launches as soon as the daemon can again, and says how long that took.
pub(crate) async fn launched_again(world: &World, command: &str) -> (Value, Duration) {
    let began = Instant::now();
    loop {
        let answer = try_launch(world, command).await;
        if answer.status == 202 {
            return (answer.json(), began.elapsed());
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(began.elapsed() < PATIENCE, "it does not recover: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
