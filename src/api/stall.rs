//! A peer that takes nothing for too long is gone, and one that says too much is listened to with pauses.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a write may wait for the peer to take anything.
const LIMIT: Duration = Duration::from_secs(60);
/// About how many bytes are read in a window; then nothing is until it is over, and the peer waits with the rest. Whoever sends what is
/// no message yet, such as empty fragments, would otherwise keep a thread busy and be counted by nobody.
const READ_BYTES: usize = 64 << 10;
const READ_WINDOW: Duration = Duration::from_millis(10);

/// A stream whose writes fail when the peer stalls them, and which is read at a pace.
pub(super) struct Stall<I> {
    inner: I,
    limit: Duration,
    /// Runs while a write waits.
    patience: Option<Pin<Box<Sleep>>>,
    /// What may still be read in the window, and when that ends.
    left: usize,
    until: Instant,
    /// Runs while a read waits for the next window.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<I> Stall<I> {
    pub(super) fn new(inner: I) -> Self {
        Self::with(inner, LIMIT)
    }

    fn with(inner: I, limit: Duration) -> Self {
        let until = Instant::now() + READ_WINDOW;
        Self { inner, limit, patience: None, left: READ_BYTES, until, pause: None }
    }

    /// Waits until something may be read.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            let until = self.until;
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let now = Instant::now();
        if now >= self.until {
            (self.left, self.until) = (READ_BYTES, now + READ_WINDOW);
        }
        Poll::Ready(())
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.patience = None;
            return polled;
        }
        let limit = self.limit;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stall<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_window(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stall<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_is_given_up() {
        let (ours, mut theirs) = duplex(16);
        let mut stall = Stall::with(ours, Duration::from_millis(20));
        stall.write_all(&[1; 16]).await.unwrap();
        let waits = tokio::time::timeout(LIMIT, stall.write_all(&[2; 16])).await;
        assert_eq!(waits.expect("an end").unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 16];
        theirs.read_exact(&mut taken).await.unwrap();
        assert_eq!(taken, [1; 16]);
    }

    #[tokio::test]
    async fn much_is_read_with_pauses() {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&[0; 10 * READ_BYTES]).await.unwrap();
        let began = Instant::now();
        let mut stall = Stall::new(ours);
        let mut piece = [0; 4096];
        for _ in 0..10 * READ_BYTES / piece.len() {
            stall.read_exact(&mut piece).await.unwrap();
        }
        assert!(began.elapsed() >= 9 * READ_WINDOW, "{:?}", began.elapsed());
    }
}
