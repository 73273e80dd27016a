//! A watcher against a daemon that says what a test wants it to say.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::*;
use crate::model::RunState;

type Peer = WebSocketStream<UnixStream>;

fn listening() -> (tempfile::TempDir, UnixListener, Client) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    (temp, UnixListener::bind(&path).unwrap(), Client::new(path))
}

/// A client's view of a run that the listener was asked for.
async fn watch(client: &Client, from: Option<u64>, mode: Mode) -> Result<Watch, Error> {
    Watch::open(client, "demo", InstanceId::from_parts(1, 2), from, mode).await
}

const TYPING: Mode = Mode::Interactive(Size::DEFAULT);

/// The daemon's side of a connection, after the handshake.
async fn accept(listener: &UnixListener) -> Peer {
    let (stream, _) = listener.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
    let select = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), "/api/v1/projects/demo/tasks/socket");
        let offered = request.headers()["sec-websocket-protocol"].clone();
        assert_eq!(offered, "kas.v1");
        response.headers_mut().insert("sec-websocket-protocol", offered);
        Ok(response)
    };
    accept_hdr_async(stream, select).await.unwrap()
}

/// Runs both sides to their ends; what takes much longer than it should is a failure.
async fn both<A, B>(daemon: impl Future<Output = A>, viewer: impl Future<Output = B>) -> (A, B) {
    let ended = timeout(Duration::from_secs(60), async { tokio::join!(daemon, viewer) }).await;
    ended.expect("one side waits for ever")
}

async fn said(peer: &mut Peer) -> Value {
    let Some(Ok(Message::Text(text))) = peer.next().await else { panic!("no text") };
    serde_json::from_str(text.as_str()).unwrap()
}

async fn say(peer: &mut Peer, message: Value) {
    peer.send(Message::text(message.to_string())).await.unwrap();
}

/// Takes a subscription in; says what was asked for.
async fn subscribed(peer: &mut Peer, handle: u32, offset: u64) -> Value {
    let hello = said(peer).await;
    say(peer, json!({"type":"subscribed","handle":handle,"offset":offset})).await;
    hello
}

async fn exit(peer: &mut Peer, offset: u64) {
    let exit = json!({"type":"pty.exit","state":"done","exit_code":0,"signal":null,"offset":offset});
    say(peer, exit).await;
}

async fn output(peer: &mut Peer, offset: u64, bytes: &[u8]) {
    let mut frame = Frame::input(7, bytes).to_vec();
    frame[0] = 1;
    frame[5..13].copy_from_slice(&offset.to_be_bytes());
    peer.send(Message::binary(frame)).await.unwrap();
}

fn bytes(offset: u64, text: &'static str) -> Seen {
    Seen::Bytes { offset, bytes: Bytes::from_static(text.as_bytes()) }
}

#[tokio::test]
async fn a_lost_connection_is_taken_up_at_the_same_byte() {
    let (_temp, listener, client) = listening();
    let id = InstanceId::from_parts(1, 2);
    let daemon = async {
        let mut peer = accept(&listener).await;
        let hello = said(&mut peer).await;
        assert_eq!(
            hello,
            json!({"type":"subscribe","channel":format!("pty:task:{id}"),"mode":"interactive","confirm_input":true,"cols":80,"rows":24,"from":0})
        );
        say(&mut peer, json!({"type":"subscribed","handle":7,"offset":3})).await;
        output(&mut peer, 0, b"abc").await;
        let Some(Ok(Message::Binary(typed))) = peer.next().await else { panic!("no input") };
        assert_eq!(&typed[..], &Frame::input(7, b"x")[..]);
        say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":1})).await;
        output(&mut peer, 3, b"").await;
        drop(peer);
        let mut peer = accept(&listener).await;
        assert_eq!(subscribed(&mut peer, 8, 3).await["from"], 3);
        let Some(Ok(Message::Binary(typed))) = peer.next().await else { panic!("no input") };
        assert_eq!(&typed[..], &Frame::input(8, b"typed while away")[..]);
        output(&mut peer, 3, b"def").await;
        say(&mut peer, json!({"type":"error","code":"conflict","message":"ended"})).await;
        exit(&mut peer, 6).await;
        peer
    };
    let viewer = async {
        let mut watch = watch(&client, Some(0), TYPING).await.unwrap();
        let mut seen = Vec::new();
        loop {
            seen.push(watch.next().await.unwrap());
            match seen.last() {
                Some(Seen::Bytes { offset: 0, .. }) => watch.input(b"x").await.unwrap(),
                Some(Seen::Lost) => watch.input(b"typed while away").await.unwrap(),
                Some(Seen::Began { .. }) => watch.input(b"").await.unwrap(),
                Some(Seen::End(_)) => return seen,
                _ => {}
            }
        }
    };
    let (_peer, seen) = both(daemon, viewer).await;
    let end = End { state: RunState::Done, exit_code: Some(0), signal: None };
    let expect = [
        Seen::Began { live: 3 },
        bytes(0, "abc"),
        bytes(3, ""),
        Seen::Lost,
        Seen::Began { live: 3 },
        bytes(3, "def"),
        Seen::Complaint("ended".into()),
        Seen::End(end),
    ];
    assert_eq!(seen, expect);
}

