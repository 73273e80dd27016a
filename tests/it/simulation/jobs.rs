//! What the daemon does beside the runs' actors: deleting, projects, events, and requests on their way in.

use kas::daemon::{Code, DeleteTarget, Input, Project, Refusal, Reply, ReplyId};
use kas::model::{BackendKind, EventKind, Instance, InstanceId, ProjectId, TaskName};
use kas::policy;
use kas::store::{Change, NewEvent, Record, Registered};

use super::callers::{Callers, Request};
use super::check;
use super::daemon::{Daemon, is_tried_again};
use super::store::{Write, Wrote};
use super::world::World;

/// One piece of work; `ticket` is the write it waits for.
#[derive(Debug)]
pub(super) enum Job {
    Ask(Box<Request>),
    Record {
        events: Vec<NewEvent>,
        ticket: Option<u32>,
    },
    Orphan {
        ticket: Option<u32>,
    },
    Cull {
        project: ProjectId,
        task: Option<TaskName>,
        history: Option<u8>,
        spared: InstanceId,
        ticket: Option<u32>,
    },
    Delete {
        reply: ReplyId,
        target: DeleteTarget,
        ticket: Option<u32>,
    },
    AddProject {
        reply: ReplyId,
        project: Project,
        ticket: Option<u32>,
    },
    RemoveProject {
        reply: ReplyId,
        id: ProjectId,
        ticket: Option<u32>,
    },
    CloseWindow(InstanceId),
    LookAgain(Box<Record>),
    Leaves(InstanceId, u32),
}

impl Job {
    pub(super) fn goes_on(&self, daemon: &Daemon, world: &World) -> bool {
        match self {
            Self::Ask(_) => daemon.serving,
            Self::Record { ticket, .. }
            | Self::Orphan { ticket }
            | Self::Cull { ticket, .. }
            | Self::Delete { ticket, .. }
            | Self::AddProject { ticket, .. }
            | Self::RemoveProject { ticket, .. } => {
                ticket.is_none_or(|ticket| daemon.answers.contains_key(&ticket))
            }
            Self::CloseWindow(_) => true,
            Self::LookAgain(_) => daemon.serving,
            Self::Leaves(_, pipe) => world.pipes.get(pipe).is_none_or(|pipe| pipe.shim_gone),
        }
    }
}

impl Daemon {
    pub(super) fn work(&mut self, number: u32, world: &mut World, callers: &mut Callers) {
        let Some(job) = self.jobs.remove(&number) else { return };
        let more = match job {
            Job::Ask(request) => {
                callers.send(*request, self, world);
                None
            }
            Job::Record { events, ticket } => self.record(events, ticket, world),
            Job::Orphan { ticket } => {
                let at = world.time();
                let write = || {
                    let events = vec![NewEvent::new(EventKind::OrphanedSession, at)];
                    Write::Change(Box::new(Change { events, ..Change::default() }))
                };
                self.written(ticket, write, world).err().map(|ticket| Job::Orphan { ticket })
            }
            Job::Cull { project, task, history, spared, ticket } => {
                let keep = if task.is_some() { policy::kept_of_task(history) } else { policy::AD_HOC_KEPT };
                let name = task.as_ref().map(TaskName::as_str);
                let over = policy::cull(world.store.ended(&project, name), keep, spared);
                let records = over.iter().filter_map(|id| world.store.runs.get(id));
                let ended = records.map(|record| record.run.instance.clone()).collect();
                let waits = self.delete_ended(ended, ticket, world).err();
                waits.map(|ticket| Job::Cull { project, task, history, spared, ticket: Some(ticket) })
            }
            Job::Delete { reply, target, ticket } => self.delete(reply, target, ticket, world, callers),
            Job::AddProject { reply, project, ticket } => self.add_project(reply, project, ticket, world),
            Job::RemoveProject { reply, id, ticket } => self.remove_project(reply, id, ticket, world),
            Job::CloseWindow(id) => {
                world.kill_windows_of(|window| window.instance == id);
                None
            }
            Job::LookAgain(record) => {
                self.look_again(&record, world);
                None
            }
            Job::Leaves(id, pipe) => {
                world.pipes.remove(&pipe);
                world.dirs.remove(&id);
                None
            }
        };
        if let Some(job) = more {
            self.jobs.insert(number, job);
        }
    }

    /// A write that is tried until it is taken, as the performer's `write`.
    fn written(
        &mut self,
        ticket: Option<u32>,
        write: impl FnOnce() -> Write,
        world: &mut World,
    ) -> Result<(), Option<u32>> {
        match ticket.and_then(|ticket| self.answers.remove(&ticket)) {
            Some(Err(error)) if is_tried_again(&error) => Err(Some(self.submit(write(), world))),
            Some(_) => Ok(()),
            None => Err(Some(self.submit(write(), world))),
        }
    }

