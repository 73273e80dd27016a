//! The daemon's face: all that the API knows of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::facts::Facts;
use super::ids::Ids;
use super::input::{Confirmation, DeleteTarget, Input, Plan, Project, Reply, ReplyId};
use super::projects::Files;
use super::refusal::{Code, Refusal};
use super::replies::Replies;
use super::run::View;
use super::step::history_of;
use super::terminals::Terminals;
use super::view::{
    AuditFilter, Confirmed, InstanceFilter, LaunchRequest, Launched, Page, PaneView, ProjectSummary,
    ReloadReport, Status, TaskView, TasksView, Terminal, TerminalId, Transcript, What,
};
use crate::backend::tmux::Tmux;
use crate::model::{Actor, BackendKind, Definition, Instance, InstanceId, ProjectId, Size, TimeMs};
use crate::project::TaskDef;
use crate::store::{Change, IdempotencyKey, NewEvent, Store, StoredEvent};

/// The answer to a request.
pub type Answer<T> = Result<T, Refusal>;

/// The longest ad-hoc command, in characters (`spec/protocol.md` §3).
const COMMAND_CHARS: usize = 4096;

/// A cheap clone that reaches the running daemon.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// What the handle, the loop and its performer share.
pub(super) struct Shared {
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) replies: Replies,
    pub(super) ids: Ids,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) store: Store,
    pub(super) terminals: Terminals,
    pub(super) tmux: Option<Tmux>,
    pub(super) files: Files,
    pub(super) facts: Facts,
}

impl Shared {
    pub(super) fn new(
        inbox: mpsc::Sender<Input>,
        view: watch::Receiver<Arc<View>>,
        store: Store,
        tmux: Option<Tmux>,
        facts: Facts,
    ) -> Self {
        Self {
            inbox,
            replies: Replies::default(),
            ids: Ids::default(),
            view,
            store,
            terminals: Terminals::default(),
            tmux,
            files: Files::default(),
            facts,
        }
    }
}

fn internal(message: &str) -> Refusal {
    Refusal::new(Code::Internal, message)
}

fn not_found(what: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("There is no {what}."))
}

impl Handle {
    /// Puts a request into the inbox and waits for its answer.
    async fn ask(&self, input: impl FnOnce(ReplyId) -> Input) -> Answer<Reply> {
        let (id, answer) = self.0.replies.expect();
        let closing = || Refusal::new(Code::Unavailable, "The daemon is shutting down.");
        self.0.inbox.send(input(id)).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }

    fn known(&self, id: &ProjectId) -> Answer<Project> {
        let view = self.0.view.borrow();
        view.projects.get(id).cloned().ok_or_else(|| not_found(&format!("project {id}")))
    }

    /// The project with its file read anew if it changed on disk; a bad file leaves the last good tasks and its problems.
    pub(super) async fn fresh(&self, id: &ProjectId) -> Answer<Project> {
        let known = self.known(id)?;
        let Some((project, input)) = self.0.files.refresh(&known).await else { return Ok(known) };
        let closing = |_| Refusal::new(Code::Unavailable, "The daemon is shutting down.");
        self.0.inbox.send(input).await.map_err(closing)?;
        Ok(project)
    }

    // ---- changes

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
        if let Some(key) = &request.idempotency_key {
            let key = IdempotencyKey { operator: actor.operator.clone(), key: key.clone() };
            let earlier = self.0.store.earlier(project.id.clone(), key, TimeMs::now()).await?;
            if let Some(earlier) = earlier {
                return Ok(Launched::Instance(Box::new(super::perform::earlier_run(earlier)?)));
            }
        }
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

    /// Stops a run; answers when nothing of its process tree lives.
    ///
    /// # Errors
    /// `conflict` when it is over.
    pub async fn stop(&self, actor: &Actor, id: InstanceId) -> Answer<Instance> {
        let before = self.instance(id).await?;
        if before.state.is_terminal() {
            let refusal = Refusal::new(Code::Conflict, format!("Instance {id} is already {}.", before.state));
            return Err(refusal.reason("not_running"));
        }
        let actor = actor.clone();
        let Reply::Instance(instance) = self.ask(|reply| Input::Stop { reply, actor, id }).await? else {
            return Err(unexpected());
        };
        Ok(*instance)
    }

