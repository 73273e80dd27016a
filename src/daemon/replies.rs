//! The callers that wait for an answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::input::{Reply, ReplyId};
use super::refusal::Refusal;

type Waiting = HashMap<ReplyId, oneshot::Sender<Result<Reply, Refusal>>>;

/// The callers that wait. As many as there are requests, which the API caps; one that left is forgotten when the next one comes.
#[derive(Debug, Default)]
pub(super) struct Replies {
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Replies {
    /// A new caller: its id for the input, and where the answer will come.
    pub(super) fn expect(&self) -> (ReplyId, oneshot::Receiver<Result<Reply, Refusal>>) {
        let id = ReplyId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.locked();
        waiting.retain(|_, sender| !sender.is_closed());
        waiting.insert(id, sender);
        drop(waiting);
        (id, receiver)
    }

    /// Tells a caller; one that left meanwhile is forgotten.
    pub(super) fn answer(&self, id: ReplyId, answer: Result<Reply, Refusal>) {
        let sender = self.locked().remove(&id);
        if sender.is_some_and(|sender| sender.send(answer).is_err()) {
            tracing::debug!(?id, "the caller left before its answer came");
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_left_is_forgotten() {
        let replies = Replies::default();
        let (_stays, waits) = replies.expect();
        for _ in 0..1000 {
            drop(replies.expect());
        }
        let (last, _waits) = replies.expect();
        assert_eq!(replies.locked().len(), 2);
        replies.answer(last, Ok(Reply::Done));
        assert_eq!(replies.locked().len(), 1);
        drop(waits);
    }
}
