//! What the actor knows of the session's panes: which there are, runs followed, and the operator's looked at.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::{Actor, Bound, Listing, Waiter, now};
use super::link::{End, Link};
use super::listing::{self, Row};
use super::pane::{Follower, Viewed};
use super::screen::{self, Screen};
use super::server::{self, ServerId};
use super::types::Report;
use crate::backend::BackendError;
use crate::broker::Channel;
use crate::control::command::{ClientFlag, Panes, WindowTarget};
use crate::control::{Command, PaneId, WindowId};
use crate::model::Size;

/// Time between two changes of a window's size.
const RESIZE_EVERY: Duration = Duration::from_millis(50);
/// Time between two looks at what panes there are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A look that is not answered so soon is late: nobody waits for tmux then.
const LATE: Duration = Duration::from_millis(500);
/// Late by so much, the server is asked by another way: if it answers there, this control client has lost its place.
const DEAF: Duration = Duration::from_secs(2);

impl Actor {
    // ---- what panes there are

    pub(super) fn look(&mut self) {
        let Some((_, session)) = self.target.filter(|_| self.link.is_some()) else { return };
        self.listing = match self.listing {
            Listing::Idle => {
                let list = Command::ListPanes { of: Panes::Session(session), fields: listing::fields() };
                self.asked_at = now();
                self.send(list, Waiter::Listed);
                Listing::Asked
            }
            Listing::Asked | Listing::AskedAndStale => Listing::AskedAndStale,
        };
    }

    /// Looks from time to time, since not every change is notified, and whether tmux answered the last look.
    pub(super) fn look_again(&mut self) {
        self.forget_released();
        if self.link.is_none() {
            return;
        }
        let since = now() - self.asked_at;
        match self.listing {
            Listing::Idle if since >= LOOK_EVERY => self.look_around(),
            Listing::Asked | Listing::AskedAndStale if since >= LATE => self.is_late(since),
            Listing::Idle | Listing::Asked | Listing::AskedAndStale => {}
        }
    }

    /// tmux does not answer: the shims stream meanwhile. A server that answers others has answered here too, and it was not understood.
    fn is_late(&mut self, since: Duration) {
        for bound in self.panes.values_mut() {
            if let Bound::Run { follower, is_here: true, .. } = bound
                && follower.is_aligned()
            {
                follower.lose(self.is_output_on);
            }
        }
        if self.is_deaf {
            let why = "it does not answer, although tmux does".to_owned();
            self.lost(End { why, is_clean: false });
        } else if since >= DEAF && self.ping.is_empty() {
            let shared = self.shared.clone();
            self.ping.spawn(async move { server::ping(&shared.settings).await });
        }
    }

    /// Runs that were released are followed no more, whether or not the end of their output came by.
    fn forget_released(&mut self) {
        self.panes.retain(|_, bound| !matches!(bound, Bound::Run { follower, .. } if follower.is_released()));
    }

    fn look_around(&mut self) {
        self.panes.retain(|_, bound| !matches!(bound, Bound::Operator(viewed) if viewed.is_unwatched()));
        if self.is_output_on {
            for bound in self.panes.values_mut() {
                if let Bound::Run { follower, is_here: true, .. } = bound
                    && !follower.is_aligned()
                {
                    follower.lose(true);
                }
            }
        }
        self.look();
    }

    pub(super) fn listed(&mut self, answer: Result<Bytes, String>) {
        let is_stale = self.listing == Listing::AskedAndStale;
        self.listing = Listing::Idle;
        let Ok(body) = answer else { return };
        let Some(rows) = listing::rows(&body) else {
            // The answer to something else, or no answer at all: whose the next ones are cannot be known.
            let why = "its answers make no sense".to_owned();
            return self.lost(End { why, is_clean: false });
        };
        self.answers();
        self.compare(&rows);
        if is_stale {
            self.look();
        }
    }

    fn compare(&mut self, rows: &[Row]) {
        for (pane, bound) in &mut self.panes {
            let row = rows.iter().find(|row| row.pane == *pane);
            match bound {
                Bound::Run { follower, is_here, .. } => {
                    if *is_here != row.is_some() {
                        *is_here = row.is_some();
                        follower.lose(*is_here && self.is_output_on);
                    }
                }
                Bound::Operator(viewed) => row.iter().for_each(|row| viewed.set_size(row.size)),
            }
        }
        let foreign = rows.iter().filter(|row| !row.is_kas);
        self.seen(foreign.map(|row| (row.pane.0, row.window.0)).collect());
    }

