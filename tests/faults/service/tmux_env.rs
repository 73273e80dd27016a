//! Surroundings that tmux does not like, or that are already tmux's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::json;

use super::PROJECT;
use crate::harness::{Backend, World};

/// All 2-, 3- and 4-byte kinds of UTF-8, and a byte that is none.
const SAYS: &str = "printf '\\303\\251 \\342\\202\\254 \\360\\237\\246\\200 \\377|'; printf %s \"$TERM\"";
const SAID: &[u8] = b"\xc3\xa9 \xe2\x82\xac \xf0\x9f\xa6\x80 \xff|xterm-256color";

/// Whatever terminal and language the daemon was started in, output is exact, and a task's terminal is the one kas emulates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemons_own_terminal_and_language_do_not_matter() {
    let settings: [&[(&str, &str)]; 5] = [
        &[("TMUX", "/tmp/nobody/default,1,0"), ("TMUX_PANE", "%0"), ("TERM", "tmux-256color")],
        &[("TERM", "dumb")],
        &[("TERM", "")],
        &[("LC_ALL", "C"), ("LANG", "")],
        &[("LC_ALL", "POSIX"), ("TERM", "no-such-terminal"), ("COLUMNS", "7"), ("LINES", "x")],
    ];
    for env in settings {
        for backend in [Backend::Tmux, Backend::Pty] {
            let mut world = World::asleep(backend, "");
            env.iter().for_each(|(name, value)| world.set_env(name, value));
            world.start();
            let project = world.project("demo", PROJECT).await;
            let (seen, instance) = world.outcome(&project, SAYS).await;
            assert_eq!(seen.bytes, SAID, "{env:?} on {backend:?}");
            assert_eq!(instance["backend"], backend.word(), "{env:?}");
            assert!(world.end(Signal::TERM).success());
            world.fsck();
        }
    }
}

/// Started inside a tmux of the operator's: its server is used as it is, and its sessions are left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_tmux_the_operators_sessions_are_left_alone() {
    let mut world = World::asleep(Backend::Tmux, "");
    let made = world.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "mine", "exec sleep 1000"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let environment = world.tmux(&["display-message", "-p", "#{socket_path},#{pid},0"]).stdout;
    world.set_env("TMUX", environment.trim());
    world.set_env("TMUX_PANE", "%0");
    world.start();
    let project = world.project("demo", PROJECT).await;
    assert_eq!(world.outcome(&project, SAYS).await.0.bytes, SAID);
    let windows =
        world.tmux(&["list-windows", "-t", "=mine:", "-F", "#{window_panes} #{pane_start_command}"]);
    assert_eq!(windows.stdout.trim().trim_matches('"'), "1 \"exec sleep 1000", "{windows:?}");
    assert!(world.tmux(&["list-sessions", "-F", "#{session_name}"]).stdout.contains("kaged-demo"));
    world.fsck();
}

/// A place for tmux's socket that tmux refuses: each run goes on a PTY, with tmux's own words in the event and in the log.
async fn falls_back(spoil: impl Fn(&World), temp: Option<&str>, why: &str) {
    let mut world = World::asleep(Backend::Tmux, "");
    spoil(&world);
    if let Some(temp) = temp {
        let temp = world.path(temp);
        world.set_env("TMUX_TMPDIR", temp.to_str().unwrap());
    }
    world.start();
    let project = world.project("demo", PROJECT).await;
    let (seen, instance) = world.outcome(&project, SAYS).await;
    assert_eq!((seen.bytes.as_slice(), &instance["backend"]), (SAID, &json!("pty")), "{why}");
    let audit = world.get(&format!("/api/v1/audit-events?project={project}&limit=500")).await.expect(200);
    let events = audit["items"].as_array().unwrap();
    let event = events.iter().find(|event| event["event"] == "task_runner.tmux_fallback");
    let event = event.unwrap_or_else(|| panic!("no fallback is told: {audit}"));
    assert!(event.to_string().contains(why), "{event}");
    assert!(world.logged("tmux failed for this run").contains(why));
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}

fn tmux_dir(world: &World) -> std::path::PathBuf {
    world.path(&format!("tmux/tmux-{}", rustix::process::getuid().as_raw()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_directory_that_tmux_refuses_is_said() {
    let open = |world: &World| {
        fs::create_dir(tmux_dir(world)).unwrap();
        fs::set_permissions(tmux_dir(world), fs::Permissions::from_mode(0o777)).unwrap();
    };
    let theirs = |world: &World| {
        fs::create_dir(tmux_dir(world)).unwrap();
        fs::set_permissions(tmux_dir(world), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(tmux_dir(world), Some(65534), None).unwrap();
    };
    let link = |world: &World| {
        fs::create_dir(world.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(world.path("elsewhere"), tmux_dir(world)).unwrap();
    };
    falls_back(open, None, "has unsafe permissions").await;
    falls_back(theirs, None, "has unsafe permissions").await;
    falls_back(link, None, "is not a directory").await;
    let long = "x".repeat(120);
    falls_back(|world| fs::create_dir(world.path(&long)).unwrap(), Some(&long), "too long").await;
}

/// tmux itself takes /tmp for a directory that is not there; kas meets the same server as the operator's `tmux`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_odd_directory_for_the_socket_is_met_by_tmux_too() {
    let odd = "tmux dir #(touch PWNED) \"é\"";
    let mut world = World::asleep(Backend::Tmux, "");
    fs::create_dir(world.path(odd)).unwrap();
    let path = world.path(odd);
    world.set_env("TMUX_TMPDIR", path.to_str().unwrap());
    world.start();
    let project = world.project("demo", PROJECT).await;
    let (seen, instance) = world.outcome(&project, SAYS).await;
    assert_eq!((seen.bytes.as_slice(), &instance["backend"]), (SAID, &json!("tmux")));
    let mut tmux = world.command("tmux", &["list-sessions", "-F", "#{session_name}"]);
    let sessions = tmux.env("TMUX_TMPDIR", &path).output().unwrap();
    assert_eq!(sessions.stdout, b"kaged-demo\n");
    assert!(!world.path("PWNED").exists());
    world.fsck();
}
