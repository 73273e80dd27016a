//! Runs: recorded before they start, changed only forwards, listed newest first. Old and new go by id, which is launch order; no clock decides.

use rusqlite::{Connection, params};

use super::row::{all, definition_json, first, instance, parsed, path_value, record, signed};
use super::{Change, Earlier, Error, IdempotencyKey, OfTask, Page, Record, Recorded, RunFilter};
use super::{events, transcripts};
use crate::lifecycle::Run;
use crate::model::{Exit, Instance, InstanceId, ProjectId, RunState, TimeMs};

/// How long an idempotency key is known (`spec/protocol.md` §2).
const KEY_LIFE_MS: i64 = 24 * 60 * 60 * 1000;

const ENDED: &str = "state IN ('done', 'failed', 'stopped')";

/// Records a new run, unless its key stands for an earlier one.
pub(super) fn insert(
    conn: &Connection,
    record: &Record,
    key: Option<&IdempotencyKey>,
) -> Result<Option<Earlier>, Error> {
    let instance = &record.run.instance;
    let now = instance.launched_at;
    if let Some(key) = key {
        if let Some(earlier) = earlier(conn, &instance.project_id, key, now)? {
            return Ok(Some(earlier));
        }
        remember(conn, instance, key, now)?;
    }
    insert_row(conn, record)?;
    Ok(None)
}

/// What a key stands for at `now`.
pub(super) fn earlier(
    conn: &Connection,
    project: &ProjectId,
    key: &IdempotencyKey,
    now: TimeMs,
) -> Result<Option<Earlier>, Error> {
    let mut query = conn.prepare_cached(
        "SELECT instance_id FROM idempotency_keys
         WHERE operator = ?1 AND project_id = ?2 AND key = ?3 AND created_at > ?4",
    )?;
    let known = params![key.operator, project.as_str(), key.key, now.0 - KEY_LIFE_MS];
    let Some(id) = first(&mut query, known, |row| parsed(row, "instance_id"))? else {
        return Ok(None);
    };
    let found = get(conn, id)?;
    Ok(Some(found.map_or(Earlier::Deleted(id), |record| Earlier::Run(Box::new(record)))))
}

/// The run that was launched under a key as a restart of `old`, whose own record may be gone.
pub(super) fn restarted(
    conn: &Connection,
    old: InstanceId,
    key: &IdempotencyKey,
    now: TimeMs,
) -> Result<Option<Record>, Error> {
    let mut query = conn.prepare_cached(
        "SELECT task_instances.* FROM idempotency_keys JOIN task_instances ON id = instance_id
         WHERE operator = ?1 AND key = ?2 AND created_at > ?3 AND restarted_from = ?4",
    )?;
    let known = params![key.operator, key.key, now.0 - KEY_LIFE_MS, old.to_string()];
    first(&mut query, known, record)
}

/// The table's size is bounded by the launches of a day: expired keys go when a new one comes.
fn remember(conn: &Connection, instance: &Instance, key: &IdempotencyKey, now: TimeMs) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM idempotency_keys WHERE created_at <= ?1")?
        .execute([now.0 - KEY_LIFE_MS])?;
    conn.prepare_cached("INSERT INTO idempotency_keys VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        key.operator,
        instance.project_id.as_str(),
        key.key,
        instance.id.to_string(),
        now.0
    ])?;
    Ok(())
}

fn insert_row(conn: &Connection, record: &Record) -> Result<(), Error> {
    let run = &record.run.instance;
    conn.prepare_cached(
        "INSERT INTO task_instances (id, project_id, task_name, command, cwd, state, backend, launched_at,
           launched_by, restarted_from, history, definition)
         VALUES (?1, ?2, ?3, ?4, ?5, 'starting', ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        run.id.to_string(),
        run.project_id.as_str(),
        run.task_name.as_ref().map(ToString::to_string),
        run.command,
        path_value(&run.cwd),
        run.backend.word(),
        run.launched_at.0,
        run.launched_by,
        run.restarted_from.map(|id| id.to_string()),
        run.history,
        definition_json(record)?,
    ])?;
    update(conn, &record.run)
}

/// Writes everything of a run that can change.
fn update(conn: &Connection, run: &Run) -> Result<(), Error> {
    let instance = &run.instance;
    let signal = match instance.exit {
        Some(Exit::Signal(number)) => Some(number),
        Some(Exit::Code(_)) | None => None,
    };
    let changed = conn
        .prepare_cached(
            "UPDATE task_instances SET state = ?2, backend = ?3, tmux_session = ?4, tmux_window = ?5, pid = ?6,
               exit_code = ?7, exit_signal = ?8, error = ?9, exited_at = ?10, stopped_at = ?11, duration_ms = ?12,
               output_bytes = ?13, stop_requested_at = ?14, stop_requested_by = ?15, error_text = ?16 WHERE id = ?1",
        )?
        .execute(params![
            instance.id.to_string(),
            instance.state.word(),
            instance.backend.word(),
            instance.tmux_session,
            instance.tmux_window,
            instance.pid,
            instance.exit_code(),
            signal,
            instance.error.map(|error| error.word()),
            instance.exited_at.map(|at| at.0),
            instance.stopped_at.map(|at| at.0),
            instance.duration_ms(),
            signed(instance.output_bytes),
            run.stop.as_ref().map(|stop| stop.at.0),
            run.stop.as_ref().map(|stop| stop.by.as_str()),
            instance.error_text,
        ])?;
    if changed == 1 { Ok(()) } else { Err(Error::NoInstance) }
}

