//! Everything recorded as it is at one moment, for whoever checks it. Reads only: nothing is made, migrated or folded in.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use super::row::{all, event, first, number, parsed, record, time};
use super::{Error, StoredEvent, Transcript, open, transcripts};
use crate::lifecycle::Run;
use crate::model::{InstanceId, TimeMs};

/// A database held at one moment, whether a daemon writes to it or not.
#[derive(Debug)]
pub struct Snapshot {
    conn: Connection,
}

/// A run's row, with the columns that a [`Run`] does not tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub run: Run,
    /// The column `exit_code`.
    pub exit_code: Option<i64>,
    /// The column `duration_ms`.
    pub duration_ms: Option<i64>,
}

/// A row that cannot be read: its id, and why.
pub type Unreadable = (String, String);

/// A transcript without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TranscriptRow {
    /// Whose it is.
    pub id: InstanceId,
    /// The offset of its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub len: u64,
    /// How many lines are recorded.
    pub line_count: u64,
}

/// An idempotency key and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose key it is.
    pub operator: String,
    /// In which project.
    pub project: String,
    /// The key.
    pub key: String,
    /// The run launched under it.
    pub instance: InstanceId,
    /// Since when.
    pub created_at: TimeMs,
}

/// The audit log's extent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Log {
    /// The oldest id kept.
    pub first: i64,
    /// The newest id kept.
    pub last: i64,
    /// How many are kept.
    pub count: i64,
}

impl Snapshot {
    /// Opens the database at `path` and holds it as it is now.
    ///
    /// # Errors
    /// [`Error::Open`] naming the file and why: it is not there, not ours, damaged, or of a newer kas.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::try_open(path).map_err(|error| error.opening(path))
    }

    fn try_open(path: &Path) -> Result<Self, Error> {
        let conn = connect(path)?;
        conn.busy_timeout(open::BUSY_TIMEOUT)?;
        // Who closes last folds the log in otherwise, which is a change.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch("BEGIN")?;
        let mark = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        open::check_known(mark("application_id")?, mark("user_version")?)?;
        Ok(Self { conn })
    }

    /// What SQLite and the references between tables say is wrong, a sentence each; none is good.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn damage(&self) -> Result<Vec<String>, Error> {
        let text = |row: &Row<'_>| Ok(row.get::<_, String>(0)?);
        let mut said = all(&mut self.conn.prepare("PRAGMA quick_check")?, [], text)?;
        said.retain(|line| line != "ok");
        let stray = |row: &Row<'_>| {
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            Ok(format!("a row of {table} belongs to no row of {parent}"))
        };
        said.extend(all(&mut self.conn.prepare("PRAGMA foreign_key_check")?, [], stray)?);
        Ok(said)
    }

    /// Every run, oldest first; one that cannot be read is its id and why.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn runs(&self) -> Result<Vec<Result<RunRow, Unreadable>>, Error> {
        let mut query = self.conn.prepare("SELECT * FROM task_instances ORDER BY id")?;
        all(&mut query, [], |row| Ok(run_row(row).map_err(|error| (id_text(row), error.to_string()))))
    }

    /// Every key.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRow>, Error> {
        all(&mut self.conn.prepare("SELECT * FROM idempotency_keys")?, [], |row| {
            Ok(KeyRow {
                operator: row.get("operator")?,
                project: row.get("project_id")?,
                key: row.get("key")?,
                instance: parsed(row, "instance_id")?,
                created_at: time(row, "created_at")?,
            })
        })
    }

    /// Events of these kinds, oldest first.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn events(&self, kinds: &[&str]) -> Result<Vec<StoredEvent>, Error> {
        let kinds = serde_json::json!(kinds).to_string();
        let sql = "SELECT * FROM audit_events WHERE kind IN (SELECT value FROM json_each(?1)) ORDER BY id";
        all(&mut self.conn.prepare(sql)?, [kinds], event)
    }

    /// How many events of any kind have this text in their details.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn events_that_say(&self, text: &str) -> Result<u64, Error> {
        let sql = "SELECT count(*) AS n FROM audit_events WHERE instr(details, ?1) > 0";
        Ok(first(&mut self.conn.prepare(sql)?, [text], |row| number(row, "n"))?.unwrap_or(0))
    }

    /// From where to where the audit log reaches.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn log(&self) -> Result<Log, Error> {
        let sql =
            "SELECT coalesce(min(id), 0) AS a, coalesce(max(id), 0) AS b, count(*) AS n FROM audit_events";
        let read = |row: &Row<'_>| {
            Ok(Log { first: number(row, "a")?, last: number(row, "b")?, count: number(row, "n")? })
        };
        Ok(first(&mut self.conn.prepare(sql)?, [], read)?.unwrap_or_default())
    }

    /// Every transcript without its bytes.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn transcripts(&self) -> Result<Vec<TranscriptRow>, Error> {
        let sql = "SELECT task_id, start_offset, line_count, length(transcript) AS len FROM task_transcripts";
        all(&mut self.conn.prepare(sql)?, [], |row| {
            Ok(TranscriptRow {
                id: parsed(row, "task_id")?,
                start: number(row, "start_offset")?,
                len: number(row, "len")?,
                line_count: number(row, "line_count")?,
            })
        })
    }

    /// One transcript, whole.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn transcript(&self, id: InstanceId) -> Result<Option<Transcript>, Error> {
        transcripts::get(&self.conn, id)
    }
}

/// A database whose log is not there was closed in order, and is read without making one. With a log there may be a
/// daemon, and the newest rows are in it.
fn connect(path: &Path) -> Result<Connection, Error> {
    let log = open::beside(path, "-wal");
    if log.exists() {
        return Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?);
    }
    if !path.exists() {
        return Err(Error::Io("it is not there".to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(uri(path), flags)?)
}

/// The file as a URI that says nobody writes to it (sqlite.org/uri.html, "immutable").
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    let quoted = path.as_os_str().as_bytes().iter().map(|byte| match plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    format!("file:{}?immutable=1", quoted.collect::<String>())
}

fn run_row(row: &Row<'_>) -> Result<RunRow, Error> {
    let (exit_code, duration_ms) = (row.get("exit_code")?, row.get("duration_ms")?);
    Ok(RunRow { run: record(row)?.run, exit_code, duration_ms })
}

fn id_text(row: &Row<'_>) -> String {
    row.get("id").unwrap_or_else(|_| "?".to_owned())
}
