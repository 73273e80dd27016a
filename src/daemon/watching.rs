//! What callers do with terminals.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::handle::{Answer, Handle, closing, not_found};
use super::refusal::{Code, Refusal};
use super::run::View;
use super::terminals::Terminals;
use super::view::{Terminal, TerminalId};
use crate::auth::ToldFailures;
use crate::backend::tmux::Tmux;
use crate::model::{Actor, BackendKind, EventKind, Instance, InstanceId, ProjectId, Size, TimeMs};
use crate::store::{Change, NewEvent};
use crate::terminal::Theme;

/// How long typing or resizing waits for a run that is starting.
const STARTS_IN: Duration = Duration::from_secs(10);

impl Handle {
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

    pub(super) async fn run_channel(&self, instance: &Instance) -> Answer<Arc<crate::broker::Channel>> {
        if let Some(live) = self.0.terminals.get(instance.id) {
            return Ok(live.channel.clone());
        }
        if let Some(channel) = self.0.terminals.ended(instance.id) {
            return Ok(channel);
        }
        let unread = self.0.unread.get(&instance.id).map(|dir| dir.clone());
        // The event of its storing may be heard before it is taken off the list.
        if let Some(dir) = unread
            && self.0.store.with_transcript(vec![instance.id]).await?.is_empty()
        {
            let message = format!(
                "The output of instance {} could not be read yet. It is kept in {} and read again from time to time; daemon.log says why.",
                instance.id,
                dir.display()
            );
            return Err(Refusal::new(Code::Unavailable, message).reason("journal"));
        }
        let channel = super::ended::channel(&self.0.store, instance.id).await?;
        self.0.terminals.remember_ended(instance.id, &channel);
        Ok(channel)
    }

    /// Gives bytes to the program, in order, once; waits until its terminal took them.
    ///
    /// # Errors
    /// `conflict` when it is over, `unavailable` when its holder cannot be reached.
    pub async fn input(&self, id: TerminalId, bytes: Bytes) -> Answer<()> {
        let sent = match id {
            TerminalId::Task(run) => self.holder(run).await?.input(bytes).await,
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
            TerminalId::Task(run) => self.holder(run).await?.resize(size).await,
            TerminalId::Pane(number) => self.tmux_of(number)?.resize_pane(number, size).await,
        };
        sent.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("holder"))
    }

    /// Takes the colours that runs which start later begin with.
    pub fn theme_of_later(&self, theme: Theme) {
        self.0.terminals.set_theme(theme);
    }

    /// Tells the colours of the page that a run's operator works in. They are those of the runs that start later, too.
    ///
    /// # Errors
    /// As [`Handle::input`].
    pub async fn theme(&self, id: TerminalId, theme: Theme) -> Answer<()> {
        self.theme_of_later(theme);
        match id {
            TerminalId::Task(run) => {
                let sent = self.holder(run).await?.shim().theme(theme).await;
                sent.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("holder"))
            }
            TerminalId::Pane(_) => Ok(()), // tmux answers there
        }
    }

    /// What holds a live run. One that is just starting is waited for, so that nothing typed early is lost.
    async fn holder(&self, id: InstanceId) -> Answer<crate::backend::Holder> {
        let over =
            || Refusal::new(Code::Conflict, format!("Instance {id} is not running.")).reason("not_running");
        if let Some(holder) = self.0.terminals.holder(id) {
            return Ok(holder);
        }
        let mut view = self.0.view.clone();
        let held = |view: &Arc<View>| !view.live.contains_key(&id) || self.0.terminals.holder(id).is_some();
        let waited = tokio::time::timeout(STARTS_IN, view.wait_for(held)).await;
        drop(waited);
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

    /// Records that credentials were presented that do not work: how many, and by which peers.
    pub async fn auth_failed(&self, told: ToldFailures) {
        let peers: Map<String, Value> =
            told.peers.into_iter().map(|(peer, failures)| (peer.to_string(), failures.into())).collect();
        let event = NewEvent::new(EventKind::AuthFailed, TimeMs::now());
        self.record(event.detail("failures", told.failures).detail("peers", peers)).await;
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
        view.wait_for(|view| !view.live.contains_key(&id) && !view.finishing.contains_key(&id))
            .await
            .map_err(|_| closing())?;
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
