//! The shim's state and its loop.

mod asked;
mod ending;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::answers::Answers;
use super::input::{Input, Source};
use super::peer::Peer;
use super::supply::Piece;
use super::sys::{self, Signals};
use super::tree::Stop;
use super::window::Window;
use crate::auth::check_peer;
use crate::failpoint::{Failpoint, hit};
use crate::journal::{Ending, ExitRecord, Spec, Writer};
use crate::model::{Exit, Size, TimeMs};

/// Clients at a time; a further one takes the place of one that has not said hello, or is refused.
const MAX_PEERS: usize = 8;
/// Output that a sink may lag behind before it slows the command, in bytes: it then takes two for each that the command writes, and so
/// catches up. A command slower than that is not held up at all, however much there is to catch up with.
const LAG: u64 = 4 * 1024 * 1024;
/// A sink that has not moved for so many milliseconds slows nobody.
const LIVING_MS: u64 = 100;

/// Where a run is.
#[derive(Debug)]
enum Stage {
    /// At the gate, since then.
    Waiting {
        since: u64,
    },
    Running,
    /// The command ended; its terminal is read empty.
    Draining {
        ending: Ending,
        since: u64,
        heard_at: u64,
    },
    /// The record is made (on disk once `stored`).
    Ended {
        record: Box<ExitRecord>,
        stored: bool,
        since: u64,
        retry_at: u64,
    },
}

/// A running command's ends.
#[derive(Debug)]
struct Inner {
    /// `None` once it is read empty after the end.
    master: Option<OwnedFd>,
    /// Held while the command lives.
    peer: Option<OwnedFd>,
    pid: Pid,
    pidfd: OwnedFd,
}

/// The shim.
#[derive(Debug)]
pub(super) struct Holder {
    dir: PathBuf,
    spec: Spec,
    size: Size,
    stage: Stage,
    journal: Writer,
    piece: Piece,
    answers: Answers,
    inner: Option<Inner>,
    input: Input,
    window: Option<Window>,
    window_closed: bool,
    signals: Signals,
    listener: OwnedFd,
    peers: Vec<Peer>,
    next_peer: u64,
    stop: Option<Stop>,
    stop_asked: bool,
    acknowledged: bool,
    leave: bool,
    started_at: TimeMs,
    now: u64,
    /// What may be read of the command's output while a sink catches up, in bytes.
    credit: i64,
}

/// Which descriptor of a turn is which; clients follow.
const SIGNALS: usize = 0;
const LISTENER: usize = 1;
const MASTER: usize = 2;
const WINDOW: usize = 3;
const PEERS: usize = 4;
const MAX_FDS: usize = PEERS + MAX_PEERS;

impl Holder {
    #[expect(clippy::too_many_arguments, reason = "the parts that main makes, once")]
    pub(super) fn new(
        dir: PathBuf,
        spec: Spec,
        size: Size,
        journal: Writer,
        signals: Signals,
        listener: OwnedFd,
        window: Option<Window>,
        now: u64,
    ) -> Self {
        Self {
            answers: Answers::new(&dir, window.is_some()),
            dir,
            spec,
            size,
            stage: Stage::Waiting { since: now },
            journal,
            piece: Piece::new(),
            inner: None,
            input: Input::default(),
            window,
            window_closed: false,
            signals,
            listener,
            peers: Vec::with_capacity(MAX_PEERS),
            next_peer: 0,
            stop: None,
            stop_asked: false,
            acknowledged: false,
            leave: false,
            started_at: TimeMs::now(),
            now,
            credit: 0,
        }
    }

    /// Runs until everything is said and done; returns the code to exit with.
    pub(super) fn run(mut self) -> u8 {
        while !self.leave {
            let ready = self.wait();
            self.now = sys::monotonic_ms();
            self.on_signals(ready[SIGNALS]);
            self.on_master(ready[MASTER]);
            self.on_window(ready[WINDOW]);
            self.on_peers(&ready[PEERS..]);
            self.on_listener(ready[LISTENER]);
            self.pump();
            self.advance();
        }
        self.code()
    }

    fn code(&self) -> u8 {
        match &self.stage {
            Stage::Ended { record, .. } => match record.ending {
                Ending::Exited(exit) => u8::try_from(exit.code()).unwrap_or(u8::MAX),
                Ending::SpawnFailed { .. } => 127,
                Ending::NeverStarted => 1,
            },
            Stage::Waiting { .. } | Stage::Running | Stage::Draining { .. } => 1,
        }
    }

