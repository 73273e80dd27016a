//! Every byte arrives, once, in order, however many there are and whoever is slow.

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::harness::{Backend, Seen, Viewer, World};

/// How many bytes the long line has, when 20 MB are not enough: `KAS_TEST_LINE_BYTES=100000000`.
const LINE_BYTES: &str = "KAS_TEST_LINE_BYTES";

fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::new();
    Sha256::digest(bytes).iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    hex
}

/// Numbers without anything between them: no newline, and no two places alike.
fn digits(len: usize) -> Vec<u8> {
    let mut text = String::with_capacity(len + 16);
    let mut n = 1_u64;
    while text.len() < len {
        write!(text, "{n}").unwrap();
        n += 1;
    }
    text.truncate(len);
    text.into_bytes()
}

/// Compares by hash, where bytes would fill a screen.
#[track_caller]
fn assert_same(what: &str, got: &[u8], expect: &[u8]) {
    let first = got.iter().zip(expect).position(|(a, b)| a != b);
    assert_eq!(
        (sha256(got), got.len()),
        (sha256(expect), expect.len()),
        "{what}, first difference at {first:?}"
    );
}

pub(super) async fn every_byte_value_arrives(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let mut all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    all.extend(b"\xff\xfe\xc3\x28\xe2\x82\xf0\x9f\x98\xed\xa0\x80\xc0\x80\xf8\x88\x80\x80\x80 text \x80\xbf");
    // A generator of Knuth's constants: noise that every run has alike.
    let noise = std::iter::successors(Some(1_u64), |n| {
        Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    });
    all.extend(noise.take(300_000).map(|n| n.to_be_bytes()[0]));
    world.write("demo/all.bin", &all);
    let id = world.run_command("demo", "stty -opost; cat all.bin").await;
    let seen = Viewer::open(&world, "demo").await.whole(&id).await;
    assert_eq!((seen.gaps.len(), seen.snapshots.len()), (0, 0));
    assert_same("the viewer's bytes", &seen.bytes, &all);
    let done = world.until_ended(&id).await;
    assert_eq!((&done["exit_code"], &done["output_bytes"]), (&json!(0), &json!(all.len())));
    let (start, stored) = world.transcript(&id).await;
    assert_eq!(start, 0);
    assert_same("the transcript", &stored, &all);
    let mut late = Viewer::open(&world, "demo").await;
    let mut seen = late.watch(&id, json!({"from": 200_000})).await;
    late.follow(&mut seen, Seen::ended).await;
    assert_same("the rest of it", &seen.bytes, &all[200_000..]);
    late.say(&json!({"type": "subscribe", "channel": format!("pty:task:{id}"), "from": all.len() + 1})).await;
    let error = late.refusal().await;
    assert_eq!((&error["code"], &error["details"]["reason"]), (&json!("invalid_request"), &json!("offset")));
}

pub(super) async fn a_long_line_arrives_whole(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let len = std::env::var(LINE_BYTES).map_or(20_000_000, |bytes| bytes.parse().unwrap());
    let expect = digits(len);
    let command = format!("seq 1 99999999 | tr -d '\\n' | head -c {len}; read x");
    let id = world.run_command("demo", &command).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.at == len as u64).await;
    if seen.gaps.is_empty() {
        assert_same("the viewer's bytes", &seen.bytes, &expect);
    }
    let (start, tail) = world.transcript(&id).await;
    assert_same("the journal while it runs", &tail, &expect[usize::try_from(start).unwrap()..]);
    viewer.type_in(seen.handle(), b"\r").await;
    viewer.follow(&mut seen, Seen::ended).await;
    assert_eq!(world.until_ended(&id).await["exit_code"], 0);
    let (start, stored) = world.transcript(&id).await;
    let expect = [&expect[..], b"\r\n"].concat();
    assert_same("the stored tail", &stored, &expect[usize::try_from(start).unwrap()..]);
    assert!((8_000_000..=10_485_760).contains(&stored.len()), "{} bytes are kept", stored.len());
}

/// The screen that a terminal of 80x24 shows after these bytes.
fn screen(bytes: &[u8]) -> String {
    let side = |n| std::num::NonZero::new(n).unwrap();
    let mut parser = vt100::Parser::new(side(24), side(80), 0);
    parser.process(bytes);
    parser.screen().contents()
}

/// One viewer never acknowledges: the command ends its flood and another viewer sees all of it all the same.
pub(super) async fn a_slow_viewer_costs_nobody_anything(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    let command = "read go; seq 1 1800000; printf 'flooded'; read x; echo; seq 1 30";
    let id = world.run_command("demo", command).await;
    let mut slow = Viewer::open(&world, "demo").await;
    let mut fast = Viewer::open(&world.over_tcp().await, "demo").await;
    let mut slowly = slow.watch(&id, json!({"from": 0, "mode": "view"})).await;
    let mut seen = fast.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    let mut expect = b"\r\n".to_vec();
    (1..=1_800_000).for_each(|n| expect.extend_from_slice(format!("{n}\r\n").as_bytes()));
    expect.extend_from_slice(b"flooded");

    fast.type_in(seen.handle(), b"\r").await;
    fast.follow(&mut seen, |seen| seen.at >= expect.len() as u64).await;
    let (start, tail) = world.transcript(&id).await;
    assert_same("the journal", &tail, &expect[usize::try_from(start).unwrap()..]);
    if seen.gaps.is_empty() {
        assert_same("the fast viewer's bytes", &seen.bytes, &expect);
    }
    // What was sent unasked is bounded, and true.
    while slowly.at < 100_000 {
        slowly.take(slow.next().await);
    }
    assert!(slowly.at <= 100_000 && slowly.gaps.is_empty(), "{}", slowly.at);
    assert_same("the slow viewer's first bytes", &slowly.bytes, &expect[..100_000]);
    slow.acknowledge(&slowly).await;
    slow.follow(&mut slowly, |seen| !seen.snapshots.is_empty()).await;
    assert_eq!(slowly.gaps.len(), 1);
    let (lost_from, lost_to) = slowly.gaps[0];
    assert!(lost_from >= 100_000 && lost_to <= expect.len() as u64, "{lost_from}..{lost_to}");
    let (offset, snapshot) = slowly.snapshots[0].clone();
    assert_eq!(offset, lost_to);
    let known = usize::try_from(offset).unwrap();
    assert_eq!(screen(&snapshot), screen(&expect[..known]), "the snapshot at {offset}");
    slow.follow(&mut slowly, |seen| seen.at == expect.len() as u64).await;

    fast.type_in(seen.handle(), b"\r").await;
    fast.follow(&mut seen, Seen::ended).await;
    slow.follow(&mut slowly, Seen::ended).await;
    expect.extend_from_slice(b"\r\n\r\n");
    (1..=30).for_each(|n| expect.extend_from_slice(format!("{n}\r\n").as_bytes()));
    let live = expect.len() - known;
    assert_same(
        "the live bytes after the snapshot",
        &slowly.bytes[slowly.bytes.len() - live..],
        &expect[known..],
    );
    assert_eq!(world.until_ended(&id).await["output_bytes"], expect.len());
}
