//! Starting a shim on its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, PidfdFlags};
use tokio::process::{Child, Command};

/// A shim that was started, by the process above it, its ward; both outlive the daemon.
#[derive(Debug)]
pub struct Detached {
    /// The ward's process id.
    pub pid: u32,
    /// Readable when it has ended; proves which process it is.
    pub pidfd: OwnedFd,
    /// Dropped without being waited for, it is left alive and reaped in the background (tokio::process).
    child: Child,
}

/// Waits until a shim and its ward have ended; for ever without one, or when the system does not tell.
pub async fn ended(shim: Option<Detached>) {
    let Some(mut shim) = shim else { return std::future::pending().await };
    if shim.child.wait().await.is_err() {
        std::future::pending().await
    }
}

/// Starts `<kas> shim <dir>` in its own session, with nothing of the daemon's: no descriptors, no environment, no directory.
///
/// It is reaped by the runtime this is called in. Must be called within one.
///
/// # Errors
///
/// When the program cannot be started.
pub fn spawn(kas: &Path, dir: &Path) -> io::Result<Detached> {
    #[expect(clippy::disallowed_methods, reason = "this is where a shim is started")]
    let mut command = Command::new(kas);
    command.arg("shim").arg(dir).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: setsid is a plain system call, allowed between fork and exec.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    let child = command.spawn()?;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .ok_or_else(|| io::Error::other("no pid"))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Detached { pid: pid.as_raw_nonzero().get().cast_unsigned(), pidfd, child })
}
