//! The daemon as a process: proven by the kernel before it is signalled.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal, test_kill_process};
use serde_json::json;

use super::super::context::Context;
use super::super::error::Error;
use super::super::output::code;
use crate::client;

/// How long a stopped daemon may take to go.
const STOP_PATIENCE_S: i64 = 60;

/// A running daemon; the descriptor stands for this very process, whatever becomes of the number.
struct Daemon {
    pid: Pid,
    handle: OwnedFd,
}

/// Stops the daemon and waits until it is gone.
pub(super) fn stop(mut context: Context<'_>) -> Result<u8, Error> {
    let paths = &context.paths;
    let found = find(|| listener(&paths.socket))?;
    let found = if found.is_some() { found } else { find(|| Ok(lock_holder(&paths.lock)?))? };
    let Some(daemon) = found else { return not_running(&context) };
    pidfd_send_signal(&daemon.handle, Signal::TERM).map_err(std::io::Error::from)?;
    let timeout = Timespec { tv_sec: STOP_PATIENCE_S, tv_nsec: 0 };
    let mut ended = [PollFd::new(&daemon.handle, PollFlags::IN)];
    let pid = daemon.pid.as_raw_nonzero();
    if poll(&mut ended, Some(&timeout)).map_err(std::io::Error::from)? == 0 {
        return Err(Error::TimedOut(format!("daemon {pid} still runs after {STOP_PATIENCE_S} s")));
    }
    forget(&context.paths.pid_file, daemon.pid)?;
    context.print(&json!({"stopped": true, "pid": pid.get()}), &format!("stopped daemon {pid}"))?;
    Ok(code::OK)
}

/// The process that `who` names, if it still does once that process cannot be mistaken for another any more: its end would have closed
/// the socket and let go of the lock.
fn find(who: impl Fn() -> Result<Option<Pid>, Error>) -> Result<Option<Daemon>, Error> {
    let Some(pid) = who()? else { return Ok(None) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
    Ok((who()? == Some(pid)).then_some(Daemon { pid, handle }))
}

/// The process that holds the daemon's lock: it wrote its id into it. For a daemon whose socket is elsewhere or was removed.
fn lock_holder(path: &Path) -> std::io::Result<Option<Pid>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => Ok(recorded(path)),
        Err(error) => Err(error.into()),
    }
}

/// The process that listens at `socket`, as the kernel names it.
fn listener(socket: &Path) -> Result<Option<Pid>, Error> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(client::Error::Connect { socket: socket.to_owned(), error }.into()),
    };
    let peer = socket_peercred(&stream).map_err(std::io::Error::from)?;
    if peer.uid != getuid() {
        let message = format!("the daemon at {} belongs to user {}", socket.display(), peer.uid.as_raw());
        return Err(Error::NotPermitted { message, reason: "not_ours" });
    }
    Ok(Some(peer.pid))
}

/// Nobody listens. A process that the pid file names may be anything, so it is named and left alone.
fn not_running(context: &Context<'_>) -> Result<u8, Error> {
    let file = &context.paths.pid_file;
    if let Some(pid) = recorded(file) {
        if test_kill_process(pid).is_ok() {
            let (pid, socket) = (pid.as_raw_nonzero(), context.paths.socket.display());
            let message =
                format!("nobody answers at {socket}; process {pid} of {} is left alone", file.display());
            return Err(Error::failed("not_proven", message));
        }
        forget(file, pid)?;
    }
    Err(client::Error::NotRunning { socket: context.paths.socket.clone() }.into())
}

fn recorded(file: &Path) -> Option<Pid> {
    fs::read_to_string(file).ok()?.trim().parse().ok().and_then(Pid::from_raw)
}

/// Writes down the pid of a detached daemon, whole or not at all.
pub(super) fn record(file: &Path, pid: Pid) -> std::io::Result<()> {
    let new = file.with_extension("pid.new");
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(opened, "{}", pid.as_raw_nonzero())?;
    fs::rename(&new, file)
}

/// Removes the pid file if it names this process.
pub(super) fn forget(file: &Path, pid: Pid) -> std::io::Result<()> {
    if recorded(file) != Some(pid) {
        return Ok(());
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::process::getpid;

    use super::*;

    #[test]
    fn finds_the_process_that_listens() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let found = || find(|| listener(&path)).unwrap().map(|daemon| daemon.pid);
        assert_eq!(found(), None);
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(found(), Some(getpid()));
        drop(socket);
        assert_eq!(found(), None);
    }

    #[test]
    fn finds_the_process_that_holds_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let found = || find(|| Ok(lock_holder(&path)?)).unwrap().map(|daemon| daemon.pid);
        assert_eq!(found(), None);
        record(&path, getpid()).unwrap();
        assert_eq!(found(), None, "nobody holds it");
        let held = fs::File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert_eq!(found(), Some(getpid()));
        drop(held);
        assert_eq!(found(), None);
    }

    #[test]
    fn a_pid_file_is_forgotten_only_by_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("daemon.pid");
        record(&file, getpid()).unwrap();
        forget(&file, Pid::from_raw(1).unwrap()).unwrap();
        assert_eq!(recorded(&file), Some(getpid()));
        forget(&file, getpid()).unwrap();
        assert_eq!(recorded(&file), None);
        fs::write(&file, "junk").unwrap();
        assert_eq!(recorded(&file), None);
    }
}
