//! Output that is meant to break something: cut characters, endless sequences, floods, sizes.

use serde_json::json;

use super::input::{noise, resident_kib, sha256};
use super::roomy;
use crate::harness::{Backend, Seen, Viewer, World};

/// Broken and unfinished in every way that a terminal knows.
fn odd() -> Vec<u8> {
    let mut bytes = b"\xf0\x9f\x98\x80 \xe2\x82 \xff\xfe\xc0\x80 \xed\xa0\x80 \x1b \x1b[ \x1b[3 1;mred\x1b[0m \x1bP1$r\x1b\\".to_vec();
    bytes.extend((0..=255_u8).filter(|byte| !matches!(byte, 0x1b)));
    bytes.extend(b"\x1b]0;short\x07\x1b]8;;javascript:1\x1b\\link\x1b]8;;\x1b\\ \x9b31m \x90dcs\x9c ");
    bytes.extend("ⓐ\u{200d}é\u{fe0f}🏳️‍🌈".bytes());
    bytes.extend(noise(600));
    bytes
}

/// What a viewer that was there from the start, and the transcript, have of a command.
async fn exact(world: &World, command: &str, expect: &[u8]) {
    let (seen, done) = world.outcome("demo", command).await;
    assert_eq!(
        (done["exit_code"].as_i64(), done["output_bytes"].as_u64()),
        (Some(0), Some(expect.len() as u64)),
        "{command}"
    );
    assert!(
        seen.gaps.is_empty() && seen.bytes == expect,
        "{command}: {} bytes, not {}",
        seen.bytes.len(),
        expect.len()
    );
    let (start, stored) = world.transcript(done["id"].as_str().unwrap()).await;
    assert!(start == 0 && stored == expect, "{command}: {} bytes from {start} are stored", stored.len());
}

async fn broken_streams_come_through(backend: Backend) {
    let world = roomy(backend).await;
    let odd = odd();
    world.write("demo/odd", &odd);
    // A write for each byte: every character and every sequence is cut everywhere.
    for size in [1, 3] {
        exact(&world, &format!("stty raw; dd if=odd bs={size} status=none"), &odd).await;
    }
    let mut title = b"before\x1b]0;".to_vec();
    title.extend(vec![b'x'; 64 << 10]);
    title.extend(b"\x07after\x1b]52;c;");
    title.extend(vec![b'A'; 64 << 10]);
    // Neither ended nor followed by anything.
    title.extend(b"\x1b");
    world.write("demo/title", &title);
    exact(&world, "stty raw; cat title", &title).await;
    exact(&world, "stty raw; printf '\\033'", b"\x1b").await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_streams_come_through_a_pty() {
    broken_streams_come_through(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_streams_come_through_tmux() {
    broken_streams_come_through(Backend::Tmux).await;
}

/// Thousands of sizes while the command writes: no byte is lost and the last size holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_sizes_loses_nothing() {
    let world = roomy(Backend::Pty).await;
    let count: u16 = if crate::long() { 10_000 } else { 2_000 };
    let id = world.run_command("demo", "stty raw; seq 1 200000; read x; stty size").await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    let channel = seen.subscribed["channel"].clone();
    for n in 0..count {
        let (cols, rows) = if n + 1 == count { (101, 37) } else { (1 + n % 300, 1 + n % 100) };
        viewer.say(&json!({"type": "pty.resize", "channel": channel, "cols": cols, "rows": rows})).await;
    }
    let numbers: Vec<u8> = (1..=200_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    viewer.follow(&mut seen, |seen| seen.at >= numbers.len() as u64).await;
    assert!(seen.gaps.is_empty() && seen.bytes == numbers, "{} bytes", seen.bytes.len());
    let wanted = |it: &serde_json::Value| (it["cols"].as_u64(), it["rows"].as_u64()) == (Some(101), Some(37));
    let mut other = Viewer::open(&world, "demo").await;
    let sized = async {
        loop {
            let screen = other.watch(&id, json!({"from": seen.at, "mode": "view"})).await.subscribed;
            if wanted(&screen) {
                return;
            }
        }
    };
    crate::harness::soon("the last size", sized).await;
    viewer.type_in(seen.handle(), b"\n").await;
    let whole = Viewer::open(&world, "demo").await.whole(&id).await;
    assert!(whole.text().ends_with("37 101\n"), "{}", &whole.text()[numbers.len()..]);
    world.fsck();
}

/// As much output as there is time for: counted to the byte, kept to its limit, and no memory grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_counted_to_the_byte_and_kept_to_its_limit() {
    let world = roomy(Backend::Pty).await;
    let len: u64 = if crate::long() { 2_000_000_000 } else { 100_000_000 };
    let line = "0123456789abcdef".repeat(8);
    let command = format!("stty raw; yes {line} | head -c {len}");
    let before = resident_kib(u64::from(world.daemon_pid()));
    let began = std::time::Instant::now();
    let id = world.run_command("demo", &command).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
    let period = line.len() + 1;
    let mut grown = 0;
    while !seen.ended() {
        viewer
            .follow(&mut seen, |seen| seen.ended() || !seen.bytes.is_empty() || !seen.snapshots.is_empty())
            .await;
        let start = usize::try_from(seen.at).unwrap() - seen.bytes.len();
        if seen.snapshots.is_empty() && seen.gaps.is_empty() {
            let right = seen.bytes.iter().enumerate().all(|(n, byte)| {
                let at = (start + n) % period;
                *byte == line.as_bytes().get(at).copied().unwrap_or(b'\n')
            });
            assert!(right, "wrong bytes after {start}");
        }
        (seen.bytes, seen.snapshots, seen.gaps) = Default::default();
        grown = grown.max(resident_kib(u64::from(world.daemon_pid())).saturating_sub(before));
    }
    println!("F53: {len} bytes in {:?}, the daemon grew by {grown} KiB", began.elapsed());
    assert!(grown < 64 * 1024, "{grown} KiB");
    let done = world.until_ended(&id).await;
    assert_eq!(done["output_bytes"], len);
    let (start, stored) = world.transcript(&id).await;
    let expect: Vec<u8> = format!("{line}\n")
        .into_bytes()
        .into_iter()
        .cycle()
        .skip(usize::try_from(start).unwrap() % period)
        .take(stored.len())
        .collect();
    assert_eq!(start + stored.len() as u64, len);
    assert_eq!(sha256(&stored), sha256(&expect));
    assert!((8_000_000..=10_485_760).contains(&stored.len()), "{} bytes are kept", stored.len());
    assert!(seen.ended() && Seen::ended(&seen));
    world.fsck();
}
