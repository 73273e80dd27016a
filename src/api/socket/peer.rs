//! The other end of the connection: hearing it, writing to it, and taking leave.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::ws::{CloseFrame, Message, close_code};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio_tungstenite::tungstenite;

/// What the peer did.
pub(super) enum Peer {
    Said(Message),
    /// It can take a frame.
    Ready,
    /// It took all frames.
    Flushed,
    Failed(axum::Error),
    Gone,
}

/// Listens and writes as far as wanted, in changing order so that neither starves the other.
pub(super) fn poll_peer<S>(mut socket: Pin<&mut S>, cx: &mut Context<'_>, wants: [bool; 4]) -> Poll<Peer>
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error>,
{
    let [listening, writing, unflushed, read_first] = wants;
    for reading in [read_first, !read_first] {
        let polled = if reading && listening {
            socket.as_mut().poll_next(cx).map(|said| match said {
                Some(Ok(message)) => Peer::Said(message),
                Some(Err(error)) => Peer::Failed(error),
                None => Peer::Gone,
            })
        } else if !reading && writing {
            socket.as_mut().poll_ready(cx).map(|ready| ready.map_or_else(Peer::Failed, |()| Peer::Ready))
        } else if !reading && unflushed {
            socket.as_mut().poll_flush(cx).map(|done| done.map_or_else(Peer::Failed, |()| Peer::Flushed))
        } else {
            Poll::Pending
        };
        if polled.is_ready() {
            return polled;
        }
    }
    Poll::Pending
}

pub(super) fn close(code: u16, reason: &'static str) -> Option<CloseFrame> {
    Some(CloseFrame { code, reason: reason.into() })
}

/// What to tell a peer that broke the rules; nothing when the connection itself broke.
pub(super) fn close_for(error: axum::Error) -> Option<CloseFrame> {
    match error.into_inner().downcast::<tungstenite::Error>().map(|error| *error) {
        Ok(tungstenite::Error::Capacity(_)) => close(close_code::SIZE, "a frame may have 64 KiB"),
        Ok(tungstenite::Error::Utf8(_)) => close(close_code::INVALID, "text frames are UTF-8"),
        Ok(tungstenite::Error::Protocol(_)) => close(close_code::PROTOCOL, "not a WebSocket frame"),
        Ok(_) | Err(_) => None,
    }
}

pub(super) async fn say_goodbye<S>(socket: &mut S, goodbye: Option<CloseFrame>)
where
    S: Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin,
{
    if goodbye.is_some() && socket.send(Message::Close(goodbye)).await.is_err() {
        return;
    }
    let _ = socket.flush().await;
    // The peer's answer; after a frame that could not be read there is none to be had.
    while let Some(Ok(_)) = socket.next().await {}
}
