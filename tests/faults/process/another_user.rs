//! A task whose program has become root (as `sudo` does), under a daemon that has not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Backend, Done, World, eventually, everything, promised};

const USER: u32 = 1234;

/// As [`USER`], with nothing of root's but what a program with the setuid bit gives.
const SETPRIV: [&str; 4] = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];

fn kas(world: &World, words: &[&str]) -> Done {
    let own = [env!("CARGO_BIN_EXE_kas")];
    let words: Vec<&str> = SETPRIV[1..].iter().chain(&own).chain(words).copied().collect();
    let mut command = world.command(SETPRIV[0], &words);
    command.current_dir("/");
    Done::of(command)
}

fn owned(world: &World) {
    let home = world.path("");
    let mut all = vec![home.clone()];
    everything(&home, &mut all);
    all.iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `setpriv` that anybody runs as root.
fn become_root(world: &World) -> PathBuf {
    let found = ["/usr/bin/setpriv", "/bin/setpriv"].iter().find(|path| Path::new(path).exists());
    let path = world.path("become");
    fs::copy(found.unwrap(), &path).unwrap();
    chown(&path, Some(0), Some(0)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    path
}

/// Launches a command that becomes root and then does this, and waits until it says that it has.
async fn launched(world: &World, become_root: &Path, then: &str) -> String {
    let command = format!("exec {} --reuid=0 --regid=0 --clear-groups sh -c '{then}'", become_root.display());
    let run = kas(world, &["run", "-p", "demo", "--json", "--", &command]);
    let id = serde_json::from_str::<Value>(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    eventually("the program says that it is root", || {
        let said = kas(world, &["logs", "-p", "demo", &id]);
        if said.stdout.contains("root 0") { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    id
}

/// The runs of the project.
fn runs(world: &World) -> Vec<Value> {
    let all = kas(world, &["ps", "-a", "-p", "demo", "--json"]);
    let all: Value = serde_json::from_str(&all.stdout).unwrap_or_else(|_| panic!("{all:?}"));
    all.as_array().or_else(|| all["items"].as_array()).unwrap_or_else(|| panic!("{all}")).clone()
}

fn of_run(world: &World, id: &str) -> Value {
    runs(world).into_iter().find(|it| it["id"] == id).unwrap_or_else(|| panic!("{id}"))
}

fn state(world: &World, id: &str) -> String {
    of_run(world, id)["state"].as_str().unwrap().to_owned()
}

/// Restarts a run that is not over, which is refused with what lives; answers the replacement that waits.
fn waiting(world: &World, old: &str, named: &str) -> String {
    let restarted = kas(world, &["restart", "-p", "demo", old]);
    assert!(restarted.code == Some(6) && restarted.stderr.contains(named), "{restarted:?}");
    let new = runs(world).into_iter().find(|it| it["restarted_from"] == old && it["state"] == "starting");
    new.unwrap_or_else(|| panic!("{restarted:?}"))["id"].as_str().unwrap().to_owned()
}

/// One that heeds ^C is stopped by it; of one that does not the answer comes in time and says what lives on, and nothing else waits.
async fn a_program_that_became_root(backend: Backend) {
    if !rustix::process::geteuid().is_root() {
        println!("not root: no program can be given the setuid bit of root, nothing is checked");
        return;
    }
    let mut world = World::asleep(backend, "");
    world.wrap(&SETPRIV);
    world.write("demo/.kaged/project.yaml", "project: demo\ntasks: {}");
    owned(&world);
    let program = become_root(&world);
    world.start();
    assert_eq!(kas(&world, &["daemon", "add", world.path("demo").to_str().unwrap()]).code, Some(0));

    let tame = launched(&world, &program, "echo root $(id -u); exec sleep 1000").await;
    let stopped = kas(&world, &["stop", "-p", "demo", &tame]);
    assert_eq!((stopped.code, state(&world, &tame).as_str()), (Some(0), "stopped"), "{stopped:?}");

    let deaf =
        launched(&world, &program, "trap \"\" INT HUP; echo root $(id -u); while :; do sleep 0.2; done")
            .await;
    let asked = Instant::now();
    let stop = kas(&world, &["stop", "-p", "demo", &deaf]);
    assert_eq!(stop.code, Some(6), "{stop:?}");
    let pid = of_run(&world, &deaf)["pid"].as_i64().unwrap();
    let named = format!("of it live processes {pid} (sh, of root)");
    assert!(stop.stderr.contains(&named), "{stop:?}");
    assert!(asked.elapsed() < promised(Duration::from_secs(15)), "{:?}", asked.elapsed());
    assert_eq!(state(&world, &deaf), "running", "it is not over before it is");
    if backend == Backend::Pty {
        // A replacement waits for it, and so does the replacement of that: each says so.
        let first = waiting(&world, &deaf, &named);
        let second = waiting(&world, &first, &named);
        let checked = kas(&world, &["debug", "fsck"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert_eq!(kas(&world, &["stop", "-p", "demo", &second]).code, Some(0));
    }
    let other = kas(&world, &["run", "-p", "demo", "--wait", "--", "exit 7"]);
    assert_eq!(other.code, Some(7), "{other:?}");

    // It ends at last, and then the run is what was asked for.
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    eventually("the run is stopped", || {
        let now = state(&world, &deaf);
        if now == "stopped" { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_what_became_root_is_answered_pty() {
    a_program_that_became_root(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_what_became_root_is_answered_tmux() {
    a_program_that_became_root(Backend::Tmux).await;
}
