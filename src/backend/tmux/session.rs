//! The way to the actor of one project's session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::actor::Actor;
use super::pane::Follower;
use super::server::ServerId;
use super::shared::Shared;
use crate::backend::BackendError;
use crate::broker::Channel;
use crate::control::{Command, PaneId, SessionId, WindowId};
use crate::model::{ProjectId, Size};

/// Wishes waiting for the actor; one more and the asker waits.
const ASKS: usize = 64;

/// The operator's panes of one session, by pane and window, as last seen.
pub(super) type Known = Arc<Mutex<BTreeMap<u32, u32>>>;

/// What an actor can be asked.
pub(super) enum Ask {
    /// Have a control client attached to this session. Answered when it is, or when it cannot be.
    Attach(ServerId, SessionId, oneshot::Sender<Result<(), String>>),
    /// Give a run's pane its bytes.
    Follow(ServerId, PaneId, Follower),
    /// Say when the end of a run's output came by; dropped when it will not, or did.
    Shown(ServerId, PaneId, oneshot::Sender<()>),
    /// Give an operator's pane a channel; dropped when there is no such pane.
    View(PaneId, oneshot::Sender<Arc<Channel>>),
    /// Give a run's window a size. The newest wish counts.
    Resize(ServerId, WindowId, Size),
    /// Give an operator's pane a size, until the operator's own terminal has another.
    ResizePane(PaneId, Size),
    /// Run commands as one sequence.
    Run(Vec<Command>, oneshot::Sender<Result<(), BackendError>>),
}

/// The way to an actor. The actor ends when this is dropped.
pub(super) struct Session {
    pub(super) asks: mpsc::Sender<Ask>,
    /// Who makes windows in the session; one at a time.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// Who types into the operator's panes; one at a time, so that what is typed stays in order.
    pub(super) typing: tokio::sync::Mutex<()>,
    pub(super) known: Known,
}

impl Session {
    /// Starts the actor of a project.
    pub(super) fn start(project: ProjectId, shared: Arc<Shared>) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS);
        let known = Known::default();
        let actor = Actor::new(project, shared, inbox, known.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when its Session is dropped, and its control client with it"
        )]
        tokio::spawn(actor.run());
        Self { asks, opening: tokio::sync::Mutex::default(), typing: tokio::sync::Mutex::default(), known }
    }

    /// Whether the session has this pane and it is the operator's.
    pub(super) fn knows(&self, pane: u32) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&pane)
    }
}
