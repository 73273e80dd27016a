//! The database of another version, and one that could not be made.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kas::store::Store;
use rusqlite::Connection;
use rustix::process::Signal;

use crate::harness::{Backend, World};

/// Every file of the database, byte for byte.
fn files(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(world.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let database = entries.filter(|path| path.to_str().unwrap().contains("runner.db"));
    database.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_database_of_a_newer_kas_is_refused_byte_for_byte() {
    let mut world = World::new(Backend::Pty);
    assert!(world.end(Signal::TERM).success());
    let path = world.state_dir().join("runner.db");
    let database = Connection::open(&path).unwrap();
    let known: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    database.close().unwrap();
    let before = files(&world);
    for words in [&["daemon", "start"][..], &["daemon", "start", "--foreground"]] {
        let refused = world.kas(words);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let told = refused.stderr.lines().last().unwrap();
        assert!(
            told.starts_with("kas: ") && told.contains("schema 99") && told.contains("newer kas"),
            "{told}"
        );
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert_eq!(files(&world), before);
    }
    // The newer one put it back: all is as it was.
    let database = Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", known).unwrap();
    database.close().unwrap();
    world.start();
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}

/// What a database that was made without a disturbance looks like.
fn schema(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let whole: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let mut rows =
        database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// SIGKILL at each write, sync and rename in turn, until a daemon gets through: a database is there whole, or not at all.
#[test]
fn killed_while_it_makes_the_database_it_makes_it_anew() {
    let whole = World::asleep(Backend::Pty, "");
    let made = whole.path("runner.db");
    drop(Store::open(&made).unwrap());
    let expect = schema(&made);
    let stride = if crate::long() { 1 } else { 4 };
    for (calls, stride) in [("pwrite64", stride), ("fsync,fdatasync", 1), ("rename,renameat,renameat2", 1)] {
        let mut survived = 0;
        let mut killed = 0;
        for n in (1..400).step_by(stride) {
            let mut world = World::asleep(Backend::Pty, "");
            let inject = format!("inject={calls}:signal=KILL:when={n}");
            let trace = format!("trace={calls}");
            world.wrap(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
            world.spawn();
            if !world.serves() {
                let (status, _) = world.gone();
                assert!(!status.success(), "{calls} {n}");
                killed += 1;
            } else {
                survived += 1;
                world.kas(&["daemon", "stop"]);
                world.gone();
            }
            let path = world.state_dir().join("runner.db");
            if path.exists() {
                assert_eq!(schema(&path), expect, "{calls} {n}");
            }
            drop(Store::open(&path).unwrap_or_else(|error| panic!("{calls} {n}: {error}")));
            assert_eq!(schema(&path), expect, "{calls} {n}");
            // Enough is seen when the start is over before the call that would have been the last.
            if survived > 0 {
                break;
            }
        }
        assert!(killed > 0 && survived > 0, "{calls}: {killed} killed, {survived} not");
    }
}

const V1: &str = include_str!("../../../src/store/v1.sql");
/// The mark of kas's databases.
const MARK: i32 = 0x6b61_7372;

/// A database of schema 1 with a project in it.
fn of_version_1(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database.pragma_update(None, "application_id", MARK).unwrap();
    database.execute_batch(V1).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    database.execute("INSERT INTO projects VALUES ('demo', '/nowhere', 1)", []).unwrap();
    database.close().map_err(|(_, error)| error).unwrap();
}

/// SIGKILL at each write, sync and rename, and no space from each write on, while a database of the schema before is brought up to date: it is of
/// the one schema or of the other, what is in it stays, and of the new one there is a copy as it was.
#[test]
fn a_migration_that_is_cut_anywhere_leaves_the_old_schema_or_the_new_one() {
    let whole = World::asleep(Backend::Pty, "");
    let (old, new) = (whole.path("old.db"), whole.path("new.db"));
    of_version_1(&old);
    drop(Store::open(&new).unwrap());
    let (old, new) = (schema(&old), schema(&new));
    assert_ne!(old, new);
    let stride = if crate::long() { 1 } else { 3 };
    let cuts = [
        ("pwrite64", "signal=KILL:when=", "", stride),
        ("fsync,fdatasync", "signal=KILL:when=", "", 1),
        ("rename,renameat,renameat2", "signal=KILL:when=", "", 1),
        ("pwrite64", "error=ENOSPC:when=", "+", stride),
    ];
    for (calls, fault, more, stride) in cuts {
        let (mut cut, mut found) = (0, [0, 0]);
        for n in (1..1000).step_by(stride) {
            let mut world = World::asleep(Backend::Pty, "");
            let path = world.state_dir().join("runner.db");
            of_version_1(&path);
            let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{fault}{n}{more}"));
            world.wrap(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
            world.spawn();
            let survived = world.serves();
            let said = if survived { String::new() } else { world.gone().1 };
            world.wrap(&[]);
            cut += usize::from(!survived);
            let what = format!("{calls} {n}: {said}");
            assert!(more.is_empty() || survived || said.contains("kas: "), "{what}");
            let is = schema(&path);
            assert!(is == old || is == new, "{what}: {is:?}");
            found[usize::from(is == new)] += 1;
            let copy = path.with_extension("db.v1");
            assert!(is == old || schema(&copy) == old, "{what}");
            if survived {
                world.kas(&["daemon", "stop"]);
                world.gone();
            }
            drop(Store::open(&path).unwrap_or_else(|error| panic!("{what}: {error}")));
            for (path, schema_of) in [(&path, &new), (&copy, &old)] {
                assert_eq!(schema(path), *schema_of, "{what}");
                let database = Connection::open(path).unwrap();
                let project: String = database
                    .query_row("SELECT path FROM projects WHERE id = 'demo'", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(project, "/nowhere", "{what}");
            }
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600, "{what}");
            // What comes after the start is not a migration.
            if survived {
                break;
            }
        }
        println!("F18: {calls} {fault}: cut {cut} times, found {found:?} of the old and the new schema");
        assert!(cut > 0 && found.iter().all(|&count| count > 0), "{calls} {fault}: {cut} {found:?}");
    }
}

/// Every size of a disk that is too small is one line; with room it starts, and nothing has to be cleaned up first.
#[test]
fn a_full_disk_while_it_makes_the_database_is_said() {
    let mut world = World::asleep(Backend::Pty, "");
    fs::create_dir_all(world.path(".local/state")).unwrap();
    let state = world.path(".local/state");
    // The tmpfs is in a mount namespace of its own, so the sizes are gone through inside it.
    let sizes = "set -e; mount -t tmpfs -o size=8k,mode=700 tmpfs $0\n\
        for size in 8k 16k 32k 48k 64k 96k; do mount -o remount,size=$size $0\n\
        if timeout 20 \"$@\" >$HOME/said 2>&1 & then pid=$!; fi\n\
        while kill -0 $pid 2>/dev/null && ! grep -q 'ready socket=' $HOME/said; do sleep 0.02; done\n\
        kill $pid 2>/dev/null || true; code=0; wait $pid || code=$?\n\
        echo \"$size $code $(tail -n 1 $HOME/said)\" >>$HOME/sizes; done\n\
        mount -o remount,size=64m $0; exec \"$@\"";
    world.wrap(&["unshare", "-m", "/bin/sh", "-c", sizes, state.to_str().unwrap()]);
    world.start();
    let tried = fs::read_to_string(world.path("sizes")).unwrap();
    assert_eq!(tried.lines().count(), 6, "{tried}");
    let full =
        tried.lines().filter(|line| line.contains("no space is left") || line.contains("No space left"));
    assert!(full.count() >= 2, "{tried}");
    for line in tried.lines() {
        let fits = line.contains("shutting down") || line.contains(" 0 ");
        assert!(fits || line.contains(" 1 kas: "), "{tried}");
    }
    assert!(!tried.contains("panicked"), "{tried}");
    assert!(world.end(Signal::TERM).success());
}