    /// Takes note of the operator's panes and reports what changed.
    pub(super) fn seen(&mut self, now: BTreeMap<u32, u32>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, now.clone());
        drop(known);
        for pane in before.keys().filter(|pane| !now.contains_key(pane)) {
            if let Some(Bound::Operator(viewed)) = self.panes.remove(&PaneId(*pane)) {
                viewed.end();
            }
            self.report(Report::PaneClosed { project: self.project.clone(), pane: *pane });
        }
        for (pane, window) in now.iter().filter(|(pane, _)| !before.contains_key(pane)) {
            self.report(Report::PaneOpened { project: self.project.clone(), pane: *pane, window: *window });
        }
    }

    // ---- runs

    pub(super) fn follow(&mut self, server: ServerId, pane: PaneId, mut follower: Follower) {
        if !self.serves(server) {
            // The session is gone already; the follower's shim streams as long as it lives.
            return;
        }
        if self.link.is_some() && self.is_output_on {
            follower.lose(true);
        }
        self.panes.insert(pane, Bound::Run { follower, is_here: true, until_shown: Vec::new() });
    }

    pub(super) fn flush_sizes(&mut self) {
        self.flush_at = (!self.wishes.is_empty()).then(|| now() + RESIZE_EVERY);
        for (window, size) in std::mem::take(&mut self.wishes) {
            self.send(resize(window, size), Waiter::Nobody);
        }
        self.drain();
    }

    // ---- the operator's panes

    pub(super) fn view(&mut self, pane: PaneId, done: oneshot::Sender<Arc<Channel>>) {
        if self.link.is_none() {
            return;
        }
        if let Some(bound) = self.panes.get_mut(&pane) {
            if let Bound::Operator(viewed) = bound {
                viewed.wait(done);
            }
            return;
        }
        if !self.is_output_on {
            self.is_output_on_for_views();
        }
        let mut viewed = Viewed::asked();
        viewed.wait(done);
        self.panes.insert(pane, Bound::Operator(viewed));
        self.pause(pane);
    }

    /// Where runs stream from their shims, the control client gets output for the operator's panes only when one is looked at.
    fn is_output_on_for_views(&mut self) {
        self.send(Command::SetFlags(vec![ClientFlag::Output]), Waiter::Nobody);
    }

    /// Takes the screen of an operator's pane, or takes it again.
    pub(super) fn pause(&mut self, pane: PaneId) {
        if let Some(Bound::Operator(viewed)) = self.panes.get_mut(&pane) {
            viewed.ask();
            self.send(Command::PauseOutput(pane), Waiter::Paused(pane));
        }
    }

    pub(super) fn capture(&mut self, pane: PaneId) {
        let client = self.link.as_ref().and_then(Link::pid);
        if let (Some(Bound::Operator(viewed)), Some(client)) = (self.panes.get_mut(&pane), client) {
            viewed.paused();
            let shared = self.shared.clone();
            self.captures.spawn(async move { (pane, screen::take(&shared.settings, pane, client).await) });
        }
    }

    pub(super) fn captured(&mut self, pane: PaneId, screen: Result<Screen, BackendError>) {
        match screen {
            Ok(screen) => {
                if let Some(Bound::Operator(viewed)) = self.panes.get_mut(&pane) {
                    viewed.screen(&screen);
                }
            }
            Err(error) => {
                tracing::debug!(%pane, %error, "the pane's screen could not be taken");
                if let Some(Bound::Operator(viewed)) = self.panes.remove(&pane) {
                    viewed.end();
                }
            }
        }
    }

    pub(super) fn resize_pane(&mut self, pane: PaneId, size: Size) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&pane.0).copied();
        let Some(window) = known.map(WindowId) else { return };
        if let Some(link) = &mut self.link {
            let free = Command::FreeSize(WindowTarget::Id(window));
            link.send(&[resize(window, size), free], Waiter::Nobody);
            self.look();
        }
    }
}

fn resize(window: WindowId, size: Size) -> Command {
    Command::ResizeWindow { window: WindowTarget::Id(window), cols: size.cols(), rows: size.rows() }
}
