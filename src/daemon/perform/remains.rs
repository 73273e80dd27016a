//! What is left of a run whose shim is dead: waited for, ended, told.

use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use crate::daemon::processes::{listed, look};
use crate::journal::Nonce;
use crate::model::{ErrorWord, InstanceId};
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

    /// Ends the processes that a run left behind, as a stop does, and returns when nothing of them lives: with those it met.
    pub(super) async fn end_remains(&self, id: InstanceId, nonce: Nonce) -> Vec<u32> {
        if let Some(terminal) = self.shared.terminals.get(id) {
            let _ = terminal.nonce.set(nonce);
        }
        let mut remains = Remains::of(&nonce, id);
        let (mut met, mut told_staying) = (Vec::new(), false);
        loop {
            let looked = look(id, move || {
                let left = remains.advance();
                (remains, left)
            });
            let left;
            (remains, left) = match looked.await {
                Some(looked) => looked,
                None => return met,
            };
            let pause = match left {
                Left::Gone => return met,
                Left::Ending(pids) => {
                    if met.is_empty() && !pids.is_empty() {
                        tracing::warn!(%id, ?pids, "the run's shim and its ward are dead: what is left of the run is ended");
                        met = pids;
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

    /// Why a run was lost, in words, where something was left of it: what was ended, and what has the run's id in its environment, which proves
    /// nothing, and is left alone.
    pub(super) async fn loss_text(&self, id: InstanceId, word: ErrorWord, ended: &[u32]) -> Option<String> {
        let doubtful = look(id, move || Look::recent().marked(id)).await.unwrap_or_default();
        if !doubtful.is_empty() {
            tracing::error!(
                %id,
                pids = ?doubtful,
                "these processes have the id of the lost run in their environment, which is no proof that they are its: they are left alone"
            );
        }
        words_of_loss(word, ended, &doubtful)
    }
}

fn words_of_loss(word: ErrorWord, ended: &[u32], doubtful: &[u32]) -> Option<String> {
    let ended = (!ended.is_empty())
        .then(|| format!("; what was left of the run was ended (processes {})", listed(ended.iter())));
    let doubtful = (!doubtful.is_empty()).then(|| {
        format!(
            "; processes {} have its id in their environment and were left alone",
            listed(doubtful.iter())
        )
    });
    let more = ended.into_iter().chain(doubtful).collect::<String>();
    (!more.is_empty()).then(|| format!("{}{more}", word.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_told_in_words() {
        for word in ErrorWord::ALL {
            assert_eq!(words_of_loss(word, &[], &[]), None);
            let told = words_of_loss(word, &[7, 8], &[]).unwrap();
            let why = word.text();
            assert_eq!(told, format!("{why}; what was left of the run was ended (processes 7, 8)"));
        }
        let many: Vec<u32> = (1..=12).collect();
        let told = words_of_loss(ErrorWord::ShimLost, &[], &many).unwrap();
        assert!(told.contains("1, 2, 3, 4, 5, 6, 7, 8 and 4 more have its id") && told.len() < 400, "{told}");
    }
}
