//! A connection against a real WebSocket client over TCP, with a daemon made of channels.

mod input;
mod talker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::connection::Connection;
use super::desk::Desk;
use super::owners::Owners;
use crate::broker::{Channel, Ended};
use crate::daemon::{Answer, Code, Refusal, TerminalId};
use crate::model::{InstanceId, Offset, RunState, Scope, Size, TimeMs};
use crate::store::StoredEvent;
use crate::terminal::Theme;

const DEADLINE: Duration = Duration::from_secs(20);
/// Input that begins so is not delivered.
const FAILS: &[u8] = b"FAIL";

/// What the daemon was told, and what it knows.
struct Fake {
    channels: Mutex<HashMap<TerminalId, Arc<Channel>>>,
    log: mpsc::Sender<String>,
    events: Mutex<Vec<StoredEvent>>,
    latest: watch::Sender<i64>,
    /// Terminals whose input waits for this: programs that do not read.
    blocked: Mutex<HashMap<TerminalId, Arc<Notify>>>,
}

#[derive(Clone)]
struct FakeDesk(Arc<Fake>);

impl Desk for FakeDesk {
    async fn terminal(&self, id: TerminalId) -> Answer<Arc<Channel>> {
        let found = self.0.channels.lock().unwrap().get(&id).cloned();
        found.ok_or_else(|| Refusal::new(Code::NotFound, "no such terminal"))
    }
    async fn input(&self, id: TerminalId, bytes: Bytes) -> Answer<()> {
        let blocked = self.0.blocked.lock().unwrap().get(&id).cloned();
        if let Some(notify) = blocked {
            notify.notified().await;
        }
        if bytes.starts_with(FAILS) {
            return Err(Refusal::new(Code::Unavailable, "no holder"));
        }
        self.say(format!("input {:?}", String::from_utf8_lossy(&bytes))).await;
        Ok(())
    }
    async fn resize(&self, id: TerminalId, size: Size) -> Answer<()> {
        self.terminal(id).await?.set_size(size);
        self.say(format!("resize {}x{}", size.cols(), size.rows())).await;
        Ok(())
    }
    fn theme_of_later(&self, _theme: Theme) {}
    async fn theme(&self, _id: TerminalId, theme: Theme) -> Answer<()> {
        self.say(format!("theme {:?}", theme.background)).await;
        Ok(())
    }
    async fn attached(&self, _id: InstanceId, resumed: bool) {
        self.say(format!("attached {resumed}")).await;
    }
    async fn detached(&self, _id: InstanceId) {
        self.say("detached".into()).await;
    }
    async fn events_after(&self, id: i64, limit: usize) -> Answer<Vec<StoredEvent>> {
        let events = self.0.events.lock().unwrap();
        Ok(events.iter().filter(|event| event.id > id).take(limit).cloned().collect())
    }
    fn latest_event(&self) -> watch::Receiver<i64> {
        self.0.latest.subscribe()
    }
    fn concerns(&self, event: &StoredEvent) -> bool {
        event.project_id.as_deref().is_none_or(|id| id == "demo")
    }
}

impl FakeDesk {
    /// A daemon that knows nothing yet, and what it is told.
    fn new() -> (Self, mpsc::Receiver<String>) {
        let (log, heard) = mpsc::channel(10_000);
        let fake = Fake {
            channels: Mutex::default(),
            log,
            events: Mutex::default(),
            latest: watch::Sender::new(0),
            blocked: Mutex::default(),
        };
        (Self(Arc::new(fake)), heard)
    }

    async fn say(&self, line: String) {
        let _ = self.0.log.send(line).await;
    }
}

fn connection(
    desk: FakeDesk,
    scope: Scope,
    owners: Arc<Owners>,
    closes: watch::Receiver<bool>,
) -> Connection<FakeDesk> {
    Connection::new(desk, scope, owners, Arc::default(), closes, Box::pin(std::future::pending()))
}

/// A server with one fake daemon; everything it started ends with it.
struct Server {
    desk: FakeDesk,
    log: mpsc::Receiver<String>,
    address: std::net::SocketAddr,
    closing: watch::Sender<bool>,
    scope: Arc<Mutex<Scope>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let (desk, heard) = FakeDesk::new();
        let (closing, closes) = watch::channel(false);
        let scope = Arc::new(Mutex::new(Scope::Run));
        let (owners, to_desk, to_scope) = (Arc::new(Owners::default()), desk.clone(), Arc::clone(&scope));
        let handler = move |upgrade: WebSocketUpgrade| {
            let scope = *to_scope.lock().unwrap();
            let connection = connection(to_desk.clone(), scope, Arc::clone(&owners), closes.clone());
            std::future::ready(
                super::upgrade::configured(upgrade).on_upgrade(|socket| connection.run(socket)),
            )
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().route("/", axum::routing::any(handler));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { desk, log: heard, address, closing, scope, _tasks: tasks }
    }

