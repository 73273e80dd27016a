//! The server is killed, crashes, hangs, is ended by its operator, or another one has its ids.

use futures_util::future::join_all;

use super::fake::Fake;
use super::*;
use crate::harness::Backend;

/// Commands that outlive a window unless they are ended, each in another way.
const STUBBORN: [&str; 5] = [
    "exec sleep 10003",
    "trap '' HUP; sleep 10003; sleep 10003",
    "trap '' HUP TERM; sleep 10003 & wait; sleep 10003",
    "nohup setsid sh -c \"trap '' HUP TERM; sleep 10003 & wait; sleep 10003\" > /dev/null 2>&1 & exec sleep 10003",
    "trap 'sleep 10003' HUP TERM; sleep 10003; sleep 10003",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_ends_its_runs_and_leaves_nothing() {
    let count = if crate::long() { 50 } else { 20 };
    let world = World::with(Backend::Tmux, ROOMY);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(world.run_command("demo", STUBBORN[n % STUBBORN.len()]).await);
    }
    join_all(ids.iter().map(|id| world.until_running(id))).await;
    until("every command's start", || (processes(&world, "10003").len() >= count).then_some(())).await;
    end(server_of(&world, "demo"), Signal::KILL);
    let since = Instant::now();
    let runs = join_all(ids.iter().map(|id| world.until_ended(id))).await;
    println!("{count} runs were told to be over after {:?}", since.elapsed());
    assert!(since.elapsed() < promised(Duration::from_secs(4)), "{:?}", since.elapsed());
    for run in &runs {
        assert_eq!(end_of(run), json!(["failed", null, "tmux_crash"]), "{run}");
    }
    // At once, with the last of the old ones still ending.
    let again = world.run_command("demo", "echo again; exec sleep 10004").await;
    let again = world.until_running(&again).await;
    assert_eq!(again["backend"], "tmux");
    until("the end of every survivor", || processes(&world, "10003").is_empty().then_some(())).await;
    println!("nothing was left after {:?}", since.elapsed());
    let listed = world.get("/api/v1/projects/demo/tasks/instances?limit=500").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), count + 1, "something was launched again");
    assert_eq!(audited(&world, "task.exited").await.len(), count);
    bystanders.check(&world);
}

