//! From the command's end to the shim's own.

use std::path::Path;

use super::super::peer::Peer;
use super::super::sys;
use super::super::tree::{self, Stop};
use super::super::window::Window;
use super::super::wire::Event;
use super::{Holder, Stage, credit};
use crate::failpoint::{Failpoint, hit};
use crate::journal::{Cause, Ending, ExitRecord, Spec};
use crate::model::TimeMs;

/// A gate that nobody comes to is left after so many milliseconds.
const GATE_MS: u64 = 60_000;
/// …or when its instance directory is gone, which is looked at every so many milliseconds.
const LOOK_MS: u64 = 1000;
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
/// …for so long: then its directory is taken to be gone for ever.
const GIVE_UP_MS: u64 = 60_000;

impl Holder {
    /// When the stage is due to change by itself.
    pub(super) fn stage_due(&self) -> Option<u64> {
        match &self.stage {
            Stage::Waiting { since } => Some((since + GATE_MS).min(self.now + LOOK_MS)),
            Stage::Running => None,
            Stage::Draining { since, heard_at, .. } => Some((heard_at + IDLE_MS).min(since + DRAIN_MS)),
            Stage::Ended { stored: false, retry_at, .. } => Some(*retry_at),
            Stage::Ended { .. } => self.leave_at(),
        }
    }

    /// Does what is due.
    pub(super) fn advance(&mut self) {
        self.advance_stage();
        let gone = self.stop.as_mut().is_some_and(|stop| stop.advance(self.now, tree::below_this));
        if self.stop.as_mut().is_some_and(Stop::take_denied) {
            self.interrupt();
        }
        self.stop.as_ref().and_then(Stop::passed).into_iter().for_each(hit);
        if gone && self.ended() {
            self.stop = None;
            hit(Failpoint::TreeGone);
            self.tell_all(&Event::Stopped);
        }
        if self.leave_at().is_some_and(|at| self.now >= at) {
            self.leave = true;
        }
    }

    pub(super) fn advance_stage(&mut self) {
        let now = self.now;
        match &mut self.stage {
            Stage::Waiting { since } => {
                if self.peers.iter().any(|p| p.greeted) {
                    *since = now;
                } else if !self.dir.join(Spec::FILE).exists() {
                    // A daemon that did not see it in time has told how the run ended; there is nowhere to leave a record.
                    self.leave = true;
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
                    // Nobody can want the record of an instance whose directory was taken away.
                    self.leave |= is_deleted(&self.dir);
                }
            }
        }
    }

    /// Makes the record, puts it on disk, and tells everybody.
    pub(super) fn end(&mut self, ending: Ending) {
        hit(Failpoint::OutputDrained);
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
        hit(Failpoint::ExitTold);
        self.now = sys::monotonic_ms();
        self.stage = Stage::Ended { record, stored, since: self.now, retry_at: self.now + RETRY_MS };
    }

    pub(super) const fn cause(&self) -> Cause {
        if self.stop_asked {
            Cause::Stop
        } else if self.window_closed {
            Cause::WindowClosed
        } else {
            Cause::Itself
        }
    }

    /// When the shim may leave; `None` while it must stay.
    pub(super) fn leave_at(&self) -> Option<u64> {
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
        if !*stored {
            return Some(*since + GIVE_UP_MS);
        }
        let window_done = self.window.as_ref().is_none_or(Window::is_done);
        let moved = self.window.iter().map(Window::moved_at).chain(self.peers.iter().map(Peer::moved_at));
        let progress = moved.fold(*since, u64::max);
        let alone = !self.peers.iter().any(|p| p.greeted);
        if alone && window_done {
            return Some(if self.window.is_some() { progress + LINGER_MS } else { 0 });
        }
        Some(progress + STAY_MS)
    }
}

/// Whether a directory, named by way of its descriptor, was removed (proc_pid_fd(5)).
fn is_deleted(dir: &Path) -> bool {
    let target = std::fs::read_link(dir).unwrap_or_default();
    target.as_os_str().as_encoded_bytes().ends_with(b" (deleted)")
}
