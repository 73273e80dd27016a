//! The shim as a real process.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kas::backend::pty::Detached;
use kas::journal::{self, Ending, ExitRecord, Nonce, Spec};
use kas::model::{BackendKind, Exit, InstanceId, Offset, Size, TimeMs};
use kas::shim::{Client, Event, EventStream};
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
