//! A stop that does not come to its end: the answer says what lives on, and the run is not over.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;

use super::handle::{Answer, Handle};
use super::refusal::{Code, Refusal};
use crate::model::InstanceId;
use crate::shim::{Living, Look};

/// A stop takes 1 s from ^C to TERM, 5 s from TERM to KILL, and then what cannot be signalled lives on.
const DENIED_IS_TOLD_AFTER: Duration = Duration::from_secs(8);
/// What can be signalled and does not end waits in the kernel; a busy machine may take long too.
const ANYTHING_IS_TOLD_AFTER: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Handle {
    /// Waits for an answer that comes when these runs are over, and refuses when something of one cannot be ended. They end all the same when that
    /// does.
    pub(super) async fn over<T>(
        &self,
        runs: &[InstanceId],
        asked: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        let mut asked = pin!(asked);
        let (mut waited, mut patience) = (Duration::ZERO, DENIED_IS_TOLD_AFTER);
        loop {
            if let Ok(answer) = tokio::time::timeout(patience, &mut asked).await {
                return answer;
            }
            waited += patience;
            patience = LOOK_EVERY;
            for id in runs {
                let mut living = self.living(*id).await;
                if waited < ANYTHING_IS_TOLD_AFTER {
                    living.retain(Living::is_anothers);
                }
                if !living.is_empty() {
                    return Err(refusal(*id, &living));
                }
            }
        }
    }

    async fn living(&self, id: InstanceId) -> Vec<Living> {
        let terminal = self.0.terminals.get(id);
        let Some(nonce) = terminal.and_then(|terminal| terminal.nonce.get().copied()) else {
            return Vec::new();
        };
        let looked = tokio::task::spawn_blocking(move || Look::recent().living(&nonce)).await;
        looked.unwrap_or_else(|error| {
            tracing::error!(%id, %error, "the look at what lives of the run failed");
            Vec::new()
        })
    }
}

fn refusal(id: InstanceId, living: &[Living]) -> Refusal {
    let told: Vec<String> =
        living.iter().take(8).map(|it| format!("{} ({}, of {})", it.pid, it.name, user(it.user))).collect();
    let denied = living.iter().any(Living::is_anothers);
    let why = if denied { "kas may not end what has become another user's" } else { "they outlive KILL" };
    let message = format!(
        "Instance {id} is not over: of it live processes {}; {why}. It is over when they end: end them as their user, or in the run's terminal.",
        told.join(", ")
    );
    let processes: Vec<_> =
        living.iter().map(|it| json!({"pid": it.pid, "uid": it.user, "name": it.name})).collect();
    Refusal::new(Code::Unavailable, message).reason("lives_on").detail("processes", processes)
}

fn user(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("user {uid}") }
}
