//! What the operator does in a project's session.

use super::*;

#[tokio::test]
async fn runs_are_followed_wherever_the_operator_puts_them() {
    let world = World::new().await;
    let p = project("p");
    let mut renamed = world.run(&p, "task-a", "read x; echo renamed").await;
    let mut moved = world.run(&p, "task-b", "read x; seq 1000; read x; echo moved").await;
    let mut split = world.run(&p, "task-c", "read x; echo split").await;
    world.sh(&["rename-window", "-t", "=kaged-p:task-a", "vi"]);
    world.sh(&["rename-session", "-t", "=kaged-p", "other"]);
    world.sh(&["new-session", "-d", "-s", "mine", "cat"]);
    world.sh(&["move-window", "-s", "=other:task-b", "-t", "mine:9"]);
    world.sh(&["split-window", "-d", "-t", "=other:task-c", "cat"]);
    for task in [&mut renamed, &mut split, &mut moved] {
        task.client.input(Bytes::from_static(b"\n")).await.unwrap();
    }
    assert!(renamed.finish().await.0.ends_with(b"renamed\r\n"));
    assert!(split.finish().await.0.ends_with(b"split\r\n"));
    moved.until("the moved one", |channel| channel.live_end().0 >= lines(1000).len() as u64).await;
    world.sh(&["move-window", "-s", "mine:9", "-t", "=other:20"]);
    moved.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(moved.finish().await.0.ends_with(b"moved\r\n"));
}

