//! What is left of a run whose shim and ward are both dead, as after `pkill -9 kas`: found, ended, or told.
//!
//! Proof is the run's label, which the kernel hands down (`label`), and descent from a process that carries it; each signal goes by a pidfd to
//! the process of that very start time. A mark in the environment is only a hint: programs hand it to services that are none of the run's.
//!
//! Nothing that the kernel offers would end the tree at once. A parent-death signal (prctl(2), `PR_SET_PDEATHSIG`) reaches the command alone, not what
//! it started, and would cut short the grace that a ward gives; `cgroup.kill` needs a cgroup of the run's own, which only a service of systemd
//! has; a PID namespace changes what a command sees, and needs rights that not everybody has.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::label::{self, Label};
use super::sys;
use super::tree::{self, Process, Stat, Stop};
use crate::journal::Nonce;
use crate::model::InstanceId;

/// The variable that every command finds its run's id in. Where no label tells, it is a hint.
pub const RUN_ID: &str = "KAS_RUN_ID";
/// A look that is so young, in milliseconds, serves every look.
const YOUNG_MS: u64 = 20;
/// Processes that outlive KILL by so long, in milliseconds, are told: they wait in the kernel, or are another user's.
const STAYING_MS: u64 = 1000;
/// A look at all processes may miss one that was just forked: nothing is called gone after fewer looks that found nothing.
const LOOKS: u8 = 2;

/// All processes at about one moment, and the labels that they carry.
#[derive(Debug)]
pub struct Look {
    at: u64,
    all: Vec<(u32, Stat)>,
    labelled: HashMap<Label, Vec<u32>>,
    /// By the run's id in their environment; read when it is first asked for.
    marked: OnceLock<HashMap<String, Vec<u32>>>,
}

impl Look {
    /// The processes now, or up to 20 ms ago. Blocks while `/proc` is read.
    #[must_use]
    pub fn recent() -> Arc<Self> {
        static LAST: Mutex<Option<Arc<Look>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let now = sys::monotonic_ms();
        match &*last {
            Some(look) if now < look.at + YOUNG_MS => Arc::clone(look),
            Some(_) | None => Arc::clone(last.insert(Arc::new(Self::now(now)))),
        }
    }

    fn now(at: u64) -> Self {
        let all = tree::all();
        let mut labelled: HashMap<Label, Vec<u32>> = HashMap::new();
        for (pid, _) in all.iter().filter(|(_, stat)| !stat.ended) {
            if let Some(label) = label::carried_by(*pid) {
                labelled.entry(label).or_default().push(*pid);
            }
        }
        Self { at, all, labelled, marked: OnceLock::new() }
    }

    /// Whether something of this run lives that no shim or ward of it holds any more.
    #[must_use]
    pub fn has(&self, nonce: &Nonce, id: InstanceId) -> bool {
        !self.of(Label::of(nonce), id).is_empty()
    }

    /// What carries the label, and what descends from that; never this process, or what descends from it. Nothing where a shim or ward of
    /// the run is above it: then it is held, by a copy of the state directory that is elsewhere.
    fn of(&self, label: Label, id: InstanceId) -> Vec<(Process, bool)> {
        let own = std::process::id();
        let carriers = self.labelled.get(&label).map_or(&[][..], Vec::as_slice);
        let carriers: Vec<u32> = carriers.iter().copied().filter(|pid| *pid != own).collect();
        if carriers.is_empty() || carriers.iter().any(|pid| self.is_held(*pid, id)) {
            return Vec::new();
        }
        let mut left = tree::descendants(&self.all, &carriers, Some(own));
        let carrying = self.all.iter().filter(|(pid, _)| carriers.contains(pid));
        left.extend(carrying.map(|&(pid, stat)| (Process { pid, start: stat.start }, stat.leads)));
        left.sort_unstable_by_key(|(process, _)| process.pid);
        left.dedup_by_key(|(process, _)| process.pid);
        left
    }

    /// What lives of a run, held or not: what carries its label and what descends from that.
    #[must_use]
    pub fn living(&self, nonce: &Nonce) -> Vec<Living> {
        let carriers = self.labelled.get(&Label::of(nonce)).map_or(&[][..], Vec::as_slice);
        let below = tree::descendants(&self.all, carriers, Some(std::process::id()));
        let below = below.into_iter().map(|(process, _)| process.pid);
        let all: BTreeSet<u32> = carriers.iter().copied().chain(below).collect();
        all.into_iter().filter_map(Living::read).collect()
    }

