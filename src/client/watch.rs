//! A run's terminal, watched: bytes in order by offset, taken up again at the same byte when the connection is lost.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Client, End, Error, Frame, Refused, Socket};
use crate::model::{InstanceId, Size};

/// How long a lost daemon is looked for.
const RECONNECT_FOR: Duration = Duration::from_secs(60);
/// Time between two attempts.
const RECONNECT_EVERY: Duration = Duration::from_millis(200);
/// Output is acknowledged in steps of this. Below 5 000, so that a paused sender always gets going (`spec/protocol.md` §4).
const ACK_EVERY_BYTES: u64 = 4096;
/// Input goes in pieces that stay below the frame limit of 64 KiB with their header.
const INPUT_PIECE_BYTES: usize = 32 * 1024;
/// Input sent and not taken by the program's terminal yet. It is below what the daemon holds for one program, so the daemon refuses none of it.
const WINDOW_BYTES: usize = 128 * 1024;
/// Typed and not sent yet: the program does not read, or the daemon is away. At the cap [`Watch::takes_input`] says no.
const MAX_UNSENT_BYTES: usize = 4 * 1024 * 1024;
/// Reasons for which the daemon takes nothing more that is typed on a subscription.
const INPUT_OVER: [&str; 3] = ["input_full", "input_closed", "input_lost"];

/// Why a terminal is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To look.
    View,
    /// To look, type, and set the size.
    Interactive(Size),
}

/// What a watcher sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The stream begins, or begins again; bytes before `live` were written earlier.
    Began {
        /// The first live offset.
        live: u64,
    },
    /// Output.
    Bytes {
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// What to write to a freshly reset terminal to see the state so far.
    Snapshot(Bytes),
    /// These bytes will not come.
    Gap {
        /// The first of them.
        from: u64,
        /// The first after them.
        to: u64,
    },
    /// Someone set the size.
    Size(u16, u16),
    /// The daemon is away and being looked for.
    Lost,
    /// What was typed or wished was refused; watching goes on.
    Complaint(String),
    /// The run is over; nothing follows.
    End(End),
}

/// A terminal being watched.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    project: String,
    channel: String,
    mode: Mode,
    socket: Option<Socket>,
    /// Zero until the stream runs.
    handle: u32,
    /// The offset of the next byte; `None` to let the daemon choose where to begin.
    next: Option<u64>,
    acked: u64,
    /// Typed and not sent yet.
    unsent: BytesMut,
    /// Bytes sent that the program's terminal did not take yet.
    in_flight: usize,
    /// The daemon tells what was taken; one of an older kas cannot.
    confirms: bool,
    /// Bytes that were typed and of which nobody knows whether they arrived, or of which it is known that they did not.
    undelivered: usize,
    /// Since when the daemon is away.
    lost_since: Option<Instant>,
}

