//! The directory of a task is the one that was proven to be in its project, whatever is put in its place meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Backend, World, eventually};

/// A world that stops at this point of a launch, and a run that was launched in the project's directory `sub`.
async fn stopped_at(backend: Backend, point: &str) -> (World, String) {
    let mut world = World::asleep(backend, "");
    world.set_env("KAS_FAILPOINTS", &format!("{point}=stop"));
    world.start();
    let project = world.project("demo", "project: demo").await;
    fs::create_dir_all(world.path("demo/sub")).unwrap();
    fs::create_dir(world.path("outside")).unwrap();
    let run = world.launch(&project, json!({"command": "touch proof; pwd -P", "cwd": "sub"})).await;
    (world, run["id"].as_str().unwrap().to_owned())
}

/// Puts a link that leads out of the project in the place of the directory.
fn exchange(world: &World) {
    fs::rename(world.path("demo/sub"), world.path("demo/moved")).unwrap();
    symlink("../outside", world.path("demo/sub")).unwrap();
}

/// Waits until a process is stopped.
async fn halted(stat: &Path) {
    eventually("a stopped process", || {
        let text = fs::read_to_string(stat).unwrap_or_default();
        let state = text.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T'));
        if state == Some(true) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// The shim of a run: the last process that has its directory as an argument.
async fn shim_of(world: &World, id: &str) -> Pid {
    let dir = world.state_dir().join("instances").join(id);
    let mut found = None;
    eventually("a stopped shim", || {
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        found = entries
            .filter(|path| {
                let words = fs::read(path.join("cmdline")).unwrap_or_default();
                let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
                let ours = memchr::memmem::find(&words, dir.as_os_str().as_encoded_bytes()).is_some();
                ours && stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            })
            .find_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?));
        found.map(|_| ()).ok_or_else(|| "none".to_owned())
    })
    .await;
    found.unwrap()
}

fn proofs(world: &World) -> Vec<PathBuf> {
    let places = ["outside", "demo/moved", "demo", "demo/sub"].map(|dir| world.path(dir).join("proof"));
    places.into_iter().filter(|path| path.exists()).collect()
}

/// After the run was recorded and before the gate opens: the link is seen, nothing runs, and the reason is told.
async fn a_link_that_came_in_between_is_not_followed(backend: Backend) {
    let (world, id) = stopped_at(backend, "gate_opening").await;
    halted(Path::new(&format!("/proc/{}/stat", world.daemon_pid()))).await;
    exchange(&world);
    world.signal(Signal::CONT);
    let ended: Value = world.until_ended(&id).await;
    assert_eq!((&ended["state"], &ended["error"]), (&json!("failed"), &json!("spawn_failed")), "{ended}");
    assert_eq!(proofs(&world), [] as [PathBuf; 0]);
    let said = world.logged("the command could not be started");
    assert!(said.contains("demo/sub") && said.contains("symbolic link"), "{said}");
}

/// After the gate was opened and before the command is there: it runs in the directory that was opened, wherever that is now.
async fn a_directory_that_was_opened_is_the_one_it_runs_in(backend: Backend) {
    let (world, id) = stopped_at(backend, "gate_opened").await;
    let shim = shim_of(&world, &id).await;
    exchange(&world);
    kill_process(shim, Signal::CONT).unwrap();
    let ended: Value = world.until_ended(&id).await;
    assert_eq!((&ended["state"], &ended["exit_code"]), (&json!("done"), &json!(0)), "{ended}");
    assert_eq!(proofs(&world), [world.path("demo/moved/proof")]);
    let moved = format!("{}\r\n", world.path("demo/moved").display());
    assert_eq!(world.transcript(&id).await.1, moved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_exchange_leads_out_on_the_pty() {
    a_link_that_came_in_between_is_not_followed(Backend::Pty).await;
    a_directory_that_was_opened_is_the_one_it_runs_in(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_exchange_leads_out_on_tmux() {
    a_link_that_came_in_between_is_not_followed(Backend::Tmux).await;
    a_directory_that_was_opened_is_the_one_it_runs_in(Backend::Tmux).await;
}
