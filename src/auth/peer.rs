//! Who may be at the other end of a socket in the file system: the same user, on both sides.

use std::io;
use std::os::fd::AsFd;

/// Whether a peer with this effective uid, as the kernel told it on accept, may use the control socket of the daemon
/// running as `own_uid`: the same user alone, and not root either, who has other ways. An unknown peer may not.
#[must_use]
pub fn peer_may_connect(peer_uid: Option<u32>, own_uid: u32) -> bool {
    peer_uid == Some(own_uid)
}

/// Makes sure that the other end of a connected socket is this user's: of an accepted connection whoever connected, of one's own connection
/// whoever listens there (unix(7), `SO_PEERCRED`).
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`], naming the user.
pub fn check_peer(socket: impl AsFd) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw();
    if peer_may_connect(Some(peer), rustix::process::geteuid().as_raw()) {
        return Ok(());
    }
    let why = format!("the other end belongs to user {peer}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
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
