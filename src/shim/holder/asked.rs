//! What clients ask, and what the shim does about it.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::process::Signal;

use super::super::input::Source;
use super::super::spawn::{self, SpawnError, Spawned};
use super::super::sys;
use super::super::tree::Stop;
use super::super::wire::{Event, Hello, Phase, Request, VERSION};
use super::{Holder, Inner, Stage};
use crate::failpoint::{Failpoint, hit};
use crate::journal::Ending;
use crate::model::{Offset, Size, TimeMs};

impl Holder {
    pub(super) fn obey(&mut self, id: u64, request: Request) -> io::Result<()> {
        let now = self.now;
        if let Request::Hello { nonce, .. } = request {
            return self.greet(id, nonce == self.spec.nonce);
        }
        if !self.peer(id)?.greeted {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match request {
            Request::Hello { .. } => {}
            Request::OpenGate => {
                let dir = self.peer(id)?.passed();
                self.open_gate(dir);
            }
            Request::Follow { from } => {
                let from = from.0.min(self.journal.total());
                self.peer(id)?.follow(Some(from), now);
            }
            Request::Unfollow => self.peer(id)?.follow(None, now),
            Request::Input(bytes) => self.take_input(id, bytes)?,
            Request::Resize(size) => self.resize(size),
            Request::Theme(theme) => self.answers.theme = *theme,
            Request::Align => self.align(),
            Request::Stop { interrupt_first } => self.stop(interrupt_first),
            Request::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number.into()) {
                    self.signal(signal);
                }
            }
            Request::Ack => {
                hit(Failpoint::AckHeard);
                self.acknowledged = self.ended();
            }
            Request::Abort => self.abort(),
        }
        Ok(())
    }

    pub(super) fn greet(&mut self, id: u64, welcome: bool) -> io::Result<()> {
        if !welcome {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        hit(Failpoint::ShimGreeted);
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
            takes_theme: true,
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

    pub(super) fn pid(&self) -> Option<u32> {
        self.inner.as_ref().map(|inner| inner.pid.as_raw_nonzero().get().cast_unsigned())
    }

    pub(super) fn open_gate(&mut self, dir: Option<OwnedFd>) {
        if !matches!(self.stage, Stage::Waiting { .. }) {
            return;
        }
        hit(Failpoint::GateOpened);
        self.started_at = TimeMs::now();
        match spawn::spawn(&self.spec, self.size, dir) {
            Ok(Spawned { master, peer, pid, pidfd }) => {
                hit(Failpoint::CommandStarted);
                self.inner = Some(Inner { master: Some(master), peer: Some(peer), pid, pidfd });
                self.stage = Stage::Running;
                self.tell_all(&Event::Started { pid: pid.as_raw_nonzero().get().cast_unsigned() });
                hit(Failpoint::StartTold);
            }
            Err(SpawnError { errno, text }) => {
                hit(Failpoint::SpawnRefused);
                self.tell_all(&Event::SpawnFailed { text: text.clone() });
                self.end(Ending::SpawnFailed { errno, text });
            }
        }
    }

    pub(super) fn take_input(&mut self, id: u64, bytes: Bytes) -> io::Result<()> {
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

    pub(super) fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.size = size;
        self.answers.resized(&mut self.piece, self.journal.total(), size);
        if let Some(master) = self.inner.as_ref().and_then(|inner| inner.master.as_ref()) {
            // A terminal that is going away has no size.
            let _ = spawn::set_size(master, size);
        }
        self.journal.resized(size);
        self.tell_all(&Event::Resized(size));
    }

    pub(super) fn align(&mut self) {
        if let Some(window) = &mut self.window {
            window.want_mark();
        }
    }

    /// Sends a signal to the command; never to anybody else, for only the shim reaps it.
    pub(super) fn signal(&self, signal: Signal) {
        if let (Some(inner), Stage::Running) = (&self.inner, &self.stage) {
            // It ended between: its end is being reaped.
            let _ = rustix::process::pidfd_send_signal(&inner.pidfd, signal);
        }
    }

    pub(super) fn stop(&mut self, interrupt_first: bool) {
        hit(Failpoint::StopHeard);
        self.stop_asked = true;
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.end(Ending::NeverStarted);
        }
        self.begin_stop(interrupt_first && matches!(self.stage, Stage::Running));
    }

    pub(super) fn begin_stop(&mut self, interrupt: bool) {
        if self.stop.is_some() {
            return;
        }
        if interrupt {
            self.input.push_first(Bytes::from_static(b"\x03"));
        }
        self.stop = Some(Stop::new(interrupt, self.now));
    }

    /// Interrupts what is in the terminal's foreground as ^C does: the kernel sends it on the terminal's behalf, also to a process that has become
    /// another user's (`sudo`), to which the shim may send nothing.
    pub(super) fn interrupt(&self) {
        if let Some(master) = self.inner.as_ref().and_then(|inner| inner.master.as_ref()) {
            sys::interrupt_foreground(master);
        }
    }

    pub(super) fn abort(&mut self) {
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.end(Ending::NeverStarted);
            self.acknowledged = true;
        }
    }

    /// Tells every client; one that does not read is disconnected.
    pub(super) fn tell_all(&mut self, event: &Event) {
        self.peers.retain_mut(|peer| !peer.greeted || peer.tell(event).is_ok());
    }
}
