//! The live terminals: bytes, size and input, reached without passing the control plane.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::Notify;

use super::view::TerminalId;
use crate::backend::Holder;
use crate::broker::{Channel, Checkpoint, History};
use crate::journal::Nonce;
use crate::model::{InstanceId, Offset, Size};
use crate::terminal::Theme;

/// Bytes of a run, wherever they are at the moment: nowhere yet, in its journal, or in the store.
#[derive(Default)]
pub(super) struct RunHistory {
    place: RwLock<Option<Arc<dyn History>>>,
}

impl RunHistory {
    /// From now on bytes are read from `place`.
    pub(super) fn move_to(&self, place: Arc<dyn History>) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    fn now(&self) -> Option<Arc<dyn History>> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl History for RunHistory {
    fn range(&self) -> Range<Offset> {
        self.now().map_or(Offset(0)..Offset(0), |place| place.range())
    }

    fn read_at(&self, from: Offset, max: usize) -> io::Result<Bytes> {
        self.now().map_or(Ok(Bytes::new()), |place| place.read_at(from, max))
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.now()?.checkpoint()
    }

    fn times(&self) -> Vec<(Offset, i64)> {
        self.now().map_or_else(Vec::new, |place| place.times())
    }

    fn sizes(&self) -> Vec<(Offset, Size)> {
        self.now().map_or_else(Vec::new, |place| place.sizes())
    }

    fn pinned(&self) -> io::Result<Option<Arc<dyn History>>> {
        let Some(place) = self.now() else { return Ok(None) };
        match place.pinned() {
            // A journal that is gone when it is to be pinned was stored before it went.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.now()),
            Ok(None) => Ok(Some(place)),
            pinned => pinned,
        }
    }
}

/// A run's terminal while the run is not over.
pub(super) struct LiveTerminal {
    /// Its newest bytes, size and end.
    pub channel: Arc<Channel>,
    /// Its older bytes.
    pub history: Arc<RunHistory>,
    /// What holds the command; set once its shim waits at the gate.
    pub holder: OnceLock<Holder>,
    /// The run's secret, by which its processes are known; set once there is a shim, or what one left.
    pub nonce: OnceLock<Nonce>,
    /// Told when the shim has left.
    pub left: Notify,
    stopping: AtomicBool,
    silent: AtomicBool,
}

impl LiveTerminal {
    /// Whether its shim may live and has not answered since the daemon's start.
    #[must_use]
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    pub(super) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Release);
    }

    /// From now on the run's end counts only when nothing of its tree lives.
    pub(super) fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether a stop is under way.
    #[must_use]
    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// All live terminals of runs. At most as many as there may be live runs.
#[derive(Default)]
pub(super) struct Terminals {
    runs: DashMap<InstanceId, Arc<LiveTerminal>>,
    /// Ended runs that somebody watches, so that any number of viewers share one transcript in memory.
    ended: DashMap<InstanceId, Weak<Channel>>,
    /// The colours that a page told last.
    theme: RwLock<Option<Theme>>,
}

impl Terminals {
    /// The colours that a page told last.
    pub(super) fn theme(&self) -> Option<Theme> {
        *self.theme.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_theme(&self, theme: Theme) {
        *self.theme.write().unwrap_or_else(PoisonError::into_inner) = Some(theme);
    }

    /// Makes the terminal of a run that is about to start, or that goes on since before a restart.
    pub(super) fn open(&self, id: InstanceId, start: Offset, size: Size) -> Arc<LiveTerminal> {
        let history = Arc::new(RunHistory::default());
        let behind: Arc<dyn History> = history.clone();
        let channel = Arc::new(Channel::new(start, size, Some(behind), Channel::RING_CAP));
        let terminal = Arc::new(LiveTerminal {
            channel,
            history,
            holder: OnceLock::new(),
            nonce: OnceLock::new(),
            left: Notify::new(),
            stopping: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        });
        self.runs.insert(id, terminal.clone());
        terminal
    }

    /// The terminal of a live run.
    #[must_use]
    pub(super) fn get(&self, id: InstanceId) -> Option<Arc<LiveTerminal>> {
        self.runs.get(&id).map(|entry| entry.value().clone())
    }

    /// The holder of a live run whose shim waits or runs.
    #[must_use]
    pub(super) fn holder(&self, id: InstanceId) -> Option<Holder> {
        self.get(id)?.holder.get().cloned()
    }

    /// Forgets a run that is over; its viewers keep the channel.
    pub(super) fn close(&self, id: InstanceId) -> Option<Arc<LiveTerminal>> {
        self.runs.remove(&id).map(|(_, terminal)| terminal)
    }

    /// The channel of an ended run, if somebody has it open.
    pub(super) fn ended(&self, id: InstanceId) -> Option<Arc<Channel>> {
        self.ended.get(&id)?.upgrade()
    }

    /// Remembers the channel of an ended run while somebody has it open, and forgets those that nobody has.
    pub(super) fn remember_ended(&self, id: InstanceId, channel: &Arc<Channel>) {
        self.ended.retain(|_, channel| channel.strong_count() > 0);
        self.ended.insert(id, Arc::downgrade(channel));
    }

    /// How a terminal is named in messages.
    #[must_use]
    pub(super) fn describe(id: TerminalId) -> String {
        match id {
            TerminalId::Task(id) => format!("instance {id}"),
            TerminalId::Pane(number) => format!("pane {number}"),
        }
    }
}
