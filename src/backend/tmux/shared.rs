//! What the handle and the actors of all sessions share.

use std::collections::{BTreeSet, HashMap, VecDeque};
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

/// How servers ended, as far as is known.
type Verdicts = VecDeque<(ServerId, Option<bool>)>;
/// So many servers are remembered; of one forgotten nobody asks any more.
const VERDICTS_LIMIT: usize = 16;

/// Shared by the handle and all actors.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) version: Version,
    pub(super) reports: mpsc::Sender<Report>,
    /// Whom the servers serve that hold windows of ours; one, but for the moment in which another takes over.
    served: Mutex<HashMap<ServerId, BTreeSet<ProjectId>>>,
    /// The servers that last held windows of ours, the newest at the end, and whether a control client of each was let go in order.
    verdicts: watch::Sender<Verdicts>,
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
            verdicts: watch::Sender::default(),
            control_bytes: AtomicU64::new(0),
            quiet: RwLock::new(()),
        }
    }

    /// A server holds windows of a project.
    pub(super) fn serve(&self, server: ServerId, project: &ProjectId) {
        self.served().entry(server).or_default().insert(project.clone());
        let is_new = self.verdicts.send_if_modified(|all| {
            let is_new = all.iter().all(|(known, _)| *known != server);
            if is_new {
                if all.len() == VERDICTS_LIMIT {
                    all.pop_front();
                }
                all.push_back((server, None));
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
        self.verdicts.send_if_modified(|all| {
            let known = all.iter_mut().find(|(known, _)| *known == server);
            known.is_some_and(|(_, now)| std::mem::replace(now, verdict) != verdict)
        });
    }

    /// A server is gone: the projects it served, the first time this is said.
    pub(super) fn gone(&self, server: ServerId) -> Vec<ProjectId> {
        self.served().remove(&server).into_iter().flatten().collect()
    }

    /// Whether this server, or the one that held a window of ours last, lives or ended in order.
    pub(super) async fn ended_in_order(&self, server: Option<ServerId>) -> bool {
        let mut verdicts = self.verdicts.subscribe();
        let newest = verdicts.borrow().back().map(|(server, _)| *server);
        let Some(server) = server.or(newest) else { return true };
        if server.lives() {
            return true;
        }
        let verdict = move |all: &Verdicts| all.iter().find(|(known, _)| *known == server)?.1;
        // A client that was let go earlier proves nothing; one that was not tells so at once.
        let crashed = verdicts.wait_for(|all| verdict(all) == Some(false));
        if tokio::time::timeout(CRASH_DEADLINE, crashed).await.is_ok() {
            return false;
        }
        let told = verdicts.wait_for(|all| verdict(all).is_some());
        let told = tokio::time::timeout(VERDICT_DEADLINE, told).await;
        // Without a word, no control client was there to see it.
        told.is_ok_and(|told| told.is_ok_and(|all| verdict(&all) == Some(true)))
    }

    /// A project has no session any more.
    pub(super) fn forget(&self, project: &ProjectId) {
        self.served().retain(|_, projects| {
            projects.remove(project);
            !projects.is_empty()
        });
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
