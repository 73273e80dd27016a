//! The control socket: made so that nobody else can reach it, and made anew when somebody removes it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Interval, MissedTickBehavior};

use crate::auth::check_peer;
use crate::config::{self, connect_now, ensure_private_dir, private_listener};

/// How often it is looked whether the socket is still where callers look for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// So many different reasons to refuse a peer are told; a further one is refused without a word.
const MAX_REFUSED: usize = 32;

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory could be somebody else's.
    #[error(transparent)]
    UnsafeDirectory(#[from] config::Error),
    /// Something that is not a socket has the name.
    #[error("{0} is in the way: it is not a socket")]
    InTheWay(PathBuf),
    /// Somebody answers there.
    #[error("another daemon answers at {0}")]
    InUse(PathBuf),
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// What was tried.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Which file it is: device and inode.
type Identity = (u64, u64);

/// A control socket that is listened to.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    identity: Identity,
    look: Interval,
    /// That it could not be made anew was said.
    told: bool,
    /// Why peers were refused, each said already.
    refused: Vec<String>,
}

/// Opens the control socket: a socket file of mode 0600 in a directory of mode 0700 that is ours. A socket nobody answers at is
/// a leftover and replaced.
///
/// # Errors
/// [`ServeError`]; nothing that is not ours is changed or removed.
pub fn bind_control(path: &Path) -> Result<ControlSocket, ServeError> {
    let (listener, identity) = bind(path)?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(ControlSocket { path: path.to_owned(), listener, identity, look, told: false, refused: Vec::new() })
}

impl ControlSocket {
    /// The next connection. May be dropped and called again without losing one.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
                _ = self.look.tick() => self.stay_reachable(),
            }
        }
    }

    /// Whether the process at the other end belongs to this user. What refuses it is said once, however often that process tries.
    pub(super) fn is_own_peer(&mut self, stream: &UnixStream) -> bool {
        let Err(error) = check_peer(stream) else { return true };
        let why = error.to_string();
        if self.refused.len() < MAX_REFUSED && !self.refused.contains(&why) {
            tracing::warn!(%error, "connections to the control socket are refused; this is said once");
            self.refused.push(why);
        }
        false
    }

    /// Makes the socket anew when it was removed. What stands in its place now and is not ours is left alone, and said.
    fn stay_reachable(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|facts| (facts.dev(), facts.ino()));
        if found.is_ok_and(|found| found == self.identity) {
            self.told = false;
            return;
        }
        let socket = self.path.display();
        match bind(&self.path) {
            Ok((listener, identity)) => {
                tracing::warn!(%socket, "the control socket was gone and is there again");
                (self.listener, self.identity, self.told) = (listener, identity, false);
            }
            Err(error) if !self.told => {
                tracing::error!(%socket, %error, "the control socket is gone and cannot be made");
                self.told = true;
            }
            Err(_) => {}
        }
    }
}

fn bind(path: &Path) -> Result<(UnixListener, Identity), ServeError> {
    let io = |error| ServeError::Io { path: path.to_owned(), error };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io(io::ErrorKind::InvalidInput.into()));
    };
    let directory = ensure_private_dir(parent)?;
    // Going by the open directory, nobody can exchange it under us, and a path longer than a socket address does not matter.
    let inside = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    remove_leftover(&inside, path)?;
    let listener = private_listener(&inside).and_then(UnixListener::from_std).map_err(io)?;
    let facts = fs::symlink_metadata(&inside).map_err(io)?;
    Ok((listener, (facts.dev(), facts.ino())))
}

fn remove_leftover(inside: &Path, shown: &Path) -> Result<(), ServeError> {
    let io = |error| ServeError::Io { path: shown.to_owned(), error };
    match fs::symlink_metadata(inside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
        Ok(facts) if !facts.file_type().is_socket() => Err(ServeError::InTheWay(shown.to_owned())),
        Ok(_) => match connect_now(inside) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(inside).map_err(io)
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(io(error)),
            Ok(_) | Err(_) => Err(ServeError::InUse(shown.to_owned())),
        },
    }
}