#[tokio::test]
async fn a_window_the_operator_kills_ends_its_run_and_no_other() {
    let world = World::new().await;
    let p = project("p");
    let killed = world.run(&p, "task-a", "echo ready; exec sleep 1000").await;
    let mut other = world.run(&p, "task-b", "read x; echo fine").await;
    killed.until("its start", |channel| channel.live_end().0 >= 7).await;
    world.sh(&["kill-window", "-t", "=kaged-p:task-a"]);
    let mut record = killed.record.clone();
    let record = in_time("the end", record.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    assert_eq!(record.cause, kas::journal::Cause::WindowClosed);
    assert!(world.tmux.serves_what_it_served(None).await);
    other.client.input(Bytes::from_static(b"\n")).await.unwrap();
    assert!(other.finish().await.0.ends_with(b"fine\r\n"));
}

#[tokio::test]
async fn projects_with_like_names_and_foreign_sessions_are_left_alone() {
    let world = World::new().await;
    let (a, ab) = (project("a"), project("ab"));
    world.sh(&["new-session", "-d", "-s", "kaged-c", "cat"]);
    let _in_ab = world.run(&ab, "task-x", "exec sleep 1000").await;
    let in_a = world.run(&a, "task-x", "exec sleep 1000").await;
    let names: Vec<_> =
        world.tmux.scan().await.unwrap().sessions.into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["kaged-a", "kaged-ab", "kaged-c"]);
    world.tmux.destroy_session(&a).await.unwrap();
    world.tmux.destroy_session(&project("c")).await.unwrap();
    world.tmux.kill_window(&a, in_a.spec.id).await.unwrap();
    let names: Vec<_> =
        world.tmux.scan().await.unwrap().sessions.into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["kaged-ab", "kaged-c"]);
    let spec = spec("true");
    let plan = plan(&spec, "task-x", vec!["sleep".into(), "9".into()]);
    let refused = world.tmux.open_window(&project("c"), &plan).await;
    assert!(matches!(refused, Err(BackendError::Foreign(name)) if name == "kaged-c"));
    assert_eq!(world.sh(&["list-windows", "-t", "=kaged-c:", "-F", "#{window_index}"]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_pane_is_reported_seen_typed_into_and_missed() {
    let mut world = World::new().await;
    let p = project("p");
    let _run = world.run(&p, "task-x", "exec sleep 1000").await;
    world.sh(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-p:",
        "-n",
        "mine",
        "printf 'be\\033[1mfore\\n'; stty -echo; exec cat",
    ]);
    let pane = world.report("the pane", opened).await;
    in_time("cat", async {
        while world.sh(&["display-message", "-p", "-t", &format!("%{pane}"), "#{pane_current_command}"])
            != "cat"
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    world.sh(&["select-pane", "-t", &format!("%{pane}"), "-T", "%end 1 2 3 title"]);
    let foreign = world.tmux.foreign_panes(&p).await.unwrap();
    assert_eq!(foreign.iter().map(|found| found.pane).collect::<Vec<_>>(), [pane]);
    assert!(foreign[0].title == "%end 1 2 3 title" && foreign[0].command == "cat", "{foreign:?}");
    let channel = world.tmux.pane_channel(&p, pane).await.expect("a channel");
    let text = |channel: Arc<Channel>| async move { String::from_utf8(read_all(&channel).await).unwrap() };
    let shown = text(channel.clone()).await;
    assert!(shown.contains("before") || shown.contains("be\u{1b}[1mfore"), "{shown:?}");
    let all: Vec<u8> = (0..500).flat_map(|n| format!("typed {n}\r").into_bytes()).collect();
    world.sh(&["copy-mode", "-t", &format!("%{pane}")]);
    world.tmux.type_into(pane, all.into()).await.unwrap();
    let mut changes = channel.watch();
    in_time("what was typed", async {
        while !text(channel.clone()).await.contains("typed 499\r\n") {
            changes.changed().await.unwrap();
        }
    })
    .await;
    let shown = text(channel.clone()).await;
    assert!((0..500).all(|n| shown.contains(&format!("typed {n}\r\n"))));
    let again = world.tmux.pane_channel(&p, pane).await.expect("the same channel");
    assert!(Arc::ptr_eq(&channel, &again));
    world.tmux.resize_pane(pane, Size::clamped(91, 33).unwrap()).await.unwrap();
    in_time("its size", async {
        while channel.size() != Size::clamped(91, 33).unwrap() {
            changes.changed().await.unwrap();
        }
    })
    .await;
    world.sh(&["kill-pane", "-t", &format!("%{pane}")]);
    let closed = |report: &Report| {
        matches!(report, Report::PaneClosed { pane: gone, .. } if *gone == pane).then_some(())
    };
    world.report("its end", closed).await;
    assert!(channel.ended().is_some());
    assert!(matches!(world.tmux.type_into(pane, Bytes::from_static(b"x")).await, Err(BackendError::Gone)));
    assert!(world.tmux.pane_channel(&p, pane).await.is_none());
}

/// A screen of 24 lines and the output that continues it, where the cursor is.
fn as_one_text(shown: &str) -> String {
    let (screen, rest) = shown.split_once("\x1b[m\x1b[").unwrap();
    let (cursor, output) = rest.split_once('H').unwrap();
    let (y, x) = cursor.split_once(';').unwrap();
    let (y, x): (usize, usize) = (y.parse().unwrap(), x.parse().unwrap());
    let lines: Vec<&str> = screen.split("\r\n").collect();
    let current = lines.len() - 24 + y - 1;
    format!("{}\r\n{:<width$}{output}", lines[..current].join("\r\n"), lines[current], width = x - 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_pane_of_the_operators_is_spliced_without_a_hole() {
    let mut world = World::new().await;
    let p = project("p");
    let _run = world.run(&p, "task-x", "exec sleep 1000").await;
    world.sh(&[
        "new-window",
        "-d",
        "-t",
        "=kaged-p:",
        "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo n$i; done; cat",
    ]);
    let pane = world.report("the pane", opened).await;
    let channel = world.tmux.pane_channel(&p, pane).await.expect("a channel");
    let mut changes = channel.watch();
    let shown = in_time("the last line", async {
        loop {
            if let Read::Data { bytes, .. } = channel.read(Offset(0), RING).await
                && memchr::memmem::find(&bytes, b"n30000\r\n").is_some()
            {
                return String::from_utf8(bytes.to_vec()).unwrap();
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    let shown = as_one_text(&shown);
    let numbers: Vec<u32> = shown
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.strip_prefix('n')?.parse().ok())
        .collect();
    assert!(numbers.len() > 1, "{shown:?}");
    println!("the splice was at line {} of 30000", 30_000 - numbers.len());
    let whole = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(whole, "{:?}", numbers.windows(2).find(|pair| pair[1] != pair[0] + 1));
}
