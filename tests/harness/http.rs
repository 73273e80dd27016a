//! A small HTTP client over the control socket or TCP, and the server-sent events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::soon;

/// A connection of either kind.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Somebody who asks the daemon.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Over the control socket.
    Socket { socket: PathBuf, recordings: PathBuf },
    /// Over TCP, with a bearer token.
    Tcp { address: String, token: String, recordings: PathBuf },
    /// The same inside TLS, under a name.
    Tls { address: String, name: String, config: Arc<ClientConfig>, token: String, recordings: PathBuf },
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The details of a refusal that must have this status, code and reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str, reason: &str) -> Value {
        let error = self.expect(status)["error"].take();
        assert_eq!((error["code"].as_str(), error["details"]["reason"].as_str()), (Some(code), Some(reason)));
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        error["details"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Caller {
    pub(super) async fn connect(&self) -> Box<dyn Wire> {
        match self {
            Self::Socket { socket, .. } => Box::new(UnixStream::connect(socket).await.unwrap()),
            Self::Tcp { address, .. } => Box::new(TcpStream::connect(address).await.unwrap()),
            Self::Tls { address, name, config, .. } => {
                let stream = TcpStream::connect(address).await.unwrap();
                let name = ServerName::try_from(name.clone()).unwrap();
                Box::new(TlsConnector::from(config.clone()).connect(name, stream).await.unwrap())
            }
        }
    }

    pub(super) fn host(&self) -> String {
        match self {
            Self::Socket { .. } => "localhost".to_owned(),
            Self::Tcp { address, .. } => address.clone(),
            Self::Tls { address, name, .. } => format!("{name}:{}", address.rsplit_once(':').unwrap().1),
        }
    }

    /// Where what it is sent is recorded.
    pub(super) fn recordings(&self) -> &Path {
        match self {
            Self::Socket { recordings, .. } | Self::Tcp { recordings, .. } | Self::Tls { recordings, .. } => {
                recordings
            }
        }
    }

    pub(super) fn authorization(&self) -> Option<String> {
        match self {
            Self::Socket { .. } => None,
            Self::Tcp { token, .. } | Self::Tls { token, .. } => Some(format!("Bearer {token}")),
        }
    }

    /// Sends a request; the answer's body is still to come.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Incoming> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.host());
        request = request.header("content-type", "application/json");
        if let Some(authorization) = self.authorization() {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        soon(&format!("an answer to {method} {path}"), async {
            let body = body.map(Value::to_string).unwrap_or_default();
            let response = self.send(method.clone(), path, headers, body).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: head.status.as_u16(), headers: head.headers, body }
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, &[], Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], None).await
    }

    /// Posts to a daemon that may die meanwhile; `None` when no whole answer came.
    pub(crate) async fn try_post(&self, path: &str, key: Option<&str>, body: &Value) -> Option<Answer> {
        let Self::Socket { socket, .. } = self else { panic!("only over the control socket") };
        let wire = UnixStream::connect(socket).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.ok()?;
        tokio::spawn(connection);
        let mut request = Request::post(path).header("host", self.host());
        request = request.header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let response =
            soon("an answer, or the end of the connection", sender.send_request(request)).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Listens to `/v1/events`, after this id or from now.
    pub(crate) async fn events(&self, last: Option<i64>) -> Events {
        let last = last.map(|id| id.to_string());
        let headers: Vec<_> = last.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let response =
            soon("the events", self.send(Method::GET, "/v1/events", &headers, String::new())).await;
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), text: String::new() }
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next event: its id, its kind and its data.
    pub(crate) async fn next(&mut self) -> (i64, String, Value) {
        soon("an event", async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                    if let Some(data) = field("data: ") {
                        let id = field("id: ").unwrap().parse().unwrap();
                        return (id, field("event: ").unwrap().into(), serde_json::from_str(data).unwrap());
                    }
                    continue;
                }
                let frame = self.body.frame().await.expect("the events ended").unwrap();
                self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
        })
        .await
    }

    /// The next event of this kind about this instance.
    pub(crate) async fn about(&mut self, kind: &str, id: &str) -> Value {
        loop {
            let (_, word, event) = self.next().await;
            if word == kind && event["task_id"] == id {
                return event;
            }
        }
    }
}
