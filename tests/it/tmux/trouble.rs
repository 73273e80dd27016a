//! tmux dying, hanging and being taken away.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_client_costs_nothing() {
    let mut world = World::new().await;
    let p = project("p");
    let mut task =
        world.run(&p, "task-flood", "stty -echo; seq 600000; read x; seq 600000; read x; seq 10").await;
    for goal in [1_000_000, 2_500_000] {
        task.until("some bytes", |channel| channel.live_end().0 > goal).await;
        let pid = in_time("a control client", async {
            loop {
                if let Some(pid) = world.control_client(&p) {
                    return pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let pid = rustix::process::Pid::from_raw(pid.await).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        world.report("the loss", |report| matches!(report, Report::ControlLost { .. }).then_some(())).await;
    }
    let before = world.tmux.control_bytes();
    let all = [lines(600_000), lines(600_000), lines(10)].concat();
    task.until("the first part", |channel| channel.live_end().0 >= lines(600_000).len() as u64).await;
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    let (bytes, _) = task.finish().await;
    assert!(bytes == all, "{} of {} bytes", bytes.len(), all.len());
    println!("after two kills: {} bytes by the control stream", world.tmux.control_bytes() - before);
}

#[tokio::test]
async fn a_killed_server_is_reported_and_the_next_run_gets_another() {
    let mut world = World::new().await;
    let runs = [world.run(&project("a"), "task-x", "exec sleep 1000").await];
    let other = world.run(&project("b"), "task-x", "exec sleep 1000").await;
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let gone = world.report("the server's end", |report| {
        if let Report::ServerGone { projects } = report { Some(projects.clone()) } else { None }
    });
    assert_eq!(gone.await, [project("a"), project("b")]);
    assert!(!world.tmux.serves_what_it_served(None).await);
    for run in runs.iter().chain([&other]) {
        let mut record = run.record.clone();
        in_time("the run's end", record.wait_for(Option::is_some)).await.unwrap();
    }
    let mut again = world.run(&project("a"), "task-x", "echo again").await;
    assert_eq!(again.finish().await.0, b"again\r\n");
    assert!(world.tmux.serves_what_it_served(None).await);
}

#[tokio::test]
async fn a_server_that_is_told_to_end_is_no_crash() {
    let world = World::new().await;
    let run = world.run(&project("a"), "task-x", "echo ready; exec sleep 1000").await;
    run.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["kill-server"]);
    let mut record = run.record.clone();
    in_time("the end", record.wait_for(Option::is_some)).await.unwrap();
    assert!(world.tmux.serves_what_it_served(None).await);
    let mut again = world.run(&project("a"), "task-x", "echo again").await;
    assert_eq!(again.finish().await.0, b"again\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_holds_up_no_output_and_answers_are_not_waited_for() {
    let world = World::new().await;
    let p = project("p");
    let mut task = world.run(&p, "task-x", "read x; seq 1000; read x; echo end").await;
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let server = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::STOP).unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    let whole = task.until("output past a stopped server", |channel| {
        channel.live_end().0 >= lines(1000).len() as u64 + 2
    });
    whole.await;
    assert!(matches!(world.tmux.ping().await, Err(BackendError::TmuxHangs(_))));
    assert!(world.tmux.serves_what_it_served(None).await);
    rustix::process::kill_process(server, rustix::process::Signal::CONT).unwrap();
    task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(task.finish().await.0.ends_with(b"end\r\n"));
}

#[tokio::test]
async fn where_control_mode_does_not_work_runs_stream_from_their_shims() {
    // A tmux that is the real one, but for control mode.
    let home = tempfile::tempdir().unwrap();
    probe::fake(
        home.path(),
        "for a in \"$@\"; do [ \"$a\" = -C ] && exit 1; done\nexec /usr/bin/tmux \"$@\"",
    );
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let vars = [("PATH", path.as_str()), ("HOME", home.path().to_str().unwrap())];
    let env = Env::from_vars(vars.into_iter().chain([("TMUX_TMPDIR", home.path().to_str().unwrap())]));
    let settings = Settings::new(&Config::default().task_runner, &env, home.path(), 1000);
    let version = tmux::probe(&settings).await.version().unwrap();
    let (report, reports) = mpsc::channel(100);
    let mut world = World { home, tmux: Tmux::new(settings, version, report), reports };
    let mut task = world.run(&project("p"), "task-x", "echo all the same").await;
    assert_eq!(task.finish().await.0, b"all the same\r\n");
    world.report("the fallback", |report| matches!(report, Report::PipeFallback { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_client_let_go_earlier_does_not_hide_a_crash() {
    let mut world = World::new().await;
    let run = world.run(&project("a"), "task-x", "echo ready; exec sleep 1000").await;
    run.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["detach-client", "-s", "=kaged-a"]);
    world.report("the loss", |report| matches!(report, Report::ControlLost { .. }).then_some(())).await;
    assert!(world.tmux.serves_what_it_served(None).await);
    let pid: i32 = world.sh(&["display-message", "-p", "#{pid}"]).parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut record = run.record.clone();
    in_time("the end", record.wait_for(Option::is_some)).await.unwrap();
    assert!(!world.tmux.serves_what_it_served(None).await);
}
