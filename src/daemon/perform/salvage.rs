//! The output of ended runs that could not be read: tried again until it can be, kept until then.

use std::io;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::holder::READ_AGAIN_IN;
use super::performer::Performer;
use super::run::with_missing;
use super::transcript::{self, Missing};
use crate::model::{EventKind, InstanceId, Offset, TimeMs};
use crate::store::{Change, Error, NewEvent, Transcript};

/// How often a journal is tried to be read before its run ends without it.
const TRIES: u32 = 20;
/// The pause until it is tried again after that, at first and at most.
const SALVAGE_AFTER: Duration = Duration::from_secs(1);
const SALVAGE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Whether the shim of an ended run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shim {
    Left,
    Stays,
}

/// What became of an output that was to be stored.
#[derive(Debug, Clone, Copy)]
enum Salvaged {
    Stored,
    Gone,
}

impl Performer {
    /// What a run wrote, tried for ten seconds while the machine keeps it from being read; and the place among those that hold a transcript in
    /// memory, which is given back while waiting.
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

    /// Has the output of an ended run read and stored as soon as that can be done. Then its directory goes, if its shim has left.
    pub(super) fn begin_salvage(&self, id: InstanceId, shim: Shim) {
        self.shared.unread.insert(id, self.places.dir(id));
        self.apart(move |it| async move { it.salvage(id, shim).await });
    }

    /// Ends when the output is stored, or there is none any more.
    async fn salvage(self, id: InstanceId, shim: Shim) {
        let mut pause = SALVAGE_AFTER;
        while self.shared.unread.contains_key(&id) {
            if let Some(salvaged) = self.salvaged(id).await {
                self.shared.unread.remove(&id);
                if shim == Shim::Left {
                    self.clear(&self.places.dir(id));
                }
                tracing::info!(%id, "the output that could not be read at the run's end {}", salvaged.words());
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SALVAGE_AT_LEAST_EVERY);
        }
    }

    /// Tries to read and store the output of an ended run; `None` when it is to be tried again.
    async fn salvaged(&self, id: InstanceId) -> Option<Salvaged> {
        let _place = self.storing.acquire().await.ok()?;
        let read = transcript::read(&self.places.dir(id)).await;
        let read = read.inspect_err(
            |error| tracing::debug!(%id, %error, "the journal of an ended run cannot be read yet"),
        );
        let Some((kept, missing)) = read.ok()? else { return Some(Salvaged::Gone) };
        let stored = self.store_salvaged(id, kept, missing).await;
        stored
            .inspect_err(|error| tracing::warn!(%id, %error, "the output of an ended run is not stored yet"))
            .ok()
    }

    /// Stores the output and tells of it, so that readers look again; the event names the bytes that are missing, as that of the end would have.
    async fn store_salvaged(
        &self,
        id: InstanceId,
        kept: Transcript,
        missing: Missing,
    ) -> Result<Salvaged, Error> {
        let Some(record) = self.shared.store.run(id).await? else { return Ok(Salvaged::Gone) };
        let instance = record.run.instance;
        let missing = transcript::missing_of(&kept, missing, Offset(instance.output_bytes));
        let event = NewEvent::new(EventKind::ProjectChanged, TimeMs::now())
            .project(&instance.project_id)
            .detail("change", "output_stored");
        let event = with_missing(NewEvent { task_id: Some(id), ..event }, &missing);
        let change = Change { transcripts: vec![(id, kept)], events: vec![event], ..Change::default() };
        self.shared.store.record(change).await.map(|_| Salvaged::Stored)
    }
}

impl Salvaged {
    const fn words(self) -> &'static str {
        match self {
            Self::Stored => "is stored",
            Self::Gone => "is not there any more",
        }
    }
}