    fn terminal(&self, number: u32, ring_cap: usize) -> Arc<Channel> {
        let channel = Arc::new(Channel::new(Offset(0), Size::DEFAULT, None, ring_cap));
        self.desk.0.channels.lock().unwrap().insert(TerminalId::Pane(number), Arc::clone(&channel));
        channel
    }

    fn event(&self, id: i64, project: Option<&str>) {
        self.desk.0.events.lock().unwrap().push(StoredEvent {
            id,
            kind: "task.exited".into(),
            at: TimeMs(id * 10),
            project_id: project.map(str::to_owned),
            task_id: None,
            details: serde_json::Map::new(),
        });
        self.desk.0.latest.send_replace(id);
    }

    async fn said(&mut self) -> String {
        tokio::time::timeout(DEADLINE, self.log.recv()).await.expect("the daemon was told").unwrap()
    }

    async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("ws://{}/", self.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "kas.ticket.x, kas.v1".parse().unwrap());
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "kas.v1");
        Client { socket }
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
}

#[derive(Debug, PartialEq)]
enum Got {
    Text(Value),
    Output(u32, u64, Vec<u8>),
    Snapshot(u32, u64, Vec<u8>),
    Closed(u16),
}

impl Client {
    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Got {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a frame in time");
            match message.unwrap().unwrap() {
                Message::Text(text) => return Got::Text(serde_json::from_str(&text).unwrap()),
                Message::Binary(frame) => {
                    let handle = u32::from_be_bytes(frame[1..5].try_into().unwrap());
                    let offset = u64::from_be_bytes(frame[5..13].try_into().unwrap());
                    let payload = frame[13..].to_vec();
                    return match frame[0] {
                        1 => Got::Output(handle, offset, payload),
                        2 => Got::Snapshot(handle, offset, payload),
                        kind => panic!("kind {kind}"),
                    };
                }
                Message::Close(frame) => return Got::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn text(&mut self) -> Value {
        match self.next().await {
            Got::Text(value) => value,
            other @ (Got::Output(..) | Got::Snapshot(..) | Got::Closed(_)) => panic!("{other:?}"),
        }
    }

    /// Bytes from `from` on until `until`, which must come contiguously.
    async fn bytes(&mut self, mut from: u64, until: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while from < until {
            match self.next().await {
                Got::Output(_, offset, bytes) => {
                    assert_eq!(offset, from, "contiguous");
                    from += bytes.len() as u64;
                    all.extend(bytes);
                }
                other @ (Got::Text(_) | Got::Snapshot(..) | Got::Closed(_)) => {
                    panic!("{other:?} instead of byte {from}")
                }
            }
        }
        assert_eq!(from, until);
        all
    }

    async fn subscribe(&mut self, channel: &str, rest: Value) -> Value {
        let mut frame = json!({ "type": "subscribe", "channel": channel });
        frame.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        self.send(frame).await;
        self.text().await
    }

    /// Everything the server sends without being asked comes before the answer to this.
    async fn barrier(&mut self) {
        self.send(json!({ "type": "barrier" })).await;
        let answer = self.text().await;
        assert_eq!(answer["details"]["reason"], "unknown_type", "{answer}");
    }
}

fn ended(offset: u64) -> Ended {
    let signal = Some("SIGKILL".to_owned());
    Ended { state: RunState::Failed, exit_code: Some(137), signal, offset: Offset(offset) }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect()
}

#[tokio::test]
async fn a_terminal_is_seen_from_its_first_byte_to_its_end() {
    let server = Server::start().await;
    let channel = server.terminal(1, 1 << 20);
    channel.push(Offset(0), b"hello ");
    let mut client = server.client().await;
    let expect = json!({
        "type": "subscribed", "channel": "pty:pane:1", "handle": 1, "offset": 6, "cols": 80, "rows": 24,
        "state": "running", "replay": "resume",
    });
    assert_eq!(client.subscribe("pty:pane:1", json!({})).await, expect);
    assert_eq!(client.bytes(0, 6).await, b"hello ");
    channel.push(Offset(6), b"world");
    channel.end(ended(11));
    assert_eq!(client.bytes(6, 11).await, b"world");
    let expect = json!({
        "type": "pty.exit", "channel": "pty:pane:1", "state": "failed", "exit_code": 137, "signal": "SIGKILL",
        "offset": 11,
    });
    assert_eq!(client.text().await, expect);

    // The finished one again, from an offset: exactly the rest, under a new handle.
    let again = client.subscribe("pty:pane:1", json!({ "from": 4 })).await;
    assert_eq!((&again["handle"], &again["state"]), (&json!(2), &json!("failed")));
    assert_eq!(client.next().await, Got::Output(2, 4, b"o world".to_vec()));
    assert_eq!(client.text().await["type"], "pty.exit");
}

#[tokio::test]
async fn an_empty_terminal_has_nothing_to_replay() {
    let server = Server::start().await;
    server.terminal(1, 100);
    let mut client = server.client().await;
    assert_eq!(client.subscribe("pty:pane:1", json!({})).await["replay"], "none");
}

#[tokio::test]
async fn what_cannot_be_is_an_error_and_the_connection_goes_on() {
    let server = Server::start().await;
    server.terminal(1, 100);
    let mut client = server.client().await;
    let beyond = client.subscribe("pty:pane:1", json!({ "from": 1 })).await;
    assert_eq!((&beyond["code"], &beyond["channel"]), (&json!("invalid_request"), &json!("pty:pane:1")));
    assert_eq!(beyond["details"]["reason"], "offset");
    for channel in ["pty:pane:2", "pty:task:x", "output"] {
        let unknown = client.subscribe(channel, json!({})).await;
        assert_eq!((&unknown["type"], &unknown["code"]), (&json!("error"), &json!("not_found")));
    }
    let unknown_field = client.subscribe("pty:pane:1", json!({ "form": 1 })).await;
    assert_eq!(unknown_field["details"]["field"], "form");
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 0 })).await;
    assert_eq!(client.text().await["code"], "not_found", "not subscribed");
    client.socket.send(Message::binary(b"\x03\0\0\0\x09\0\0\0\0\0\0\0\0x".to_vec())).await.unwrap();
    let never = client.text().await;
    assert_eq!(
        (&never["code"], &never["channel"]),
        (&json!("not_found"), &Value::Null),
        "no such handle ever"
    );
    client.barrier().await;
}

