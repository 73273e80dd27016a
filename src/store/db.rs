//! The store's face.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::readers::Readers;
use super::writer::Writer;
use super::{
    Change, Earlier, Error, EventFilter, IdempotencyKey, NewEvent, OfTask, Page, Record, Recorded,
    Registered, RunFilter, StoredEvent, Transcript,
};
use super::{credentials, events, projects, runs, transcripts};
use crate::auth::{SessionRecord, TokenRecord};
use crate::model::{Instance, InstanceId, ProjectId, TimeMs};

/// The database of one state directory; a cheap clone. What a verb that changes something answers with `Ok` has been
/// committed. Every verb can fail with [`Error::Busy`] after five seconds, and with what SQLite or the file system said.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
    latest: watch::Receiver<i64>,
}

impl Store {
    /// Opens the database at `path`, made (mode 0600) or migrated as needed. Blocks; the caller holds the lock of the
    /// state directory, so no other daemon writes.
    ///
    /// # Errors
    /// [`Error::Open`] naming the file and why. A file of a newer kas or of another program is left byte for byte.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (writer, latest) = Writer::start(path).map_err(|error| error.opening(path))?;
        Ok(Self { inner: Arc::new(Inner { writer, readers: Readers::new(path.to_owned()), latest }) })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.write(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.readers.read(work).await
    }

