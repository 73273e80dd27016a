//! Requests and frames that are too large, broken, or too many.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{BINARY, CLOSE, Holds, PING, Raw, TEXT, frame, unnoticed};
use crate::harness::{Backend, Caller, Seen, Viewer, World, soon};

/// More than a message may have.
const LARGE: usize = (64 << 10) + 1;

async fn world() -> (World, Caller) {
    let world = World::new(Backend::Pty);
    world.project("demo", "project: demo\ntasks: {}").await;
    let caller = world.over_tcp().await;
    (world, caller)
}

/// What a connection is closed with after these bytes.
async fn closed_after(caller: &Caller, bytes: &[u8]) -> u16 {
    let mut raw = Raw::socket(caller, "demo").await;
    // It may be closed before it has taken all of them.
    let _ = raw.0.write_all(bytes).await;
    raw.closed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_too_large_or_none_end_their_socket_with_a_reason() {
    let (world, caller) = world().await;
    let head = |first: u8, len: u64| [&[first, 0x80 | 127][..], &len.to_be_bytes(), &[0; 4]].concat();
    let fragments = |part: usize| {
        let part = vec![b'x'; part];
        [frame(0x01, &part), frame(0x00, &part), frame(0x00, &part)].concat()
    };
    closed_after(&caller, &frame(CLOSE, &[])).await;
    let before = Holds::of(&world);
    let table: [(&str, Vec<u8>, u16); 16] = [
        ("a long text", frame(TEXT, &vec![b'x'; LARGE]), 1009),
        ("a long binary", frame(BINARY, &vec![b'x'; LARGE]), 1009),
        ("fragments that are long together", fragments(LARGE / 3 + 1), 1009),
        ("a length that nobody has", head(BINARY, 1 << 62), 1009),
        ("a length of 64 bits set", head(BINARY, u64::MAX), 1009),
        ("no mask", vec![TEXT, 2, b'h', b'i'], 1002),
        ("a compressed frame", frame(TEXT | 0x40, b"hi"), 1002),
        ("reserved bits", frame(TEXT | 0x30, b"hi"), 1002),
        ("a kind that is none", frame(0x83, b"hi"), 1002),
        ("a control kind that is none", frame(0x8b, b"hi"), 1002),
        ("a long ping", frame(PING, &[0; 126]), 1002),
        ("a fragmented ping", frame(0x09, b"hi"), 1002),
        ("a continuation of nothing", frame(0x80, b"hi"), 1002),
        ("a text in a text", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        ("bytes that are no text", frame(TEXT, b"\xff\xfe"), 1007),
        ("noise", vec![0xf7; 300], 1002),
    ];
    for (what, bytes, expect) in table {
        assert_eq!(closed_after(&caller, &bytes).await, expect, "{what}");
    }
    // What is wrong only as a message is told, and the socket goes on.
    let mut raw = Raw::socket(&caller, "demo").await;
    for wrong in [frame(TEXT, b""), frame(TEXT, b"{}"), frame(BINARY, b""), frame(BINARY, b"\x03\0\0\0\x07")]
    {
        raw.say(wrong).await;
        let (kind, payload) = raw.frame().await.unwrap();
        assert_eq!((kind, &payload[..1]), (1, &b"{"[..]));
        assert!(payload.starts_with(br#"{"channel":null,"code":"#), "{payload:?}");
    }
    raw.reset();
    before.again(&world, "broken frames").await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_large_are_told() {
    let (world, caller) = world().await;
    let run = "POST /api/v1/projects/demo/tasks/run";
    let before = Holds::of(&world);
    let json = "content-type: application/json\r\n";
    let table = [
        ("431", "GET /healthz", format!("x-long: {}\r\n\r\n", "x".repeat(20 << 10))),
        ("431", "GET /healthz", (0..101).map(|n| format!("x-{n}: 1\r\n")).collect::<String>() + "\r\n"),
        ("413", run, format!("{json}content-length: {LARGE}\r\n\r\n")),
        ("413", run, format!("{json}content-length: 9223372036854775807\r\n\r\n")),
        (
            "413",
            run,
            format!("{json}transfer-encoding: chunked\r\n\r\n{LARGE:x}\r\n{}\r\n", "x".repeat(LARGE)),
        ),
    ];
    for (status, line, rest) in table {
        let mut raw = Raw::connect(&caller).await;
        let _ = raw.0.write_all((Raw::head(&caller, line) + &rest).as_bytes()).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
    before.again(&world, "large requests").await;
    world.fsck();
}

/// Frames that mean nothing, as many as there can be, by clients that take every answer.
async fn storm(caller: Caller, one: Vec<u8>, count: usize) {
    let mut raw = Raw::socket(&caller, "demo").await;
    let (mut reader, mut writer) = raw.0.split();
    let many = one.repeat(1000);
    let write = async {
        for _ in 0..count / 1000 {
            writer.write_all(&many).await.unwrap();
        }
        // The answer to this goodbye comes after all others.
        writer.write_all(&frame(CLOSE, &[])).await.unwrap();
    };
    let read = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
    let (_, read) = tokio::join!(write, read);
    // A goodbye is answered before the end; without pongs or errors there is nothing else.
    assert!(read.unwrap() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_of_pings_and_empty_frames_disturb_nobody() {
    let (world, caller) = world().await;
    let id = world.run_command("demo", "echo up; cat").await;
    let mut viewer = Viewer::open(&caller, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.at >= 4).await;
    let before = Holds::of(&world);
    let count = if crate::long() { 1_000_000 } else { 50_000 };
    let kinds = [
        ("pings", frame(PING, b"are you there"), count),
        ("empty frames", frame(BINARY, &[]), count),
        // These begin a message that never ends; the daemon is given no message at all.
        ("empty fragments", frame(0x01, &[]), 1000),
    ];
    for (name, one, count) in kinds {
        let to = caller.clone();
        let attack = async move {
            if name == "empty fragments" {
                let count = if crate::long() { 10_000_000 } else { 1_000_000 };
                futures_util::future::join_all((0..4).map(|_| fragments(&to, count))).await;
            } else {
                futures_util::future::join_all((0..2).map(|_| storm(to.clone(), one.clone(), count / 2)))
                    .await;
            }
        };
        unnoticed(name, &caller, attack).await;
        let end = seen.at + 10;
        viewer.type_in(seen.handle(), b"key\n").await;
        viewer.follow(&mut seen, |seen| seen.at >= end).await;
    }
    before.again(&world, "storms").await;
    viewer.type_in(seen.handle(), b"\x04").await;
    viewer.follow(&mut seen, Seen::ended).await;
    assert_eq!(world.transcript(&id).await.1, seen.bytes);
    world.fsck();
}

/// A message in fragments of nothing, then its end.
async fn fragments(caller: &Caller, count: usize) {
    let mut raw = Raw::socket(caller, "demo").await;
    let many = frame(0x00, &[]).repeat(10_000);
    raw.say(frame(0x01, b"{")).await;
    for _ in 0..count / 10_000 {
        raw.say(&many).await;
    }
    raw.say(frame(0x80, b"}")).await;
    let (kind, payload) = raw.frame().await.unwrap();
    assert_eq!((kind, payload.starts_with(b"{")), (1, true));
}

/// What is poured at most: more than buffers between here and there have room for, and enough to show in the memory.
const POURED: usize = 20 << 20;

/// Writes until nothing is taken any more.
async fn pour(caller: &Caller, one: &[u8]) -> (Raw, usize) {
    let mut raw = Raw::narrow(caller).await.upgraded(caller, "demo").await;
    let part = one.repeat((64 << 10) / one.len() + 1);
    let (mut at, mut poured) = (0, 0);
    while poured < POURED {
        match tokio::time::timeout(Duration::from_secs(5), raw.0.write(&part[at..])).await {
            Ok(Ok(len)) => (at, poured) = ((at + len) % part.len(), poured + len),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    (raw, poured)
}

/// Clients that ask and ask, and never take an answer: what waits for them is bounded, and then they are not listened to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_do_not_pile_up() {
    let (world, caller) = world().await;
    let id = world.run_command("demo", "cat").await;
    world.until_running(&id).await;
    closed_after(&caller, &frame(CLOSE, &[])).await;
    let before = Holds::of(&world);
    let long_name = format!(r#"{{"type":"subscribe","channel":"{}"}}"#, "x".repeat(60 << 10));
    let kinds = [frame(PING, &[b'x'; 125]), frame(TEXT, long_name.as_bytes())];
    let pours = kinds.iter().map(|one| pour(&caller, one));
    let deaf = soon("the end of two pours", futures_util::future::join_all(pours)).await;
    let poured: Vec<usize> = deaf.iter().map(|(_, poured)| poured >> 10).collect();
    let now = Holds::of(&world);
    println!("{poured:?} KiB of pings and complaints were taken: {now:?}, before it was {before:?}");
    assert!(poured.iter().all(|&kib| kib < POURED >> 10), "there is no end to what is taken: {poured:?} KiB");
    assert!(now.memory_kib < before.memory_kib + (3 << 10), "{now:?}, {before:?}");
    deaf.into_iter().for_each(|(raw, _)| raw.reset());
    before.again(&world, "answers that nobody takes").await;
    world.stop(&id).await;
    world.fsck();
}
