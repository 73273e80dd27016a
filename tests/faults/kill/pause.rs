//! The daemon hangs while a task writes: the task does not notice, and nothing is lost.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::truth::MARK;
use crate::harness::{Backend, Seen, Viewer, World};

/// Writes numbered blocks of 4 KiB at the pace of a megabyte a second, and then the longest that a write took, in microseconds.
///
/// Only the writes are timed: what the machine does to the pauses between them is not the daemon's.
const PRODUCER: &str = r#"
my ($number, $seconds) = @ARGV;
sub now { my $b = "\0" x 16; syscall($number, 1, $b); my ($s, $n) = unpack "qq", $b; $s * 1e6 + $n / 1e3 }
my ($worst, $n, $until) = (0, 0, now() + $seconds * 1e6);
while (now() < $until) {
    my $block = sprintf("%08d", $n++) . "." x 4086 . "\n";
    my $began = now();
    while (length $block) { my $done = syswrite STDOUT, $block; substr $block, 0, $done, "" }
    my $took = now() - $began;
    $worst = $took if $took > $worst;
    select undef, undef, undef, 0.004;
}
printf "blocks %d worst %d\n", $n, $worst;
"#;

/// What the producer said at its end, when everything before it is right: the longest write.
fn judged(bytes: &[u8]) -> Duration {
    let last = bytes.strip_suffix(b"\r\n").and_then(|it| it.rsplit(|&b| b == b'\n').next()).unwrap();
    let words: Vec<&str> = std::str::from_utf8(last).unwrap().split(' ').collect();
    let ["blocks", count, "worst", worst] = words[..] else { panic!("{words:?}") };
    let mut rest = bytes;
    for n in 0..count.parse().unwrap() {
        let (block, later) = rest.split_at(4096);
        let expect = format!("{n:08}{}\r\n", ".".repeat(4086));
        assert!(block == expect.as_bytes(), "block {n} of {count} is not what was written");
        rest = later;
    }
    assert_eq!(rest.len(), last.len() + 2);
    Duration::from_micros(worst.parse().unwrap())
}

/// Runs the producer for so long, and the daemon hangs meanwhile or not. Answers the longest write.
async fn produced(world: &World, seconds: u64, hangs: bool) -> Duration {
    let (number, total) = (libc::SYS_clock_gettime, seconds + 1);
    let command = format!("exec env {MARK} perl producer.pl {number} {total}");
    let id = world.run_command("demo", &command).await;
    let mut viewer = Viewer::open(world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.at > 100_000).await;
    if hangs {
        world.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        world.signal(Signal::CONT);
    }
    // And it lives again: everything arrives, the rest as it is written.
    viewer.follow(&mut seen, Seen::ended).await;
    assert_eq!((&seen.gaps, seen.snapshots.len()), (&Vec::new(), 0), "the viewer missed something");
    let (start, stored) = world.transcript(&id).await;
    assert!(start == 0 && stored == seen.bytes, "{} bytes of {}", stored.len(), seen.bytes.len());
    judged(&stored)
}

async fn world(backend: Backend) -> World {
    let world = World::with(backend, "[limits]\ntranscript_bytes = 100000000");
    world.write("demo/producer.pl", PRODUCER);
    world.project("demo", "project: demo\ntasks: {}").await;
    world
}

/// 5 s in CI, 30 s with `--long`.
///
/// The same producer writes at the same time beside a daemon that does not hang. A machine that makes that one wait as well is no proof of
/// anything, so there are three rounds: a task that is stalled is stalled in each.
async fn a_hung_daemon_stalls_nobody(backend: Backend) {
    let seconds = if crate::long() { 30 } else { 5 };
    let (hanging, control) = (world(backend).await, world(backend).await);
    let mut rounds = Vec::new();
    let good = loop {
        let (hung, control) =
            tokio::join!(produced(&hanging, seconds, true), produced(&control, seconds, false));
        println!(
            "longest write on {}: {hung:?} beside a daemon that hangs {seconds} s, else {control:?}",
            backend.word()
        );
        rounds.push((hung, control));
        // Who is stalled by a hang waits for most of it.
        let bar = Duration::from_millis(if crate::long() { 10 } else { 500 });
        let good = hung <= bar.max(control * 3);
        if good || rounds.len() == 3 {
            break good;
        }
    };
    assert!(good, "longest writes beside a daemon that hangs, and one that does not: {rounds:?}");
    for world in [hanging, control] {
        world.nothing_is_held(MARK).await;
        world.fsck();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_daemon_stalls_nobody_pty() {
    a_hung_daemon_stalls_nobody(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_daemon_stalls_nobody_tmux() {
    a_hung_daemon_stalls_nobody(Backend::Tmux).await;
}
