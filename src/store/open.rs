//! Opening the file: what may be opened at all, how, and the way from older schemas.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use super::Error;

/// The schemas, oldest first; schema n is what the first n of them make. A shipped one never changes.
const SCHEMAS: &[&str] = &[include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];
/// Marks a database file as ours (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x6b61_7372;
/// Below this, SQLite could lose committed changes when two connections checkpoint at once (fixed in 3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a statement waits for another program's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is cut back to this after a checkpoint.
pub(super) const LOG_LIMIT_BYTES: i64 = 64 << 20;

/// Opens the database for the one writer, made or migrated as needed. A file that is not ours, or is of a newer kas,
/// is left byte for byte as it was.
pub(super) fn writer(path: &Path) -> Result<Connection, Error> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(Error::Sql(format!("SQLite {} is too old, 3.51.3 is needed", rusqlite::version())));
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => return Err(Error::Foreign("not a plain file".to_owned())),
        Ok(_) => check_marks(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(error.into()),
    }
    let mut conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare(&conn)?;
    keep_copy(&conn, path)?;
    migrate(&mut conn, SCHEMAS)?;
    for table in ["projects", "task_instances", "tokens", "sessions", "idempotency_keys"] {
        check_table(&conn, table)?;
    }
    Ok(conn)
}

/// Opens the database, which a writer has opened before, for reading only.
pub(super) fn reader(path: &Path) -> Result<Connection, Error> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

/// NORMAL loses no commit when the process dies; only a power cut may take the last ones, never the order.
fn prepare(conn: &Connection) -> Result<(), Error> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::ReadOnly(format!("no write-ahead log is possible here (mode {mode})")));
    }
    conn.pragma_update(None, "synchronous", "normal")?;
    conn.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
    Ok(())
}

/// Looks for damage in one small table; transcripts are too large to be read through at every start.
fn check_table(conn: &Connection, table: &str) -> Result<(), Error> {
    let verdict: String = conn.query_row(&format!("PRAGMA quick_check('{table}')"), [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Error::Corrupt(verdict)) }
}

/// Refuses what is not ours or newer, without writing. The header says it all unless a log is there: then the newest
/// header may be in the log, and SQLite reads it, told not to fold the log in when it closes.
fn check_marks(path: &Path) -> Result<(), Error> {
    let (id, version) = if has_log(path) { marks_with_log(path)? } else { marks_of_header(path)? };
    known(id, version).map(drop)
}

/// Which schemas this program knows; an error for what is not ours or newer.
fn known(id: i32, version: u32) -> Result<u32, Error> {
    let known = u32::try_from(SCHEMAS.len()).unwrap_or(u32::MAX);
    if id != APPLICATION_ID {
        return Err(Error::Foreign(format!("its mark is {id:#x}")));
    }
    if version > known {
        return Err(Error::Newer { found: version, known });
    }
    Ok(known)
}

/// Refuses what is not ours, newer, or so old that only a daemon can bring it up to date.
pub(super) fn check_known(id: i64, version: i64) -> Result<(), Error> {
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    let known = known(i32::try_from(id).unwrap_or(0), version)?;
    if version < known {
        return Err(Error::Sql(format!(
            "it has schema {version}, older than {known}; a daemon brings it up to date when it starts"
        )));
    }
    Ok(())
}

fn has_log(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

fn marks_with_log(path: &Path) -> Result<(i32, u32), Error> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    let id = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((id, version))
}

/// `user_version` is at byte 60 and `application_id` at byte 68 of the file (sqlite.org/fileformat2.html, §1.3).
fn marks_of_header(path: &Path) -> Result<(i32, u32), Error> {
    let mut header = [0; 72];
    let mut file = OpenOptions::new().read(true).open(path)?;
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(Error::Corrupt(format!("it has only {} bytes", file.metadata()?.len())));
        }
        Err(error) => return Err(error.into()),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(Error::Foreign("it is not an SQLite file".to_owned()));
    }
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    Ok((i32::from_be_bytes(word(68)), u32::from_be_bytes(word(60))))
}

/// A new database gets its name only when its schema is in it, so an empty file of that name is damage, not a start.
fn create(path: &Path) -> Result<(), Error> {
    if has_log(path) {
        return Err(Error::Corrupt("the file is gone but its -wal is there".to_owned()));
    }
    let fresh = beside(path, ".new");
    for file in [fresh.clone(), beside(&fresh, "-wal"), beside(&fresh, "-shm"), beside(&fresh, "-journal")] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    // The modes of -wal and -shm follow this one's.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?.sync_all()?;
    let mut conn = Connection::open_with_flags(&fresh, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(&mut conn, SCHEMAS)?;
    conn.close().map_err(|(_, error)| error)?;
    named(&fresh, path)
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Before a schema is changed the database is copied whole, to `runner.db.v1` for one of schema 1, for whoever goes back to the kas before.
fn keep_copy(conn: &Connection, path: &Path) -> Result<(), Error> {
    let have: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if have as usize >= SCHEMAS.len() {
        return Ok(());
    }
    let copy = beside(path, &format!(".v{have}"));
    let fresh = beside(&copy, ".new");
    // SQLite fills an empty file, and makes one for everybody.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let name = ToSqlOutput::Borrowed(ValueRef::Text(fresh.as_os_str().as_encoded_bytes()));
    conn.execute("VACUUM INTO ?1", [name])?;
    file.sync_all()?;
    named(&fresh, &copy)
}

/// Gives a whole file its name, for good.
fn named(fresh: &Path, path: &Path) -> Result<(), Error> {
    fs::rename(fresh, path)?;
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::File::open(parent)?.sync_all()?)
}

/// Brings the schema up to the newest with its version number: all steps in one transaction, so that a cut leaves the old schema or the new
/// one, and never one between.
fn migrate(conn: &mut Connection, schemas: &[&str]) -> Result<(), Error> {
    // A step may make a table anew; with references followed, that would delete what refers to its rows. No effect inside a transaction.
    conn.pragma_update(None, "foreign_keys", false)?;
    let have: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = u32::try_from(schemas.len()).expect("there are few schemas");
    let missing = schemas.get(have as usize..).unwrap_or_default();
    if !missing.is_empty() {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
        for sql in missing {
            tx.execute_batch(sql)?;
        }
        tx.pragma_update(None, "user_version", newest)?;
        tx.commit()?;
    }
    conn.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(conn: &Connection) -> u32 {
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn steps_are_taken_once_and_in_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, &["CREATE TABLE a (x)"]).unwrap();
        conn.execute("INSERT INTO a VALUES (1)", []).unwrap();
        let schemas = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y DEFAULT 2"];
        for _ in 0..2 {
            migrate(&mut conn, &schemas).unwrap();
            assert_eq!(version(&conn), 2);
        }
        let sum: i64 = conn.query_row("SELECT x + y FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, 3);
    }

    #[test]
    fn a_step_that_fails_leaves_the_schema_that_was_there() {
        let mut conn = Connection::open_in_memory().unwrap();
        let schemas = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE c (x); CREATE TABLE a (x)"];
        migrate(&mut conn, &schemas[..1]).unwrap();
        assert!(migrate(&mut conn, &schemas).is_err());
        assert_eq!(version(&conn), 1);
        let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1);
    }
}
