//! The asynchronous side of the protocol, used by the daemon and by `kas attach`.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::wire::{Event, Frame as _, Hello, Request, VERSION, WireError, read_only};
use crate::auth::check_peer;
use crate::journal::{ExitRecord, Nonce, RecordError};
use crate::model::{Offset, Size};
use crate::terminal::Theme;

/// How many bytes of input may be on their way before [`Client::input`] waits.
pub const INPUT_CREDIT: usize = 1024 * 1024;
/// Input is sent in pieces of at most this many bytes, so that other requests get between them.
const INPUT_PIECE: usize = 16 * 1024;
/// Between two looks at a shim that is leaving.
const GONE_EVERY: Duration = Duration::from_millis(20);
/// Requests waiting to be written; one more and the asker waits.
const REQUEST_QUEUE: usize = 32;

/// Why a shim could not be reached or spoken with.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listened before the deadline.
    #[error("no shim answered in {dir} in time: {last}")]
    Unreachable {
        /// The instance directory.
        dir: PathBuf,
        /// What the last try met.
        last: std::io::Error,
    },
    /// No shim is there any more, but it left its exit record.
    #[error("the shim has left an exit record")]
    Ended(Box<ExitRecord>),
    /// Something else than the instance's shim answered, or it did not like the nonce.
    #[error("the shim closed the connection before it answered")]
    Refused,
    /// The connection is over: the shim left or was killed.
    #[error("the shim is gone")]
    Closed,
    /// The shim speaks another version: it may be followed, and asked for nothing.
    #[error(
        "its shim is of another kas (protocol {0}, this one speaks {VERSION}): it can be watched, and nothing else"
    )]
    ReadOnly(u8),
    /// What came is not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The exit record is not readable.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A connection to a shim. Clones share it; it closes when all clones and the [`EventStream`] are gone.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Asked>,
    credit: Arc<Semaphore>,
    /// Bytes of input sent so far; held while a piece is sent, so that the order of positions is the order of sending.
    typed: Arc<Mutex<u64>>,
    /// Bytes of input that the terminal took so far.
    taken: watch::Receiver<u64>,
    hello: Hello,
}

/// What the shim tells, in order. Waits of a [`Client`] for its input end when this is dropped.
#[derive(Debug)]
pub struct EventStream {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    credit: Arc<Semaphore>,
    taken: watch::Sender<u64>,
    /// The shim speaks another version: what is not understood is passed over.
    lenient: bool,
    /// So many bytes more belong to a frame that is passed over.
    skip: usize,
}

impl Client {
    /// Connects to the shim of instance directory `dir`, waiting for it to appear until `deadline`, and greets it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Ended`] when the shim is gone and left its record, [`ClientError::Unreachable`] at the deadline.
    pub async fn connect(
        dir: &Path,
        nonce: &Nonce,
        deadline: Instant,
    ) -> Result<(Self, EventStream), ClientError> {
        Self::greet(reach(dir, deadline).await?, nonce, deadline).await
    }

    /// Connects to a shim that should listen already and greets it; it has until `deadline` to answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unreachable`] at once when nobody listens; [`ClientError::Refused`] when the answer is missing or wrong.
    pub async fn find(
        dir: &Path,
        nonce: &Nonce,
        deadline: Instant,
    ) -> Result<(Self, EventStream), ClientError> {
        let socket = try_connect(dir).await;
        let socket = socket.map_err(|last| ClientError::Unreachable { dir: dir.to_owned(), last })?;
        Self::greet(socket, nonce, deadline).await
    }

