//! Rows to records and back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Params, Row, Statement};
use serde::{Deserialize, Serialize};

use super::{Error, Record, StoredEvent};
use crate::lifecycle::{Run, StopRequest};
use crate::model::{Definition, ErrorWord, Exit, Instance, Size, TimeMs};

/// What a definition has beside command and directory, which have columns of their own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefinitionRow {
    env: BTreeMap<String, String>,
    cols: u16,
    rows: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
}

/// A definition's JSON column.
pub(super) fn definition_json(record: &Record) -> Result<String, Error> {
    let (size, env) = (record.definition.size, record.definition.env.clone());
    let row = DefinitionRow { env, cols: size.cols(), rows: size.rows(), boot_id: record.boot_id.clone() };
    serde_json::to_string(&row).map_err(|error| Error::Sql(error.to_string()))
}

/// Every row of a query.
pub(super) fn all<T>(
    statement: &mut Statement<'_>,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut rows = statement.query(params)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read(row)?);
    }
    Ok(items)
}

/// The first row of a query.
pub(super) fn first<T>(
    statement: &mut Statement<'_>,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    statement.query(params)?.next()?.map(read).transpose()
}

/// A text column of a closed form.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::bad_value(format!("column {column}: {error}")))
}

pub(super) fn parsed_opt<T: FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, Error>
where
    T::Err: std::fmt::Display,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error| Error::bad_value(format!("column {column}: {error}")))
}

/// A number column of a narrower type.
pub(super) fn number<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> Result<T, Error> {
    let value: i64 = row.get(column)?;
    narrowed(value, column)
}

fn number_opt<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> Result<Option<T>, Error> {
    let value: Option<i64> = row.get(column)?;
    value.map(|value| narrowed(value, column)).transpose()
}

fn narrowed<T: TryFrom<i64>>(value: i64, column: &str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::bad_value(format!("column {column}: {value}")))
}

/// A count as SQLite keeps it. 8 EiB of output are out of reach.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<TimeMs, Error> {
    Ok(TimeMs(row.get(column)?))
}

pub(super) fn time_opt(row: &Row<'_>, column: &str) -> Result<Option<TimeMs>, Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(TimeMs))
}

/// A path as text where it is UTF-8, so that people can read it, else as bytes.
pub(super) fn path_value(path: &Path) -> Value {
    match path.to_str() {
        Some(text) => Value::Text(text.to_owned()),
        None => Value::Blob(path.as_os_str().as_bytes().to_vec()),
    }
}

struct PathColumn(PathBuf);

impl FromSql for PathColumn {
    fn column_result(value: ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let bytes = value.as_bytes()?;
        Ok(Self(OsStr::from_bytes(bytes).into()))
    }
}

pub(super) fn path(row: &Row<'_>, column: &str) -> Result<PathBuf, Error> {
    Ok(row.get::<_, PathColumn>(column)?.0)
}

/// A terminal's size from two columns.
pub(super) fn size(cols: i64, rows: i64) -> Result<Size, Error> {
    Size::clamped(cols, rows).ok_or_else(|| Error::bad_value(format!("a size of {cols}x{rows}")))
}

/// A run and its definition.
pub(super) fn record(row: &Row<'_>) -> Result<Record, Error> {
    let instance = instance(row)?;
    let text: String = row.get("definition")?;
    let more: DefinitionRow =
        serde_json::from_str(&text).map_err(|error| Error::bad_value(format!("definition: {error}")))?;
    let definition = Definition {
        command: instance.command.clone(),
        cwd: instance.cwd.clone(),
        env: more.env,
        size: size(more.cols.into(), more.rows.into())?,
    };
    Ok(Record { run: Run { instance, stop: stop(row)? }, definition, boot_id: more.boot_id })
}

/// What is shown of a run.
pub(super) fn instance(row: &Row<'_>) -> Result<Instance, Error> {
    let (error, text): (_, Option<String>) = (parsed_opt(row, "error")?, row.get("error_text")?);
    Ok(Instance {
        id: parsed(row, "id")?,
        project_id: parsed(row, "project_id")?,
        task_name: parsed_opt(row, "task_name")?,
        command: row.get("command")?,
        cwd: path(row, "cwd")?,
        state: parsed(row, "state")?,
        backend: parsed(row, "backend")?,
        tmux_session: row.get("tmux_session")?,
        tmux_window: row.get("tmux_window")?,
        pid: number_opt(row, "pid")?,
        exit: exit(row)?,
        error,
        // A kas before schema 3 kept the word only.
        error_text: text.or_else(|| error.map(|word: ErrorWord| word.text().to_owned())),
        launched_at: time(row, "launched_at")?,
        exited_at: time_opt(row, "exited_at")?,
        stopped_at: time_opt(row, "stopped_at")?,
        launched_by: row.get("launched_by")?,
        output_bytes: number(row, "output_bytes")?,
        restarted_from: parsed_opt(row, "restarted_from")?,
        history: number_opt(row, "history")?,
    })
}

fn exit(row: &Row<'_>) -> Result<Option<Exit>, Error> {
    let signal = number_opt(row, "exit_signal")?.map(Exit::Signal);
    Ok(signal.or(number_opt(row, "exit_code")?.map(Exit::Code)))
}

fn stop(row: &Row<'_>) -> Result<Option<StopRequest>, Error> {
    let by: Option<String> = row.get("stop_requested_by")?;
    Ok(time_opt(row, "stop_requested_at")?.zip(by).map(|(at, by)| StopRequest { at, by }))
}

/// An event as it was kept.
pub(super) fn event(row: &Row<'_>) -> Result<StoredEvent, Error> {
    let details: String = row.get("details")?;
    Ok(StoredEvent {
        id: row.get("id")?,
        kind: row.get("kind")?,
        at: time(row, "at")?,
        project_id: row.get("project_id")?,
        task_id: row.get("task_id")?,
        details: serde_json::from_str(&details)
            .map_err(|error| Error::bad_value(format!("details: {error}")))?,
    })
}
