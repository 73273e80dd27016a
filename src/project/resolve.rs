//! Tasks as the rest of the program knows them.

use std::collections::BTreeMap;

use super::raw;
use crate::model::{InvalidId, ProjectId, TaskName};

/// What a project file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Project {
    /// The `project:` key, if there is one.
    pub id: Option<ProjectId>,
    /// The named tasks in the order of the file, then those only the local file has.
    pub tasks: Vec<TaskDef>,
}

impl Project {
    /// The task of this name.
    #[must_use]
    pub fn task(&self, name: &TaskName) -> Option<&TaskDef> {
        self.tasks.iter().find(|task| task.name == *name)
    }
}

/// One named task (`seeds/004`, "Fields").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskDef {
    /// Its key.
    pub name: TaskName,
    /// The shell command, verbatim; not empty, no NUL.
    pub command: String,
    /// A sentence for people, at most 280 characters; may be empty.
    pub description: String,
    /// The section it is shown in.
    pub group: Option<String>,
    /// Directory below the project's; relative, no `..`, not empty, no NUL.
    pub cwd: Option<String>,
    /// Whether it is meant to run until it is stopped. For display only.
    pub long_running: bool,
    /// Whether to ask before it is run.
    pub confirm: bool,
    /// Variables set over the inherited ones.
    pub env: BTreeMap<String, String>,
    /// Whether ended runs are kept to be read.
    pub history: bool,
    /// How many ended runs are kept, 1 to 20.
    pub history_count: u8,
}

impl TaskDef {
    /// How many ended runs are kept when there is no `history_count`.
    pub const DEFAULT_HISTORY_COUNT: u8 = 3;
}

/// Types what the schema has let through. Tasks come sorted by name.
///
/// # Errors
/// A name the schema took and the model does not; the two agree, a test of the schema holds that.
pub(super) fn resolve(raw: raw::Project) -> Result<Project, InvalidId> {
    let id = raw.project.map(|id| id.parse()).transpose()?;
    let given = raw.tasks.into_iter().filter_map(|(name, task)| task.map(|task| (name, task)));
    let tasks = given.map(|(name, task)| task_def(&name, task)).collect::<Result<_, _>>()?;
    Ok(Project { id, tasks })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and 1 to 20 by the schema"
)]
fn task_def(name: &str, task: raw::Task) -> Result<TaskDef, InvalidId> {
    Ok(TaskDef {
        name: name.parse()?,
        command: task.command,
        description: task.description,
        group: task.group,
        cwd: task.cwd,
        long_running: task.long_running,
        confirm: task.confirm,
        env: task.env,
        history: task.history.unwrap_or(true),
        history_count: task.history_count.map_or(TaskDef::DEFAULT_HISTORY_COUNT, |n| n as u8),
    })
}
