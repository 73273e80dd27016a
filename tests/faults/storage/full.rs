//! A disk that is full for a while.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{RECOVERY, integrity, launched_again, missing, try_launch};
use crate::harness::{Backend, PATIENCE, Seen, Viewer, World, promised};

/// A small file system of its own, let go in any case.
struct Small(PathBuf);

impl Small {
    fn at(path: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(path).unwrap();
        std::os::unix::fs::chown(path, None, None).unwrap();
        let size = format!("size={mib}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "kas-faults"]).arg(path).status();
        assert!(mounted.unwrap().success(), "mounting a small file system takes root");
        Self(path.to_owned())
    }

    /// Takes all the space there is.
    fn fill(&self) -> PathBuf {
        self.fill_as("filler")
    }

    fn fill_as(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut file = File::create(&path).unwrap();
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: whoever still lives in it does not keep it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            unmounted.is_ok_and(|it| it.success()) || std::thread::panicking(),
            "{} stays mounted",
            self.0.display()
        );
    }
}

/// Writes two kilobytes for each line it is sent, and ends with 6 at their end.
const TALKER: &str = "stty -echo -icrnl -opost; echo ready; while read x && [ \"$x\" != end ]; do head -c 2000 /dev/zero | tr '\\0' $x; done; exit 6";

/// One answer of the talker.
async fn say(viewer: &mut Viewer, seen: &mut Seen, letter: char) {
    let until = seen.at + 2000;
    viewer.type_in(seen.handle(), format!("{letter}\n").as_bytes()).await;
    viewer.follow(seen, |seen| seen.at >= until).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_only_what_is_written_meanwhile() {
    let mut world = World::asleep(Backend::Pty, "[limits]\ntranscript_bytes = 1048576");
    let disk = Small::at(&world.state_dir(), 8);
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let talker = world.run_command("demo", TALKER).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&talker, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("ready")).await;
    let short = world.run_command("demo", "until [ -e ../go ]; do sleep 0.02; done; exit 9").await;
    world.until_running(&short).await;
    for letter in 'a'..='e' {
        say(&mut viewer, &mut seen, letter).await;
    }

    let filler = disk.fill();
    // Commands run on, viewers see every byte, and an end has its place on the disk.
    for letter in ('A'..='Z').chain('0'..='9') {
        say(&mut viewer, &mut seen, letter).await;
    }
    world.write("go", "");
    let refused = try_launch(&world, "true").await;
    println!(
        "F58: a launch on a full disk is answered {} {}",
        refused.status,
        String::from_utf8_lossy(&refused.body)
    );
    if refused.status == 202 {
        let ended = world.until_ended(refused.json()["id"].as_str().unwrap()).await;
        assert_eq!((&ended["state"], &ended["error"]), (&json!("failed"), &json!("spawn_failed")));
    } else {
        refused.expect(503);
    }
    world.get("/v1/status").await.expect(200);
    let record = world.state_dir().join("instances").join(&short).join("exit.json");
    let deadline = Instant::now() + PATIENCE;
    while !record.exists() && world.instance(&short).await["exited_at"].is_null() {
        assert!(Instant::now() < deadline, "no exit record on a full disk");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    std::fs::remove_file(filler).unwrap();
    let freed = Instant::now();
    let (again, took) = launched_again(&world, "exit 4").await;
    let done = world.until_ended(&short).await;
    println!(
        "G12: with space again a launch took {took:?}, the end was recorded after {:?}",
        freed.elapsed()
    );
    let bar = promised(RECOVERY);
    assert!(took < bar && freed.elapsed() < bar + Duration::from_secs(1), "{:?}", freed.elapsed());
    assert_eq!((&done["state"], &done["exit_code"]), (&json!("failed"), &json!(9)));
    assert_eq!(world.until_ended(again["id"].as_str().unwrap()).await["exit_code"], 4);
    for letter in 'f'..='p' {
        say(&mut viewer, &mut seen, letter).await;
    }
    what_is_kept_is_true(&mut world, viewer, seen, &talker).await;
    drop(disk);
}

/// The live stream had everything; what is stored is the part after the hole, at its own offsets, and the hole is told, to who
/// replays it from the journal and in the record.
async fn what_is_kept_is_true(world: &mut World, viewer: Viewer, mut seen: Seen, talker: &str) {
    drop(viewer);
    // A new daemon has nothing in memory: it tells what the journal holds.
    world.end(rustix::process::Signal::KILL);
    world.start();
    let mut late = Viewer::open(world, "demo").await;
    let mut replayed = late.watch(talker, json!({"from": 0, "mode": "interactive"})).await;
    late.follow(&mut replayed, |it| it.at >= seen.at).await;
    let (from, to) = replayed.gaps[0];
    let before = usize::try_from(from).unwrap();
    assert_eq!(replayed.gaps.len(), 1);
    assert!(
        before >= 5 * 2000 && replayed.bytes[..before] == seen.bytes[..before],
        "what was written before the hole at {from}"
    );
    late.type_in(replayed.handle(), b"end\n").await;
    late.follow(&mut replayed, Seen::ended).await;
    seen.at = replayed.at;
    assert_eq!(world.until_ended(talker).await["exit_code"], 6);
    let (start, stored) = world.transcript(talker).await;
    assert_eq!(stored, seen.bytes[usize::try_from(start).unwrap()..], "what is stored from {start}");
    assert!(stored.len() >= 11 * 2000, "only {} bytes are kept", stored.len());
    let told = missing(world, talker).await;
    println!("F58: of {} bytes {told} are missing; a late viewer was told of {from}..{to}", seen.bytes.len());
    assert_eq!(told, json!([[from, start]]));
    world.fsck();
    world.end(rustix::process::Signal::TERM);
    assert_eq!(integrity(&world.state_dir().join("runner.db")), "ok");
}

/// A daemon starts on a full disk, whatever ended the one before: it says so, shows what runs, and records an end when there is space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_starts_on_a_full_disk() {
    use rustix::process::Signal;
    for signal in [Signal::KILL, Signal::TERM] {
        let mut world = World::asleep(Backend::Pty, "");
        let disk = Small::at(&world.state_dir(), 8);
        world.start();
        world.project("demo", "project: demo\ntasks: {}").await;
        let id = world.run_command("demo", "echo up; until [ -e ../go ]; do sleep 0.02; done; exit 9").await;
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("up")).await;
        drop(viewer);
        let filler = disk.fill();
        world.end(signal);
        // What the end gave back is taken as well.
        let more = disk.fill_as("more");
        world.start();
        world.logged("the database takes no change");
        assert_eq!(world.instance(&id).await["state"], "running");
        try_launch(&world, "true").await.expect(503);
        world.write("go", "");
        world.logged("a change waits for the database");
        for file in [filler, more] {
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(world.until_ended(&id).await["exit_code"], 9);
        let (again, _) = launched_again(&world, "exit 4").await;
        assert_eq!(world.until_ended(again["id"].as_str().unwrap()).await["exit_code"], 4);
        // The start is recorded at the next try.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kinds = world.get("/api/v1/audit-events?kind=task_runner.backend_resolved").await.expect(200);
            if kinds["items"].as_array().unwrap().len() == 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{kinds}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.fsck();
        assert!(world.end(Signal::TERM).success());
        drop(disk);
    }
}