#[tokio::test]
async fn the_server_stops_at_100000_unacknowledged_bytes_until_there_are_under_5000() {
    let server = Server::start().await;
    let channel = server.terminal(1, 1 << 20);
    let mut client = server.client().await;
    client.subscribe("pty:pane:1", json!({})).await;
    let all = noise(300_000);
    channel.push(Offset(0), &all);
    let first = client.bytes(0, 100_000).await;
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 95_000 })).await;
    client.barrier().await;
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 95_001 })).await;
    let second = client.bytes(100_000, 195_001).await;
    client.barrier().await;
    // The end has to wait for the last byte, and the last byte for acknowledgements.
    channel.end(ended(300_000));
    client.barrier().await;
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 999_999 })).await;
    let third = client.bytes(195_001, 295_001).await;
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 295_001 })).await;
    let fourth = client.bytes(295_001, 300_000).await;
    assert_eq!([first, second, third, fourth].concat(), all);
    assert_eq!(client.text().await["type"], "pty.exit");
}

#[tokio::test]
async fn who_falls_behind_gets_a_gap_and_a_snapshot() {
    let server = Server::start().await;
    let channel = server.terminal(1, 50_000);
    let mut client = server.client().await;
    client.subscribe("pty:pane:1", json!({})).await;
    for chunk in 0..20 {
        channel.push(Offset(chunk * 5_000), noise(5_000));
        let ack = (chunk + 1) * 5_000;
        client.bytes(chunk * 5_000, ack).await;
    }
    channel.push(Offset(100_000), [noise(199_996), b"\x1b[HX".to_vec()].concat());
    client.barrier().await;
    client.send(json!({ "type": "pty.ack", "channel": "pty:pane:1", "offset": 100_000 })).await;
    let expect = json!({
        "type": "pty.gap", "channel": "pty:pane:1", "from": 100_000, "to": 300_000, "reason": "evicted",
    });
    assert_eq!(client.text().await, expect);
    let Got::Snapshot(1, 300_000, dump) = client.next().await else { panic!("no snapshot") };
    let mut screen = vt100::Parser::new(24.try_into().unwrap(), 80.try_into().unwrap(), 0);
    screen.process(&dump);
    assert!(screen.screen().contents().starts_with('X'));
    channel.push(Offset(300_000), b"live");
    assert_eq!(client.bytes(300_000, 300_004).await, b"live");
}

