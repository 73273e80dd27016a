//! The few system calls that rustix does not offer: signals, fork, and a process's own command line.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::Pid;

use super::ward::command_line;

/// Signals as a readable descriptor.
#[derive(Debug)]
pub(super) struct Signals(OwnedFd);

/// What a shim is told by signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// A process of the tree ended.
    pub(super) child: bool,
    /// The window's size changed.
    pub(super) window: bool,
    /// Somebody wants the shim to end (SIGTERM).
    pub(super) term: bool,
}

impl Signals {
    /// Blocks every signal from now on, so that none ends or stops the shim, and makes those it wants readable.
    ///
    /// Called before any thread is started, so that all threads block them.
    pub(super) fn take() -> io::Result<Self> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut wanted = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are initialised by sigfillset and sigemptyset before they are used, live on this stack for the whole block, and
        // a null old set is allowed. SIG_DFL for SIGCHLD installs no handler; an inherited "ignore" would take exit codes away.
        let fd = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(wanted.as_mut_ptr());
            for signal in [libc::SIGCHLD, libc::SIGWINCH, libc::SIGTERM] {
                libc::sigaddset(wanted.as_mut_ptr(), signal);
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, wanted.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd just returned this descriptor and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Which signals came since the last call.
    pub(super) fn read(&self) -> Told {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut told = Told::default();
        let mut buffer = [0; 8 * RECORD];
        // It ends with EAGAIN when no signal is left.
        while let Ok(count @ 1..) = rustix::io::read(&self.0, &mut buffer) {
            for record in buffer[..count].chunks_exact(RECORD) {
                let number = u32::from_ne_bytes(record[..4].try_into().expect("four bytes")).cast_signed();
                told.child |= number == libc::SIGCHLD;
                told.window |= number == libc::SIGWINCH;
                told.term |= number == libc::SIGTERM;
            }
        }
        told
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives this process, between fork and exec, the default disposition of every signal and an empty mask.
///
/// By the system call itself: the C library refuses the two numbers that it uses, and these are inherited as "ignored" like any other.
pub(super) fn default_signals() -> io::Result<()> {
    // The kernel's sigaction and sigset of every architecture fit in it, and all zeros mean SIG_DFL, no flags, an empty mask.
    const ZEROS: [u64; 8] = [0; 8];
    const SIGSET_BYTES: usize = 8;
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: both calls only read from ZEROS, which is long enough, and write nowhere; they are plain system calls, allowed between fork
    // and exec. KILL and STOP cannot be set, which changes nothing.
    let masked = unsafe {
        for signal in 1..=64_i32 {
            libc::syscall(libc::SYS_rt_sigaction, signal, ZEROS.as_ptr(), nothing, SIGSET_BYTES);
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, ZEROS.as_ptr(), nothing, SIGSET_BYTES)
    };
    if masked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor above 2 that was inherited. Called first of all, when this process has opened none itself.
pub(super) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet. A kernel without the call (before 5.9) leaves them open, and the
    // command does not get them either way unless whoever started the shim left them without close-on-exec.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
}

/// Makes this process two: the new one gets `None`, the old one the new one's id.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: a shim starts no thread before it calls this, so the new process is a whole copy in which every lock is as free as it was.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid))
}

/// Has the word `shim` of this process's command line read `word` in a list of processes, so that it is not taken for a shim.
pub(super) fn rename_shim(word: &[u8; 4]) {
    let Some((start, text)) = command_line() else { return };
    let Some(at) = memchr::memmem::find(&text, b"\0shim\0") else { return };
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start + at + 1);
    // SAFETY: the kernel says that this process's arguments lie at `start`, writable like all of the initial stack, and they hold `text`, of
    // which the four bytes at `at + 1` are overwritten. No other thread reads them, and no reference to them is alive.
    unsafe { std::ptr::copy_nonoverlapping(word.as_ptr(), place, word.len()) };
}

/// Has the terminal of this master send SIGINT to its foreground, whatever modes it is in. Nothing where the kernel cannot.
pub(super) fn interrupt_foreground(master: &OwnedFd) {
    /// `_IOW('T', 0x36, int)` (ioctl_tty(2)); the signal is the argument itself.
    const TIOCSIG: libc::Ioctl = 0x4004_5436;
    // SAFETY: the descriptor is open, and this request reads and writes no memory of this process.
    unsafe {
        libc::ioctl(master.as_raw_fd(), TIOCSIG, libc::SIGINT);
    }
}

/// Has this process called so in lists of processes.
pub(super) fn set_name(name: &CStr) {
    // SAFETY: the name ends with a NUL and is only read.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

/// Milliseconds of a clock that only goes forward.
pub(super) fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}
