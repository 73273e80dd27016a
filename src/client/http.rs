//! Requests over the control socket, one connection each.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Error, Refused};
use crate::auth::{check_peer, peer_cred};

/// The most bytes of a JSON answer that is read as a whole; what can be longer is a [`Download`].
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// How long a daemon that lives may take to answer. A stop waits for the process tree, which gets 5 s before it is killed.
const PATIENCE_S: u64 = 60;
/// Time between two looks whether the daemon lives.
const PULSE_EVERY: Duration = Duration::from_millis(400);
/// How long a daemon may take to answer such a look: so many ticks. With the time before it that is less than the two seconds after which no
/// command waits for a daemon that hangs (`spec/protocol.md` §5). They are slept one by one, so that a machine that is too busy for this
/// process gives the daemon more time, too.
const PULSE_TICKS: u32 = 14;
const TICK: Duration = Duration::from_millis(100);

/// A way to the daemon. Cheap to clone; connects anew for each request.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon listening at `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for `path`, which must need no escaping.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::GET, path, None).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Deletes what is at `path`; answers `null` where the daemon says nothing.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.call(Method::DELETE, path, None).await
    }

    /// Follows the cursors of a list until `limit` items are there or the list ends.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn list(&self, path: &str, limit: usize) -> Result<Vec<Value>, Error> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{mark}limit={}", limit.clamp(1, 500));
        let (mut items, mut next) = (Vec::new(), first.clone());
        loop {
            let mut page = self.get(&next).await?;
            let Value::Array(more) = page["items"].take() else {
                return Err(Error::Nonsense(format!("{path} is not a list")));
            };
            let stuck = more.is_empty();
            items.extend(more);
            let cursor = page["next_cursor"].as_str().filter(|_| !stuck && items.len() < limit);
            let Some(cursor) = cursor else { break };
            next = format!("{first}&cursor={}", query_value(cursor));
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Begins to read the bytes at `path`.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn download(&self, path: &str) -> Result<Download, Error> {
        let mut answer = self.send(Method::GET, path, None).await?;
        if answer.response.status().is_success() {
            return Ok(Download { answer, bytes: 0 });
        }
        let (status, body) = answer.collect().await?;
        Err(Error::Refused(Refused::of_body(status, &body)))
    }

    /// Waits for `work` as long as the daemon lives: beside it the daemon is asked again and again whether it answers. So a long wait is
    /// told from a hang.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Hangs`].
    pub async fn beside<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            hangs = self.hangs() => Err(hangs.into()),
        }
    }

    /// Comes back when the daemon does not answer. One that is not there does not hang: the work beside it meets that.
    async fn hangs(&self) -> Error {
        loop {
            sleep(PULSE_EVERY).await;
            let pid = Cell::new(None);
            let asked = self.ping(&pid);
            let mut asked = std::pin::pin!(asked);
            let patience = async {
                for _ in 0..PULSE_TICKS {
                    sleep(TICK).await;
                }
            };
            let answered = tokio::select! {
                biased;
                answered = &mut asked => Some(answered),
                () = patience => None,
            };
            match answered {
                Some(Err(error @ Error::Hangs { .. })) => return error,
                // What else goes wrong, the work beside it finds as well.
                Some(_) => {}
                None => return Error::Hangs { socket: self.socket.clone(), pid: pid.get() },
            }
        }
    }

    /// Asks whether the daemon answers; tells its process as soon as it is connected.
    async fn ping(&self, pid: &Cell<Option<u32>>) -> Result<(), Error> {
        let stream = self.connect().await?;
        pid.set(peer_cred(&stream).ok().and_then(|peer| peer.pid));
        Self::send_on(stream, Method::GET, "/v1/ping", None).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let work = async {
            let mut answer = self.send(method, path, body).await?;
            answer.collect().await
        };
        let patience = Duration::from_secs(PATIENCE_S);
        let (status, body) = timeout(patience, work).await.map_err(|_| Error::TimedOut(PATIENCE_S))??;
        match status {
            200..300 if body.is_empty() => Ok(Value::Null),
            200..300 => serde_json::from_slice(&body).map_err(|error| Error::Nonsense(error.to_string())),
            _ => Err(Error::Refused(Refused::of_body(status, &body))),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        Self::send_on(self.connect().await?, method, path, body).await
    }

    async fn send_on(
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let mut driver = JoinSet::new();
        // What ends the connection badly shows in the answer, too.
        driver.spawn(async move { connection.await.unwrap_or_default() });
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| Error::Nonsense(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok(Answer { response, _driver: driver })
    }

    /// Connects to the daemon and to no process of another user, which may have put its socket there.
    pub(super) async fn connect(&self) -> Result<UnixStream, Error> {
        let connected = UnixStream::connect(&self.socket).await;
        let checked = connected.and_then(|stream| check_peer(&stream).map(|()| stream));
        checked.map_err(|error| {
            let socket = self.socket.clone();
            let kind = error.kind();
            if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
                Error::NotRunning { socket }
            } else if kind == ErrorKind::WouldBlock {
                // Nothing takes the connections that wait (unix(7), EAGAIN).
                Error::Hangs { socket, pid: None }
            } else {
                Error::Connect { socket, error }
            }
        })
    }
}

fn lost(error: hyper::Error) -> Error {
    Error::Lost(error.to_string())
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
fn query_value(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

/// A response together with the task that moves its bytes, which ends with it.
#[derive(Debug)]
struct Answer {
    response: Response<Incoming>,
    _driver: JoinSet<()>,
}

impl Answer {
    async fn collect(&mut self) -> Result<(u16, Bytes), Error> {
        let status = self.response.status().as_u16();
        let body = Limited::new(self.response.body_mut(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => Error::TooLong(MAX_ANSWER_BYTES),
            Err(error) => Error::BrokeOff(error.to_string()),
        })?;
        Ok((status, body.to_bytes()))
    }
}

/// The bytes of a long answer, piece by piece: however long it is, it costs the memory of a piece.
#[derive(Debug)]
pub struct Download {
    answer: Answer,
    /// What came already.
    bytes: u64,
}

impl Download {
    /// The offset of the first byte of a run's output that the answer tells of; 0 where it says none.
    #[must_use]
    pub fn start_offset(&self) -> u64 {
        let header = self.answer.response.headers().get("x-kas-start-offset");
        header.and_then(|it| it.to_str().ok()?.parse().ok()).unwrap_or(0)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::BrokeOff`] when the connection ends before the answer does, or nothing of it comes for a minute.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let patience = Duration::from_secs(PATIENCE_S);
        loop {
            let came = timeout(patience, self.answer.response.body_mut().frame()).await;
            let frame = came.map_err(|_| self.broke_off(format!("nothing came for {PATIENCE_S} s")))?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(bytes) = frame.map_err(|error| self.broke_off(error.to_string()))?.into_data() {
                self.bytes += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
    }

    fn broke_off(&self, why: String) -> Error {
        Error::BrokeOff(format!("{why}, after {} bytes", self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_a_query() {
        assert_eq!(query_value("01AB-_.~"), "01AB-_.~");
        assert_eq!(query_value("a&b=é"), "a%26b%3D%C3%A9");
    }

    #[tokio::test]
    async fn says_that_no_daemon_listens() {
        let temp = tempfile::tempdir().unwrap();
        let client = Client::new(temp.path().join("kas.sock"));
        assert!(matches!(client.get("/v1/ping").await, Err(Error::NotRunning { .. })));
        drop(std::os::unix::net::UnixListener::bind(client.socket()).unwrap());
        assert!(matches!(client.get("/v1/ping").await, Err(Error::NotRunning { .. })));
    }
}
