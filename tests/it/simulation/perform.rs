//! What a run's actor does, and what the daemon does about what it finds after a start.

use kas::daemon::{
    Input, Live, Placement, Plan, Reached, Refusal, Resume, RunEffect, SpawnFailure, resume, waited_in_vain,
};
use kas::journal::{Ending, ExitRecord};
use kas::lifecycle::{
    self, Boot, Decision, EndRecord, FoundDir, FoundSession, FoundWindow, OnRestart, Recorded, Run, Server,
};
use kas::model::{BackendKind, Exit, InstanceId};
use kas::shim::Phase;
use kas::store::{Earlier, Record};

use super::choices::Choices;
use super::daemon::{Actor, At, Daemon, Order, Terminal, change_of, is_tried_again};
use super::jobs::Job;
use super::store::{Write, Wrote};
use super::world::{Asked, Dir, Stage, Window, World, short};

fn is_last(order: &Order) -> bool {
    matches!(order, Order::Do(effect) if matches!(effect.as_ref(), RunEffect::Release | RunEffect::Leave))
}

/// Whether the shim that was started for a run listens, or never will.
pub(super) fn shim_decided(id: InstanceId, world: &World) -> bool {
    let boots = |shim: &&super::world::Shim| shim.instance == id && matches!(shim.stage, Stage::Booting);
    let listens = world.dirs.get(&id).and_then(|dir| dir.listens);
    listens.is_some_and(|shim| world.shims.contains_key(&shim)) || !world.shims.values().any(|it| boots(&it))
}

impl Daemon {
    /// A run's actor goes one step further.
    pub(super) fn act(&mut self, id: InstanceId, world: &mut World, choices: &mut Choices) {
        let Some(mut actor) = self.actors.remove(&id) else { return };
        let Some(order) = actor.orders.pop_front() else { return };
        match self.obey(id, actor.at.clone(), &order, world, choices) {
            Some(at) => {
                actor.at = at;
                actor.orders.push_front(order);
                self.actors.insert(id, actor);
            }
            None if is_last(&order) => {}
            None => {
                self.actors.insert(id, Actor { at: At::Begin, ..actor });
            }
        }
    }

    /// Where in the order the actor is now, or `None` when it is carried out.
    fn obey(
        &mut self,
        id: InstanceId,
        at: At,
        order: &Order,
        world: &mut World,
        choices: &mut Choices,
    ) -> Option<At> {
        let effect = match order {
            Order::Do(effect) => effect.as_ref(),
            Order::StopTree => {
                self.stop_tree(id, world);
                return None;
            }
        };
        match effect {
            RunEffect::RecordLaunch { instance, plan } => {
                let run = Run::new(instance.clone());
                let boot_id = Some(world.boot.to_string());
                let record = Box::new(Record { run, definition: plan.definition.clone(), boot_id });
                let write = || Write::Insert { record, key: plan.idempotency_key.clone() };
                self.record_launch(id, &at, write, world)
            }
            RunEffect::RecordChange { run, events } => {
                let wrote = self.write(&at, || change_of(run.clone(), events.clone()), world);
                wrote.err()
            }
            RunEffect::Clear { .. } => {
                world.dirs.remove(&id);
                world.kill_windows_of(|window| window.instance == id);
                None
            }
            RunEffect::Spawn { plan, backend } => self.spawn(plan, *backend, at, world, choices),
            RunEffect::OpenGate => {
                self.ask(id, Asked::OpenGate, world);
                None
            }
            RunEffect::Abort => {
                self.ask(id, Asked::Abort, world);
                None
            }
            RunEffect::Finish { run, record, events } => {
                let mut run = run.clone();
                let journal = world.dirs.get(&id).and_then(|dir| dir.journal);
                if let Some(end) = journal {
                    run.instance.output_bytes = record.as_ref().map_or(end, |record| record.total_bytes);
                }
                let result = self.write(&at, || change_of(run, events.clone()), world);
                match result {
                    Err(at) => Some(at),
                    Ok(result) => {
                        let result = result.map(|_| ()).map_err(Refusal::from);
                        self.inbox.push_back(Input::Finished { id, result });
                        None
                    }
                }
            }
            RunEffect::Release => self.release(id, &at, world),
            RunEffect::Leave => {
                self.terminals.remove(&id);
                None
            }
        }
    }