impl Watch {
    /// Begins to watch a run, from `from` or from where the daemon thinks best.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn open(
        client: &Client,
        project: &str,
        id: InstanceId,
        from: Option<u64>,
        mode: Mode,
    ) -> Result<Self, Error> {
        let mut watch = Self {
            client: client.clone(),
            project: project.to_owned(),
            channel: format!("pty:task:{id}"),
            mode,
            socket: None,
            handle: 0,
            next: from,
            acked: from.unwrap_or(0),
            unsent: BytesMut::new(),
            in_flight: 0,
            confirms: matches!(mode, Mode::Interactive(_)),
            undelivered: 0,
            lost_since: None,
        };
        watch.connect().await?;
        Ok(watch)
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut socket = Socket::open(&self.client, &self.project).await?;
        let mut hello = json!({"type": "subscribe", "channel": self.channel, "mode": "view"});
        if let Some(from) = self.next {
            hello["from"] = from.into();
        }
        if let Mode::Interactive(size) = self.mode {
            hello["mode"] = "interactive".into();
            if self.confirms {
                hello["confirm_input"] = true.into();
            }
            hello["cols"] = size.cols().into();
            hello["rows"] = size.rows().into();
        }
        socket.send(&hello).await?;
        self.socket = Some(socket);
        self.handle = 0;
        Ok(())
    }

    /// What comes next. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What the daemon refuses; [`Error::NotRunning`] and its like after a minute without the daemon.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            let Some(socket) = self.socket.as_mut() else {
                self.reconnect().await?;
                continue;
            };
            let frame = match acknowledge(socket, &self.channel, self.next, &mut self.acked).await {
                Ok(()) => socket.next().await,
                Err(error) => Err(error),
            };
            match frame {
                Ok(Frame::InputTaken { bytes }) => {
                    self.in_flight = self.in_flight.saturating_sub(bytes);
                    self.send_typed().await?;
                }
                Ok(Frame::Error { reason, .. }) if self.is_older_daemon(reason.as_deref()) => {
                    self.confirms = false;
                    self.socket = None;
                }
                Ok(frame) => {
                    if let Some(seen) = self.take(frame)? {
                        return Ok(seen);
                    }
                }
                Err(error) if error.is_passing() => {
                    self.socket = None;
                    self.lost_since.get_or_insert_with(Instant::now);
                    if self.gives_up() {
                        return Err(error);
                    }
                    self.forget_typing();
                    // A connection that ends before the stream runs was none.
                    if std::mem::take(&mut self.handle) != 0 {
                        return Ok(Seen::Lost);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        sleep(RECONNECT_EVERY).await;
        match self.connect().await {
            Err(error) if error.is_passing() && !self.gives_up() => Ok(()),
            other => other,
        }
    }

    fn gives_up(&self) -> bool {
        self.lost_since.is_none_or(|since| since.elapsed() > RECONNECT_FOR)
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Seen>, Error> {
        Ok(Some(match frame {
            Frame::Subscribed { handle, offset } => {
                self.handle = handle;
                self.acked = self.next.unwrap_or(0);
                self.lost_since = None;
                Seen::Began { live: offset }
            }
            Frame::Output { offset, bytes } => {
                self.next = Some(offset + bytes.len() as u64);
                Seen::Bytes { offset, bytes }
            }
            Frame::Snapshot { offset, bytes } => {
                self.next = Some(offset);
                Seen::Snapshot(bytes)
            }
            Frame::Gap { from, to } => Seen::Gap { from, to },
            Frame::Size { cols, rows } => Seen::Size(cols, rows),
            Frame::Exit(end) => Seen::End(end),
            // Once the stream runs, only what this side sent can be refused.
            Frame::Error { message, reason, .. } if self.handle != 0 => {
                if reason.is_some_and(|reason| INPUT_OVER.contains(&reason.as_str())) {
                    self.begin_again();
                }
                Seen::Complaint(message)
            }
            Frame::Error { code, message, .. } => {
                return Err(Error::Refused(Refused { code, message, details: serde_json::Map::new() }));
            }
            Frame::InputTaken { .. } | Frame::Event { .. } | Frame::Unknown => return Ok(None),
        }))
    }

    /// Whether more may be typed now: what waits has a cap, and whoever types at it waits too.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        self.unsent.len() < MAX_UNSENT_BYTES
    }

    /// Types `bytes`, as far as the program's terminal takes them; the rest goes in [`Watch::next`]. What is typed while the daemon is away is
    /// kept for the first call after [`Seen::Began`].
    ///
    /// # Errors
    /// Never for a lost connection: [`Watch::next`] says that.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.unsent.extend_from_slice(bytes);
        self.send_typed().await
    }

    /// Sends what was typed, up to the window.
    async fn send_typed(&mut self) -> Result<(), Error> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.handle != 0) else { return Ok(()) };
        while !self.unsent.is_empty() && self.in_flight < WINDOW_BYTES {
            let length = self.unsent.len().min(INPUT_PIECE_BYTES);
            // Taken whole or not at all, so nothing is lost or sent twice when this future is dropped.
            let fed = socket.feed_binary(Frame::input(self.handle, &self.unsent[..length])).await;
            if fed.is_err() {
                return passing(fed);
            }
            self.unsent.advance(length);
            self.in_flight += if self.confirms { length } else { 0 };
        }
        passing(socket.flush().await)
    }

    /// So many typed bytes may not have reached the program since this was asked last.
    pub const fn take_undelivered(&mut self) -> usize {
        std::mem::replace(&mut self.undelivered, 0)
    }

    /// Of what was on its way nobody knows whether it arrived: it is not sent again, and what was typed after it would follow a hole.
    fn forget_typing(&mut self) {
        if self.in_flight > 0 {
            self.undelivered += self.in_flight + self.unsent.len();
            self.in_flight = 0;
            self.unsent.clear();
        }
    }

    /// Subscribes anew on another connection, because nothing typed on this one is taken any more.
    fn begin_again(&mut self) {
        self.undelivered += self.in_flight + self.unsent.len();
        self.in_flight = 0;
        self.unsent.clear();
        self.handle = 0;
        self.socket = None;
        self.lost_since.get_or_insert_with(Instant::now);
    }

    /// Whether a subscription was refused for the one wish that a daemon of an older kas does not know.
    fn is_older_daemon(&self, reason: Option<&str>) -> bool {
        self.handle == 0 && self.confirms && reason == Some("unknown_field")
    }

    /// After the next reconnection, begins where the daemon thinks best instead of at the next byte.
    pub const fn start_over(&mut self) {
        self.next = None;
    }

    /// Sets the terminal's size, now and after a reconnection.
    ///
    /// # Errors
    /// As [`Watch::input`].
    pub async fn resize(&mut self, size: Size) -> Result<(), Error> {
        self.mode = Mode::Interactive(size);
        let Some(socket) = self.socket.as_mut() else { return Ok(()) };
        let (cols, rows) = (size.cols(), size.rows());
        let message = json!({"type": "pty.resize", "channel": self.channel, "cols": cols, "rows": rows});
        passing(socket.send(&message).await)
    }

    /// Ends the watching.
    pub async fn close(self) {
        if let Some(socket) = self.socket {
            socket.close().await;
        }
    }
}

