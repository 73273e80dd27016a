//! A stop that does not come to its end: the answer says what it waits for, and the run is not over.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;

use super::handle::{Answer, Handle};
use super::processes::{listed, look};
use super::refusal::{Code, Refusal};
use super::run::View;
use crate::model::InstanceId;
use crate::shim::{Living, Look};

/// A stop takes 1 s from ^C to TERM, 5 s from TERM to KILL, and then what cannot be signalled lives on. The database waits 5 s for a lock.
const DENIED_IS_TOLD_AFTER: Duration = Duration::from_secs(8);
/// What can be signalled and does not end waits in the kernel; a busy machine may take long too.
const ANYTHING_IS_TOLD_AFTER: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Handle {
    /// Waits for an answer that comes when these runs are over, and refuses when one of them cannot be ended now or its end cannot be stored.
    /// They end all the same when that can be done.
    pub(super) async fn over<T>(
        &self,
        runs: impl Fn(&View) -> Vec<InstanceId>,
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
            let view = self.0.view.borrow().clone();
            for id in runs(&view) {
                if let Some(refusal) = self.unstored(&view, id) {
                    return Err(refusal);
                }
                let mut living = self.living(id).await;
                if waited < ANYTHING_IS_TOLD_AFTER {
                    living.retain(Living::is_anothers);
                }
                if !living.is_empty() {
                    return Err(lives_on(id, &living));
                }
            }
        }
    }

    /// What a run waits for while the database takes no change: its end to be stored, or the wish to stop it to be recorded, before which nothing
    /// is signalled.
    fn unstored(&self, view: &View, id: InstanceId) -> Option<Refusal> {
        if self.0.unwritten.get() == 0 {
            return None;
        }
        let refusal = |what: &str, reason| {
            let message = format!("{what} The database takes no change now; daemon.log says why.");
            Some(Refusal::new(Code::Unavailable, message).reason(reason))
        };
        if view.finishing.contains_key(&id) {
            let what = format!("Instance {id} has ended, and its end is shown as soon as it is stored.");
            return refusal(&what, "end_waits");
        }
        let is_signalled = self.0.terminals.get(id).is_some_and(|terminal| terminal.stopping());
        if is_signalled || !view.live.contains_key(&id) {
            return None;
        }
        let what =
            format!("Nothing of instance {id} was signalled yet: it is stopped as soon as that is recorded.");
        refusal(&what, "stop_waits")
    }

    /// What lives of a run that was told to end.
    async fn living(&self, id: InstanceId) -> Vec<Living> {
        let terminal = self.0.terminals.get(id).filter(|terminal| terminal.stopping());
        let Some(nonce) = terminal.and_then(|terminal| terminal.nonce.get().copied()) else {
            return Vec::new();
        };
        look(id, move || Look::recent().living(&nonce)).await.unwrap_or_default()
    }
}

fn lives_on(id: InstanceId, living: &[Living]) -> Refusal {
    let told = listed(living.iter().map(|it| format!("{} ({}, of {})", it.pid, it.name, user(it.user))));
    let denied = living.iter().any(Living::is_anothers);
    let why = if denied { "kas may not end what has become another user's" } else { "they outlive KILL" };
    let message = format!(
        "Instance {id} is not over: of it live processes {told}; {why}. It is over when they end: end them as their user, or in the run's terminal."
    );
    let processes: Vec<_> =
        living.iter().map(|it| json!({"pid": it.pid, "uid": it.user, "name": it.name})).collect();
    Refusal::new(Code::Unavailable, message).reason("lives_on").detail("processes", processes)
}

fn user(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("user {uid}") }
}
