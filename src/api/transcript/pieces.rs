//! Reading a range of a history, one piece at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::render::Render;
use crate::broker::History;
use crate::model::Offset;

/// Bytes read and rendered at once.
const PIECE: usize = 64 << 10;

/// The bytes of a range, piece by piece.
pub(super) struct Pieces {
    history: Arc<dyn History>,
    at: Offset,
    end: Offset,
}

impl Pieces {
    pub(super) fn new(history: Arc<dyn History>, at: Offset, end: Offset) -> Self {
        Self { history, at, end }
    }

    /// The next bytes and their offset.
    ///
    /// # Errors
    /// They were dropped meanwhile or cannot be read: the answer then breaks off, so nobody takes it for whole.
    async fn next(&mut self) -> io::Result<Option<(Offset, Bytes)>> {
        let room = usize::try_from(self.end.0 - self.at.0).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(None);
        }
        let (history, at) = (Arc::clone(&self.history), self.at);
        let read = tokio::task::spawn_blocking(move || history.read_at(at, room.min(PIECE)));
        let bytes = read.await.map_err(io::Error::other)??;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = at.after(bytes.len());
        Ok(Some((at, bytes)))
    }

    /// All of them in another form.
    pub(super) fn stream<R: Render + Send + 'static>(
        self,
        render: R,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(Some((self, render)), async |state| {
            let Some((mut pieces, mut render)) = state else { return Ok(None) };
            let mut out = Vec::new();
            let Some((at, bytes)) = pieces.next().await? else {
                render.end(&mut out);
                return Ok(Some((Bytes::from(out), None)));
            };
            render.piece(at, &bytes, &mut out);
            Ok(Some((Bytes::from(out), Some((pieces, render)))))
        })
    }
}