#[tokio::test]
async fn a_long_past_comes_as_a_snapshot() {
    let server = Server::start().await;
    let channel = server.terminal(1, 1 << 20);
    channel.push(Offset(0), noise(300_000));
    let mut client = server.client().await;
    assert_eq!(client.subscribe("pty:pane:1", json!({})).await["replay"], "snapshot");
    assert!(matches!(client.next().await, Got::Snapshot(1, 300_000, _)));
    channel.push(Offset(300_000), b"z");
    assert_eq!(client.bytes(300_000, 300_001).await, b"z");
}

#[tokio::test]
async fn a_keystroke_does_not_wait_behind_a_flood() {
    let server = Server::start().await;
    let (flood, quiet) = (server.terminal(1, 1 << 20), server.terminal(2, 1 << 20));
    flood.push(Offset(0), noise(90_000));
    let mut client = server.client().await;
    for pane in ["pty:pane:1", "pty:pane:2"] {
        client.send(json!({ "type": "subscribe", "channel": pane })).await;
    }
    quiet.push(Offset(0), b"k");
    let mut flood_frames = 0;
    loop {
        match client.next().await {
            Got::Text(_) => {}
            Got::Output(1, ..) => flood_frames += 1,
            Got::Output(2, 0, bytes) => break assert_eq!(bytes, b"k"),
            other @ (Got::Output(..) | Got::Snapshot(..) | Got::Closed(_)) => panic!("{other:?}"),
        }
    }
    // Both subscriptions may be heard a frame apart, and then the turns alternate.
    assert!(flood_frames <= 3, "{flood_frames}");
}

#[tokio::test]
async fn small_pieces_come_together() {
    let server = Server::start().await;
    let channel = server.terminal(1, 1 << 20);
    let mut client = server.client().await;
    client.subscribe("pty:pane:1", json!({})).await;
    let all = noise(10_000);
    for (offset, byte) in all.iter().enumerate() {
        channel.push(Offset(offset as u64), [*byte]);
        if offset % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut at, mut frames) = (0, 0);
    while at < 10_000 {
        let Got::Output(1, offset, bytes) = client.next().await else { panic!() };
        assert_eq!(offset, at);
        at += bytes.len() as u64;
        frames += 1;
    }
    assert!(frames <= 100, "{frames} frames for 10 000 pushes");
}

#[tokio::test]
async fn typing_is_delivered_in_order_and_only_when_allowed() {
    let mut server = Server::start().await;
    let channel = server.terminal(1, 100);
    let mut client = server.client().await;
    client.subscribe("pty:pane:1", json!({ "mode": "interactive" })).await;
    for n in 0..50_u8 {
        if n % 2 == 0 {
            let frame = [b"\x03\0\0\0\x01\0\0\0\0\0\0\0\0".as_slice(), &[b'A' + n]].concat();
            client.socket.send(Message::binary(frame)).await.unwrap();
        } else {
            let data = char::from(b'A' + n).to_string();
            client.send(json!({ "type": "pty.input", "channel": "pty:pane:1", "data": data })).await;
        }
    }
    for n in 0..50_u8 {
        assert_eq!(server.said().await, format!("input {:?}", char::from(b'A' + n).to_string()));
    }
    let view = client.subscribe("pty:pane:1", json!({ "mode": "view" })).await;
    assert_eq!(view["type"], "subscribed");
    client.send(json!({ "type": "pty.input", "channel": "pty:pane:1", "data": "x" })).await;
    assert_eq!(client.text().await["details"]["reason"], "view_mode");

    *server.scope.lock().unwrap() = Scope::View;
    let mut viewer = server.client().await;
    let refused = viewer.subscribe("pty:pane:1", json!({ "mode": "interactive" })).await;
    assert_eq!((&refused["code"], &refused["details"]["reason"]), (&json!("forbidden"), &json!("scope")));
    assert_eq!(viewer.subscribe("pty:pane:1", json!({})).await["type"], "subscribed");
    viewer.send(json!({ "type": "pty.resize", "channel": "pty:pane:1", "cols": 10, "rows": 10 })).await;
    assert_eq!(viewer.text().await["details"]["reason"], "view_mode");
    channel.end(ended(0));
    assert_eq!(viewer.text().await["type"], "pty.exit");
}

