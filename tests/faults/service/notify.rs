//! What systemd is told, as a listener of our own hears it.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{PROJECT, as_a_service};
use crate::harness::{Backend, PATIENCE, World, soon};

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn of(world: &mut World) -> Self {
        let path = world.path("notify");
        world.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// What is heard within this time.
    fn within(&self, time: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
    }

    /// Waits for a message that begins so; what comes before it is passed over.
    fn until(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut others = VecDeque::new();
        while Instant::now() < deadline {
            let Some(heard) = self.within(Duration::from_secs(5)) else { continue };
            if heard.starts_with(start) {
                return heard;
            }
            others.push_back(heard);
        }
        panic!("never heard {start:?}, only {others:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_state_reloads_and_the_end_are_told() {
    let mut world = World::asleep(Backend::Pty, "");
    let manager = Manager::of(&mut world);
    world.start();
    manager.until("READY=1");
    manager.until("STATUS=0 tasks run; 0 projects; http://127.0.0.1:");
    // No WATCHDOG_USEC: nobody waits for a sign of life.
    let mut last = 0;
    for _ in 0..2 {
        world.signal(Signal::HUP);
        let told = manager.until("RELOADING=1\n");
        let at: u64 = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(at > last, "{told}");
        last = at;
        assert_ne!(manager.until(""), "WATCHDOG=1");
        manager.until("READY=1");
    }
    world.write(".config/kasmos/daemon.toml", "nonsense = 1");
    world.signal(Signal::HUP);
    assert!(manager.until("STATUS=bad configuration").contains("nonsense"));
    manager.until("READY=1");
    assert!(world.end(Signal::TERM).success());
    manager.until("STOPPING=1");
    world.fsck();
}

/// Whether each of its threads stands still.
fn is_stopped(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stands_still_gives_no_sign_of_life() {
    let mut world = World::asleep(Backend::Pty, "");
    let manager = Manager::of(&mut world);
    world.set_env("WATCHDOG_USEC", "600000");
    world.start();
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    world.signal(Signal::STOP);
    while !is_stopped(world.daemon_pid()) {
        std::thread::yield_now();
    }
    while manager.within(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.within(Duration::from_millis(1300)), None, "four beats should have been missed");
    world.signal(Signal::CONT);
    manager.until("WATCHDOG=1");
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_tmux_is_told_and_is_no_reason_to_restart() {
    let mut world = World::asleep(Backend::Tmux, "");
    let manager = Manager::of(&mut world);
    world.set_env("WATCHDOG_USEC", "600000");
    world.start();
    let project = world.project("demo", PROJECT).await;
    world.outcome(&project, "echo up").await;
    let pid = world.tmux(&["display-message", "-p", "#{pid}"]).stdout.trim().parse().unwrap();
    let tmux = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(tmux, Signal::STOP).unwrap();
    let told = manager.until("STATUS=tmux");
    assert!(told.contains("did not answer"), "{told}");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    rustix::process::kill_process(tmux, Signal::CONT).unwrap();
    manager.until("STATUS=0 tasks run; 1 projects");
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}

/// What a service is told must not reach those it starts: a task with NOTIFY_SOCKET could feed the watchdog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_task_shim_or_tmux_gets_the_services_variables() {
    for backend in [Backend::Pty, Backend::Tmux] {
        let mut world = World::asleep(backend, "");
        // Not even where the operator has everything passed on.
        let config = format!(
            "[task_runner]\nbackend = \"{}\"\npass_env = [\"*\"]\n[task_runner.tmux]\nconfig = \"min\"\n",
            backend.word()
        );
        world.write(".config/kasmos/daemon.toml", &config);
        let _manager = Manager::of(&mut world);
        // The scope's own invocation is set by systemd-run.
        super::script(
            &mut world,
            "systemd-run",
            "while [ \"$1\" != -- ]; do shift; done\nshift\nINVOCATION_ID=scope exec \"$@\"",
        );
        as_a_service(&mut world);
        for (name, value) in [
            ("WATCHDOG_USEC", "60000000"),
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "x"),
            ("CANARY", "kept"),
        ] {
            world.set_env(name, value);
        }
        world.start();
        let project = world.project("demo", PROJECT).await;
        let id = world.run_command(&project, "env; exec sleep 1000").await;
        let pid = world.until_running(&id).await["pid"].as_u64().unwrap();
        soon("the environment", async {
            loop {
                let seen = world.transcript(&id).await.1;
                if memchr::memmem::find(&seen, b"CANARY=kept").is_some() {
                    return;
                }
            }
        })
        .await;
        let said = String::from_utf8(world.transcript(&id).await.1.to_vec()).unwrap();
        let environ = |pid: &str| {
            let text = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
            String::from_utf8_lossy(&text).replace('\0', "\n")
        };
        let parent = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned()
        };
        let shim = parent(&pid.to_string());
        let mut all =
            vec![("the task", said), ("its shim", environ(&shim)), ("its ward", environ(&parent(&shim)))];
        if backend == Backend::Tmux {
            all.push(("tmux", world.tmux(&["show-environment", "-g"]).stdout));
        }
        for (who, env) in all {
            for name in [
                "NOTIFY_SOCKET",
                "WATCHDOG_",
                "LISTEN_",
                "INVOCATION_ID",
                "JOURNAL_STREAM",
                "SYSTEMD_EXEC_PID",
            ] {
                let found = env.lines().find(|line| line.starts_with(name));
                assert_eq!(found, None, "{who} of {backend:?}");
            }
        }
        world.stop(&id).await;
        assert!(world.end(Signal::TERM).success());
        world.fsck();
    }
}