/// Leaves a lost connection to the reader, who finds out at once.
fn passing(sent: Result<(), Error>) -> Result<(), Error> {
    match sent {
        Err(error) if error.is_passing() => Ok(()),
        other => other,
    }
}

async fn acknowledge(
    socket: &mut Socket,
    channel: &str,
    next: Option<u64>,
    acked: &mut u64,
) -> Result<(), Error> {
    let Some(next) = next.filter(|&next| next >= *acked + ACK_EVERY_BYTES) else { return Ok(()) };
    *acked = next;
    socket.send(&json!({"type": "pty.ack", "channel": channel, "offset": next})).await
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use serde_json::Value;
    use tokio::net::{UnixListener, UnixStream};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

    use super::*;
    use crate::model::RunState;

    type Peer = WebSocketStream<UnixStream>;

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

    async fn said(peer: &mut Peer) -> Value {
        let Some(Ok(Message::Text(text))) = peer.next().await else { panic!("no text") };
        serde_json::from_str(text.as_str()).unwrap()
    }

    async fn say(peer: &mut Peer, message: Value) {
        peer.send(Message::text(message.to_string())).await.unwrap();
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
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("s")).unwrap();
        let client = Client::new(temp.path().join("s"));
        let id = InstanceId::from_parts(1, 2);
        let mode = Mode::Interactive(Size::DEFAULT);
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
            assert_eq!(said(&mut peer).await["from"], 3);
            say(&mut peer, json!({"type":"subscribed","handle":8,"offset":3})).await;
            let Some(Ok(Message::Binary(typed))) = peer.next().await else { panic!("no input") };
            assert_eq!(&typed[..], &Frame::input(8, b"typed while away")[..]);
            output(&mut peer, 3, b"def").await;
            say(&mut peer, json!({"type":"error","code":"conflict","message":"ended"})).await;
            say(&mut peer, json!({"type":"pty.exit","state":"done","exit_code":0,"signal":null,"offset":6}))
                .await;
            peer
        };
        let viewer = async {
            let mut watch = Watch::open(&client, "demo", id, Some(0), mode).await.unwrap();
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
        let (_peer, seen) = tokio::join!(daemon, viewer);
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
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("s")).unwrap();
        let client = Client::new(temp.path().join("s"));
        let mode = Mode::Interactive(Size::DEFAULT);
        let daemon = async {
            // A daemon of an older kas does not know the wish, and is asked again without it.
            let mut peer = accept(&listener).await;
            assert_eq!(said(&mut peer).await["confirm_input"], true);
            say(&mut peer, json!({"type":"error","code":"invalid_request","message":"?","details":{"reason":"unknown_field"}})).await;
            let mut peer = accept(&listener).await;
            assert_eq!(said(&mut peer).await["confirm_input"], Value::Null);
            drop(peer);
        };
        let viewer = async {
            let mut watch =
                Watch::open(&client, "demo", InstanceId::from_parts(1, 2), None, mode).await.unwrap();
            watch.lost_since = Some(Instant::now());
            tokio::select! { _ = watch.next() => {}, () = sleep(Duration::from_millis(600)) => {} }
            assert!(!watch.confirms);
        };
        tokio::join!(daemon, viewer);
    }

    #[tokio::test]
    async fn a_paste_goes_as_it_is_taken_and_after_a_break_nothing_follows_a_hole() {
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("s")).unwrap();
        let client = Client::new(temp.path().join("s"));
        let paste: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
        let mode = Mode::Interactive(Size::DEFAULT);
        let daemon = async {
            let mut peer = accept(&listener).await;
            said(&mut peer).await;
            say(&mut peer, json!({"type":"subscribed","handle":7,"offset":0})).await;
            let first = typed(&mut peer, WINDOW_BYTES).await;
            assert_eq!(first, paste[..WINDOW_BYTES]);
            say(&mut peer, json!({"type":"pty.input.taken","channel":"c","bytes":40_000})).await;
            // One piece more, for there is room below the window again.
            let second = typed(&mut peer, INPUT_PIECE_BYTES).await;
            assert_eq!(second, paste[WINDOW_BYTES..WINDOW_BYTES + INPUT_PIECE_BYTES]);
            drop(peer);
            let mut peer = accept(&listener).await;
            said(&mut peer).await;
            say(&mut peer, json!({"type":"subscribed","handle":8,"offset":0})).await;
            assert_eq!(typed(&mut peer, 3).await, b"new", "nothing of the broken paste");
            say(&mut peer, json!({"type":"pty.exit","state":"done","exit_code":0,"signal":null,"offset":0}))
                .await;
            peer
        };
        let viewer = async {
            let mut watch =
                Watch::open(&client, "demo", InstanceId::from_parts(1, 2), None, mode).await.unwrap();
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
                        assert_eq!(watch.take_undelivered(), paste.len() - 40_000);
                        assert_eq!(watch.take_undelivered(), 0);
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
        let (_peer, ()) = tokio::join!(daemon, viewer);
    }

    #[tokio::test]
    async fn output_is_acknowledged_so_that_a_paused_sender_goes_on() {
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("s")).unwrap();
        let client = Client::new(temp.path().join("s"));
        let daemon = async {
            let mut peer = accept(&listener).await;
            assert_eq!(said(&mut peer).await["mode"], "view");
            say(&mut peer, json!({"type":"subscribed","handle":7,"offset":0})).await;
            for at in 0..11 {
                output(&mut peer, at * 10_000, &[b'x'; 10_000]).await;
            }
            // Not another byte before almost all is acknowledged.
            while said(&mut peer).await["offset"].as_u64().unwrap() < 105_001 {}
            say(
                &mut peer,
                json!({"type":"pty.exit","state":"done","exit_code":0,"signal":null,"offset":110_000}),
            )
            .await;
            peer
        };
        let viewer = async {
            let mut watch =
                Watch::open(&client, "demo", InstanceId::from_parts(1, 2), None, Mode::View).await.unwrap();
            while !matches!(watch.next().await.unwrap(), Seen::End(_)) {}
        };
        tokio::join!(daemon, viewer);
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_and_not_tried_again() {
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("s")).unwrap();
        let client = Client::new(temp.path().join("s"));
        let daemon = async {
            let mut peer = accept(&listener).await;
            said(&mut peer).await;
            say(&mut peer, json!({"type":"error","code":"not_found","message":"no such run"})).await;
            peer
        };
        let viewer = async {
            let mut watch =
                Watch::open(&client, "demo", InstanceId::from_parts(1, 2), None, Mode::View).await.unwrap();
            watch.next().await.unwrap_err()
        };
        let (_peer, error) = tokio::join!(daemon, viewer);
        assert!(matches!(error, Error::Refused(it) if it.code == "not_found"));
    }
}
