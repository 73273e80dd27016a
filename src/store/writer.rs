//! The one thread that changes the database, many changes to a commit.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Error, events, open};

/// Changes that wait; a caller waits for a place in the queue when it is full.
const QUEUE: usize = 256;
/// Changes that share a commit at most, so that a reply never waits for long.
const BATCH: usize = 64;

/// Told whether the commit worked.
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;
/// Does its work on the connection, unless there is none to be had.
type Job = Box<dyn FnOnce(Result<&Connection, Error>) -> Reply + Send>;

/// The way to the writer thread. Dropping it ends the thread after what is queued.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the database and starts the thread; the receiver follows the newest event's id.
    pub(super) fn start(path: &Path) -> Result<(Self, watch::Receiver<i64>), Error> {
        Self::on(open::writer(path)?, path)
    }

    fn on(conn: Connection, path: &Path) -> Result<(Self, watch::Receiver<i64>), Error> {
        let (latest, follow) = watch::channel(events::latest(&conn)?);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let log = Log::of(path);
        let thread =
            thread::Builder::new().name("store".to_owned()).spawn(move || run(&conn, queue, &latest, log))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, follow))
    }

    /// Runs `work` in the writer's transaction, alone in its savepoint; answers after the commit.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let outcome = conn.and_then(|conn| in_savepoint(conn, work));
            // The caller may have gone away; the change stands all the same.
            Box::new(move |commit| drop(answer.send(outcome.and_then(|value| commit.map(|()| value)))))
        });
        let jobs = self.jobs.as_ref().ok_or(Error::Closed)?;
        jobs.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            drop(thread.join());
        }
    }
}

/// The write-ahead log, whose size only a reader of another program can drive up.
struct Log {
    path: PathBuf,
    told: bool,
}

impl Log {
    fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), told: false }
    }

    /// Says once that the log has grown beyond what it is cut back to, and once more when that is over.
    fn look(&mut self) {
        let bytes = std::fs::metadata(&self.path).map_or(0, |meta| meta.len());
        let large = bytes > open::LOG_LIMIT_BYTES.cast_unsigned();
        match (large, self.told) {
            (true, false) => tracing::warn!(
                bytes,
                "the database's log has grown: another program keeps reading the database"
            ),
            (false, true) => tracing::info!(bytes, "the database's log is small again"),
            (true, true) | (false, false) => {}
        }
        self.told = large;
    }
}

fn run(conn: &Connection, mut jobs: mpsc::Receiver<Job>, latest: &watch::Sender<i64>, mut log: Log) {
    while let Some(first) = jobs.blocking_recv() {
        match conn.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => batch(conn, first, &mut jobs, latest),
            Err(error) => refuse(first, &mut jobs, &error.into()),
        }
        log.look();
    }
}

/// Whoever waits now has waited for the same lock, so all are told; else the last of them would wait five seconds each.
fn refuse(first: Job, jobs: &mut mpsc::Receiver<Job>, error: &Error) {
    // Who comes while these are told has not waited: the lock may be free by then.
    let waiting = jobs.len();
    let others = (0..waiting).map_while(|_| jobs.try_recv().ok());
    for job in std::iter::once(first).chain(others) {
        job(Err(error.clone()))(Ok(()));
    }
}

fn batch(conn: &Connection, first: Job, jobs: &mut mpsc::Receiver<Job>, latest: &watch::Sender<i64>) {
    let mut replies = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next {
        replies.push(job(Ok(conn)));
        let more = replies.len() < BATCH && !conn.is_autocommit();
        next = if more { jobs.try_recv().ok() } else { None };
    }
    let commit = commit(conn);
    if commit.is_ok() {
        match events::latest(conn) {
            Ok(id) => drop(latest.send_if_modified(|last| std::mem::replace(last, id) != id)),
            Err(error) => tracing::error!(%error, "cannot read the newest event's id"),
        }
    }
    replies.into_iter().for_each(|reply| reply(commit.clone()));
}

/// A full disk or an I/O error makes SQLite undo the whole transaction at once; then nothing of the batch is kept.
fn commit(conn: &Connection) -> Result<(), Error> {
    if conn.is_autocommit() {
        return Err(Error::Undone);
    }
    conn.execute_batch("COMMIT").map_err(|error| {
        if !conn.is_autocommit()
            && let Err(error) = conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "cannot undo a failed commit");
        }
        error.into()
    })
}

fn in_savepoint<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    conn.execute_batch("SAVEPOINT job")?;
    let outcome = work(conn);
    if outcome.is_ok() {
        conn.execute_batch("RELEASE job")?;
    } else if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK TO job; RELEASE job")?;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(conn: &Connection, bytes: usize) -> Result<(), Error> {
        conn.execute(
            "INSERT INTO projects VALUES (hex(randomblob(8)), zeroblob(?1) || hex(randomblob(8)), 0)",
            [bytes as i64],
        )?;
        Ok(())
    }

    #[tokio::test]
    async fn a_change_that_fails_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _) = Writer::start(&dir.path().join("runner.db")).unwrap();
        let good: Vec<_> = (0..10).map(|_| writer.write(|conn| insert(conn, 1))).collect();
        let bad: Vec<_> = (0..10)
            .map(|_| {
                writer.write(|conn| {
                    insert(conn, 1)?;
                    Err::<(), _>(Error::NoInstance)
                })
            })
            .collect();
        let (good, bad) =
            tokio::join!(futures_util::future::join_all(good), futures_util::future::join_all(bad));
        assert!(good.iter().all(Result::is_ok) && bad.iter().all(|it| *it == Err(Error::NoInstance)));
        assert_eq!(writer.write(count).await, Ok(10));
    }

    fn count(conn: &Connection) -> Result<i64, Error> {
        Ok(conn.query_row("SELECT count(*) FROM projects", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn on_a_full_disk_what_was_answered_is_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::writer(&dir.path().join("runner.db")).unwrap();
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let _: i64 =
            conn.query_row(&format!("PRAGMA max_page_count = {}", pages + 20), [], |row| row.get(0)).unwrap();
        let (writer, _) = Writer::on(conn, &dir.path().join("runner.db")).unwrap();
        let sizes = [1, 1, 1_000_000, 1, 1_000_000, 1];
        let outcomes: Vec<_> =
            sizes.into_iter().map(|bytes| writer.write(move |conn| insert(conn, bytes))).collect();
        let outcomes = futures_util::future::join_all(outcomes).await;
        assert_eq!(outcomes[2], Err(Error::Full));
        let kept = outcomes.iter().filter(|it| it.is_ok()).count();
        assert_eq!(writer.write(count).await, Ok(i64::try_from(kept).unwrap()));
        assert_eq!(writer.write(|conn| insert(conn, 1)).await, Ok(()));
    }
}
