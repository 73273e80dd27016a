//! Accepting connections, on TCP and on the control socket, within limits of number and time.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::control_socket::ControlSocket;
use super::route::Surface;
use super::seats::{Seat, Seats, pushed_out};
use super::stall::Stall;
use super::state::{Api, closed};
use super::{dispatch, error, failures};
use crate::daemon::{Code, Refusal};
use crate::tls::{Opened, Tls};

/// Connections at one time on TCP. What happens at the cap is [`Seats`]' matter.
const HTTP_CONNECTIONS: usize = 1024;
/// The same on the control socket, counted apart so that the operator always gets through.
const CONTROL_CONNECTIONS: usize = 256;
/// Connections that wait in the kernel until they are accepted; the kernel of one for which there is no room tries again after a second.
const BACKLOG: i32 = 1024;
/// How long the head of a request may take to arrive, from the moment the connection is free for it; so this is also how long a connection
/// may be idle. Then it is closed, and a part of a head is answered 408.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's head, and its header lines. More is answered 431, and the connection is closed.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 100;
/// How long open requests may take once the daemon shuts down.
const GRACE: Duration = Duration::from_secs(5);
/// A pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection for which there is no file descriptor may take to send its request.
const REFUSE_IN: Duration = Duration::from_millis(10);
/// The same for one that gets no place, and how many of these are waited for at a time. Further ones are closed without a word.
const TURN_AWAY_IN: Duration = Duration::from_secs(1);
const TURNED_AWAY: usize = 32;

/// HTTP on TCP.
#[derive(Debug)]
pub struct Web {
    /// Where connections come in.
    pub listener: TcpListener,
    /// What they are encrypted with; `None` for plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

/// The sockets to serve, already bound.
#[derive(Debug, Default)]
pub struct Listeners {
    /// HTTP on TCP.
    pub http: Option<Web>,
    /// The control socket.
    pub control: Option<ControlSocket>,
}

/// Serves until the API closes; then lets requests finish for [`GRACE`], and closes streams and WebSockets.
pub async fn serve(api: Api, listeners: Listeners) {
    if let Some(Err(error)) = listeners.http.as_ref().map(|http| rustix::net::listen(&http.listener, BACKLOG))
    {
        tracing::warn!(%error, "a burst of connections will have to wait");
    }
    tokio::join!(
        failures::tell(api.clone()),
        accept_loop(api.clone(), listeners.http),
        accept_loop(api, listeners.control),
    );
}

/// Something that brings connections.
trait Accept: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Connections at one time.
    const CAP: usize;
    /// Where descriptors are few, connections may have one of so many. The others are the tasks'.
    const SHARE: u64;

    /// The next connection, and the address it comes from; `None` for one that may not.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Arrival<Self::Stream>>>> + Send;

    /// Serves a connection to its end.
    fn serve(&self, api: Api, stream: Self::Stream, seat: Seat) -> BoxFuture<'static, ()>;
}

/// A new connection and its peer's address, if it has one.
type Arrival<S> = (S, Option<IpAddr>);

impl Accept for Web {
    type Stream = TcpStream;
    const CAP: usize = HTTP_CONNECTIONS;
    const SHARE: u64 = 2;

    async fn next(&mut self) -> io::Result<Option<Arrival<TcpStream>>> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Some((stream, Some(peer.ip()))))
    }

    fn serve(&self, api: Api, stream: TcpStream, seat: Seat) -> BoxFuture<'static, ()> {
        match self.tls.clone() {
            None => connection(api, Surface::Http, stream, seat).boxed(),
            Some(tls) => encrypted(api, tls, stream, seat).boxed(),
        }
    }
}

impl Accept for ControlSocket {
    type Stream = UnixStream;
    const CAP: usize = CONTROL_CONNECTIONS;
    const SHARE: u64 = 4;

    async fn next(&mut self) -> io::Result<Option<Arrival<UnixStream>>> {
        let stream = self.accept().await?;
        Ok(self.is_own_peer(&stream).then_some((stream, None)))
    }

    fn serve(&self, api: Api, stream: UnixStream, seat: Seat) -> BoxFuture<'static, ()> {
        connection(api, Surface::Control, stream, seat).boxed()
    }
}

/// Connections that a listener may have at a time.
fn cap<A: Accept>() -> usize {
    let most = getrlimit(Resource::Nofile).current.map(|limit| limit / A::SHARE);
    most.and_then(|most| usize::try_from(most).ok()).map_or(A::CAP, |most| A::CAP.min(most.max(1)))
}

