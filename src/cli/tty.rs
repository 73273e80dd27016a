//! The operator's own terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::unix::AsyncFd;

use crate::model::Size;

/// Undoes what a program may have set: links, styles, alternate screen, scroll region, mouse, paste, focus and keyboard modes, title.
const RESTORE: &[u8] = b"\x18\x1b]8;;\x1b\\\x1b[0m\x1b(B\x0f\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1004l\
    \x1b[?2004l\x1b[?2026l\x1b[<u\x1b[>4m\x1b[?1l\x1b>\x1b[4l\x1b[?7h\x1b7\x1b[?6l\x1b[r\x1b8\x1b[?1049l\x1b[?25h\x1b[0 q\x1b[23;0t";
/// Makes the terminal like a freshly reset one and clears its screen, but not what has scrolled off it.
pub(super) const FRESH: &[u8] = b"\x18\x1b]8;;\x1b\\\x1b[!p\x1b[0m\x1b[?1049l\x1b[r\x1b[H\x1b[2J";

/// The size of the terminal on stdout, if it is one.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(stdout()).ok()?;
    Size::clamped(size.ws_col.into(), size.ws_row.into())
}

/// The columns of the terminal on stdout, if it is one.
pub(super) fn columns() -> Option<usize> {
    size().map(|size| size.cols().into())
}

/// Whether a person can be asked: they see stderr and type on stdin.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Writes bytes as they are, at once.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// The terminal on stdin, opened anew: its flags are not those of the shell's, and a read that waits can be dropped.
pub(super) struct Keyboard(AsyncFd<File>);

impl Keyboard {
    pub(super) fn open() -> io::Result<Self> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let flags = flags.try_into().map_err(io::Error::other)?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open("/proc/self/fd/0")?;
        // SAFETY: a `File` has one descriptor, open and the same until it is dropped, and it is given away only here.
        unsafe { AsyncFd::register(file) }.map(Self).map_err(|error| error.into_parts().1)
    }

    /// Reads what was typed; 0 when the terminal went away.
    pub(super) async fn read(&self, typed: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|file| file.get_ref().read(typed)) {
                // What Linux says of a terminal that was hung up.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(0),
                Ok(read) => return read,
                Err(_would_block) => {}
            }
        }
    }
}

/// The terminal in raw mode; as it was when this is dropped, whatever the reason.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Switches to raw mode: every key is a byte to read and nothing is echoed. The window's title becomes `title`.
    pub(super) fn enter(title: &str) -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed ahead is kept: it is meant for the program.
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        let entered = Self { before };
        write(format!("\x1b[22;0t\x1b]2;{title}\x07").as_bytes())?;
        Ok(entered)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Both may fail when the terminal is gone; then there is nothing to restore.
        write(RESTORE).unwrap_or_default();
        // What is still unread answers the program or is meant for it, and must not reach the shell.
        tcsetattr(stdin(), OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}
