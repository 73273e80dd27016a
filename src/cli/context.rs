//! What every command starts from: the daemon, the project, and the run a name stands for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Global;
use super::error::Error;
use super::output::Output;
use crate::client::{Client, Registered, Run};
use crate::config::{Env, Paths, find_project, load};
use crate::model::{InstanceId, ProjectId, TaskName};
use crate::terminal::shown;

/// The most projects or runs looked at; far beyond what one daemon keeps.
pub(super) const MAX_LISTED: usize = 10_000;

/// The surroundings of one command.
pub(super) struct Context<'a> {
    pub(super) global: Global,
    pub(super) paths: Paths,
    /// Where a daemon without a configuration listens.
    pub(super) default_socket: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) client: Client,
    pub(super) output: Output<'a>,
}

impl<'a> Context<'a> {
    pub(super) fn new(global: Global, output: Output<'a>) -> Result<Self, Error> {
        let env = Env::of_process();
        let paths = Paths::before_configuration(&env)?;
        let default_socket = paths.socket.clone();
        let configured = || load(None, &paths.config_file).ok().and_then(|config| config.socket_path);
        // A broken configuration does not hide a daemon that runs with an earlier one.
        let socket = global.socket.clone().or_else(configured).unwrap_or_else(|| default_socket.clone());
        let paths = Paths::new(&env, Some(&socket))?;
        let cwd = std::env::current_dir()?;
        Ok(Self { global, client: Client::new(&paths.socket), paths, default_socket, cwd, output })
    }

    /// Prints the JSON with `--json`, the sentence without.
    pub(super) fn print(&mut self, json: &Value, sentence: &str) -> Result<(), Error> {
        if self.global.json {
            self.output.json(json)?;
        } else {
            writeln!(self.output.out, "{sentence}")?;
        }
        Ok(())
    }

    /// Says something beside the result.
    pub(super) fn remark(&mut self, sentence: &str) -> Result<(), Error> {
        Ok(writeln!(self.output.err, "kas: {}", shown(sentence))?)
    }

    /// The directory of the project around the current directory.
    pub(super) fn project_dir(&self) -> Result<Option<PathBuf>, Error> {
        Ok(find_project(&self.cwd).map(fs::canonicalize).transpose()?)
    }

    /// All registered projects.
    pub(super) async fn projects(&self) -> Result<Vec<Registered>, Error> {
        let items = self.client.list("/api/v1/projects", MAX_LISTED).await?;
        Ok(items.iter().map(Registered::of).collect::<Result<_, _>>()?)
    }

    /// The registered project meant by `--project` or by the current directory, if there is one.
    pub(super) async fn known_project(&self) -> Result<Option<String>, Error> {
        if let Some(id) = &self.global.project {
            let id: ProjectId = id.parse().map_err(|error| Error::usage("project", format!("{error}")))?;
            return Ok(Some(id.to_string()));
        }
        let Some(dir) = self.project_dir()? else { return Ok(None) };
        let dir = dir.to_string_lossy();
        Ok(self.projects().await?.into_iter().find(|it| it.path == dir).map(|it| it.id))
    }

    /// The project to work in.
    pub(super) async fn project(&self) -> Result<String, Error> {
        match (self.known_project().await?, self.project_dir()?) {
            (Some(id), _) => Ok(id),
            (None, Some(dir)) => {
                let dir = dir.display();
                let message =
                    format!("the project in {dir} is not registered; `kas daemon add {dir}` does that");
                Err(Error::not_found("project_not_registered", message))
            }
            (None, None) => Err(no_project()),
        }
    }

    /// The project to launch in; one that is not registered is registered, and that is said.
    pub(super) async fn project_to_run_in(&mut self) -> Result<String, Error> {
        if let Some(id) = self.known_project().await? {
            return Ok(id);
        }
        let Some(dir) = self.project_dir()? else { return Err(no_project()) };
        refuse_foreign(&dir)?;
        self.refuse_moved(&dir).await?;
        let dir = dir.to_string_lossy();
        let added = self.client.post("/v1/repos", &json!({ "path": dir })).await?;
        let id = added["project"].as_str().unwrap_or_default().to_owned();
        self.remark(&format!("registered project {id} ({dir})"))?;
        Ok(id)
    }

    /// Refuses to register by itself a directory to which the path of a registered one has become a link: the operator says whether it is the
    /// same project.
    async fn refuse_moved(&self, dir: &Path) -> Result<(), Error> {
        let leads_here = |it: &Registered| fs::canonicalize(&it.path).is_ok_and(|real| real == dir);
        let Some(moved) = self.projects().await?.into_iter().find(leads_here) else { return Ok(()) };
        let (dir, Registered { id, path, .. }) = (dir.display(), moved);
        let message = format!(
            "project {id} is registered at {path}, from where a link leads here now; `kas daemon add {dir}` takes it here"
        );
        Err(Error::NotPermitted { message, reason: crate::project::PROJECT_MOVED })
    }

    /// The run an id names, or the newest of a task: one that runs before one that ended.
    pub(super) async fn find_run(&self, name: &str) -> Result<Run, Error> {
        if let Some(id) = instance_id(name) {
            return Ok(Run::of(self.client.get(&format!("/api/v1/tasks/{id}")).await?)?);
        }
        let task: TaskName = name.parse().map_err(|error| Error::not_found("task", format!("{error}")))?;
        let project = self.project().await?;
        let all = format!("/api/v1/projects/{project}/tasks/instances?task_name={task}");
        for path in [format!("{all}&state=running&state=starting"), all] {
            if let Some(run) = self.client.list(&path, 1).await?.pop() {
                return Ok(Run::of(run)?);
            }
        }
        Err(Error::not_found("task_has_no_runs", format!("{project} has no run of a task {task}")))
    }
}

/// Reads a name as an instance id. Ids begin with a digit and task names do not.
pub(super) fn instance_id(name: &str) -> Option<InstanceId> {
    name.starts_with(|c: char| c.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

/// Refuses to register by itself what another user may have put in the way: a project is looked for upwards, and its tasks run as this user.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    for path in [dir.to_owned(), dir.join(".kaged"), dir.join(".kaged/project.yaml")] {
        let (owner, own) = (fs::metadata(&path)?.uid(), rustix::process::geteuid().as_raw());
        if owner != own && owner != 0 {
            let (path, dir) = (path.display(), dir.display());
            let message = format!(
                "{path} belongs to user {owner}; `kas daemon add {dir}` registers it if you trust it"
            );
            return Err(Error::NotPermitted { message, reason: "not_ours" });
        }
    }
    Ok(())
}

fn no_project() -> Error {
    let message = "no .kaged/project.yaml here or above; go to a project or name one with --project";
    Error::usage("no_project", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_names_are_never_taken_for_ids() {
        assert!(instance_id("01ARZ3NDEKTSV4RRFFQ69G5FAV").is_some());
        assert!(instance_id("01arz3ndektsv4rrffq69g5fav").is_some());
        assert!(instance_id("abcdefghjkmnpqrstvwxyzabcd").is_none());
        assert!(instance_id("7").is_none());
    }
}