/// Input frames until they bring `wanted` bytes.
async fn typed(peer: &mut Peer, wanted: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < wanted {
        let Some(Ok(Message::Binary(frame))) = peer.next().await else { panic!("no input") };
        all.extend_from_slice(&frame[13..]);
    }
    all
}

#[tokio::test]
async fn a_daemon_of_an_older_kas_is_asked_without_the_new_wish() {
    let (_temp, listener, client) = listening();
    let daemon = async {
        // A daemon of an older kas does not know the wish, and is asked again without it.
        let mut peer = accept(&listener).await;
        assert_eq!(said(&mut peer).await["confirm_input"], true);
        say(&mut peer, json!({"type":"error","code":"invalid_request","message":"?","details":{"reason":"unknown_field"}})).await;
        let mut peer = accept(&listener).await;
        assert_eq!(subscribed(&mut peer, 7, 0).await["confirm_input"], Value::Null);
        assert_eq!(typed(&mut peer, 1).await, b"x");
    };
    let viewer = async {
        let mut watch = watch(&client, None, TYPING).await.unwrap();
        assert_eq!(watch.next().await.unwrap(), Seen::Began { live: 0 });
        watch.input(b"x").await.unwrap();
        assert!(!watch.confirms && watch.undelivered() == 0);
    };
    both(daemon, viewer).await;
}

#[tokio::test]
async fn a_paste_goes_as_it_is_taken_and_after_a_break_nothing_follows_a_hole() {
    let (_temp, listener, client) = listening();
    let paste: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
    let daemon = async {
        let mut peer = accept(&listener).await;
        subscribed(&mut peer, 7, 0).await;
        let first = typed(&mut peer, WINDOW_BYTES).await;
        assert_eq!(first, paste[..WINDOW_BYTES]);
        say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":40_000})).await;
        // One piece more, for there is room below the window again.
        let second = typed(&mut peer, INPUT_PIECE_BYTES).await;
        assert_eq!(second, paste[WINDOW_BYTES..WINDOW_BYTES + INPUT_PIECE_BYTES]);
        drop(peer);
        let mut peer = accept(&listener).await;
        subscribed(&mut peer, 8, 0).await;
        assert_eq!(typed(&mut peer, 3).await, b"new", "nothing of the broken paste");
        exit(&mut peer, 0).await;
        peer
    };
    let viewer = async {
        let mut watch = watch(&client, None, TYPING).await.unwrap();
        let mut begun = 0;
        loop {
            match watch.next().await.unwrap() {
                Seen::Began { .. } if begun == 0 => {
                    begun += 1;
                    watch.input(&paste).await.unwrap();
                    assert!(watch.takes_input() && watch.unsent.len() == paste.len() - WINDOW_BYTES);
                }
                Seen::Began { .. } => watch.input(b"new").await.unwrap(),
                Seen::Lost => {
                    let lost = paste.len() - 40_000;
                    assert_eq!((watch.forgotten(), watch.undelivered()), (lost, lost));
                }
                Seen::End(_) => return,
                other @ (Seen::Bytes { .. }
                | Seen::Snapshot(_)
                | Seen::Gap { .. }
                | Seen::Size(..)
                | Seen::Complaint(_)) => panic!("{other:?}"),
            }
        }
    };
    both(daemon, viewer).await;
}

