//! What callers want changed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::handle::{Answer, Handle, closing, internal, not_found};
use super::input::{Confirmation, DeleteTarget, Input, Plan, Project, Reply};
use super::projects::read_new;
use super::refusal::{Code, Refusal};
use super::step::history_of;
use super::view::{Confirmed, LaunchRequest, Launched, ProjectSummary, ReloadReport, What};
use crate::config::{CwdError, project_cwd, recorded_cwd};
use crate::model::{Actor, Definition, Instance, InstanceId, ProjectId, Size, TimeMs};
use crate::project::TaskDef;
use crate::store::IdempotencyKey;

/// The longest ad-hoc command, in characters (`spec/protocol.md` §3).
const COMMAND_CHARS: usize = 4096;

impl Handle {
    /// Launches a task or an ad-hoc command; answers once it is recorded.
    ///
    /// # Errors
    /// Unknown project or task, a bad directory or command, a limit, or the store.
    pub async fn launch(
        &self,
        actor: &Actor,
        project: &ProjectId,
        request: LaunchRequest,
    ) -> Answer<Launched> {
        let project = self.fresh(project).await?;
        let operator = actor.operator.clone();
        let key = request.idempotency_key.clone().map(|key| IdempotencyKey { operator, key });
        if let Some(earlier) = self.earlier(&project.id, key).await? {
            return Ok(Launched::Instance(Box::new(earlier)));
        }
        not_moved(&project.path)?;
        let (plan, asks) = self.plan(&project, request)?;
        let ask = if asks { Some(random_id()?) } else { None };
        let (actor, plan) = (actor.clone(), Box::new(plan));
        let Reply::Launched(launched) = self.ask(|reply| Input::Launch { reply, actor, plan, ask }).await?
        else {
            return Err(unexpected());
        };
        Ok(launched)
    }

    /// What a request means now, and whether the task wants a person's yes first.
    fn plan(&self, project: &Project, request: LaunchRequest) -> Answer<(Plan, bool)> {
        let (task, definition) = match request.what {
            What::Task(name) => {
                let found = project.tasks.iter().find(|task| task.name.as_str() == name);
                let task = found.ok_or_else(|| unknown_task(project, &name))?;
                (Some(task), definition(project, task, request.size)?)
            }
            What::AdHoc { command, cwd } => {
                let cwd = in_project(project, cwd.as_deref())?;
                let command = checked_command(command)?;
                (None, Definition { command, cwd, env: BTreeMap::new(), size: request.size })
            }
        };
        let plan = Plan {
            id: self.new_id()?,
            project: project.id.clone(),
            task: task.map(|task| task.name.clone()),
            definition,
            history: task.and_then(history_of),
            restarted_from: None,
            idempotency_key: request.idempotency_key,
        };
        Ok((plan, task.is_some_and(|task| task.confirm)))
    }

    fn new_id(&self) -> Answer<InstanceId> {
        self.0.ids.next(TimeMs::now()).map_err(|_| internal("The system gives no random bytes."))
    }

    /// Answers a question asked by a launch.
    ///
    /// # Errors
    /// `gone` when the question expired or was used, `conflict` when the definition changed since, a limit, or the store.
    pub async fn confirm(
        &self,
        actor: &Actor,
        project: &ProjectId,
        confirm_id: &str,
        proceed: bool,
    ) -> Answer<Confirmed> {
        let project = self.fresh(project).await?;
        not_moved(&project.path)?;
        let asking = project.tasks.iter().filter(|task| task.confirm);
        let now = asking
            .filter_map(|task| Some((task.name.clone(), definition(&project, task, Size::DEFAULT).ok()?)));
        let given = Box::new(Confirmation {
            definitions: now.collect(),
            project: project.id,
            confirm_id: confirm_id.to_owned(),
            proceed,
            id: self.new_id()?,
        });
        let actor = actor.clone();
        let Reply::Confirmed(confirmed) = self.ask(|reply| Input::Confirm { reply, actor, given }).await?
        else {
            return Err(unexpected());
        };
        Ok(confirmed)
    }