    const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// Waits for something to do.
    fn wait(&self) -> [PollFlags; MAX_FDS] {
        let total = self.journal.total();
        let none = PollFlags::empty();
        let mut fds: [PollFd<'_>; MAX_FDS] = std::array::from_fn(|_| PollFd::new(&self.signals, none));
        fds[SIGNALS] = PollFd::new(&self.signals, PollFlags::IN);
        fds[LISTENER] = PollFd::new(&self.listener, PollFlags::IN);
        if let Some(master) = self.inner.as_ref().and_then(|inner| inner.master.as_ref()) {
            let read = if self.may_read() { PollFlags::IN } else { none };
            let write = if self.input.is_empty() { none } else { PollFlags::OUT };
            fds[MASTER] = PollFd::new(master, read | write);
        }
        if let Some(window) = &self.window {
            let typing = self.input.takes_typing() && matches!(self.stage, Stage::Running);
            fds[WINDOW] = PollFd::new(window, window.interest(total, self.ended(), typing));
        }
        for (fd, peer) in fds[PEERS..].iter_mut().zip(&self.peers) {
            *fd = PollFd::new(peer, peer.interest(total));
        }
        let timeout = self.wake_at().map(|at| {
            let ms = at.saturating_sub(self.now).cast_signed();
            Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds.map(|fd| fd.revents()),
            // Only a lack of kernel memory: nothing is ready, and the next turn tries again.
            Err(_) => [none; MAX_FDS],
        }
    }

    /// When something is due though nothing happens.
    fn wake_at(&self) -> Option<u64> {
        let stop = self.stop.as_ref().map(Stop::wake_at);
        let living =
            self.laggards().map(|(_, moved_at)| moved_at + LIVING_MS).filter(|&at| at > self.now).min();
        [self.stage_due(), stop, living].into_iter().flatten().min().map(|at| at.max(self.now + 1))
    }

    /// Where each sink is that lags too far behind, and when it moved last.
    fn laggards(&self) -> impl Iterator<Item = (u64, u64)> {
        let total = self.journal.total();
        let window = self.window.iter().map(|w| (w.at(), w.moved_at()));
        let peers = self.peers.iter().filter_map(|p| Some((p.at()?, p.moved_at())));
        window.chain(peers).filter(move |(at, _)| total.saturating_sub(*at) > LAG)
    }

    /// Where the last of those is that still move.
    fn last(&self) -> Option<u64> {
        let living = self.laggards().filter(|(_, moved_at)| self.now - moved_at < LIVING_MS);
        living.map(|(at, _)| at).min()
    }

    /// Whether the command's output may be read: no faster than lets a living sink catch up. After its end, always.
    fn may_read(&self) -> bool {
        self.credit > 0 || self.last().is_none() || !matches!(self.stage, Stage::Running)
    }

    // ---- what is ready

    fn on_signals(&mut self, ready: PollFlags) {
        if ready.is_empty() {
            return;
        }
        let told = self.signals.read();
        if told.child {
            self.reap();
        }
        if told.window
            && let Some(size) = self.window.as_ref().and_then(Window::size)
        {
            self.resize(size);
        }
        if told.term {
            // A second one, or one after the end, sends the shim away from a window that it keeps.
            self.leave |= self.ended() && self.stop.is_none();
            self.stop(false);
        }
    }

    /// Reaps every child that ended; the command's own end begins the end of the run.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let is_command = self.inner.as_ref().is_some_and(|inner| inner.pid == pid);
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).map(Exit::Code);
            let signal = status.terminating_signal().and_then(|n| u8::try_from(n).ok()).map(Exit::Signal);
            if let Some(exit) = code.or(signal)
                && is_command
                && matches!(self.stage, Stage::Running)
            {
                hit(Failpoint::ExitSeen);
                self.drain(Ending::Exited(exit));
            }
        }
        if let Some(stop) = &mut self.stop {
            stop.look_now();
        }
    }

    fn drain(&mut self, ending: Ending) {
        if let Some(inner) = &mut self.inner {
            inner.peer = None;
        }
        self.stage = Stage::Draining { ending, since: self.now, heard_at: self.now };
    }

    fn on_listener(&mut self, ready: PollFlags) {
        if ready.is_empty() {
            return;
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            if check_peer(&socket).is_ok() && self.make_room() {
                self.peers.push(Peer::new(self.next_peer, socket, &self.dir, self.now));
                self.next_peer += 1;
            }
        }
    }

    fn make_room(&mut self) -> bool {
        if self.peers.len() == MAX_PEERS
            && let Some(stranger) = self.peers.iter().position(|p| !p.greeted)
        {
            self.peers.remove(stranger);
        }
        self.peers.len() < MAX_PEERS
    }

    fn on_master(&mut self, ready: PollFlags) {
        let read = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if ready.intersects(read) && self.may_read() {
            self.read_master();
        }
    }

    /// Reads what the command wrote into the journal.
    fn read_master(&mut self) {
        let Some(master) = self.inner.as_ref().and_then(|inner| inner.master.as_ref()) else { return };
        let end = self.piece.fill(self.journal.total(), |buffer| Ok(rustix::io::read(master, buffer)?));
        if !self.piece.bytes().is_empty() {
            self.journal.append(self.piece.bytes(), TimeMs::now());
            self.answer();
        }
        let heard = !self.piece.bytes().is_empty();
        self.credit -= self.piece.bytes().len().cast_signed() as i64;
        let over = end.is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock);
        if let Stage::Draining { heard_at, since, .. } = &mut self.stage {
            if heard {
                *heard_at = self.now;
            }
            // EIO: nobody holds the terminal any more, and everything was read.
            if over {
                *since = 0;
            }
        }
    }

    /// Answers what the command just asked. A command that asks and does not read is answered no more while the answers wait.
    fn answer(&mut self) {
        if !matches!(self.stage, Stage::Running) {
            return;
        }
        let answers = self.answers.to(&mut self.piece, self.journal.total(), self.size);
        if !answers.is_empty() && self.input.takes_typing() {
            self.input.push(Source::Window, answers.into());
        }
    }

    fn on_window(&mut self, ready: PollFlags) {
        let Some(window) = &self.window else { return };
        let mut gone = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if ready.contains(PollFlags::IN) {
            let mut buffer = [0; 4096];
            match window.read(&mut buffer) {
                Ok(0) => gone = true,
                Ok(count) => {
                    let typed = self.answers.strip(&buffer[..count], count == buffer.len());
                    self.input.push(Source::Window, typed.into());
                }
                Err(e) => gone |= e.kind() != io::ErrorKind::WouldBlock,
            }
        }
        if gone {
            self.lose_window();
        }
    }

    /// The window was closed: what was in it is ended as a closing terminal ends it, and for certain.
    fn lose_window(&mut self) {
        self.window = None;
        self.window_closed = true;
        match self.stage {
            Stage::Waiting { .. } => self.end(Ending::NeverStarted),
            Stage::Running | Stage::Draining { .. } => {
                self.signal(Signal::HUP);
                self.stop.get_or_insert_with(|| Stop::closed(self.now));
            }
            Stage::Ended { .. } => {}
        }
    }

    fn on_peers(&mut self, ready: &[PollFlags]) {
        let asking = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        // By id: what one client asks may disconnect another.
        let ids: Vec<u64> =
            self.peers.iter().zip(ready).filter(|(_, r)| r.intersects(asking)).map(|(p, _)| p.id).collect();
        for id in ids {
            if self.serve(id).is_err() {
                self.peers.retain(|p| p.id != id);
            }
        }
    }

    /// Reads and does what a client asks. An error ends its connection.
    fn serve(&mut self, id: u64) -> io::Result<()> {
        let open = self.peer(id)?.read()?;
        while let Some(request) = self.peer(id)?.request()? {
            self.obey(id, request)?;
        }
        if open { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn peer(&mut self, id: u64) -> io::Result<&mut Peer> {
        self.peers.iter_mut().find(|p| p.id == id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    // ---- what follows

    /// Passes bytes on, and counts what the last of the living sinks took of them.
    fn pump(&mut self) {
        let before = self.last();
        self.pass_on();
        self.credit = match (before, self.last()) {
            (Some(before), Some(after)) => {
                let taken = after.saturating_sub(before).min(LAG);
                (self.credit + taken.cast_signed() / 2).min(LAG.cast_signed())
            }
            _ => 0,
        };
    }

    /// Moves bytes wherever they are taken.
    fn pass_on(&mut self) {
        let Self { input, peers, inner, .. } = self;
        if let Some(master) = inner.as_ref().and_then(|inner| inner.master.as_ref()) {
            input.pump(master, |source, count| credit(peers, source, count));
        }
        let (total, ended, now) = (self.journal.total(), self.ended(), self.now);
        if let Some(window) = &mut self.window {
            match window.pump(&mut self.piece, total, ended, now) {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => self.lose_window(),
                _ => {}
            }
        }
        let piece = &mut self.piece;
        self.peers.retain_mut(|peer| peer.pump(piece, total, ended, now).is_ok());
    }
}

/// The terminal took some of a client's input: it may send more.
fn credit(peers: &mut [Peer], source: Source, count: usize) {
    let Source::Peer(id) = source else { return };
    if let Some(peer) = peers.iter_mut().find(|p| p.id == id) {
        peer.typed -= count;
        peer.taken += u32::try_from(count).unwrap_or(u32::MAX);
    }
}
