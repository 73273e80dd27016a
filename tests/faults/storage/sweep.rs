//! The n-th system call fails, or is the last one, for every n: of a daemon, and of a shim.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kas::journal::{self, Ending, ExitRecord, Found, Reader};
use kas::model::{Exit, Offset};
use kas::shim::{Client, Event};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{integrity, missing, strace};
use crate::harness::{Backend, PATIENCE, World};
use crate::process::{noise, spec};

/// How a call ends.
const FAILURES: [&str; 4] = ["error=ENOSPC", "error=EIO", "error=EINTR", "signal=KILL"];

/// What strace is told to do to the `n`-th `call` of each thread.
fn inject(call: &str, fault: &str, n: usize) -> String {
    format!("inject={call}:{fault}:when={n}")
}

fn hits(log: &Path, fault: &str) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    if fault.starts_with("signal") {
        text.matches("+++ killed by SIGKILL").count()
    } else {
        text.matches("(INJECTED)").count()
    }
}

// ---- a shim

/// The process that holds the command: the one below its ward.
fn holder_of(ward: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{ward}/task/{ward}/children")).unwrap();
    children.split_whitespace().next().expect("a shim below its ward").parse().unwrap()
}

/// What a shim that meets one fault from its gate on leaves: the truth, and as much of it as the fault allowed.
async fn shim_meets(call: &str, fault: &str, n: usize, expect: &[u8]) -> bool {
    let home = tempfile::tempdir().unwrap();
    let (source, log) = (home.path().join("source"), home.path().join("log"));
    std::fs::write(&source, expect).unwrap();
    let spec = spec("stty raw; : > ran; cat source; exit 7", home.path());
    let dir = journal::create(&home.path().join("instances"), &spec).unwrap();
    let what = format!("{call} {fault} {n}");
    let mut shim = tokio::process::Command::new(env!("CARGO_BIN_EXE_kas"))
        .arg("shim")
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    drop(Client::connect(&dir, &spec.nonce, deadline).await.unwrap());
    let (trace, rule) = (format!("trace={call}"), inject(call, fault, n));
    let mut tracer = strace(holder_of(shim.id().unwrap()), &["-e", &trace, "-e", &rule], &log).await;
    let watched = tokio::select! {
        watched = watch(&dir, &spec.nonce) => watched,
        _ = shim.wait() => None,
    };
    let ended = crate::harness::soon(&format!("the shim's end after {what}"), shim.wait()).await.unwrap();
    crate::harness::soon("the tracer's end", tracer.wait()).await.unwrap();
    let hit = hits(&log, fault) > 0;
    let killed = fault.starts_with("signal") && hit;
    let record = ExitRecord::read(&dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let missing = stored(&dir, expect, &what);
    // What a gap skipped is zero here.
    let live = watched.as_deref().unwrap_or_default();
    assert!(
        live.iter().zip(expect).all(|(got, wrote)| got == wrote || *got == 0),
        "{what}: wrong live bytes"
    );
    assert!(hit || live == expect, "{what}: {} live bytes", live.len());
    match record {
        Some(record) if record.ending == Ending::Exited(Exit::Code(7)) => {
            assert_eq!(record.total_bytes, expect.len() as u64, "{what}");
            assert_eq!(record.lost_bytes, missing, "{what}: what is missing is not what is said to be");
        }
        Some(record) => {
            let text = format!("{record:?}");
            assert!(
                matches!(record.ending, Ending::SpawnFailed { .. } | Ending::NeverStarted),
                "{what}: {text}"
            );
            assert!(!home.path().join("ran").exists(), "{what}: it ran and is said not to have: {text}");
        }
        None => {
            assert!(killed, "{what}: no record, {ended:?}, watched {:?}", watched.map(|it| it.len()));
        }
    }
    hit
}

/// Opens the gate and follows to the end, coming back when the connection fails; `None` when nobody ever answered.
async fn watch(dir: &Path, nonce: &journal::Nonce) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut ever = false;
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        let connected = Client::connect(dir, nonce, deadline.min(give_up)).await;
        let Ok((client, mut events)) = connected else {
            if tokio::time::Instant::now() >= give_up || ever {
                return ever.then_some(bytes);
            }
            continue;
        };
        ever = true;
        client.follow(Offset(bytes.len() as u64)).await.ok()?;
        let _ = client.open_gate().await;
        let mut ended = false;
        while let Ok(Ok(Some(event))) = tokio::time::timeout_at(give_up, events.next()).await {
            match event {
                Event::Output { offset, bytes: more } => {
                    bytes.resize(usize::try_from(offset.0).unwrap(), 0);
                    bytes.extend_from_slice(&more);
                }
                Event::Exited(_) => ended = true,
                Event::End { .. } if ended => {
                    // It goes unacknowledged: its record is all that will be known of it.
                    return Some(bytes);
                }
                Event::End { .. }
                | Event::Hello(_)
                | Event::Gap { .. }
                | Event::Started { .. }
                | Event::Resized(_)
                | Event::InputTaken(_)
                | Event::SpawnFailed { .. }
                | Event::Stopped => {}
            }
        }
    }
}

