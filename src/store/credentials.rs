//! Tokens and browser sessions, as hashes only.

use rusqlite::{Connection, Row, params};

use super::Error;
use super::row::{all, parsed, parsed_opt, time, time_opt};
use crate::auth::{Hash, SessionRecord, TokenRecord};
use crate::model::{SharedTask, TimeMs};

/// Tokens kept: the oldest revoked ones beyond that are forgotten.
const TOKENS: i64 = 256;

/// Writes a token, new or changed.
pub(super) fn put_token(conn: &Connection, token: &TokenRecord) -> Result<(), Error> {
    conn.execute(
        "INSERT INTO tokens (id, name, hash, scope, created_at, expires_at, revoked_at, project_id, task_name)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET expires_at = ?6, revoked_at = ?7",
        params![
            token.id,
            token.name,
            token.hash.as_bytes(),
            token.scope.word(),
            token.created_at.0,
            token.expires_at.map(|at| at.0),
            token.revoked_at.map(|at| at.0),
            token.only.as_ref().map(|only| only.project.as_str()),
            token.only.as_ref().map(|only| only.task.as_str()),
        ],
    )?;
    conn.execute(
        "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_at IS NOT NULL
           ORDER BY created_at, id LIMIT max(0, (SELECT count(*) FROM tokens) - ?1))",
        [TOKENS],
    )?;
    Ok(())
}

pub(super) fn tokens(conn: &Connection) -> Result<Vec<TokenRecord>, Error> {
    all(&mut conn.prepare("SELECT * FROM tokens ORDER BY created_at, id")?, [], |row| {
        Ok(TokenRecord {
            id: row.get("id")?,
            name: row.get("name")?,
            hash: hash(row, "hash")?,
            scope: parsed(row, "scope")?,
            only: only(row)?,
            created_at: time(row, "created_at")?,
            expires_at: time_opt(row, "expires_at")?,
            revoked_at: time_opt(row, "revoked_at")?,
        })
    })
}

/// Replaces the sessions by these, so that the table has no more than memory has.
pub(super) fn put_sessions(conn: &Connection, sessions: &[SessionRecord]) -> Result<(), Error> {
    conn.execute("DELETE FROM sessions", [])?;
    let mut insert = conn.prepare(
        "INSERT INTO sessions (id, cookie_hash, key_hash, scope, created_at, expires_at, token_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for session in sessions {
        insert.execute(params![
            session.id,
            session.cookie.as_bytes(),
            session.key.as_bytes(),
            session.scope.word(),
            session.created_at.0,
            session.expires_at.0,
            session.token,
        ])?;
    }
    Ok(())
}

/// Sessions that have not expired at `now`, oldest first.
pub(super) fn sessions(conn: &Connection, now: TimeMs) -> Result<Vec<SessionRecord>, Error> {
    let mut query = conn.prepare("SELECT * FROM sessions WHERE expires_at > ?1 ORDER BY created_at, id")?;
    all(&mut query, [now.0], |row| {
        Ok(SessionRecord {
            id: row.get("id")?,
            cookie: hash(row, "cookie_hash")?,
            key: hash(row, "key_hash")?,
            scope: parsed(row, "scope")?,
            created_at: time(row, "created_at")?,
            expires_at: time(row, "expires_at")?,
            token: row.get("token_id")?,
        })
    })
}

fn only(row: &Row<'_>) -> Result<Option<SharedTask>, Error> {
    let (project, task) = (parsed_opt(row, "project_id")?, parsed_opt(row, "task_name")?);
    Ok(project.zip(task).map(|(project, task)| SharedTask { project, task }))
}

fn hash(row: &Row<'_>, column: &str) -> Result<Hash, Error> {
    let bytes: Vec<u8> = row.get(column)?;
    Hash::from_bytes(&bytes).ok_or_else(|| Error::bad_value(format!("column {column}: not a SHA-256")))
}
