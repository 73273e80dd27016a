//! What holds one run: its shim, and on tmux the window around it.

use bytes::Bytes;

use super::BackendError;
use super::tmux::{Followed, Window};
use crate::model::Size;
use crate::shim::Client;

/// A cheap clone that reaches a live run's holder.
#[derive(Clone)]
pub struct Holder {
    shim: Client,
    window: Option<Followed>,
}

impl Holder {
    /// A shim, and the window it lives in if it lives in one.
    #[must_use]
    pub const fn new(shim: Client, window: Option<Followed>) -> Self {
        Self { shim, window }
    }

    /// The shim.
    #[must_use]
    pub const fn shim(&self) -> &Client {
        &self.shim
    }

    /// Whether the run has a window.
    #[must_use]
    pub const fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// The run's window.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref().map(Followed::window)
    }

    /// Gives bytes to the program, in order, once; waits until its terminal took them.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn input(&self, bytes: Bytes) -> Result<(), BackendError> {
        let end = self.shim.input(bytes).await?;
        Ok(self.shim.taken(end).await?)
    }

    /// Lets the shim of an ended run leave, when its window has shown everything.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn let_go(&self) -> Result<(), BackendError> {
        if let Some(followed) = &self.window {
            followed.shown().await;
        }
        Ok(self.shim.ack().await?)
    }

    /// Sets the terminal's size: the window's, which the shim follows, or the shim's own.
    ///
    /// # Errors
    /// When tmux or the shim cannot be told.
    pub async fn resize(&self, size: Size) -> Result<(), BackendError> {
        match &self.window {
            Some(followed) => followed.resize(size).await,
            None => Ok(self.shim.resize(size).await?),
        }
    }
}