#[tokio::test]
async fn the_last_to_type_or_resize_owns_the_size() {
    let mut server = Server::start().await;
    let channel = server.terminal(1, 100);
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("pty:pane:1", json!({ "mode": "interactive", "cols": 100, "rows": 30 })).await;
    assert_eq!(server.said().await, "resize 100x30");
    assert_eq!(
        a.text().await,
        json!({ "type": "pty.size", "channel": "pty:pane:1", "cols": 100, "rows": 30 })
    );
    b.subscribe("pty:pane:1", json!({ "mode": "interactive", "cols": 60, "rows": 20 })).await;
    b.barrier().await;
    assert_eq!(channel.size().cols(), 100, "subscribing beside an owner does not size");
    b.send(json!({ "type": "pty.input", "channel": "pty:pane:1", "data": "l" })).await;
    assert_eq!(a.text().await["cols"], 60);
    assert_eq!(b.text().await["cols"], 60);
    a.send(json!({ "type": "pty.resize", "channel": "pty:pane:1", "cols": 5000, "rows": 31 })).await;
    assert_eq!(
        b.text().await,
        json!({ "type": "pty.size", "channel": "pty:pane:1", "cols": 1000, "rows": 31 })
    );
    assert_eq!(a.text().await["cols"], 1000);
    a.send(json!({ "type": "pty.resize", "channel": "pty:pane:1", "cols": 0, "rows": 31 })).await;
    assert_eq!(a.text().await["details"]["reason"], "size");
    drop((a, b));
    assert_eq!(channel.size().cols(), 1000, "it stays when all leave");
}

#[tokio::test]
async fn coming_and_going_is_recorded() {
    let mut server = Server::start().await;
    let id = InstanceId::from_parts(1, 1);
    let channel = Arc::new(Channel::new(Offset(0), Size::DEFAULT, None, 100));
    server.desk.0.channels.lock().unwrap().insert(TerminalId::Task(id), channel);
    let name = format!("pty:task:{id}");
    let mut client = server.client().await;
    client.subscribe(&name, json!({})).await;
    assert_eq!(server.said().await, "attached false");
    client.send(json!({ "type": "unsubscribe", "channel": name })).await;
    assert_eq!(server.said().await, "detached");
    client.subscribe(&name, json!({ "from": 0 })).await;
    assert_eq!(server.said().await, "attached true");
    drop(client);
    assert_eq!(server.said().await, "detached");
}

#[tokio::test]
async fn events_are_replayed_and_followed() {
    let server = Server::start().await;
    for id in 1..=70 {
        server.event(id, if id % 2 == 0 { Some("demo") } else { Some("other") });
    }
    let mut client = server.client().await;
    let subscribed = client.subscribe("events", json!({ "since": 2 })).await;
    assert_eq!((&subscribed["offset"], &subscribed["replay"]), (&json!(70), &json!("resume")));
    for id in (4..=70).step_by(2) {
        let expect = json!({
            "type": "event", "id": id, "event": "task.exited", "at": id * 10, "project_id": "demo", "task_id": null,
        });
        assert_eq!(client.text().await, expect);
    }
    server.event(71, None);
    assert_eq!(client.text().await["id"], 71);
    assert_eq!(client.subscribe("events", json!({ "since": 72 })).await["details"]["reason"], "offset");
    assert_eq!(client.subscribe("events", json!({})).await["replay"], "none");
    server.event(72, None);
    assert_eq!(client.text().await["id"], 72, "once, although subscribed twice");
    client.barrier().await;
}

#[tokio::test]
async fn a_connection_has_256_channels() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for pane in 0..257 {
        server.terminal(pane, 10);
        let answer = client.subscribe(&format!("pty:pane:{pane}"), json!({})).await;
        let expect = if pane < 256 { "subscribed" } else { "error" };
        assert_eq!(answer["type"], expect, "{pane}: {answer}");
    }
    assert_eq!(client.subscribe("pty:pane:7", json!({})).await["type"], "subscribed", "again");
}

#[tokio::test]
async fn a_frame_too_large_ends_the_connection_with_1009() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(json!({ "type": "x".repeat(64 << 10) })).await;
    assert_eq!(client.next().await, Got::Closed(1009));
}

#[tokio::test]
async fn a_shutdown_is_told_with_1001() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.barrier().await;
    server.closing.send_replace(true);
    assert_eq!(client.next().await, Got::Closed(1001));
}
