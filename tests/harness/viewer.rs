//! A browser's side of the WebSocket, strict about what the contract promises.

use std::path::PathBuf;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::http::{Caller, Wire};
use super::recording::Recording;
use super::soon;

/// One message of the daemon.
#[derive(Debug)]
pub(crate) enum Frame {
    Text(Value),
    Output { handle: u32, offset: u64, bytes: Bytes },
    Snapshot { offset: u64, bytes: Bytes },
}

/// An open WebSocket, and where what comes of terminals is recorded.
pub(crate) struct Viewer(WebSocketStream<Box<dyn Wire>>, PathBuf);

/// What a viewer saw of one terminal.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the subscription was answered with.
    pub(crate) subscribed: Value,
    /// The bytes of output; what a gap skipped is not in them.
    pub(crate) bytes: Vec<u8>,
    /// Where the next byte must be.
    pub(crate) at: u64,
    pub(crate) gaps: Vec<(u64, u64)>,
    pub(crate) snapshots: Vec<(u64, Bytes)>,
    pub(crate) exit: Option<Value>,
    recording: Recording,
}

impl Viewer {
    pub(crate) async fn open(caller: &Caller, project: &str) -> Self {
        let address = format!("ws://{}/api/v1/projects/{project}/tasks/socket", caller.host());
        let mut request = address.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "kas.v1".parse().unwrap());
        if let Some(authorization) = caller.authorization() {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        let opened = soon("a socket", client_async(request, caller.connect().await)).await;
        let (socket, answer) = opened.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "kas.v1");
        Self(socket, caller.recordings().to_owned())
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Types bytes.
    pub(crate) async fn type_in(&mut self, handle: u32, bytes: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u8(3);
        frame.put_u32(handle);
        frame.put_u64(0);
        frame.put_slice(bytes);
        self.0.send(Message::binary(frame.freeze())).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Frame {
        soon("a frame", self.frame()).await
    }

    async fn frame(&mut self) -> Frame {
        loop {
            match self.0.next().await.expect("the socket closed").unwrap() {
                Message::Text(text) => return Frame::Text(serde_json::from_str(&text).unwrap()),
                Message::Binary(bytes) => return binary(&bytes),
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
    }

    /// The next text frame of this type; others are passed over.
    pub(crate) async fn text(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Frame::Text(text) if text["type"] == kind => return text,
                Frame::Text(text) => assert_ne!(text["type"], "error", "{text}"),
                Frame::Output { .. } | Frame::Snapshot { .. } => {}
            }
        }
    }

    /// The next text frame, which must be an error.
    pub(crate) async fn refusal(&mut self) -> Value {
        let frame = self.next().await;
        let Frame::Text(text) = frame else { panic!("no error: {frame:?}") };
        assert_eq!(text["type"], "error", "{text}");
        text
    }

    /// Subscribes to an instance with these further fields.
    pub(crate) async fn watch(&mut self, id: &str, more: Value) -> Seen {
        let mut message = json!({"type": "subscribe", "channel": format!("pty:task:{id}")});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let from = message["from"].as_u64().unwrap_or(0);
        self.say(&message).await;
        let subscribed = self.text("subscribed").await;
        let recording = Recording::begin(&self.1, id, message["from"].as_u64());
        Seen { at: from, subscribed, recording, ..Seen::default() }
    }

    /// Takes frames until `enough`, acknowledging what comes.
    pub(crate) async fn follow(&mut self, seen: &mut Seen, enough: impl Fn(&Seen) -> bool) {
        while !enough(seen) {
            let frame = soon(&format!("a frame after {}", seen.position()), self.frame()).await;
            let output = matches!(frame, Frame::Output { .. });
            seen.take(frame);
            if output {
                self.acknowledge(seen).await;
            }
        }
    }

    pub(crate) async fn acknowledge(&mut self, seen: &Seen) {
        self.say(&json!({"type": "pty.ack", "channel": seen.subscribed["channel"], "offset": seen.at})).await;
    }

    /// Watches an instance from its first byte to its end.
    pub(crate) async fn whole(&mut self, id: &str) -> Seen {
        let mut seen = self.watch(id, json!({"from": 0})).await;
        self.follow(&mut seen, Seen::ended).await;
        seen
    }

    /// Waits until the daemon closes; answers the code it gives.
    pub(crate) async fn closed(mut self) -> Option<u16> {
        soon("a close", async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    None | Some(Err(_)) => return None,
                }
            }
        })
        .await
    }

    /// Says goodbye, so that the daemon notices now.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

impl Seen {
    pub(crate) fn ended(&self) -> bool {
        self.exit.is_some()
    }

    pub(crate) fn handle(&self) -> u32 {
        self.subscribed["handle"].as_u64().unwrap().try_into().unwrap()
    }

    fn position(&self) -> String {
        format!("byte {} with {} gaps and {} snapshots", self.at, self.gaps.len(), self.snapshots.len())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Takes one frame; what does not follow the last one is an error.
    pub(crate) fn take(&mut self, frame: Frame) {
        assert!(self.exit.is_none(), "after the end came {frame:?}");
        self.recording.add(&frame);
        match frame {
            Frame::Output { handle, offset, bytes } => {
                assert_eq!((handle, offset), (self.handle(), self.at), "a byte is missing or comes twice");
                self.at += bytes.len() as u64;
                self.bytes.extend_from_slice(&bytes);
            }
            Frame::Snapshot { offset, bytes } => {
                self.at = offset;
                self.snapshots.push((offset, bytes));
            }
            Frame::Text(text) => match text["type"].as_str().unwrap() {
                "pty.gap" => {
                    assert_eq!(text["from"], self.at, "{text}");
                    self.at = text["to"].as_u64().unwrap();
                    self.gaps.push((text["from"].as_u64().unwrap(), self.at));
                }
                "pty.exit" => {
                    assert_eq!(text["offset"], self.at, "{text}");
                    self.exit = Some(text);
                }
                "pty.size" | "event" => {}
                _ => panic!("{text}"),
            },
        }
    }
}

fn binary(frame: &Bytes) -> Frame {
    let handle = u32::from_be_bytes(frame[1..5].try_into().unwrap());
    let offset = u64::from_be_bytes(frame[5..13].try_into().unwrap());
    let bytes = frame.slice(13..);
    match frame[0] {
        1 => Frame::Output { handle, offset, bytes },
        2 => Frame::Snapshot { offset, bytes },
        kind => panic!("a frame of kind {kind}"),
    }
}
