//! A run's terminal, watched: bytes in order by offset, taken up again at the same byte when the connection is lost.

use std::collections::VecDeque;
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
/// Unconfirmed bytes, 64 counted for each frame, up to which more is sent. With the piece that passes it they stay below the 200 KiB up to
/// which the daemon refuses nothing (docs/socket.md).
const WINDOW_BYTES: usize = 128 * 1024;
/// What a frame costs the daemon besides its bytes.
const FRAME_COST: usize = 64;
/// Typed and not sent yet: the program does not read, or the daemon is away. Beyond the cap nothing is taken, [`Watch::takes_input`].
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
    /// The size was set.
    Size(u16, u16),
    /// The daemon is away and being looked for.
    Lost,
    /// What was typed or wished was refused; watching goes on.
    Complaint(String),
    /// The run is over; nothing follows.
    End(End),
}

/// Input that was sent and is not confirmed.
#[derive(Debug, Default)]
struct InFlight {
    /// What is left of each frame, in order; none is empty.
    frames: VecDeque<usize>,
    bytes: usize,
}

impl InFlight {
    /// What it costs the daemon.
    fn cost(&self) -> usize {
        self.bytes + FRAME_COST * self.frames.len()
    }

    fn sent(&mut self, bytes: usize) {
        self.frames.push_back(bytes);
        self.bytes += bytes;
    }

    /// So many more bytes are confirmed.
    fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        let mut rest = bytes;
        while let Some(frame) = self.frames.front_mut().filter(|_| rest > 0) {
            let of_it = rest.min(*frame);
            *frame -= of_it;
            rest -= of_it;
            if *frame == 0 {
                self.frames.pop_front();
            }
        }
    }
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
    /// What was sent and the program's terminal did not take yet.
    in_flight: InFlight,
    /// The daemon tells what was taken; one of an older kas cannot.
    confirms: bool,
    /// Bytes that were typed and are not sent any more: it is not known whether they arrived, or known that they did not.
    undelivered: usize,
    /// More was typed than may wait, and what waits is not taken yet.
    full: bool,
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
            in_flight: InFlight::default(),
            confirms: matches!(mode, Mode::Interactive(_)),
            undelivered: 0,
            full: false,
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
            if let Some(seen) = self.step().await? {
                return Ok(seen);
            }
        }
    }

    /// Takes one frame, or another try to connect.
    async fn step(&mut self) -> Result<Option<Seen>, Error> {
        let Some(socket) = self.socket.as_mut() else {
            self.reconnect().await?;
            return Ok(None);
        };
        let frame = match acknowledge(socket, &self.channel, self.next, &mut self.acked).await {
            Ok(()) => socket.next().await,
            Err(error) => Err(error),
        };
        match frame {
            Ok(Frame::InputTaken { bytes }) => {
                self.in_flight.taken(bytes);
                self.send_typed().await?;
                Ok(None)
            }
            Ok(Frame::Error { reason, .. }) if self.is_older_daemon(reason.as_deref()) => {
                self.confirms = false;
                self.socket = None;
                Ok(None)
            }
            Ok(frame) => self.take(frame),
            Err(error) if error.is_passing() => {
                self.socket = None;
                self.lost_since.get_or_insert_with(Instant::now);
                if self.gives_up() {
                    return Err(error);
                }
                // What was typed after what was on its way would follow a hole.
                if self.in_flight.bytes > 0 {
                    self.forget_typing();
                }
                // A connection that ends before the stream runs was none.
                Ok((std::mem::take(&mut self.handle) != 0).then_some(Seen::Lost))
            }
            Err(error) => Err(error),
        }
    }

    /// Comes back when the program's terminal has taken all that was typed, or this connection tells no more of it. What else comes is not
    /// shown, so nothing but [`Watch::undelivered`] is to be asked afterwards.
    pub async fn until_taken(&mut self) {
        while self.socket.is_some() && self.in_flight.bytes + self.unsent.len() > 0 {
            match self.step().await {
                Ok(None | Some(Seen::Began { .. } | Seen::Bytes { .. } | Seen::Snapshot(_))) => {}
                Ok(Some(Seen::Gap { .. } | Seen::Size(..) | Seen::Complaint(_))) => {}
                Ok(Some(Seen::Lost | Seen::End(_))) | Err(_) => return,
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

    /// Whether what is typed now is taken. What waits has a cap; what was typed beyond it is undelivered, and so is what is typed after that
    /// until all that waits is taken: a program never reads on after a hole that nothing told.
    #[must_use]
    pub const fn takes_input(&self) -> bool {
        !self.full
    }

    /// Types `bytes`, as far as the program's terminal takes them; the rest goes in [`Watch::next`]. What is typed while the daemon is away is
    /// kept for the first call after [`Seen::Began`].
    ///
    /// # Errors
    /// Never for a lost connection: [`Watch::next`] says that.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.full |= self.unsent.len() + bytes.len() > MAX_UNSENT_BYTES;
        if self.full {
            self.undelivered += bytes.len();
        } else {
            self.unsent.extend_from_slice(bytes);
        }
        self.send_typed().await
    }

    /// Sends what was typed, up to the window.
    async fn send_typed(&mut self) -> Result<(), Error> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.handle != 0) else { return Ok(()) };
        while !self.unsent.is_empty() && self.in_flight.cost() < WINDOW_BYTES {
            let length = self.unsent.len().min(INPUT_PIECE_BYTES);
            // Taken whole or not at all, so nothing is lost or sent twice when this future is dropped.
            let fed = socket.feed_binary(Frame::input(self.handle, &self.unsent[..length])).await;
            if fed.is_err() {
                return passing(fed);
            }
            self.unsent.advance(length);
            if self.confirms {
                self.in_flight.sent(length);
            }
        }
        self.full &= self.in_flight.bytes + self.unsent.len() > 0;
        passing(socket.flush().await)
    }

    /// So many typed bytes may not have reached the program, and are not sent any more.
    #[must_use]
    pub const fn forgotten(&self) -> usize {
        self.undelivered
    }

    /// So many typed bytes may not have reached the program if the watching ends now.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.undelivered + self.in_flight.bytes + self.unsent.len()
    }

    /// Of what was on its way it is not known whether it arrived: it is not sent again, and so nothing that was typed after it.
    fn forget_typing(&mut self) {
        self.undelivered = self.undelivered();
        self.in_flight = InFlight::default();
        self.unsent.clear();
        self.full = false;
    }

    /// Subscribes anew on another connection, because nothing typed on this one is taken any more.
    fn begin_again(&mut self) {
        self.forget_typing();
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

/// Leaves a lost connection to the next read, which meets it at once.
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
}
