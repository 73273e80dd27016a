//! A peer that talks without end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::sync::watch;

use super::{FakeDesk, connection};
use crate::model::Scope;

/// Says so many things as fast as it is heard, then is gone. It takes what it is told.
struct Talker(usize);

impl Stream for Talker {
    type Item = Result<Message, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let more = self.0.checked_sub(1);
        self.0 = more.unwrap_or(0);
        Poll::Ready(more.map(|_| Ok(Message::Pong(Bytes::new()))))
    }
}

impl Sink<Message> for Talker {
    type Error = axum::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        Poll::Ready(Ok(()))
    }
    fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), axum::Error> {
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn who_talks_without_end_is_heard_a_hundred_times_in_ten_milliseconds() {
    let (desk, _heard) = FakeDesk::new();
    let (_closing, closes) = watch::channel(false);
    let began = tokio::time::Instant::now();
    connection(desk, Scope::Run, Arc::default(), closes).run(Talker(2001)).await;
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}
