//! The keys that leave an attached terminal: Ctrl-\ twice.

/// Ctrl-\ as terminals send it: plainly, by modifyOtherKeys, by kitty's keyboard protocol.
const KEY: [&[u8]; 3] = [b"\x1c", b"\x1b[27;5;92~", b"\x1b[92;5u"];
/// What people are told.
pub(super) const TOLD: &str = "Ctrl-\\ Ctrl-\\";

/// Looks for the keys in what is typed.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The first of two was typed; it goes to the program if the second does not come.
    held: Option<&'static [u8]>,
}

/// What to do with what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// Goes to the program.
    pub(super) forward: Vec<u8>,
    /// Whether to leave after that.
    pub(super) detach: bool,
}

impl Keys {
    /// Takes what was typed.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Typed {
        let mut forward = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            let key = KEY.into_iter().find(|key| rest.starts_with(key));
            match (key, self.held.take()) {
                (Some(_), Some(_)) => return Typed { forward, detach: true },
                (Some(key), None) => {
                    self.held = Some(key);
                    rest = &rest[key.len()..];
                }
                (None, held) => {
                    forward.extend_from_slice(held.unwrap_or_default());
                    forward.push(first);
                    rest = after;
                }
            }
        }
        Typed { forward, detach: false }
    }

    /// Whether a first key waits for a second.
    pub(super) const fn is_waiting(&self) -> bool {
        self.held.is_some()
    }

    /// Gives up waiting: the key was meant for the program.
    pub(super) fn give_up(&mut self) -> &'static [u8] {
        self.held.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_row_detach_and_one_goes_through() {
        let check = |chunks: &[&[u8]], forward: &[u8], detach: bool| {
            let mut keys = Keys::default();
            let mut all = Typed { forward: Vec::new(), detach: false };
            for chunk in chunks.iter().take_while(|_| true) {
                let typed = keys.feed(chunk);
                all.forward.extend(typed.forward);
                all.detach |= typed.detach;
            }
            assert_eq!(all, Typed { forward: forward.to_vec(), detach }, "{chunks:?}");
        };
        check(&[b"ls\r"], b"ls\r", false);
        check(&[b"\x1c\x1c"], b"", true);
        check(&[b"a\x1c", b"\x1cb"], b"a", true);
        check(&[b"\x1ca\x1c", b"b"], b"\x1ca\x1cb", false);
        check(&[b"\x1b[92;5u", b"\x1b[92;5u"], b"", true);
        check(&[b"\x1b[27;5;92~x"], b"\x1b[27;5;92~x", false);
        check(&[b"\x1b[A\xff\x00"], b"\x1b[A\xff\x00", false);
    }

    #[test]
    fn a_lone_key_is_given_up() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1c").forward, b"");
        assert!(keys.is_waiting());
        assert_eq!(keys.give_up(), b"\x1c");
        assert!(!keys.is_waiting());
    }
}
