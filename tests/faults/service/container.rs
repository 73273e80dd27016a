//! The daemon as the first process of a PID namespace, as in a container without an init.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Backend, Done, World, eventually};

/// The processes of whom this one is the parent, and whether each has ended and is not reaped.
fn children(parent: u32) -> Vec<(u32, bool)> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    let stat = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, above) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
        Some((pid, above, state == "Z"))
    };
    pids.filter_map(stat).filter(|(_, above, _)| *above == parent).map(|(pid, _, dead)| (pid, dead)).collect()
}

/// What tasks leave behind is reaped when it ends, TERM ends the daemon, and its code is the container's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_first_process_it_reaps_what_tasks_leave() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: no PID namespace can be made, nothing is checked");
        return;
    }
    let mut world = World::asleep(Backend::Pty, "");
    world.wrap(&["unshare", "--fork", "--pid", "--mount-proc"]);
    world.write("demo/.kaged/project.yaml", "project: demo\ntasks: {}");
    world.start();
    let [(first, _)] = children(world.daemon_pid())[..] else { panic!("one process below unshare") };
    let inside = |words: &[&str]| {
        let first = first.to_string();
        let kas = ["-t", &first, "-p", "-m", env!("CARGO_BIN_EXE_kas")];
        Done::of(world.command("nsenter", &[&kas, words].concat()))
    };
    let demo = world.path("demo");
    assert_eq!(inside(&["daemon", "add", demo.to_str().unwrap()]).code, Some(0));
    // Its leader waits until the other has left its session, for the end of a leader hangs up the whole session.
    let orphan =
        "(setsid sh -c 'touch ../up; until [ -e ../go ]; do sleep 0.05; done' >/dev/null 2>&1 </dev/null &)";
    let command = format!("{orphan}; until [ -e ../up ]; do sleep 0.02; done; exit 7");
    let run = inside(&["run", "-p", "demo", "--wait", "--", &command]);
    assert_eq!(run.code, Some(7), "{run:?}");
    // The shim leaves, and what the task left comes to process 1; with the daemon that makes two.
    eventually("an orphan", || {
        let all = children(first);
        if all.len() >= 2 { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    world.write("go", "");
    eventually("only the daemon is left", || {
        let all = children(first);
        if all.len() == 1 && !all[0].1 { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(first.cast_signed()).unwrap(), Signal::TERM)
        .unwrap();
    let (status, log) = world.gone();
    assert!(status.success(), "{status}: {log}");
}
