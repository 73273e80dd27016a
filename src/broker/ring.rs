//! The newest bytes of a stream, by offset, in at most `cap` bytes of memory.

use std::collections::VecDeque;

use crate::model::Offset;

/// A byte queue that forgets its oldest bytes. Holds `start..end` without a hole.
#[derive(Debug)]
pub(super) struct Ring {
    start: Offset,
    bytes: VecDeque<u8>,
    cap: usize,
}

impl Ring {
    /// An empty ring whose next byte has offset `start`. A `cap` of 0 counts as 1.
    pub(super) fn new(start: Offset, cap: usize) -> Self {
        Self { start, bytes: VecDeque::new(), cap: cap.max(1) }
    }

    /// The offset of the oldest byte held.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The offset after the newest byte.
    pub(super) fn end(&self) -> Offset {
        self.start.after(self.bytes.len())
    }

    /// Forgets everything; the next byte has offset `at`.
    pub(super) fn restart(&mut self, at: Offset) {
        self.bytes.clear();
        self.start = at;
    }

    /// Holds at most `cap` bytes from now on, and gives back the memory beyond. A `cap` of 0 counts as 1.
    pub(super) fn limit(&mut self, cap: usize) {
        if cap == self.cap {
            return;
        }
        self.cap = cap.max(1);
        let excess = self.bytes.len().saturating_sub(self.cap);
        self.bytes.drain(..excess);
        self.bytes.shrink_to(self.cap);
        self.start = self.start.after(excess);
    }

    /// Appends at the end. Above the cap the oldest bytes go: history has them.
    pub(super) fn append(&mut self, new: &[u8]) {
        let end = self.end().after(new.len());
        let kept = &new[new.len().saturating_sub(self.cap)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.cap);
        self.bytes.drain(..excess);
        self.make_room(kept.len());
        self.bytes.extend(kept);
        self.start = Offset(end.0 - self.bytes.len() as u64);
    }

    /// Copies out up to `max` bytes from `from`, which is in `start..=end`.
    pub(super) fn copy(&self, from: Offset, max: usize) -> Vec<u8> {
        let skip = usize::try_from(from.0.saturating_sub(self.start.0)).unwrap_or(usize::MAX);
        let skip = skip.min(self.bytes.len());
        let take = max.min(self.bytes.len() - skip);
        let (head, tail) = self.bytes.as_slices();
        let mut out = Vec::with_capacity(take);
        out.extend_from_slice(&head[skip.min(head.len())..(skip + take).min(head.len())]);
        let rest = take - out.len();
        let at = skip.saturating_sub(head.len());
        out.extend_from_slice(&tail[at..at + rest]);
        out
    }

    /// Grows by doubling, but never beyond the cap.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let wanted = needed.next_power_of_two().min(self.cap);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_bytes_and_their_offsets() {
        let mut ring = Ring::new(Offset(10), 4);
        ring.append(b"abc");
        assert_eq!((ring.start(), ring.end()), (Offset(10), Offset(13)));
        ring.append(b"de");
        assert_eq!((ring.start(), ring.end()), (Offset(11), Offset(15)));
        assert_eq!(ring.copy(Offset(11), 9), b"bcde");
        assert_eq!(ring.copy(Offset(13), 1), b"d");
        assert_eq!(ring.copy(Offset(15), 9), b"");
        ring.append(b"0123456789");
        assert_eq!((ring.start(), ring.copy(ring.start(), 9)), (Offset(21), b"6789".to_vec()));
    }

    #[test]
    fn memory_stays_at_the_cap() {
        let mut ring = Ring::new(Offset(0), 1000);
        for _ in 0..500 {
            ring.append(&[7; 33]);
        }
        assert_eq!(ring.end(), Offset(16_500));
        assert!(ring.bytes.capacity() <= 1000, "{}", ring.bytes.capacity());
    }

    #[test]
    fn a_lower_cap_keeps_the_newest_bytes_and_gives_memory_back() {
        let mut ring = Ring::new(Offset(0), 1000);
        ring.append(&[7; 1000]);
        ring.append(b"end");
        ring.limit(4);
        assert_eq!((ring.start(), ring.copy(ring.start(), 9)), (Offset(999), b"\x07end".to_vec()));
        assert!(ring.bytes.capacity() < 100, "{}", ring.bytes.capacity());
        ring.limit(1000);
        ring.append(&[8; 500]);
        assert_eq!((ring.start(), ring.end()), (Offset(999), Offset(1503)));
    }

    #[test]
    fn copies_across_the_seam() {
        let mut ring = Ring::new(Offset(0), 8);
        for piece in [b"abcdef".as_slice(), b"ghi", b"jk"] {
            ring.append(piece);
        }
        for from in 3..=11_usize {
            for max in 0..=9 {
                let truth = &b"abcdefghijk"[from..(from + max).min(11)];
                assert_eq!(ring.copy(Offset(from as u64), max), truth);
            }
        }
    }
}
