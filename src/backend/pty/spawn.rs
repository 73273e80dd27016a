//! Starting a shim on its own.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};
use tokio::process::{Child, Command};

use crate::backend::Scopes;
use crate::backend::scope::SCOPE_DEADLINE;
use crate::config::limits;
use crate::shim::SOCKET;

/// How often it is looked whether a shim in a scope listens.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    let mut command = alone(kas);
    command.arg("shim").arg(dir);
    detached(command.spawn()?)
}

/// As [`spawn`], in a scope of its own where the daemon is a service of systemd. Where that fails, which is said, without one.
///
/// # Errors
///
/// As [`spawn`].
pub async fn spawn_outside(scopes: &Scopes, kas: &Path, dir: &Path) -> io::Result<Detached> {
    let id = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let Some((program, words)) = scopes.before(&format!("kas-task-{id}")) else { return spawn(kas, dir) };
    // systemd-run becomes the command (systemd-run(1), `--scope`), with an INVOCATION_ID that is no business of the shim's.
    let mut command = alone(program);
    command.envs(scopes.env().iter().cloned()).args(words).args(["env", "-i"]).arg(kas).arg("shim").arg(dir);
    let mut child = command.spawn()?;
    match listens(&mut child, dir).await {
        Ok(()) => {
            let shim = detached(child)?;
            scopes.look_at("a task's holder", shim.pid);
            Ok(shim)
        }
        Err(why) => {
            scopes.failed("a task's holder", &why);
            // Before another one is started this one has to be gone; nothing has run yet.
            child.kill().await?;
            spawn(kas, dir)
        }
    }
}

/// Waits until the shim of `dir` listens: then systemd-run is no more and it is the shim.
async fn listens(child: &mut Child, dir: &Path) -> Result<(), String> {
    let socket = dir.join(SOCKET);
    let appears = async {
        while !socket.exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        () = appears => Ok(()),
        ended = child.wait() => Err(match ended {
            Ok(status) => format!("systemd-run ended with {status}"),
            Err(error) => error.to_string(),
        }),
        () = tokio::time::sleep(SCOPE_DEADLINE) => {
            Err(format!("systemd-run did not get there within {} s", SCOPE_DEADLINE.as_secs()))
        }
    }
}

/// A program in a session of its own with nothing of the daemon's.
fn alone(program: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is where a shim is started")]
    let mut command = Command::new(program);
    command.env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: setrlimit and setsid are plain system calls, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            limits::restore()?;
            Ok(rustix::process::setsid().map(drop)?)
        })
    };
    command
}

fn detached(child: Child) -> io::Result<Detached> {
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .ok_or_else(|| io::Error::other("no pid"))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Detached { pid: pid.as_raw_nonzero().get().cast_unsigned(), pidfd, child })
}
