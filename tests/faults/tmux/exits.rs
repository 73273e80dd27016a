//! Nothing of a run's end is lost: neither how it ended nor its last bytes, however many end at once, and tmux does not grow.

use std::fmt::Write as _;

use futures_util::StreamExt as _;
use futures_util::stream;
use rustix::process::Signal;
use serde_json::json;

use super::*;
use crate::harness::Backend;

/// Commands that end at once, and how.
const ENDINGS: [(&str, i64); 3] = [("true", 0), ("exit 7", 7), ("kill -9 $$", 137)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_command_ends_its_end_is_told() {
    let count = if crate::long() { 500 } else { 15 };
    let world = World::with(Backend::Tmux, ROOMY);
    let tasks: String = ENDINGS.iter().enumerate().fold(String::new(), |mut text, (n, (command, _))| {
        writeln!(text, "  t{n}x: {{command: '{command}', history_count: 20}}").unwrap();
        text
    });
    world.project("demo", &format!("project: demo\ntasks:\n{tasks}")).await;
    let bystanders = Bystanders::of(&world);
    let world = &world;
    let runs = (0..count * ENDINGS.len()).map(|n| async move {
        let (_, code) = ENDINGS[n % ENDINGS.len()];
        let id = world.run_task("demo", &format!("t{}x", n % ENDINGS.len())).await;
        let run = world.get(&format!("/api/v1/tasks/{id}")).await;
        // With more than twenty of a task the oldest are culled, so that one may be gone already.
        let run = if run.status == 404 { return } else { world.until_ended(&id).await };
        let state = if code == 0 { "done" } else { "failed" };
        assert_eq!(end_of(&run), json!([state, code, null]), "{run}");
        assert_eq!(run["backend"], "tmux");
    });
    stream::iter(runs).buffer_unordered(8).collect::<Vec<()>>().await;
    let exited = audited_all(world, "task.exited").await;
    assert_eq!(exited.len(), count * ENDINGS.len());
    for (n, (_, code)) in ENDINGS.iter().enumerate() {
        let task = format!("t{n}x");
        let codes: Vec<_> = exited.iter().filter(|it| it["task_name"] == *task).collect();
        assert!(codes.len() == count && codes.iter().all(|it| it["exit_code"] == *code), "{codes:?}");
    }
    bystanders.check(world);
}

/// All of a kind, page by page.
async fn audited_all(world: &World, kind: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = format!("/api/v1/audit-events?kind={kind}&limit=500");
    loop {
        let page = world.get(&path).await.expect(200);
        all.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        path = format!("/api/v1/audit-events?kind={kind}&limit=500&cursor={cursor}");
    }
}

/// Numbered text of this length, told from every other by where it begins.
fn text(len: usize, from: usize) -> Vec<u8> {
    let mut text = String::with_capacity(len + 16);
    let mut n = from;
    while text.len() < len {
        writeln!(text, "{n}").unwrap();
        n += 1;
    }
    text.truncate(len);
    text.into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_bytes_of_commands_that_end_at_once_are_there() {
    let count: usize = if crate::long() { 1000 } else { 100 };
    let world = World::with(Backend::Tmux, ROOMY);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let shared = &world;
    let runs = (0..count).map(|n| async move {
        // From nothing to 1 MB, small ones most often, and the limits of buffers on the way.
        let len = [0, 1, 40, 3000, 4095, 4096, 65_535, 65_537, 300_000, 1_000_000][n % 10];
        let expect = text(len, n * 1_000_000);
        shared.write(&format!("demo/{n}"), &expect);
        let (seen, run) = shared.outcome("demo", &format!("stty -opost; exec cat {n}")).await;
        assert!(seen.bytes == expect, "{n}: {} of {len} bytes, {:?}", seen.bytes.len(), seen.gaps);
        assert_eq!((&run["output_bytes"], &run["exit_code"]), (&json!(len), &json!(0)));
        let (start, stored) = shared.transcript(run["id"].as_str().unwrap()).await;
        assert!(start == 0 && stored == expect, "{n}: {} of {len} bytes are stored", stored.len());
    });
    stream::iter(runs).buffer_unordered(8).collect::<Vec<()>>().await;
    if crate::long() {
        all_of_a_hundred_megabytes(&world).await;
    }
    bystanders.check(&world);
}

/// More than what is kept: the transcript is the end of it, and a viewer gets that far.
async fn all_of_a_hundred_megabytes(world: &World) {
    let (len, kept) = (100_000_000, 64 << 20);
    let expect = text(len, 0);
    world.write("demo/large", &expect);
    let (seen, run) = world.outcome("demo", "stty -opost; exec cat large").await;
    assert_eq!((seen.at, &run["output_bytes"]), (len as u64, &json!(len)));
    let (start, stored) = world.transcript(run["id"].as_str().unwrap()).await;
    let start = usize::try_from(start).unwrap();
    assert!(stored.len() <= kept && stored.len() > kept / 2, "{} bytes are kept", stored.len());
    assert!(stored[..] == expect[start..], "the end of it is not the end of the file");
}

/// The most memory a process had, in bytes (proc_pid_status(5), `VmHWM`).
fn most_memory(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_make_tmux_grow() {
    let megabytes = if crate::long() { 100 } else { 30 };
    let mut world = World::with(Backend::Tmux, "");
    world.project("demo", NO_TASKS).await;
    let first = world.run_command("demo", "exec sleep 10002").await;
    world.until_running(&first).await;
    let server = server_of(&world, "demo");
    let before = most_memory(server);
    let command =
        format!("yes 'a line of ordinary length, as a compiler writes it' | head -c {megabytes}000000");
    let flood = world.run_command("demo", &command).await;
    // It is the daemon's absence and a window nobody drains that could make a server hold it all.
    world.until_running(&flood).await;
    world.end(Signal::KILL);
    world.start();
    let run = world.until_ended(&flood).await;
    assert_eq!(end_of(&run), json!(["done", 0, null]));
    let after = most_memory(server);
    println!("tmux had {} kB before and {} kB at most for {megabytes} MB", before / 1024, after / 1024);
    assert!(after - before < 64 << 20, "{before} bytes grew to {after}");
    world.stop(&first).await;
    world.until_ended(&first).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_falls_behind_what_is_kept_holds_up_no_viewer() {
    let limit = "[limits]\ntranscript_bytes = 1048576";
    let world = World::with(Backend::Tmux, limit);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let command =
        "stty -echo; echo up; read x; head -c 60000000 /dev/zero | tr '\\0' x; echo over; read x; exit 3";
    let id = world.run_command("demo", command).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.at == 4).await;
    let server = server_of(&world, "demo");
    // A server that gets no time for a moment: long enough to fall behind, too short to be given up.
    kill_process(server, Signal::STOP).unwrap();
    type_line(&mut viewer, &seen).await;
    until("the flood's progress", || (journal_end(&world, &id) > 20_000_000).then_some(())).await;
    kill_process(server, Signal::CONT).unwrap();
    let total = 4 + 60_000_000 + 6;
    let is_shown = |seen: &Seen| {
        seen.bytes.ends_with(b"over\r\n") || seen.snapshots.last().is_some_and(|(at, _)| *at == total)
    };
    viewer.follow(&mut seen, |seen| seen.at == total && is_shown(seen)).await;
    // What it fell behind by may be a gap and a screen for the viewer, but nothing is held up until the end.
    let end = seen.snapshots.last().filter(|(at, _)| *at == total).map_or(&seen.bytes[..], |(_, it)| it);
    assert!(memchr::memmem::find(end, b"over").is_some(), "{:?}", seen.gaps);
    type_line(&mut viewer, &seen).await;
    viewer.follow(&mut seen, Seen::ended).await;
    let run = world.until_ended(&id).await;
    assert_eq!((end_of(&run), &run["output_bytes"]), (json!(["failed", 3, null]), &json!(total)));
    bystanders.check(&world);
}

/// How many bytes a run's journal has seen.
fn journal_end(world: &World, id: &str) -> u64 {
    let reader = kas::journal::Reader::new(&world.state_dir().join("instances").join(id));
    reader.range().map_or(0, |(_, end)| end.0)
}
