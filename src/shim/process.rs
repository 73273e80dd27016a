//! `kas shim DIR`: from an instance directory to a holder that listens at its gate, and its ward.

use std::ffi::OsString;
use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::SOCKET;
use super::holder::Holder;
use super::sys::{self, Signals};
use super::ward;
use super::window::Window;
use crate::config::{limits, private_listener};
use crate::failpoint::{self, Failpoint, hit};
use crate::journal::{ExitRecord, Spec, Writer};
use crate::model::BackendKind;

/// Runs the shim of the instance directory `dir` and returns the code to exit with: the command's own (128+n for a signal).
///
/// Must be called before the process starts threads or opens descriptors.
///
/// # Errors
///
/// When the shim cannot begin: no spec, no journal, no socket. Then the command has not run.
pub fn main(dir: OsString) -> io::Result<u8> {
    sys::close_inherited();
    // Executed by way of a descriptor it would be called by that one's number.
    sys::set_name(c"kas");
    limits::raise_for_shim();
    let signals = Signals::take()?;
    // A window's shim leads its session already, and so does one that was detached.
    let _ = rustix::process::setsid();
    abort_on_panic();
    let named = std::path::absolute(PathBuf::from(dir))?;
    let dir = pin(&named)?;
    std::env::set_current_dir("/")?;
    failpoint::take_over(&named)?;
    hit(Failpoint::ShimBegun);
    let spec = Spec::read(&dir).map_err(io::Error::other)?;
    if spec.backend == BackendKind::Pty && rustix::termios::isatty(rustix::stdio::stdin()) {
        return Err(io::Error::other("this window came too late: its run has none"));
    }
    // Whoever listens first is the instance's one shim, and an instance that has ended does not begin again.
    let listener = listen(&dir)?;
    if dir.join(ExitRecord::FILE).exists() {
        return Err(io::Error::other(format!("{} has ended already", spec.id)));
    }
    hit(Failpoint::ShimListening);
    if let Some(code) = ward::split(&signals)? {
        return Ok(code);
    }
    let now = sys::monotonic_ms();
    let window = match spec.backend {
        BackendKind::Tmux => Window::open(&dir, &spec.nonce.hex(), now)?,
        BackendKind::Pty => None,
    };
    let size = window.as_ref().and_then(Window::size).unwrap_or(spec.size);
    let journal = Writer::create(&dir, &spec, size)?;
    hit(Failpoint::ShimReady);
    Ok(Holder::new(dir, spec, size, journal, signals, listener, window, now).run())
}

/// A panic ends the shim by a signal, so that its ward sees that it did not leave by itself.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// The directory by a path that means this very one as long as the process lives, whatever is put in its place: where a window comes too
/// late, another shim has been given a new directory of the same name.
fn pin(dir: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    Ok(PathBuf::from(format!("/proc/self/fd/{}", dir.into_raw_fd())))
}

/// Listens on the directory's socket. A socket's address holds 107 bytes, which a pinned path never needs.
fn listen(dir: &Path) -> io::Result<OwnedFd> {
    Ok(private_listener(&dir.join(SOCKET))?.into())
}