    /// A write that is tried until it is taken: what came of it, or where the actor waits.
    fn write(
        &mut self,
        at: &At,
        write: impl FnOnce() -> Write,
        world: &mut World,
    ) -> Result<Result<Wrote, kas::store::Error>, At> {
        if let At::Stored(ticket) = at {
            match self.answers.remove(ticket) {
                Some(Err(error)) if is_tried_again(&error) => {}
                Some(result) => return Ok(result),
                None => return Err(At::Stored(*ticket)),
            }
        }
        Err(At::Stored(self.submit(write(), world)))
    }

    fn record_launch(
        &mut self,
        id: InstanceId,
        at: &At,
        write: impl FnOnce() -> Write,
        world: &mut World,
    ) -> Option<At> {
        let At::Stored(ticket) = at else { return Some(At::Stored(self.submit(write(), world))) };
        let result = match self.answers.remove(ticket)? {
            Ok(Wrote::Earlier(earlier)) => match *earlier {
                Earlier::Run(record) => Ok(Some(record.run.instance)),
                Earlier::Deleted(_) => Err(Refusal::new(kas::daemon::Code::Gone, "deleted")),
            },
            Ok(_) => {
                self.terminals.insert(id, Terminal::default());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        };
        self.inbox.push_back(Input::Recorded { id, result });
        None
    }

    fn spawn(
        &mut self,
        plan: &Plan,
        backend: BackendKind,
        at: At,
        world: &mut World,
        choices: &mut Choices,
    ) -> Option<At> {
        let id = plan.id;
        let keep = world.quirks.old_tmux && backend == BackendKind::Tmux && plan.history.is_some();
        let placed = match at {
            At::Begin if world.disk_full || world.dirs.contains_key(&id) => {
                world.truth(id).hindered |= world.disk_full;
                Err("the directory")
            }
            At::Begin => {
                let nonce = u128::from(world.number());
                let boot = world.boot;
                let dir = Dir { nonce, boot, keep, journal: None, exit: None, listens: None };
                world.dirs.insert(id, dir);
                return Some(At::Created);
            }
            At::Created if backend == BackendKind::Pty => {
                world.start_shim(id, None);
                return Some(At::Placed(None));
            }
            At::Created => match self.open_window(plan, world, choices) {
                Ok(names) => return Some(At::Placed(Some(names))),
                Err(error) => Err(error),
            },
            At::Placed(names) => {
                let faults = world.quirks.shims && !world.settling;
                let slow = faults && choices.happens(16);
                self.connected(id, names, slow, world)
            }
            At::Stored(_) | At::Leaving(_) => Err("out of order"),
        };
        let result = match placed {
            Ok(window) => Ok(Placement { backend, window }),
            Err(message) => {
                world.dirs.remove(&id);
                if backend == BackendKind::Tmux {
                    self.begin(Job::CloseWindow(id), world);
                }
                Err(SpawnFailure { backend, message: message.to_owned() })
            }
        };
        self.inbox.push_back(Input::Spawned { id, result });
        None
    }

    fn open_window(
        &mut self,
        plan: &Plan,
        world: &mut World,
        choices: &mut Choices,
    ) -> Result<(String, String), &'static str> {
        let fault = if world.quirks.tmux_faults && !world.settling { choices.pick(8) } else { 0 };
        if fault == 7 || world.tmux.refuses {
            return Err("tmux said no");
        }
        let name = format!("task-{}", plan.id.tail(10));
        let window = Window {
            instance: plan.id,
            project: plan.project.clone(),
            name: name.clone(),
            kept: plan.history.is_some() && !world.quirks.old_tmux,
            shim: None,
        };
        world.open_window(window);
        if fault == 6 {
            return Err("tmux hangs, and made the window");
        }
        self.served = Some(world.tmux.server);
        Ok((format!("kaged-{}", plan.project), name))
    }

