//! What a connection waits for, and what it does when it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{AbortHandle, abortable};
use tokio::sync::watch;

use super::connection::Connection;
use super::desk::Desk;
use super::frame::{self, ChannelName};
use crate::broker::{Lease, Snapshot};
use crate::daemon::{Answer, Code, TerminalId};
use crate::model::Size;

/// How long small pieces of output are collected after one was sent.
const REST: Duration = Duration::from_millis(4);

/// Aborts a future when dropped.
pub(super) struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Something a connection waited for. The numbers are handles.
pub(super) enum Done {
    Nothing,
    TerminalChanged(u32, watch::Receiver<u64>),
    EventsChanged(u32, watch::Receiver<i64>),
    Rested(u32),
    Caught(u32, Snapshot),
    Delivered(TerminalId, Answer<()>),
    Resized(u32, Size, Answer<()>),
    ThemeTold(u32, Answer<()>),
}

impl<D: Desk> Connection<D> {
    pub(super) fn take(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::TerminalChanged(handle, changes) => {
                if let Ok(pty) = self.pty(handle) {
                    pty.changes = Some(changes);
                }
                self.enqueue(handle);
            }
            Done::EventsChanged(handle, latest) => {
                self.watch_events(handle, latest);
                self.enqueue(handle);
            }
            Done::Rested(handle) => {
                if let Ok(pty) = self.pty(handle) {
                    pty.rested();
                }
                self.enqueue(handle);
            }
            Done::Caught(handle, snapshot) => {
                if let Ok(pty) = self.pty(handle) {
                    pty.caught(snapshot);
                }
                self.enqueue(handle);
            }
            Done::Delivered(terminal, Ok(())) => self.delivered(terminal),
            Done::Delivered(terminal, Err(refusal)) => {
                self.inputs.failed(terminal);
                let name = ChannelName::Pty(terminal);
                let lost = refusal.code == Code::Unavailable;
                let refusal = if lost { refusal.reason("input_lost") } else { refusal };
                if let Some(pty) = self.handles.get(&name).copied().and_then(|handle| self.pty(handle).ok()) {
                    pty.input_closed = true;
                }
                self.outbox.push_back(frame::error(&refusal, Some(&name.to_string()), None));
            }
            Done::Resized(handle, size, answer) => self.resized(handle, size, answer),
            Done::ThemeTold(handle, answer) => self.theme_told(handle, answer),
        }
    }

    /// A program's terminal took what was typed: the subscription that typed it is told if it wants to be, and the next goes.
    fn delivered(&mut self, terminal: TerminalId) {
        let (done, next) = self.inputs.delivered(terminal);
        // The subscription that typed it, or the one that took its place.
        let handle = self.handles.get(&ChannelName::Pty(terminal)).copied();
        if let (Some(done), Some(handle)) = (done, handle)
            && let Ok(pty) = self.pty(handle)
            && pty.confirms
            && done.handle >= pty.first_handle
        {
            pty.taken += done.bytes.len();
            self.enqueue(handle);
        }
        if let Some(next) = next {
            self.deliver(terminal, next);
        }
    }

    pub(super) fn deliver(&mut self, terminal: TerminalId, bytes: Bytes) {
        let desk = self.desk.clone();
        self.work.push(Box::pin(async move { Done::Delivered(terminal, desk.input(terminal, bytes).await) }));
    }

    /// Waits for something on behalf of a subscription that still stands.
    pub(super) fn wait(&mut self, waiting: impl Future<Output = Done> + Send + 'static) -> Guard {
        let (waiting, abort) = abortable(waiting);
        self.work.push(Box::pin(async move { waiting.await.unwrap_or(Done::Nothing) }));
        Guard(abort)
    }

    /// Listens to a terminal, unless that is being done already.
    pub(super) fn watch_terminal(&mut self, handle: u32) {
        let Some(mut changes) = self.pty(handle).ok().and_then(|pty| pty.changes.take()) else { return };
        let guard = self.wait(async move {
            match changes.changed().await {
                Ok(()) => Done::TerminalChanged(handle, changes),
                Err(_) => Done::Nothing,
            }
        });
        self.subs.entry(handle).and_modify(|sub| sub.watch = Some(guard));
    }

    pub(super) fn watch_events(&mut self, handle: u32, mut latest: watch::Receiver<i64>) {
        let guard = self.wait(async move {
            match latest.changed().await {
                Ok(()) => Done::EventsChanged(handle, latest),
                Err(_) => Done::Nothing,
            }
        });
        self.subs.entry(handle).and_modify(|sub| sub.watch = Some(guard));
    }

    pub(super) fn rest(&mut self, handle: u32) {
        let guard = self.wait(async move {
            tokio::time::sleep(REST).await;
            Done::Rested(handle)
        });
        self.subs.entry(handle).and_modify(|sub| sub.job = Some(guard));
    }

    pub(super) fn catch_up(&mut self, handle: u32, lease: Arc<Lease>) {
        let guard = self.wait(async move { Done::Caught(handle, lease.snapshot().await) });
        self.subs.entry(handle).and_modify(|sub| sub.job = Some(guard));
    }
}
