//! The daemon's face: all that the API knows of it.

use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{mpsc, watch};

use super::facts::Facts;
use super::ids::Ids;
use super::input::{Input, Project, Reply, ReplyId};
use super::projects::Files;
use super::refusal::{Code, Refusal};
use super::replies::Replies;
use super::run::View;
use super::terminals::Terminals;
use crate::backend::tmux::Tmux;
use crate::metrics::{Gauge, Metrics};
use crate::model::{InstanceId, ProjectId};
use crate::store::Store;

/// The answer to a request.
pub type Answer<T> = Result<T, Refusal>;

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
    pub(super) metrics: Arc<Metrics>,
    /// Ended runs whose output could not be read yet: where it is. As many as faults left; none of them is removed before it is read or deleted.
    pub(super) unread: DashMap<InstanceId, PathBuf>,
    /// Changes that the database has refused and that are tried again.
    pub(super) unwritten: Gauge,
}

impl Shared {
    pub(super) fn new(
        inbox: mpsc::Sender<Input>,
        view: watch::Receiver<Arc<View>>,
        store: Store,
        ids: Ids,
        tmux: Option<Tmux>,
        facts: Facts,
    ) -> Self {
        Self {
            inbox,
            replies: Replies::default(),
            ids,
            view,
            store,
            terminals: Terminals::default(),
            tmux,
            files: Files::default(),
            facts,
            metrics: Arc::default(),
            unread: DashMap::new(),
            unwritten: Gauge::default(),
        }
    }
}

pub(super) fn internal(message: &str) -> Refusal {
    Refusal::new(Code::Internal, message)
}

pub(super) fn closing() -> Refusal {
    Refusal::new(Code::Unavailable, "The daemon is shutting down.")
}

pub(super) fn not_found(what: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("There is no {what}."))
}

impl Handle {
    /// Puts a request into the inbox and waits for its answer.
    pub(super) async fn ask(&self, input: impl FnOnce(ReplyId) -> Input) -> Answer<Reply> {
        let (id, answer) = self.0.replies.expect();
        self.0.inbox.send(input(id)).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }

    pub(super) fn known(&self, id: &ProjectId) -> Answer<Project> {
        let view = self.0.view.borrow();
        view.projects.get(id).cloned().ok_or_else(|| not_found(&format!("project {id}")))
    }

    /// The project with its file read anew if it changed on disk; a bad file leaves the last good tasks and its problems.
    pub(super) async fn fresh(&self, id: &ProjectId) -> Answer<Project> {
        let known = self.known(id)?;
        let (project, changed) = self.0.files.refresh(&known).await;
        if let Some(input) = changed {
            self.0.inbox.send(input).await.map_err(|_| closing())?;
        }
        Ok(project)
    }
}
