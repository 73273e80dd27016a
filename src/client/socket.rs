//! A project's WebSocket over the control socket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Client, Error, Frame, Refused};

/// How long the daemon may take to accept a WebSocket.
const PATIENCE_S: u64 = 20;

/// An open WebSocket that speaks `kas.v1`.
#[derive(Debug)]
pub struct Socket(WebSocketStream<UnixStream>);

impl Socket {
    /// Opens the socket of a project.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn open(client: &Client, project: &str) -> Result<Self, Error> {
        let patience = Duration::from_secs(PATIENCE_S);
        let open = Self::handshake(client, project);
        timeout(patience, open).await.map_err(|_| Error::TimedOut(PATIENCE_S))?
    }

    async fn handshake(client: &Client, project: &str) -> Result<Self, Error> {
        let stream = client.connect().await?;
        let address = format!("ws://localhost/api/v1/projects/{project}/tasks/socket");
        let mut request =
            address.into_client_request().map_err(|error| Error::Nonsense(error.to_string()))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("kas.v1"));
        let (socket, _) = client_async(request, stream).await.map_err(explained)?;
        Ok(Self(socket))
    }

    /// Sends one JSON message.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn send(&mut self, message: &Value) -> Result<(), Error> {
        self.0.send(Message::text(message.to_string())).await.map_err(explained)
    }

    /// Takes one binary message to send: all of it, or nothing when the future is dropped. [`Socket::flush`] sends it.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn feed_binary(&mut self, message: Bytes) -> Result<(), Error> {
        self.0.feed(Message::binary(message)).await.map_err(explained)
    }

    /// Sends what was taken.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.0.flush().await.map_err(explained)
    }

    /// The daemon's next message. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`Error::Lost`] at the end of the connection, however it came; [`Error::Nonsense`].
    pub async fn next(&mut self) -> Result<Frame, Error> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Frame::of_text(text.as_str()),
                Some(Ok(Message::Binary(bytes))) => return Frame::of_binary(&bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(explained(error)),
                None => return Err(Error::Lost("closed by the daemon".to_owned())),
            }
        }
    }

    /// Says goodbye. The daemon may be gone already, which comes to the same.
    pub async fn close(mut self) {
        self.0.close(None).await.unwrap_or_default();
    }
}

fn explained(error: WsError) -> Error {
    if let WsError::Http(answer) = &error {
        let body = answer.body().as_deref().unwrap_or_default();
        return Error::Refused(Refused::of_body(answer.status().as_u16(), body));
    }
    Error::Lost(error.to_string())
}
