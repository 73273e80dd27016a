//! The evidence, found by what it is about.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::evidence::{Database, Directory, Evidence, Health, Process, Stored};
use crate::model::{EventKind, InstanceId};
use crate::store::{RunRow, StoredEvent};

/// The evidence with indexes.
pub(super) struct View<'a> {
    pub(super) all: &'a Evidence,
    /// What is recorded; empty without a database.
    pub(super) database: Option<&'a Database>,
    pub(super) runs: BTreeMap<InstanceId, &'a RunRow>,
    pub(super) directories: BTreeMap<InstanceId, &'a Directory>,
    /// Living shims. A fork that has not become the command yet looks like its parent and is left out.
    pub(super) shims: BTreeMap<InstanceId, Vec<&'a Process>>,
    pub(super) processes: BTreeMap<u32, &'a Process>,
    pub(super) transcripts: BTreeMap<InstanceId, &'a Stored>,
    /// Events of launches and ends, by run, oldest first.
    pub(super) events: BTreeMap<InstanceId, Vec<&'a StoredEvent>>,
}

impl<'a> View<'a> {
    pub(super) fn new(all: &'a Evidence) -> Self {
        let database = all.database.as_ref();
        let processes: BTreeMap<_, _> = all.processes.iter().map(|it| (it.pid, it)).collect();
        let mut shims: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for process in all.processes.iter().filter(|it| !it.is_ended()) {
            let is_fork = processes.get(&process.parent).is_some_and(|it| it.shim_of == process.shim_of);
            if let Some(id) = process.shim_of.filter(|_| !is_fork) {
                shims.entry(id).or_default().push(process);
            }
        }
        let runs = database.iter().flat_map(|it| &it.runs);
        let transcripts = database.iter().flat_map(|it| &it.transcripts);
        Self {
            all,
            database,
            runs: runs.map(|row| (row.run.instance.id, row)).collect(),
            directories: all.directories.iter().map(|it| (it.id, it)).collect(),
            shims,
            processes,
            transcripts: transcripts.map(|it| (it.id, it)).collect(),
            events: by_run(database.map_or(&[], |it| &it.events)),
        }
    }

    /// Whether a daemon is at work, so that what is not done will not be.
    pub(super) const fn works(&self) -> bool {
        matches!(self.all.daemon, Health::Works(_))
    }

    /// Whether the audit log reaches back to the first event of this run.
    pub(super) fn has_all_events_of(&self, row: &RunRow) -> bool {
        let Some(database) = self.database else { return false };
        let oldest = database.events.iter().map(|it| it.at).min();
        self.has_every_event() || oldest.is_some_and(|oldest| oldest < row.run.instance.launched_at)
    }

    /// Whether the audit log reaches back to the first event of all.
    pub(super) fn has_every_event(&self) -> bool {
        self.database.is_some_and(|it| it.log.first <= 1)
    }

    /// Whether this process descends from that one.
    pub(super) fn descends(&self, pid: u32, from: u32) -> bool {
        let mut seen = BTreeSet::new();
        let mut at = self.processes.get(&pid);
        while let Some(process) = at.filter(|it| seen.insert(it.pid)) {
            if process.parent == from {
                return true;
            }
            at = self.processes.get(&process.parent);
        }
        false
    }
}

fn by_run(events: &[StoredEvent]) -> BTreeMap<InstanceId, Vec<&StoredEvent>> {
    let mut by_run: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events.iter().filter(|it| is_launch(it) || is_end(it)) {
        if let Some(id) = event.task_id.as_ref().and_then(|id| id.parse().ok()) {
            by_run.entry(id).or_default().push(event);
        }
    }
    by_run
}

/// Whether it tells that a command started.
pub(super) fn is_launch(event: &StoredEvent) -> bool {
    event.kind == EventKind::TaskLaunched.word()
}

/// Whether it tells that a run is over.
pub(super) fn is_end(event: &StoredEvent) -> bool {
    [EventKind::TaskExited, EventKind::TaskStopped].iter().any(|kind| event.kind == kind.word())
}

/// How a run is called in a violation.
pub(super) fn run(id: InstanceId) -> String {
    format!("run {id}")
}
