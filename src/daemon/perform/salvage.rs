//! The output of ended runs that could not be read: tried again until it can be, kept until then.

use std::io;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::holder::READ_AGAIN_IN;
use super::performer::Performer;
use super::transcript::{self, Missing};
use crate::model::InstanceId;
use crate::store::{Change, Transcript};

/// How often a journal is tried to be read before its run ends without it.
const TRIES: u32 = 20;
/// The pause until it is tried again after that, at first and at most.
const SALVAGE_AFTER: Duration = Duration::from_secs(1);
const SALVAGE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

impl Performer {
    /// What a run wrote, tried for ten seconds while the machine keeps it from being read; and the place among those that hold a transcript in
    /// memory, which nobody has while waiting.
    pub(super) async fn read_output(
        &self,
        id: InstanceId,
    ) -> (io::Result<Option<(Transcript, Missing)>>, Option<SemaphorePermit<'_>>) {
        let dir = self.places.dir(id);
        let mut tries = TRIES;
        loop {
            // It is never closed, so there is always a place in the end.
            let place = self.storing.acquire().await.ok();
            match transcript::read(&dir).await {
                Ok(read) => return (Ok(read), place),
                Err(error) if tries <= 1 => {
                    tracing::error!(%id, dir = %dir.display(), %error, "the journal cannot be read: the run ends without its output, which stays where it is");
                    return (Err(error), None);
                }
                Err(error) => tracing::error!(%id, %error, "the journal cannot be read yet"),
            }
            drop(place);
            tries -= 1;
            tokio::time::sleep(READ_AGAIN_IN).await;
        }
    }

    /// Has the output of an ended run read and stored as soon as that can be done.
    pub(super) fn begin_salvage(&self, id: InstanceId) {
        self.shared.unread.insert(id, self.places.dir(id));
        self.apart(move |it| async move { it.salvage(id).await });
    }

    /// Ends when the output is stored, or there is none any more.
    async fn salvage(self, id: InstanceId) {
        let dir = self.places.dir(id);
        let mut pause = SALVAGE_AFTER;
        while self.shared.unread.contains_key(&id) {
            if self.salvaged(id).await {
                self.shared.unread.remove(&id);
                self.clear(&dir);
                tracing::info!(%id, "the output that could not be read at the run's end is stored");
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SALVAGE_AT_LEAST_EVERY);
        }
    }

    /// Tries to read and store the output of an ended run; whether nothing of it is left to be stored.
    async fn salvaged(&self, id: InstanceId) -> bool {
        let Ok(_place) = self.storing.acquire().await else { return false };
        let read = match transcript::read(&self.places.dir(id)).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%id, %error, "the journal of an ended run cannot be read yet");
                return false;
            }
        };
        let Some((kept, _)) = read else { return true };
        let stored =
            self.shared.store.record(Change { transcripts: vec![(id, kept)], ..Change::default() }).await;
        stored
            .inspect_err(|error| tracing::warn!(%id, %error, "the output of an ended run is not stored yet"))
            .is_ok()
    }
}
