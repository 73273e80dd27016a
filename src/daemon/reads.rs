//! What callers want to know.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::facts::Serving;
use super::handle::{Answer, Handle, internal, not_found};
use super::input::Input;
use super::refusal::{Code, Refusal};
use super::view::{
    AuditFilter, InstanceFilter, Page, PaneView, ProjectSummary, Status, StoredEvent, TaskView, TasksView,
    Transcript,
};
use crate::metrics::Metrics;
use crate::model::{Instance, InstanceId, ProjectId};
use crate::project::TaskDef;
use crate::store::Error;

impl Handle {
    /// All projects, by id.
    #[must_use]
    pub fn projects(&self) -> Vec<ProjectSummary> {
        let view = self.0.view.borrow();
        view.projects.values().map(|project| project.summary(view.running_in(&project.id))).collect()
    }

    /// One project.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn project(&self, id: &ProjectId) -> Answer<ProjectSummary> {
        let project = self.fresh(id).await?;
        let running = self.0.view.borrow().running_in(id);
        Ok(project.summary(running))
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
    /// `not_found`, the store, or `unavailable` while its journal cannot be read.
    pub async fn transcript(&self, id: InstanceId) -> Answer<Transcript> {
        let instance = self.instance(id).await?;
        let channel = self.run_channel(&instance).await?;
        let history = channel.history().cloned().ok_or_else(|| internal("A run without history."))?;
        // A reader takes its time, and a run that goes on drops its oldest bytes meanwhile.
        let pinned = tokio::task::spawn_blocking(move || Ok(history.pinned()?.unwrap_or(history))).await;
        let pinned: io::Result<_> = pinned.map_err(|_| internal("Reading the transcript failed."))?;
        let unread = |error: io::Error| {
            let message =
                format!("The output of instance {id} cannot be read now: {error}. Ask again later.");
            Refusal::new(Code::Unavailable, message).reason("journal")
        };
        Ok(Transcript { instance, history: pinned.map_err(unread)? })
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

    /// What is to be said of the tmux server, in sentences.
    pub async fn tmux_notes(&self) -> Vec<String> {
        match &self.0.tmux {
            Some(tmux) => {
                let projects: Vec<_> = self.projects().into_iter().map(|project| project.id).collect();
                tmux.notes(&projects).await
            }
            None => Vec::new(),
        }
    }

    /// Says where HTTP is served, once it is.
    pub fn serving_http(&self, serving: Serving) {
        self.0.facts.serving_http(serving);
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.0.metrics.clone()
    }

    /// Takes a turn of the loop, a write and a read of the store. An answer that something is wrong is an answer.
    ///
    /// # Errors
    /// What does not answer any more and will not.
    pub async fn prove_alive(&self) -> Result<(), &'static str> {
        self.ask(|reply| Input::Turn { reply }).await.map_err(|_| "the orchestrator has ended")?;
        let is_open = |error: &Error| *error != Error::Closed;
        let written = self.0.store.check().await.err();
        let read = self.0.store.projects().await.err();
        if written.iter().chain(&read).all(is_open) { Ok(()) } else { Err("the store has ended") }
    }

    /// How the daemon is, in one line: what it does, and first of all what is wrong.
    pub async fn in_a_line(&self) -> String {
        let status = self.status();
        let mut parts = Vec::new();
        parts.extend(
            status.config_problems.first().map(|it| format!("bad configuration, not in force: {it}")),
        );
        parts.extend(self.ready().await.err().map(|refusal| refusal.to_string()));
        let running = self.0.view.borrow().live.len();
        parts.push(format!("{running} tasks run; {} projects", status.projects.len()));
        parts.push(status.http_url.unwrap_or_else(|| "no page".to_owned()));
        parts.join("; ")
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
}
