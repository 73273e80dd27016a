//! Other programs at the database: one that locks it, one that reads for long, one that checkpoints.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{RECOVERY, integrity, launched_again, outsider, try_launch};
use crate::harness::{Backend, Viewer, World, eventually, promised};
use crate::process::{lives, roomy};

/// Writes a line every millisecond until `$1` exists, and says last, in milliseconds, how long the longest write took and how late
/// it woke at the latest, which is the machine's own noise.
const PRODUCER: &str = r#"use Time::HiRes qw(time sleep); $| = 1; my ($worst, $late, $n) = (0, 0, 0);
until (-e $ARGV[0]) {
  my $began = time; print "line $n of many\n"; my $took = time - $began; $n++;
  $worst = $took if $took > $worst && $n > 100;
  $began = time; sleep 0.001; my $slept = time - $began - 0.001; $late = $slept if $slept > $late && $n > 100;
}
printf "longest %.1f late %.1f lines %d end\n", $worst * 1000, $late * 1000, $n;"#;

/// Runs the producer while `meanwhile` lasts, watched all the time, and answers its longest write and the noise.
async fn longest_write(world: &World, stop: &str, meanwhile: impl Future<Output = ()>) -> (f64, f64) {
    world.write("demo/producer", PRODUCER);
    let id =
        world.run_command("demo", &format!("stty raw; perl producer {}", world.path(stop).display())).await;
    let mut viewer = Viewer::open(world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
    viewer.follow(&mut seen, |seen| seen.at > 2000).await;
    let watching = async {
        viewer.follow(&mut seen, |seen| seen.text().ends_with(" end\n")).await;
    };
    let stopping = async {
        meanwhile.await;
        world.write(stop, "");
    };
    tokio::join!(watching, stopping);
    let text = seen.text();
    let words: Vec<&str> = text.lines().last().unwrap().split(' ').collect();
    let lines: usize = words[5].parse().unwrap();
    assert!(
        seen.gaps.is_empty() && text.lines().count() == lines + 1,
        "{words:?} of {}",
        text.lines().count()
    );
    (words[1].parse().unwrap(), words[3].parse().unwrap())
}

/// Held by another program for longer than the daemon waits: launches are refused, output flows, and what ends is recorded after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_stalls_no_output_and_loses_no_end() {
    let world = roomy(Backend::Pty).await;
    let held = Duration::from_secs(if crate::long() { 30 } else { 7 });
    let alone = longest_write(&world, "stop.0", tokio::time::sleep(Duration::from_secs(3))).await;
    let short = world.run_command("demo", "until [ -e ../go ]; do sleep 0.02; done; echo bye; exit 9").await;
    world.until_running(&short).await;

    let lock = outsider(&world);
    let holding = async {
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        world.write("go", "");
        let began = Instant::now();
        let (first, second) = tokio::join!(try_launch(&world, "true"), try_launch(&world, "true"));
        for answer in [first, second] {
            answer.refused(503, "unavailable", "store");
        }
        let refused = began.elapsed();
        let in_time = Duration::from_secs(4)..promised(Duration::from_secs(8));
        assert!(in_time.contains(&refused), "refused after {refused:?}");
        world.get("/v1/status").await.expect(200);
        assert_eq!(
            world.instance(&short).await["exited_at"],
            json!(null),
            "an end that is not stored is told"
        );
        tokio::time::sleep(held.saturating_sub(began.elapsed())).await;
        lock.execute_batch("ROLLBACK").unwrap();
    };
    let locked = longest_write(&world, "stop.1", holding).await;
    let freed = Instant::now();
    let (again, took) = launched_again(&world, "exit 4").await;
    let done = world.until_ended(&short).await;
    println!(
        "G6: longest write (and noise) in ms with the database locked {held:?}: {locked:?}, without: {alone:?}"
    );
    println!("G12: after the lock a launch took {took:?}, the end was there after {:?}", freed.elapsed());
    let bar = promised(RECOVERY);
    assert!(took < bar && freed.elapsed() < bar + Duration::from_secs(1), "{took:?} {:?}", freed.elapsed());
    let noise = alone.0.max(alone.1).max(locked.1);
    // Who waits for the lock waits for seconds.
    let bar = if crate::long() { 10.0 } else { 1000.0 };
    assert!(locked.0 <= bar + 2.0 * noise, "{locked:?} ms, {alone:?} ms without the lock");
    assert_eq!((&done["state"], &done["exit_code"]), (&json!("failed"), &json!(9)));
    assert_eq!(&world.transcript(&short).await.1[..], b"bye\r\n");
    assert_eq!(world.until_ended(again["id"].as_str().unwrap()).await["exit_code"], 4);
    world.fsck();
}