    async fn greet(
        socket: UnixStream,
        nonce: &Nonce,
        deadline: Instant,
    ) -> Result<(Self, EventStream), ClientError> {
        let (read, mut write) = socket.into_split();
        let credit = Arc::new(Semaphore::new(INPUT_CREDIT));
        let (tells_taken, taken) = watch::channel(0);
        let mut events = EventStream {
            socket: read,
            buffer: BytesMut::new(),
            credit: Arc::clone(&credit),
            taken: tells_taken,
            lenient: false,
            skip: 0,
        };
        let mut out = BytesMut::new();
        Request::Hello { version: VERSION, nonce: *nonce }.encode(&mut out);
        write.write_all(&out).await?;
        let answer = tokio::time::timeout_at(deadline, events.next()).await;
        let Ok(Ok(Some(Event::Hello(hello)))) = answer else { return Err(ClientError::Refused) };
        events.lenient = read_only(hello.version);
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when the last Client is dropped or the shim leaves"
        )]
        tokio::spawn(write_requests(write, queue));
        Ok((Self { requests, credit, typed: Arc::default(), taken, hello }, events))
    }

    /// What the shim said when it was greeted.
    #[must_use]
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether the shim is of another version and may only be followed. What asks more of it fails with [`ClientError::ReadOnly`].
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        read_only(self.hello.version)
    }

    /// Lets the shim run the command. `Started` or `SpawnFailed` follows.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the shim is gone; so for all of these.
    pub async fn open_gate(&self) -> Result<(), ClientError> {
        self.send(Request::OpenGate).await
    }

    /// As [`Client::open_gate`], and the command runs in this directory: the very one that was opened, whatever the path in the spec means by now.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn open_gate_in(&self, dir: OwnedFd) -> Result<(), ClientError> {
        self.send_with(Request::OpenGate, Some(dir)).await
    }

    /// Has output sent from `from` on; what is no longer held is told as a gap. Replaces an earlier wish.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn follow(&self, from: Offset) -> Result<(), ClientError> {
        self.send(Request::Follow { from }).await
    }

    /// Has no more output sent.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn unfollow(&self) -> Result<(), ClientError> {
        self.send(Request::Unfollow).await
    }

    /// Types `bytes`. Waits while [`INPUT_CREDIT`] bytes are on their way; the [`EventStream`] must be read meanwhile. Answers where they end
    /// in all that was typed, for [`Client::taken`].
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn input(&self, mut bytes: Bytes) -> Result<u64, ClientError> {
        let mut end = 0;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(INPUT_PIECE));
            let count = u32::try_from(piece.len()).expect("a piece is small");
            let room = self.credit.acquire_many(count).await.map_err(|_| ClientError::Closed)?;
            let mut typed = self.typed.lock().await;
            self.send(Request::Input(piece)).await?;
            *typed += u64::from(count);
            end = *typed;
            room.forget();
        }
        Ok(end)
    }

    /// Waits until the terminal took everything that was typed up to `end`, or dropped it because the command ended.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the shim is gone before: whether the rest was taken is not known.
    pub async fn taken(&self, end: u64) -> Result<(), ClientError> {
        let mut taken = self.taken.clone();
        taken.wait_for(|taken| *taken >= end).await.map(drop).map_err(|_| ClientError::Closed)
    }

    /// Gives the terminal this size.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn resize(&self, size: Size) -> Result<(), ClientError> {
        self.send(Request::Resize(size)).await
    }

    /// Tells the colours that the command is answered. A shim of an earlier kas has its own.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn theme(&self, theme: Theme) -> Result<(), ClientError> {
        if self.hello.takes_theme { self.send(Request::Theme(Box::new(theme))).await } else { Ok(()) }
    }

    /// Has a mark written into the window.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn align(&self) -> Result<(), ClientError> {
        self.send(Request::Align).await
    }

    /// Ends the whole process tree; `Stopped` follows when nothing of it lives.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn stop(&self, interrupt_first: bool) -> Result<(), ClientError> {
        self.send(Request::Stop { interrupt_first }).await
    }

    /// Sends a signal to the command.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn signal(&self, number: u8) -> Result<(), ClientError> {
        self.send(Request::Signal(number)).await
    }

    /// Tells the shim that everything is stored and it may leave. One of another version leaves by itself and is not told.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn ack(&self) -> Result<(), ClientError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.send(Request::Ack).await
    }

    /// Tells a shim at its gate to leave.
    ///
    /// # Errors
    ///
    /// See [`Client::open_gate`].
    pub async fn abort(&self) -> Result<(), ClientError> {
        self.send(Request::Abort).await
    }

    async fn send(&self, request: Request) -> Result<(), ClientError> {
        self.send_with(request, None).await
    }

    async fn send_with(&self, request: Request, descriptor: Option<OwnedFd>) -> Result<(), ClientError> {
        if self.is_read_only() && !request.is_in_every_version() {
            return Err(ClientError::ReadOnly(self.hello.version));
        }
        self.requests.send(Asked { request, descriptor }).await.map_err(|_| ClientError::Closed)
    }
}

