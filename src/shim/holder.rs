//! The shim's state and its loop.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::input::{Input, Source};
use super::peer::Peer;
use super::spawn::{self, SpawnError, Spawned};
use super::supply::Piece;
use super::sys::{self, Signals};
use super::tree::Stop;
use super::window::Window;
use super::wire::{Event, Hello, Phase, Request, VERSION};
use crate::journal::{Cause, Ending, ExitRecord, Spec, Writer};
use crate::model::{Exit, Offset, Size, TimeMs};

/// Clients at a time; a further one takes the place of one that has not said hello, or is refused.
const MAX_PEERS: usize = 8;
/// A gate that nobody comes to is left after so many milliseconds.
const GATE_MS: u64 = 60_000;
/// Output that a sink may lag behind before it slows the command, in bytes.
const LAG: u64 = 4 * 1024 * 1024;
/// A sink that has not moved for so many milliseconds slows nobody.
const LIVING_MS: u64 = 100;
/// After the command's end its terminal is read until nothing came for so many milliseconds (a background child may hold it)…
const IDLE_MS: u64 = 200;
/// …but not longer than this: what comes so late is not the command's.
const DRAIN_MS: u64 = 2000;
/// After the end the shim stays so many milliseconds from the last progress for the daemon's acknowledgement.
const STAY_MS: u64 = 2000;
/// Nobody acknowledges: tmux is given so many milliseconds to read the window's last bytes (measured: 300 lose nothing).
const LINGER_MS: u64 = 300;
/// A record that could not be written is tried again every so many milliseconds.
const RETRY_MS: u64 = 500;

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
        let stage = match &self.stage {
            Stage::Waiting { since } => Some(since + GATE_MS),
            Stage::Running => None,
            Stage::Draining { since, heard_at, .. } => Some((heard_at + IDLE_MS).min(since + DRAIN_MS)),
            Stage::Ended { stored: false, retry_at, .. } => Some(*retry_at),
            Stage::Ended { .. } => self.leave_at(),
        };
        let stop = self.stop.as_ref().map(Stop::wake_at);
        let living = self.laggards().map(|moved_at| moved_at + LIVING_MS).filter(|&at| at > self.now).min();
        [stage, stop, living].into_iter().flatten().min().map(|at| at.max(self.now + 1))
    }

    /// When each sink that lags too far behind moved last.
    fn laggards(&self) -> impl Iterator<Item = u64> {
        let total = self.journal.total();
        let window = self.window.iter().map(|w| (w.at(), w.moved_at()));
        let peers = self.peers.iter().filter_map(|p| Some((p.at()?, p.moved_at())));
        window
            .chain(peers)
            .filter(move |(at, _)| total.saturating_sub(*at) > LAG)
            .map(|(_, moved_at)| moved_at)
    }

    /// Whether the command's output may be read: not while a living reader lags too far behind. After its end, always.
    fn may_read(&self) -> bool {
        let slow = self.laggards().any(|moved_at| self.now - moved_at < LIVING_MS);
        !slow || !matches!(self.stage, Stage::Running)
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
            let same_user = rustix::net::sockopt::socket_peercred(&socket)
                .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
            if same_user && self.make_room() {
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
        }
        let heard = !self.piece.bytes().is_empty();
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

    fn on_window(&mut self, ready: PollFlags) {
        let Some(window) = &self.window else { return };
        let mut gone = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if ready.contains(PollFlags::IN) {
            let mut buffer = [0; 4096];
            match window.read(&mut buffer) {
                Ok(0) => gone = true,
                Ok(count) => self.input.push(Source::Window, Bytes::copy_from_slice(&buffer[..count])),
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
                self.begin_stop(false);
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

    fn obey(&mut self, id: u64, request: Request) -> io::Result<()> {
        let now = self.now;
        if let Request::Hello { nonce, .. } = request {
            return self.greet(id, nonce == self.spec.nonce);
        }
        if !self.peer(id)?.greeted {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match request {
            Request::Hello { .. } => {}
            Request::OpenGate => self.open_gate(),
            Request::Follow { from } => {
                let from = from.0.min(self.journal.total());
                self.peer(id)?.follow(Some(from), now);
            }
            Request::Unfollow => self.peer(id)?.follow(None, now),
            Request::Input(bytes) => self.take_input(id, bytes)?,
            Request::Resize(size) => self.resize(size),
            Request::Align => self.align(),
            Request::Stop { interrupt_first } => self.stop(interrupt_first),
            Request::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number.into()) {
                    self.signal(signal);
                }
            }
            Request::Ack => self.acknowledged = self.ended(),
            Request::Abort => self.abort(),
        }
        Ok(())
    }

    fn greet(&mut self, id: u64, welcome: bool) -> io::Result<()> {
        if !welcome {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let hello = Hello {
            version: VERSION,
            phase: match self.stage {
                Stage::Waiting { .. } => Phase::Waiting,
                Stage::Running | Stage::Draining { .. } => Phase::Running,
                Stage::Ended { .. } => Phase::Ended,
            },
            pid: self.pid(),
            start: Offset(self.journal.start()),
            end: Offset(self.journal.total()),
            size: self.size,
        };
        let record = match &self.stage {
            Stage::Ended { record, .. } => Some(record.clone()),
            Stage::Waiting { .. } | Stage::Running | Stage::Draining { .. } => None,
        };
        let peer = self.peer(id)?;
        peer.greeted = true;
        peer.tell(&Event::Hello(hello))?;
        record.map_or(Ok(()), |record| peer.tell(&Event::Exited(record)))
    }

    // ---- what is asked

    fn pid(&self) -> Option<u32> {
        self.inner.as_ref().map(|inner| inner.pid.as_raw_nonzero().get().cast_unsigned())
    }

    fn open_gate(&mut self) {
        if !matches!(self.stage, Stage::Waiting { .. }) {
            return;
        }
        self.started_at = TimeMs::now();
        match spawn::spawn(&self.spec, self.size) {
            Ok(Spawned { master, peer, pid, pidfd }) => {
                self.inner = Some(Inner { master: Some(master), peer: Some(peer), pid, pidfd });
                self.stage = Stage::Running;
                self.tell_all(&Event::Started { pid: pid.as_raw_nonzero().get().cast_unsigned() });
            }
            Err(SpawnError { errno, text }) => {
                self.tell_all(&Event::SpawnFailed { text: text.clone() });
                self.end(Ending::SpawnFailed { errno, text });
            }
        }
    }

    fn take_input(&mut self, id: u64, bytes: Bytes) -> io::Result<()> {
        let over = self.ended();
        let peer = self.peer(id)?;
        if over {
            peer.taken += u32::try_from(bytes.len()).unwrap_or(0);
        } else {
            peer.typed += bytes.len();
            self.input.push(Source::Peer(id), bytes);
        }
        Ok(())
    }

    fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.size = size;
        if let Some(master) = self.inner.as_ref().and_then(|inner| inner.master.as_ref()) {
            // A terminal that is going away has no size.
            let _ = spawn::set_size(master, size);
        }
        self.journal.resized(size);
        self.tell_all(&Event::Resized(size));
    }

    fn align(&mut self) {
        if let Some(window) = &mut self.window {
            window.want_mark();
        }
    }

    /// Sends a signal to the command; never to anybody else, for only the shim reaps it.
    fn signal(&self, signal: Signal) {
        if let (Some(inner), Stage::Running) = (&self.inner, &self.stage) {
            // It ended between: its end is being reaped.
            let _ = rustix::process::pidfd_send_signal(&inner.pidfd, signal);
        }
    }

    fn stop(&mut self, interrupt_first: bool) {
        self.stop_asked = true;
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.end(Ending::NeverStarted);
        }
        self.begin_stop(interrupt_first && matches!(self.stage, Stage::Running));
    }

    fn begin_stop(&mut self, interrupt: bool) {
        if self.stop.is_some() {
            return;
        }
        if interrupt {
            self.input.push_first(Bytes::from_static(b"\x03"));
        }
        self.stop = Some(Stop::new(interrupt, self.now));
    }

    fn abort(&mut self) {
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.end(Ending::NeverStarted);
            self.acknowledged = true;
        }
    }

    /// Tells every client; one that does not read is disconnected.
    fn tell_all(&mut self, event: &Event) {
        self.peers.retain_mut(|peer| !peer.greeted || peer.tell(event).is_ok());
    }

    // ---- what follows

    /// Moves bytes wherever they are taken.
    fn pump(&mut self) {
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

    /// Does what is due.
    fn advance(&mut self) {
        self.advance_stage();
        if let Some(stop) = &mut self.stop
            && stop.advance(self.now)
            && self.ended()
        {
            self.stop = None;
            self.tell_all(&Event::Stopped);
        }
        if self.leave_at().is_some_and(|at| self.now >= at) {
            self.leave = true;
        }
    }

    fn advance_stage(&mut self) {
        let now = self.now;
        match &mut self.stage {
            Stage::Waiting { since } => {
                if self.peers.iter().any(|p| p.greeted) {
                    *since = now;
                } else if now >= *since + GATE_MS {
                    self.end(Ending::NeverStarted);
                }
            }
            Stage::Running => {}
            Stage::Draining { ending, since, heard_at } => {
                if now >= *since + DRAIN_MS || now >= *heard_at + IDLE_MS {
                    let ending = ending.clone();
                    self.end(ending);
                }
            }
            Stage::Ended { record, stored, retry_at, .. } => {
                if !*stored && now >= *retry_at {
                    *stored = self.journal.finish(record).is_ok();
                    *retry_at = now + RETRY_MS;
                }
            }
        }
    }

    /// Makes the record, puts it on disk, and tells everybody.
    fn end(&mut self, ending: Ending) {
        if let Some(inner) = &mut self.inner {
            // Closes the terminal: who still has it is told by SIGHUP.
            inner.master = None;
        }
        let peers = &mut self.peers;
        self.input.discard(|source, count| credit(peers, source, count));
        let record = Box::new(ExitRecord {
            ending,
            cause: self.cause(),
            total_bytes: self.journal.total(),
            lost_bytes: self.journal.lost(),
            started_at: self.started_at,
            ended_at: TimeMs::now(),
            pid: self.pid(),
            nonce: self.spec.nonce,
            boot_id: self.spec.boot_id.clone(),
        });
        let stored = self.journal.finish(&record).is_ok();
        self.tell_all(&Event::Exited(record.clone()));
        self.now = sys::monotonic_ms();
        self.stage = Stage::Ended { record, stored, since: self.now, retry_at: self.now + RETRY_MS };
    }

    const fn cause(&self) -> Cause {
        if self.stop_asked {
            Cause::Stop
        } else if self.window_closed {
            Cause::WindowClosed
        } else {
            Cause::Itself
        }
    }

    /// When the shim may leave; `None` while it must stay.
    fn leave_at(&self) -> Option<u64> {
        let Stage::Ended { since, stored, .. } = &self.stage else { return None };
        if self.stop.is_some() {
            return None;
        }
        if self.spec.keep_window && self.window.is_some() {
            return None;
        }
        if self.acknowledged {
            return Some(0);
        }
        let window_done = self.window.as_ref().is_none_or(Window::is_done);
        let moved = self.window.iter().map(Window::moved_at).chain(self.peers.iter().map(Peer::moved_at));
        let progress = moved.fold(*since, u64::max);
        let alone = !self.peers.iter().any(|p| p.greeted);
        if alone && window_done && *stored {
            return Some(if self.window.is_some() { progress + LINGER_MS } else { 0 });
        }
        Some(progress + STAY_MS)
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
