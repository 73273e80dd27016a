//! Waiting for what must happen, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, it: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, it).await;
    waited.unwrap_or_else(|_| panic!("{what} did not happen within {} s", PATIENCE.as_secs()))
}

/// Looks again and again at what no event tells, until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let Err(still) = holds() else { return };
        assert!(Instant::now() < until, "{what}: {still}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