/// Compares what is on disk, and says how many bytes before the end are not.
fn stored(dir: &Path, expect: &[u8], what: &str) -> u64 {
    let mut reader = Reader::new(dir);
    let (mut at, mut missing) = (Offset(0), 0);
    loop {
        match reader.read_at(at, 1 << 20).unwrap() {
            Found::Bytes(bytes) => {
                let from = usize::try_from(at.0).unwrap();
                assert!(expect[from..from + bytes.len()] == bytes[..], "{what}: wrong bytes at {at}");
                at = at.after(bytes.len());
            }
            Found::Missing { to, evicted } => {
                assert!(!evicted || at.0 == 0, "{what}: {at} to {to}");
                missing += to.0 - at.0;
                at = to;
            }
            Found::End => return missing + (expect.len() as u64 - at.0),
        }
    }
}

async fn shims_meet(fault: &'static str) {
    // Two segments.
    let expect = noise(800_000);
    let (mut runs, mut places) = (0, Vec::new());
    let began = Instant::now();
    for call in ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "rename", "openat"] {
        let step = if crate::long() { 1 } else { 5 };
        let mut n = 1;
        while shim_meets(call, fault, n, &expect).await {
            runs += 1;
            n += step;
        }
        places.push(format!("{call} {n}"));
    }
    println!(
        "G21: a shim met {fault} in {runs} places up to {places:?}, in {:?}: nothing untrue was left",
        began.elapsed()
    );
    assert!(runs >= 6, "only {runs} calls were hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_without_space_leaves_the_truth() {
    shims_meet(FAILURES[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_whose_disk_fails_leaves_the_truth() {
    shims_meet(FAILURES[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_is_interrupted_leaves_the_truth() {
    shims_meet(FAILURES[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_is_killed_leaves_the_truth() {
    shims_meet(FAILURES[3]).await;
}

// ---- a daemon

/// Asks over the control socket; `None` where nobody answers, as a daemon that fails may not.
fn ask(socket: &Path, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// What was answered with 202: an id and the code its command ends with, `None` for one that is stopped.
type Acknowledged = Vec<(String, Option<i64>)>;

/// A short life of a daemon: a project, a run that ends by itself, and one that is stopped.
fn a_short_life(socket: &Path, project: &Path) -> Acknowledged {
    let mut acknowledged = Vec::new();
    let _ = ask(socket, "POST", "/v1/repos", &json!({"path": project}));
    let run = |command: &str| {
        let (status, answer) =
            ask(socket, "POST", "/api/v1/projects/demo/tasks/run", &json!({"command": command}))?;
        (status == 202).then(|| answer["id"].as_str().unwrap().to_owned())
    };
    let short = run("echo hello; exit 3");
    let long = run("echo up; exec sleep 1000");
    acknowledged.extend(short.iter().map(|id| (id.clone(), Some(3))));
    let deadline = Instant::now() + Duration::from_secs(3);
    while let Some(id) = &short
        && Instant::now() < deadline
    {
        match ask(socket, "GET", &format!("/api/v1/tasks/{id}"), &Value::Null) {
            Some((200, run)) if run["exited_at"].is_null() => std::thread::sleep(Duration::from_millis(10)),
            Some(_) | None => break,
        }
    }
    if let Some(id) = long {
        let _ = ask(socket, "POST", &format!("/api/v1/tasks/{id}/stop"), &json!({}));
        acknowledged.push((id, None));
    }
    acknowledged
}

/// A daemon meets one fault, and the next one finds everything that was answered, with nothing made up.
async fn daemon_meets(call: &'static str, fault: &'static str, n: usize) -> bool {
    let mut world = World::asleep(Backend::Pty, "");
    let what = format!("{call} {fault} {n}");
    world.write("demo/.kaged/project.yaml", "project: demo\ntasks: {}");
    let log = world.path("strace.log");
    let (trace, rule, to) = (format!("trace={call}"), inject(call, fault, n), log.display().to_string());
    // With --seccomp-bpf, which is faster, strace 6.1 leaves out the signal.
    let fast: &[&str] = if fault.starts_with("signal") { &[] } else { &["--seccomp-bpf"] };
    let words = [&["strace", "-D", "-f"], fast, &["-qq", "-e", &trace, "-e", &rule, "-o", &to]].concat();
    world.wrap(&words);
    let (socket, project) = (world.path("run/kasmos/kas.sock"), world.path("demo"));
    let mut acknowledged = Vec::new();
    match world.try_start() {
        Ok(()) => {
            acknowledged =
                tokio::task::spawn_blocking(move || a_short_life(&socket, &project)).await.unwrap();
            // One that is to be killed at a call is not killed at another moment as well.
            world.end(if fault.starts_with("signal") { Signal::TERM } else { Signal::KILL });
        }
        Err(said) => assert!(!said.contains("panicked"), "{what}: {said}"),
    }
    world.wrap(&[]);
    world.start();
    for (id, code) in &acknowledged {
        let run = world.instance(id).await;
        if code.is_none() && run["exited_at"].is_null() {
            let stopped = world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await;
            assert!(matches!(stopped.status, 200 | 409), "{what}: {stopped:?}");
        }
        let run = world.until_ended(id).await;
        let known = run["exit_code"] == json!(code) && run["error"].is_null();
        let unknown = run["exit_code"].is_null() && !run["error"].is_null();
        assert!(known || unknown, "{what}: {run}");
        if known && code.is_some() {
            // Its shim is traced as well: what that could not write is not there, and said not to be.
            let (start, stored) = world.transcript(id).await;
            let told = if start == 0 { Value::Null } else { json!([[0, start]]) };
            assert_eq!(missing(&world, id).await, told, "{what}");
            assert_eq!(stored, b"hello\r\n"[usize::try_from(start).unwrap()..], "{what}");
        }
    }
    world.fsck();
    world.end(Signal::TERM);
    assert_eq!(integrity(&world.state_dir().join("runner.db")), "ok", "{what}");
    hits(&log, fault) > 0
}

/// The whole sweep in the long run; else so much of it as there is time for, every fifth call of each kind in turn.
async fn daemons_meet(faults: &[&'static str], first: usize) {
    let calls = ["pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "openat"];
    let began = Instant::now();
    let budget = Duration::from_secs(if crate::long() { 3600 } else { 12 });
    let mut open: Vec<(&str, &str)> =
        calls.iter().flat_map(|call| faults.iter().map(move |fault| (*call, *fault))).collect();
    let (mut n, mut runs, mut clean) = (first, 0, 0);
    while !open.is_empty() && began.elapsed() < budget {
        let mut next = Vec::new();
        for (call, fault) in std::mem::take(&mut open) {
            if began.elapsed() >= budget {
                next.push((call, fault));
            } else if daemon_meets(call, fault, n).await {
                runs += 1;
                next.push((call, fault));
            } else {
                clean += 1;
            }
        }
        open = next;
        n += if crate::long() { 1 } else { 5 };
    }
    println!(
        "G21: a daemon met {faults:?} in {runs} places up to the {n}th, {clean} kinds to their end, in {:?}: nothing lost",
        began.elapsed()
    );
    assert!(runs > 0, "no call was hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_calls_fail_loses_nothing() {
    daemons_meet(&FAILURES[..3], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_a_call_loses_nothing() {
    daemons_meet(&FAILURES[3..], 2).await;
}
