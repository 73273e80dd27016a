//! What signals mean to the daemon.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;
use super::notify::Notifier;
use crate::daemon::Handle;

/// The signals listened to. Once listened to, none of them has its default effect any more, also after this is gone.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// USR1 and USR2 mean nothing here, and must not end the daemon.
    _nothing: [Signal; 2],
    /// Listened to so that a file that may not grow is an error of its write and not the daemon's end. What the daemon starts
    /// finds the signal as it was: a handler, other than an ignored signal, is not inherited.
    _file_size: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            _file_size: listen(SignalKind::from_raw(libc::SIGXFSZ))?,
            _nothing: [listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?],
        })
    }

    /// Waits for SIGTERM or SIGINT. Nothing is lost when it is dropped.
    pub(super) async fn shutdown(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Reloads on SIGHUP, once for all that came meanwhile; ends at SIGTERM or SIGINT, in the middle of a reload too.
    pub(super) async fn until_shutdown(&mut self, handle: &Handle, notifier: &Notifier) {
        loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
            tokio::select! {
                biased;
                () = reload(handle, notifier) => {}
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}

async fn reload(handle: &Handle, notifier: &Notifier) {
    notifier.reloading();
    if let Err(refusal) = handle.reload().await {
        tracing::error!("reload: {refusal}");
    }
    notifier.status(&handle.in_a_line().await);
    notifier.ready();
}
