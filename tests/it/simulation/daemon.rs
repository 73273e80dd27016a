//! One life of the daemon: the real `step`, and a performer that does in the modelled world what the real one does.

use std::collections::{BTreeMap, VecDeque};

use kas::daemon::{Effect, Input, Project, ReplyId, RunEffect, ShimReport, State, end_report, step};
use kas::journal::{Cause, ExitRecord};
use kas::lifecycle::Run;
use kas::model::{BackendKind, ErrorWord, InstanceId};
use kas::policy::TaskLimits;
use kas::store::{Change, Error, NewEvent, Record};

use super::callers::Callers;
use super::check;
use super::choices::Choices;
use super::jobs::Job;
use super::plant::Plant;
use super::store::{Write, Wrote};
use super::world::{Asked, Told, World, short};

/// What the performer holds of a run's terminal.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    pub(super) pipe: Option<u32>,
    pub(super) in_window: bool,
    pub(super) stopping: bool,
    pub(super) left: bool,
    pub(super) record: Option<Box<ExitRecord>>,
    pub(super) told: bool,
}

/// One thing a run's actor is to do.
#[derive(Debug)]
pub(super) enum Order {
    Do(Box<RunEffect>),
    StopTree,
}

/// Where an actor is in the first of its orders.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum At {
    Begin,
    Stored(u32),
    Created,
    Placed(Option<(String, String)>),
    Leaving(u32),
}

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) orders: VecDeque<Order>,
    pub(super) at: At,
}

/// What can happen next in this process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Input,
    Commit,
    Actor(InstanceId),
    Job(u32),
    Listen(InstanceId),
}

pub(super) struct Daemon {
    pub(super) state: State,
    pub(super) inbox: VecDeque<Input>,
    pub(super) actors: BTreeMap<InstanceId, Actor>,
    pub(super) jobs: BTreeMap<u32, Job>,
    pub(super) terminals: BTreeMap<InstanceId, Terminal>,
    pub(super) writes: VecDeque<(u32, Write)>,
    pub(super) answers: BTreeMap<u32, Result<Wrote, Error>>,
    /// The tmux server that last held a window of ours.
    pub(super) served: Option<u32>,
    pub(super) serving: bool,
    pub(super) plant: Plant,
    /// What takes up a place, counted apart from the state.
    places: BTreeMap<InstanceId, kas::model::ProjectId>,
    /// Places that were handed on: to which replacement, by which run.
    handed: BTreeMap<InstanceId, InstanceId>,
}

impl Daemon {
    pub(super) fn new(world: &World, projects: Vec<Project>, plant: Plant) -> Self {
        let limits = if world.quirks.tight {
            TaskLimits { per_project: 2, per_operator: 3 }
        } else {
            TaskLimits::default()
        };
        let backend = if world.quirks.tmux { BackendKind::Tmux } else { BackendKind::Pty };
        let mut state = State::new(limits, backend);
        state.projects = projects.into_iter().map(|project| (project.id.clone(), project)).collect();
        Self {
            state,
            inbox: VecDeque::new(),
            actors: BTreeMap::new(),
            jobs: BTreeMap::new(),
            terminals: BTreeMap::new(),
            writes: VecDeque::new(),
            answers: BTreeMap::new(),
            served: None,
            serving: false,
            plant,
            places: places(world),
            handed: BTreeMap::new(),
        }
    }

    pub(super) fn ready(&self, world: &World) -> Vec<Ready> {
        let mut ready = Vec::new();
        ready.extend((self.serving && !self.inbox.is_empty()).then_some(Ready::Input));
        ready.extend((!self.writes.is_empty()).then_some(Ready::Commit));
        let actors = self.actors.iter().filter(|(id, actor)| self.goes_on(**id, actor, world));
        ready.extend(actors.map(|(id, _)| Ready::Actor(*id)));
        let jobs = self.jobs.iter().filter(|(_, job)| job.goes_on(self, world));
        ready.extend(jobs.map(|(number, _)| Ready::Job(*number)));
        let heard = self.terminals.iter().filter(|(_, terminal)| !terminal.left).filter(|(_, terminal)| {
            let pipe = terminal.pipe.and_then(|pipe| world.pipes.get(&pipe));
            pipe.is_some_and(|pipe| !pipe.told.is_empty() || pipe.shim_gone)
        });
        ready.extend(heard.map(|(id, _)| Ready::Listen(*id)));
        ready
    }

    fn goes_on(&self, id: InstanceId, actor: &Actor, world: &World) -> bool {
        match &actor.at {
            At::Begin => !actor.orders.is_empty(),
            At::Stored(ticket) => self.answers.contains_key(ticket),
            At::Created => true,
            At::Placed(_) => super::perform::shim_decided(id, world),
            At::Leaving(pipe) => world.pipes.get(pipe).is_none_or(|pipe| pipe.shim_gone),
        }
    }

