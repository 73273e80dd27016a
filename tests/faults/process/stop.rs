//! Stops of what does not want to be stopped.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{end_of, lives, numbers, roomy};
use crate::harness::{Backend, PATIENCE, Viewer, World, eventually, promised};

/// What is measured may be late by as much as this machine is late with anything; so long is the latest tick of a clock beside it.
struct Noise(tokio::task::JoinHandle<()>, std::sync::Arc<std::sync::Mutex<Duration>>);

impl Noise {
    fn listen() -> Self {
        let worst = std::sync::Arc::<std::sync::Mutex<Duration>>::default();
        let heard = worst.clone();
        let ticking = tokio::task::spawn_blocking(move || {
            while std::sync::Arc::strong_count(&heard) > 1 {
                let began = Instant::now();
                let tick = Duration::from_millis(10);
                std::thread::park_timeout(tick);
                let late = began.elapsed().saturating_sub(tick);
                let mut worst = heard.lock().unwrap();
                *worst = late.max(*worst);
            }
        });
        Self(ticking, worst)
    }

    async fn worst(self) -> Duration {
        let Self(ticking, worst) = self;
        let late = *worst.lock().unwrap();
        drop(worst);
        ticking.await.unwrap();
        late
    }
}

/// Deaf to everything that can be ignored, each in its own way.
const DEAF: [&str; 4] = [
    "trap '' INT TERM HUP; while :; do sleep 0.2; done",
    "trap '' INT TERM HUP; exec sleep 1000",
    "trap '' INT TERM HUP; sh -c 'trap \"\" INT TERM HUP; while :; do sleep 0.2; done'",
    "trap 'echo no' INT TERM HUP QUIT; while :; do sleep 0.2; done",
];

async fn deaf_commands_are_stopped(backend: Backend, count: usize, grace: Duration) {
    let world = roomy(backend).await;
    let noise = Noise::listen();
    let mut pids = Vec::new();
    let mut ids = Vec::new();
    for n in 0..count {
        let command = DEAF[n % DEAF.len()].replacen("; ", "; echo deaf; ", 1);
        let id = world.run_command("demo", &command).await;
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("deaf")).await;
        pids.push(world.until_running(&id).await["pid"].as_u64().unwrap());
        ids.push(id);
    }
    let stops = ids.iter().zip(&pids).map(|(id, pid)| async {
        let ended = end_of(*pid, PATIENCE);
        let began = Instant::now();
        let stopped = world.stop(id).await;
        assert_eq!((&stopped["state"], &stopped["exit_code"]), (&json!("stopped"), &json!(null)));
        ended.await.unwrap().expect("it lives on") - began
    });
    let took = futures_util::future::join_all(stops).await;
    let (first, last) = (*took.iter().min().unwrap(), *took.iter().max().unwrap());
    let late = noise.worst().await;
    println!(
        "G11: {count} deaf commands on {} stopped in {first:?} to {last:?} (noise {late:?})",
        backend.word()
    );
    assert!(first >= grace - Duration::from_millis(50), "killed before its time: {first:?}");
    let bar = promised(grace + Duration::from_millis(500)) + 4 * late;
    assert!(last <= bar, "{last:?} with a noise of {late:?}");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaf_commands_are_stopped_in_their_grace() {
    deaf_commands_are_stopped(Backend::Pty, if crate::long() { 60 } else { 16 }, Duration::from_secs(5))
        .await;
}

/// In a window the stop begins with ^C, which has a second of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaf_commands_in_windows_are_stopped_in_their_grace() {
    deaf_commands_are_stopped(Backend::Tmux, if crate::long() { 30 } else { 8 }, Duration::from_secs(6))
        .await;
}