/// The log of the database has room and the database itself has none: what is committed meanwhile stays in the log, until not even that takes any
/// more, and with space again it is all there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_without_space_loses_nothing() {
    let mut world = World::asleep(Backend::Pty, "");
    let disk = Small::at(&world.state_dir(), 32);
    world.start();
    let command = "head -c 500000 /dev/zero | tr '\\0' x; exit 3";
    let tasks = json!({"project": "demo", "tasks": {"write": {"command": command, "history_count": 12}}});
    world.project("demo", &tasks.to_string()).await;
    let mut written = Vec::new();
    for _ in 0..12 {
        let id = world.run_task("demo", "write").await;
        world.until_ended(&id).await;
        written.push(id);
    }
    let mut failed = Vec::new();
    let log = world.state_dir().join("runner.db-wal");
    let room = std::fs::metadata(&log).unwrap().len();
    assert!(room > 4 << 20, "the log has been through a checkpoint: {room} bytes");

    let filler = disk.fill();
    let full = loop {
        let answer = try_launch(&world, "exit 5").await;
        if answer.status != 202 {
            break answer;
        }
        failed.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(failed.len() < 1000, "a log of {room} bytes takes everything");
    };
    full.expect(503);
    println!("F58: {} launches were recorded before the log was full too", failed.len());
    assert!(!failed.is_empty());

    std::fs::remove_file(filler).unwrap();
    let (again, took) = launched_again(&world, "exit 4").await;
    assert!(took < promised(RECOVERY), "{took:?}");
    assert_eq!(world.until_ended(again["id"].as_str().unwrap()).await["exit_code"], 4);
    // The log may have taken a launch and not its end, which is recorded now.
    let kept = failed.iter().rev().take(kas::policy::AD_HOC_KEPT - 1);
    for id in kept.clone() {
        assert_eq!(world.until_ended(id).await["error"], "spawn_failed", "{id}");
    }
    world.end(rustix::process::Signal::KILL);
    world.start();
    for id in &written {
        assert_eq!(world.instance(id).await["exit_code"], 3, "{id}");
        assert_eq!(world.transcript(id).await.1.len(), 500_000, "{id}");
    }
    for id in kept {
        assert_eq!(world.instance(id).await["error"], "spawn_failed", "{id}");
    }
    world.fsck();
    world.end(rustix::process::Signal::TERM);
    assert_eq!(integrity(&world.state_dir().join("runner.db")), "ok");
    drop(disk);
}
