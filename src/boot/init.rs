//! As the first process of a container: the one above the daemon, which reaps whatever nobody else reaps.
//!
//! The kernel gives every orphan of a PID namespace to its process 1 (pid_namespaces(7)). The daemon cannot reap them: it waits for processes of
//! its own by number, and reaping every child would take their ends away from it. So process 1 becomes two, as with `docker run --init`.

use std::io;
use std::mem::MaybeUninit;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

/// Where this process is the first of its namespace, it stays behind, passes signals on and reaps, and another one goes on with the program: that
/// gets `None`, and the first one the code to exit with when the other has ended. Called before there is a second thread.
///
/// # Errors
/// When there can be no other process.
pub fn as_first_process() -> io::Result<Option<u8>> {
    if getpid() != Pid::INIT {
        return Ok(None);
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises `all` and pthread_sigmask initialises `before`, both on this stack. There is one thread, so the new process is a
    // whole copy of this one.
    let child = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
        libc::fork()
    };
    match child {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: `before` was initialised above, and a null old set is allowed.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
            Ok(None)
        }
        // SAFETY: `all` was initialised above.
        child => Ok(Some(watch(Pid::from_raw(child), unsafe { all.assume_init_ref() }))),
    }
}

/// Until the program ends: its code, or 128 + n for its death by signal n.
fn watch(program: Option<Pid>, all: &libc::sigset_t) -> u8 {
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if Some(pid) == program {
                let by_signal = status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or(by_signal).and_then(|code| u8::try_from(code).ok());
                return code.unwrap_or(u8::MAX);
            }
        }
        let mut number = 0;
        // SAFETY: every signal is blocked, as sigwait(3) wants it, and both pointers are valid while it waits.
        let told = unsafe { libc::sigwait(all, &raw mut number) };
        let signal = Signal::from_named_raw(number).filter(|signal| told == 0 && *signal != Signal::CHILD);
        if let (Some(signal), Some(program)) = (signal, program) {
            // Its number is its own until it is reaped here.
            let _ = kill_process(program, signal);
        }
    }
}
