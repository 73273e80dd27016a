//! Stops, signals and leftovers.

use super::*;
use crate::harness::{eventually, promised};

/// Whether a process lives (and is no zombie).
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn stop_ends_the_whole_tree_wherever_it_fled() {
    let command = "setsid sh -c 'echo one $$.; exec sleep 1000' & (setsid sh -c 'trap \"\" HUP INT; echo two $$.; \
        exec sleep 1000 </dev/null >/dev/null 2>&1' &) ; sh -c 'kill -STOP $$' & echo three $!.; wait; wait";
    let mut run = Run::start(&spec(command)).await;
    let pids = run.told_pids(3).await;
    assert!(pids.iter().all(|pid| lives(pid)), "{pids:?}");
    let record = run.stop().await;
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Signal(15)), Cause::Stop));
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_five_seconds() {
    let mut run = Run::start(&spec("trap '' TERM HUP INT; echo ready; while :; do sleep 1; done")).await;
    run.until_output("ready").await;
    let began = Instant::now();
    let record = run.stop().await;
    let took = began.elapsed();
    assert_eq!(record.ending, Ending::Exited(Exit::Signal(9)));
    let grace = Duration::from_secs(5);
    assert!((grace..promised(grace + Duration::from_millis(1500))).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_program_that_a_shell_runs_may_end_in_peace() {
    let farewell = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo bye; exit 4";
    let program = format!("trap '{farewell}' TERM; echo ready; while :; do sleep 0.05; done");
    let mut run = Run::start(&spec(&format!("sh -c \"{}\"; exit $?", program.replace('$', "\\$")))).await;
    run.until_output("ready").await;
    run.client.stop(false).await.unwrap();
    let (output, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(4)), Cause::Stop));
    assert!(String::from_utf8_lossy(&output).contains("bye"));
}

#[tokio::test]
async fn a_stop_with_interrupt_lets_the_program_say_goodbye() {
    // Deaf to TERM, which would come after a second: only an interrupt makes it say goodbye.
    let polite = "trap '' TERM; trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let mut run = Run::start(&spec(polite)).await;
    run.until_output("ready").await;
    run.client.stop(true).await.unwrap();
    let (output, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(5)), Cause::Stop));
    assert!(String::from_utf8_lossy(&output).contains("bye"));
}

#[tokio::test]
async fn a_stop_goes_on_when_the_client_dies() {
    let mut run = Run::start(&spec("trap '' TERM; echo ready; while :; do sleep 0.1; done")).await;
    run.until_output("ready").await;
    run.client.stop(false).await.unwrap();
    // The stop has reached the shim once it answers a later request.
    run.client.resize(Size::clamped(90, 30).unwrap()).await.unwrap();
    run.until(|e| matches!(e, Event::Resized(_)).then_some(())).await;
    let Run { dir, shim, client, events, _home } = run;
    drop((client, events));
    ended(&shim.pidfd).await;
    let record = ExitRecord::read(&dir).unwrap().unwrap();
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Signal(9)), Cause::Stop));
}

#[tokio::test]
async fn a_background_child_does_not_hold_up_the_end() {
    let began = Instant::now();
    let mut run = Run::start(&spec("trap '' HUP; sleep 1000 & echo $!; exit 3")).await;
    let (output, record) = run.finish().await;
    assert_eq!(record.ending, Ending::Exited(Exit::Code(3)));
    assert!(began.elapsed() < promised(Duration::from_secs(5)), "{:?}", began.elapsed());
    let pid = String::from_utf8_lossy(&output).trim().to_owned();
    // It was told that its terminal is gone, ignored that, and may live on; a stop still reaches it.
    assert!(lives(&pid));
    run.client.stop(false).await.unwrap();
    run.until(|e| matches!(e, Event::Stopped).then_some(())).await;
    assert!(!lives(&pid));
}

#[tokio::test]
async fn a_signal_reaches_the_command() {
    let mut run =
        Run::start(&spec("trap 'echo usr; exit 6' USR1; echo ready; while :; do sleep 0.02; done")).await;
    run.until_output("ready").await;
    run.client.signal(10).await.unwrap();
    let (_, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(6)), Cause::Itself));
}

#[tokio::test]
async fn a_thousand_zombies_are_reaped() {
    let command = "i=0; while [ $i -lt 200 ]; do (true &) ; i=$((i+1)); done; echo ready; read x";
    let mut run = Run::start(&spec(command)).await;
    run.until_output("ready").await;
    let shim = run.shim_pid().to_string();
    eventually("the last zombie's end", || {
        let zombie = |entry: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            (fields[0] == "Z" && fields[1] == shim).then(|| stat.clone())
        };
        let zombies: Vec<String> = std::fs::read_dir("/proc").unwrap().flatten().filter_map(zombie).collect();
        if zombies.is_empty() { Ok(()) } else { Err(format!("{zombies:?}")) }
    })
    .await;
    run.stop().await;
}
