//! tmux does some of what it should: runs go on without the rest, and it is said once.

use super::fake::Fake;
use super::*;

const PIPE_FALLBACK: &str = "task_runner.tmux_pipe_fallback";

/// Runs a few commands at once and checks every byte and code.
async fn runs_are_exact(world: &World, backend: &str) {
    let outcomes = (0..3).map(|n| async move {
        let command = format!("stty -opost; seq {n} 20000; exit {n}");
        let (seen, run) = world.outcome("demo", &command).await;
        let expect: String = (n..=20_000).map(|n| format!("{n}\n")).collect();
        assert!(seen.text() == expect, "{} of {} bytes", seen.bytes.len(), expect.len());
        assert_eq!((&run["exit_code"], &run["backend"]), (&json!(n), &json!(backend)));
    });
    futures_util::future::join_all(outcomes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_control_mode_runs_stream_from_their_shims_until_there_is_one() {
    let (mut world, fake) = Fake::world("");
    fake.at("instead-control", "echo 'no control mode today' >&2; exit 1");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut listener = listener(&world).await;
    runs_are_exact(&world, "tmux").await;
    let told = event(&mut listener, PIPE_FALLBACK).await;
    assert_eq!(told["project_id"], "demo", "{told}");
    world.logged(PIPE_FALLBACK);
    runs_are_exact(&world, "tmux").await;
    let all = audited(&world, PIPE_FALLBACK).await;
    assert_eq!(all.len(), 1, "it is said once: {all:?}");
    fake.forget("instead-control");
    until("a control client", || control_client(&world, "demo")).await;
    control_works(&world, "demo").await;
    runs_are_exact(&world, "tmux").await;
    assert_eq!(audited(&world, PIPE_FALLBACK).await.len(), 1);
    // It is said again when it is lost again.
    fake.at("instead-control", "exit 1");
    end(control_client(&world, "demo").unwrap(), Signal::KILL);
    event(&mut listener, PIPE_FALLBACK).await;
    runs_are_exact(&world, "tmux").await;
    assert_eq!(audited(&world, PIPE_FALLBACK).await.len(), 2);
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_mode_that_never_answers_or_never_stays_is_none() {
    for control in ["exec sleep 10009", "head -c 1 > /dev/null; exit 0", "echo nonsense; exec cat"] {
        let (mut world, fake) = Fake::world("");
        fake.at("instead-control", control);
        world.start();
        world.project("demo", NO_TASKS).await;
        let mut listener = listener(&world).await;
        runs_are_exact(&world, "tmux").await;
        event(&mut listener, PIPE_FALLBACK).await;
        // Who launches now does not wait for what did not work before.
        let since = Instant::now();
        runs_are_exact(&world, "tmux").await;
        println!("{control:?}: {:?} for runs without control mode", since.elapsed());
        assert!(since.elapsed() < promised(Duration::from_secs(4)), "{control:?}: {:?}", since.elapsed());
        assert_eq!(audited(&world, PIPE_FALLBACK).await.len(), 1);
        world.fsck();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_clients_that_attach_and_never_answer_are_none() {
    let (mut world, fake) = Fake::world("");
    let nonsense = fake.bytes("nonsense", b"%what @ever\n");
    fake.plan(&vec![format!("edit 0 instead {nonsense} ^%[0-9]+ @"); 5]);
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut listener = listener(&world).await;
    runs_are_exact(&world, "tmux").await;
    event(&mut listener, PIPE_FALLBACK).await;
    until("the last of them", || (fake.planned() == 0).then_some(())).await;
    control_works(&world, "demo").await;
    runs_are_exact(&world, "tmux").await;
    assert_eq!(audited(&world, PIPE_FALLBACK).await.len(), 1);
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_tmux_fails_for_runs_on_a_pty() {
    let (mut world, fake) = Fake::world("");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut listener = listener(&world).await;
    runs_are_exact(&world, "tmux").await;
    fake.at(
        "instead-new-window",
        "echo 'create window failed: fork failed: Too many open files' >&2; exit 1",
    );
    let (seen, run) = world.outcome("demo", "echo here; exit 6").await;
    assert_eq!((seen.text().as_str(), end_of(&run)), ("here\r\n", json!(["failed", 6, null])));
    assert_eq!(json!([run["backend"], run["tmux_session"], run["tmux_window"]]), json!(["pty", null, null]));
    let told = event(&mut listener, "task_runner.tmux_fallback").await;
    assert_eq!(told["task_id"], run["id"]);
    assert!(told["error"].as_str().unwrap().contains("fork failed"), "{told}");
    world.logged("task_runner.tmux_fallback");
    runs_are_exact(&world, "pty").await;
    fake.forget("instead-new-window");
    runs_are_exact(&world, "tmux").await;
    let told = audited(&world, "task_runner.tmux_fallback").await;
    assert_eq!(told.len(), 4, "one for each run: {told:?}");
    bystanders.check(&world);
}
