//! What a connection asks of the daemon.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::api::error::not_found;
use crate::broker::Channel;
use crate::daemon::{Answer, Handle, TerminalId};
use crate::model::{Actor, InstanceId, ProjectId, Size};
use crate::store::StoredEvent;
use crate::terminal::Theme;

/// The daemon as one connection sees it: one project, one actor.
pub(super) trait Desk: Clone + Send + Sync + 'static {
    fn terminal(&self, id: TerminalId) -> impl Future<Output = Answer<Arc<Channel>>> + Send;
    fn input(&self, id: TerminalId, bytes: Bytes) -> impl Future<Output = Answer<()>> + Send;
    fn resize(&self, id: TerminalId, size: Size) -> impl Future<Output = Answer<()>> + Send;
    fn theme_of_later(&self, theme: Theme);
    fn theme(&self, id: TerminalId, theme: Theme) -> impl Future<Output = Answer<()>> + Send;
    fn attached(&self, id: InstanceId, resumed: bool) -> impl Future<Output = ()> + Send;
    fn detached(&self, id: InstanceId) -> impl Future<Output = ()> + Send;
    /// Events of any project, oldest first.
    fn events_after(&self, id: i64, limit: usize) -> impl Future<Output = Answer<Vec<StoredEvent>>> + Send;
    fn latest_event(&self) -> watch::Receiver<i64>;
    /// Whether an event is this project's, or everybody's.
    fn concerns(&self, event: &StoredEvent) -> bool;
}

/// The running daemon's.
#[derive(Clone)]
pub(super) struct ProjectDesk {
    handle: Handle,
    actor: Arc<Actor>,
    project: ProjectId,
}

impl ProjectDesk {
    pub(super) fn new(handle: Handle, actor: Actor, project: ProjectId) -> Self {
        Self { handle, actor: Arc::new(actor), project }
    }

    /// A credential that shows one task opens the terminals of that task's runs.
    async fn check_shown(&self, id: TerminalId) -> Answer<()> {
        if self.actor.only.is_none() {
            return Ok(());
        }
        let shown = match id {
            TerminalId::Task(run) => self.actor.sees(&self.handle.instance(run).await?),
            TerminalId::Pane(_) => false,
        };
        if shown { Ok(()) } else { Err(not_found("there is no such terminal")) }
    }
}

impl Desk for ProjectDesk {
    async fn terminal(&self, id: TerminalId) -> Answer<Arc<Channel>> {
        self.check_shown(id).await?;
        self.handle.terminal(&self.project, id).await.map(|terminal| terminal.channel)
    }

    async fn input(&self, id: TerminalId, bytes: Bytes) -> Answer<()> {
        self.handle.input(id, bytes).await
    }

    async fn resize(&self, id: TerminalId, size: Size) -> Answer<()> {
        self.handle.resize(id, size).await
    }

    fn theme_of_later(&self, theme: Theme) {
        self.handle.theme_of_later(theme);
    }

    async fn theme(&self, id: TerminalId, theme: Theme) -> Answer<()> {
        self.handle.theme(id, theme).await
    }

    async fn attached(&self, id: InstanceId, resumed: bool) {
        self.handle.attached(&self.actor, id, resumed).await;
    }

    async fn detached(&self, id: InstanceId) {
        self.handle.detached(&self.actor, id).await;
    }

    async fn events_after(&self, id: i64, limit: usize) -> Answer<Vec<StoredEvent>> {
        self.handle.events_after(id, limit).await
    }

    fn latest_event(&self) -> watch::Receiver<i64> {
        self.handle.latest_event()
    }

    fn concerns(&self, event: &StoredEvent) -> bool {
        match &self.actor.only {
            None => event.project_id.as_deref().is_none_or(|id| id == self.project.as_str()),
            Some(only) => {
                event.project_id.as_deref() == Some(only.project.as_str())
                    && event.details.get("task_name").and_then(|name| name.as_str())
                        == Some(only.task.as_str())
            }
        }
    }
}
