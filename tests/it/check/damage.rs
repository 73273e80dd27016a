//! Real state directories, damaged by hand: what is wrong with each is found and called what it is.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

use super::violations;
use crate::harness::{Backend, Viewer, World};

const STRANGER: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn database(world: &World) -> Connection {
    Connection::open(world.state_dir().join("runner.db")).unwrap()
}

fn sql(world: &World, text: &str) {
    database(world).execute_batch(text).unwrap();
}

fn directory(world: &World, id: &str) -> PathBuf {
    world.state_dir().join("instances").join(id)
}

/// Each expectation, `I3 part of the sentence`, is met by a violation, and each violation meets one.
#[track_caller]
fn expect(found: &[String], expected: &[&str]) {
    let meets = |said: &String, wanted: &str| {
        let (code, part) = wanted.split_once(' ').unwrap();
        said.starts_with(&format!("{code} ")) && said.contains(part)
    };
    for wanted in expected {
        assert!(found.iter().any(|said| meets(said, wanted)), "nothing says {wanted:?} in {found:#?}");
    }
    for said in found {
        assert!(expected.iter().any(|wanted| meets(said, wanted)), "unexpected: {said}");
    }
}

/// Three ended runs that were watched, with their codes 3, 3 and 0.
async fn ended_runs(world: &World, project: &str) -> [String; 3] {
    let ids = [
        world.run_command(project, "echo the first run; exit 3").await,
        world.run_command(project, "echo the second run; exit 3").await,
        world.run_command(project, "echo the third run").await,
    ];
    for id in &ids {
        Viewer::open(world, project).await.whole(id).await;
        world.until_ended(id).await;
    }
    ids
}

