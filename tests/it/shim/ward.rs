//! A shim is killed: its ward ends what it held, and nothing else.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn nothing_of_a_killed_shim_lives_on() {
    let command = "setsid sh -c 'trap \"\" HUP INT TERM; echo one $$.; while :; do sleep 0.1; done' & \
        (setsid sh -c 'trap \"\" HUP; echo two $$.; exec sleep 1000 </dev/null >/dev/null 2>&1' &); \
        sh -c 'kill -STOP $$' & echo three $!.; trap '' HUP; while :; do sleep 0.1; done";
    let mut run = Run::start(&spec(command)).await;
    let pids = run.told_pids(3).await;
    // Ours, but none of the shim's.
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let ward = run.shim.pid;
    let words = std::fs::read(format!("/proc/{ward}/cmdline")).unwrap();
    assert!(memchr::memmem::find(&words, b"\0ward\0").is_some(), "{}", words.escape_ascii());
    kill_process(Pid::from_raw(run.shim_pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    ended(&run.shim.pidfd).await;
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    assert!(kas::shim::gone(&run.dir, soon()).await);
    assert!(ExitRecord::read(&run.dir).unwrap().is_none(), "nobody knows how it ended");
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_shim_outlives_its_ward() {
    let mut run = Run::start(&spec("echo ready; read x; exit 7")).await;
    run.until_output("ready").await;
    kill_process(Pid::from_raw(run.shim.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    ended(&run.shim.pidfd).await;
    run.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert_eq!(run.finish().await.1.ending, Ending::Exited(Exit::Code(7)));
}

#[tokio::test]
async fn a_ward_passes_on_term_and_the_code() {
    let mut run = Run::start(&spec("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")).await;
    run.until_output("ready").await;
    kill_process(Pid::from_raw(run.shim.pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    let (_, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(5)), Cause::Stop));
    ended(&run.shim.pidfd).await;
}

/// What lives of a run is ended only where no shim or ward is above it, and nothing else is.
#[tokio::test]
async fn what_a_dead_shim_and_ward_left_is_known_by_its_label() {
    use kas::shim::{Left, Look, Remains};
    let command = "(setsid sh -c 'trap \"\" HUP; echo one $$.; exec sleep 1000 </dev/null >/dev/null 2>&1' &); \
        echo two $$.; read x";
    let spec = spec(command);
    let mut run = Run::start(&spec).await;
    let pids = run.told_pids(2).await;
    // It has the run's whole environment, and descends from none of its processes.
    let mut copy = std::process::Command::new("sleep");
    let mut copy = copy.arg("1000").env(kas::shim::RUN_ID, spec.id.to_string()).spawn().unwrap();
    let of_it = || Look::recent().has(&spec.nonce, spec.id);
    let until = soon();
    while Look::recent().living(&spec.nonce).is_empty() {
        assert!(Instant::now() < until, "the look is older than the run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!of_it(), "a shim holds it");
    assert_eq!(Remains::of(&spec.nonce, spec.id).advance(), Left::Ending(Vec::new()));
    let other = Nonce::random().unwrap();
    let (shim, ward) = (run.shim_pid(), run.shim.pid);
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in [shim, ward] {
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
        }
    }
    ended(&run.shim.pidfd).await;
    let mut remains = Remains::of(&spec.nonce, spec.id);
    let until = soon();
    while remains.advance() != Left::Gone {
        assert!(Instant::now() < until, "something stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    assert!(!of_it() && !Look::recent().has(&other, spec.id));
    assert_eq!(Look::recent().marked(spec.id), [copy.id()]);
    assert!(copy.try_wait().unwrap().is_none());
    copy.kill().unwrap();
    copy.wait().unwrap();
}
