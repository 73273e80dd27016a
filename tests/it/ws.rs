//! The WebSocket by the real daemon: terminals of real commands, resumed, typed into, flooded.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::served::{DEADLINE, Served};

const PATH: &str = "/api/v1/projects/demo/tasks/socket";

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A page's side of a socket.
struct Page {
    socket: WebSocketStream<Box<dyn Stream>>,
}

/// What a terminal showed from one offset to another.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    end: u64,
    /// What came in the newest snapshot, until bytes followed it.
    snapshot: Option<Vec<u8>>,
    gaps: usize,
    exit: Option<Value>,
}

/// Opens a socket; `headers` are whole lines.
async fn open(stream: Box<dyn Stream>, host: &str, headers: &[&str]) -> Result<Page, u16> {
    let mut request = format!("ws://{host}{PATH}").into_client_request().unwrap();
    for (name, value) in headers.iter().filter_map(|line| line.split_once(": ")) {
        let name: tokio_tungstenite::tungstenite::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "kas.v1");
            Ok(Page { socket })
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

impl Page {
    async fn with_token(it: &Served) -> Self {
        let bearer = format!("Authorization: Bearer {}", it.token);
        let host = format!("127.0.0.1:{}", it.port);
        let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: kas.v1"];
        open(Box::new(it.tcp().await), &host, &headers).await.unwrap()
    }

    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, from: Option<u64>) -> Value {
        let mut frame =
            json!({ "type": "subscribe", "channel": format!("pty:task:{id}"), "mode": "interactive" });
        if let Some(from) = from {
            frame["from"] = from.into();
        }
        self.send(frame).await;
        self.text().await
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("a frame in time").unwrap().unwrap()
    }

    async fn text(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
    }

    /// Watches one terminal from `from`, acknowledging everything, until `enough`.
    async fn watch(&mut self, id: &str, from: u64, mut enough: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = Seen { end: from, ..Seen::default() };
        while !enough(&seen) {
            match self.next().await {
                Message::Binary(frame) => {
                    let offset = u64::from_be_bytes(frame[5..13].try_into().unwrap());
                    if frame[0] == 1 {
                        assert_eq!(offset, seen.end, "contiguous");
                        seen.snapshot = None;
                        seen.bytes.extend_from_slice(&frame[13..]);
                        seen.end += frame.len() as u64 - 13;
                    } else {
                        assert_eq!((frame[0], offset), (2, seen.end), "a snapshot where the gap ended");
                        seen.snapshot = Some(frame[13..].to_vec());
                    }
                    let channel = format!("pty:task:{id}");
                    self.send(json!({ "type": "pty.ack", "channel": channel, "offset": seen.end })).await;
                }
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    match frame["type"].as_str().unwrap() {
                        "pty.exit" => seen.exit = Some(frame),
                        "pty.size" => {}
                        "pty.gap" => {
                            assert_eq!(frame["from"], seen.end);
                            seen.end = frame["to"].as_u64().unwrap();
                            seen.gaps += 1;
                        }
                        _ => panic!("{frame}"),
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
        seen
    }
}

#[tokio::test]
async fn every_byte_value_arrives_and_the_end_after_the_last() {
    let it = Served::start().await;
    let id = it.launch("bytes").await;
    let mut page = Page::with_token(&it).await;
    let subscribed = page.subscribe(&id, Some(0)).await;
    assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    let seen = page.watch(&id, 0, |seen| seen.exit.is_some()).await;
    let truth: Vec<u8> = (0..300).flat_map(|_| 0..=255_u8).collect();
    assert!(seen.bytes == truth, "{} bytes instead of {}", seen.bytes.len(), truth.len());
    let exit = seen.exit.unwrap();
    assert_eq!(
        (&exit["state"], &exit["exit_code"], &exit["offset"]),
        (&json!("done"), &json!(0), &json!(76_800))
    );

    // The same from the store, in a new connection, from the middle.
    it.ended(&id).await;
    let mut page = Page::with_token(&it).await;
    let subscribed = page.subscribe(&id, Some(70_000)).await;
    assert_eq!((&subscribed["state"], &subscribed["offset"]), (&json!("done"), &json!(76_800)));
    let seen = page.watch(&id, 70_000, |seen| seen.exit.is_some()).await;
    assert!(seen.bytes == truth[70_000..]);
}

#[tokio::test]
async fn typing_comes_back_and_another_connection_resumes() {
    let it = Served::start().await;
    let id = it.launch("echoes").await;
    let mut page = Page::with_token(&it).await;
    page.subscribe(&id, Some(0)).await;
    let ready = page.watch(&id, 0, |seen| seen.bytes.ends_with(b"ready")).await;
    let channel = format!("pty:task:{id}");
    page.send(json!({ "type": "pty.input", "channel": channel, "data": "h\u{e9}llo\u{3}" })).await;
    let all: Vec<u8> = (0..=255).collect();
    let frame = [b"\x03\0\0\0\x01\0\0\0\0\0\0\0\0".as_slice(), &all].concat();
    page.socket.send(Message::binary(frame)).await.unwrap();
    let truth = [b"h\xc3\xa9llo\x03".as_slice(), &all].concat();
    let seen = page.watch(&id, ready.end, |seen| seen.bytes.len() >= truth.len()).await;
    assert_eq!(seen.bytes, truth);
    drop(page);

    let mut page = Page::with_token(&it).await;
    let subscribed = page.subscribe(&id, Some(7)).await;
    assert_eq!((&subscribed["replay"], &subscribed["offset"]), (&json!("resume"), &json!(5 + truth.len())));
    let seen = page.watch(&id, 7, |seen| seen.end >= 5 + truth.len() as u64).await;
    assert_eq!(seen.bytes, truth[2..]);
}

#[tokio::test]
async fn a_resize_reaches_the_program_and_everybody() {
    let it = Served::start().await;
    let body =
        json!({ "command": "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done", "cols": 100 });
    let body = json!({ "command": body["command"], "cols": 100, "rows": 30 }).to_string();
    let run = it.api("POST", "/projects/demo/tasks/run", &body).await;
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let (mut a, mut b) = (Page::with_token(&it).await, Page::with_token(&it).await);
    let subscribed = a.subscribe(&id, Some(0)).await;
    assert_eq!((&subscribed["cols"], &subscribed["rows"]), (&json!(100), &json!(30)));
    b.subscribe(&id, Some(0)).await;
    a.watch(&id, 0, |seen| seen.bytes.starts_with(b"ready")).await;
    let channel = format!("pty:task:{id}");
    a.send(json!({ "type": "pty.resize", "channel": channel, "cols": 91, "rows": 23 })).await;
    let seen = b.watch(&id, 0, |seen| seen.bytes.windows(5).any(|five| five == b"23 91")).await;
    assert!(seen.bytes.starts_with(b"ready"));
}

#[tokio::test]
async fn a_flood_is_followed_and_its_end_is_exact() {
    let it = Served::start().await;
    let body =
        json!({ "command": "head -c 30000000 /dev/zero | tr '\\0' x; printf end; exit 3" }).to_string();
    let id =
        it.api("POST", "/projects/demo/tasks/run", &body).await.json()["id"].as_str().unwrap().to_owned();
    let mut page = Page::with_token(&it).await;
    page.subscribe(&id, Some(0)).await;
    let seen = page.watch(&id, 0, |seen| seen.exit.is_some()).await;
    assert_eq!(seen.end, 30_000_003, "{} gaps, exit {:?}", seen.gaps, seen.exit);
    assert_eq!(seen.exit.as_ref().unwrap()["exit_code"], 3);
    match seen.snapshot {
        None => assert!(seen.bytes.ends_with(b"xxxend")),
        Some(screen) => assert!(seen.gaps > 0 && screen.windows(6).any(|six| six == b"xxxend")),
    }
}

#[tokio::test]
async fn viewers_that_do_not_read_hold_up_nobody() {
    let it = Served::start().await;
    let body = json!({ "command": "read go; head -c 20000000 /dev/zero | tr '\\0' x" }).to_string();
    let id =
        it.api("POST", "/projects/demo/tasks/run", &body).await.json()["id"].as_str().unwrap().to_owned();
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut page = Page::with_token(&it).await;
        page.subscribe(&id, Some(0)).await;
        deaf.push(page);
    }
    let mut page = Page::with_token(&it).await;
    page.subscribe(&id, Some(0)).await;
    page.send(json!({ "type": "pty.input", "channel": format!("pty:task:{id}"), "data": "go\n" })).await;
    let seen = page.watch(&id, 0, |seen| seen.exit.is_some()).await;
    assert_eq!(seen.exit.unwrap()["exit_code"], 0);
    drop(deaf);
}

#[tokio::test]
async fn events_come_over_the_same_socket() {
    let it = Served::start().await;
    let mut page = Page::with_token(&it).await;
    page.send(json!({ "type": "subscribe", "channel": "events" })).await;
    assert_eq!(page.text().await["channel"], "events");
    let id = it.launch("fails").await;
    let mut kinds = Vec::new();
    let mut last = 0;
    while kinds.last().is_none_or(|kind| kind != "task.exited") {
        let event = page.text().await;
        assert_eq!(event["type"], "event");
        assert!(event["id"].as_i64().unwrap() > last, "ids grow");
        last = event["id"].as_i64().unwrap();
        if event["task_id"] == id.as_str() {
            kinds.push(event["event"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(kinds, ["task.launched", "task.exited"]);
}

#[tokio::test]
async fn only_a_page_with_everything_gets_a_socket() {
    let it = Served::start().await;
    let host = format!("127.0.0.1:{}", it.port);
    let origin = format!("Origin: http://{host}");
    let ticket = it.control("POST", "/v1/ticket", "").await.json()["ticket"].clone();
    let body = json!({ "ticket": ticket }).to_string();
    let opened = it.ask("POST", "/api/v1/session", &[&origin, "Content-Type: application/json"], &body).await;
    let cookie = format!("Cookie: {}", opened.header("set-cookie").unwrap().split(';').next().unwrap());
    let key = format!("X-Kas-Key: {}", opened.json()["key"].as_str().unwrap());
    let fresh = async || {
        let headers = [origin.as_str(), "Content-Type: application/json", &cookie, &key];
        let made = it.ask("POST", "/api/v1/session/ticket", &headers, "{}").await.json();
        format!("Sec-WebSocket-Protocol: kas.v1, kas.ticket.{}", made["ticket"].as_str().unwrap())
    };
    let attempt =
        async |host: &str, headers: &[&str]| open(Box::new(it.tcp().await), host, headers).await.map(drop);
    let offer = fresh().await;
    assert_eq!(attempt(&host, &[&cookie, &origin, &offer]).await, Ok(()));
    assert_eq!(attempt(&host, &[&cookie, &origin, &offer]).await, Err(401), "a ticket works once");
    let bare = "Sec-WebSocket-Protocol: kas.v1";
    assert_eq!(attempt(&host, &[bare]).await, Err(401));
    assert_eq!(attempt(&host, &[&cookie, &origin, bare]).await, Err(401));
    assert_eq!(attempt(&host, &[&origin, &fresh().await]).await, Err(401), "no cookie");
    assert_eq!(attempt(&host, &[&cookie, &fresh().await]).await, Err(403), "no origin");
    let evil = "Origin: http://evil.test";
    assert_eq!(attempt(&host, &[&cookie, evil, &fresh().await]).await, Err(403));
    assert_eq!(attempt("evil.test", &[&cookie, &origin, &fresh().await]).await, Err(421));
    let bearer = format!("Authorization: Bearer {}", it.token);
    assert_eq!(attempt(&host, &[&bearer]).await, Err(400), "no sub-protocol");
    assert!(open(Box::new(it.unix().await), "kas", &[bare]).await.is_ok(), "the control socket is enough");
}

#[tokio::test]
async fn stopping_the_daemon_closes_with_1001_and_the_task_lives_on() {
    let it = Served::start().await;
    let id = it.launch("waits").await;
    let mut page = Page::with_token(&it).await;
    page.subscribe(&id, Some(0)).await;
    let seen = page.watch(&id, 0, |seen| seen.bytes.starts_with(b"up")).await;
    assert!(it.kas(&["daemon", "stop"]).output().unwrap().status.success());
    let close = loop {
        match page.next().await {
            Message::Close(frame) => break frame.unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Text(_) | Message::Binary(_) | Message::Frame(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(close.code), 1001);

    let http = format!("127.0.0.1:{}", it.port);
    let again = it.kas(&["daemon", "start", "--http", &http]).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let mut page = Page::with_token(&it).await;
    let subscribed = page.subscribe(&id, Some(seen.end)).await;
    assert_eq!((&subscribed["state"], &subscribed["offset"]), (&json!("running"), &json!(seen.end)));
}
