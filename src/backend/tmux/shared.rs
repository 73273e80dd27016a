//! What the handle and the actors of all sessions share.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, mpsc, watch};

use super::probe::Version;
use super::server::ServerId;
use super::settings::Settings;
use super::types::Report;
use crate::model::ProjectId;

/// How long a control client may take to tell how its server ended.
const VERDICT_DEADLINE: Duration = Duration::from_secs(1);

/// How long the stream of a server that was killed may take to end.
const CRASH_DEADLINE: Duration = Duration::from_millis(150);

/// Shared by the handle and all actors.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) version: Version,
    pub(super) reports: mpsc::Sender<Report>,
    /// Whom the servers serve that hold windows of ours; one, but for the moment in which another takes over.
    served: Mutex<HashMap<ServerId, BTreeSet<ProjectId>>>,
    /// The server that last held a window of ours, and whether a control client of it was let go in order.
    last: watch::Sender<Option<(ServerId, Option<bool>)>>,
    control_bytes: AtomicU64,
    /// A control client that is attaching has this alone. tmux 3.3a dies when it has something to tell all control clients (a session
    /// made or ended, a mode left) while one of them has said what it is and not yet all about itself.
    pub(super) quiet: RwLock<()>,
}

impl Shared {
    pub(super) fn new(settings: Settings, version: Version, reports: mpsc::Sender<Report>) -> Self {
        Self {
            settings,
            version,
            reports,
            served: Mutex::default(),
            last: watch::Sender::new(None),
            control_bytes: AtomicU64::new(0),
            quiet: RwLock::new(()),
        }
    }

    /// A server holds windows of a project.
    pub(super) fn serve(&self, server: ServerId, project: &ProjectId) {
        self.served().entry(server).or_default().insert(project.clone());
        let is_new = self.last.send_if_modified(|last| {
            let is_new = last.is_none_or(|(known, _)| known != server);
            if is_new {
                *last = Some((server, None));
            }
            is_new
        });
        if is_new {
            self.settings.scopes().look_at("the tmux server", server.pid);
        }
    }

    /// A control client of a server attached: what an earlier one told is old.
    pub(super) fn attached(&self, server: ServerId) {
        self.judge(server, None);
    }

    /// A control client of a server ended.
    pub(super) fn ended(&self, server: ServerId, is_clean: bool) {
        self.judge(server, Some(is_clean));
    }

    fn judge(&self, server: ServerId, verdict: Option<bool>) {
        self.last.send_if_modified(|last| match last {
            Some((known, now)) if *known == server => std::mem::replace(now, verdict) != verdict,
            Some(_) | None => false,
        });
    }

    /// A server is gone: the projects it served, the first time this is said.
    pub(super) fn gone(&self, server: ServerId) -> Vec<ProjectId> {
        self.served().remove(&server).into_iter().flatten().collect()
    }

    /// Whether the server that last held a window of ours lives, or ended in order.
    pub(super) async fn ended_in_order(&self) -> bool {
        let mut last = self.last.subscribe();
        let Some((server, _)) = *last.borrow() else { return true };
        if server.lives() {
            return true;
        }
        // A client that was let go earlier proves nothing; one that was not tells so at once.
        let is_told = |wanted: &'static [bool]| {
            move |last: &Option<(ServerId, Option<bool>)>| {
                last.is_none_or(|(known, told)| {
                    known != server || told.is_some_and(|it| wanted.contains(&it))
                })
            }
        };
        if tokio::time::timeout(CRASH_DEADLINE, last.wait_for(is_told(&[false]))).await.is_ok() {
            return false;
        }
        let told = tokio::time::timeout(VERDICT_DEADLINE, last.wait_for(is_told(&[false, true]))).await;
        // Without a word, no control client was there to see it.
        told.is_ok_and(|told| told.is_ok_and(|last| last.is_some_and(|(_, told)| told == Some(true))))
    }

    /// So many bytes came by the control stream and were new.
    pub(super) fn count(&self, bytes: u64) {
        self.control_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn control_bytes(&self) -> u64 {
        self.control_bytes.load(Ordering::Relaxed)
    }

    fn served(&self) -> MutexGuard<'_, HashMap<ServerId, BTreeSet<ProjectId>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
