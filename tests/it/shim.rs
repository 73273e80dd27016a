//! The shim as a real process.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event and passes over the others")]

mod exact;
mod input;
mod start;
mod stop;
mod ward;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kas::backend::pty::Detached;
use kas::journal::{self, Cause, Ending, ExitRecord, Found, Nonce, Reader, Spec};
use kas::model::{BackendKind, Exit, InstanceId, Offset, Size, TimeMs};
use kas::shim::{Client, Event, EventStream};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::time::Instant;

const KAS: &str = env!("CARGO_BIN_EXE_kas");
const LIMIT: u64 = 10 * 1024 * 1024;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A spec that runs `command` in `/` with a small environment.
fn spec(command: &str) -> Spec {
    let nonce = Nonce::random().unwrap();
    Spec {
        id: InstanceId::from_parts(TimeMs::now().0.cast_unsigned(), u128::from_be_bytes(*nonce.as_bytes())),
        nonce,
        command: command.into(),
        cwd: PathBuf::from("/"),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("TERM".into(), "xterm-256color".into())],
        size: Size::DEFAULT,
        limit_bytes: LIMIT,
        scrollback_lines: 100,
        backend: BackendKind::Pty,
        keep_window: false,
        boot_id: journal::boot_id().unwrap(),
    }
}

/// A run whose gate is still closed.
struct Run {
    dir: PathBuf,
    shim: Detached,
    client: Client,
    events: EventStream,
    _home: tempfile::TempDir,
}

impl Run {
    /// The process ids that a command tells, as `word pid.`, once there are so many of them.
    async fn told_pids(&mut self, count: usize) -> Vec<String> {
        let mut all = String::new();
        while all.matches('.').count() < count {
            if let Event::Output { bytes, .. } = self.next().await {
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        let pids: Vec<String> =
            all.split('.').filter_map(|it| it.split_whitespace().nth(1)).map(str::to_owned).collect();
        assert_eq!(pids.len(), count, "{all}");
        pids
    }

    async fn gated(spec: &Spec) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = journal::create(&home.path().join("instances"), spec).unwrap();
        let shim = kas::backend::pty::spawn(Path::new(KAS), &dir).unwrap();
        let (client, events) = Client::connect(&dir, &spec.nonce, soon()).await.unwrap();
        Self { dir, shim, client, events, _home: home }
    }

    async fn start(spec: &Spec) -> Self {
        let run = Self::gated(spec).await;
        run.client.follow(Offset(0)).await.unwrap();
        run.client.open_gate().await.unwrap();
        run
    }

    /// The shim itself: the ward's only child.
    fn shim_pid(&self) -> u32 {
        let ward = self.shim.pid;
        let children = std::fs::read_to_string(format!("/proc/{ward}/task/{ward}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout_at(soon(), self.events.next())
            .await
            .expect("an event in time")
            .unwrap()
            .expect("not gone")
    }

    /// Everything up to the end: output from where it is followed, and the record.
    async fn finish(&mut self) -> (Vec<u8>, ExitRecord) {
        let mut output = Vec::new();
        let mut record = None;
        loop {
            match self.next().await {
                Event::Output { bytes, .. } => output.extend_from_slice(&bytes),
                Event::Exited(exited) => record = Some(*exited),
                Event::End { .. } => return (output, record.expect("the record comes before the end")),
                _ => {}
            }
        }
    }

    /// Reads events until `wanted` says so.
    async fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.next().await) {
                return found;
            }
        }
    }

    /// Reads output until it contains `text`.
    async fn until_output(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        self.until(|event| {
            if let Event::Output { bytes, .. } = event {
                all.extend_from_slice(bytes);
            }
            let seen = String::from_utf8_lossy(&all).into_owned();
            seen.contains(text).then_some(seen)
        })
        .await
    }
}

impl Run {
    /// Stops it and waits until nothing of its tree lives.
    async fn stop(&mut self) -> ExitRecord {
        self.client.stop(false).await.unwrap();
        let mut record = None;
        loop {
            match self.next().await {
                Event::Exited(exited) => record = Some(*exited),
                Event::Stopped => return record.expect("the record comes before the end of the stop"),
                _ => {}
            }
        }
    }
}

/// The output (newlines as the program wrote them) and the end of a command.
async fn outcome(spec: &Spec) -> (String, Ending) {
    let mut run = Run::start(spec).await;
    let (output, record) = run.finish().await;
    run.client.ack().await.unwrap();
    (String::from_utf8_lossy(&output).replace("\r\n", "\n"), record.ending)
}

#[tokio::test]
async fn a_command_runs_and_its_bytes_and_code_come_back() {
    let (output, ending) = outcome(&spec("echo hello; exit 7")).await;
    assert_eq!((output.as_str(), ending), ("hello\n", Ending::Exited(Exit::Code(7))));
}

