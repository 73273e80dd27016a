//! The shim as a real process.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event and passes over the others")]

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_instant_tasks_are_exact() {
    let work = (0..1000_usize).collect::<Vec<_>>();
    let next = std::sync::Arc::new(std::sync::Mutex::new(work.into_iter()));
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let next = std::sync::Arc::clone(&next);
        workers.spawn(async move {
            while let Some(n) = { next.lock().unwrap().next() } {
                instant_task(n).await;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    println!("1000 instant tasks, 8 at a time: {:?}", began.elapsed());
}

/// Runs one short task and compares every byte, live and on disk, and its end.
async fn instant_task(n: usize) {
    let size = [0, 1, 40, 3000, 4096, 60_000][n % 6] + n / 6;
    let line = format!("task {n} says this\n");
    let text: Vec<u8> = line.bytes().cycle().take(size).collect();
    let (end, ending) = match n % 5 {
        4 => ("kill -9 $$".to_owned(), Exit::Signal(9)),
        _ => (format!("exit {}", n % 256), Exit::Code((n % 256).try_into().unwrap())),
    };
    let mut spec = spec(&format!("stty -opost; yes 'task {n} says this' | head -c {size}; {end}"));
    spec.env[0].1 = "/usr/bin:/bin".into();
    let mut run = Run::start(&spec).await;
    let (output, record) = run.finish().await;
    assert_eq!(output, text, "task {n}");
    assert_eq!(record.ending, Ending::Exited(ending), "task {n}");
    assert_eq!((record.total_bytes, record.lost_bytes), (size as u64, 0));
    assert_eq!(stored(&run.dir, 0), text, "task {n} on disk");
    assert_eq!(ExitRecord::read(&run.dir).unwrap(), Some(record));
    run.client.ack().await.unwrap();
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

/// A spec that prints a file as it is.
fn spec_cat(file: &Path) -> Spec {
    spec(&format!("stty raw -echo; cat {}", file.display()))
}

#[tokio::test]
async fn every_byte_value_and_broken_utf8_come_through() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bytes");
    let all: Vec<u8> = (0..=255).cycle().take(2560).chain(*b"\xf0\x9f\xe2\x82\x1b[31\x1b]0;x").collect();
    std::fs::write(&file, &all).unwrap();
    let mut run = Run::start(&spec_cat(&file)).await;
    let (output, _) = run.finish().await;
    assert_eq!(output, all);
    assert_eq!(stored(&run.dir, 0), all);
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_newline() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bytes");
    let all = noise(100_000_000, false);
    std::fs::write(&file, &all).unwrap();
    let mut run = Run::start(&spec_cat(&file)).await;
    let began = Instant::now();
    let mut at = 0;
    let mut missed = 0;
    let record = loop {
        match run.next().await {
            Event::Output { offset, bytes } => {
                assert_eq!(offset.0, at, "contiguous");
                let from = usize::try_from(at).unwrap();
                assert!(all[from..from + bytes.len()] == bytes[..], "live bytes at {at}");
                at += bytes.len() as u64;
            }
            Event::Gap { from, to } => {
                assert_eq!(from.0, at);
                missed += to.0 - from.0;
                at = to.0;
            }
            Event::Exited(record) => break record,
            _ => {}
        }
    };
    println!("100 MB through the shim: {:?}, {missed} bytes not live", began.elapsed());
    println!("shim after 100 MB: {}", memory(run.shim.pid));
    assert_eq!((record.total_bytes, record.lost_bytes), (100_000_000, 0));
    let (start, end) = Reader::new(&run.dir).range().unwrap();
    assert_eq!(end.0, 100_000_000);
    assert!((8_000_000..=LIMIT).contains(&(end.0 - start.0)), "{start}..{end} is held");
    assert_eq!(sha(&stored(&run.dir, start.0)), sha(&all[usize::try_from(start.0).unwrap()..]));
    let checkpoint = Reader::new(&run.dir).checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.offset, start);
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
    println!("shim, idle: {}", memory(run.shim.pid));
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.shim.pid)).unwrap();
    let anon = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anon.trim().trim_end_matches(" kB").parse().unwrap();
    // The program's own pages are shared between shims; these are not.
    assert!(kib < 3 * 1024, "{kib} KiB of its own");
    run.stop().await;
}