/// A stop that cannot be recorded signals nothing, and an end that cannot be stored is not told: both say so in time, and come to their end after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_beside_a_locked_database_is_answered() {
    let world = roomy(Backend::Pty).await;
    let untouched = world.run_command("demo", "exec sleep 1000").await;
    let pid = world.until_running(&untouched).await["pid"].as_u64().unwrap();
    let ends = "trap 'touch ../told' TERM; touch ../up; until [ -e ../go ]; do sleep 0.02; done; exit 9";
    let ending = world.run_command("demo", ends).await;
    let there = |name: &str| {
        let path = world.path(name);
        move || if path.exists() { Ok(()) } else { Err(path.display().to_string()) }
    };
    eventually("the trap", there("up")).await;
    let stop = async |id: &str| world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await;
    let lock = outsider(&world);
    let began = Instant::now();
    let (over, not_begun) = tokio::join!(stop(&ending), async {
        eventually("TERM", there("told")).await;
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        world.write("go", "");
        stop(&untouched).await
    });
    over.refused(503, "unavailable", "end_waits");
    not_begun.refused(503, "unavailable", "stop_waits");
    assert!(began.elapsed() < promised(Duration::from_secs(15)), "{:?}", began.elapsed());
    assert!(lives(pid), "it was signalled before the wish was recorded");
    for id in [&untouched, &ending] {
        assert_eq!(world.instance(id).await["state"], "running");
    }
    lock.execute_batch("ROLLBACK").unwrap();
    for id in [&untouched, &ending] {
        assert_eq!(world.until_ended(id).await["state"], "stopped");
    }
    world.fsck();
}

/// A reader that keeps an old state in sight keeps the log from being folded in: that is told, and over when the reader goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_reader_keeps_growing_is_told_and_shrinks_after() {
    let world = roomy(Backend::Pty).await;
    let log = world.state_dir().join("runner.db-wal");
    let size = || std::fs::metadata(&log).map_or(0, |meta| meta.len());
    let reader = outsider(&world);
    reader.execute_batch("BEGIN; SELECT count(*) FROM task_instances").unwrap();
    let flood = async || {
        let id = world.run_command("demo", "stty raw; yes 0123456789 | head -c 11000000").await;
        world.until_ended(&id).await;
    };
    while size() <= 64 << 20 {
        flood().await;
    }
    println!("F63: the log grew to {} MiB beside a reader", size() >> 20);
    world.logged("the database's log has grown");
    reader.execute_batch("COMMIT").unwrap();
    // The first write after the reader folds the log in, the next one begins it anew.
    for _ in 0..3 {
        flood().await;
    }
    assert!(size() <= 64 << 20, "the log still has {} bytes", size());
    world.fsck();
}

/// A backup tool that checkpoints all the time beside the daemon: every row that was answered is there, and sound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_checkpointer_loses_nothing() {
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "{}: two checkpointers could lose commits",
        rusqlite::version()
    );
    let mut world = roomy(Backend::Pty).await;
    let database = world.state_dir().join("runner.db");
    let (stop, over) = std::sync::mpsc::channel::<()>();
    let path = database.clone();
    let checkpointing = std::thread::spawn(move || {
        let mut count = 0;
        while over.try_recv().is_err() {
            let conn = rusqlite::Connection::open(&path).unwrap();
            let mode = ["TRUNCATE", "RESTART", "PASSIVE", "FULL"][count % 4];
            // Busy is an answer too.
            let _: rusqlite::Result<i64> =
                conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0));
            count += 1;
        }
        count
    });
    let count = if crate::long() { 1000 } else { 60 };
    let mut ids = Vec::new();
    for wave in 0..count / 20 {
        let launches: Vec<_> = (0..20).map(|n| format!("echo {wave}.{n}; exit {}", n % 7)).collect();
        let launched =
            futures_util::future::join_all(launches.iter().map(|it| world.run_command("demo", it))).await;
        for (n, id) in launched.into_iter().enumerate() {
            assert_eq!(world.until_ended(&id).await["exit_code"], n % 7);
            ids.push((id, format!("{wave}.{n}\r\n")));
        }
    }
    stop.send(()).unwrap();
    println!("F65: {} checkpoints by another program", checkpointing.join().unwrap());
    world.end(rustix::process::Signal::KILL);
    assert_eq!(integrity(&database), "ok");
    world.start();
    for (id, text) in ids.iter().rev().take(kas::policy::AD_HOC_KEPT) {
        assert_eq!(world.transcript(id).await.1, text.as_bytes(), "{id}");
    }
    world.fsck();
}
