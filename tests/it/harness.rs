//! A real daemon for each test: a home of its own, a tmux of its own, and what talks to it.

mod http;
mod log;
mod viewer;
mod world;

use std::time::Duration;

pub(crate) use http::{Answer, Caller};
pub(crate) use viewer::{Frame, Seen, Viewer};
pub(crate) use world::{Backend, World, ended};

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, it: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, it).await;
    waited.unwrap_or_else(|_| panic!("{what} did not happen within {} s", PATIENCE.as_secs()))
}