    /// Stops if needed, then launches the same definition again; answers the new instance.
    ///
    /// # Errors
    /// As [`Handle::launch`].
    pub async fn restart(&self, actor: &Actor, id: InstanceId) -> Answer<Instance> {
        let record = self.0.store.run(id).await?.ok_or_else(|| not_found(&format!("instance {id}")))?;
        let (old, definition) = (record.run.instance, record.definition);
        let project = self.known(&old.project_id)?;
        if !old.state.is_terminal() {
            match self.stop(actor, id).await {
                Err(refusal) if refusal.code != Code::Conflict => return Err(refusal),
                Ok(_) | Err(_) => {}
            }
        }
        let below = definition.cwd.strip_prefix(&project.path).ok().and_then(Path::to_str);
        in_project(&project, Some(below.unwrap_or(&definition.cwd.to_string_lossy())))?;
        let plan = Plan {
            id: self.new_id()?,
            project: old.project_id,
            task: old.task_name,
            definition,
            history: old.history,
            restarted_from: Some(id),
            idempotency_key: None,
        };
        let (actor, plan) = (actor.clone(), Box::new(plan));
        let Reply::Launched(Launched::Instance(instance)) =
            self.ask(|reply| Input::Launch { reply, actor, plan, ask: None }).await?
        else {
            return Err(unexpected());
        };
        Ok(*instance)
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
        let project = self.0.files.read_new(&path).await?;
        let Reply::Project(summary) = self.ask(|reply| Input::AddProject { reply, project }).await? else {
            return Err(unexpected());
        };
        Ok(summary)
    }

    /// Stops a project's runs, destroys its tmux session and forgets it.
    ///
    /// # Errors
    /// `not_found`, or what tmux or the store said.
    pub async fn remove_project(&self, actor: &Actor, id: &ProjectId) -> Answer<()> {
        let (actor, id) = (actor.clone(), id.clone());
        self.ask(|reply| Input::RemoveProject { reply, actor, id }).await.map(|_| ())
    }

    /// Reads the configuration again; the old one stays when the new one is bad.
    ///
    /// # Errors
    /// `invalid_request` with the problems in `details`.
    pub async fn reload(&self) -> Answer<ReloadReport> {
        let (report, limits) = self.0.facts.reload().await?;
        let closing = |_| Refusal::new(Code::Unavailable, "The daemon is shutting down.");
        self.0.inbox.send(Input::Limits(limits)).await.map_err(closing)?;
        Ok(report)
    }

    // ---- reads

    fn summary(&self, project: &Project) -> ProjectSummary {
        let view = self.0.view.borrow();
        ProjectSummary {
            id: project.id.clone(),
            path: project.path.clone(),
            tasks: project.tasks.len(),
            running: view.running_in(&project.id),
            problems: project.problems.to_vec(),
        }
    }

    /// All projects, by id.
    #[must_use]
    pub fn projects(&self) -> Vec<ProjectSummary> {
        let projects: Vec<Project> = self.0.view.borrow().projects.values().cloned().collect();
        projects.iter().map(|project| self.summary(project)).collect()
    }

