//! Registered projects.

use std::path::Path;

use rusqlite::{Connection, params};

use super::row::{all, first, parsed, path, path_value, time};
use super::{Error, Registered};
use crate::model::ProjectId;

/// Projects registered at one time; one more is refused.
const CAP: i64 = 256;

pub(super) fn add(conn: &Connection, project: &Registered, moved_from: Option<&Path>) -> Result<(), Error> {
    let known = list(conn)?;
    if known.iter().any(|known| known.id == project.id && Some(known.path.as_path()) == moved_from)
        && known.iter().all(|known| known.path != project.path)
    {
        let moved = params![project.id.as_str(), path_value(&project.path), project.registered_at.0];
        conn.execute("UPDATE projects SET path = ?2, registered_at = ?3 WHERE id = ?1", moved)?;
        return Ok(());
    }
    for known in known {
        if known.id == project.id {
            let (new, old) = (project.path.display(), known.path.display());
            return Err(Error::Conflict(format!("{new}: the id {} is taken by {old}", known.id)));
        }
        if known.path == project.path {
            let old = known.path.display();
            return Err(Error::Conflict(format!("{old} is registered already, as {}", known.id)));
        }
    }
    let count: i64 = conn.query_row("SELECT count(*) FROM projects", [], |row| row.get(0))?;
    if count >= CAP {
        return Err(Error::Conflict(format!("{CAP} projects are registered, which is the most")));
    }
    conn.execute(
        "INSERT INTO projects VALUES (?1, ?2, ?3)",
        params![project.id.as_str(), path_value(&project.path), project.registered_at.0],
    )?;
    Ok(())
}

/// Forgets a project with its ended runs; whether it was known.
pub(super) fn remove(conn: &Connection, id: &ProjectId) -> Result<bool, Error> {
    let mut live = conn.prepare(
        "SELECT id FROM task_instances WHERE project_id = ?1 AND state IN ('starting', 'running')",
    )?;
    if let Some(run) = first(&mut live, [id.as_str()], |row| Ok(row.get::<_, String>("id")?))? {
        return Err(Error::Conflict(format!("{id} has runs that are not over, as {run}")));
    }
    Ok(conn.execute("DELETE FROM projects WHERE id = ?1", [id.as_str()])? == 1)
}

pub(super) fn list(conn: &Connection) -> Result<Vec<Registered>, Error> {
    let mut query = conn.prepare_cached("SELECT * FROM projects ORDER BY id")?;
    all(&mut query, [], |row| {
        Ok(Registered {
            id: parsed(row, "id")?,
            path: path(row, "path")?,
            registered_at: time(row, "registered_at")?,
        })
    })
}