    /// Living processes that have the run's id in their environment: a hint, and no proof that they are the run's.
    #[must_use]
    pub fn marked(&self, id: InstanceId) -> Vec<u32> {
        let marked = self.marked.get_or_init(|| {
            let mut marked: HashMap<String, Vec<u32>> = HashMap::new();
            let own = std::process::id();
            for (pid, _) in self.all.iter().filter(|(pid, stat)| !stat.ended && *pid != own) {
                if let Some(run) = mark_of(*pid) {
                    marked.entry(run).or_default().push(*pid);
                }
            }
            marked
        });
        marked.get(&id.to_string()).cloned().unwrap_or_default()
    }

    /// Whether a shim or ward of the run is above a process.
    fn is_held(&self, pid: u32, id: InstanceId) -> bool {
        let parent_of = |pid: u32| self.all.iter().find(|(it, _)| *it == pid).map(|(_, stat)| stat.parent);
        // Bounded: processes that end meanwhile could make a circle.
        let above = std::iter::successors(parent_of(pid), |pid| parent_of(*pid)).take(self.all.len());
        above.take_while(|pid| *pid != 0).any(|pid| holds(pid, id))
    }
}

/// A process that lives, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its id.
    pub pid: u32,
    /// The user it acts for (its effective uid).
    pub user: u32,
    /// What it calls itself.
    pub name: String,
}

impl Living {
    /// `None` for one that has ended meanwhile.
    fn read(pid: u32) -> Option<Self> {
        let status = fs::read(format!("/proc/{pid}/status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let user = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(Self { pid, user, name: field("Name:")?.to_owned() })
    }

    /// Whether this process may not signal it.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        let own = rustix::process::geteuid();
        !own.is_root() && own.as_raw() != self.user
    }
}

/// Whether a process says that it is the shim or ward of this run, of whatever state directory.
fn holds(pid: u32, id: InstanceId) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0).skip(1);
    let role = words.next().is_some_and(|word| word == b"shim" || word == b"ward");
    let dir = words.next().map(|dir| Path::new(std::ffi::OsStr::from_bytes(dir)));
    let named =
        dir.and_then(Path::file_name).is_some_and(|name| name.as_bytes() == id.to_string().as_bytes());
    role && named
}

/// The run's id in a process's environment, as that was when it executed its program; none where another user's process keeps it.
#[must_use]
pub fn mark_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let id = variables.find_map(|it| it.strip_prefix(RUN_ID.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(id.to_vec()).ok()
}

/// What a look at what is left came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing of it lives.
    Gone,
    /// These processes live and are being ended.
    Ending(Vec<u32>),
    /// These processes live on although they were killed: only another user, or the kernel, can end them.
    Staying(Vec<u32>),
}

/// What is left of a run, on its way to its end: TERM, the grace of a stop, KILL.
#[derive(Debug)]
pub struct Remains {
    label: Label,
    id: InstanceId,
    stop: Stop,
    killing_since: Option<u64>,
    empty: u8,
    looked_at: u64,
}

impl Remains {
    /// What is left of this run, from now on to be ended.
    #[must_use]
    pub fn of(nonce: &Nonce, id: InstanceId) -> Self {
        let stop = Stop::new(false, sys::monotonic_ms());
        Self { label: Label::of(nonce), id, stop, killing_since: None, empty: 0, looked_at: 0 }
    }

    /// Does what is due and says what lives. To be called again and again until it is [`Left::Gone`]. Blocks while `/proc` is read.
    pub fn advance(&mut self) -> Left {
        let look = Look::recent();
        let alive = look.of(self.label, self.id);
        let now = sys::monotonic_ms();
        if alive.is_empty() {
            self.empty += u8::from(look.at != self.looked_at);
            self.looked_at = look.at;
            return if self.empty < LOOKS { Left::Ending(Vec::new()) } else { Left::Gone };
        }
        self.empty = 0;
        let pids = alive.iter().map(|(process, _)| process.pid).collect();
        self.stop.advance(now, || alive);
        if self.stop.is_killing() {
            let since = *self.killing_since.get_or_insert(now);
            if now >= since + STAYING_MS {
                return Left::Staying(pids);
            }
        }
        Left::Ending(pids)
    }
}
