//! What is left of a run whose shim is dead: waited for, ended, told.

use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use crate::journal::Nonce;
use crate::model::{ErrorWord, InstanceId};
use crate::shim::{self, Left, Look, Remains};

/// How long the tree of a killed shim may take to end before that is said: its ward gives it 5 s.
const TREE_ENDS_IN: Duration = Duration::from_secs(8);
/// Between two looks at what is being ended…
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// …and at what lives on although it was killed.
const LOOK_LATER: Duration = Duration::from_secs(1);
/// Processes that are named in words; of more the number is told.
const SHOWN: usize = 8;

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
            let looked = tokio::task::spawn_blocking(move || {
                let left = remains.advance();
                (remains, left)
            });
            let left;
            (remains, left) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::error!(%id, %error, "the look at what is left of the run failed");
                    return met;
                }
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
    pub(super) async fn loss_text(&self, id: InstanceId, ended: &[u32]) -> Option<String> {
        let marked = tokio::task::spawn_blocking(move || Look::recent().marked(id)).await;
        let doubtful = marked.unwrap_or_else(|error| {
            tracing::error!(%id, %error, "the look at what is left of the run failed");
            Vec::new()
        });
        if !doubtful.is_empty() {
            tracing::error!(
                %id,
                pids = ?doubtful,
                "these processes have the id of the lost run in their environment, which is no proof that they are its: they are left alone"
            );
        }
        words_of_loss(ended, &doubtful)
    }
}

fn words_of_loss(ended: &[u32], doubtful: &[u32]) -> Option<String> {
    let ended = (!ended.is_empty())
        .then(|| format!("; what was left of the run was ended (processes {})", some(ended)));
    let doubtful = (!doubtful.is_empty()).then(|| {
        format!("; processes {} have its id in their environment and were left alone", some(doubtful))
    });
    let more = ended.into_iter().chain(doubtful).collect::<String>();
    (!more.is_empty()).then(|| format!("{}{more}", ErrorWord::ShimLost.text()))
}

/// The first few of many.
fn some(pids: &[u32]) -> String {
    let shown: Vec<String> = pids.iter().take(SHOWN).map(u32::to_string).collect();
    let more = pids.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_told_in_words() {
        assert_eq!(words_of_loss(&[], &[]), None);
        let why = ErrorWord::ShimLost.text();
        let told = words_of_loss(&[7, 8], &[]).unwrap();
        assert_eq!(told, format!("{why}; what was left of the run was ended (processes 7, 8)"));
        let many: Vec<u32> = (1..=12).collect();
        let told = words_of_loss(&[], &many).unwrap();
        assert!(told.contains("1, 2, 3, 4, 5, 6, 7, 8 and 4 more have its id") && told.len() < 400, "{told}");
    }
}