/// Processes that leave the command by every door: each appends its number to `$P` and outlives all of its parents.
const ESCAPEES: &str = "cp \"$(command -v sleep)\" ./innocent 2>/dev/null
(setsid sh -c 'echo $$ >> \"$P\"; exec sleep 1000' </dev/null >/dev/null 2>&1 &)
(setsid sh -c '(sh -c '\"'\"'echo $$ >> \"$P\"; exec sleep 1000'\"'\"' <&- >&- 2>&- &)' &)
(setsid sh -c 'echo $$ >> \"$P\"; exec env -i ./innocent 1000 </dev/null >/dev/null 2>&1' &)
(setsid sh -c 'trap \"\" HUP INT; trap \"setsid sleep 1000 & echo \\$! >> $P\" TERM; echo $$ >> \"$P\"; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &)
(setsid sh -c 'cd /; trap \"\" TERM HUP INT; echo $$ >> \"$P\"; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &)
until [ \"$(wc -l < \"$P\")\" -ge 5 ]; do sleep 0.02; done; echo gone; exec sleep 1000";

/// Whether an escapee lives: what has its number now may be somebody else.
fn still_fled(pid: u64) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    lives(pid) && (words.contains("trap") || words.ends_with("1000\0"))
}

async fn escapees_end_with_a_stop(backend: Backend) {
    let world = roomy(backend).await;
    let rounds = if crate::long() { 40 } else { 4 };
    let mut runs = Vec::new();
    for n in 0..rounds {
        let file = format!("pids.{n}");
        world.write(
            &format!("demo/escape.{n}"),
            format!("P={}\nexport P\n: > \"$P\"\n{ESCAPEES}\n", world.path(&file).display()),
        );
        let id = world.run_command("demo", &format!("exec sh ./escape.{n}")).await;
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("gone")).await;
        let pids = numbers(&world, &file);
        eventually("five that fled", || {
            let all = pids.len() == 5 && pids.iter().all(|pid| still_fled(*pid));
            if all { Ok(()) } else { Err(format!("{pids:?}")) }
        })
        .await;
        runs.push((id, file));
    }
    let stops = runs.iter().map(|(id, _)| world.stop(id));
    futures_util::future::join_all(stops).await;
    let fled: Vec<u64> = runs.iter().flat_map(|(_, file)| numbers(&world, file)).collect();
    let alive: Vec<u64> = fled.iter().copied().filter(|pid| still_fled(*pid)).collect();
    println!(
        "G11: {} of {} escapees on {} ended with the stop",
        fled.len() - alive.len(),
        fled.len(),
        backend.word()
    );
    assert!(alive.is_empty(), "{alive:?} live on");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn escapees_end_with_their_task() {
    escapees_end_with_a_stop(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn escapees_from_windows_end_with_their_task() {
    escapees_end_with_a_stop(Backend::Tmux).await;
}

/// Stopped by job control, in the background, without a leader: nothing hangs, and everything can be stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_control_hangs_nothing() {
    let world = roomy(Backend::Pty).await;
    let stopped = [
        "echo up; kill -STOP $$",
        "echo up; kill -TSTP $$; echo on; exec sleep 1000",
        "stty tostop; set -m; sh -c 'echo from behind; exec sleep 1000' & echo up; wait; exec sleep 1000",
        "set -m; sh -c 'read x; exec sleep 1000' & echo up; wait; exec sleep 1000",
    ];
    let mut ids = Vec::new();
    for command in stopped {
        let id = world.run_command("demo", command).await;
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("up")).await;
        // ^Z stops what is in the foreground, where it does not lead the session.
        viewer.type_in(seen.handle(), b"\x1a").await;
        ids.push(id);
    }
    let began = Instant::now();
    for stopped in futures_util::future::join_all(ids.iter().map(|id| world.stop(id))).await {
        assert_eq!(stopped["state"], "stopped");
    }
    println!("F55: stopped jobs were ended in {:?}", began.elapsed());
    assert!(began.elapsed() < promised(Duration::from_secs(8)), "{:?}", began.elapsed());
    a_terminal_without_a_leader(&world).await;
    world.fsck();
}

/// What outlives the leader and still writes to the terminal is told that it is gone; the run is over when its leader is.
async fn a_terminal_without_a_leader(world: &World) {
    let left = world.path("left");
    let command = format!(
        "(trap '' HUP; exec 3>/dev/tty; while echo late >&3; do sleep 0.02; done 2>/dev/null; echo told > {0}.new; mv {0}.new {0}) & sleep 0.1; exit 3",
        left.display()
    );
    let (seen, done) = world.outcome("demo", &command).await;
    assert_eq!(done["exit_code"], 3, "{}", seen.text());
    let told = || if left.exists() { Ok(()) } else { Err("it was never told".to_owned()) };
    eventually("telling who wrote to the terminal that it is gone", told).await;
}