fn flip_a_byte(world: &World, id: &str) {
    let database = database(world);
    let read = "SELECT transcript FROM task_transcripts WHERE task_id = ?1";
    let mut bytes: Vec<u8> = database.query_row(read, [id], |row| row.get(0)).unwrap();
    bytes[2] ^= 1;
    let write = "UPDATE task_transcripts SET transcript = ?2 WHERE task_id = ?1";
    assert_eq!(database.execute(write, (id, bytes)).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_records_are_found() {
    let mut world = World::new(Backend::Pty);
    let project = world.project("demo", "tasks: {}\n").await;
    let [changed, flipped, lost] = ended_runs(&world, &project).await;
    let id = world.run_command(&project, "true").await;
    world.until_ended(&id).await;
    world.end(Signal::TERM);
    world.fsck();
    flip_a_byte(&world, &flipped);
    let again = "INSERT INTO audit_events (at, kind, project_id, task_id, details)";
    sql(
        &world,
        &format!(
            "UPDATE task_instances SET exit_code = 4 WHERE id = '{changed}';
             {again} SELECT at, kind, project_id, task_id, details FROM audit_events
               WHERE task_id = '{changed}' AND kind = 'task.launched';
             PRAGMA foreign_keys = ON;
             DELETE FROM task_instances WHERE id = '{lost}';
             DELETE FROM audit_events WHERE id = 2;
             DROP TABLE idempotency_keys;
             CREATE TABLE idempotency_keys (operator TEXT, project_id TEXT, key TEXT, instance_id TEXT, created_at INTEGER);
             INSERT INTO idempotency_keys SELECT launched_by, project_id, 'k', id, launched_at FROM task_instances
               WHERE id IN ('{id}', '{flipped}');"
        ),
    );
    let found = violations(&world.checked(&[]));
    expect(
        &found,
        &[
            "I1 launched 2 times",
            "I1 2 runs were launched under one idempotency key",
            "I2 its end before its launch",
            "I4 tells another end of it than its row",
            "I4 was told failed with code 3",
            "I5 something else than is kept at byte 2",
            "I12 events are missing",
            "I12 more runs have ended and have no row",
        ],
    );
}

/// A process whose arguments are those of the shim of this directory.
fn second_shim(world: &World, id: &str) -> Child {
    let dir = directory(world, id);
    // It has more memory than a shim needs.
    world.write(
        "shim",
        "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo up; while :; do read line || exit; done\n",
    );
    let mut command = world.command("sh", &["shim", dir.to_str().unwrap()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lives_and_should_not_is_found() {
    let mut world = World::new(Backend::Pty);
    let project = world.project("demo", "tasks: {}\n").await;
    let ticks = "while :; do echo tick; sleep 0.01; done";
    let mut ids = Vec::new();
    for command in [ticks, ticks, "exec sleep 1000", "exec sleep 1001"] {
        let id = world.run_command(&project, command).await;
        world.until_running(&id).await;
        ids.push(id);
    }
    for id in &ids[..2] {
        let mut viewer = Viewer::open(&world, &project).await;
        let mut seen = viewer.watch(id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |it| it.bytes.len() > 200).await;
    }
    world.end(Signal::KILL);
    let mut second = second_shim(&world, &ids[3]);
    fs::remove_file(directory(&world, &ids[0]).join("seg.0")).unwrap();
    let segment = directory(&world, &ids[1]).join("seg.0");
    fs::File::options().write(true).open(segment).unwrap().write_all_at(b"X", 2).unwrap();
    fs::create_dir(world.state_dir().join("instances").join(STRANGER)).unwrap();
    fs::set_permissions(world.state_dir().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    world.write(".local/state/kasmos/daemon.log", "thread 'main' panicked at src/x.rs:1:2:\n");
    sql(
        &world,
        &format!(
            "UPDATE task_instances SET state = 'failed', error = 'shim_lost', exited_at = launched_at + 999999999,
               duration_ms = 999999999 WHERE id = '{}';
             INSERT INTO task_instances (id, project_id, command, cwd, state, backend, pid, launched_at, launched_by, definition)
               SELECT '01ARZ3NDEKTSV4RRFFQ69G5FAW', project_id, command, cwd, 'running', 'pty', 1, launched_at, launched_by, definition
               FROM task_instances LIMIT 1;",
            ids[2]
        ),
    );
    let found = violations(&world.checked(&[]));
    second.kill().unwrap();
    second.wait().unwrap();
    expect(
        &found,
        &[
            "I1 more than one shim of it lives",
            "I2 has no launch of it",
            "I2 has no end of it",
            "I3 it is over and its shim lives",
            "I3 it is over and its command lives",
            "I3 neither a process nor a directory",
            "I3 it has a directory and no row",
            "I5 its journal ends before bytes that its index knows",
            "I5 it was sent bytes that are not kept",
            "I5 it was sent something else than is kept at byte 2",
            "I8 token may be used by others",
            "I8 used by others",
            "I9 a shim holds more than 16384 KiB of memory",
            "I10 panicked at",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_working_daemon_leaves_undone_is_found() {
    let world = World::new(Backend::Tmux);
    let project = world.project("demo", "tasks: {}\n").await;
    let id = world.run_command(&project, "exec sleep 1000").await;
    world.until_running(&id).await;
    let rows = |id: &str, state: &str, pid: &str| {
        format!(
            "INSERT INTO task_instances (id, project_id, command, cwd, state, backend, pid, launched_at, launched_by, definition)
               SELECT '{id}', project_id, command, cwd, '{state}', 'pty', {pid}, launched_at, launched_by, definition
               FROM task_instances LIMIT 1;"
        )
    };
    sql(&world, &(rows(STRANGER, "starting", "NULL") + &rows("01ARZ3NDEKTSV4RRFFQ69G5FAX", "running", "1")));
    fs::create_dir(directory(&world, "01ARZ3NDEKTSV4RRFFQ69G5FAX")).unwrap();
    fs::set_permissions(directory(&world, "01ARZ3NDEKTSV4RRFFQ69G5FAX"), fs::Permissions::from_mode(0o700))
        .unwrap();
    let tmux = |words: &[&str]| assert_eq!(world.tmux(words).code, Some(0), "{words:?}");
    tmux(&["set-option", "-g", "@kas-project", "demo"]);
    tmux(&["new-window", "-d", "-t", "kaged-demo:9", "sleep 1000"]);
    tmux(&["set-option", "-p", "-t", "kaged-demo:9", "@kas-id", "01ARZ3NDEKTSV4RRFFQ69G5FAZ"]);
    let report = world.checked(&[]);
    expect(
        &violations(&report),
        &[
            "I2 it is running and the audit log has no launch of it",
            "I3 it is running and no process holds it",
            "I3 carries its id and no row knows it",
            "I10 it is starting and nothing is done for it",
            "I11 an option of kas's is set for the whole server",
        ],
    );
    assert_eq!((&report["runs"], &report["windows"]), (&json!(3), &json!(3)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_skips_repeats_or_mixes_is_found() {
    let world = World::new(Backend::Pty);
    let project = world.project("demo", "tasks: {}\n").await;
    let [first, second, _] = ended_runs(&world, &project).await;
    let of = |id: &str, rest: &str| format!("kas-stream 1 {id}\n{rest}");
    let cases = [
        (of(&first, "from 0\noutput 0 5\nthe f\noutput 6 7\nrst run\n"), "I5 bytes 5 to 6 are missing"),
        (of(&first, "from 0\noutput 0 5\nthe f\noutput 4 3\nfir\n"), "I5 bytes 4 to 5 came twice"),
        (of(&first, "from 0\noutput 0 16\nthe second run\r\n\n"), "I6 it was sent output of run"),
        (of(&second, "output 0 4\ntho \n"), "I5 something else than is kept at byte 2"),
        (of(&second, "output 14 5\nrun\r\n\n"), "I5 bytes that are not kept"),
        (of(&second, "from 16\nexit 16 failed 9\n"), "I4 was told failed with code 9"),
        (of(&second, "from 7\nexit 7 failed 3\n"), "I5 told an end at byte 7 of 16"),
    ];
    for (at, (text, _)) in cases.iter().enumerate() {
        world.write(&format!("recordings/planted-{at}.kas"), text);
    }
    let found = violations(&world.checked(&[]));
    for (at, (text, wanted)) in cases.iter().enumerate() {
        let (code, part) = wanted.split_once(' ').unwrap();
        let meets = |said: &&String| {
            said.starts_with(&format!("{code} "))
                && said.contains(&format!("planted-{at}.kas"))
                && said.contains(part)
        };
        assert!(found.iter().any(|said| meets(&said)), "{text:?} is not {wanted:?} in {found:#?}");
    }
    assert!(found.iter().all(|said| said.contains("planted-")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_checked_is_an_error_of_its_own() {
    let mut world = World::asleep(Backend::Pty, "");
    let done = world.kas(&["debug", "fsck"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("no state directory"), "{done:?}");
    world.start();
    world.end(Signal::TERM);
    let done = world.kas(&["debug", "fsck"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let last = done.stdout.lines().last().unwrap();
    assert_eq!(last, "0 runs, 0 directories, 0 windows checked: no violations", "{done:?}");
    assert!(done.stdout.contains("I7 not judged: "), "{done:?}");
    let read = |name: &str| fs::read(world.state_dir().join(name)).unwrap();
    let log = read("runner.db-wal");
    assert!(!log.is_empty());
    world.fsck();
    assert!(log == read("runner.db-wal"), "the log was changed");
    // Whoever closes the database last folds the log in; then there is none.
    sql(&world, "SELECT 1");
    let before = read("runner.db");
    world.fsck();
    assert!(!world.state_dir().join("runner.db-wal").exists());
    let stream = world.write("bad.kas", "no stream\n");
    let done = world.kas(&["debug", "fsck", "--stream", stream.to_str().unwrap()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("bad.kas, byte 0"), "{done:?}");
    assert_eq!(world.kas(&["debug", "fsck", "--stream", "none.kas"]).code, Some(3));
    assert!(before == read("runner.db"), "the database was changed");
    sql(&world, "PRAGMA user_version = 99");
    let done = world.kas(&["debug", "fsck", "--state-dir", world.state_dir().to_str().unwrap()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("it has schema 99"), "{done:?}");
}
