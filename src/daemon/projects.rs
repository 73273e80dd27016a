//! Project files on disk: read again whenever they are looked at, parsed again when they changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde_json::json;

use super::handle::Handle;
use super::input::{Input, Project};
use super::refusal::{Code, Refusal};
use crate::config::{Error, ProjectSources, read_registered};
use crate::model::ProjectId;
use crate::project::{Problem, Reason, TaskDef};

/// The least time between two looks at the files, whatever the configuration says.
const POLL_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// What was last seen of each project's files.
#[derive(Default)]
pub(super) struct Files {
    seen: DashMap<ProjectId, Seen>,
}

/// One look at the files of a registered project. It answers callers by itself: the orchestrator may not have got to the input it caused yet.
#[derive(Clone)]
struct Seen {
    /// The directory that was looked at: a look at another one says nothing of this.
    path: PathBuf,
    read: Result<ProjectSources, String>,
    /// The tasks of the newest good look, this one or an earlier one.
    good: Option<Arc<Vec<TaskDef>>>,
    problems: Arc<Vec<Problem>>,
}

impl Seen {
    /// A known project as it was when these files were seen.
    fn of(&self, known: &Project) -> Project {
        let tasks = self.good.clone().unwrap_or_else(|| known.tasks.clone());
        Project { tasks, problems: self.problems.clone(), ..known.clone() }
    }
}

impl Files {
    /// The project as its files say now, and where they changed, the input that tells the orchestrator.
    pub(super) async fn refresh(&self, known: &Project) -> (Project, Option<Input>) {
        let Some(read) = off_thread(known.path.clone()).await else { return (known.clone(), None) };
        let last = self.seen.get(&known.id).filter(|seen| seen.path == known.path).map(|seen| seen.clone());
        let text = read.as_ref().map(Clone::clone).map_err(ToString::to_string);
        if let Some(last) = last.as_ref().filter(|last| last.read == text) {
            return (last.of(known), None);
        }
        let (tasks, problems) = match read {
            Ok(sources) => {
                let parsed = sources.parse();
                let problems: Vec<_> =
                    parsed.problems.into_iter().chain(renamed(known, parsed.project.as_ref())).collect();
                (parsed.project.map(|project| project.tasks), problems)
            }
            Err(error) => (None, vec![error.problem(".kaged/project.yaml")]),
        };
        let good = tasks.clone().map(Arc::new).or_else(|| last?.good);
        let seen = Seen { path: known.path.clone(), read: text, good, problems: Arc::new(problems.clone()) };
        let project = seen.of(known);
        self.seen.insert(known.id.clone(), seen);
        let (id, path) = (known.id.clone(), known.path.clone());
        (project, Some(Input::ProjectRead { id, path, tasks, problems }))
    }

    /// Forgets a project, so that its files count as new when they are next looked at.
    pub(super) fn forget(&self, id: &ProjectId) {
        self.seen.remove(id);
    }
}

/// A directory's project, to be registered. Nothing of it is remembered: whether it will be registered is not decided yet.
///
/// # Errors
/// `invalid_request`: not a directory, no project file, or its problems in `details`.
pub(super) async fn read_new(path: &Path) -> Result<Project, Refusal> {
    let bad = |message: String, reason| Refusal::new(Code::InvalidRequest, message).reason(reason);
    let shown = path.display();
    let path = path.canonicalize().map_err(|error| bad(format!("{shown}: {error}"), "not_found"))?;
    if !path.is_dir() {
        return Err(bad(format!("{shown} is not a directory."), "not_a_directory"));
    }
    let read = off_thread(path.clone()).await.unwrap_or_else(|| Err(Error::NotFound { path: path.clone() }));
    let sources = read.map_err(|error| bad(format!("{error}."), "no_project_file"))?;
    let parsed = sources.parse();
    let Some(read) = parsed.project.filter(|_| parsed.problems.is_empty()) else {
        let count = parsed.problems.len();
        let message = format!("The project file of {shown} has {count} problem(s); see `kas check`.");
        return Err(bad(message, "project_invalid").detail("problems", problems_json(&parsed.problems)));
    };
    let id = read.id.or_else(|| slug_of(&path)).ok_or_else(|| {
        bad(format!("No id can be made of the name of {shown}: add a `project:` key."), "no_id")
    })?;
    Ok(Project { id, path, tasks: Arc::new(read.tasks), problems: Arc::default() })
}

/// Looks at every project's files from time to time, so that a change is told without anybody asking.
pub(super) async fn poll(handle: Handle) {
    loop {
        tokio::time::sleep(handle.0.facts.config().poll_interval_sec.max(POLL_AT_MOST_EVERY)).await;
        for project in handle.projects() {
            if let Err(refusal) = handle.fresh(&project.id).await {
                tracing::debug!(project = %project.id, %refusal, "the project went away while its files were read");
            }
        }
    }
}

async fn off_thread(path: PathBuf) -> Option<Result<ProjectSources, Error>> {
    let read =
        tokio::task::spawn_blocking(move || read_registered(&path).map(|sources| sources.named_from(&path)))
            .await;
    read.inspect_err(|error| tracing::error!(%error, "reading a project file failed")).ok()
}

fn slug_of(path: &Path) -> Option<ProjectId> {
    ProjectId::slug(&path.file_name()?.to_string_lossy())
}

/// A registered project keeps its id; a file that says another one is told so.
fn renamed(known: &Project, read: Option<&crate::project::Project>) -> Option<Problem> {
    let id = read?.id.as_ref().filter(|id| **id != known.id)?;
    let message =
        format!("the project is registered as {}; to call it {id}, remove and add it again", known.id);
    Some(crate::project::Source::new(".kaged/project.yaml", Vec::new()).problem(0..0, message))
}

/// Problems as `details.problems` shows them.
#[must_use]
pub fn problems_json(problems: &[Problem]) -> serde_json::Value {
    let one = |problem: &Problem| {
        json!({
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "path": problem.path,
            "message": problem.message,
            "hint": problem.hint,
            "reason": problem.reason.map(Reason::word),
        })
    };
    problems.iter().map(one).collect()
}
