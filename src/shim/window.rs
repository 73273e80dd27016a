//! The shim's own terminal, a window's: the command's bytes go there, with marks between them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::termios::OptionalActions;

use super::supply::{Next, Piece};
use crate::journal::Reader;
use crate::model::Size;
use crate::terminal::{Mark, Scanner};

/// So many bytes at most go to the window in one turn of the loop, so that everybody gets a turn.
const TURN: u64 = 256 * 1024;

/// A window's terminal.
#[derive(Debug)]
pub(super) struct Window {
    tty: OwnedFd,
    nonce: String,
    /// The offset of the next byte for it.
    at: u64,
    /// Where in a sequence the bytes written so far end.
    scanner: Scanner,
    reader: Reader,
    mark_wanted: bool,
    /// A mark that is being written, and how much of it is.
    mark: Vec<u8>,
    mark_at: usize,
    end_marked: bool,
    moved_at: u64,
}

impl Window {
    /// The window whose terminal is standard input; `None` when that is no terminal.
    pub(super) fn open(dir: &Path, nonce: &str, now: u64) -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !rustix::termios::isatty(stdin) {
            return Ok(None);
        }
        // Opened anew, so that non-blocking concerns nobody else who has this terminal.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let tty = rustix::fs::open("/proc/self/fd/0", flags, Mode::empty())?;
        let mut modes = rustix::termios::tcgetattr(&tty)?;
        modes.make_raw();
        rustix::termios::tcsetattr(&tty, OptionalActions::Now, &modes)?;
        Ok(Some(Self {
            tty,
            nonce: nonce.to_owned(),
            at: 0,
            scanner: Scanner::new(),
            reader: Reader::new(dir),
            mark_wanted: true,
            mark: Vec::with_capacity(Mark::MAX_LEN),
            mark_at: 0,
            end_marked: false,
            moved_at: now,
        }))
    }

    /// Its size; `None` when it has none.
    pub(super) fn size(&self) -> Option<Size> {
        let size = rustix::termios::tcgetwinsize(&self.tty).ok()?;
        Size::clamped(size.ws_col.into(), size.ws_row.into())
    }

    /// Has a mark written at the next place where the stream may be cut.
    pub(super) const fn want_mark(&mut self) {
        self.mark_wanted = true;
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    pub(super) const fn moved_at(&self) -> u64 {
        self.moved_at
    }

    /// Whether everything went out, the end mark too.
    pub(super) const fn is_done(&self) -> bool {
        self.end_marked && self.mark_at == self.mark.len()
    }

    /// What to wait for, when the output so far has `total` bytes.
    pub(super) fn interest(&self, total: u64, ended: bool, typing: bool) -> PollFlags {
        let mark_possible = self.mark_wanted && self.scanner.is_ground();
        let pending =
            self.at < total || self.mark_at < self.mark.len() || mark_possible || ended && !self.end_marked;
        let output = if pending { PollFlags::OUT } else { PollFlags::empty() };
        if typing { output | PollFlags::IN } else { output }
    }

    /// What the operator types, and what tmux answers to the command's questions.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.tty, buffer)?)
    }

    /// Writes what the terminal takes now. An error other than "would block" means that the window is gone.
    pub(super) fn pump(&mut self, piece: &mut Piece, total: u64, ended: bool, now: u64) -> io::Result<()> {
        let stop_at = self.at + TURN;
        while self.at < stop_at {
            if self.mark_at < self.mark.len() {
                let written = rustix::io::write(&self.tty, &self.mark[self.mark_at..])?;
                self.mark_at += written;
                self.moved_at = now;
            } else if self.mark_wanted && self.scanner.is_ground() {
                self.compose(false, false);
            } else if self.at < total {
                self.pump_bytes(piece, total, now)?;
            } else if ended && !self.end_marked {
                self.compose(true, !self.scanner.is_ground());
            } else {
                break;
            }
        }
        Ok(())
    }

    fn pump_bytes(&mut self, piece: &mut Piece, total: u64, now: u64) -> io::Result<()> {
        match piece.next(&mut self.reader, self.at, total) {
            Next::Gap(to) => {
                self.at = to;
                self.compose(false, true);
            }
            Next::Bytes(bytes) => {
                let mut ahead = self.scanner;
                let ground = if self.mark_wanted { ahead.feed_until_ground(bytes) } else { None };
                let written = rustix::io::write(&self.tty, &bytes[..ground.unwrap_or(bytes.len())])?;
                self.scanner.feed(&bytes[..written]);
                self.at += written as u64;
                self.moved_at = now;
            }
        }
        Ok(())
    }

    /// Puts a mark for the current offset in front of what comes next.
    fn compose(&mut self, end: bool, unfinished: bool) {
        self.mark.clear();
        Mark { offset: self.at, end }.write(&self.nonce, unfinished, &mut self.mark);
        self.mark_at = 0;
        self.mark_wanted = false;
        self.end_marked = end;
        self.scanner = Scanner::new();
    }
}

impl AsFd for Window {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tty.as_fd()
    }
}
