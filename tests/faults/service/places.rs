//! Directories that are missing, read-only, somebody else's, or open to all; and files that only their owner may read, whatever the umask.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::Signal;

use super::PROJECT;
use crate::harness::{Backend, World, everything, promised, soon};

/// One that does not start says why in one line.
#[track_caller]
fn refused(world: &mut World, code: i32, words: &[&str]) {
    let (status, log) = world.start_in_vain();
    assert_eq!(status.code(), Some(code), "{log}");
    let said: Vec<_> = log.lines().filter(|line| line.starts_with("kas: ")).collect();
    assert_eq!(said.len(), 1, "{log}");
    for word in words {
        assert!(said[0].contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn without_a_home_it_says_what_to_set() {
    for home in ["", "not/absolute"] {
        let mut world = World::asleep(Backend::Pty, "");
        world.set_env("HOME", home);
        refused(&mut world, 1, &["XDG_CONFIG_HOME", "HOME", "set one of them"]);
        // With the XDG variables nothing needs HOME.
        for (name, dir) in [("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state")] {
            let dir = world.path(dir).to_str().unwrap().to_owned();
            world.set_env(name, &dir);
        }
        world.start();
        assert!(world.end(Signal::TERM).success());
    }
}

#[test]
fn a_home_that_cannot_be_written_is_said_with_what_to_do() {
    let mut world = World::asleep(Backend::Pty, "");
    let home = world.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let read_only = "mount --bind $0 $0 && mount -o remount,ro,bind $0 && exec \"$@\"";
    world.wrap(&["unshare", "-m", "/bin/sh", "-c", read_only, &home]);
    refused(&mut world, 1, &["kasmos", "Read-only", "XDG_STATE_HOME"]);
    // Once it has run, so that the directory is there.
    world.wrap(&[]);
    world.start();
    assert!(world.end(Signal::TERM).success());
    world.wrap(&["unshare", "-m", "/bin/sh", "-c", read_only, &home]);
    refused(&mut world, 1, &["kasmos/lock", "Read-only"]);
}

#[test]
fn a_state_directory_others_can_enter_is_refused_and_left_alone() {
    let mut world = World::asleep(Backend::Pty, "");
    let state = world.state_dir();
    fs::create_dir_all(&state).unwrap();
    mode(&state, 0o777);
    refused(&mut world, 8, &[state.to_str().unwrap(), "mode 0777", "chmod"]);
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o777);
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    mode(&state, 0o700);
    refused(&mut world, 8, &["belongs to user 65534"]);
    std::os::unix::fs::chown(&state, Some(0), Some(0)).unwrap();
    world.start();
    assert!(world.end(Signal::TERM).success());
}

#[test]
fn a_runtime_directory_that_is_not_ours_is_refused() {
    let mut world = World::asleep(Backend::Pty, "");
    let run = world.path("run");
    mode(&run, 0o777);
    refused(&mut world, 8, &["mode 0777", "XDG_RUNTIME_DIR", "--socket"]);
    mode(&run, 0o700);
    std::os::unix::fs::chown(&run, Some(65534), None).unwrap();
    refused(&mut world, 8, &["belongs to user 65534", "XDG_RUNTIME_DIR"]);
    std::os::unix::fs::chown(&run, Some(0), None).unwrap();
    fs::create_dir(run.join("kasmos")).unwrap();
    mode(&run.join("kasmos"), 0o755);
    refused(&mut world, 8, &["mode 0755"]);
    fs::remove_dir(run.join("kasmos")).unwrap();
    std::os::unix::fs::symlink(world.path("tmux"), run.join("kasmos")).unwrap();
    refused(&mut world, 8, &["it is a link"]);
    fs::remove_file(run.join("kasmos")).unwrap();
    world.start();
    assert!(world.end(Signal::TERM).success());
}

/// Without XDG_RUNTIME_DIR the socket is in /tmp/kasmos-<uid>; where that is somebody else's, that is said. A /tmp of its own keeps the test off
/// the real one; its home is moved out of the way first, and the program, which may lie there as well, is opened before.
#[test]
fn without_a_runtime_directory_it_is_in_tmp_and_checked_there() {
    let mut world = World::asleep(Backend::Pty, "");
    world.set_env("XDG_RUNTIME_DIR", "");
    let home = world.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let own_tmp = |before: &str| {
        format!(
            "exec 9<\"$1\" && shift && mkdir -p /mnt && mount --bind $0 /mnt && mount -t tmpfs -o mode=1777 tmpfs /tmp && mkdir -p $0 && \
            mount --bind /mnt $0 && {before} && exec /proc/self/fd/9 \"$@\""
        )
    };
    for (before, words) in [
        ("install -d -m 777 /tmp/kasmos-0", ["/tmp/kasmos-0", "mode 0777"]),
        ("install -d -m 700 -o nobody /tmp/kasmos-0", ["/tmp/kasmos-0", "belongs to user 65534"]),
        ("ln -s /etc /tmp/kasmos-0", ["/tmp/kasmos-0", "it is a link"]),
        ("chmod 777 /tmp", ["/tmp is not safe", "mode 0777"]),
    ] {
        world.wrap(&["unshare", "-m", "/bin/sh", "-c", &own_tmp(before), &home]);
        refused(&mut world, 8, &words);
    }
    world.wrap(&["unshare", "-m", "/bin/sh", "-c", &own_tmp("true"), &home]);
    world.start();
    world.logged("ready socket=/tmp/kasmos-0/kas.sock");
    assert!(world.end(Signal::TERM).success());
}

#[test]
fn a_socket_path_the_kernel_cannot_take_is_said_with_what_to_do() {
    let mut world = World::asleep(Backend::Pty, "");
    let long = world.path(&format!("run/{}", "long-".repeat(20)));
    fs::create_dir(&long).unwrap();
    world.set_env("XDG_RUNTIME_DIR", long.to_str().unwrap());
    refused(&mut world, 4, &["bytes, more than 107", "socket_path"]);
    let short = world.path("run/p/s");
    world.configure(&format!("socket_path = {short:?}"));
    world.start();
    assert!(world.end(Signal::TERM).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_private_whatever_the_umask() {
    for (umask, backend) in [("000", Backend::Pty), ("077", Backend::Tmux), ("000", Backend::Tmux)] {
        let mut world = World::asleep(backend, "[limits]\ntranscript_bytes = 65536");
        world.wrap(&["/bin/sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        world.start();
        let project = world.project("demo", PROJECT).await;
        // Enough for the journal's front to be cut, which leaves a checkpoint.
        let flood = "yes 0123456789 | head -c 3000000; echo; echo up; read x";
        let id = world.run_command(&project, flood).await;
        world.until_running(&id).await;
        let instance = world.state_dir().join("instances").join(&id);
        soon(&format!("the whole output with {umask} on {backend:?}"), async {
            while !world.transcript(&id).await.1.ends_with(b"up\r\n") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        // The journal's front is cut beside the output, some milliseconds later.
        soon("a checkpoint", async {
            while !instance.join("checkpoint").exists() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        let mut found = Vec::new();
        everything(&world.state_dir(), &mut found);
        everything(&world.path("run"), &mut found);
        assert!(found.contains(&instance.join("spec.json")) && found.contains(&instance.join("shim.sock")));
        assert!(found.contains(&instance.join("checkpoint")), "{found:?}");
        for path in found {
            // The segments before the checkpoint are removed after it is there.
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            let expect = if facts.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(facts.mode() & 0o777, expect, "{} with umask {umask}", path.display());
        }
        world.stop(&id).await;
        // The task's own umask is the operator's.
        let (seen, _) = world.outcome(&project, "umask").await;
        if backend == Backend::Pty {
            assert_eq!(seen.text().trim().trim_start_matches('0'), umask.trim_start_matches('0'));
        }
        assert!(world.end(Signal::TERM).success());
        world.fsck();
    }
    let world = World::asleep(Backend::Pty, "http_addr = \"127.0.0.1:0\"");
    let started =
        world.command("/bin/sh", &["-c", "umask 000; exec \"$0\" daemon start", env!("CARGO_BIN_EXE_kas")]);
    assert!({ started }.output().unwrap().status.success());
    for file in [world.path(".config/kasmos/daemon.pid"), world.state_dir().join("daemon.log")] {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert_eq!(world.kas(&["daemon", "stop"]).code, Some(0));
}

/// Somebody tidies up: the socket, then its whole directory. Each is back within five seconds, with everything that was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_removed_is_there_again() {
    let world = World::new(Backend::Pty);
    let project = world.project("demo", PROJECT).await;
    let id = world.run_command(&project, "echo up; read x").await;
    world.until_running(&id).await;
    let tcp = world.over_tcp().await;
    let run = world.path("run/kasmos");
    let socket = run.join("kas.sock");
    let directory = || {
        // The daemon may put the socket back in between.
        while fs::remove_dir_all(&run).is_err() {}
    };
    let file = || fs::remove_file(&socket).unwrap();
    let taken = || {
        let new = world.write("run/new", "a file");
        fs::rename(new, &socket).unwrap();
    };
    let remove: [&dyn Fn(); 3] = [&file, &directory, &taken];
    for remove in remove {
        remove();
        let gone = std::time::Instant::now();
        let second = world.kas(&["daemon", "start", "--foreground"]);
        assert_eq!(second.code, Some(17), "{second:?}");
        assert!(second.stderr.contains(&world.daemon_pid().to_string()), "{second:?}");
        if fs::metadata(&socket).is_ok_and(|facts| facts.is_file()) {
            world.logged("the control socket is gone and cannot be made");
            assert_eq!(fs::read(&socket).unwrap(), b"a file", "what is not ours is left alone");
            file();
        }
        soon("the socket", async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(gone.elapsed() < promised(std::time::Duration::from_secs(9)), "{:?}", gone.elapsed());
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
        assert_eq!(world.kas(&["daemon", "status", "--json"]).code, Some(0));
        assert_eq!(world.instance(&id).await["state"], "running");
        // Who did not need the socket never noticed.
        tcp.get(&format!("/api/v1/tasks/{id}")).await.expect(200);
    }
    world.fsck();
}