    fn connected(
        &mut self,
        id: InstanceId,
        names: Option<(String, String)>,
        slow: bool,
        world: &mut World,
    ) -> Result<Option<(String, String)>, &'static str> {
        if slow {
            world.truth(id).hindered = true;
            return Err("the shim does not answer in time");
        }
        let connected = world.connect(id);
        // This daemon stood still for as long as a shim waits at its gate.
        let exit = world.dirs.get(&id).and_then(|dir| dir.exit.as_ref());
        let ended = matches!(connected, Some((_, Phase::Ended, _))) || exit.is_some_and(waited_in_vain);
        world.truth(id).hindered |= ended;
        let Some((pipe, ..)) = connected else { return Err("no shim listens") };
        let Some(terminal) = self.terminals.get_mut(&id) else { return Err("no terminal") };
        if terminal.pipe.is_some() {
            if let Some(pipe) = world.pipes.get_mut(&pipe) {
                pipe.asked.push_back(Asked::Abort);
                pipe.daemon_gone = true;
            }
            return Err("held already");
        }
        (terminal.pipe, terminal.in_window) = (Some(pipe), names.is_some());
        Ok(names)
    }

    fn stop_tree(&mut self, id: InstanceId, world: &mut World) {
        if let Some(terminal) = self.terminals.get_mut(&id) {
            terminal.stopping = true;
            self.ask(id, Asked::Stop, world);
        }
    }

    fn release(&mut self, id: InstanceId, at: &At, world: &mut World) -> Option<At> {
        if *at == At::Begin {
            let pipe = self.terminals.get(&id).filter(|it| !it.left).and_then(|terminal| terminal.pipe);
            let told = self.ask(id, Asked::Ack, world);
            self.terminals.remove(&id);
            if let Some(pipe) = pipe.filter(|_| told) {
                return Some(At::Leaving(pipe));
            }
        }
        if let At::Leaving(pipe) = at {
            world.pipes.remove(pipe);
        }
        world.dirs.remove(&id);
        None
    }

    // ---- after a start

    /// Looks at one directory, and connects to its shim if it proves itself.
    fn look_at(id: InstanceId, world: &mut World) -> FoundRun {
        let Some(dir) = world.dirs.get(&id).cloned() else {
            let (shim, boot) = (lifecycle::Shim::Gone, Boot::This);
            let dir = FoundDir {
                id,
                end: None,
                shim,
                boot,
                ran: false,
                output: false,
                only_copy: false,
                left: false,
            };
            return FoundRun { dir, record: None, answered: None };
        };
        let same_boot = dir.boot == world.boot;
        let alive = dir.listens.is_some_and(|shim| world.shims.contains_key(&shim));
        let in_vain = dir.exit.as_ref().is_some_and(waited_in_vain);
        let answered = if same_boot && !in_vain { world.connect(id) } else { None };
        let shim = match answered {
            Some((_, Phase::Waiting, _)) => lifecycle::Shim::AtGate,
            Some((_, Phase::Running | Phase::Ended, _)) => lifecycle::Shim::Live,
            None if alive && !in_vain => lifecycle::Shim::Silent,
            None => lifecycle::Shim::Gone,
        };
        let record = dir.exit.clone().filter(|_| !in_vain);
        let end = record.as_ref().map(|record| EndRecord {
            exit: match record.ending {
                Ending::Exited(exit) => exit,
                Ending::SpawnFailed { .. } | Ending::NeverStarted => Exit::Code(127),
            },
            total: record.total_bytes,
            at: record.ended_at,
        });
        let boot = if same_boot { Boot::This } else { Boot::Earlier };
        let output = dir.journal.is_some_and(|bytes| bytes > 0);
        let dir = FoundDir {
            id,
            end,
            shim,
            boot,
            ran: dir.journal.is_some() && !in_vain,
            output,
            only_copy: false,
            left: false,
        };
        FoundRun { dir, record, answered }
    }

    /// What is recorded and found.
    pub(super) fn find(&self, world: &mut World) -> Found {
        let ids: Vec<InstanceId> = world.dirs.keys().copied().collect();
        let mut recorded = world.store.live();
        let known = ids.iter().filter_map(|id| world.store.runs.get(id)).cloned();
        recorded.extend(known.filter(|record| record.run.instance.state.is_terminal()));
        let runs: Vec<FoundRun> = ids.into_iter().map(|id| Self::look_at(id, world)).collect();
        let mut names: Vec<_> = world.tmux.windows.values().map(|it| it.project.clone()).collect();
        names.dedup();
        let sessions: Vec<_> = names
            .into_iter()
            .map(|project| FoundSession {
                name: format!("kaged-{project}"),
                registered: self.state.projects.contains_key(&project),
            })
            .collect();
        let give_up = world.quirks.give_up;
        let facts = lifecycle::Facts {
            recorded: recorded.iter().map(|record| recorded_of(record, world)).collect(),
            dirs: runs.iter().map(|run| run.dir).collect(),
            tmux: server(world),
            sessions,
            windows: world.tmux.windows.values().map(|window| self.found_window(window, world)).collect(),
            on_restart: if give_up { OnRestart::Fail } else { OnRestart::Reattach },
        };
        Found { runs, recorded, facts }
    }

    fn found_window(&self, window: &Window, world: &World) -> FoundWindow {
        FoundWindow {
            id: window.instance,
            name: (format!("kaged-{}", window.project), window.name.clone()),
            live: window.shim.is_some_and(|shim| world.shims.contains_key(&shim)),
            made_here: true,
            registered: self.state.projects.contains_key(&window.project),
        }
    }

    /// Carries out what the real `decide` says about what was found.
    pub(super) fn take_up(&mut self, found: Found, world: &mut World) {
        let Found { mut runs, recorded, facts } = found;
        for decision in self.plant.decide(&facts) {
            world.say(|| format!("   {decision:?}"));
            let Some(id) = decision.run() else {
                self.besides(&decision, world);
                continue;
            };
            let run = runs.iter().position(|run| run.dir.id == id).map(|at| runs.swap_remove(at));
            let Some(record) = recorded.iter().find(|record| record.run.instance.id == id) else { continue };
            if !record.run.instance.state.is_terminal() {
                let begins = matches!(decision, Decision::Begin(_));
                let live = if begins { Live::due } else { Live::resumed };
                self.state.live.insert(id, live(record.run.clone()));
            }
            self.carry_out(&decision, record, run, facts.tmux, world);
        }
        self.serving = true;
    }

    /// What is decided besides the fate of a run.
    fn besides(&mut self, decision: &Decision, world: &mut World) {
        match decision {
            Decision::CloseWindow(dead) => self.begin(Job::CloseWindow(dead.id()), world),
            Decision::OrphanSession(_) => self.begin(Job::Orphan { ticket: None }, world),
            // The model's windows keep their names, and a record of another is written again with the next change.
            Decision::Repair(..) | Decision::OrphanWindow(_) => {}
            Decision::Adopt(_)
            | Decision::EndTree(_)
            | Decision::Finish(..)
            | Decision::Lost { .. }
            | Decision::Begin(_)
            | Decision::NeverStarted(_)
            | Decision::Wait(_)
            | Decision::EndShim(_)
            | Decision::Salvage(_)
            | Decision::Discard(_)
            | Decision::OrphanDir(_) => unreachable!("{decision:?} is about a run"),
        }
    }

    fn carry_out(
        &mut self,
        decision: &Decision,
        record: &Record,
        run: Option<FoundRun>,
        tmux: Server,
        world: &mut World,
    ) {
        let instance = &record.run.instance;
        let id = instance.id;
        let (exit, answered) = run.map_or((None, None), |run| (run.record, run.answered));
        let mut reached = None;
        if !instance.state.is_terminal() {
            self.terminals.entry(id).or_default();
            reached = answered.map(|(pipe, phase, pid)| {
                let window = self.hold_again(id, pipe, instance.backend, world);
                Reached { at_gate: phase == Phase::Waiting, pid, window }
            });
        }
        if matches!(decision, Decision::NeverStarted(_)) {
            self.begin(Job::CloseWindow(id), world);
        }
        match resume(decision, &record.run, exit.map(Box::new), reached, tmux) {
            Resume::Tell(report) => self.inbox.push_back(Input::Shim { id, report: *report }),
            Resume::Begin => self.inbox.push_back(begun(record)),
            Resume::LookAgain => self.begin(Job::LookAgain(Box::new(record.clone())), world),
            Resume::EndShim => self.end_shim(id, answered, world),
            // The model's journals can always be read, so no run ends without its output.
            Resume::Salvage | Resume::Discard => drop(world.dirs.remove(&id)),
            Resume::Leave => {}
        }
    }

    fn hold_again(
        &mut self,
        id: InstanceId,
        pipe: u32,
        backend: BackendKind,
        world: &World,
    ) -> Option<(String, String)> {
        let terminal = self.terminals.entry(id).or_default();
        terminal.pipe = Some(pipe);
        let window = world.tmux.windows.values().find(|window| window.instance == id)?;
        if backend == BackendKind::Pty {
            return None;
        }
        terminal.in_window = true;
        self.served = Some(world.tmux.server);
        Some((format!("kaged-{}", window.project), window.name.clone()))
    }

    fn end_shim(&mut self, id: InstanceId, answered: Option<(u32, Phase, Option<u32>)>, world: &mut World) {
        let Some((pipe, phase, _)) = answered else { return };
        let ask = match phase {
            Phase::Waiting => Asked::Abort,
            Phase::Running => Asked::Stop,
            Phase::Ended => Asked::Ack,
        };
        if let Some(it) = world.pipes.get_mut(&pipe) {
            it.asked.push_back(ask);
        }
        self.begin(Job::Leaves(id, pipe), world);
    }

    /// A shim that did not answer is looked at again.
    pub(super) fn look_again(&mut self, record: &Record, world: &mut World) {
        let id = record.run.instance.id;
        let run = Self::look_at(id, world);
        let tmux = server(world);
        let facts = lifecycle::Facts {
            recorded: vec![recorded_of(record, world)],
            dirs: vec![run.dir],
            sessions: Vec::new(),
            windows: Vec::new(),
            tmux,
            on_restart: OnRestart::Reattach,
        };
        world.say(|| format!("   looks again at {}: {:?}", short(id), run.dir.shim));
        if let Some(decision) = self.plant.decide(&facts).pop() {
            self.carry_out(&decision, record, Some(run), tmux, world);
        }
    }
}