    /// Whether the database can be read and takes changes.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), Error> {
        self.write(|conn| events::latest(conn).map(drop)).await
    }

    // ---- runs

    /// Records a run before anything of it is started: `None`. When `key` stands for an earlier run, nothing is
    /// recorded and that is the answer. The row's launch time is the `now` of the key.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the project is unknown or the id taken.
    pub async fn insert(
        &self,
        record: Record,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<Earlier>, Error> {
        self.write(move |conn| runs::insert(conn, &record, key.as_ref())).await
    }

    /// What an idempotency key stands for at `now`, if anything; to be asked before limits are.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn earlier(
        &self,
        project: ProjectId,
        key: IdempotencyKey,
        now: TimeMs,
    ) -> Result<Option<Earlier>, Error> {
        self.read(move |conn| runs::earlier(conn, &project, &key, now)).await
    }

    /// The run that a restart of `old` launched under this key, though the record of `old` may be gone.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn restarted(
        &self,
        old: InstanceId,
        key: IdempotencyKey,
        now: TimeMs,
    ) -> Result<Option<Record>, Error> {
        self.read(move |conn| runs::restarted(conn, old, &key, now)).await
    }

    /// Carries out a change, in one transaction.
    ///
    /// # Errors
    /// [`Error::NoInstance`] when an updated run is not recorded; [`Error::Conflict`] when a state would go back or a
    /// run that is not over would be deleted. Nothing of the change is kept then.
    pub async fn record(&self, change: Change) -> Result<Recorded, Error> {
        self.write(move |conn| runs::apply(conn, &change)).await
    }

    /// One run.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn run(&self, id: InstanceId) -> Result<Option<Record>, Error> {
        self.read(move |conn| runs::get(conn, id)).await
    }

    /// The runs of these ids that are recorded.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn runs_of(&self, ids: Vec<InstanceId>) -> Result<Vec<Record>, Error> {
        self.read(move |conn| ids.into_iter().filter_map(|id| runs::get(conn, id).transpose()).collect())
            .await
    }

    /// The greatest id of any run: the newest one's.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn newest(&self) -> Result<Option<InstanceId>, Error> {
        self.read(runs::newest).await
    }

    /// Every run that is starting or running, oldest first.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn live(&self) -> Result<Vec<Record>, Error> {
        self.read(runs::live).await
    }

    /// Ended runs of one named task, or the ad-hoc ones, in no order.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn ended(&self, project: ProjectId, task: OfTask) -> Result<Vec<InstanceId>, Error> {
        self.read(move |conn| runs::ended(conn, &project, &task)).await
    }

    /// Every ended run of a project.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn all_ended(&self, project: ProjectId) -> Result<Vec<Instance>, Error> {
        self.read(move |conn| runs::all_ended(conn, &project)).await
    }

    /// The newest run of each named task of a project.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn newest_of_tasks(&self, project: ProjectId) -> Result<Vec<Instance>, Error> {
        self.read(move |conn| runs::newest_of_tasks(conn, &project)).await
    }

    /// A page of a project's runs, newest first; `limit` is brought into 1..=500.
    ///
    /// # Errors
    /// [`Error::Cursor`] for a cursor that no page gave out.
    pub async fn runs(
        &self,
        project: ProjectId,
        filter: RunFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page<Instance>, Error> {
        self.read(move |conn| runs::page(conn, &project, &filter, limit, cursor.as_deref())).await
    }

    /// What an ended run wrote, at most 10 MiB; it is stored by [`Store::record`].
    ///
    /// # Errors
    /// As for every verb.
    pub async fn transcript(&self, id: InstanceId) -> Result<Option<Transcript>, Error> {
        self.read(move |conn| transcripts::get(conn, id)).await
    }

    /// Which of these runs have a transcript.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn with_transcript(&self, ids: Vec<InstanceId>) -> Result<BTreeSet<InstanceId>, Error> {
        self.read(move |conn| transcripts::which(conn, &ids)).await
    }

    // ---- events

    /// Up to `limit` (at most 500) events with a larger id, oldest first.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn events_after(&self, id: i64, limit: usize) -> Result<Vec<StoredEvent>, Error> {
        self.read(move |conn| events::after(conn, id, limit)).await
    }

    /// A page of events, oldest first; `limit` is brought into 1..=500.
    ///
    /// # Errors
    /// [`Error::Cursor`] for a cursor that no page gave out.
    pub async fn events(
        &self,
        filter: EventFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page<StoredEvent>, Error> {
        self.read(move |conn| events::page(conn, &filter, limit, cursor.as_deref())).await
    }

    /// The newest event's id, 0 before the first; changes after the commit of a new one.
    #[must_use]
    pub fn latest_event(&self) -> watch::Receiver<i64> {
        self.inner.latest.clone()
    }

    // ---- projects

    /// Registers a project; one that is registered at `moved_from` gets the new path and keeps its runs.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming both directories when the id is taken, or when the directory is registered.
    pub async fn add_project(
        &self,
        project: Registered,
        moved_from: Option<PathBuf>,
        events: Vec<NewEvent>,
    ) -> Result<(), Error> {
        self.write(move |conn| {
            projects::add(conn, &project, moved_from.as_deref())?;
            events::append(conn, &events).map(drop)
        })
        .await
    }

    /// Forgets a project with the records of its runs; `false` when it was not known, and then nothing is recorded.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a run of it is not over.
    pub async fn remove_project(&self, id: ProjectId, events: Vec<NewEvent>) -> Result<bool, Error> {
        self.write(move |conn| {
            let known = projects::remove(conn, &id)?;
            if known {
                events::append(conn, &events)?;
            }
            Ok(known)
        })
        .await
    }

    /// Registered projects, by id.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn projects(&self) -> Result<Vec<Registered>, Error> {
        self.read(projects::list).await
    }

    // ---- credentials

    /// Writes a token, new or changed.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn put_token(&self, token: TokenRecord) -> Result<(), Error> {
        self.write(move |conn| credentials::put_token(conn, &token)).await
    }

    /// Every token, revoked ones too, oldest first.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, Error> {
        self.read(credentials::tokens).await
    }

    /// Makes these the browser sessions that a restart finds.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn put_sessions(&self, sessions: Vec<SessionRecord>) -> Result<(), Error> {
        self.write(move |conn| credentials::put_sessions(conn, &sessions)).await
    }

    /// Browser sessions that have not expired at `now`, oldest first.
    ///
    /// # Errors
    /// As for every verb.
    pub async fn sessions(&self, now: TimeMs) -> Result<Vec<SessionRecord>, Error> {
        self.read(move |conn| credentials::sessions(conn, now)).await
    }
}
