//! More input than anybody takes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::roomy;
use crate::harness::{Backend, Frame, Seen, Viewer, eventually, promised};

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Bytes that no compression and no luck makes alike.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let next =
        |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(7_u64), next).take(len).map(|n| n.to_be_bytes()[0]).collect()
}

pub(crate) fn resident_kib(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The parent of a process; of a run's command that is its shim.
pub(crate) fn parent(pid: u64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Types a piece and says whether it was taken: whatever is answered to it comes before the answer to a question that has none. After a
/// refusal nothing more of a subscription is taken, so there is another one then.
async fn taken(viewer: &mut Viewer, seen: &mut Seen, piece: &[u8]) -> bool {
    viewer.type_in(seen.handle(), piece).await;
    viewer.say(&json!({"type": "unsubscribe", "channel": "pty:pane:999"})).await;
    let mut taken = true;
    loop {
        match viewer.next().await {
            Frame::Text(text) if text["details"]["reason"] == "input_full" => taken = false,
            Frame::Text(text) if text["type"] == "error" => break,
            Frame::Text(_) | Frame::Output { .. } | Frame::Snapshot { .. } => {}
        }
    }
    if !taken {
        let channel = seen.subscribed["channel"].as_str().unwrap();
        let id = channel.strip_prefix("pty:task:").unwrap().to_owned();
        *seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    }
    taken
}

/// A paste of 10 MB meets a command that does not read: it is refused beyond a bound, costs bounded memory, holds up nobody, and
/// every byte that was taken arrives once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paste_is_refused_until_it_is_read_and_arrives_once() {
    let world = roomy(Backend::Pty).await;
    let paste = noise(10_000_000);
    let go = world.path("go");
    let command = format!(
        "stty raw -echo; echo ready; until [ -e {} ]; do sleep 0.05; done; head -c {} | sha256sum; exit 5",
        go.display(),
        paste.len()
    );
    let id = world.run_command("demo", &command).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("ready")).await;
    let command = world.until_running(&id).await["pid"].as_u64().unwrap();
    let pids = [u64::from(world.daemon_pid()), parent(command)];
    let before = pids.map(resident_kib);
    let mut watcher = Viewer::open(&world, "demo").await;
    let mut watched = watcher.watch(&id, json!({"from": 0, "mode": "view"})).await;

    // What the shim takes from the daemon meanwhile makes room once more: it is full when it stays full.
    let mut pieces = paste.chunks(32 << 10).peekable();
    let mut refusals = 0;
    while refusals < 50 {
        if taken(&mut viewer, &mut seen, pieces.peek().unwrap()).await {
            pieces.next();
            refusals = 0;
        } else {
            refusals += 1;
        }
    }
    let held = paste.len() - pieces.clone().map(<[u8]>::len).sum::<usize>();
    let grown: Vec<u64> =
        pids.map(resident_kib).iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
    println!("F52: {held} bytes wait and cost the daemon {} KiB and the shim {} KiB", grown[0], grown[1]);
    assert!(held < 4 << 20, "{held} bytes were taken with nobody to read them");
    assert!(grown[0] < 16 * 1024 && grown[1] < 8 * 1024, "{grown:?} KiB");

    world.write("go", "");
    let typing = async {
        for piece in pieces {
            while !taken(&mut viewer, &mut seen, piece).await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    tokio::join!(typing, watcher.follow(&mut watched, Seen::ended));
    assert!(watched.text().contains(&sha256(&paste)), "{}", watched.text());
    assert_eq!(world.until_ended(&id).await["exit_code"], 5);
    world.fsck();
}

/// What was typed, taken in pieces, has arrived once, in order, and with nothing else.
async fn typed(viewer: &mut Viewer, seen: &mut Seen, bytes: &[u8], file: &Path, expect: &[u8]) {
    for piece in bytes.chunks(700) {
        while !taken(viewer, seen, piece).await {}
    }
    eventually("everything that was typed", || {
        let got = std::fs::read(file).unwrap();
        assert!(expect.starts_with(&got), "{} bytes came, and not those that were typed", got.len());
        if got == expect { Ok(()) } else { Err(format!("{} of {} bytes", got.len(), expect.len())) }
    })
    .await;
}

/// Every byte that there is, typed by one and another, before and after a death of the daemon, beside viewers who come, resize and go.
async fn what_is_typed_arrives_once(backend: Backend) {
    let mut world = roomy(backend).await;
    let file = world.path("demo/typed");
    let id = world.run_command("demo", "stty raw -echo; : > typed; echo ready; exec cat > typed").await;
    let all = noise(40_000);
    let (first, rest) = all.split_at(20_000);
    let (second, last) = rest.split_at(19_999);
    let mut writer = Viewer::open(&world, "demo").await;
    let mut seen = writer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    writer.follow(&mut seen, |seen| seen.text().contains("ready")).await;
    typed(&mut writer, &mut seen, first, &file, first).await;
    world.end(rustix::process::Signal::KILL);
    world.start();
    let mut other = Viewer::open(&world, "demo").await;
    let mut seen = other.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    typed(&mut other, &mut seen, second, &file, &all[..39_999]).await;
    for n in 0..5 {
        let mut guest = Viewer::open(&world, "demo").await;
        let channel =
            guest.watch(&id, json!({"from": 0, "mode": "interactive"})).await.subscribed["channel"].take();
        guest.say(&json!({"type": "pty.resize", "channel": channel, "cols": 80 + n, "rows": 24})).await;
        guest.close().await;
    }
    typed(&mut other, &mut seen, last, &file, &all).await;
    world.stop(&id).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_arrives_once_pty() {
    what_is_typed_arrives_once(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_arrives_once_tmux() {
    what_is_typed_arrives_once(Backend::Tmux).await;
}

/// A command that never reads ends with its input unread, and takes nobody along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_never_reads_is_stopped_under_a_paste() {
    let world = roomy(Backend::Pty).await;
    let id = world.run_command("demo", "stty raw -echo; echo ready; exec sleep 1000").await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("ready")).await;
    let handle = seen.handle();
    let typing = tokio::spawn(async move {
        for _ in 0..100 {
            viewer.type_in(handle, &[b'x'; 32 << 10]).await;
        }
    });
    let began = Instant::now();
    assert_eq!(world.stop(&id).await["state"], "stopped");
    assert!(began.elapsed() < promised(Duration::from_secs(4)), "{:?}", began.elapsed());
    typing.await.unwrap();
    world.fsck();
}
