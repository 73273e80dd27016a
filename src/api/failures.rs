//! What becomes of wrong credentials in the audit log.

use std::time::Duration;

use super::state::{Api, closed};

/// The least time between two tellings. The audit log keeps a number of events, so whoever fails for days must not push out all others.
const PAUSE: Duration = Duration::from_secs(60);

/// Tells the audit log of wrong credentials until the API closes: of the first at once, of those that follow summed up, and of what
/// is left at the end.
pub(super) async fn tell(api: Api) {
    let mut closing = api.closing.clone();
    loop {
        let over = tokio::select! {
            () = api.door.failures_to_tell() => false,
            () = closed(&mut closing) => true,
        };
        if let Some(told) = api.door.take_failures() {
            tracing::warn!(failures = told.failures, peers = ?told.peers, "credentials were presented that do not work");
            api.handle.auth_failed(told).await;
        }
        if over {
            return;
        }
        let _ = tokio::time::timeout(PAUSE, closed(&mut closing)).await;
    }
}