    /// Refuses what would end a run that this daemon cannot end; to wait for its end instead would be to wait for as long as it runs.
    fn may_end(&self, id: InstanceId) -> Answer<()> {
        let refuse = |why: String, reason| Err(Refusal::new(Code::Unavailable, why).reason(reason));
        let Some(terminal) = self.0.terminals.get(id) else { return Ok(()) };
        match terminal.holder.get() {
            Some(holder) if holder.shim().is_read_only() => {
                let version = holder.shim().hello().version;
                let error = crate::shim::ClientError::ReadOnly(version);
                refuse(format!("Instance {id} cannot be stopped: {error}."), "read_only")
            }
            None if terminal.is_silent() => {
                refuse(format!("Instance {id} cannot be stopped: its shim does not answer."), "holder")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Stops a run; answers when nothing of its process tree lives.
    ///
    /// # Errors
    /// `conflict` when it is over; `unavailable` when that takes too long, with what it waits for. The run is ended all the same.
    pub async fn stop(&self, actor: &Actor, id: InstanceId) -> Answer<Instance> {
        let before = self.instance(id).await?;
        // Of one whose end is being stored only the orchestrator knows whether it was stopped.
        if before.state.is_terminal() && !self.0.view.borrow().live.contains_key(&id) {
            let refusal = Refusal::new(Code::Conflict, format!("Instance {id} is already {}.", before.state));
            return Err(refusal.reason("not_running"));
        }
        self.may_end(id)?;
        let actor = actor.clone();
        match self.over(|_| vec![id], self.ask(|reply| Input::Stop { reply, actor, id })).await {
            Ok(Reply::Instance(instance)) => Ok(*instance),
            Ok(_) => Err(unexpected()),
            // Recorded as running, known to be over, and its end is not being stored: storing it has failed for good.
            Err(refusal)
                if refusal.code == Code::Conflict
                    && !self.0.view.borrow().finishing.contains_key(&id)
                    && !self.instance(id).await?.state.is_terminal() =>
            {
                let message = format!(
                    "Instance {id} is over, and its end could not be stored; see daemon.log and restart the daemon."
                );
                Err(Refusal::new(Code::Unavailable, message).reason("end_not_stored"))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Stops if needed, then launches the same definition again; answers the new instance, once it is recorded and the old one is over. A
    /// repeated key answers the first new instance as soon as that is recorded, also while the old one lives. What is refused leaves the old
    /// one as it is.
    ///
    /// # Errors
    /// As [`Handle::launch`]; `conflict` while the same is being restarted; `unavailable` when this daemon cannot end the old one, or when it
    /// lives on: then the new one begins as soon as the old one is over.
    pub async fn restart(&self, actor: &Actor, id: InstanceId, key: Option<String>) -> Answer<Instance> {
        let named = key.clone().map(|key| IdempotencyKey { operator: actor.operator.clone(), key });
        let Some(record) = self.0.store.run(id).await? else {
            // The run may have been culled since its restart.
            let earlier = match named {
                Some(key) => self.0.store.restarted(id, key, TimeMs::now()).await?,
                None => None,
            };
            return earlier.map(|it| it.run.instance).ok_or_else(|| not_found(&format!("instance {id}")));
        };
        let (old, definition) = (record.run.instance, record.definition);
        if let Some(earlier) = self.earlier(&old.project_id, named).await? {
            return Ok(earlier);
        }
        let project = self.known(&old.project_id)?;
        same_directory(&project.path, &definition.cwd)?;
        self.may_end(id)?;
        let plan = Box::new(Plan {
            id: self.new_id()?,
            project: old.project_id,
            task: old.task_name,
            definition,
            history: old.history,
            restarted_from: Some(id),
            idempotency_key: key,
        });
        let actor = actor.clone();
        let Reply::Launched(Launched::Instance(instance)) = self
            .over(|view| view.replaced_with(id), self.ask(|reply| Input::Restart { reply, actor, plan }))
            .await?
        else {
            return Err(unexpected());
        };
        Ok(*instance)
    }

    /// The first run of a key that was used before.
    async fn earlier(&self, project: &ProjectId, key: Option<IdempotencyKey>) -> Answer<Option<Instance>> {
        let Some(key) = key else { return Ok(None) };
        let earlier = self.0.store.earlier(project.clone(), key, TimeMs::now()).await?;
        earlier.map(super::perform::earlier_run).transpose()
    }

    /// Deletes an ended instance: window, record, transcript.
    ///
    /// # Errors
    /// `conflict` while it runs, `not_found`.
    pub async fn delete(&self, id: InstanceId) -> Answer<()> {
        self.ask(|reply| Input::Delete { reply, target: DeleteTarget::One(id) }).await.map(|_| ())
    }

    /// Deletes every ended instance of a project; answers how many.
    ///
    /// # Errors
    /// `not_found`, or the store.
    pub async fn cleanup(&self, project: &ProjectId) -> Answer<u64> {
        let target = DeleteTarget::Project(project.clone());
        let Reply::Count(count) = self.ask(|reply| Input::Delete { reply, target }).await? else {
            return Err(unexpected());
        };
        Ok(count)
    }

    /// Registers a project directory.
    ///
    /// # Errors
    /// `invalid_request` with the problems in `details`, `conflict` when it is known or its id is taken.
    pub async fn add_project(&self, path: PathBuf) -> Answer<ProjectSummary> {
        let project = read_new(&path).await?;
        // The registered directory has become a link to this one, and the operator says that this is the project now.
        let leads_here = |known: &Project| known.path.canonicalize().is_ok_and(|real| real == project.path);
        let known = self.known(&project.id).ok().filter(|known| known.path != project.path);
        let moved_from = known.filter(leads_here).map(|known| known.path);
        self.register_one(project, moved_from).await
    }

    async fn register_one(&self, project: Project, moved_from: Option<PathBuf>) -> Answer<ProjectSummary> {
        let asked = self.ask(|reply| Input::AddProject { reply, project, moved_from });
        let Reply::Project(project) = asked.await? else { return Err(unexpected()) };
        let running = self.0.view.borrow().running_in(&project.id);
        Ok(project.summary(running))
    }

    /// Registers the configuration's `repos`; one that cannot be is said and left out. What a link has come to lead to is not taken for the
    /// directory that was registered.
    pub async fn register(&self, repos: &[PathBuf]) {
        let known: Vec<PathBuf> = self.projects().into_iter().map(|project| project.path).collect();
        for path in repos {
            if path.canonicalize().is_ok_and(|path| known.contains(&path)) {
                continue;
            }
            let registered = async { self.register_one(read_new(path).await?, None).await };
            if let Err(refusal) = registered.await {
                tracing::error!(path = %path.display(), "cannot register: {refusal}");
            }
        }
    }

    /// Stops a project's runs, destroys its tmux session and forgets it.
    ///
    /// # Errors
    /// `not_found`, or what tmux or the store said.
    pub async fn remove_project(&self, actor: &Actor, id: &ProjectId) -> Answer<()> {
        let runs = self.0.view.borrow().runs_of(id);
        runs.into_iter().try_for_each(|run| self.may_end(run))?;
        let (actor, project) = (actor.clone(), id.clone());
        let asked = self.ask(|reply| Input::RemoveProject { reply, actor, id: project });
        self.over(|view| view.runs_of(id), asked).await.map(|_| ())
    }

    /// Reads the configuration again and registers its new `repos`; the old one stays when the new one is bad.
    ///
    /// # Errors
    /// `invalid_request` with the problems in `details`.
    pub async fn reload(&self) -> Answer<ReloadReport> {
        let (report, limits) = self.0.facts.reload().await?;
        self.0.inbox.send(Input::Limits(limits)).await.map_err(|_| closing())?;
        self.register(&self.0.facts.config().repos).await;
        Ok(report)
    }
}

/// An answer of another kind than the question, which `step` never gives.
fn unexpected() -> Refusal {
    internal("The daemon gave an answer of the wrong kind.")
}

fn unknown_task(project: &Project, name: &str) -> Refusal {
    let names = project.tasks.iter().map(|task| task.name.as_str());
    let hint = crate::project::closest(name, names).map(|near| format!(" Did you mean {near}?"));
    let message = format!("Project {} has no task {name:?}.{}", project.id, hint.unwrap_or_default());
    Refusal::new(Code::NotFound, message).reason("unknown_task")
}

/// What a task would run now.
fn definition(project: &Project, task: &TaskDef, size: Size) -> Answer<Definition> {
    let cwd = in_project(project, task.cwd.as_deref())?;
    Ok(Definition { command: task.command.clone(), cwd, env: task.env.clone(), size })
}

/// A directory of the project, proven to be in it.
fn in_project(project: &Project, relative: Option<&str>) -> Answer<PathBuf> {
    Ok(project_cwd(&project.path, relative).map_err(|error| no_cwd(&error))?.path)
}

fn no_cwd(error: &CwdError) -> Refusal {
    let code = match error {
        CwdError::NotFound { .. } | CwdError::OutsideProject { .. } => Code::InvalidRequest,
        CwdError::Moved { .. } => Code::Conflict,
    };
    Refusal::new(code, error.to_string()).reason(error.reason())
}

/// Refuses to launch anything, whatever it is, in a project whose registered directory is reached through a link now.
fn not_moved(root: &Path) -> Answer<()> {
    match project_cwd(root, None) {
        Err(error @ CwdError::Moved { .. }) => Err(no_cwd(&error)),
        // What else is wrong with it is told of what is to be launched.
        Ok(_) | Err(CwdError::NotFound { .. } | CwdError::OutsideProject { .. }) => Ok(()),
    }
}

/// Proves that the directory of a definition that was recorded is still there and in the project, as it is proved again when its gate opens.
pub(super) fn same_directory(root: &Path, cwd: &Path) -> Answer<()> {
    not_moved(root)?;
    let outside = || Errno::XDEV;
    let found = cwd.strip_prefix(root).map_err(|_| outside()).and_then(|below| recorded_cwd(root, below));
    found.map(drop).map_err(|errno| {
        let dir = cwd.display();
        let (message, reason) = match errno {
            Errno::XDEV | Errno::LOOP => {
                (format!("the directory {dir} leads out of the project"), "cwd_outside_project")
            }
            _ => (format!("the directory {dir} cannot be used: {}", io::Error::from(errno)), "cwd_not_found"),
        };
        Refusal::new(Code::InvalidRequest, message).reason(reason)
    })
}

/// An id nobody can guess.
fn random_id() -> Answer<String> {
    let nonce = crate::journal::Nonce::random().map_err(|_| internal("The system gives no random bytes."))?;
    Ok(nonce.hex())
}

fn checked_command(command: String) -> Answer<String> {
    let bad = |message: &str, reason| Err(Refusal::new(Code::InvalidRequest, message).reason(reason));
    if command.trim().is_empty() {
        return bad("The command is empty.", "command_empty");
    }
    if command.contains('\0') {
        return bad("The command contains a NUL byte.", "command_nul");
    }
    if command.chars().count() > COMMAND_CHARS {
        return bad("The command is longer than 4096 characters. Put it in a script.", "command_too_long");
    }
    Ok(command)
}
