//! Disks that fill, databases that fail, descriptors and memory that run out.

mod damaged;
mod full;
mod kept;
mod limits;
mod locked;
mod sweep;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, World};

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