    fn record(&mut self, events: Vec<NewEvent>, ticket: Option<u32>, world: &mut World) -> Option<Job> {
        let write = || {
            let events = events.clone();
            Write::Change(Box::new(Change { events, ..Change::default() }))
        };
        let waits = self.written(ticket, write, world).err();
        waits.map(|ticket| Job::Record { events, ticket })
    }

    fn delete(
        &mut self,
        reply: ReplyId,
        target: DeleteTarget,
        ticket: Option<u32>,
        world: &mut World,
        callers: &mut Callers,
    ) -> Option<Job> {
        let of_project =
            |instance: &Instance, id: &ProjectId| instance.project_id == *id && instance.state.is_terminal();
        let ended: Vec<Instance> = match &target {
            DeleteTarget::One(id) => {
                world.store.runs.get(id).map(|it| it.run.instance.clone()).into_iter().collect()
            }
            DeleteTarget::Project(id) => {
                let all = world.store.runs.values().map(|record| &record.run.instance);
                all.filter(|instance| of_project(instance, id)).cloned().collect()
            }
        };
        let one = matches!(target, DeleteTarget::One(_));
        let answer = if one && ended.is_empty() && ticket.is_none() {
            Err(Refusal::new(Code::NotFound, "no such run"))
        } else {
            match self.delete_ended(ended, ticket, world) {
                Err(ticket) => return Some(Job::Delete { reply, target, ticket: Some(ticket) }),
                Ok(Ok(_)) if one => Ok(Reply::Done),
                Ok(result) => result.map(Reply::Count),
            }
        };
        self.answer(reply, answer, world, callers);
        None
    }

    /// Ends windows, then deletes records, as the performer does.
    fn delete_ended(
        &mut self,
        ended: Vec<Instance>,
        ticket: Option<u32>,
        world: &mut World,
    ) -> Result<Result<u64, Refusal>, u32> {
        if let Some(result) = ticket.and_then(|ticket| self.answers.remove(&ticket)) {
            return Ok(match result {
                Ok(Wrote::Deleted(count)) => Ok(count),
                Ok(Wrote::Done | Wrote::Earlier(_)) => Ok(0),
                Err(error) => Err(error.into()),
            });
        }
        for instance in ended.iter().filter(|instance| instance.backend == BackendKind::Tmux) {
            world.kill_windows_of(|window| window.instance == instance.id);
        }
        for instance in &ended {
            world.dirs.remove(&instance.id);
        }
        let deletes = ended.iter().map(|instance| instance.id).collect();
        Err(self.submit(Write::Change(Box::new(Change { deletes, ..Change::default() })), world))
    }

    fn add_project(
        &mut self,
        reply: ReplyId,
        project: Project,
        ticket: Option<u32>,
        world: &mut World,
    ) -> Option<Job> {
        let Some(result) = ticket.and_then(|ticket| self.answers.remove(&ticket)) else {
            let registered_at = world.time();
            let registered = Registered { id: project.id.clone(), path: project.path.clone(), registered_at };
            let ticket = Some(self.submit(Write::AddProject(registered, Vec::new()), world));
            return Some(Job::AddProject { reply, project, ticket });
        };
        let result = result.map(|_| ()).map_err(Refusal::from);
        self.inbox.push_back(Input::ProjectRecorded { reply, project, result });
        None
    }

    fn remove_project(
        &mut self,
        reply: ReplyId,
        id: ProjectId,
        ticket: Option<u32>,
        world: &mut World,
    ) -> Option<Job> {
        let Some(result) = ticket.and_then(|ticket| self.answers.remove(&ticket)) else {
            world.kill_windows_of(|window| window.project == id);
            let over = |run: &InstanceId| {
                let record = world.store.runs.get(run).map(|record| &record.run.instance);
                record.is_some_and(|it| it.project_id == id && it.state.is_terminal())
            };
            let dirs: Vec<_> = world.dirs.keys().copied().filter(over).collect();
            dirs.iter().for_each(|run| drop(world.dirs.remove(run)));
            let ticket = Some(self.submit(Write::RemoveProject(id.clone(), Vec::new()), world));
            return Some(Job::RemoveProject { reply, id, ticket });
        };
        if result.is_ok() {
            check::removed(&id, world);
        }
        let result = result.map(|_| ()).map_err(Refusal::from);
        self.inbox.push_back(Input::ProjectRemoved { reply, id, result });
        None
    }
}
