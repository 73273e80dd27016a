//! Starting the command: its PTY, its session, its clean state, and the exact reason when it cannot be started.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{Pid, PidfdFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};

use super::label::Label;
use super::sys;
use crate::config::limits;
use crate::failpoint::{Failpoint, hit};
use crate::journal::Spec;
use crate::model::Size;

const SHELL: &str = "/bin/sh";

/// A command that runs.
#[derive(Debug)]
pub(super) struct Spawned {
    /// The inner PTY's master, non-blocking.
    pub(super) master: OwnedFd,
    /// The other side, held while the command lives: a command that closes its terminal is not one that ended.
    pub(super) peer: OwnedFd,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Why a command does not run.
#[derive(Debug)]
pub(super) struct SpawnError {
    pub(super) errno: Option<i32>,
    pub(super) text: String,
}

impl SpawnError {
    fn new(what: impl std::fmt::Display, error: &io::Error) -> Self {
        let (errno, words) = (error.raw_os_error(), error.to_string());
        // The number is beside it.
        let words =
            errno.and_then(|errno| words.strip_suffix(&format!(" (os error {errno})"))).unwrap_or(&words);
        Self { errno, text: format!("{what}: {words}") }
    }
}

/// Runs the spec's command on a new PTY of this size, in the directory that was passed, else in the spec's.
pub(super) fn spawn(spec: &Spec, size: Size, dir: Option<OwnedFd>) -> Result<Spawned, SpawnError> {
    refuse_nul("the command", &spec.command)?;
    for (name, value) in &spec.env {
        refuse_nul("an environment variable", name)?;
        refuse_nul("an environment variable", value)?;
    }
    let (master, peer) = open_pty(size).map_err(|e| SpawnError::new("no terminal could be opened", &e))?;
    enter(&spec.cwd, dir)?;
    let spawned = start(spec, &peer);
    // The shim must not keep the directory busy; `/` is always there.
    let _ = std::env::set_current_dir("/");
    let (pid, pidfd) = spawned?;
    Ok(Spawned { master, peer, pid, pidfd })
}

fn refuse_nul(what: &str, text: &OsStr) -> Result<(), SpawnError> {
    if text.as_bytes().contains(&0) {
        return Err(SpawnError { errno: None, text: format!("{what} contains a NUL byte") });
    }
    Ok(())
}

fn open_pty(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    // By descriptor, not by name: right also where /dev/pts is another mount.
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    set_size(&master, size)?;
    let mut modes = rustix::termios::tcgetattr(&peer)?;
    modes.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&peer, OptionalActions::Now, &modes)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, peer))
}

/// Gives a terminal this size; the kernel sends SIGWINCH when it changes.
pub(super) fn set_size(master: &OwnedFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows(), ws_col: size.cols(), ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// Makes `dir` the shim's own directory, which the command then inherits: exactly the one that was opened, whatever its name means later.
/// Without it, the one at `cwd`, which names a directory without any link: one that is there now was put there since.
fn enter(cwd: &Path, dir: Option<OwnedFd>) -> Result<(), SpawnError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || openat2(CWD, cwd, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let entered = dir.map_or_else(open, Ok).and_then(rustix::process::fchdir);
    entered.map_err(|e| SpawnError::new(format_args!("cannot enter {}", cwd.display()), &e.into()))
}

fn start(spec: &Spec, peer: &OwnedFd) -> Result<(Pid, OwnedFd), SpawnError> {
    let end = |e: io::Error| SpawnError::new(what_failed(&e), &e);
    let stdio = || peer.try_clone().map(Stdio::from).map_err(end);
    #[expect(clippy::disallowed_methods, reason = "this is where the project's command is started")]
    let mut command = Command::new(SHELL);
    command.arg("-c").args(guard(&spec.command)).arg(&spec.command);
    command.env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
    let label = Label::of(&spec.nonce);
    // SAFETY: between fork and exec it only makes system calls (signal, sigprocmask, setsid, setrlimit, ioctl, and kill at an armed failpoint): no
    // allocation, no lock.
    unsafe { command.pre_exec(move || prepare(label)) };
    let child = command.spawn().map_err(end)?;
    let pid = Pid::from_child(&child);
    // It cannot be gone: only the shim reaps it, and not before this.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| end(e.into()))?;
    Ok((pid, pidfd))
}

/// A command that looks like an option must not be taken for one.
fn guard(command: &OsStr) -> Option<&'static str> {
    matches!(command.as_bytes().first(), Some(b'-' | b'+')).then_some("--")
}

/// What the kernel ends first when memory runs out: commands, before what holds and records them (proc_pid_oom_score_adj(5)).
const OOM_SCORE: &[u8] = b"500";

/// Its own session, the PTY as controlling terminal, signals as after boot, and the label of its run.
fn prepare(label: Label) -> io::Result<()> {
    // Without it the command only competes harder for memory; a value that is already higher cannot be lowered by everybody.
    let score =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let _ = score.and_then(|file| rustix::io::write(&file, OOM_SCORE));
    hit(Failpoint::ChildForked);
    sys::default_signals()?;
    limits::restore()?;
    label.take_on();
    rustix::process::setsid()?;
    // SAFETY: descriptor 0 is the PTY here: the standard library put it there before it calls this.
    let terminal = unsafe { BorrowedFd::borrow_raw(0) };
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

fn what_failed(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(libc::E2BIG) {
        "the command and its environment are too large"
    } else {
        "cannot start /bin/sh"
    }
}