/// Every byte the journal holds from `from` on.
fn stored(dir: &Path, from: u64) -> Vec<u8> {
    let mut reader = Reader::new(dir);
    let mut bytes = Vec::new();
    while let Found::Bytes(more) = reader.read_at(Offset(from + bytes.len() as u64), 1 << 20).unwrap() {
        bytes.extend_from_slice(&more);
    }
    bytes
}

/// Deterministic bytes: a different one at every place, and all 256 of them unless `newlines` are not wanted.
fn noise(len: usize, newlines: bool) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    if !newlines {
        bytes.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b'.');
    }
    bytes
}

fn sha(bytes: &[u8]) -> impl PartialEq + std::fmt::Debug {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
}

/// A process's memory as the kernel counts it.
fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = |line: &&str| line.starts_with("VmRSS") || line.starts_with("RssAnon");
    status
        .lines()
        .filter(wanted)
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

#[tokio::test]
async fn an_idle_shim_is_small() {
    let mut run = Run::start(&spec("echo ready; exec sleep 1000")).await;
    run.until_output("ready").await;
    for (who, pid) in [("shim", run.shim_pid()), ("ward", run.shim.pid)] {
        println!("{who}, idle: {}", memory(pid));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let anon = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        let kib: u64 = anon.trim().trim_end_matches(" kB").parse().unwrap();
        // The program's own pages are shared between shims; these are not.
        assert!(kib < 3 * 1024, "{kib} KiB of its own");
    }
    run.stop().await;
}

/// Waits until the process of a pidfd has ended.
async fn ended(pidfd: &OwnedFd) {
    let pidfd = pidfd.try_clone().unwrap();
    let wait = move || {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap()
    };
    assert_eq!(tokio::task::spawn_blocking(wait).await.unwrap(), 1, "it ends in time");
}

#[tokio::test]
async fn a_client_that_never_reads_stalls_nobody() {
    let size = 60_000_000;
    let spec = spec(&format!("stty -opost; yes 'a line of output' | head -c {size}; exit 9"));
    let run = Run::gated(&spec).await;
    run.client.follow(Offset(0)).await.unwrap();
    run.client.open_gate().await.unwrap();
    let (other, mut events) = Client::connect(&run.dir, &spec.nonce, soon()).await.unwrap();
    other.follow(Offset(0)).await.unwrap();
    let began = Instant::now();
    loop {
        let event = tokio::time::timeout_at(soon(), events.next()).await.expect("it is not stalled").unwrap();
        if let Event::Exited(record) = event.expect("the shim stays") {
            assert_eq!((record.ending, record.total_bytes), (Ending::Exited(Exit::Code(9)), size));
            break;
        }
    }
    println!("60 MB beside a client that never reads: {:?}", began.elapsed());
    drop(run);
}

#[tokio::test]
async fn a_new_client_goes_on_where_the_last_one_was() {
    let spec =
        spec("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read x; echo got $x; exit 4");
    let mut run = Run::start(&spec).await;
    let mut seen = Vec::new();
    while seen.len() < 5000 {
        if let Event::Output { bytes, offset } = run.next().await {
            assert_eq!(offset.0, seen.len() as u64);
            seen.extend_from_slice(&bytes);
        }
    }
    let (client, events) = Client::connect(&run.dir, &spec.nonce, soon()).await.unwrap();
    run.client = client;
    run.events = events;
    assert!(run.client.hello().pid.is_some());
    run.client.follow(Offset(seen.len() as u64)).await.unwrap();
    run.client.input(Bytes::from_static(b"on\n")).await.unwrap();
    let (rest, record) = run.finish().await;
    seen.extend_from_slice(&rest);
    let mut expect: String = (0..3000).map(|i| format!("line {i}\r\n")).collect();
    let text = String::from_utf8_lossy(&seen);
    // Where the typed line is echoed depends on when it was typed.
    assert!(
        text.replacen("on\r\n", "", 1) == {
            expect.push_str("got on\r\n");
            expect
        },
        "{}",
        text.len()
    );
    assert_eq!(record.ending, Ending::Exited(Exit::Code(4)));
}

#[tokio::test]
async fn without_a_client_the_record_is_there_all_the_same() {
    let spec = spec("read x; echo $x; exit 11");
    let mut run = Run::start(&spec).await;
    run.until(|e| matches!(e, Event::Started { .. }).then_some(())).await;
    run.client.input(Bytes::from_static(b"word\n")).await.unwrap();
    run.until(|e| matches!(e, Event::Output { .. }).then_some(())).await;
    let Run { dir, shim, client, events, _home } = run;
    drop((client, events));
    ended(&shim.pidfd).await;
    let record = ExitRecord::read(&dir).unwrap().unwrap();
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(11)), Cause::Itself));
    assert_eq!(stored(&dir, 0), b"word\r\nword\r\n");
    let late = Client::connect(&dir, &spec.nonce, soon()).await;
    assert!(matches!(late, Err(kas::shim::ClientError::Ended(_))), "{late:?}");
}
