//! What an earlier daemon left under numbers that are now somebody else's, and the machine restarted under everything.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};

use super::truth::MARK;
use crate::harness::{Backend, World, eventually};

/// A process that has nothing to do with kas, under exactly this number, once what had it was waited for by its parent.
async fn stranger(pid: u32) -> Pid {
    let mut made = None;
    eventually("the number is free", || {
        made = Some(process_of(pid)?);
        Ok(())
    })
    .await;
    made.unwrap()
}

fn process_of(pid: u32) -> Result<Pid, String> {
    let wanted = [pid.cast_signed()];
    let arguments = [c"sleep".as_ptr(), c"1000".as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: all zeros are a valid value of this structure of numbers.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
    how.set_tid = wanted.as_ptr() as u64;
    how.set_tid_size = 1;
    // SAFETY: a fork, and `how` outlives the call; the child does nothing but execve(2) and _exit(2).
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) };
    if child == 0 {
        // SAFETY: both lists end with a null pointer, and what they point to is static.
        unsafe {
            libc::execve(c"/bin/sleep".as_ptr(), arguments.as_ptr(), environment.as_ptr());
            libc::_exit(127);
        }
    }
    if child < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    Ok(Pid::from_raw(wanted[0]).unwrap())
}

fn untouched(stranger: Pid) {
    assert!(waitpid(Some(stranger), WaitOptions::NOHANG).unwrap().is_none(), "a stranger was ended");
    let status = std::fs::read_to_string(format!("/proc/{}/status", stranger.as_raw_nonzero())).unwrap();
    assert!(status.contains("SigPnd:\t0000000000000000") && status.contains("State:\tS"), "{status}");
    kill_process(stranger, Signal::KILL).unwrap();
    waitpid(Some(stranger), WaitOptions::empty()).unwrap();
}

fn pid_of_status(world: &World) -> u32 {
    let status = world.kas(&["daemon", "status", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap_or_else(|_| panic!("{status:?}"));
    status["pid"].as_u64().unwrap().try_into().unwrap()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

/// Socket, lock and pid file of a killed daemon, whose number is another's by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_pid_is_left_alone() {
    let world = World::asleep(Backend::Pty, "");
    assert_eq!(world.kas(&["daemon", "start", "--http", "127.0.0.1:0"]).code, Some(0));
    let pid = pid_of_status(&world);
    let pid_file = world.path(".config/kasmos/daemon.pid");
    kill(pid);
    eventually("it is there", || {
        if std::path::Path::new(&format!("/proc/{pid}")).exists() { Err(pid.to_string()) } else { Ok(()) }
    })
    .await;
    let stranger = stranger(pid).await;
    for left in [&pid_file, &world.state_dir().join("lock"), &world.path("run/kasmos/kas.sock")] {
        assert!(left.exists(), "{}", left.display());
    }
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), pid.to_string());
    assert_eq!(world.kas(&["daemon", "status"]).code, Some(5));
    let stopped = world.kas(&["daemon", "stop"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("left alone"), "{stopped:?}");
    let started = world.kas(&["daemon", "start", "--http", "127.0.0.1:0"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let next = pid_of_status(&world);
    assert_ne!(next, pid);
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), next.to_string());
    assert_eq!(world.kas(&["daemon", "stop"]).code, Some(0));
    untouched(stranger);
    world.fsck();
}

/// Everything dies at once, the next daemon starts in another boot, and the numbers of old are other processes'.
async fn after_a_reboot_nothing_old_is_signalled(backend: Backend) {
    let mut world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let mut runs = Vec::new();
    for n in 0..3 {
        let id = world
            .run_command("demo", &format!("echo ran >> ledger; echo up; exec env {MARK} sleep 100{n}"))
            .await;
        let run = world.until_running(&id).await;
        let mut viewer = crate::harness::Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.bytes == b"up\r\n").await;
        runs.push((id, u32::try_from(run["pid"].as_u64().unwrap()).unwrap()));
    }
    world.end(Signal::KILL);
    world.kill_everything().await;
    let mut strangers = Vec::new();
    for (_, pid) in &runs {
        strangers.push(stranger(*pid).await);
    }

    let boot = world.write("boot_id", "00000000-1111-2222-3333-444444444444\n");
    let trace = world.path("signals");
    let script = format!(
        "mount --bind {} /proc/sys/kernel/random/boot_id && exec strace -f -qq -o {} -e trace=kill,tkill,tgkill,pidfd_send_signal -e signal=none \"$@\"",
        boot.display(),
        trace.display()
    );
    world.wrap(&["unshare", "-m", "sh", "-c", &script, "sh"]);
    world.start();
    for (id, _) in &runs {
        let run = world.until_ended(id).await;
        let told = json!([run["state"], run["error"], run["exit_code"]]);
        assert_eq!(told, json!(["failed", "host_restart", null]), "{run}");
        assert_eq!(&world.transcript(id).await.1[..], b"up\r\n");
    }
    let signals = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(signals, "", "the daemon signalled somebody");
    assert_eq!(
        std::fs::read_to_string(world.path("demo/ledger")).unwrap().lines().count(),
        3,
        "nothing ran again"
    );
    strangers.into_iter().for_each(untouched);
    let again = world.run_command("demo", "exit 6").await;
    assert_eq!(world.until_ended(&again).await["exit_code"], 6);
    world.nothing_is_held(MARK).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_nothing_old_is_signalled_pty() {
    after_a_reboot_nothing_old_is_signalled(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_nothing_old_is_signalled_tmux() {
    after_a_reboot_nothing_old_is_signalled(Backend::Tmux).await;
}