/// One directory, and the connection to its shim: its number, where the shim is, and its command's process id.
pub(super) struct FoundRun {
    dir: FoundDir,
    record: Option<ExitRecord>,
    answered: Option<(u32, Phase, Option<u32>)>,
}

/// Everything found after a start.
pub(super) struct Found {
    runs: Vec<FoundRun>,
    recorded: Vec<Record>,
    facts: lifecycle::Facts,
}

fn recorded_of(record: &Record, world: &World) -> Recorded {
    let instance = &record.run.instance;
    let window = instance.tmux_session.clone().zip(instance.tmux_window.clone());
    let this = record.boot_id == Some(world.boot.to_string());
    let boot = if this { Boot::This } else { Boot::Earlier };
    Recorded { id: instance.id, state: instance.state, backend: instance.backend, window, boot }
}

/// A launch that never began, as it was recorded.
fn begun(record: &Record) -> Input {
    let instance = &record.run.instance;
    let plan = Plan {
        id: instance.id,
        project: instance.project_id.clone(),
        task: instance.task_name.clone(),
        definition: record.definition.clone(),
        history: instance.history,
        restarted_from: instance.restarted_from,
        idempotency_key: None,
    };
    Input::Begin { plan: Box::new(plan), refused: None }
}

fn server(world: &World) -> Server {
    if world.tmux.windows.is_empty() { Server::Down } else { Server::Up }
}
