//! The database of another version, and one that could not be made.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

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
fn schema(path: &std::path::Path) -> Vec<String> {
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