    pub(super) fn go(
        &mut self,
        ready: Ready,
        world: &mut World,
        callers: &mut Callers,
        choices: &mut Choices,
    ) {
        match ready {
            Ready::Input => self.decide(world, callers),
            Ready::Commit => self.commit(world, choices),
            Ready::Actor(id) => self.act(id, world, choices),
            Ready::Job(number) => self.work(number, world, callers),
            Ready::Listen(id) => self.listen(id, world),
        }
    }

    // ---- the loop

    fn decide(&mut self, world: &mut World, callers: &mut Callers) {
        let Some(input) = self.inbox.pop_front() else { return };
        world.say(|| format!("-> {}", brief(&format!("{input:?}"))));
        if let Input::Recorded { id, result: Ok(Some(_)) | Err(_) } = &input {
            let project = self.places.remove(id);
            let old = self.handed.remove(id).filter(|old| {
                let live = self.state.live.get(old);
                live.is_some_and(|live| !live.run.instance.state.is_terminal())
            });
            self.places.extend(old.zip(project));
        }
        let now = world.time();
        let effects = self.plant.meddle(&mut self.state, input, |state, input| step(state, input, now));
        for effect in effects {
            self.count(&effect, world);
            self.start(effect, world, callers);
        }
        check::state(&self.state, world);
    }

    /// Counts places by what was done, not by what the state says.
    fn count(&mut self, effect: &Effect, world: &mut World) {
        let Effect::Run { id, effect } = effect else { return };
        match effect.as_ref() {
            RunEffect::RecordLaunch { instance, .. } => {
                if let Some(old) = instance.restarted_from.filter(|old| self.places.remove(old).is_some()) {
                    self.handed.insert(*id, old);
                }
                self.places.insert(*id, instance.project_id.clone());
                let here = self.places.values().filter(|project| **project == instance.project_id).count();
                let limits = self.state.limits;
                let all = self.places.len();
                let fits = here <= limits.per_project && all <= limits.per_operator;
                world.check(fits || limits.per_project == usize::MAX, || {
                    format!("{here} in a project and {all} in all, which is over {limits:?}")
                });
            }
            RunEffect::Finish { .. } => drop(self.places.remove(id)),
            RunEffect::RecordChange { .. }
            | RunEffect::Clear { .. }
            | RunEffect::Spawn { .. }
            | RunEffect::OpenGate
            | RunEffect::Abort
            | RunEffect::Release
            | RunEffect::Leave => {}
        }
    }

