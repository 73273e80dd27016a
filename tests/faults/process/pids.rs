//! Process ids: zombies, numbers used again, and more processes than there may be.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{lives, numbers, roomy};
use crate::harness::{Backend, Viewer, eventually};

fn zombies_of(parent: u32) -> Vec<String> {
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |it| it.1).split(' ').collect();
            fields.len() > 1 && fields[0] == "Z" && fields[1] == parent.to_string()
        })
        .collect()
}

/// Everything the daemon started is reaped, also what has ended long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_tasks_leave_no_zombie() {
    let world = roomy(Backend::Pty).await;
    let count = if crate::long() { 1000 } else { 80 };
    for wave in 0..count / 20 {
        let ids = (0..20).map(|n| {
            world.run_command("demo", if (wave + n) % 3 == 0 { "(true &) ; (true &)" } else { "true" })
        });
        for id in futures_util::future::join_all(ids).await {
            world.until_ended(&id).await;
        }
    }
    eventually("the last zombie's end", || match zombies_of(world.daemon_pid()) {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    })
    .await;
    world.fsck();
}

/// Starts a process that has exactly this number, which must be free.
fn stranger(wanted: u64) -> Child {
    for _ in 0..2000 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string())
            .expect("choosing a process id takes root; run this suite as root");
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        if u64::from(child.id()) == wanted {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("pid {wanted} could not be had");
}

fn still_lives(mut stranger: Child) {
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Waits until a process is gone and its number is free.
async fn ended(pid: u64) {
    let there = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    let gone = || if there() { Err("it is there".to_owned()) } else { Ok(()) };
    eventually(&format!("the end of process {pid}"), gone).await;
}

/// A process of the tree ends during a stop and a stranger gets its number before the stop kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_spares_who_got_the_number_of_one_that_ended() {
    let world = roomy(Backend::Pty).await;
    let file = world.path("pids");
    let command = format!(
        "trap '' TERM; sh -c 'echo $$ >> {}; exec sleep 1000' & echo up; while :; do wait; sleep 0.1; done",
        file.display()
    );
    let id = world.run_command("demo", &command).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("up")).await;
    while numbers(&world, "pids").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let child = numbers(&world, "pids")[0];
    let replaced = async {
        ended(child).await;
        tokio::task::spawn_blocking(move || stranger(child)).await.unwrap()
    };
    let (stopped, stranger) = tokio::join!(world.stop(&id), replaced);
    assert_eq!(stopped["state"], "stopped");
    still_lives(stranger);
    world.fsck();
}

/// The command ends while the daemon is down, a stranger gets its number, and a stop that comes then meets nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_an_earlier_life_is_not_trusted() {
    let mut world = roomy(Backend::Pty).await;
    let go = world.path("go");
    let id = world
        .run_command("demo", &format!("until [ -e {} ]; do sleep 0.02; done; exit 7", go.display()))
        .await;
    let command = world.until_running(&id).await["pid"].as_u64().unwrap();
    world.end(Signal::KILL);
    world.write("go", "");
    ended(command).await;
    let stranger = tokio::task::spawn_blocking(move || stranger(command)).await.unwrap();
    world.start();
    let done = world.until_ended(&id).await;
    assert_eq!((&done["state"], &done["exit_code"]), (&json!("failed"), &json!(7)));
    world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await.refused(409, "conflict", "not_running");
    still_lives(stranger);
    world.fsck();
}

/// Two hundred processes that make more processes, bounded by a cgroup: only the long run has the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_is_stopped_and_the_daemon_answers_meanwhile() {
    if !crate::long() {
        println!("F51 runs with KAS_FAULTS=long only: it keeps every core busy");
        return;
    }
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/pids/kas-bomb-{}", std::process::id()));
    std::fs::create_dir(&group).expect("the fork bomb needs a pids cgroup (v1), made by root");
    std::fs::write(group.join("pids.max"), "200").unwrap();
    let world = roomy(Backend::Pty).await;
    let command =
        format!("echo $$ > {}/cgroup.procs; (b() {{ b | b & b; }}; b) & exec sleep 1000", group.display());
    let id = world.run_command("demo", &command).await;
    world.until_running(&id).await;
    let mut slowest = Duration::ZERO;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        world.get("/v1/status").await.expect(200);
        slowest = slowest.max(asked.elapsed());
    }
    println!("F51: the slowest answer during the bomb took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    world.stop(&id).await;
    let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let left: Vec<u64> =
        procs.split_whitespace().map(|pid| pid.parse().unwrap()).filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir(&group).unwrap();
    world.fsck();
}
