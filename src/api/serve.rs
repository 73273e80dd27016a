//! Accepting connections, on TCP and on the control socket, within limits of number and time.

use std::fs;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::control_socket::ControlSocket;
use super::dispatch;
use super::route::Surface;
use super::stall::Stall;
use super::state::{Api, closed};
use crate::auth::check_peer;

/// Connections at one time on TCP. Further ones wait in the kernel's backlog.
const HTTP_CONNECTIONS: usize = 1024;
/// The same on the control socket, counted apart so that the operator always gets through.
const CONTROL_CONNECTIONS: usize = 256;
/// How long the head of a request may take to arrive, from the moment the connection is free for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's head, and its header lines.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 100;
/// How long open requests may take once the daemon shuts down.
const GRACE: Duration = Duration::from_secs(5);
/// A pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection for which there is no file descriptor may take to send its request and to take its answer.
const REFUSE_IN: Duration = Duration::from_millis(10);
/// What a connection gets for which there is no file descriptor; it is closed then.
const NO_DESCRIPTOR: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\ncontent-length: 119\r\n\r\n\
{\"error\":{\"code\":\"unavailable\",\"message\":\"The daemon has no file descriptor left.\",\"details\":{\"reason\":\"descriptors\"}}}";

/// The sockets to serve, already bound.
#[derive(Debug, Default)]
pub struct Listeners {
    /// HTTP on TCP.
    pub http: Option<TcpListener>,
    /// The control socket.
    pub control: Option<ControlSocket>,
}

/// A place among the connections; the last clone gives it back.
#[derive(Clone)]
pub(super) struct Seat(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// Serves until the API closes; then lets requests finish for [`GRACE`], and closes streams and WebSockets.
pub async fn serve(api: Api, listeners: Listeners) {
    tokio::join!(accept_loop(api.clone(), listeners.http), accept_loop(api, listeners.control));
}

/// Something that brings connections.
trait Accept: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    const SURFACE: Surface;
    /// Connections at one time.
    const CAP: usize;

    /// The next connection; `None` for one that may not.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    const SURFACE: Surface = Surface::Http;
    const CAP: usize = HTTP_CONNECTIONS;

    async fn next(&mut self) -> io::Result<Option<TcpStream>> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Some(stream))
    }
}

impl Accept for ControlSocket {
    type Stream = UnixStream;
    const SURFACE: Surface = Surface::Control;
    const CAP: usize = CONTROL_CONNECTIONS;

    async fn next(&mut self) -> io::Result<Option<UnixStream>> {
        let stream = self.accept().await?;
        Ok(own_peer(&stream).then_some(stream))
    }
}

/// Whether the process at the other end belongs to this user.
fn own_peer(stream: &UnixStream) -> bool {
    let checked = check_peer(stream);
    if let Err(error) = &checked {
        tracing::warn!(%error, "a connection to the control socket was refused");
    }
    checked.is_ok()
}

async fn accept_loop<A: Accept>(api: Api, listener: Option<A>) {
    let Some(mut listener) = listener else { return };
    let seats = Arc::new(Semaphore::new(A::CAP));
    let mut closing = api.closing.clone();
    let mut connections = JoinSet::new();
    let mut spare = spare();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.next() => match accepted {
                Ok(Some(stream)) => {
                    let seat = Seat(Arc::new(seat));
                    connections.spawn(connection(api.clone(), A::SURFACE, stream, seat));
                }
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
    let everybody = u32::try_from(A::CAP).unwrap_or(u32::MAX);
    let gone = tokio::time::timeout(GRACE, seats.acquire_many(everybody)).await;
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
    if let Ok(Ok(Some(mut stream))) = accepted {
        let told = async {
            stream.write_all(NO_DESCRIPTOR).await?;
            stream.shutdown().await?;
            // The request is read, so that closing does not reset the connection before the answer arrived.
            let mut request = [0; 4096];
            stream.read(&mut request).await
        };
        if !matches!(tokio::time::timeout(REFUSE_IN, told).await, Ok(Ok(_))) {
            tracing::debug!("a connection without a descriptor could not be told");
        }
    }
    *spare_one = spare();
}

/// Serves one connection.
async fn connection<I>(api: Api, surface: Surface, stream: I, seat: Seat)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut closing = api.closing.clone();
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        let (api, seat) = (api.clone(), seat.clone());
        async move {
            request.extensions_mut().insert(seat);
            Ok::<_, std::convert::Infallible>(dispatch::answer(&api, surface, request.map(Body::new)).await)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(Stall::new(stream)), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closed(&mut closing) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
