//! What is left of a run whose shim is dead: waited for, ended, told.

use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use crate::journal::Nonce;
use crate::model::InstanceId;
use crate::shim::{self, Left, Look, Remains};

/// How long the tree of a killed shim may take to end before that is said: its ward gives it 5 s.
const TREE_ENDS_IN: Duration = Duration::from_secs(8);
/// Between two looks at what is being ended…
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// …and at what lives on although it was killed.
const LOOK_LATER: Duration = Duration::from_secs(1);

impl Performer {
    /// Waits until the ward of a dead shim has ended what that held.
    pub(super) async fn until_ward_left(&self, id: InstanceId) {
        let dir = self.places.dir(id);
        if shim::gone(&dir, Instant::now() + TREE_ENDS_IN).await {
            return;
        }
        tracing::warn!(%id, "something of a killed shim lives on, and its ward still ends it");
        while !shim::gone(&dir, Instant::now() + TREE_ENDS_IN).await {}
    }

    /// Ends the processes that a run left behind, as a stop does, and returns when nothing of them lives.
    pub(super) async fn end_remains(&self, id: InstanceId, nonce: Nonce) {
        let mut remains = Remains::of(&nonce, id);
        let (mut told, mut told_staying) = (false, false);
        loop {
            let looked = tokio::task::spawn_blocking(move || {
                let left = remains.advance();
                (remains, left)
            });
            let left;
            (remains, left) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    return tracing::error!(%id, %error, "the look at what is left of the run failed");
                }
            };
            let pause = match left {
                Left::Gone => return,
                Left::Ending(pids) => {
                    if !told && !pids.is_empty() {
                        tracing::warn!(%id, ?pids, "the run's shim and its ward are dead: what is left of the run is ended");
                        told = true;
                    }
                    LOOK_EVERY
                }
                Left::Staying(pids) => {
                    if !told_staying {
                        tracing::error!(%id, ?pids, "what is left of the run lives on although it was killed; the run is not over before it ends");
                        told_staying = true;
                    }
                    LOOK_LATER
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells of processes that say in their environment that they are of a lost run, which nothing proves.
    pub(super) async fn tell_doubtful(&self, id: InstanceId) {
        let marked = tokio::task::spawn_blocking(move || Look::recent().marked(id)).await;
        match marked {
            Ok(pids) if pids.is_empty() => {}
            Ok(pids) => tracing::error!(
                %id,
                ?pids,
                "these processes have the id of the lost run in their environment, which is no proof that they are its: they are left alone"
            ),
            Err(error) => tracing::error!(%id, %error, "the look at what is left of the run failed"),
        }
    }
}
