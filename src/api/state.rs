//! What every request handler can reach.

use std::sync::Arc;

use tokio::sync::watch;

use super::door::Door;
use super::socket::Owners;
use crate::daemon::Handle;
use crate::metrics::Metrics;

/// The API of one running daemon; a cheap clone.
#[derive(Clone)]
pub struct Api {
    pub(super) handle: Handle,
    pub(super) door: Arc<Door>,
    pub(super) metrics: Arc<Metrics>,
    /// Who sizes which terminal, over all connections.
    pub(super) owners: Arc<Owners>,
    /// Becomes true when the daemon shuts down: streams and WebSockets then close.
    pub(super) closing: watch::Receiver<bool>,
}

impl Api {
    /// An API over a daemon. When `closing` becomes true, what is open is closed.
    #[must_use]
    pub fn new(handle: Handle, door: Door, metrics: Arc<Metrics>, closing: watch::Receiver<bool>) -> Self {
        Self { handle, door: Arc::new(door), metrics, owners: Arc::default(), closing }
    }
}

/// Waits until the daemon shuts down, or is gone.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}
