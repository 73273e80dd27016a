//! What the actor does with what tmux tells.

use bytes::Bytes;

use super::actor::{Actor, Bound, Waiter};
use super::link::{End, Link, Told};
use crate::backend::BackendError;
use crate::control::{Command, Event, Notification, PaneId, Reason};

impl Actor {
    pub(super) fn drain(&mut self) {
        while let Some(told) = self.link.as_mut().and_then(Link::next) {
            match told {
                Told::Event(Event::Output { pane, bytes, .. }) => self.output(pane, &bytes),
                Told::Event(Event::Notification(notification)) => self.notified(&notification),
                Told::Event(Event::Unparsed(unparsed)) => {
                    tracing::debug!(?unparsed, "a line of tmux that is not understood");
                    if unparsed.reason == Reason::LineTooLong {
                        self.lose_all(self.is_output_on);
                    }
                }
                Told::Event(Event::Block(_) | Event::Reply { .. } | Event::Closed) => {}
                Told::Answer(waiter, answer) => self.answered(waiter, answer),
            }
        }
    }

    fn output(&mut self, pane: PaneId, bytes: &Bytes) {
        match self.panes.get_mut(&pane) {
            Some(Bound::Run { follower, .. }) => {
                let taken = follower.output(bytes);
                self.shared.count(taken.new_bytes);
                if taken.ended {
                    self.panes.remove(&pane);
                }
            }
            Some(Bound::Operator(viewed)) => {
                let is_too_much = viewed.output(bytes);
                if is_too_much {
                    self.pause(pane);
                }
            }
            None => {}
        }
    }

    fn notified(&mut self, notification: &Notification) {
        match notification {
            Notification::Pause { pane } => self.paused_by_tmux(*pane),
            Notification::LayoutChange { .. }
            | Notification::UnlinkedWindowAdd { .. }
            | Notification::UnlinkedWindowClose { .. }
            | Notification::WindowAdd { .. }
            | Notification::WindowClose { .. } => self.look(),
            Notification::SessionChanged { session, .. } => {
                if self.target.is_some_and(|(_, own)| own != *session) {
                    // Somebody switched our client to another session.
                    self.lost(End { why: "it was moved to another session".to_owned(), is_clean: true });
                }
            }
            Notification::ClientDetached { .. }
            | Notification::ClientSessionChanged { .. }
            | Notification::ConfigError { .. }
            | Notification::Continue { .. }
            | Notification::Exit { .. }
            | Notification::Message { .. }
            | Notification::PaneModeChanged { .. }
            | Notification::PasteBufferChanged { .. }
            | Notification::PasteBufferDeleted { .. }
            | Notification::SessionRenamed { .. }
            | Notification::SessionWindowChanged { .. }
            | Notification::SessionsChanged
            | Notification::SubscriptionChanged(_)
            | Notification::UnlinkedWindowRenamed { .. }
            | Notification::WindowPaneChanged { .. }
            | Notification::WindowRenamed { .. } => {}
        }
    }

    /// Output of the pane was thrown away because we read too slowly.
    fn paused_by_tmux(&mut self, pane: PaneId) {
        match self.panes.get_mut(&pane) {
            Some(Bound::Run { follower, .. }) => {
                // Alignment is asked for after this command is on its way; the mark cannot come before output flows again,
                // and one that is lost all the same is asked for again at the next look.
                follower.lose(true);
                self.send(Command::ContinueOutput(pane), Waiter::Nobody);
            }
            Some(Bound::Operator(viewed)) => {
                if viewed.is_live() {
                    self.pause(pane);
                }
            }
            None => self.send(Command::ContinueOutput(pane), Waiter::Nobody),
        }
    }

    fn answered(&mut self, waiter: Waiter, answer: Result<Bytes, String>) {
        match waiter {
            Waiter::Listed => self.listed(answer),
            Waiter::Paused(pane) => match answer {
                Ok(_) => self.capture(pane),
                Err(_) => drop(self.panes.remove(&pane)),
            },
            // Who asked may have gone.
            Waiter::Run(done) => drop(done.send(answer.map(drop).map_err(BackendError::Tmux))),
            Waiter::Nobody => {
                if let Err(error) = answer {
                    tracing::debug!(project = %self.project, error, "tmux would not");
                }
            }
        }
    }

    pub(super) fn send(&mut self, command: Command, waiter: Waiter) {
        if let Some(link) = &mut self.link {
            link.send(&[command], waiter);
        }
    }
}
