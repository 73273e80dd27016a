//! What is found after a start, at any size, and how soon it lives again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World, eventually, promised};

/// So long a start may take on a busy machine with anything in its way that can be waited for later. One that waited for each of
/// twenty silent shims in turn would take longer.
const START: Duration = Duration::from_secs(6);
/// A command that answers each line it reads.
const ECHO: &str = "echo ready; while read -r line; do echo \"<$line>\"; done";

async fn running(world: &World, project: &str, command: &str) -> String {
    let id = world.run_command(project, command).await;
    world.until_running(&id).await;
    id
}

/// Types a line and waits for what the command makes of it.
async fn answers(world: &World, project: &str, id: &str, word: &str) {
    let mut viewer = Viewer::open(world, project).await;
    let mut seen = viewer.watch(id, json!({"from": 0})).await;
    viewer.type_in(seen.handle(), format!("{word}\n").as_bytes()).await;
    viewer.follow(&mut seen, |seen| seen.text().contains(&format!("<{word}>"))).await;
}

fn start(world: &mut World) -> Duration {
    let begun = Instant::now();
    world.start();
    begun.elapsed()
}

/// The processes that say they hold this instance: its shim and the ward above it.
fn holders(world: &World, id: &str) -> Vec<Pid> {
    let of_id = |line: &String| line.contains(id);
    let pid = |line: &String| Pid::from_raw(line.split(':').next()?.parse().ok()?);
    world.held("\0no command\0").iter().filter(|line| of_id(line)).filter_map(pid).collect()
}

fn dir(world: &World, id: &str) -> PathBuf {
    world.state_dir().join("instances").join(id)
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    let page = world.get(&format!("/api/v1/audit-events?kind={kind}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

async fn fifty_tasks_live_again(backend: Backend) {
    let count = if crate::long() { 200 } else { 50 };
    let limits = format!("[limits]\ntasks_per_project = {count}\ntasks_per_operator = {count}");
    let mut world = World::with(backend, &limits);
    let demo = world.project("demo", "tasks: {}").await;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(world.run_command(&demo, ECHO).await);
    }
    for id in &ids {
        world.until_running(id).await;
    }
    world.end(Signal::KILL);
    let took = start(&mut world);
    assert!(took < promised(START), "{count} tasks took {took:?}");
    for (n, id) in ids.iter().enumerate().step_by(count / 10) {
        answers(&world, &demo, id, &format!("word-{n}")).await;
    }
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tasks_live_again_pty() {
    fifty_tasks_live_again(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tasks_live_again_tmux() {
    fifty_tasks_live_again(Backend::Tmux).await;
}

/// Shims that do not answer are waited for beside the start, and taken up when they go on. A stop asked for meanwhile is refused, for it
/// could not be carried out, and works from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_shims_hold_nobody_up() {
    let mut world = World::with(Backend::Pty, "[limits]\ntasks_per_project = 20");
    let demo = world.project("demo", "tasks: {}").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(running(&world, &demo, ECHO).await);
    }
    let (living, silent) = ids.split_first().unwrap();
    let stopped: Vec<Pid> = silent.iter().flat_map(|id| holders(&world, id)).collect();
    assert!(stopped.len() >= silent.len());
    stopped.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
    world.end(Signal::KILL);
    let took = start(&mut world);
    assert!(took < promised(START), "{} silent shims took {took:?}", silent.len());
    answers(&world, &demo, living, "living").await;
    for id in silent {
        assert_eq!(world.instance(id).await["state"], "running");
    }
    let stop = format!("/api/v1/tasks/{}/stop", silent[0]);
    world.post(&stop, json!({})).await.refused(503, "unavailable", "holder");
    stopped.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    for (n, id) in silent.iter().enumerate() {
        answers(&world, &demo, id, &format!("again-{n}")).await;
    }
    assert_eq!(world.stop(&silent[0]).await["state"], "stopped");
    world.fsck();
}

/// Shims that were killed leave sockets that nobody answers: the runs are lost at once, and nothing of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_shims_hold_nobody_up() {
    let mut world = World::with(Backend::Pty, "[limits]\ntasks_per_project = 20");
    let demo = world.project("demo", "tasks: {}").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(running(&world, &demo, ECHO).await);
    }
    world.end(Signal::KILL);
    world.kill_everything().await;
    let took = start(&mut world);
    assert!(took < promised(START), "{} dead shims took {took:?}", ids.len());
    for id in &ids {
        let run = world.until_ended(id).await;
        assert_eq!((&run["state"], &run["error"]), (&json!("failed"), &json!("shim_lost")));
        assert_eq!(world.transcript(id).await.1, "ready\r\n");
    }
    world.nothing_is_held("\0no command\0").await;
    world.fsck();
}

/// A socket that was taken away is no proof that its shim is gone: the run goes on and its end is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_whose_socket_was_taken_away_is_not_called_lost() {
    let mut world = World::new(Backend::Pty);
    let demo = world.project("demo", "tasks: {}").await;
    let gate = world.path("gate");
    let gate = gate.display();
    let id = running(&world, &demo, &format!("until [ -e {gate} ]; do sleep 0.05; done; exit 9")).await;
    world.end(Signal::KILL);
    fs::remove_file(dir(&world, &id).join("shim.sock")).unwrap();
    world.start();
    assert_eq!(world.instance(&id).await["state"], "running");
    world.write("gate", "");
    let run = world.until_ended(&id).await;
    assert_eq!((&run["state"], &run["exit_code"]), (&json!("failed"), &json!(9)));
    world.nothing_is_held("\0no command\0").await;
    world.fsck();
}

