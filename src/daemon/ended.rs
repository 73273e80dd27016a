//! Bytes of runs at rest: a journal on disk, a transcript in the store.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::perform::ended;
use super::refusal::{Code, Refusal};
use super::watching::Watch;
use crate::broker::{Channel, Checkpoint, History};
use crate::journal::{self, Found, Pinned, Reader};
use crate::model::{Actor, EventKind, InstanceId, Offset, Size, TimeMs};
use crate::store::{Change, NewEvent, Store, Transcript};

/// A run's journal, read while its shim writes it.
pub(super) struct JournalHistory(Mutex<Reader>);

impl JournalHistory {
    /// The journal in an instance directory.
    #[must_use]
    pub(super) fn new(dir: &Path) -> Self {
        Self(Mutex::new(Reader::new(dir)))
    }

    fn read<T>(&self, what: &str, read: impl FnOnce(&mut Reader) -> io::Result<T>) -> Option<T> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut reader).inspect_err(|error| tracing::warn!(%error, "cannot read a journal's {what}")).ok()
    }
}

impl History for JournalHistory {
    fn range(&self) -> Range<Offset> {
        let (start, end) = self.read("range", |reader| reader.range()).unwrap_or_default();
        start..end
    }

    fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reader.read_at(from, max)? {
            Found::Bytes(bytes) => Ok(bytes),
            Found::End => Ok(Bytes::new()),
            Found::Missing { .. } => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn next_held(&self, from: Offset) -> Offset {
        match self.read("next bytes", |reader| reader.read_at(from, 1)) {
            Some(Found::Missing { to, .. }) => to,
            Some(Found::Bytes(_) | Found::End) | None => from,
        }
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.read("checkpoint", |reader| reader.checkpoint()).flatten().map(checkpoint)
    }

    fn times(&self) -> Vec<(Offset, i64)> {
        let index = self.read("index", |reader| reader.index()).unwrap_or_default();
        index.times.into_iter().map(|(offset, at)| (offset, at.0)).collect()
    }

    fn sizes(&self) -> Vec<(Offset, Size)> {
        self.read("index", |reader| reader.index()).unwrap_or_default().sizes
    }

    fn pinned(&self) -> io::Result<Option<Arc<dyn History>>> {
        let pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner).pin()?;
        Ok(Some(Arc::new(PinnedHistory(pinned))))
    }
}

/// A journal as it was at one moment.
struct PinnedHistory(Pinned);

impl History for PinnedHistory {
    fn range(&self) -> Range<Offset> {
        let (start, end) = self.0.range();
        start..end
    }

    fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes> {
        self.0.read_at(from, max)
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.0.checkpoint.clone().map(checkpoint)
    }

    fn times(&self) -> Vec<(Offset, i64)> {
        self.0.index.times.iter().map(|(offset, at)| (*offset, at.0)).collect()
    }

    fn sizes(&self) -> Vec<(Offset, Size)> {
        self.0.index.sizes.clone()
    }
}

fn checkpoint(found: journal::Checkpoint) -> Checkpoint {
    Checkpoint { offset: found.offset, size: found.size, dump: found.dump }
}

/// A transcript as it is in the store.
pub(super) struct StoredHistory(Transcript);

impl StoredHistory {
    /// A transcript that was read, or is about to be written.
    #[must_use]
    pub(super) const fn new(transcript: Transcript) -> Self {
        Self(transcript)
    }
}

impl History for StoredHistory {
    fn range(&self) -> Range<Offset> {
        self.0.start..self.0.start.after(self.0.bytes.len())
    }

    fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes> {
        let at = from.0.checked_sub(self.0.start.0).ok_or(io::ErrorKind::NotFound)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.bytes.len());
        Ok(self.0.bytes.slice(at..(at + max).min(self.0.bytes.len())))
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let (size, dump) = self.0.checkpoint.clone()?;
        Some(Checkpoint { offset: self.0.start, size, dump })
    }

    fn times(&self) -> Vec<(Offset, i64)> {
        self.0.times.clone()
    }

    fn sizes(&self) -> Vec<(Offset, Size)> {
        self.0.sizes.clone()
    }
}

/// The terminal of an ended run: all of it in the store.
///
/// # Errors
/// `not_found`, or the store.
pub(super) async fn channel(store: &Store, id: InstanceId) -> Result<Arc<Channel>, Refusal> {
    let missing = || Refusal::new(Code::NotFound, format!("There is no instance {id}."));
    let record = store.run(id).await?.ok_or_else(missing)?;
    let transcript = store.transcript(id).await?.unwrap_or_else(|| empty(record.run.instance.output_bytes));
    let size = transcript.sizes.last().map_or(record.definition.size, |(_, size)| *size);
    let history = Arc::new(StoredHistory::new(transcript));
    Ok(Arc::new(Channel::stored(history, size, ended(&record.run.instance))))
}

/// A run of which nothing was kept.
fn empty(end: u64) -> Transcript {
    Transcript {
        start: Offset(end),
        bytes: Bytes::new(),
        times: Vec::new(),
        sizes: Vec::new(),
        checkpoint: None,
        line_count: 0,
        created_at: TimeMs(0),
    }
}

/// Records that a viewer came to a run's terminal or left it.
pub(super) async fn watched(store: &Store, actor: &Actor, id: InstanceId, what: Watch) {
    let kind = match what {
        Watch::Began => EventKind::TaskAttached,
        Watch::Resumed => EventKind::TaskReattached,
        Watch::Left => EventKind::TaskDetached,
    };
    let recorded = async {
        let Some(record) = store.run(id).await? else { return Ok(()) };
        let event = NewEvent::of_run(kind, TimeMs::now(), &record.run.instance, &actor.operator);
        store.record(Change { events: vec![event], ..Change::default() }).await.map(drop)
    };
    let recorded: Result<(), crate::store::Error> = recorded.await;
    if let Err(error) = recorded {
        tracing::warn!(%id, %error, "a viewer's coming or going was not recorded");
    }
}