/// Where a crash is put, and with what before it: a server that serves, or none.
const MOMENTS: [&str; 8] = [
    "before-new-session",
    "after-new-session",
    "before-new-window",
    "after-new-window",
    "before-list-windows",
    "after-list-windows",
    "before-control",
    "after-new-window",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_launch_runs_nothing_twice() {
    let (mut world, fake) = Fake::world(ROOMY);
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    for (n, moment) in MOMENTS.into_iter().enumerate() {
        fake.at(moment, "kill -SEGV $(TMUX display-message -p '#{pid}')");
        let since = Instant::now();
        let id = world.run_command("demo", &format!("echo {n} >> ran; exit 7")).await;
        let run = world.until_ended(&id).await;
        let ran = std::fs::read_to_string(world.path("demo/ran")).unwrap_or_default();
        let times = ran.lines().filter(|line| *line == n.to_string()).count();
        let ended = end_of(&run);
        println!("{moment}: {ended} on {}, taken: {}", run["backend"], fake.is_taken(moment));
        assert!(fake.is_taken(moment), "{moment} did not come");
        if ended == json!(["failed", 7, null]) {
            assert_eq!(times, 1, "{moment}");
        } else {
            assert_eq!(ended, json!(["failed", null, "tmux_crash"]), "{moment}");
            assert!(times <= 1, "{moment}: {times} times");
        }
        assert!(since.elapsed() < promised(Duration::from_secs(5)), "{moment}: {:?}", since.elapsed());
        // A server that lives, for the moments that need one.
        let (seen, after) = world.outcome("demo", "echo fine").await;
        assert_eq!((seen.bytes.as_slice(), &after["backend"]), (&b"fine\r\n"[..], &json!("tmux")), "{after}");
        if matches!(
            MOMENTS.get(n + 1),
            Some(&"before-new-session" | &"after-new-session" | &"before-control")
        ) {
            world.tmux(&["kill-server"]);
        }
    }
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_during_a_launch_makes_no_second_run() {
    let (mut world, fake) = Fake::world("");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let (_, first) = world.outcome("demo", "echo first").await;
    assert_eq!(first["backend"], "tmux");
    let server = server_of(&world, "demo");
    fake.at("before-new-window", "kill -STOP $(TMUX display-message -p '#{pid}')");
    let (seen, run) = world.outcome("demo", "echo ran >> ran; echo ran; exit 7").await;
    assert_eq!((seen.text().as_str(), &run["backend"]), ("ran\r\n", &json!("pty")));
    assert_eq!(end_of(&run), json!(["failed", 7, null]));
    // What the server was told before it hung it does now.
    kill_process(server, Signal::CONT).unwrap();
    let windows = ["list-windows", "-t", "=kaged-demo:", "-F", "#{window_name}"];
    until("the late window's end", || (world.tmux(&windows).stdout == "kas\n").then_some(())).await;
    let (_, next) = world.outcome("demo", "echo next").await;
    assert_eq!(next["backend"], "tmux");
    let told = audited(&world, "task_runner.tmux_fallback").await;
    assert_eq!(told.iter().map(|it| &it["task_id"]).collect::<Vec<_>>(), [&run["id"]]);
    assert_eq!(std::fs::read_to_string(world.path("demo/ran")).unwrap(), "ran\n");
    until("the next one's end", || (world.tmux(&windows).stdout == "kas\n").then_some(())).await;
    bystanders.check(&world);
}

/// How long the slowest but two of 125 plain questions took.
async fn slow_answer(world: &World, id: &str) -> Duration {
    let mut took = Vec::new();
    for turn in 0..100 {
        // The status waits a moment for tmux, and the viewer is not read meanwhile.
        let status = (turn % 4 == 0).then(|| "/v1/status".to_owned());
        for path in status.into_iter().chain([format!("/api/v1/tasks/{id}")]) {
            let since = Instant::now();
            world.get(&path).await.expect(200);
            took.push(since.elapsed());
        }
    }
    took.sort_unstable();
    took[took.len() - 3]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_stops_nothing_else() {
    let world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let ticking = "stty -echo; (while sleep 0.02; do echo tick; done) & read x; kill $!; echo typed; exit 5";
    let id = world.run_command("demo", ticking).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.at > 100).await;
    let usual = slow_answer(&world, &id).await;
    let server = server_of(&world, "demo");
    kill_process(server, Signal::STOP).unwrap();
    let since = Instant::now();
    let at = seen.at;
    viewer.follow(&mut seen, |seen| seen.at > at + 60).await;
    let stalled = since.elapsed();
    assert!(stalled < promised(Duration::from_secs(8)), "{stalled:?} without a byte");
    if crate::long() {
        // A minute's ticks.
        viewer.follow(&mut seen, |seen| seen.at > at + 18_000).await;
    }
    let during = slow_answer(&world, &id).await;
    println!("p99 {usual:?} before, {during:?} during; output stood still for {stalled:?}");
    // Who waits for tmux waits for seconds, with each question.
    let bar = Duration::from_millis(if crate::long() { 50 } else { 1000 });
    assert!(during < usual * 10 + bar, "{usual:?} became {during:?}");
    let since = Instant::now();
    let refused = world.get("/api/v1/projects/demo/panes").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    println!("a question to tmux was refused after {:?}", since.elapsed());
    assert!(since.elapsed() < promised(Duration::from_secs(4)));
    let (on_pty, run) = world.outcome("demo", "echo all the same").await;
    assert_eq!((on_pty.text().as_str(), &run["backend"]), ("all the same\r\n", &json!("pty")));
    kill_process(server, Signal::CONT).unwrap();
    control_works(&world, "demo").await;
    type_line(&mut viewer, &seen).await;
    viewer.follow(&mut seen, Seen::ended).await;
    assert_eq!(seen.text().replace("tick\r\n", ""), "typed\r\n");
    assert_eq!(&world.transcript(&id).await.1[..], seen.bytes);
    assert_eq!(end_of(&world.until_ended(&id).await), json!(["failed", 5, null]));
    let (_, next) = world.outcome("demo", "echo next").await;
    assert_eq!(next["backend"], "tmux");
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ended_by_its_operator_stops_its_runs_and_the_next_run_has_another() {
    let world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    for _ in 0..3 {
        let id = world.run_command("demo", "trap '' HUP; sleep 10005; sleep 10005").await;
        world.until_running(&id).await;
        let old = server_of(&world, "demo");
        assert_eq!(world.tmux(&["kill-server"]).code, Some(0));
        // The old one may still be there.
        let (seen, next) = world.outcome("demo", "echo next").await;
        assert_eq!((seen.text().as_str(), &next["backend"]), ("next\r\n", &json!("tmux")));
        assert_ne!(server_of(&world, "demo"), old);
        let run = world.until_ended(&id).await;
        assert_eq!((&run["state"], &run["error"]), (&json!("stopped"), &Value::Null), "{run}");
    }
    until("the end of what ran", || processes(&world, "10005").is_empty().then_some(())).await;
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_another_server_with_the_same_ids_are_not_touched() {
    let mut world = World::new(Backend::Tmux);
    world
        .project(
            "demo",
            "project: demo\ntasks: {t1: {command: 'echo up; exec sleep 10006', history_count: 1}}",
        )
        .await;
    let bystanders = Bystanders::of(&world);
    let kept = world.run_task("demo", "t1").await;
    world.until_running(&kept).await;
    world.stop(&kept).await;
    world.until_ended(&kept).await;
    let lost = world.run_task("demo", "t1").await;
    world.until_running(&lost).await;
    let ids = ["list-panes", "-a", "-F", "#{session_id} #{window_id} #{pane_id}"];
    let before = world.tmux(&ids).stdout;
    end(server_of(&world, "demo"), Signal::KILL);
    // With nobody to see it, or somebody.
    world.end(Signal::KILL);
    for n in 0..4 {
        let words: &[&str] =
            if n == 0 { &["new-session", "-d", "-s", "kaged-mine"] } else { &["new-window", "-d"] };
        let words: Vec<&str> = words.iter().copied().chain(["exec sleep 10007"]).collect();
        assert_eq!(world.tmux(&words).code, Some(0));
    }
    let strangers = world.tmux(&PANES).stdout;
    let now = world.tmux(&ids).stdout;
    assert!(before.lines().all(|line| now.contains(line)), "{before} is not among {now}");
    world.start();
    let run = world.until_ended(&lost).await;
    assert_eq!(end_of(&run), json!(["failed", null, "tmux_crash"]), "{run}");
    for id in [&kept, &lost] {
        let deleted = world.delete(&format!("/api/v1/tasks/{id}")).await;
        assert!(deleted.status < 300 || deleted.status == 404, "{deleted:?}");
    }
    let again = world.run_task("demo", "t1").await;
    world.until_running(&again).await;
    world.stop(&again).await;
    world.until_ended(&again).await;
    let removed = world.delete("/v1/repos/demo").await;
    assert!(removed.status < 300, "{removed:?}");
    assert_eq!(world.tmux(&PANES).stdout, strangers);
    bystanders.check(&world);
}