/// A record that is not one, beside a shim that was killed: no code is made up of it, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_exit_record_is_no_exit_code() {
    for torn in ["", "{\"code\":0,", "{\"code\":0}"] {
        let mut world = World::new(Backend::Pty);
        let demo = world.project("demo", "tasks: {}").await;
        let id = running(&world, &demo, ECHO).await;
        world.end(Signal::KILL);
        world.kill_everything().await;
        fs::write(dir(&world, &id).join("exit.json"), torn).unwrap();
        world.start();
        let run = world.until_ended(&id).await;
        assert_eq!((&run["error"], &run["exit_code"]), (&json!("shim_lost"), &Value::Null), "{torn:?}");
        world.nothing_is_held("\0no command\0").await;
        world.fsck();
    }
}

fn made(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
}

/// Directories that no record accounts for: what is empty goes, what holds output stays, at every start alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_made_directories_go_and_output_of_nobody_stays() {
    let mut world = World::new(Backend::Pty);
    let demo = world.project("demo", "tasks: {}").await;
    let known = running(&world, &demo, ECHO).await;
    world.end(Signal::KILL);
    let id = |n: u8| format!("01HZX3KQ4RM8T9V0W1X2Y3Z4A{n}");
    made(&dir(&world, &id(1)), &[]);
    made(&dir(&world, &id(2)), &[("spec.json", "{\"id\":")]);
    let spec = fs::read_to_string(dir(&world, &known).join("spec.json")).unwrap();
    made(&dir(&world, &id(3)), &[("spec.json", &spec), ("exit.json.tmp", "")]);
    made(&dir(&world, &id(4)), &[("spec.json", &spec), ("seg.0", "the only copy")]);
    for _ in 0..2 {
        world.start();
        eventually("an empty directory stays", || {
            let left: Vec<_> = (1..=3).map(|n| dir(&world, &id(n))).filter(|dir| dir.exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        assert_eq!(fs::read_to_string(dir(&world, &id(4)).join("seg.0")).unwrap(), "the only copy");
        answers(&world, &demo, &known, "known").await;
        world.end(Signal::KILL);
    }
    fs::remove_dir_all(dir(&world, &id(4))).unwrap();
    world.start();
    world.fsck();
}

/// A session of no project is told, once a start, and left alone; so is what the operator has on the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_no_project_is_told_once_and_left_alone() {
    let mut world = World::new(Backend::Tmux);
    let demo = world.project("demo", "tasks: {}").await;
    let id = running(&world, &demo, ECHO).await;
    for name in ["kaged-nobody", "kaged-demo-not", "work"] {
        assert_eq!(world.tmux(&["new-session", "-d", "-s", name, "sleep", "1000"]).code, Some(0));
    }
    for start in 1..=2 {
        world.end(Signal::KILL);
        world.start();
        let told = events(&world, "task_runner.orphaned_session").await;
        let mut names: Vec<_> =
            told.iter().map(|it| it["tmux_session_name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names.len(), 2 * start, "{names:?}");
        names.dedup();
        assert_eq!(names, ["kaged-demo-not", "kaged-nobody"]);
        answers(&world, &demo, &id, &format!("start-{start}")).await;
    }
    let sessions = world.tmux(&["list-sessions", "-F", "#{session_name}"]).stdout;
    for name in ["kaged-nobody", "kaged-demo-not", "work", "kaged-demo"] {
        assert!(sessions.lines().any(|line| line == name), "{sessions}");
    }
    world.fsck();
}

/// A window of no run, ours by what was started in it; the pane carries an id that nobody knows.
fn strange_window(world: &World, name: &str, instances: &Path, n: u8, command: &str) {
    let id = format!("01HZX3KQ4RM8T9V0W1X2Y3Z4A{n}");
    let dir = instances.join(&id);
    let target = format!("=kaged-demo:{name}");
    let done = world.tmux(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-demo:",
        "-n",
        name,
        "/bin/sh",
        "-c",
        command,
        "shim",
        dir.to_str().unwrap(),
        ";",
        "set-option",
        "-w",
        "-t",
        &target,
        "remain-on-exit",
        "on",
        ";",
        "set-option",
        "-p",
        "-t",
        &target,
        "@kas-id",
        &id,
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

fn windows(world: &World) -> Vec<String> {
    let listed = world.tmux(&["list-windows", "-t", "=kaged-demo:", "-F", "#{window_name}"]).stdout;
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// What the operator renamed is recorded as it is; a dead window of a run that is gone is closed; a living one, and one of
/// another daemon, are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_recorded_as_they_are_and_closed_only_with_proof() {
    let mut world = World::new(Backend::Tmux);
    let demo = world.project("demo", "tasks: {}").await;
    let id = running(&world, &demo, ECHO).await;
    let window = world.instance(&id).await["tmux_window"].as_str().unwrap().to_owned();
    world.end(Signal::KILL);
    assert_eq!(world.tmux(&["rename-window", "-t", &format!("=kaged-demo:{window}"), "mine"]).code, Some(0));
    let ours = world.state_dir().join("instances");
    strange_window(&world, "dead", &ours, 1, "exit 0");
    strange_window(&world, "living", &ours, 2, "sleep 1000");
    strange_window(&world, "foreign", Path::new("/elsewhere/instances"), 3, "exit 0");
    eventually("no dead window", || {
        let dead = world.tmux(&["list-panes", "-s", "-t", "=kaged-demo:", "-F", "#{pane_dead}"]).stdout;
        if dead.matches('1').count() == 2 { Ok(()) } else { Err(dead) }
    })
    .await;
    world.start();
    assert_eq!(world.instance(&id).await["tmux_window"], "mine");
    world.logged("no run of this window is recorded");
    answers(&world, &demo, &id, "renamed").await;
    eventually("windows are not as they should be", || {
        let left = windows(&world);
        if left == ["foreign", "kas", "living", "mine"] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let _ = world.tmux(&["kill-window", "-t", "=kaged-demo:living"]);
    let _ = world.tmux(&["kill-window", "-t", "=kaged-demo:foreign"]);
    world.fsck();
}