#[tokio::test]
async fn every_way_not_to_start_has_its_reason() {
    let failed = |spec: Spec| async move {
        let mut run = Run::start(&spec).await;
        let told = run.until(|event| match event {
            Event::SpawnFailed { text } => Some(text.clone()),
            Event::Started { .. } => panic!("it was said to run"),
            _ => None,
        });
        let told = told.await;
        let (_, record) = run.finish().await;
        assert_eq!(record.pid, None);
        match record.ending {
            Ending::SpawnFailed { errno, text } => {
                assert_eq!(text, told);
                (errno, text)
            }
            other => panic!("{other:?}"),
        }
    };
    let (errno, text) = failed(Spec { cwd: "/nowhere/at all".into(), ..spec("true") }).await;
    assert_eq!(errno, Some(2));
    assert!(text.contains("/nowhere/at all") && text.contains("No such file"), "{text}");
    let (errno, text) = failed(Spec { cwd: "/etc/passwd".into(), ..spec("true") }).await;
    assert_eq!(errno, Some(20), "{text}");
    let (errno, text) = failed(spec("echo a\0b")).await;
    assert_eq!((errno, text.as_str()), (None, "the command contains a NUL byte"));
    let (errno, text) = failed(spec(&format!(": {}", "x".repeat(128 * 1024)))).await;
    assert_eq!(errno, Some(7), "{text}");
    assert!(text.contains("too large"), "{text}");
    let huge = Spec { env: vec![("A".into(), "x".repeat(3_000_000).into())], ..spec("true") };
    let (errno, _) = failed(huge).await;
    assert_eq!(errno, Some(7));
    let nul = Spec { env: vec![("A".into(), "x\0".into())], ..spec("true") };
    assert_eq!(failed(nul).await.0, None);
}

#[tokio::test]
async fn the_shell_itself_says_126_and_127() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let make = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(home.path().join(name), text).unwrap();
        std::fs::set_permissions(home.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", "echo no", 0o644);
    make("script", "echo a script without a first line\n", 0o755);
    make("interpreter", "#!/no/such/interpreter\n", 0o755);
    let code = |command: String| async move { outcome(&spec(&command)).await };
    assert_eq!(code(path("plain")).await.1, Ending::Exited(Exit::Code(126)));
    assert_eq!(code("no-such-command".into()).await.1, Ending::Exited(Exit::Code(127)));
    assert_eq!(code(path("interpreter")).await.1, Ending::Exited(Exit::Code(127)));
    // ENOEXEC: the shell runs it as a script of its own.
    let (output, ending) = code(path("script")).await;
    assert_eq!((output.as_str(), ending), ("a script without a first line\n", Ending::Exited(Exit::Code(0))));
    assert_eq!(code("-t".into()).await.1, Ending::Exited(Exit::Code(127)));
    assert_eq!(code("kill -SEGV $$".into()).await.1, Ending::Exited(Exit::Signal(11)));
}

#[tokio::test]
async fn the_command_finds_a_clean_house() {
    let cwd = tempfile::tempdir().unwrap();
    let cwd = cwd.path().join("x#(touch PWNED)\n-t;");
    std::fs::create_dir(&cwd).unwrap();
    let command = "ls -m /proc/$$/fd; grep -E '^Sig(Blk|Ign|Cgt|Pnd)|^ShdPnd' /proc/self/status; \
        tty; ls -l /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | sed 's/.*-> /fd: /'; \
        cut -d' ' -f1,5,6,8 /proc/$$/stat | sed 's/^/ids: /'; stty size; pwd -P | od -An -tx1 | tr -d ' \\n'; echo; \
        tr '\\0' '\\n' < /proc/$$/environ";
    let mut spec = spec(command);
    spec.cwd = cwd.clone();
    spec.env.push(("ODD".into(), "a b\"'$x".into()));
    spec.size = Size::clamped(91, 17).unwrap();
    let (output, _) = outcome(&spec).await;
    let lines: Vec<&str> = output.lines().collect();
    let has = |wanted: &str| assert!(lines.contains(&wanted), "{wanted:?} is not in {output}");
    has("0, 1, 2");
    has("SigBlk:\t0000000000000000");
    has("SigIgn:\t0000000000000000");
    has("17 91");
    let tty = lines.iter().find(|l| l.starts_with("/dev/pts/")).expect("a terminal");
    assert_eq!(lines.iter().filter(|l| **l == format!("fd: {tty}")).count(), 3, "{output}");
    let ids: Vec<&str> = lines.iter().find_map(|l| l.strip_prefix("ids: ")).unwrap().split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "leads its group and session, in the foreground: {ids:?}");
    let hex: String =
        std::os::unix::ffi::OsStrExt::as_bytes(cwd.as_os_str()).iter().map(|b| format!("{b:02x}")).collect();
    has(&(hex + "0a"));
    let mut env: Vec<&str> = lines.iter().copied().filter(|l| l.contains('=')).collect();
    env.sort_unstable();
    assert_eq!(env, ["ODD=a b\"'$x", "PATH=/usr/bin:/bin", "TERM=xterm-256color"]);
    assert!(!cwd.join("PWNED").exists());
}

