//! The audit log: appended to, never changed, the oldest dropped.

use rusqlite::{Connection, params};

use super::row::{all, event, first};
use super::{Error, EventFilter, NewEvent, Page, StoredEvent};

/// Events kept; older ones are dropped as new ones come.
const KEPT: i64 = 100_000;

/// Appends the events and answers their ids. Ids grow by one: AUTOINCREMENT never gives one out twice, and an undone
/// transaction gives its ids back.
pub(super) fn append(conn: &Connection, events: &[NewEvent]) -> Result<Vec<i64>, Error> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO audit_events (at, kind, project_id, task_id, details) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut ids = Vec::with_capacity(events.len());
    for event in events {
        let details = serde_json::Value::Object(event.details.clone()).to_string();
        let project = event.project_id.as_ref().map(ToString::to_string);
        let task = event.task_id.map(|id| id.to_string());
        ids.push(insert.insert(params![event.at.0, event.kind.word(), project, task, details])?);
    }
    if let Some(newest) = ids.last() {
        conn.prepare_cached("DELETE FROM audit_events WHERE id <= ?1")?.execute([newest - KEPT])?;
    }
    Ok(ids)
}

/// The newest event's id, 0 before the first.
pub(super) fn latest(conn: &Connection) -> Result<i64, Error> {
    let mut query = conn.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'audit_events'")?;
    Ok(first(&mut query, [], |row| Ok(row.get(0)?))?.unwrap_or(0))
}

/// Up to `limit` events with a larger id than `after`, oldest first.
pub(super) fn after(conn: &Connection, after: i64, limit: usize) -> Result<Vec<StoredEvent>, Error> {
    let mut query = conn.prepare_cached("SELECT * FROM audit_events WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    all(&mut query, params![after, super::limit(limit)], event)
}

/// A page of events, oldest first; the cursor is the last id shown.
pub(super) fn page(
    conn: &Connection,
    filter: &EventFilter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page<StoredEvent>, Error> {
    let from: i64 = cursor.map_or(Ok(0), str::parse).map_err(|_| Error::Cursor)?;
    let limit = super::limit(limit);
    let mut query = conn.prepare_cached(
        "SELECT * FROM audit_events WHERE id > ?1 AND (?2 IS NULL OR project_id = ?2)
           AND (?3 IS NULL OR kind = ?3) ORDER BY id LIMIT ?4",
    )?;
    let from = from.max(filter.since.unwrap_or(0));
    let items = all(&mut query, params![from, filter.project, filter.kind, limit + 1], event)?;
    Ok(super::page(items, limit, |last| last.id.to_string()))
}