impl EventStream {
    /// The next event; `None` when the shim has left. May be dropped and called again at any time.
    ///
    /// # Errors
    ///
    /// When the connection fails or what comes is not the protocol.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            match self.decode()? {
                Some(Event::InputTaken(count)) => {
                    self.credit.add_permits(count as usize);
                    self.taken.send_modify(|taken| *taken += u64::from(count));
                }
                Some(event) => return Ok(Some(event)),
                None => {
                    self.buffer.reserve(super::wire::MAX_EVENT);
                    if self.socket.read_buf(&mut self.buffer).await? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next event that is all there and understood.
    fn decode(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            let skipped = self.skip.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(None);
            }
            match Event::decode(&mut self.buffer) {
                Err(WireError::Unknown(_) | WireError::Malformed { .. }) if self.lenient => {}
                Err(WireError::Length(length)) if self.lenient => self.skip = 4 + length,
                decoded => return decoded,
            }
        }
    }
}

impl Drop for EventStream {
    /// Nothing tells of room for input any more, so a wait for it ends.
    fn drop(&mut self) {
        self.credit.close();
    }
}

/// A request on its way to the shim, and what goes with it.
#[derive(Debug)]
struct Asked {
    request: Request,
    descriptor: Option<OwnedFd>,
}

async fn write_requests(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Asked>) {
    let mut out = BytesMut::new();
    while let Some(mut asked) = queue.recv().await {
        asked.request.encode(&mut out);
        while asked.descriptor.is_none()
            && let Ok(more) = queue.try_recv()
        {
            asked = more;
            asked.request.encode(&mut out);
        }
        // A failure closes the queue, which every later request meets as `Closed`.
        if let Some(descriptor) = asked.descriptor
            && pass(socket.as_ref(), &mut out, &descriptor).await.is_err()
        {
            return;
        }
        if socket.write_all_buf(&mut out).await.is_err() {
            return;
        }
    }
}

/// Writes what the socket takes now of `out`, and the descriptor with its first byte.
async fn pass(socket: &UnixStream, out: &mut BytesMut, descriptor: &OwnedFd) -> std::io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        Ok(sendmsg(socket, &[IoSlice::new(out)], &mut ancillary, SendFlags::NOSIGNAL)?)
    };
    let sent = socket.async_io(Interest::WRITABLE, send).await?;
    out.advance(sent);
    Ok(())
}

/// Connects to the socket in `dir`, trying again until somebody listens.
async fn reach(dir: &Path, deadline: Instant) -> Result<UnixStream, ClientError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let last = match try_connect(dir).await {
            Ok(socket) => return Ok(socket),
            Err(e) => e,
        };
        if let Some(record) = ExitRecord::read(dir)? {
            return Err(ClientError::Ended(Box::new(record)));
        }
        if Instant::now() + pause >= deadline {
            return Err(ClientError::Unreachable { dir: dir.to_owned(), last });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Waits until no process of the shim in `dir` lives, neither the shim nor what still ends its tree, until `deadline`. Says whether it came.
pub async fn gone(dir: &Path, deadline: Instant) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    loop {
        match try_connect(dir).await {
            Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return true,
            Ok(_) | Err(_) if Instant::now() >= deadline => return false,
            Ok(_) | Err(_) => tokio::time::sleep(GONE_EVERY).await,
        }
    }
}

/// A socket's address holds 107 bytes; by way of the directory's descriptor every path fits.
async fn try_connect(dir: &Path) -> std::io::Result<UnixStream> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), super::SOCKET)).await?;
    check_peer(&socket)?;
    Ok(socket)
}