/// Whether a process lives (and is no zombie).
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn stop_ends_the_whole_tree_wherever_it_fled() {
    let command = "setsid sh -c 'echo one $$.; exec sleep 1000' & (setsid sh -c 'trap \"\" HUP INT; echo two $$.; \
        exec sleep 1000 </dev/null >/dev/null 2>&1' &) ; sh -c 'kill -STOP $$' & echo three $!.; wait; wait";
    let mut run = Run::start(&spec(command)).await;
    let mut all = String::new();
    while all.matches('.').count() < 3 {
        if let Event::Output { bytes, .. } = run.next().await {
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    let pids: Vec<&str> = all.split('.').filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(pids.len(), 3, "{all}");
    assert!(pids.iter().all(|pid| lives(pid)), "{all}");
    let record = run.stop().await;
    assert!(!pids.iter().any(|pid| lives(pid)), "{all}");
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Signal(15)), Cause::Stop));
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_five_seconds() {
    let mut run = Run::start(&spec("trap '' TERM HUP INT; echo ready; while :; do sleep 1; done")).await;
    run.until_output("ready").await;
    let began = Instant::now();
    let record = run.stop().await;
    let took = began.elapsed();
    assert_eq!(record.ending, Ending::Exited(Exit::Signal(9)));
    assert!((5000..6500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_stop_with_interrupt_lets_the_program_say_goodbye() {
    let mut run =
        Run::start(&spec("trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.05; done")).await;
    run.until_output("ready").await;
    run.client.stop(true).await.unwrap();
    let (output, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(5)), Cause::Stop));
    assert!(String::from_utf8_lossy(&output).contains("bye"));
}

#[tokio::test]
async fn a_stop_goes_on_when_the_client_dies() {
    let mut run = Run::start(&spec("trap '' TERM; echo ready; while :; do sleep 0.1; done")).await;
    run.until_output("ready").await;
    run.client.stop(false).await.unwrap();
    // The stop has reached the shim once it answers a later request.
    run.client.resize(Size::clamped(90, 30).unwrap()).await.unwrap();
    run.until(|e| matches!(e, Event::Resized(_)).then_some(())).await;
    let Run { dir, shim, client, events, _home } = run;
    drop((client, events));
    ended(&shim.pidfd).await;
    let record = ExitRecord::read(&dir).unwrap().unwrap();
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Signal(9)), Cause::Stop));
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
async fn a_background_child_does_not_hold_up_the_end() {
    let began = Instant::now();
    let mut run = Run::start(&spec("trap '' HUP; sleep 1000 & echo $!; exit 3")).await;
    let (output, record) = run.finish().await;
    assert_eq!(record.ending, Ending::Exited(Exit::Code(3)));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let pid = String::from_utf8_lossy(&output).trim().to_owned();
    // It was told that its terminal is gone, ignored that, and may live on; a stop still reaches it.
    assert!(lives(&pid));
    run.client.stop(false).await.unwrap();
    run.until(|e| matches!(e, Event::Stopped).then_some(())).await;
    assert!(!lives(&pid));
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

#[tokio::test]
async fn a_gate_that_is_not_opened_runs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let proof = home.path().join("ran");
    let spec = spec(&format!("touch {}", proof.display()));
    let run = Run::gated(&spec).await;
    run.client.abort().await.unwrap();
    ended(&run.shim.pidfd).await;
    assert_eq!(ExitRecord::read(&run.dir).unwrap().unwrap().ending, Ending::NeverStarted);
    assert!(!proof.exists());
}

