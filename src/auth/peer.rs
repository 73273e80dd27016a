//! Who may be at the other end of a socket in the file system: the same user, on both sides.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use crate::config::is_unmapped;

/// The other end of a connected socket, as the kernel noted it when that end connected or began to listen (unix(7), `SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCred {
    /// Its process; `None` where that has no number in this PID namespace (pid_namespaces(7)), as one in another container. So a pid proves
    /// nothing: it only leads to a process of which more is to be proved.
    pub pid: Option<u32>,
    /// Its effective user, as this user namespace numbers it.
    pub uid: u32,
}

/// Asks the kernel for the other end of a connected socket.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_cred(socket: impl AsFd) -> io::Result<PeerCred> {
    // rustix cannot say that there is no pid: its type holds none that is 0.
    let mut told = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes into `told`, which has as many.
    let failed = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut told).cast(), &raw mut length)
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerCred { pid: u32::try_from(told.pid).ok().filter(|pid| *pid != 0), uid: told.uid })
}

/// Makes sure that the other end of a connected socket is this user's: of an accepted connection the end that connected, of one's own connection
/// the end that listens. The user decides and not the process, which may be in another PID namespace. Root is another user: root has other
/// ways.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`], naming the user; also where users from outside of this user namespace have one number for all of them,
/// so that this user is not told from others.
pub fn check_peer(socket: impl AsFd) -> io::Result<()> {
    judge(peer_cred(socket)?.uid, rustix::process::geteuid().as_raw(), is_unmapped)
}

fn judge(peer: u32, own: u32, unmapped: impl Fn(u32) -> bool) -> io::Result<()> {
    let denied = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if unmapped(peer) {
        return denied(format!(
            "the other end belongs to a user that this user namespace does not map (user {peer} stands for all of those), so it cannot be \
            told from a stranger; map your own user into the sandbox, or work outside of it"
        ));
    }
    if peer == own {
        return Ok(());
    }
    denied(format!("the other end belongs to user {peer}, and this is user {own}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_the_same_user() {
        for (peer, own, expect) in [(1000, 1000, true), (0, 1000, false), (1000, 0, false)] {
            assert_eq!(judge(peer, own, |_| false).is_ok(), expect, "{peer} {own}");
        }
    }

    #[test]
    fn the_kernel_names_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = PeerCred { pid: Some(std::process::id()), uid: rustix::process::geteuid().as_raw() };
        assert_eq!(peer_cred(&one).unwrap(), own);
        check_peer(&one).unwrap();
        assert!(peer_cred(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_number_that_many_users_share_is_nobodys() {
        let check = |peer: u32, own: u32, unmapped: bool| {
            judge(peer, own, |uid| unmapped && uid == 65534).map_err(|error| error.to_string())
        };
        assert_eq!(check(1000, 1000, true), Ok(()));
        assert_eq!(check(65534, 65534, false), Ok(()), "nobody is a user like others where it is mapped");
        for own in [65534, 1000] {
            assert!(check(65534, own, true).unwrap_err().contains("does not map"));
        }
        assert!(check(65534, 1000, false).unwrap_err().contains("belongs to user 65534"));
    }
}
