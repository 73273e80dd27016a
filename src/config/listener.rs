//! Sockets in the file system: one that only its user can connect to, and a connection that waits for nothing.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Connections that wait to be accepted; a further one waits to connect.
const BACKLOG: i32 = 128;

/// Listens at `path`, non-blocking. The socket file has mode 0600 from its first moment, whatever the umask.
///
/// # Errors
/// What the system said; [`io::ErrorKind::AddrInUse`] where something has the name.
pub fn private_listener(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound: there is no moment in which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Connects to `path`, non-blocking, and does not wait for room among the connections that wait to be accepted.
///
/// # Errors
/// What the system said; [`io::ErrorKind::WouldBlock`] where a process listens and so many connections wait that there is no room (unix(7),
/// EAGAIN): it was stopped, or it hangs.
pub fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// Whether a process listens at `path`, be it one that hangs.
#[must_use]
pub fn is_listened_at(path: &Path) -> bool {
    connect_now(path).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_takes_no_name_that_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let _listener = private_listener(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(private_listener(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        connect_now(&path).unwrap();
    }

    #[test]
    fn a_process_that_accepts_nothing_listens_and_makes_no_wait() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        assert!(!is_listened_at(&path));
        let listener = private_listener(&path).unwrap();
        listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match connect_now(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "after {}", waiting.len());
        assert!(is_listened_at(&path));
        drop(listener);
        assert!(!is_listened_at(&path));
    }
}
