//! Signals: one shutdown, one reload, whatever comes and however often.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use super::PROJECT;
use crate::harness::{Backend, Viewer, World, promised};

const ROOM: &str = "[limits]\ntasks_per_project = 60\ntasks_per_operator = 60";
const SIGNALS: usize = 1000;

/// What a process is, so that another of the same number is not taken for it.
fn started(pid: u64) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned()
}

async fn ended_with_fifty(backend: Backend) {
    let mut world = World::with(backend, ROOM);
    let project = world.project("demo", PROJECT).await;
    let ids = join_all((0..50).map(|n| {
        let command = format!("echo up {n}; read x; exit $x");
        let (world, project) = (&world, &project);
        async move { world.run_command(project, &command).await }
    }))
    .await;
    let running = join_all(ids.iter().map(|id| world.until_running(id))).await;
    let pids: Vec<_> = running.iter().map(|it| it["pid"].as_u64().unwrap()).collect();
    let before: Vec<_> = pids.iter().map(|pid| started(*pid)).collect();
    let mut viewers = Vec::new();
    for id in ids.iter().take(5) {
        let mut viewer = Viewer::open(&world, &project).await;
        let mut seen = viewer.watch(id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("up")).await;
        viewers.push(viewer);
    }
    let closings = join_all(viewers.into_iter().map(Viewer::closed));
    let begun = Instant::now();
    world.signal(Signal::TERM);
    assert_eq!(closings.await, vec![Some(1001); 5]);
    let (status, log) = world.gone();
    let took = begun.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < promised(Duration::from_secs(2)), "{took:?}");
    assert!(!log.contains("panicked"), "{log}");
    let after: Vec<_> = pids.iter().map(|pid| started(*pid)).collect();
    assert_eq!(after, before, "each task lives on");
    world.start();
    let mut viewer = Viewer::open(&world, &project).await;
    for (id, pid) in ids.iter().zip(&pids) {
        let found = world.instance(id).await;
        assert_eq!((&found["state"], found["pid"].as_u64()), (&json!("running"), Some(*pid)));
    }
    // They are the same terminals too.
    let mut seen = viewer.watch(&ids[49], json!({"from": 0})).await;
    viewer.type_in(seen.handle(), b"3\r").await;
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!(world.until_ended(&ids[49]).await["exit_code"], 3);
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_at_once_and_fifty_tasks_live_on() {
    ended_with_fifty(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_at_once_and_fifty_windows_live_on() {
    ended_with_fifty(Backend::Tmux).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_signals_is_some_reloads_and_one_shutdown() {
    let mut world = World::new(Backend::Pty);
    let project = world.project("demo", PROJECT).await;
    let id = world.run_command(&project, "echo up; read x").await;
    let pid = world.until_running(&id).await["pid"].as_u64().unwrap();
    let before = started(pid);
    for n in 0..SIGNALS {
        world.signal([Signal::HUP, Signal::USR1, Signal::USR2, Signal::PIPE][n % 4]);
    }
    world.get("/v1/status").await.expect(200);
    world.logged("configuration read again");
    let begun = Instant::now();
    for n in 0..SIGNALS {
        let signal = [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1][n % 4];
        // Once it is gone there is nobody to signal; it is not reaped before `gone`, so it is nobody else either.
        world.signal(signal);
    }
    let (status, log) = world.gone();
    assert!(status.success(), "{status}\n{log}");
    assert!(begun.elapsed() < promised(Duration::from_secs(4)), "{:?}", begun.elapsed());
    assert_eq!(log.matches("shutting down; tasks live on").count(), 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(started(pid), before);
    world.start();
    assert_eq!(world.instance(&id).await["state"], "running");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_nonsense_keeps_what_was_and_is_shown() {
    let mut world = World::with(Backend::Pty, "[limits]\ntasks_per_project = 1");
    let project = world.project("demo", PROJECT).await;
    let id = world.run_command(&project, "echo up; read x").await;
    world.until_running(&id).await;
    let file = world.path(".config/kasmos/daemon.toml");
    let directory = || {
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
    };
    let write = |bytes: &[u8]| std::fs::write(&file, bytes).unwrap();
    let garbage: [(&str, &dyn Fn()); 4] = [
        ("daemon.toml", &|| write(b"\xff\xfe\0\0garbage ][")),
        ("tasks_per_project", &|| write(b"[limits]\ntasks_per_project = \"many\"\n")),
        ("daemon.toml", &|| write(&vec![b'#'; 8 << 20])),
        ("daemon.toml", &directory),
    ];
    for (told, spoil) in garbage {
        spoil();
        world.signal(Signal::HUP);
        let problems = crate::harness::soon("the problem", async {
            loop {
                let status = world.get("/v1/status").await.expect(200);
                let problems = status["config_problems"].to_string();
                if problems.contains(told) {
                    return problems;
                }
            }
        });
        assert!(problems.await.len() < 2000);
        let run = format!("/api/v1/projects/{project}/tasks/run");
        world.post(&run, json!({"command": "x"})).await.refused(429, "rate_limited", "task_limit");
        // The next one has to be told anew.
        if file.is_dir() {
            std::fs::remove_dir(&file).unwrap();
        }
        world.configure("");
        world.post("/v1/reload", json!({})).await.expect(200);
        assert_eq!(world.get("/v1/status").await.expect(200)["config_problems"], json!([]));
        world.configure("[limits]\ntasks_per_project = 1");
        world.post("/v1/reload", json!({})).await.expect(200);
    }
    world.logged("the configuration is bad; the old one stays in force");
    assert_eq!(world.instance(&id).await["state"], "running");
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}
