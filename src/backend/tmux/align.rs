//! Ties a pane's bytes from the control stream to offsets, by the marks its shim writes.
//!
//! A mark is cut out of the stream, and the byte after it has exactly the offset it tells. The nonce is the run's secret, so output
//! cannot forge one.

use bytes::Bytes;

use crate::model::Offset;
use crate::terminal::{self, Splitter};

/// What a stretch of the stream turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output of the command, at its offset.
    Output(Offset, Bytes),
    /// A mark was passed: what follows has this offset. `end`: nothing follows.
    Mark {
        /// The offset of the next byte.
        at: Offset,
        /// Whether it was the last mark.
        end: bool,
    },
    /// This many bytes whose offset is not known.
    Unaligned(usize),
}

/// One pane's state.
#[derive(Debug)]
pub struct Aligner {
    splitter: Splitter,
    next: Option<Offset>,
}

impl Aligner {
    /// An aligner that knows no offset until the first mark with this nonce.
    #[must_use]
    pub fn new(nonce: &str) -> Self {
        Self { splitter: Splitter::new(nonce), next: None }
    }

    /// Forgets the offset, as after a pause or on a new control client: the next mark tells it again.
    pub fn lose(&mut self) {
        self.next = None;
        let _of_the_old_stream = self.splitter.finish();
    }

    /// Takes bytes of the pane and says what they are.
    pub fn feed(&mut self, bytes: &Bytes) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let next = &mut self.next;
        self.splitter.feed(bytes, |part| match part {
            terminal::Piece::Mark(mark) => {
                *next = Some(Offset(mark.offset));
                pieces.push(Piece::Mark { at: Offset(mark.offset), end: mark.end });
            }
            terminal::Piece::Bytes(part) => match next {
                Some(at) => {
                    pieces.push(Piece::Output(*at, Bytes::copy_from_slice(part)));
                    *at = at.after(part.len());
                }
                None => pieces.push(Piece::Unaligned(part.len())),
            },
        });
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(nonce: &str, at: u64, end: bool) -> Vec<u8> {
        format!("\x1b]7777;kas;{nonce};{at}{}\x07", if end { ";END" } else { "" }).into_bytes()
    }

    /// Runs of output by offset, marks, and how many bytes had no offset.
    type Joined = (Vec<(u64, Vec<u8>)>, Vec<(u64, bool)>, usize);

    fn joined(pieces: &[Piece]) -> Joined {
        let (mut runs, mut marks, mut lost) = (Vec::<(u64, Vec<u8>)>::new(), Vec::new(), 0);
        for piece in pieces {
            match piece {
                Piece::Output(at, bytes) => match runs.last_mut() {
                    Some((start, run)) if *start + run.len() as u64 == at.0 => run.extend_from_slice(bytes),
                    _ => runs.push((at.0, bytes.to_vec())),
                },
                Piece::Mark { at, end } => marks.push((at.0, *end)),
                Piece::Unaligned(n) => lost += n,
            }
        }
        (runs, marks, lost)
    }

    fn feed_in_chunks(stream: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let mut aligner = Aligner::new("n0nce");
        let mut pieces = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&stream.len()]) {
            let cut = cut.clamp(from, stream.len());
            pieces.extend(aligner.feed(&Bytes::copy_from_slice(&stream[from..cut])));
            from = cut;
        }
        pieces
    }

    #[test]
    fn marks_are_cut_out_wherever_the_stream_is_cut() {
        let mut stream = b"before".to_vec();
        stream.extend(mark("n0nce", 0, false));
        stream.extend(b"hello \x1b[31mred\x1b]0;title\x07");
        stream.extend(mark("n0nce", 23, false));
        stream.extend(b"more\x1b");
        stream.extend(b"[0m");
        stream.extend(mark("n0nce", 31, true));
        let whole = joined(&feed_in_chunks(&stream, &[]));
        assert_eq!(whole.1, [(0, false), (23, false), (31, true)]);
        assert_eq!(whole.2, 6);
        for cut in 0..stream.len() {
            assert_eq!(joined(&feed_in_chunks(&stream, &[cut])), whole, "cut at {cut}");
        }
        let every: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(joined(&feed_in_chunks(&stream, &every)), whole);
    }

    #[test]
    fn a_mark_with_another_nonce_is_output() {
        let mut aligner = Aligner::new("n0nce");
        aligner.feed(&mark("n0nce", 5, false).into());
        let forged = mark("guess", 99, false);
        assert_eq!(joined(&aligner.feed(&forged.clone().into())).0, [(5, forged)]);
    }

    #[test]
    fn after_losing_the_place_only_a_mark_gives_it_back() {
        let mut aligner = Aligner::new("n0nce");
        aligner.feed(&mark("n0nce", 0, false).into());
        aligner.lose();
        assert_eq!(aligner.feed(&Bytes::from_static(b"xyz")), [Piece::Unaligned(3)]);
        let pieces = aligner.feed(&[mark("n0nce", 40, false), b"ok".to_vec()].concat().into());
        assert_eq!(joined(&pieces).0, [(40, b"ok".to_vec())]);
    }

    proptest! {
        #[test]
        fn any_output_between_marks_comes_out_exactly(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
            cuts in prop::collection::vec(0usize..600, 0..12),
        ) {
            let (mut stream, mut truth) = (Vec::<u8>::new(), Vec::<u8>::new());
            for chunk in &chunks {
                stream.extend(mark("n0nce", truth.len() as u64, false));
                stream.extend(chunk);
                truth.extend(chunk);
            }
            stream.extend(mark("n0nce", truth.len() as u64, true));
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (runs, _, lost) = joined(&feed_in_chunks(&stream, &cuts));
            prop_assert_eq!(lost, 0);
            prop_assert_eq!(runs.into_iter().map(|(_, run)| run).collect::<Vec<_>>().concat(), truth);
        }
    }
}
