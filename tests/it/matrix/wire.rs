//! Requests as they go over a connection, byte for byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, UnixStream};

use super::cell::Lines;
use crate::harness::{Wire, soon};

/// Where connections go.
pub(super) enum To {
    /// To this port, from the loopback address with this number.
    Port(u16, u32),
    Socket(PathBuf),
}

/// A connection that is made anew when the last answer ended it.
pub(super) struct Line {
    pub(super) to: To,
    open: Option<BufReader<Box<dyn Wire>>>,
}

impl Line {
    pub(super) fn new(to: To) -> Self {
        Self { to, open: None }
    }

    async fn connect(&self) -> Box<dyn Wire> {
        match &self.to {
            To::Socket(path) => Box::new(UnixStream::connect(path).await.unwrap()),
            To::Port(port, from) => {
                let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + from);
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::from((from, 0))).unwrap();
                Box::new(socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await.unwrap())
            }
        }
    }

    /// Further connections come from another address.
    pub(super) fn elsewhere(&mut self) {
        if let To::Port(_, from) = &mut self.to {
            *from += 1;
            self.open = None;
        }
    }

    /// Sends a request; its answer's status, and `details.reason` where it is a refusal.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        target: &str,
        lines: &Lines,
        body: &str,
    ) -> (u16, String) {
        soon(&format!("an answer to {method} {target}"), self.exchange(method, target, lines, body)).await
    }

    async fn exchange(&mut self, method: &str, target: &str, lines: &Lines, body: &str) -> (u16, String) {
        let mut line = match self.open.take() {
            Some(line) => line,
            None => BufReader::new(self.connect().await),
        };
        let headers: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}");
        line.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(line.read_line(&mut head).await.unwrap() > 0, "no answer to {request}: {head}");
        }
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.lines().find_map(|it| it.strip_prefix("content-length: ")).map(|it| it.parse().unwrap());
        let (true, Some(length)) = (status >= 400 && method != "HEAD", length) else {
            // What else is answered may have no end, or may not be HTTP any more.
            return (status, String::new());
        };
        let mut said = vec![0; length];
        line.read_exact(&mut said).await.unwrap();
        self.open = Some(line);
        let said: Value = serde_json::from_slice(&said).unwrap();
        (status, said["error"]["details"]["reason"].as_str().unwrap_or_default().to_owned())
    }
}
