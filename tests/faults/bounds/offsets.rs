//! Subscriptions that begin where they should not.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Seen, Viewer, World};

/// What a subscription from there is refused with.
async fn refused(world: &World, id: &str, from: Value) -> (String, String) {
    let mut viewer = Viewer::open(world, "demo").await;
    viewer.say(&json!({"type": "subscribe", "channel": format!("pty:task:{id}"), "from": from})).await;
    let error = viewer.refusal().await;
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    (word(&error["code"]), word(&error["details"]["reason"]))
}

/// Too old is a gap, beyond the end and what is no offset are errors, and another life of the daemon or another task changes nothing
/// about which byte has which offset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_brings_its_own_byte_or_none() {
    let mut world = World::with(Backend::Pty, "[limits]\ntranscript_bytes = 1000000");
    world.project("demo", "project: demo\ntasks: {}").await;
    let big = world.run_command("demo", "stty raw; seq 600000; cat").await;
    let other = world.run_command("demo", "stty raw; yes canary | head -c 5000; cat").await;
    let whole: Vec<u8> = (1..=600_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let end = whole.len() as u64;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&big, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.at >= end).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&other, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.at >= 5000).await;

    for life in 0..2 {
        // Too old: told which bytes will not come, and nothing else in their place.
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&big, json!({"from": 1})).await;
        viewer.follow(&mut seen, |seen| seen.at >= end).await;
        assert_eq!(seen.gaps.first().map(|gap| gap.0), Some(1), "life {life}: {:?}", seen.gaps);
        // Held: exactly these bytes.
        let mut seen = viewer.watch(&big, json!({"from": end - 1000})).await;
        viewer.follow(&mut seen, |seen| seen.at >= end).await;
        assert_eq!(seen.bytes, whole[whole.len() - 1000..], "life {life}");
        assert!(seen.gaps.is_empty());
        // An offset of the one asked of the other: its own byte there, or an error.
        let mut seen = viewer.watch(&other, json!({"from": 3})).await;
        viewer.follow(&mut seen, |seen| seen.at >= 5000).await;
        assert!(seen.bytes.starts_with(b"ary\ncanary\n"), "life {life}");
        for beyond in [end + 1, u64::MAX, i64::MAX.unsigned_abs()] {
            assert_eq!(refused(&world, &big, json!(beyond)).await.1, "offset", "{beyond}");
        }
        assert_eq!(refused(&world, &other, json!(end)).await.1, "offset");
        for none in [json!(-1), json!(1.5), json!("1"), json!(1e300)] {
            assert_eq!(
                refused(&world, &big, none.clone()).await,
                ("invalid_request".into(), "wrong_type".into())
            );
        }
        world.end(Signal::KILL);
        world.start();
    }
    for id in [&big, &other] {
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(id, json!({})).await;
        world.stop(id).await;
        viewer.follow(&mut seen, Seen::ended).await;
    }
    world.fsck();
}
