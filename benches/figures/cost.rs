//! What it costs: memory, and what is left of a terminal's throughput.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::figure::{Figure, median};
use crate::harness::{Backend, Viewer, World};
use crate::scene::{launched, ms, roomy};

const TASKS: usize = 50;
/// What a throughput run writes.
const BYTES: usize = 64 << 20;

/// The daemon and its shims with 50 quiet tasks, then after each of them wrote 4 MiB, and after a restart.
pub(crate) async fn memory(rounds: usize) -> Vec<Figure> {
    let (mut quiet, mut used, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let (mut shim, mut private) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut world = roomy(Backend::Pty, TASKS);
        let demo = world.project("demo", "tasks: {}").await;
        let gate = world.path("gate");
        let command = format!(
            "until [ -e {} ]; do sleep 1; done; head -c 4194304 /dev/zero | tr '\\0' x; exec sleep 1000",
            gate.display()
        );
        let ids = launched(&world, &demo, &command, TASKS).await;
        settle().await;
        quiet.push(rollup(world.daemon_pid(), "Rss"));
        let pids: Vec<u32> = ids.iter().flat_map(|id| shims(&world, id)).collect();
        shim.push(median(&pids.iter().map(|pid| rollup(*pid, "Rss")).collect::<Vec<_>>()));
        private.push(median(&pids.iter().map(|pid| owned(*pid)).collect::<Vec<_>>()));
        fs::write(gate, "").unwrap();
        for id in &ids {
            while world.get(&format!("/api/v1/tasks/{id}/transcript?format=raw")).await.body.len() < 4 << 20 {
            }
        }
        settle().await;
        used.push(rollup(world.daemon_pid(), "Rss"));
        world.end(Signal::KILL);
        world.start();
        settle().await;
        again.push(rollup(world.daemon_pid(), "Rss"));
    }
    let own = vec![rollup(std::process::id(), "Rss")];
    vec![
        Figure::new(format!("daemon, {TASKS} quiet tasks: RSS"), "MiB", quiet).beside("this program", own),
        Figure::new("the same after 200 MiB of output", "MiB", used),
        Figure::new("the same after a restart", "MiB", again),
        Figure::new("one shim or ward: RSS", "MiB", shim),
        Figure::new("one shim or ward: its own memory", "MiB", private),
    ]
}

/// What is to be given back is given back by then.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(12)).await;
}

fn shims(world: &World, id: &str) -> Vec<u32> {
    let held = world.held("\0no command\0");
    held.iter()
        .filter(|line| line.contains(id))
        .map(|line| line.split(':').next().unwrap().parse().unwrap())
        .collect()
}

/// A field of a process's memory, in MiB. Source: proc(5), `smaps_rollup`.
fn rollup(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// What it shares with nobody.
fn owned(pid: u32) -> f64 {
    rollup(pid, "Private_Clean") + rollup(pid, "Private_Dirty")
}

/// A command that writes as fast as it can, seen by one viewer to its end, beside `script`, which copies a PTY to a file.
pub(crate) async fn throughput(backend: Backend, rounds: usize) -> Vec<Figure> {
    let world = roomy(backend, 8);
    let demo = world.project("demo", "tasks: {}").await;
    let line = "0123456789abcdefghijklmnopqrstuvwxyz 0123456789abcdefghijklmnopqrstuvwxyz 01234567\n";
    let file = world.write("text", line.repeat(BYTES / line.len()));
    let command = format!("cat {}", file.display());
    let (mut through, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        let id = world.run_command(&demo, &command).await;
        let seen = Viewer::open(&world, &demo).await.whole(&id).await;
        assert!(seen.ended());
        through.push(rate(begun));
        let begun = Instant::now();
        let copied = Command::new("script").args(["-qec", &command, "/dev/null"]).output();
        assert!(copied.is_ok_and(|it| it.status.success()), "`script` is needed to compare with (bsdutils)");
        beside.push(rate(begun));
    }
    let name = format!("throughput to a viewer, {}", backend.word());
    vec![Figure::new(name, "MB/s", through).beside("`script`", beside)]
}

fn rate(begun: Instant) -> f64 {
    BYTES as f64 / 1000.0 / ms(begun)
}
