//! The shim in a window: its own terminal, marks, and what happens when the window goes.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event and passes over the others")]

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kas::journal::{self, Cause, Ending, ExitRecord, Nonce, Spec};
use kas::model::{BackendKind, Exit, InstanceId, Offset, Size};
use kas::shim::{Client, Event, EventStream};
use kas::terminal::{Mark, Piece, Splitter};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// What went to a window: the bytes, and each mark with the count of bytes before it.
type Seen = (Vec<u8>, Vec<(usize, Mark)>);

/// A shim in a window that the test plays.
struct Window {
    spec: Spec,
    dir: PathBuf,
    tty: std::fs::File,
    shim: Child,
    _home: tempfile::TempDir,
}

impl Window {
    fn open(command: &str, keep_window: bool) -> Self {
        let spec = Spec {
            id: InstanceId::from_parts(1, 1),
            nonce: Nonce::random().unwrap(),
            command: command.into(),
            cwd: "/".into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            size: Size::DEFAULT,
            limit_bytes: 10 * 1024 * 1024,
            scrollback_lines: 100,
            backend: BackendKind::Tmux,
            keep_window,
            boot_id: journal::boot_id().unwrap(),
        };
        let home = tempfile::tempdir().unwrap();
        let dir = journal::create(home.path(), &spec).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        set_size(&master, 101, 33);
        let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut shim = Command::new(env!("CARGO_BIN_EXE_kas"));
        shim.arg("shim").arg(&dir);
        let stdio = || Stdio::from(peer.try_clone().unwrap());
        shim.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: two plain system calls, allowed between fork and exec; descriptor 0 is the terminal.
        unsafe {
            shim.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let shim = shim.spawn().unwrap();
        Self { spec, dir, tty: master.into(), shim, _home: home }
    }

    async fn connect(&self) -> (Client, EventStream) {
        Client::connect(&self.dir, &self.spec.nonce, soon()).await.unwrap()
    }

    /// Reads the window on a thread of its own, until the shim has left.
    fn read(&self) -> tokio::task::JoinHandle<Seen> {
        let mut tty = self.tty.try_clone().unwrap();
        let mut splitter = Splitter::new(&self.spec.nonce.hex());
        tokio::task::spawn_blocking(move || {
            let (mut bytes, mut marks) = (Vec::new(), Vec::new());
            let mut buffer = vec![0; 65_536];
            while let Ok(count) = tty.read(&mut buffer) {
                splitter.feed(&buffer[..count], |piece| match piece {
                    Piece::Bytes(part) => bytes.extend_from_slice(part),
                    Piece::Mark(mark) => marks.push((bytes.len(), mark)),
                });
            }
            (bytes, marks)
        })
    }

    async fn left(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.shim.wait().unwrap().code()).await.unwrap()
    }
}

fn set_size(tty: &OwnedFd, cols: u16, rows: u16) {
    let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(tty, size).unwrap();
}

async fn until<T>(events: &mut EventStream, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = tokio::time::timeout_at(soon(), events.next()).await.expect("an event in time");
        if let Some(found) = wanted(event.unwrap().expect("the shim is there")) {
            return found;
        }
    }
}

fn record(event: Event) -> Option<ExitRecord> {
    if let Event::Exited(record) = event { Some(*record) } else { None }
}

#[tokio::test]
async fn the_window_gets_every_byte_between_marks() {
    let window =
        Window::open("stty -opost; stty size; seq 1 300000; printf 'unfinished \\033[3'; exit 5", false);
    let (client, mut events) = window.connect().await;
    let reading = window.read();
    client.open_gate().await.unwrap();
    let exited = until(&mut events, record).await;
    assert_eq!(exited.ending, Ending::Exited(Exit::Code(5)));
    // The record comes first, the last bytes to the window may take longer; the shim leaves by itself after a while.
    let stored = ExitRecord::read(&window.dir).unwrap().unwrap();
    let code = window.left().await;
    let (bytes, marks) = reading.await.unwrap();
    assert_eq!(code, Some(5));
    let expect: String = "33 101\n".to_owned() + &(1..=300_000).map(|n| format!("{n}\n")).collect::<String>();
    let expect = expect + "unfinished \x1b[3";
    assert!(bytes == expect.as_bytes(), "{} of {}", bytes.len(), expect.len());
    let total = expect.len() as u64;
    assert_eq!(marks.first(), Some(&(0, Mark { offset: 0, end: false })));
    assert_eq!(marks.last(), Some(&(expect.len(), Mark { offset: total, end: true })));
    assert_eq!(stored.total_bytes, total);
}