async fn accept_loop<A: Accept>(api: Api, listener: Option<A>) {
    let Some(mut listener) = listener else { return };
    let seats = Seats::new(cap::<A>(), Arc::clone(&api.metrics));
    let mut closing = api.closing.clone();
    let (mut connections, mut turned_away) = (JoinSet::new(), JoinSet::new());
    let mut spare = spare();
    loop {
        while connections.try_join_next().is_some() {}
        while turned_away.try_join_next().is_some() {}
        tokio::select! {
            accepted = listener.next() => match accepted {
                Ok(Some((stream, peer))) => match seats.take(peer) {
                    Ok(seat) => {
                        connections.spawn(listener.serve(api.clone(), stream, seat));
                        // Whoever sent a request at once is heard before further arrivals could push them out.
                        tokio::task::yield_now().await;
                    }
                    Err(full) if turned_away.len() < TURNED_AWAY => {
                        turned_away.spawn(turn_away(stream, full.refusal(), TURN_AWAY_IN));
                    }
                    Err(_) => {}
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    if no_descriptor(&error) {
                        refuse(&mut listener, &mut spare).await;
                    } else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
            () = closed(&mut closing) => break,
        }
    }
    drop(listener);
    // WebSockets left their connection but keep their seat: all seats are free once everybody is gone.
    let gone = tokio::time::timeout(GRACE, seats.all_free()).await;
    if gone.is_err() {
        tracing::warn!("connections that did not end were cut");
    }
}

/// A descriptor kept for the moment when there is no other.
fn spare() -> Option<fs::File> {
    fs::File::open("/dev/null").ok()
}

fn no_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Takes one connection with the spare descriptor and tells it to come later: one that is left in the backlog would wait, and the
/// listener stay ready, for ever.
async fn refuse<A: Accept>(listener: &mut A, spare_one: &mut Option<fs::File>) {
    drop(spare_one.take());
    let accepted = tokio::time::timeout(REFUSE_IN, listener.next()).await;
    if !matches!(accepted, Ok(Ok(_))) {
        // The spare one was taken by somebody else meanwhile.
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    if let Ok(Ok(Some((stream, _)))) = accepted {
        let refusal = Refusal::new(Code::Unavailable, "the daemon has no file descriptor left");
        turn_away(stream, refusal.reason("descriptors"), REFUSE_IN).await;
    }
    *spare_one = spare();
}

/// Tells a connection of which nothing was read yet why it is not served, and closes it.
async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal, within: Duration) {
    // The request is read before, since no client expects an answer to none, and closing with something unread would reset the connection
    // before the answer arrived.
    let mut request = [0; 4096];
    let read = tokio::time::timeout(within, stream.read(&mut request)).await;
    tracing::debug!(heard = matches!(read, Ok(Ok(1..))), "a connection was turned away");
    say_last(stream, &refusal);
}

/// Serves one connection of which TLS is asked. Its handshake takes a place, as its requests do, and nobody else waits for it.
async fn encrypted(api: Api, tls: Arc<Tls>, stream: TcpStream, seat: Seat) {
    let mut closing = api.closing.clone();
    let opened = tokio::select! {
        opened = tls.accept(stream) => opened,
        () = seat.lost() => return,
        () = closed(&mut closing) => return,
    };
    match opened {
        Ok(Opened::Tls(stream)) => connection(api, Surface::Http, stream, seat).await,
        Ok(Opened::Other(stream)) => turn_away(stream, not_tls(), TURN_AWAY_IN).await,
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

fn not_tls() -> Refusal {
    error::invalid("this port is served with TLS only; use https://").reason("not_tls")
}

/// Serves one connection.
async fn connection<I>(api: Api, surface: Surface, stream: I, seat: Seat)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut closing = api.closing.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        let (api, seat) = (api.clone(), seat.clone());
        asked.store(true, Ordering::Relaxed);
        async move {
            request.extensions_mut().insert(seat);
            Ok::<_, std::convert::Infallible>(dispatch::answer(&api, surface, request.map(Body::new)).await)
        }
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(Stall::new(stream)), service)
        .with_upgrades();
    let ended = tokio::select! {
        ended = &mut serving => ended.map_err(|error| error.is_timeout().then(too_slow)),
        () = seat.lost() => Err((!asked.load(Ordering::Relaxed)).then(pushed_out)),
        () = closed(&mut closing) => {
            Pin::new(&mut serving).graceful_shutdown();
            (&mut serving).await.map_err(|_| None)
        }
    };
    let Err(refusal) = ended else { return };
    tracing::debug!(refusal = refusal.as_ref().map(|it| &it.message), "a connection broke");
    if let (Some(refusal), Some(parts)) = (refusal, serving.into_parts())
        // Who sent nothing waits for no answer: a browser opens connections ahead of its requests.
        && !parts.read_buf.is_empty()
    {
        say_last(parts.io.into_inner(), &refusal);
    }
}

fn too_slow() -> Refusal {
    let message = format!("the head of a request took longer than {} s", HEAD_TIMEOUT.as_secs());
    Refusal::new(Code::Timeout, message).reason("head_timeout")
}

/// Writes to a connection nothing was written to yet, and closes it. The kernel takes so few bytes at once, so nobody is waited for.
fn say_last(mut stream: impl AsyncWrite + Unpin, refusal: &Refusal) {
    let word = error::last_word(refusal);
    let told = async {
        stream.write_all(&word).await?;
        stream.shutdown().await
    };
    if !matches!(told.now_or_never(), Some(Ok(()))) {
        tracing::debug!("a connection was cut without a word");
    }
}
