//! Typed bytes on their way to programs, in order, one piece at a time per terminal.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::daemon::{Answer, Code, Refusal, TerminalId};

/// Bytes that may wait for one program. More is refused and the client told: a program that does not read must not stop the other terminals of the page.
const TERMINAL_LIMIT: usize = 256 << 10;
/// Bytes that may wait on one connection. More is refused in the same way: a client that types into many programs that do not read pays itself.
const CONNECTION_LIMIT: usize = 4 << 20;
/// What holding a piece costs besides its bytes, and counts for it.
const PIECE: usize = 64;

/// Typed bytes, and the subscription that they were typed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) handle: u32,
    pub(super) bytes: Bytes,
}

/// What waits for one program; the first is being delivered.
#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    waiting: usize,
}

/// Waiting input of one connection.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    queues: BTreeMap<TerminalId, Queue>,
    waiting: usize,
}

impl Inputs {
    /// Takes bytes in. Answers those to deliver now: the first of an idle terminal.
    pub(super) fn push(&mut self, id: TerminalId, piece: Piece) -> Answer<Option<Bytes>> {
        if piece.bytes.is_empty() {
            return Ok(None);
        }
        let cost = cost(&piece);
        let waits = self.queues.get(&id).map_or(0, |queue| queue.waiting);
        if waits + cost > TERMINAL_LIMIT || self.waiting + cost > CONNECTION_LIMIT {
            let message = "the program does not read what is typed; nothing of this frame and of later ones is delivered, until it is \
                           subscribed to again";
            return Err(Refusal::new(Code::RateLimited, message).reason("input_full"));
        }
        self.waiting += cost;
        let queue = self.queues.entry(id).or_default();
        queue.waiting += cost;
        queue.pieces.push_back(piece);
        Ok((queue.pieces.len() == 1).then(|| queue.pieces[0].bytes.clone()))
    }

    /// Bytes typed on the subscription `first` and later ones that wait for a program, the piece that is being delivered among them.
    pub(super) fn waiting(&self, id: TerminalId, first: u32) -> usize {
        let pieces = self.queues.get(&id).into_iter().flat_map(|queue| &queue.pieces);
        pieces.filter(|piece| piece.handle >= first).map(|piece| piece.bytes.len()).sum()
    }

    /// The first piece was delivered. Answers it, and the next bytes.
    pub(super) fn delivered(&mut self, id: TerminalId) -> (Option<Piece>, Option<Bytes>) {
        let Some(queue) = self.queues.get_mut(&id) else { return (None, None) };
        let done = queue.pieces.pop_front();
        let cost = done.as_ref().map_or(0, cost);
        queue.waiting -= cost;
        self.waiting -= cost;
        let next = queue.pieces.front().map(|piece| piece.bytes.clone());
        if next.is_none() {
            self.queues.remove(&id);
        }
        (done, next)
    }

    /// The program takes no more: what waits for it is forgotten.
    pub(super) fn failed(&mut self, id: TerminalId) {
        self.waiting -= self.queues.remove(&id).map_or(0, |queue| queue.waiting);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

fn cost(piece: &Piece) -> usize {
    piece.bytes.len() + PIECE
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn pieces_go_in_order_and_have_a_limit() {
        let (a, b) = (TerminalId::Pane(1), TerminalId::Pane(2));
        let bytes = Bytes::from_static;
        let piece = |it: &'static [u8]| Piece { handle: 1, bytes: bytes(it) };
        let zeros = |len| Piece { handle: 1, bytes: vec![0; len].into() };
        let mut inputs = Inputs::default();
        assert_eq!(inputs.push(a, piece(b"1")), Ok(Some(bytes(b"1"))));
        assert_eq!(inputs.push(a, piece(b"2")), Ok(None));
        assert_eq!(inputs.push(b, piece(b"3")), Ok(Some(bytes(b"3"))));
        assert_eq!(inputs.push(b, piece(b"")), Ok(None));
        assert!(inputs.push(b, zeros(TERMINAL_LIMIT)).is_err());
        let waiting = |id| inputs.waiting(id, 1);
        assert_eq!(
            (waiting(a), waiting(b), waiting(TerminalId::Pane(3)), inputs.waiting(a, 2)),
            (2, 1, 0, 0)
        );
        assert_eq!(inputs.delivered(a), (Some(piece(b"1")), Some(bytes(b"2"))));
        assert_eq!(inputs.delivered(a), (Some(piece(b"2")), None));
        assert_eq!(inputs.delivered(b), (Some(piece(b"3")), None));
        assert!(inputs.is_empty() && inputs.waiting == 0);
        assert!(inputs.push(a, piece(b"4")).is_ok() && inputs.push(a, piece(b"5")).is_ok());
        inputs.failed(a);
        assert!(inputs.is_empty() && inputs.waiting == 0);
        assert!(inputs.push(b, zeros(TERMINAL_LIMIT - PIECE)).is_ok());
    }

    #[test]
    fn a_full_terminal_leaves_room_for_others_up_to_the_connections_limit() {
        let full = || Piece { handle: 1, bytes: vec![0; TERMINAL_LIMIT - PIECE].into() };
        let mut inputs = Inputs::default();
        for pane in 0..16 {
            assert!(inputs.push(TerminalId::Pane(pane), full()).is_ok(), "{pane}");
            assert!(inputs.push(TerminalId::Pane(pane), full()).is_err(), "{pane}");
        }
        assert!(inputs.push(TerminalId::Pane(16), full()).is_err());
        inputs.failed(TerminalId::Pane(3));
        assert!(inputs.push(TerminalId::Pane(16), full()).is_ok());
    }
}