#[tokio::test]
async fn a_stranger_is_not_served() {
    let spec = spec("true");
    let run = Run::gated(&spec).await;
    let wrong = Client::connect(&run.dir, &Nonce::random().unwrap(), soon()).await;
    assert!(matches!(wrong, Err(kas::shim::ClientError::Refused)), "{wrong:?}");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| std::fs::metadata(run.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("spec.json"), mode("shim.sock"), mode("index")], [0o700, 0o600, 0o600, 0o600]);
    run.client.abort().await.unwrap();
}

#[tokio::test]
async fn a_directory_with_a_long_name_has_a_socket_too() {
    let home = tempfile::tempdir().unwrap();
    let spec = spec("echo fine");
    let dir = journal::create(&home.path().join("d".repeat(120)).join("e".repeat(120)), &spec).unwrap();
    let _shim = kas::backend::pty::spawn(Path::new(KAS), &dir).unwrap();
    let (client, mut events) = Client::connect(&dir, &spec.nonce, soon()).await.unwrap();
    client.open_gate().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(Event::Started { .. })));
}

#[tokio::test]
async fn input_arrives_byte_for_byte() {
    let bytes = noise(3_000_000, true);
    let spec = spec("stty raw -echo; echo ready; head -c 3000000 | sha256sum");
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    let typed = Bytes::from(bytes.clone());
    let client = run.client.clone();
    let typing = async move { client.input(typed).await.unwrap() };
    let ((), (output, _)) = tokio::join!(typing, run.finish());
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8_lossy(&output).contains(&hex));
}

#[tokio::test]
async fn input_waits_for_a_program_that_does_not_read_yet() {
    let text: String = (0..60_000).map(|n| format!("line number {n} of the paste\n")).collect();
    let spec =
        spec("stty -echo; echo ready; while [ ! -e \"$GO\" ]; do sleep 0.05; done; sha256sum; echo end");
    let home = tempfile::tempdir().unwrap();
    let go = home.path().join("go");
    let spec = Spec { env: [spec.env.clone(), vec![("GO".into(), go.clone().into())]].concat(), ..spec };
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    let client = run.client.clone();
    let paste = Bytes::from(text.clone() + "\x04");
    let typing = tokio::spawn(async move { client.input(paste).await });
    // Every other request is still served while the paste waits.
    run.client.resize(Size::clamped(100, 40).unwrap()).await.unwrap();
    run.until(|e| matches!(e, Event::Resized(_)).then_some(())).await;
    assert!(!typing.is_finished(), "more than the credit cannot have been sent");
    std::fs::write(&go, "").unwrap();
    let (output, _) = run.finish().await;
    typing.await.unwrap().unwrap();
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8_lossy(&output).contains(&hex), "{}", String::from_utf8_lossy(&output));
}

#[tokio::test]
async fn a_resize_reaches_the_program() {
    let spec = spec("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done");
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    run.client.resize(Size::clamped(132, 44).unwrap()).await.unwrap();
    let (output, record) = run.finish().await;
    assert!(String::from_utf8_lossy(&output).contains("44 132"));
    assert_eq!(record.ending, Ending::Exited(Exit::Code(0)));
    let sizes = Reader::new(&run.dir).index().unwrap().sizes;
    assert_eq!(sizes.iter().map(|(_, s)| (s.cols(), s.rows())).collect::<Vec<_>>(), [(80, 24), (132, 44)]);
}

#[tokio::test]
async fn a_signal_reaches_the_command() {
    let mut run =
        Run::start(&spec("trap 'echo usr; exit 6' USR1; echo ready; while :; do sleep 0.02; done")).await;
    run.until_output("ready").await;
    run.client.signal(10).await.unwrap();
    let (_, record) = run.finish().await;
    assert_eq!((record.ending, record.cause), (Ending::Exited(Exit::Code(6)), Cause::Itself));
}

#[tokio::test]
async fn a_thousand_zombies_are_reaped() {
    let command = "i=0; while [ $i -lt 200 ]; do (true &) ; i=$((i+1)); done; echo ready; read x";
    let mut run = Run::start(&spec(command)).await;
    run.until_output("ready").await;
    let status = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        (fields[0] == "Z" && fields[1] == run.shim.pid.to_string()).then_some(stat.clone())
    });
    let zombies: Vec<String> = status.collect();
    assert!(zombies.len() <= 1, "{zombies:?}");
    run.stop().await;
}