    /// One project.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn project(&self, id: &ProjectId) -> Answer<ProjectSummary> {
        Ok(self.summary(&self.fresh(id).await?))
    }

    /// A project's tasks.
    ///
    /// # Errors
    /// `not_found`, or the store.
    pub async fn tasks(&self, id: &ProjectId) -> Answer<TasksView> {
        let project = self.fresh(id).await?;
        let newest = self.0.store.newest_of_tasks(id.clone()).await?;
        let latest = |task: &TaskDef| newest.iter().find(|run| run.task_name.as_ref() == Some(&task.name));
        let tasks = project.tasks.iter().map(|task| TaskView {
            task: task.clone(),
            latest: latest(task).map(|instance| self.as_now(instance.clone())),
        });
        let tasks = tasks.collect();
        let view = self.0.view.borrow().clone();
        let live = view.live.values().rev().filter(|instance| instance.project_id == *id);
        let instances = live.map(|instance| self.as_now(instance.clone())).collect();
        Ok(TasksView { tasks, instances, problems: project.problems.to_vec() })
    }

    /// A page of instances, newest first; `limit` 1..=500.
    ///
    /// # Errors
    /// `not_found`, a bad cursor, or the store.
    pub async fn instances(
        &self,
        project: &ProjectId,
        filter: InstanceFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Answer<Page<Instance>> {
        self.known(project)?;
        let page = self.0.store.runs(project.clone(), filter, limit, cursor).await?;
        let items = page.items.into_iter().map(|instance| self.as_now(instance)).collect();
        Ok(Page { items, next_cursor: page.next_cursor })
    }

    /// One instance.
    ///
    /// # Errors
    /// `not_found`, or the store.
    pub async fn instance(&self, id: InstanceId) -> Answer<Instance> {
        let live = self.0.view.borrow().live.get(&id).cloned();
        if let Some(instance) = live {
            return Ok(self.as_now(instance));
        }
        let stored = self.0.store.run(id).await?;
        stored.map(|record| record.run.instance).ok_or_else(|| not_found(&format!("instance {id}")))
    }

    /// A live run's row with what is only known here: how much it has written.
    fn as_now(&self, mut instance: Instance) -> Instance {
        if let Some(terminal) = self.0.terminals.get(instance.id) {
            instance.output_bytes = instance.output_bytes.max(terminal.channel.live_end().0);
        }
        instance
    }

    /// Panes of the project's tmux session that no instance owns.
    ///
    /// # Errors
    /// `not_found`, or `unavailable` when tmux does not answer.
    pub async fn panes(&self, project: &ProjectId) -> Answer<Vec<PaneView>> {
        self.known(project)?;
        match &self.0.tmux {
            Some(tmux) => super::panes::list(tmux, project).await,
            None => Ok(Vec::new()),
        }
    }

    /// What an instance wrote.
    ///
    /// # Errors
    /// `not_found`, or the store.
    pub async fn transcript(&self, id: InstanceId) -> Answer<Transcript> {
        let instance = self.instance(id).await?;
        let channel = self.run_channel(&instance).await?;
        let history = channel.history().cloned().ok_or_else(|| internal("A run without history."))?;
        Ok(Transcript { instance, history })
    }

    /// A page of audit events, oldest first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Answer<Page<StoredEvent>> {
        Ok(self.0.store.events(filter, limit, cursor).await?)
    }

    /// Up to `limit` events with a larger id, oldest first.
    ///
    /// # Errors
    /// The store.
    pub async fn events_after(&self, id: i64, limit: usize) -> Answer<Vec<StoredEvent>> {
        Ok(self.0.store.events_after(id, limit).await?)
    }

    /// The newest event's id; changes when there is a new one.
    #[must_use]
    pub fn latest_event(&self) -> watch::Receiver<i64> {
        self.0.store.latest_event()
    }

    /// The daemon in one look.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.facts.status(self.projects())
    }

    /// Says where HTTP is served, once it is.
    pub fn serving_http_on(&self, address: String) {
        self.0.facts.serving_http_on(address);
    }

    /// Whether the store answers, and tmux where it is the backend.
    ///
    /// # Errors
    /// `unavailable`, with what does not answer.
    pub async fn ready(&self) -> Answer<()> {
        self.0.store.check().await?;
        match &self.0.tmux {
            Some(tmux) => {
                tmux.ping().await.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))
            }
            None => Ok(()),
        }
    }

    // ---- terminals

    /// A terminal of the project to watch; a finished instance has one too.
    ///
    /// # Errors
    /// `not_found` for an unknown one or another project's.
    pub async fn terminal(&self, project: &ProjectId, id: TerminalId) -> Answer<Terminal> {
        let missing = || not_found(&Terminals::describe(id));
        let channel = match id {
            TerminalId::Task(run) => {
                let instance = self.instance(run).await?;
                if instance.project_id != *project {
                    return Err(missing());
                }
                self.run_channel(&instance).await?
            }
            TerminalId::Pane(number) => {
                let tmux = self.0.tmux.as_ref().ok_or_else(missing)?;
                tmux.pane_channel(project, number).await.ok_or_else(missing)?
            }
        };
        Ok(Terminal { id, channel })
    }

    async fn run_channel(&self, instance: &Instance) -> Answer<Arc<crate::broker::Channel>> {
        if let Some(live) = self.0.terminals.get(instance.id) {
            return Ok(live.channel.clone());
        }
        super::ended::channel(&self.0.store, instance.id).await
    }

    /// Gives bytes to the program, in order, once; waits while it does not read.
    ///
    /// # Errors
    /// `conflict` when it is over, `unavailable` when its holder cannot be reached.
    pub async fn input(&self, id: TerminalId, bytes: Bytes) -> Answer<()> {
        let sent = match id {
            TerminalId::Task(run) => self.holder(run)?.input(bytes).await,
            TerminalId::Pane(number) => self.tmux_of(number)?.type_into(number, bytes).await,
        };
        sent.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("holder"))
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// As [`Handle::input`].
    pub async fn resize(&self, id: TerminalId, size: Size) -> Answer<()> {
        let sent = match id {
            TerminalId::Task(run) => self.holder(run)?.resize(size).await,
            TerminalId::Pane(number) => self.tmux_of(number)?.resize_pane(number, size).await,
        };
        sent.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("holder"))
    }

    fn holder(&self, id: InstanceId) -> Answer<crate::backend::Holder> {
        let over =
            || Refusal::new(Code::Conflict, format!("Instance {id} is not running.")).reason("not_running");
        self.0.terminals.holder(id).ok_or_else(over)
    }

    fn tmux_of(&self, pane: u32) -> Answer<&Tmux> {
        self.0.tmux.as_ref().ok_or_else(|| not_found(&format!("pane {pane}")))
    }

    /// Records that somebody watches (`task.attached`, or `task.reattached` when they resume).
    pub async fn attached(&self, actor: &Actor, id: InstanceId, resumed: bool) {
        super::ended::watched(&self.0.store, actor, id, if resumed { Watch::Resumed } else { Watch::Began })
            .await;
    }

    /// Records that they left.
    pub async fn detached(&self, actor: &Actor, id: InstanceId) {
        super::ended::watched(&self.0.store, actor, id, Watch::Left).await;
    }

    /// Writes an event of its own; one that cannot be written is said in the log.
    pub(super) async fn record(&self, event: NewEvent) {
        let change = Change { events: vec![event], ..Change::default() };
        if let Err(error) = self.0.store.record(change).await {
            tracing::warn!(%error, "an event was not recorded");
        }
    }

    /// Waits until the instance has ended; answers its last record.
    ///
    /// # Errors
    /// `not_found`, or the store.
    pub async fn ended(&self, id: InstanceId) -> Answer<Instance> {
        let mut view = self.0.view.clone();
        let closing = |_| Refusal::new(Code::Unavailable, "The daemon is shutting down.");
        view.wait_for(|view| !view.live.contains_key(&id)).await.map_err(closing)?;
        self.instance(id).await
    }

    /// The backend new runs are started on.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.0.facts.backend
    }
}

/// What a viewer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    Began,
    Resumed,
    Left,
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
    let opened = crate::config::project_cwd(&project.path, relative);
    let refused = |error: crate::config::CwdError| {
        Refusal::new(Code::InvalidRequest, error.to_string()).reason(error.reason())
    };
    Ok(opened.map_err(refused)?.path)
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
