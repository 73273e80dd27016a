//! Who may connect to the control socket.

/// Whether a peer with this effective uid, as the kernel told it on accept, may use the control socket of the daemon
/// running as `own_uid`: the same user alone, and not root either, who has other ways. An unknown peer may not.
#[must_use]
pub fn peer_may_connect(peer_uid: Option<u32>, own_uid: u32) -> bool {
    peer_uid == Some(own_uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user() {
        let table =
            [(Some(1000), 1000, true), (Some(0), 1000, false), (Some(1000), 0, false), (None, 1000, false)];
        for (peer, own, expect) in table {
            assert_eq!(peer_may_connect(peer, own), expect, "{peer:?} {own}");
        }
    }
}
