//! Scopes: asked for as systemd wants it, and done without when there are none. `systemd-run` is a script of ours.

use std::fs;
use std::time::Instant;

use super::{PROJECT, as_a_service, script};
use crate::harness::{Backend, World, promised};

/// Writes what it was asked, and where, then becomes the command as systemd-run does.
const RECORDER: &str = "printf '%s\\0' \"$@\" >>\"$HOME/asked\"; printf '\\n' >>\"$HOME/asked\"\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"";

/// What it was asked, call by call.
fn asked(world: &World) -> Vec<Vec<String>> {
    let text = fs::read_to_string(world.path("asked")).unwrap_or_default();
    text.lines().map(|line| line.trim_end_matches('\0').split('\0').map(str::to_owned).collect()).collect()
}

async fn works(world: &World, project: &str, command: &str, output: &str) -> String {
    let (seen, instance) = world.outcome(project, command).await;
    assert_eq!((seen.text().as_str(), &instance["exit_code"]), (output, &serde_json::json!(0)));
    instance["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_puts_each_task_into_a_scope_of_its_own() {
    let mut world = World::asleep(Backend::Pty, "");
    script(&mut world, "systemd-run", RECORDER);
    as_a_service(&mut world);
    world.start();
    let project = world.project("demo", PROJECT).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(works(&world, &project, "echo in a scope", "in a scope\r\n").await);
    }
    let kas = fs::canonicalize(env!("CARGO_BIN_EXE_kas")).unwrap();
    let expect = ids.iter().map(|id| {
        let dir = world.state_dir().join("instances").join(id);
        let unit = format!("--unit=kas-task-{id}.scope");
        let words = ["--user", "--scope", "--quiet", "--collect", &unit, "--", "env", "-i"];
        let tail = [kas.to_str().unwrap(), "shim", dir.to_str().unwrap()];
        words.into_iter().chain(tail).map(str::to_owned).collect()
    });
    assert_eq!(asked(&world), expect.collect::<Vec<Vec<String>>>());
    // The script makes no cgroup, and that is noticed.
    world.logged("is in the service's own cgroup");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_the_tmux_server_in_a_scope_once() {
    let mut world = World::asleep(Backend::Tmux, "");
    script(&mut world, "systemd-run", RECORDER);
    as_a_service(&mut world);
    world.start();
    let project = world.project("demo", PROJECT).await;
    for _ in 0..2 {
        works(&world, &project, "echo in a window", "in a window\r\n").await;
    }
    let asked = asked(&world);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let words: Vec<&str> = asked[0].iter().map(String::as_str).collect();
    assert_eq!(words[..4], ["--user", "--scope", "--quiet", "--collect"]);
    let unit = words[4].strip_prefix("--unit=kas-tmux-").and_then(|rest| rest.strip_suffix(".scope"));
    assert!(unit.is_some_and(|it| it.len() == 8 && it.bytes().all(|b| b.is_ascii_hexdigit())), "{words:?}");
    let env = ["--", "env", "-u", "INVOCATION_ID", "-u", "DBUS_SESSION_BUS_ADDRESS"];
    assert_eq!(words[5..11], env);
    assert!(words[11].ends_with("/tmux") && words[12..].contains(&"new-sessio"), "{words:?}");
    world.fsck();
}

/// Nobody's manager answers, or it hangs: the run starts all the same, that is said, and the next one does not wait for it.
async fn does_without(backend: Backend, systemd_run: &str, why: &str) {
    let mut world = World::asleep(backend, "");
    script(&mut world, "systemd-run", &format!("echo >>\"$HOME/asked\"\n{systemd_run}"));
    as_a_service(&mut world);
    world.start();
    let project = world.project("demo", PROJECT).await;
    let started = Instant::now();
    works(&world, &project, "echo without", "without\r\n").await;
    assert!(started.elapsed() < promised(std::time::Duration::from_secs(20)), "{:?}", started.elapsed());
    let said = world.logged("could not be started in a scope of its own and is started without");
    assert!(said.contains(why), "{said}");
    works(&world, &project, "echo again", "again\r\n").await;
    assert_eq!(asked(&world).len(), 1);
    let sessions = world.tmux(&["list-sessions", "-F", "#{session_name}"]).stdout;
    assert_eq!(sessions, if backend == Backend::Tmux { "kaged-demo\n" } else { "" });
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_systemd_run_that_fails_is_done_without() {
    let fails = "echo 'Failed to connect to bus: No medium found' >&2; exit 1";
    does_without(Backend::Pty, fails, "exit status: 1").await;
    does_without(Backend::Tmux, fails, "No medium found").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_systemd_run_that_hangs_is_done_without() {
    let (pty, tmux) = ("did not get there within 3 s", "no answer within 3 s");
    tokio::join!(
        does_without(Backend::Pty, "exec sleep 1000", pty),
        does_without(Backend::Tmux, "exec sleep 1000", tmux)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_started_by_hand_asks_for_no_scope() {
    let mut world = World::asleep(Backend::Pty, "");
    script(&mut world, "systemd-run", RECORDER);
    // So it looks in every shell of a desktop session.
    world.set_env("INVOCATION_ID", "0123456789abcdef0123456789abcdef");
    world.set_env("SYSTEMD_EXEC_PID", "1");
    world.start();
    let project = world.project("demo", PROJECT).await;
    works(&world, &project, "echo by hand", "by hand\r\n").await;
    assert_eq!(asked(&world), Vec::<Vec<String>>::new());
    world.fsck();
}
