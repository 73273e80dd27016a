//! The daemon's face: all that the API knows of it.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::watch;

use super::refusal::Refusal;
use super::view::*;
use crate::model::{Actor, Instance, InstanceId, ProjectId, RunState, Size};
use crate::store::StoredEvent;

/// A cheap clone that reaches the running daemon.
#[derive(Clone)]
pub struct Handle {}

/// The answer to a request.
pub type Answer<T> = Result<T, Refusal>;

#[allow(clippy::todo, unused_variables)]
impl Handle {
    // ---- changes
    /// Launches a task or an ad-hoc command; answers once it is recorded.
    pub async fn launch(
        &self,
        actor: &Actor,
        project: &ProjectId,
        request: LaunchRequest,
    ) -> Answer<Launched> {
        todo!()
    }
    /// Answers a question asked by a launch.
    pub async fn confirm(
        &self,
        actor: &Actor,
        project: &ProjectId,
        confirm_id: &str,
        proceed: bool,
    ) -> Answer<Confirmed> {
        todo!()
    }
    /// Stops a run; answers when nothing of its process tree lives.
    pub async fn stop(&self, actor: &Actor, id: InstanceId) -> Answer<Instance> {
        todo!()
    }
    /// Stops if needed, then launches the same definition again; answers the new instance.
    pub async fn restart(&self, actor: &Actor, id: InstanceId) -> Answer<Instance> {
        todo!()
    }
    /// Deletes an ended instance: window, record, transcript.
    pub async fn delete(&self, actor: &Actor, id: InstanceId) -> Answer<()> {
        todo!()
    }
    /// Deletes every ended instance of a project; answers how many.
    pub async fn cleanup(&self, actor: &Actor, project: &ProjectId) -> Answer<u64> {
        todo!()
    }
    /// Registers a project directory.
    pub async fn add_project(&self, actor: &Actor, path: PathBuf) -> Answer<ProjectSummary> {
        todo!()
    }
    /// Stops a project's runs, destroys its tmux session and forgets it.
    pub async fn remove_project(&self, actor: &Actor, id: &ProjectId) -> Answer<()> {
        todo!()
    }
    /// Reads the configuration again; the old one stays when the new one is bad.
    pub async fn reload(&self) -> Answer<ReloadReport> {
        todo!()
    }

    // ---- reads
    /// All projects, by id.
    pub async fn projects(&self) -> Answer<Vec<ProjectSummary>> {
        todo!()
    }
    /// One project.
    pub async fn project(&self, id: &ProjectId) -> Answer<ProjectSummary> {
        todo!()
    }
    /// A project's tasks.
    pub async fn tasks(&self, id: &ProjectId) -> Answer<TasksView> {
        todo!()
    }
    /// A page of instances, newest first; `limit` 1..=500.
    pub async fn instances(
        &self,
        project: &ProjectId,
        filter: InstanceFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Answer<Page<Instance>> {
        todo!()
    }
    /// One instance.
    pub async fn instance(&self, id: InstanceId) -> Answer<Instance> {
        todo!()
    }
    /// Panes of the project's tmux session that no instance owns.
    pub async fn panes(&self, project: &ProjectId) -> Answer<Vec<PaneView>> {
        todo!()
    }
    /// What an instance wrote.
    pub async fn transcript(&self, id: InstanceId) -> Answer<Transcript> {
        todo!()
    }
    /// A page of audit events, oldest first.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        limit: usize,
        cursor: Option<String>,
    ) -> Answer<Page<StoredEvent>> {
        todo!()
    }
    /// Up to `limit` events with a larger id, oldest first.
    pub async fn events_after(&self, id: i64, limit: usize) -> Answer<Vec<StoredEvent>> {
        todo!()
    }
    /// The newest event's id; changes when there is a new one.
    pub fn latest_event(&self) -> watch::Receiver<i64> {
        todo!()
    }
    /// The daemon in one look.
    pub async fn status(&self) -> Answer<Status> {
        todo!()
    }
    /// Whether the store answers, and tmux where it is the backend.
    pub async fn ready(&self) -> Answer<()> {
        todo!()
    }

    // ---- terminals
    /// A terminal of the project to watch; a finished instance has one too.
    pub async fn terminal(&self, project: &ProjectId, id: TerminalId) -> Answer<Terminal> {
        todo!()
    }
    /// Gives bytes to the program, in order, once; waits while it does not read.
    pub async fn input(&self, id: TerminalId, bytes: Bytes) -> Answer<()> {
        todo!()
    }
    /// Sets the terminal's size.
    pub async fn resize(&self, id: TerminalId, size: Size) -> Answer<()> {
        todo!()
    }
    /// Records that somebody watches (`task.attached`, or `task.reattached` when they were here before).
    pub async fn attached(&self, actor: &Actor, id: InstanceId, resumed: bool) {}
    /// Records that they left.
    pub async fn detached(&self, actor: &Actor, id: InstanceId) {}
    /// Waits until the instance has ended; answers its last record.
    pub async fn ended(&self, id: InstanceId) -> Answer<Instance> {
        let _ = RunState::Done;
        todo!()
    }
}
