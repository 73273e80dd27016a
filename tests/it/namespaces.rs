//! The daemon and its callers in different namespaces, as containers and sandboxes put them: the user decides and not the process.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Backend, Done, World};

/// Words that run a command as process 1 of a PID namespace of its own.
const PID: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
/// The same as root of a user namespace, for who may make no other.
const MAPPED: [&str; 2] = ["--user", "--map-root-user"];
/// In a user namespace that knows no user from outside of it.
const UNMAPPED: [&str; 2] = ["unshare", "--user"];

/// Whether namespaces can be made here. Some containers forbid it; then the tests of this file check nothing, and say so.
#[expect(clippy::print_stdout, reason = "what a test did not check belongs to its output")]
fn can_unshare(world: &World) -> bool {
    let can = Done::of(inside(world, &pid(), &["true"])).code == Some(0);
    if !can {
        println!("no namespace can be made here, nothing is checked");
    }
    can
}

fn pid() -> Vec<&'static str> {
    let more: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &MAPPED };
    PID.iter().chain(more).copied().collect()
}

fn inside(world: &World, namespace: &[&str], words: &[&str]) -> Command {
    let words: Vec<&str> = namespace[1..].iter().chain(words).copied().collect();
    world.command(namespace[0], &words)
}

const KAS: &str = env!("CARGO_BIN_EXE_kas");

#[tokio::test]
async fn a_caller_in_a_sandbox_is_the_same_user() {
    let world = World::new(Backend::Pty);
    if !can_unshare(&world) {
        return;
    }
    world.project("demo", "project: demo").await;
    let kas = |words: &[&str]| Done::of(inside(&world, &pid(), &[&[KAS], words].concat()));
    let ran = kas(&["run", "-p", "demo", "--wait", "--", "echo from the sandbox; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "from the sandbox\n"), "{ran:?}");
    assert_eq!(kas(&["daemon", "status"]).code, Some(0));
    // What has no number here cannot be signalled, and nothing else is.
    let stopped = kas(&["daemon", "stop"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("another PID namespace"), "{stopped:?}");
    assert!(stopped.stderr.contains("run `kas daemon stop` where it was started"), "{stopped:?}");
    assert_eq!(world.get("/v1/ping").await.status, 200);
    assert!(!world.log().contains("os error 0"), "{}", world.log());
}

#[tokio::test]
async fn a_daemon_in_a_container_serves_the_same_user_outside() {
    let mut world = World::asleep(Backend::Pty, "");
    if !can_unshare(&world) {
        return;
    }
    world.wrap(&pid());
    world.start();
    world.project("demo", "project: demo").await;
    let ran = world.kas(&["run", "-p", "demo", "--wait", "--", "echo from outside; exit 4"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), "from outside\n"), "{ran:?}");
    // Without its socket the daemon is known by the id in its lock, which here is the number of another process.
    std::fs::remove_file(world.path("run/kasmos/kas.sock")).unwrap();
    let stopped = world.kas(&["daemon", "stop", "--json"]);
    let here =
        stopped.code == Some(0) || stopped.json()["error"]["details"]["reason"] == "other_pid_namespace";
    assert!(here, "{stopped:?}");
    if stopped.code != Some(0) {
        world.end(Signal::KILL);
    } else {
        world.died();
    }
}

#[tokio::test]
async fn a_user_without_a_number_is_refused_in_words() {
    let world = World::new(Backend::Pty);
    if Done::of(inside(&world, &UNMAPPED, &["true"])).code != Some(0) || !can_unshare(&world) {
        return;
    }
    let refused = Done::of(inside(&world, &UNMAPPED, &[KAS, "ps", "--json"]));
    assert_eq!(refused.code, Some(8), "{refused:?}");
    let said = refused.json();
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("does not map") && message.contains("map your own user"), "{message}");
    assert_eq!(said["error"]["details"], json!({"reason": "connect"}));
}
