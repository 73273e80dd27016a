//! Typed bytes on their way to programs, in order, one piece at a time per terminal.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::daemon::{Answer, Code, Refusal, TerminalId};

/// Bytes a connection may have typed that no program has read. More is refused and the client told: a program that does not read
/// must not stop the other terminals of the page.
const WAITING_LIMIT: usize = 256 << 10;
/// What holding a piece costs besides its bytes, and counts for it.
const PIECE: usize = 64;

/// Waiting input of one connection.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    queues: BTreeMap<TerminalId, VecDeque<Bytes>>,
    waiting: usize,
}

impl Inputs {
    /// Takes bytes in. Answers those to deliver now: the first of an idle terminal.
    pub(super) fn push(&mut self, id: TerminalId, bytes: Bytes) -> Answer<Option<Bytes>> {
        if self.waiting + cost(&bytes) > WAITING_LIMIT {
            let message = "the program does not read what is typed; nothing of this frame was delivered";
            return Err(Refusal::new(Code::RateLimited, message).reason("input_full"));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.waiting += cost(&bytes);
        let queue = self.queues.entry(id).or_default();
        queue.push_back(bytes);
        Ok((queue.len() == 1).then(|| queue[0].clone()))
    }

    /// The first piece was delivered or failed. Answers the next.
    pub(super) fn delivered(&mut self, id: TerminalId) -> Option<Bytes> {
        let queue = self.queues.get_mut(&id)?;
        self.waiting -= queue.pop_front().as_ref().map_or(0, cost);
        let next = queue.front().cloned();
        if next.is_none() {
            self.queues.remove(&id);
        }
        next
    }

    /// The program takes no more: what waits for it is forgotten.
    pub(super) fn failed(&mut self, id: TerminalId) {
        let queue = self.queues.remove(&id).unwrap_or_default();
        self.waiting -= queue.iter().map(cost).sum::<usize>();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

fn cost(bytes: &Bytes) -> usize {
    bytes.len() + PIECE
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn pieces_go_in_order_and_have_a_limit() {
        let (a, b) = (TerminalId::Pane(1), TerminalId::Pane(2));
        let bytes = Bytes::from_static;
        let mut inputs = Inputs::default();
        assert_eq!(inputs.push(a, bytes(b"1")), Ok(Some(bytes(b"1"))));
        assert_eq!(inputs.push(a, bytes(b"2")), Ok(None));
        assert_eq!(inputs.push(b, bytes(b"3")), Ok(Some(bytes(b"3"))));
        assert_eq!(inputs.push(b, bytes(b"")), Ok(None));
        assert!(inputs.push(b, Bytes::from(vec![0; WAITING_LIMIT])).is_err());
        assert_eq!(inputs.delivered(a), Some(bytes(b"2")));
        assert_eq!(inputs.delivered(a), None);
        assert_eq!(inputs.delivered(b), None);
        assert!(inputs.is_empty());
        assert!(inputs.push(a, bytes(b"4")).is_ok() && inputs.push(a, bytes(b"5")).is_ok());
        inputs.failed(a);
        assert!(inputs.is_empty());
        assert!(inputs.push(b, Bytes::from(vec![0; WAITING_LIMIT - PIECE])).is_ok());
    }
}