    fn start(&mut self, effect: Effect, world: &mut World, callers: &mut Callers) {
        world.say(|| format!("   {}", brief(&format!("{effect:?}"))));
        match effect {
            Effect::Reply { to, answer } => self.answer(to, *answer, world, callers),
            Effect::Run { id, effect } => self.order(id, Order::Do(effect)),
            Effect::StopTree(id) => self.order(id, Order::StopTree),
            Effect::RecordEvents(events) => {
                let job = Job::Record { events, ticket: None };
                self.begin(job, world);
            }
            Effect::Cull { project, task, history, spared } => {
                self.begin(Job::Cull { project, task, history, spared, ticket: None }, world);
            }
            Effect::Delete { reply, target } => {
                self.begin(Job::Delete { reply, target, ticket: None }, world)
            }
            Effect::RecordProject { reply, project, moved_from: _ } => {
                self.begin(Job::AddProject { reply, project, ticket: None }, world);
            }
            Effect::RemoveProject { reply, id } => {
                self.begin(Job::RemoveProject { reply, id, ticket: None }, world);
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        to: ReplyId,
        answer: Result<kas::daemon::Reply, kas::daemon::Refusal>,
        world: &mut World,
        callers: &mut Callers,
    ) {
        callers.answered(to, answer, world);
    }

    pub(super) fn order(&mut self, id: InstanceId, order: Order) {
        let new = || Actor { orders: VecDeque::new(), at: At::Begin };
        self.actors.entry(id).or_insert_with(new).orders.push_back(order);
    }

    pub(super) fn begin(&mut self, job: Job, world: &mut World) {
        let number = world.number();
        self.jobs.insert(number, job);
    }

    // ---- the store

    pub(super) fn submit(&mut self, write: Write, world: &mut World) -> u32 {
        let ticket = world.number();
        self.writes.push_back((ticket, write));
        ticket
    }

    /// Some of what waits shares a commit, or is refused together.
    fn commit(&mut self, world: &mut World, choices: &mut Choices) {
        let refused = if world.quirks.store && !world.settling { choices.pick(12) } else { 0 };
        let count = 1 + choices.pick(self.writes.len());
        let batch: Vec<_> = self.writes.drain(..count).collect();
        for (ticket, write) in batch {
            let result = match refused {
                9 => Err(Error::Busy),
                10 => Err(Error::Full),
                11 => Err(Error::Undone),
                _ => commit(world, &write),
            };
            if let Err(error) = &result {
                world.say(|| format!("   the database: {error}"));
            }
            self.answers.insert(ticket, result);
        }
    }

    /// The process is killed: what was written to sockets may still arrive, and a commit may be made though nobody is told.
    pub(super) fn die(mut self, world: &mut World, choices: &mut Choices) {
        world.say(|| "the daemon is killed".to_owned());
        if !self.writes.is_empty() && choices.happens(2) {
            let count = 1 + choices.pick(self.writes.len());
            for (_, write) in self.writes.drain(..count) {
                let _ = commit(world, &write);
            }
        }
        for pipe in world.pipes.values_mut() {
            pipe.daemon_gone = true;
            let kept = choices.pick(pipe.asked.len() + 1);
            let kept = pipe.asked.len() - kept;
            pipe.asked.truncate(kept);
        }
        world.pipes.retain(|_, pipe| !pipe.shim_gone);
    }

    // ---- what shims tell

    pub(super) fn ask(&self, id: InstanceId, asked: Asked, world: &mut World) -> bool {
        let pipe = self.terminals.get(&id).and_then(|terminal| terminal.pipe);
        let Some(pipe) = pipe.and_then(|pipe| world.pipes.get_mut(&pipe)) else { return false };
        if !pipe.shim_gone {
            pipe.asked.push_back(asked);
        }
        !pipe.shim_gone
    }

    /// As the real listener: an end of a run that is being stopped counts when nothing of its tree lives.
    fn listen(&mut self, id: InstanceId, world: &mut World) {
        let Some(terminal) = self.terminals.get_mut(&id) else { return };
        let Some(pipe) = terminal.pipe.and_then(|pipe| world.pipes.get_mut(&pipe)) else { return };
        let ended = match pipe.told.pop_front() {
            Some(Told::Started(pid)) => {
                let report = ShimReport::Started { pid };
                return self.inbox.push_back(Input::Shim { id, report });
            }
            Some(Told::Exited(record)) => {
                terminal.record = Some(record.clone());
                if terminal.stopping {
                    return;
                }
                if record.cause == Cause::Itself {
                    return self.inbox.push_back(Input::Shim { id, report: ShimReport::Exited(record) });
                }
                return self.tell_end(id, record, world);
            }
            Some(Told::Stopped) => terminal.record.take(),
            None => {
                terminal.left = true;
                let on_disk = || world.dirs.get(&id).and_then(|dir| dir.exit.clone()).map(Box::new);
                if terminal.told {
                    return;
                }
                let Some(record) = terminal.record.take().or_else(on_disk) else {
                    let report = ShimReport::Lost(ErrorWord::ShimLost, None);
                    return self.inbox.push_back(Input::Shim { id, report });
                };
                Some(record)
            }
        };
        if let Some(record) = ended {
            terminal.told = true;
            self.tell_end(id, record, world);
        }
    }

    fn tell_end(&mut self, id: InstanceId, record: Box<ExitRecord>, world: &World) {
        let crashed = self.served.is_some_and(|server| world.tmux.crashed.contains(&server));
        let report = end_report(record, crashed);
        self.inbox.push_back(Input::Shim { id, report });
    }
}

/// What takes up a place at a start: a run and its replacement have one.
fn places(world: &World) -> BTreeMap<InstanceId, kas::model::ProjectId> {
    let live = world.store.live();
    let replaced: Vec<_> = live.iter().filter_map(|it| it.run.instance.restarted_from).collect();
    let instances = live.into_iter().map(|it| it.run.instance).filter(|it| !replaced.contains(&it.id));
    instances.map(|it| (it.id, it.project_id)).collect()
}

fn commit(world: &mut World, write: &Write) -> Result<Wrote, Error> {
    let before: Vec<Record> = match write {
        Write::Change(change) => {
            change.updates.iter().filter_map(|run| world.store.runs.get(&run.instance.id)).cloned().collect()
        }
        Write::Insert { .. } | Write::AddProject(..) | Write::RemoveProject(..) => Vec::new(),
    };
    let (wrote, changed) = world.store.apply(write)?;
    for id in changed {
        check::row(id, before.iter().find(|record| record.run.instance.id == id), world);
        world.say(|| format!("   stored {}", short(id)));
    }
    Ok(wrote)
}

/// Whether a refused change is tried again, as the performer's `write` does.
pub(super) fn is_tried_again(error: &Error) -> bool {
    matches!(error, Error::Busy | Error::Full | Error::Undone | Error::ReadOnly(_) | Error::Io(_))
}

pub(super) fn change_of(run: Run, events: Vec<NewEvent>) -> Write {
    Write::Change(Box::new(Change { updates: vec![run], events, ..Change::default() }))
}

/// The words of something, not all of them.
fn brief(text: &str) -> String {
    let text = text.replace("InstanceId(", "(").replace("ProjectId(", "(").replace("ReplyId", "");
    text.chars().take(230).collect()
}