#[tokio::test]
async fn a_mark_on_request_says_the_offset_of_the_next_byte() {
    let command = "stty -opost -echo; i=0; while [ $i -lt 2000 ]; do printf '\\033[1;3%dmé漢\\n' $((i%8)); i=$((i+1)); done; read x";
    let window = Window::open(command, false);
    let (client, mut events) = window.connect().await;
    let reading = window.read();
    client.follow(Offset(0)).await.unwrap();
    client.open_gate().await.unwrap();
    let mut asked = 0;
    until(&mut events, |event| match event {
        Event::Output { offset, bytes } => Some(offset.0 + bytes.len() as u64),
        _ => None,
    })
    .await;
    while asked < 50 {
        client.align().await.unwrap();
        asked += 1;
        tokio::task::yield_now().await;
    }
    client.input(b"\n"[..].into()).await.unwrap();
    until(&mut events, record).await;
    client.ack().await.unwrap();
    let (bytes, marks) = reading.await.unwrap();
    assert!(marks.len() >= 3, "start, at least one, end: {}", marks.len());
    for (before, mark) in marks {
        assert_eq!(mark.offset, before as u64);
        // Nothing is cut in two.
        let text = std::str::from_utf8(&bytes[..before]).unwrap();
        assert!(!text.ends_with('\x1b') && text.rsplit_once('\x1b').is_none_or(|(_, s)| s.contains('m')));
    }
}

#[tokio::test]
async fn the_operator_types_and_resizes_in_the_window() {
    let window = Window::open("echo ready; read word; stty size; read word; echo got $word", false);
    let (client, mut events) = window.connect().await;
    let reading = window.read();
    client.follow(Offset(0)).await.unwrap();
    client.open_gate().await.unwrap();
    let saw = |wanted: &'static str| {
        let mut all = Vec::new();
        move |event: Event| {
            if let Event::Output { bytes, .. } = event {
                all.extend_from_slice(&bytes);
            }
            String::from_utf8_lossy(&all).contains(wanted).then_some(())
        }
    };
    until(&mut events, saw("ready")).await;
    let tty: OwnedFd = window.tty.as_fd().try_clone_to_owned().unwrap();
    set_size(&tty, 77, 11);
    until(&mut events, |e| {
        matches!(e, Event::Resized(size) if (size.cols(), size.rows()) == (77, 11)).then_some(())
    })
    .await;
    (&window.tty).write_all(b"first\n").unwrap();
    (&window.tty).write_all(b"second\n").unwrap();
    until(&mut events, record).await;
    client.ack().await.unwrap();
    let (bytes, _) = reading.await.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("got second") && text.contains("11 77"), "{text}");
}

#[tokio::test]
async fn a_window_that_nobody_reads_does_not_stall_the_command() {
    let window = Window::open("stty -opost; yes 'some output' | head -c 40000000; exit 6", false);
    let (client, mut events) = window.connect().await;
    client.open_gate().await.unwrap();
    let exited = until(&mut events, record).await;
    assert_eq!((exited.ending, exited.total_bytes), (Ending::Exited(Exit::Code(6)), 40_000_000));
    // Read late, the window gets what is still held, said by a mark, and then the end.
    let reading = window.read();
    let (bytes, marks) = reading.await.unwrap();
    let gap =
        marks.iter().find(|(before, mark)| *before as u64 != mark.offset).expect("a mark after the gap");
    let rest = bytes.len() - gap.0;
    assert_eq!(gap.1.offset + rest as u64, 40_000_000);
    assert_eq!(marks.last().map(|(_, mark)| (mark.offset, mark.end)), Some((40_000_000, true)));
}

#[tokio::test]
async fn a_closed_window_ends_what_was_in_it() {
    let window = Window::open("trap '' HUP; echo ready; while :; do sleep 0.1; done", true);
    let (client, mut events) = window.connect().await;
    client.follow(Offset(0)).await.unwrap();
    client.open_gate().await.unwrap();
    until(&mut events, |e| matches!(e, Event::Output { .. }).then_some(())).await;
    let Window { tty, dir, mut shim, _home, .. } = window;
    drop(tty);
    let exited = until(&mut events, record).await;
    assert_eq!((exited.cause, exited.ending), (Cause::WindowClosed, Ending::Exited(Exit::Signal(15))));
    client.ack().await.unwrap();
    let code = tokio::task::spawn_blocking(move || shim.wait().unwrap().code()).await.unwrap();
    assert_eq!(code, Some(143));
    assert!(ExitRecord::read(Path::new(&dir)).unwrap().is_some());
}

#[tokio::test]
async fn a_kept_window_stays_until_it_is_closed() {
    let window = Window::open("echo kept; exit 2", true);
    let (client, mut events) = window.connect().await;
    client.open_gate().await.unwrap();
    until(&mut events, record).await;
    client.ack().await.unwrap();
    // It still answers after the acknowledgement: it has not left.
    let (again, _events) = window.connect().await;
    assert_eq!(again.hello().phase, kas::shim::Phase::Ended);
    let Window { tty, mut shim, _home, .. } = window;
    drop(tty);
    let code = tokio::task::spawn_blocking(move || shim.wait().unwrap().code()).await.unwrap();
    assert_eq!(code, Some(2));
}
