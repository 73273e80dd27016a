//! Waiting for what must happen, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is promised within this time may take: so long in a long run, which has the machine to itself; else also what a busy
/// machine adds, for what lasts is told apart from what was slow only by much.
pub(crate) fn promised(time: Duration) -> Duration {
    let long = std::env::var_os("KAS_FAULTS").is_some_and(|how| how == "long");
    if long { time } else { time + PATIENCE / 2 }
}

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
