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
mod tests;
