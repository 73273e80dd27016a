//! Clients that are too many, too slow, too large or gone: what they may take is bounded, and others notice nothing.

mod crowds;
mod frames;
mod offsets;
mod runs;
mod viewers;

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Caller, PATIENCE, World, eventually, soon};

/// What the daemon may need more after an attack than before it, in KiB: what its allocator keeps.
const ALLOWANCE_KIB: u64 = 3 << 10;

/// Descriptors and memory of a daemon.
#[derive(Debug, Clone, Copy)]
struct Holds {
    descriptors: usize,
    memory_kib: u64,
}

impl Holds {
    fn of(world: &World) -> Self {
        let proc = format!("/proc/{}", world.daemon_pid());
        let links =
            fs::read_dir(format!("{proc}/fd")).unwrap().flatten().flat_map(|it| fs::read_link(it.path()));
        // The store opens up to three readers when they are first needed, and keeps them; so does a live run with the piece of its journal
        // that was read last.
        let kept = ["/runner.db", "/instances/"];
        let descriptors =
            links.filter(|it| !kept.iter().any(|name| it.to_string_lossy().contains(name))).count();
        let rollup = fs::read_to_string(format!("{proc}/smaps_rollup")).unwrap();
        // Pages of the program itself count for more when another daemon beside it ends.
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        Self { descriptors, memory_kib: line.split_whitespace().nth(1).unwrap().parse().unwrap() }
    }

    /// Waits until the daemon holds no more than this again.
    async fn again(self, world: &World, after: &str) {
        eventually(&format!("what {after} took is not given back"), || {
            let now = Self::of(world);
            let back =
                now.descriptors <= self.descriptors && now.memory_kib <= self.memory_kib + ALLOWANCE_KIB;
            if back { Ok(()) } else { Err(format!("{now:?}, before it was {self:?}")) }
        })
        .await;
        println!("{after}: {self:?} before, {:?} after", Self::of(world));
    }
}

/// The most memory that the daemon has had so far, KiB (`VmHWM`, proc_pid_status(5)).
fn peak(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A number of the daemon's metrics.
async fn metric(world: &World, name: &str) -> u64 {
    let text = String::from_utf8(world.get("/metrics").await.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

/// Waits until a number of the daemon's metrics is as wanted.
async fn until_metric(world: &World, name: &str, wanted: impl Fn(u64) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = metric(world, name).await;
        if wanted(now) {
            return;
        }
        assert!(Instant::now() < until, "{name} stays {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long requests of one client take, in milliseconds, until `what` is over, and at least fifty of them.
async fn times_during<T: Send + 'static>(
    caller: &Caller,
    what: impl Future<Output = T> + Send + 'static,
) -> (T, Vec<f64>) {
    let what = tokio::spawn(what);
    let mut times = Vec::new();
    while times.len() < 50 || !what.is_finished() {
        let begun = Instant::now();
        assert_eq!(caller.get("/api/v1/projects").await.status, 200);
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (what.await.unwrap(), times)
}

fn p99(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// Runs an attack; another client's requests take about as long as without it. The bound is wide, for a machine that does other things too.
async fn unnoticed<T: Send + 'static>(
    name: &str,
    caller: &Caller,
    attack: impl Future<Output = T> + Send + 'static,
) -> T {
    let ((), before) = times_during(caller, async {}).await;
    let (done, during) = times_during(caller, attack).await;
    let (calm, busy) = (p99(&before), p99(&during));
    println!(
        "{name}: p99 of another client {calm:.1} ms before, {busy:.1} ms during ({} requests)",
        during.len()
    );
    assert!(busy < 20.0 * calm + 500.0, "{name}: {calm} ms before, {busy} ms during");
    done
}

/// Lets this process, and the daemons it starts, have as many descriptors as it may.
fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn address(caller: &Caller) -> (String, String) {
    match caller {
        Caller::Tcp { address, token, .. } => (address.clone(), token.clone()),
        Caller::Socket { .. } | Caller::Tls { .. } => panic!("not over TCP"),
    }
}

/// A connection of which every byte is written here.
struct Raw(TcpStream);

impl Raw {
    async fn connect(caller: &Caller) -> Self {
        Self(TcpStream::connect(address(caller).0).await.unwrap())
    }

    /// A head that says who asks and for what, without its end.
    fn head(caller: &Caller, line: &str) -> String {
        let (host, token) = address(caller);
        format!("{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n")
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until the daemon closes; a reset ends it too.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        soon("the end of a connection", async {
            while let Ok(len @ 1..) = self.0.read(&mut part).await {
                bytes.extend_from_slice(&part[..len]);
            }
        })
        .await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A connection whose own side has hardly a buffer for what comes.
    async fn narrow(caller: &Caller) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self(socket.connect(address(caller).0.parse().unwrap()).await.unwrap())
    }

    /// A WebSocket, its handshake done.
    async fn socket(caller: &Caller, project: &str) -> Self {
        Self::connect(caller).await.upgraded(caller, project).await
    }

    async fn upgraded(self, caller: &Caller, project: &str) -> Self {
        let mut raw = self;
        let line = format!("GET /api/v1/projects/{project}/tasks/socket");
        let head = Self::head(caller, &line)
            + "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
               sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: kas.v1\r\n\r\n";
        raw.say(head).await;
        let answer = soon("an upgrade", raw.until(b"\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        raw
    }

    async fn until(&mut self, end: &[u8]) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// The next frame of the daemon that is no ping: its kind and its payload; `None` when there is no more.
    async fn frame(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let (kind, payload) = soon("a frame", self.any_frame()).await?;
            if kind != PING & 0x0f {
                return Some((kind, payload));
            }
        }
    }

    async fn any_frame(&mut self) -> Option<(u8, Bytes)> {
        let first = self.0.read_u8().await.ok()?;
        let len = match self.0.read_u8().await.ok()? {
            126 => usize::from(self.0.read_u16().await.ok()?),
            127 => usize::try_from(self.0.read_u64().await.ok()?).unwrap(),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0f, payload.into()))
    }

    /// The code the daemon closes with; 0 when it gives none, 1006 when it just ends.
    async fn closed(&mut self) -> u16 {
        soon("a close", async {
            while let Some((kind, payload)) = self.any_frame().await {
                if kind == CLOSE & 0x0f {
                    return payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                }
            }
            1006
        })
        .await
    }

    /// Ends without goodbye: the other side is reset.
    fn reset(self) {
        set_socket_linger(&self.0, Some(Duration::ZERO)).unwrap();
    }
}

/// A frame as a client sends it: its first byte, and a payload that its mask leaves as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ ..65536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn subscribe(id: &str) -> Vec<u8> {
    frame(TEXT, format!(r#"{{"type":"subscribe","channel":"pty:task:{id}","mode":"view"}}"#).as_bytes())
}