#[tokio::test]
async fn single_keys_are_counted_as_the_daemon_counts_them_and_the_cap_leaves_no_hole() {
    let (_temp, listener, client) = listening();
    let keys = 5_000;
    let daemon = async {
        let mut peer = accept(&listener).await;
        subscribed(&mut peer, 7, 0).await;
        // Frames of a key each as far as the window goes; the rest in one frame as soon as there is room.
        let frames = WINDOW_BYTES.div_ceil(1 + FRAME_COST);
        for _ in 0..frames {
            let Some(Ok(Message::Binary(frame))) = peer.next().await else { panic!("no input") };
            assert_eq!(frame.len(), 14);
        }
        say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":1})).await;
        assert_eq!(typed(&mut peer, 1).await.len(), keys - frames);
        say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":keys - 1})).await;
        let mut all = typed(&mut peer, WINDOW_BYTES).await;
        while all.len() < MAX_UNSENT_BYTES {
            say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":32_768})).await;
            all.extend(typed(&mut peer, 32_768).await);
        }
        let taken = json!({"type":"pty.input.taken","channel":"c","bytes":WINDOW_BYTES});
        say(&mut peer, taken).await;
        assert_eq!(typed(&mut peer, 1).await, b"after");
        exit(&mut peer, 0).await;
        peer
    };
    let viewer = async {
        let mut watch = watch(&client, None, TYPING).await.unwrap();
        assert_eq!(watch.next().await.unwrap(), Seen::Began { live: 0 });
        for _ in 0..keys {
            watch.input(b"k").await.unwrap();
        }
        assert_eq!(watch.undelivered(), keys);
        watch.until_taken().await;
        assert_eq!((watch.undelivered(), watch.takes_input()), (0, true));
        watch.input(&vec![b'x'; MAX_UNSENT_BYTES]).await.unwrap();
        watch.input(&vec![b'y'; WINDOW_BYTES + 1]).await.unwrap();
        watch.input(b"z").await.unwrap();
        assert_eq!((watch.forgotten(), watch.takes_input()), (WINDOW_BYTES + 2, false));
        watch.until_taken().await;
        assert_eq!((watch.undelivered(), watch.takes_input()), (WINDOW_BYTES + 2, true));
        watch.input(b"after").await.unwrap();
        watch.next().await.unwrap()
    };
    let (_peer, seen) = both(daemon, viewer).await;
    assert!(matches!(seen, Seen::End(_)));
}

#[tokio::test]
async fn output_is_acknowledged_so_that_a_paused_sender_goes_on() {
    let (_temp, listener, client) = listening();
    let daemon = async {
        let mut peer = accept(&listener).await;
        assert_eq!(subscribed(&mut peer, 7, 0).await["mode"], "view");
        for at in 0..11 {
            output(&mut peer, at * 10_000, &[b'x'; 10_000]).await;
        }
        // Not another byte before almost all is acknowledged.
        while said(&mut peer).await["offset"].as_u64().unwrap() < 105_001 {}
        exit(&mut peer, 110_000).await;
        peer
    };
    let viewer = async {
        let mut watch = watch(&client, None, Mode::View).await.unwrap();
        while !matches!(watch.next().await.unwrap(), Seen::End(_)) {}
    };
    both(daemon, viewer).await;
}

#[tokio::test]
async fn a_refusal_is_an_error_and_not_tried_again() {
    let (_temp, listener, client) = listening();
    let daemon = async {
        let mut peer = accept(&listener).await;
        said(&mut peer).await;
        say(&mut peer, json!({"type":"error","code":"not_found","message":"no such run"})).await;
        peer
    };
    let viewer = async {
        let mut watch = watch(&client, None, Mode::View).await.unwrap();
        watch.next().await.unwrap_err()
    };
    let (_peer, error) = both(daemon, viewer).await;
    assert!(matches!(error, Error::Refused(it) if it.code == "not_found"));
}
