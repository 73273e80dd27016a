//! Databases that are not what they should be: refused with what to do, and what runs is still found.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{integrity, outsider};
use crate::harness::{Backend, World};
use crate::process::lives;

/// Everything in the state directory that a refusal must not touch.
fn bytes_of(path: &Path) -> Vec<u8> {
    if path.is_dir() { Vec::new() } else { fs::read(path).unwrap() }
}

/// A daemon that does not start says in one line why and what to do, exits with 1, and changes nothing; what runs, runs on and is listed.
async fn refused(what: &str, damage: impl Fn(&Path), says: &str) {
    let mut world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let (_, _) = world.outcome("demo", "echo kept; exit 3").await;
    let id = world.run_command("demo", "echo up; exec sleep 1000").await;
    let command = world.until_running(&id).await["pid"].as_u64().unwrap();
    world.end(Signal::KILL);
    let database = world.state_dir().join("runner.db");
    damage(&database);
    let before = bytes_of(&database);
    let started = world.kas(&["daemon", "start", "--foreground", "--http", "127.0.0.1:0"]);
    println!("F61 {what}: {}", started.stderr.lines().last().unwrap_or_default());
    assert_eq!(started.code, Some(1), "{what}: {started:?}");
    assert!(started.stderr.contains(says) && started.stderr.contains("runner.db"), "{what}: {started:?}");
    assert!(
        started.stderr.contains("kas debug salvage"),
        "{what} does not say what to do: {}",
        started.stderr
    );
    assert!(!started.stderr.contains("panicked"), "{}", started.stderr);
    assert!(bytes_of(&database) == before, "{what}: the file was changed");
    assert!(lives(command), "{what}: the command was ended");
    let salvage = world.kas(&["debug", "salvage", "--json"]);
    assert_eq!(salvage.code, Some(0), "{salvage:?}");
    let listed: Value = serde_json::from_str(&salvage.stdout).unwrap();
    let listed = listed["items"].as_array().unwrap();
    let found = listed.iter().find(|it| it["id"] == id.as_str()).unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!((&found["state"], &found["command"]), (&json!("running"), &json!("echo up; exec sleep 1000")));
    assert_eq!((&found["start_offset"], &found["end_offset"]), (&json!(0), &json!(4)));
    let words = world.kas(&["debug", "salvage"]);
    assert!(words.stdout.contains(&id) && words.stdout.contains("running"), "{words:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_nothing_is_refused() {
    let empty = |path: &Path| {
        let _ = fs::remove_file(path.with_extension("db-wal"));
        fs::write(path, b"").unwrap();
    };
    refused("0 bytes", empty, "damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_a_directory_is_refused() {
    let directory = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    refused("a directory", directory, "not a plain file").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_a_bad_page_is_refused() {
    let page = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let root: i64 = conn
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'task_instances'", [], |row| {
                row.get(0)
            })
            .unwrap();
        conn.close().unwrap();
        let mut bytes = fs::read(path).unwrap();
        let root = usize::try_from(root).unwrap();
        bytes[(root - 1) * 4096..root * 4096].fill(0xA5);
        fs::write(path, bytes).unwrap();
    };
    refused("a bad page", page, "damaged").await;
}

/// A log that was cut anywhere is a shorter log: the daemon starts with what is left, and what runs is finished from its directory.
/// A missing index of the log is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_log_and_a_missing_index_are_no_obstacle() {
    let cuts = if crate::long() { 16 } else { 3 };
    for cut in 0..cuts {
        let mut world = World::new(Backend::Pty);
        world.project("demo", "project: demo\ntasks: {}").await;
        // What came before the cut is in the database itself.
        outsider(&world).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let (_, done) = world.outcome("demo", "echo kept; exit 3").await;
        world.end(Signal::KILL);
        let database = world.state_dir().join("runner.db");
        let log = database.with_extension("db-wal");
        let len = fs::metadata(&log).unwrap().len();
        fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(len * cut / cuts).unwrap();
        fs::remove_file(database.with_extension("db-shm")).unwrap();
        world.start();
        let found = world.get(&format!("/api/v1/tasks/{}", done["id"].as_str().unwrap())).await;
        assert!(matches!(found.status, 200 | 404), "{found:?}");
        if found.status == 200 && !found.json()["exited_at"].is_null() {
            assert!(found.json()["exit_code"] == 3 || !found.json()["error"].is_null(), "{found:?}");
        }
        assert_eq!(world.outcome("demo", "exit 4").await.1["exit_code"], 4);
        world.end(Signal::TERM);
        assert_eq!(integrity(&database), "ok");
    }
}
