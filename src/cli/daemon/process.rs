//! The daemon as a process: proven by the kernel before it is signalled.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use serde_json::json;

use super::super::context::Context;
use super::super::dispatch::run_beside;
use super::super::error::Error;
use super::super::output::code;
use crate::auth::{check_peer, peer_cred};
use crate::client;
use crate::config::connect_now;

/// How often it is looked at a daemon that was told to end, for a minute in all.
const LOOK_EVERY_NS: i64 = 250_000_000;
const STOP_LOOKS: u32 = 240;
/// So many looks in a row say that it was halted meanwhile.
const HALTED_LOOKS: u32 = 4;

/// A running daemon; the descriptor stands for this very process, whatever becomes of the number.
struct Daemon {
    pid: Pid,
    handle: OwnedFd,
}

/// Stops the daemon and waits until it is gone.
pub(super) fn stop(mut context: Context<'_>) -> Result<u8, Error> {
    let paths = &context.paths;
    let found = match find(|| listener(&paths.socket)) {
        // What takes no connection is named by its lock.
        Err(Error::Client(client::Error::Hangs { socket, .. })) => {
            let pid = find(|| lock_holder(&paths.lock)).ok().flatten().map(|it| it.pid);
            let pid = pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
            return Err(client::Error::Hangs { socket, pid }.into());
        }
        found => found?,
    };
    let found = if found.is_some() { found } else { find(|| lock_holder(&paths.lock))? };
    let Some(daemon) = found else { return not_running(&context) };
    answers(&context, &daemon)?;
    pidfd_send_signal(&daemon.handle, Signal::TERM).map_err(std::io::Error::from)?;
    until_ended(&context, &daemon)?;
    let pid = daemon.pid.as_raw_nonzero();
    forget(&context.paths.pid_file, daemon.pid)?;
    context.print(&json!({"stopped": true, "pid": pid.get()}), &format!("stopped daemon {pid}"))?;
    Ok(code::OK)
}

/// Makes sure that the daemon can hear a signal: one that was stopped would end as soon as it is woken, unexpected by the operator who wakes it.
fn answers(context: &Context<'_>, daemon: &Daemon) -> Result<(), Error> {
    let client = &context.client;
    match run_beside(client, async { Ok(client.get("/v1/ping").await?) }) {
        Err(error @ Error::Client(client::Error::Hangs { .. })) => Err(error),
        // One without a socket, or that refuses, is signalled all the same.
        _ if is_halted(daemon.pid) => Err(hangs(context, daemon)),
        _ => Ok(()),
    }
}

/// Waits for the daemon's end, but for none of a daemon that was stopped meanwhile.
fn until_ended(context: &Context<'_>, daemon: &Daemon) -> Result<(), Error> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_NS };
    let mut halted = 0;
    for _ in 0..STOP_LOOKS {
        let mut ended = [PollFd::new(&daemon.handle, PollFlags::IN)];
        if poll(&mut ended, Some(&timeout)).map_err(std::io::Error::from)? != 0 {
            return Ok(());
        }
        halted = if is_halted(daemon.pid) { halted + 1 } else { 0 };
        if halted == HALTED_LOOKS {
            return Err(hangs(context, daemon));
        }
    }
    let pid = daemon.pid.as_raw_nonzero();
    Err(Error::TimedOut(format!(
        "daemon {pid} still runs after a minute; `kill -KILL {pid}` ends it, and the next daemon takes its runs over"
    )))
}

fn hangs(context: &Context<'_>, daemon: &Daemon) -> Error {
    let pid = daemon.pid.as_raw_nonzero().get().unsigned_abs();
    client::Error::Hangs { socket: context.paths.socket.clone(), pid: Some(pid) }.into()
}

/// Whether a signal or a debugger halts the process (proc_pid_stat(5)).
fn is_halted(pid: Pid) -> bool {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| matches!(state, 'T' | 't'))
}

/// The process that `named` names, if it still does once that process cannot be mistaken for another any more: its end would have closed
/// the socket and let go of the lock.
fn find(named: impl Fn() -> Result<Option<Pid>, Error>) -> Result<Option<Daemon>, Error> {
    let Some(pid) = named()? else { return Ok(None) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
    Ok((named()? == Some(pid)).then_some(Daemon { pid, handle }))
}

/// The process that holds the daemon's lock: it wrote its id into it. For a daemon whose socket is elsewhere or was removed. The id counts in
/// the PID namespace of the process that wrote it, so here it may be the number of any other: the holder has the file open.
fn lock_holder(path: &Path) -> Result<Option<Pid>, Error> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(Errno::WOULDBLOCK) => {}
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    match recorded(path) {
        Some(pid) if has_open(pid, &file.metadata()?) => Ok(Some(pid)),
        _ => Err(elsewhere(&format!("that holds {}", path.display()))),
    }
}

/// Whether a process has this file open.
fn has_open(pid: Pid, file: &fs::Metadata) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let same = |it: fs::Metadata| (it.dev(), it.ino()) == (file.dev(), file.ino());
    descriptors.is_ok_and(|all| all.flatten().any(|it| fs::metadata(it.path()).is_ok_and(same)))
}

/// There is a daemon, and no process here is proved to be it.
fn elsewhere(which: &str) -> Error {
    let message = format!(
        "the daemon {which} runs in another PID namespace (one of you is in a container or a sandbox), so it cannot be signalled from \
        here; run `kas daemon stop` where it was started"
    );
    Error::failed("other_pid_namespace", message)
}

/// The process that listens at `socket`, as the kernel names it. Where so many connections wait that none is taken in, it hangs.
fn listener(socket: &Path) -> Result<Option<Pid>, Error> {
    let stream = match connect_now(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(client::Error::Hangs { socket: socket.to_owned(), pid: None }.into());
        }
        Err(error) => return Err(client::Error::Connect { socket: socket.to_owned(), error }.into()),
    };
    check_peer(&stream).map_err(|error| client::Error::Connect { socket: socket.to_owned(), error })?;
    let pid = peer_cred(&stream)?.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    pid.map(Some).ok_or_else(|| elsewhere(&format!("at {}", socket.display())))
}

/// No process listens. A process that the pid file names may be anything, so it is named and left alone.
fn not_running(context: &Context<'_>) -> Result<u8, Error> {
    let file = &context.paths.pid_file;
    if let Some(pid) = recorded(file) {
        if test_kill_process(pid).is_ok() {
            let (pid, socket) = (pid.as_raw_nonzero(), context.paths.socket.display());
            let message =
                format!("no daemon answers at {socket}; process {pid} of {} is left alone", file.display());
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
    fn does_not_wait_for_a_process_that_takes_no_connections() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _waiting: Vec<_> = std::iter::from_fn(|| connect_now(&path).ok()).collect();
        let error = listener(&path).unwrap_err();
        assert!(matches!(error, Error::Client(client::Error::Hangs { .. })), "{error:?}");
    }

    #[test]
    fn finds_the_process_that_holds_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let found = || find(|| lock_holder(&path)).map(|daemon| daemon.map(|it| it.pid));
        assert_eq!(found().unwrap(), None);
        record(&path, getpid()).unwrap();
        assert_eq!(found().unwrap(), None, "no process holds it");
        let held = fs::File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert_eq!(found().unwrap(), Some(getpid()));
        fs::write(&path, "1\n").unwrap();
        let error = found().unwrap_err().to_string();
        assert!(
            error.contains("another PID namespace"),
            "the number of a process that does not hold it: {error}"
        );
        drop(held);
        assert_eq!(found().unwrap(), None);
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
