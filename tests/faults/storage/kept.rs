//! Transcripts beyond their limits, read while they are cut.

use serde_json::json;

use crate::harness::{Backend, Frame, Viewer, World};

/// Every line says where it begins, so that any piece shows whether its offset is right.
fn lines(len: usize) -> Vec<u8> {
    (0..len / 16).flat_map(|n| format!("{:015}\n", n * 16).into_bytes()).collect()
}

const LINES: &str = "my $n = 0; while ($n < $ARGV[0]) { printf \"%015d\\n\", $n; $n += 16 }";

/// The front is cut off while readers are at it: what any of them gets belongs exactly where it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_keep_their_meaning_while_the_front_is_cut() {
    let world = World::with(Backend::Pty, "[limits]\ntranscript_bytes = 1048576");
    world.project("demo", "project: demo\ntasks: {}").await;
    world.write("demo/lines", LINES);
    let len = if crate::long() { 1_600_000_000 } else { 32_000_000 };
    let expect = lines(if crate::long() { 0 } else { len });
    let right = |from: u64, bytes: &[u8]| {
        let from = usize::try_from(from).unwrap();
        if expect.is_empty() {
            // Too long to hold: each whole line is asked.
            let skip = (16 - from % 16) % 16;
            return bytes.get(skip..).unwrap_or_default().chunks_exact(16).enumerate().all(|(n, line)| {
                std::str::from_utf8(&line[..15]).unwrap().parse::<usize>().unwrap() == from + skip + n * 16
            });
        }
        bytes == &expect[from..from + bytes.len()]
    };
    let id = world.run_command("demo", &format!("stty raw; exec perl lines {len}")).await;
    // One never acknowledges, one reads everything, one asks for the transcript again and again.
    let mut slow = Viewer::open(&world, "demo").await;
    let mut slowly = slow.watch(&id, json!({"from": 0, "mode": "view"})).await;
    let mut fast = Viewer::open(&world, "demo").await;
    let mut seen = fast.watch(&id, json!({"from": 0, "mode": "view"})).await;
    let asking = async {
        let mut cut = 0;
        while world.instance(&id).await["exited_at"].is_null() {
            let (from, bytes) = world.transcript(&id).await;
            assert!(right(from, &bytes), "a transcript from {from}");
            cut += usize::from(from > 0);
            // It acknowledges nothing by it, only lives.
            slow.acknowledge(&slowly).await;
        }
        cut
    };
    let following = async {
        while !seen.ended() {
            let from = seen.at;
            match fast.next().await {
                Frame::Output { handle, offset, bytes } => {
                    assert!(right(offset, &bytes), "live bytes at {from}");
                    seen.take(Frame::Output { handle, offset, bytes });
                    seen.bytes.clear();
                    fast.acknowledge(&seen).await;
                }
                other @ (Frame::Text(_) | Frame::Snapshot { .. }) => seen.take(other),
            }
        }
    };
    let (cut, ()) = tokio::join!(asking, following);
    assert!(cut > 0, "the front was never seen cut");
    while !slowly.ended() {
        let frame = slow.next().await;
        if let Frame::Output { offset, bytes, .. } = &frame {
            assert!(right(*offset, bytes), "late bytes at {offset}");
        }
        let output = matches!(frame, Frame::Output { .. });
        slowly.take(frame);
        if output {
            slow.acknowledge(&slowly).await;
        }
    }
    println!(
        "F64: {cut} transcripts were read while the front was cut; a slow viewer missed {:?}",
        slowly.gaps
    );
    let (start, stored) = world.transcript(&id).await;
    assert!(right(start, &stored) && start + stored.len() as u64 == len as u64);
    assert!((700_000..=1_048_576).contains(&stored.len()), "{} bytes are kept", stored.len());
    world.fsck();
}

/// A run is culled while somebody replays it: the replay goes on to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_survives_that_its_run_is_culled() {
    let world = World::new(Backend::Pty);
    let command = "stty raw; exec perl lines 4000000";
    let yaml =
        format!("version: 1\nproject: demo\ntasks:\n  talk: {{command: '{command}', history_count: 1}}\n");
    world.project("demo", &yaml).await;
    world.write("demo/lines", LINES);
    let first = world.run_task("demo", "talk").await;
    world.until_ended(&first).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&first, json!({"from": 0, "mode": "view"})).await;
    let frame = viewer.next().await;
    seen.take(frame);
    let rounds = if crate::long() { 1000 } else { 2 };
    for _ in 0..rounds {
        let id = world.run_task("demo", "talk").await;
        world.until_ended(&id).await;
        // It says that it lives, and has read no more.
        viewer.acknowledge(&seen).await;
    }
    let mut events = world.events(None).await;
    crate::harness::soon("the cull", async {
        while world.get(&format!("/api/v1/tasks/{first}")).await.status != 404 {
            events.next().await;
        }
    })
    .await;
    viewer.acknowledge(&seen).await;
    viewer.follow(&mut seen, |seen| seen.ended()).await;
    assert!(
        seen.gaps.is_empty() && seen.bytes == lines(4_000_000),
        "{} bytes, gaps {:?}",
        seen.bytes.len(),
        seen.gaps
    );
    world.fsck();
}