/// Carries out a change, all of it or, by the caller's savepoint, nothing.
pub(super) fn apply(conn: &Connection, change: &Change) -> Result<Recorded, Error> {
    for run in &change.updates {
        update(conn, run)?;
    }
    for (id, transcript) in &change.transcripts {
        transcripts::put(conn, *id, transcript)?;
    }
    let mut deleted = 0;
    for id in &change.deletes {
        deleted += u64::from(delete(conn, *id)?);
    }
    Ok(Recorded { deleted, events: events::append(conn, &change.events)? })
}

fn delete(conn: &Connection, id: InstanceId) -> Result<bool, Error> {
    let state = get(conn, id)?.map(|record| record.run.instance.state);
    match state {
        None => Ok(false),
        Some(state) if state.is_terminal() => {
            conn.prepare_cached("DELETE FROM task_instances WHERE id = ?1")?.execute([id.to_string()])?;
            Ok(true)
        }
        Some(state) => Err(Error::Conflict(format!("the instance is {state}"))),
    }
}

pub(super) fn get(conn: &Connection, id: InstanceId) -> Result<Option<Record>, Error> {
    let mut query = conn.prepare_cached("SELECT * FROM task_instances WHERE id = ?1")?;
    first(&mut query, [id.to_string()], record)
}

/// The greatest id.
pub(super) fn newest(conn: &Connection) -> Result<Option<InstanceId>, Error> {
    let mut query = conn.prepare_cached("SELECT id FROM task_instances ORDER BY id DESC LIMIT 1")?;
    first(&mut query, [], |row| parsed(row, "id"))
}

pub(super) fn live(conn: &Connection) -> Result<Vec<Record>, Error> {
    let mut query = conn
        .prepare_cached("SELECT * FROM task_instances WHERE state IN ('starting', 'running') ORDER BY id")?;
    all(&mut query, [], record)
}

/// Ended runs of a named task, or the ad-hoc ones.
pub(super) fn ended(conn: &Connection, project: &ProjectId, task: &OfTask) -> Result<Vec<InstanceId>, Error> {
    let sql = format!("SELECT id FROM task_instances WHERE project_id = ?1 AND task_name IS ?2 AND {ENDED}");
    let task = task.as_ref().map(ToString::to_string);
    let mut query = conn.prepare_cached(&sql)?;
    all(&mut query, params![project.as_str(), task], |row| parsed(row, "id"))
}

/// All ended runs of a project.
pub(super) fn all_ended(conn: &Connection, project: &ProjectId) -> Result<Vec<Instance>, Error> {
    let sql = format!("SELECT * FROM task_instances WHERE project_id = ?1 AND {ENDED}");
    let mut query = conn.prepare_cached(&sql)?;
    all(&mut query, [project.as_str()], instance)
}

/// The newest run of each named task.
pub(super) fn newest_of_tasks(conn: &Connection, project: &ProjectId) -> Result<Vec<Instance>, Error> {
    let mut query = conn.prepare_cached(
        "SELECT * FROM task_instances WHERE id IN (SELECT max(id) FROM task_instances
           WHERE project_id = ?1 AND task_name IS NOT NULL GROUP BY task_name)",
    )?;
    all(&mut query, [project.as_str()], instance)
}

/// A page of runs, newest first; the cursor is the last one's id.
pub(super) fn page(
    conn: &Connection,
    project: &ProjectId,
    filter: &RunFilter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page<Instance>, Error> {
    let last: Option<InstanceId> = cursor.map(str::parse).transpose().map_err(|_| Error::Cursor)?;
    let states =
        serde_json::json!(filter.states.iter().map(|state: &RunState| state.word()).collect::<Vec<_>>());
    let limit = super::limit(limit);
    let mut query = conn.prepare_cached(
        "SELECT * FROM task_instances WHERE project_id = ?1 AND (?2 IS NULL OR id < ?2)
           AND (?3 IS NULL OR task_name = ?3)
           AND (?4 = '[]' OR state IN (SELECT value FROM json_each(?4)))
         ORDER BY id DESC LIMIT ?5",
    )?;
    let wanted = params![
        project.as_str(),
        last.map(|id| id.to_string()),
        filter.task_name,
        states.to_string(),
        limit + 1
    ];
    let items = all(&mut query, wanted, instance)?;
    Ok(super::page(items, limit, |last| last.id.to_string()))
}
