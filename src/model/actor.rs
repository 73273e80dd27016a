//! Who asks.

use std::fmt;
use std::str::FromStr;

use super::{Instance, InvalidId, ProjectId, TaskName};

/// What a credential may do; each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Look at projects, instances and output.
    View,
    /// And launch, type, stop, delete.
    Run,
    /// And change projects, tokens and the daemon.
    Full,
}

impl Scope {
    /// Every scope, the least first.
    pub const ALL: [Self; 3] = [Self::View, Self::Run, Self::Full];

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Run => "run",
            Self::Full => "full",
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let found = Self::ALL.into_iter().find(|it| it.word() == text);
        found.ok_or_else(|| InvalidId {
            text: text.chars().take(80).collect(),
            expected: "a scope (view, run, full)",
        })
    }
}

/// The one task a shared credential shows; everything else is hidden from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedTask {
    /// Its project.
    pub project: ProjectId,
    /// Its name there.
    pub task: TaskName,
}

/// Somebody with a credential that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The operator the credential stands for; limits count by it and `launched_by` shows it.
    pub operator: String,
    /// Which credential it is, without its secret: `socket`, `token:<id>`, `session:<id>`. Confirmations are bound to it.
    pub credential: String,
    /// What it may do.
    pub scope: Scope,
    /// The one task it may look at; `None` for all of them.
    pub only: Option<SharedTask>,
}

impl Actor {
    /// Whether a project is shown to them.
    #[must_use]
    pub fn sees_project(&self, project: &ProjectId) -> bool {
        self.only.as_ref().is_none_or(|only| only.project == *project)
    }

    /// Whether a task of a project is shown to them.
    #[must_use]
    pub fn sees_task(&self, project: &ProjectId, task: Option<&TaskName>) -> bool {
        self.only.as_ref().is_none_or(|only| only.project == *project && Some(&only.task) == task)
    }

    /// Whether a run is shown to them.
    #[must_use]
    pub fn sees(&self, instance: &Instance) -> bool {
        self.sees_task(&instance.project_id, instance.task_name.as_ref())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.operator, self.credential)
    }
}
