//! The modelled database: what was committed stays. Changes wait in a queue and share commits, in order.

use std::collections::{BTreeMap, BTreeSet};

use kas::lifecycle::Run;
use kas::model::{EventKind, InstanceId, ProjectId, RunState};
use kas::store::{Change, Earlier, Error, NewEvent, Record, Registered};

/// One change that waits.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Insert { record: Box<Record>, key: Option<String> },
    Change(Box<Change>),
    AddProject(Registered, Vec<NewEvent>),
    RemoveProject(ProjectId, Vec<NewEvent>),
}

/// What came of a change.
#[derive(Debug, Clone)]
pub(super) enum Wrote {
    Done,
    Earlier(Box<Earlier>),
    Deleted(u64),
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) projects: BTreeMap<ProjectId, Registered>,
    pub(super) runs: BTreeMap<InstanceId, Record>,
    keys: BTreeMap<(ProjectId, String), InstanceId>,
    /// What the audit log says of each run.
    pub(super) audit: BTreeMap<InstanceId, Vec<EventKind>>,
    pub(super) orphans: usize,
    /// Runs that were recorded once and are not any more.
    pub(super) gone: BTreeSet<InstanceId>,
}

impl Store {
    /// What a key stands for.
    pub(super) fn earlier(&self, project: &ProjectId, key: &str) -> Option<Earlier> {
        let id = *self.keys.get(&(project.clone(), key.to_owned()))?;
        Some(self.runs.get(&id).map_or(Earlier::Deleted(id), |it| Earlier::Run(Box::new(it.clone()))))
    }

    /// Carries out a change, all of it or nothing; says which runs it changed.
    pub(super) fn apply(&mut self, write: &Write) -> Result<(Wrote, Vec<InstanceId>), Error> {
        match write {
            Write::Insert { record, key } => self.insert(record, key.as_deref()),
            Write::Change(change) => self.change(change),
            Write::AddProject(project, events) => {
                if self.projects.contains_key(&project.id)
                    || self.projects.values().any(|known| known.path == project.path)
                {
                    return Err(Error::Conflict("registered".to_owned()));
                }
                self.projects.insert(project.id.clone(), project.clone());
                self.note(events);
                Ok((Wrote::Done, Vec::new()))
            }
            Write::RemoveProject(id, events) => self.remove_project(id, events),
        }
    }

    fn insert(&mut self, record: &Record, key: Option<&str>) -> Result<(Wrote, Vec<InstanceId>), Error> {
        let instance = &record.run.instance;
        if let Some(earlier) = key.and_then(|key| self.earlier(&instance.project_id, key)) {
            return Ok((Wrote::Earlier(Box::new(earlier)), Vec::new()));
        }
        if !self.projects.contains_key(&instance.project_id) || self.runs.contains_key(&instance.id) {
            return Err(Error::Conflict("project or id".to_owned()));
        }
        if let Some(key) = key {
            self.keys.insert((instance.project_id.clone(), key.to_owned()), instance.id);
        }
        self.runs.insert(instance.id, record.clone());
        Ok((Wrote::Done, vec![instance.id]))
    }

    fn change(&mut self, change: &Change) -> Result<(Wrote, Vec<InstanceId>), Error> {
        for run in &change.updates {
            let known = self.runs.get(&run.instance.id).ok_or(Error::NoInstance)?;
            if goes_back(&known.run, run) {
                return Err(Error::Conflict("a state would go back".to_owned()));
            }
        }
        let known = |id: &&InstanceId| self.runs.contains_key(*id);
        let deletes: Vec<InstanceId> = change.deletes.iter().filter(known).copied().collect();
        if deletes.iter().any(|id| !self.runs[id].run.instance.state.is_terminal()) {
            return Err(Error::Conflict("the instance is not over".to_owned()));
        }
        for run in &change.updates {
            if let Some(record) = self.runs.get_mut(&run.instance.id) {
                record.run = run.clone();
            }
        }
        self.note(&change.events);
        deletes.iter().for_each(|id| self.forget(*id));
        let changed = change.updates.iter().map(|run| run.instance.id).collect();
        Ok((Wrote::Deleted(deletes.len() as u64), changed))
    }

    fn remove_project(
        &mut self,
        id: &ProjectId,
        events: &[NewEvent],
    ) -> Result<(Wrote, Vec<InstanceId>), Error> {
        let its_own: Vec<_> = self.runs.values().map(|it| &it.run.instance).collect();
        let its_own: Vec<_> = its_own.into_iter().filter(|it| it.project_id == *id).collect();
        if its_own.iter().any(|instance| !instance.state.is_terminal()) {
            return Err(Error::Conflict("runs that are not over".to_owned()));
        }
        let ids: Vec<InstanceId> = its_own.into_iter().map(|instance| instance.id).collect();
        ids.into_iter().for_each(|id| self.forget(id));
        self.projects.remove(id);
        self.note(events);
        Ok((Wrote::Done, Vec::new()))
    }

    fn forget(&mut self, id: InstanceId) {
        self.runs.remove(&id);
        self.audit.remove(&id);
        self.gone.insert(id);
    }

    fn note(&mut self, events: &[NewEvent]) {
        for event in events {
            if let Some(id) = event.task_id {
                self.audit.entry(id).or_default().push(event.kind);
            }
            self.orphans += usize::from(event.kind == EventKind::OrphanedSession);
        }
    }

    /// Runs that are starting or running.
    pub(super) fn live(&self) -> Vec<Record> {
        self.runs.values().filter(|record| !record.run.instance.state.is_terminal()).cloned().collect()
    }

    /// Ended runs of a task, or the ad-hoc ones.
    pub(super) fn ended(&self, project: &ProjectId, task: Option<&str>) -> Vec<InstanceId> {
        let of_it = |record: &&Record| {
            let instance = &record.run.instance;
            instance.state.is_terminal()
                && instance.project_id == *project
                && instance.task_name.as_ref().map(|name| name.as_str()) == task
        };
        let ended = self.runs.values().filter(of_it).map(|record| &record.run.instance);
        ended.map(|instance| instance.id).collect()
    }
}

/// A state never goes back, and an end stays as it is.
fn goes_back(known: &Run, new: &Run) -> bool {
    let (from, to) = (known.instance.state, new.instance.state);
    to < from || (from.is_terminal() && from != to) || (from == RunState::Running && to == RunState::Starting)
}
