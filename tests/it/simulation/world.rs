//! The modelled machine: disk, processes, tmux. It outlives the daemon, and knows what truly happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kas::journal::{Cause, Ending, ExitRecord, Nonce};
use kas::model::{Exit, InstanceId, ProjectId, TimeMs};
use kas::shim::Phase;

use super::choices::Choices;
use super::store::Store;

/// What may go wrong in a run of the simulation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quirks {
    pub(super) tmux: bool,
    /// The daemon is killed.
    pub(super) kills: bool,
    /// tmux refuses, hangs, crashes.
    pub(super) tmux_faults: bool,
    /// The operator closes windows.
    pub(super) operator: bool,
    /// The disk is full for a while, what was not synced is lost with the machine.
    pub(super) disk: bool,
    /// The database is locked, or refuses for good.
    pub(super) store: bool,
    /// Shims are killed or stand still.
    pub(super) shims: bool,
    /// The machine starts anew.
    pub(super) reboots: bool,
    /// `pty_on_restart = "fail"`
    pub(super) give_up: bool,
    /// tmux cannot keep windows: shims stay in them.
    pub(super) old_tmux: bool,
    /// Two runs in a project, three of the operator, instead of 8 and 32.
    pub(super) tight: bool,
}

impl Quirks {
    pub(super) fn chosen(choices: &mut Choices) -> Self {
        let mut on = || choices.pick(2) == 1;
        Self {
            tmux: on(),
            kills: on(),
            tmux_faults: on(),
            operator: on(),
            disk: on(),
            store: on(),
            shims: on(),
            reboots: on(),
            give_up: on(),
            old_tmux: on(),
            tight: on(),
        }
    }
}

/// An instance directory.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) nonce: u128,
    pub(super) boot: u32,
    pub(super) keep: bool,
    /// Its journal was begun, and how many bytes it holds.
    pub(super) journal: Option<u64>,
    pub(super) exit: Option<ExitRecord>,
    /// Which shim listens on its socket.
    pub(super) listens: Option<u32>,
}

/// Where a shim is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Booting,
    Waiting,
    Running,
    Draining(Ending),
    Ended { record: Box<ExitRecord>, stored: bool },
}

/// A shim process.
#[derive(Debug, Clone)]
pub(super) struct Shim {
    pub(super) instance: InstanceId,
    pub(super) nonce: u128,
    pub(super) window: Option<u32>,
    pub(super) stage: Stage,
    pub(super) stopping: bool,
    pub(super) stop_asked: bool,
    pub(super) window_closed: bool,
    pub(super) acknowledged: bool,
    pub(super) frozen: bool,
    pub(super) keep: bool,
}

/// What a shim tells its client.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Started(u32),
    Exited(Box<ExitRecord>),
    Stopped,
}

/// What a client asks of a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    OpenGate,
    Stop,
    Ack,
    Abort,
}

/// A connection between the daemon and a shim.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) shim: u32,
    pub(super) told: VecDeque<Told>,
    pub(super) asked: VecDeque<Asked>,
    pub(super) daemon_gone: bool,
    pub(super) shim_gone: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) instance: InstanceId,
    pub(super) project: ProjectId,
    pub(super) name: String,
    pub(super) kept: bool,
    pub(super) shim: Option<u32>,
}

/// The tmux server. Window ids begin at 0 again with each server.
#[derive(Debug, Default)]
pub(super) struct Tmux {
    pub(super) up: bool,
    pub(super) server: u32,
    pub(super) next: u32,
    pub(super) windows: BTreeMap<u32, Window>,
    pub(super) crashed: BTreeSet<u32>,
    pub(super) refuses: bool,
}

/// What truly happened to a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    pub(super) starts: u32,
    pub(super) alive: bool,
    /// More of its tree lives.
    pub(super) others: bool,
    pub(super) exit: Option<Exit>,
    pub(super) output: u64,
    pub(super) shim_died: bool,
    pub(super) tmux_crashed: bool,
    pub(super) rebooted: bool,
    pub(super) window_closed: bool,
    /// Its start met a full disk, a shim that stood still or did not answer in time, one that left its gate before this daemon came to it, or one that a daemon
    /// had sent away because the run was to be stopped.
    pub(super) hindered: bool,
    /// A shim's record of its end is on the disk, or was.
    pub(super) recorded: bool,
}

pub(super) struct World {
    pub(super) now: i64,
    pub(super) boot: u32,
    pub(super) quirks: Quirks,
    pub(super) store: Store,
    pub(super) dirs: BTreeMap<InstanceId, Dir>,
    pub(super) shims: BTreeMap<u32, Shim>,
    pub(super) pipes: BTreeMap<u32, Pipe>,
    pub(super) tmux: Tmux,
    pub(super) truth: BTreeMap<InstanceId, Truth>,
    /// Ids whose launch was refused to its caller.
    pub(super) refused: BTreeSet<InstanceId>,
    pub(super) disk_full: bool,
    pub(super) settling: bool,
    pub(super) trace: Option<Vec<String>>,
    pub(super) wrong: Option<String>,
    next: u32,
}

impl World {
    pub(super) fn new(quirks: Quirks, tracing: bool) -> Self {
        Self {
            now: 1_000_000,
            boot: 1,
            quirks,
            store: Store::default(),
            dirs: BTreeMap::new(),
            shims: BTreeMap::new(),
            pipes: BTreeMap::new(),
            tmux: Tmux::default(),
            truth: BTreeMap::new(),
            refused: BTreeSet::new(),
            disk_full: false,
            settling: false,
            trace: tracing.then(Vec::new),
            wrong: None,
            next: 0,
        }
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn time(&self) -> TimeMs {
        TimeMs(self.now)
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        let now = self.now - 1_000_000;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>7} {}", what()));
        }
    }

    /// An invariant does not hold. The first one counts.
    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            let what = what();
            self.say(|| format!("WRONG: {what}"));
            self.wrong = Some(what);
        }
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    pub(super) fn truth(&mut self, id: InstanceId) -> &mut Truth {
        self.truth.entry(id).or_default()
    }

    // ---- tmux

    /// Makes a window with a shim in it.
    pub(super) fn open_window(&mut self, window: Window) -> u32 {
        if !self.tmux.up {
            self.tmux.up = true;
            self.tmux.server += 1;
            self.tmux.next = 0;
        }
        let id = self.tmux.next;
        self.tmux.next += 1;
        let shim = self.start_shim(window.instance, Some(id));
        self.tmux.windows.insert(id, Window { shim: Some(shim), ..window });
        id
    }

    pub(super) fn kill_window(&mut self, id: u32) {
        let Some(window) = self.tmux.windows.remove(&id) else { return };
        if let Some(shim) = window.shim {
            self.truth(window.instance).window_closed = true;
            self.lose_window(shim);
        }
        // A server without windows ends, in order.
        self.tmux.up = !self.tmux.windows.is_empty();
    }

    pub(super) fn kill_windows_of(&mut self, ours: impl Fn(&Window) -> bool) {
        let ids: Vec<u32> = self.tmux.windows.iter().filter(|(_, it)| ours(it)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.kill_window(id));
    }

    pub(super) fn crash_tmux(&mut self) {
        self.tmux.up = false;
        self.tmux.crashed.insert(self.tmux.server);
        for window in std::mem::take(&mut self.tmux.windows).into_values() {
            self.truth(window.instance).tmux_crashed = true;
            if let Some(shim) = window.shim {
                self.lose_window(shim);
            }
        }
    }

    fn lose_window(&mut self, id: u32) {
        let Some(shim) = self.shims.get_mut(&id) else { return };
        (shim.window, shim.window_closed) = (None, true);
        match shim.stage {
            Stage::Booting => self.remove_shim(id),
            Stage::Waiting => self.end(id, Ending::NeverStarted),
            Stage::Running | Stage::Draining(_) => shim.stopping = true,
            Stage::Ended { .. } => {}
        }
    }

    // ---- shims

    pub(super) fn start_shim(&mut self, instance: InstanceId, window: Option<u32>) -> u32 {
        let id = self.number();
        let shim = Shim {
            instance,
            nonce: 0,
            window,
            stage: Stage::Booting,
            stopping: false,
            stop_asked: false,
            window_closed: false,
            acknowledged: false,
            frozen: false,
            keep: false,
        };
        self.shims.insert(id, shim);
        id
    }

    /// Reads its spec and listens, unless it must not.
    fn boot_shim(&mut self, id: u32) {
        let instance = self.shims[&id].instance;
        let shims = &self.shims;
        let free = |dir: &&mut Dir| {
            dir.exit.is_none() && dir.listens.is_none_or(|other| !shims.contains_key(&other))
        };
        let Some(dir) = self.dirs.get_mut(&instance).filter(free) else { return self.remove_shim(id) };
        dir.listens = Some(id);
        dir.journal = Some(0);
        let (nonce, keep) = (dir.nonce, dir.keep);
        let shim = self.shims.get_mut(&id).unwrap();
        (shim.nonce, shim.keep, shim.stage) = (nonce, keep, Stage::Waiting);
    }

    pub(super) fn tell(&mut self, id: u32, told: &Told) {
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.shim == id && !pipe.daemon_gone) {
            pipe.told.push_back(told.clone());
        }
    }

    /// Connects to whatever listens in a directory, when it shows the directory's nonce.
    pub(super) fn connect(&mut self, instance: InstanceId) -> Option<(u32, Phase, Option<u32>)> {
        let dir = self.dirs.get(&instance)?;
        let id = dir.listens?;
        let shim = self.shims.get(&id).filter(|shim| !shim.frozen && shim.nonce == dir.nonce)?.clone();
        let phase = match &shim.stage {
            Stage::Booting => return None,
            Stage::Waiting => Phase::Waiting,
            Stage::Running | Stage::Draining(_) => Phase::Running,
            Stage::Ended { .. } => Phase::Ended,
        };
        let pid = (self.truth(instance).starts > 0).then_some(id);
        let told = match shim.stage {
            Stage::Ended { record, .. } => VecDeque::from([Told::Exited(record)]),
            Stage::Booting | Stage::Waiting | Stage::Running | Stage::Draining(_) => VecDeque::new(),
        };
        let pipe = Pipe { shim: id, told, asked: VecDeque::new(), daemon_gone: false, shim_gone: false };
        let number = self.number();
        self.pipes.insert(number, pipe);
        Some((number, phase, pid))
    }

    pub(super) fn has_peers(&self, shim: u32) -> bool {
        self.pipes.values().any(|pipe| pipe.shim == shim && !pipe.daemon_gone)
    }

    /// A shim reads one request.
    pub(super) fn obey(&mut self, pipe: u32, choices: &mut Choices) {
        let Some(it) = self.pipes.get_mut(&pipe) else { return };
        let (id, asked) = (it.shim, it.asked.pop_front());
        let Some(asked) = asked else {
            if it.daemon_gone {
                self.pipes.remove(&pipe);
            }
            return;
        };
        let Some(instance) = self.shims.get(&id).map(|shim| shim.instance) else { return };
        if asked == Asked::Stop {
            self.check_wish(instance);
        }
        let Some(shim) = self.shims.get_mut(&id) else { return };
        let (waits, over) = (matches!(shim.stage, Stage::Waiting), matches!(shim.stage, Stage::Ended { .. }));
        match asked {
            Asked::OpenGate if waits => self.start_command(id, choices),
            Asked::Abort if waits => {
                shim.acknowledged = true;
                self.truth(instance).hindered = true;
                self.end(id, Ending::NeverStarted);
            }
            Asked::Ack => shim.acknowledged |= over,
            Asked::Stop => {
                (shim.stop_asked, shim.stopping) = (true, true);
                if waits {
                    self.end(id, Ending::NeverStarted);
                }
            }
            Asked::OpenGate | Asked::Abort => {}
        }
        self.say(|| format!("shim {id} of {} did {asked:?}", short(instance)));
    }

    /// Nothing is signalled before it is on disk why.
    fn check_wish(&mut self, instance: InstanceId) {
        let run = self.store.runs.get(&instance).map(|record| &record.run);
        let known = run.is_none_or(|run| run.stop.is_some() || run.instance.state.is_terminal());
        let known = known || self.quirks.give_up;
        self.check(known, || format!("{} is ended and nobody is known to want it", short(instance)));
    }

    fn start_command(&mut self, id: u32, choices: &mut Choices) {
        let instance = self.shims[&id].instance;
        if choices.happens(20) {
            let text = "no such shell".to_owned();
            return self.end(id, Ending::SpawnFailed { errno: Some(2), text });
        }
        let row = self.store.runs.get(&instance).map(|record| &record.run.instance);
        let state = row.map(|row| row.state);
        let here = self.store.runs.get(&instance).is_some_and(|it| it.boot_id == Some(self.boot.to_string()));
        self.check(here, || format!("{} was begun in another boot than its row's", short(instance)));
        let refused = self.refused.contains(&instance);
        self.check(state.is_some_and(|state| !state.is_terminal()) && !refused, || {
            format!("{} was started while its row says {state:?} (refused: {refused})", short(instance))
        });
        let others = choices.happens(4);
        let truth = self.truth(instance);
        (truth.starts, truth.alive, truth.others) = (truth.starts + 1, true, others);
        let starts = truth.starts;
        self.check(starts == 1, || format!("{} was started {starts} times", short(instance)));
        self.shims.get_mut(&id).unwrap().stage = Stage::Running;
        self.tell(id, &Told::Started(id));
    }

    /// The command writes something, or ends.
    fn run_command(&mut self, id: u32, choices: &mut Choices) {
        let shim = self.shims.get_mut(&id).unwrap();
        let instance = shim.instance;
        if !shim.stopping && !choices.happens(3) && !self.settling {
            let truth = self.truth(instance);
            truth.output += 7;
            let total = truth.output;
            if let Some(dir) = self.dirs.get_mut(&instance) {
                dir.journal = Some(total);
            }
            return;
        }
        let exits =
            [Exit::Code(0), Exit::Code(3), Exit::Signal(15), Exit::Signal(9), Exit::Code(127), Exit::Code(1)];
        let exit = exits[choices.pick(exits.len())];
        shim.stage = Stage::Draining(Ending::Exited(exit));
        let truth = self.truth(instance);
        (truth.alive, truth.exit) = (false, Some(exit));
        self.say(|| format!("the command of {} ended: {exit:?}", short(instance)));
    }

    /// The shim does what it does by itself.
    pub(super) fn advance(&mut self, id: u32, choices: &mut Choices) {
        let Some(shim) = self.shims.get(&id).cloned() else { return };
        match shim.stage {
            Stage::Booting => self.boot_shim(id),
            Stage::Waiting => self.end(id, Ending::NeverStarted),
            Stage::Running => self.run_command(id, choices),
            Stage::Draining(ending) => self.end(id, ending),
            Stage::Ended { stored: false, .. } => self.write_exit(id),
            Stage::Ended { .. } if shim.stopping => {
                self.truth(shim.instance).others = false;
                self.shims.get_mut(&id).unwrap().stopping = false;
                self.tell(id, &Told::Stopped);
            }
            Stage::Ended { .. } => self.remove_shim(id),
        }
    }

    /// Whether the shim has something to do by itself; `eager` also what only time brings about.
    pub(super) fn is_due(&self, id: u32, eager: bool) -> bool {
        let shim = &self.shims[&id];
        if shim.frozen {
            return false;
        }
        let stays = shim.keep && shim.window.is_some();
        match shim.stage {
            Stage::Booting | Stage::Draining(_) => true,
            // A shim that waits for somebody leaves when its directory is gone.
            Stage::Waiting => {
                let listens = self.dirs.get(&shim.instance).is_some_and(|dir| dir.listens == Some(id));
                !self.has_peers(id) && (eager || !listens)
            }
            // When all is quiet a command ends by itself, but not one that somebody wants stopped.
            Stage::Running => {
                let record = self.store.runs.get(&shim.instance);
                let wanted = record.is_some_and(|record| record.run.stop.is_some());
                shim.stopping || (eager && !(self.settling && wanted))
            }
            Stage::Ended { stored, .. } => {
                (!stored && !self.disk_full)
                    || shim.stopping
                    || (stored && !stays && (shim.acknowledged || eager || !self.has_peers(id)))
            }
        }
    }

    fn end(&mut self, id: u32, ending: Ending) {
        let shim = &self.shims[&id];
        let instance = shim.instance;
        let cause = match (shim.stop_asked, shim.window_closed) {
            (true, _) => Cause::Stop,
            (false, true) => Cause::WindowClosed,
            (false, false) => Cause::Itself,
        };
        let nonce = Nonce::from_bytes(shim.nonce.to_be_bytes());
        let now = self.time();
        let boot_id = format!("boot {}", self.boot);
        let total_bytes = self.truth(instance).output;
        let pid = (self.truth(instance).starts > 0).then_some(id);
        let record = Box::new(ExitRecord {
            ending,
            cause,
            total_bytes,
            lost_bytes: 0,
            started_at: now,
            ended_at: now,
            pid,
            nonce,
            boot_id,
        });
        self.shims.get_mut(&id).unwrap().stage = Stage::Ended { record: record.clone(), stored: false };
        if self.disk_full {
            self.truth(instance).hindered = true;
        } else {
            self.write_exit(id);
        }
        self.tell(id, &Told::Exited(record));
    }

    fn write_exit(&mut self, id: u32) {
        let shim = self.shims.get_mut(&id).unwrap();
        let Stage::Ended { record, stored } = &mut shim.stage else { return };
        *stored = true;
        let (instance, record) = (shim.instance, record.clone());
        if let Some(dir) = self.dirs.get_mut(&instance).filter(|dir| dir.listens == Some(id)) {
            dir.exit = Some(*record);
            self.truth(instance).recorded = true;
        }
    }

    /// The process is gone.
    pub(super) fn remove_shim(&mut self, id: u32) {
        let Some(shim) = self.shims.remove(&id) else { return };
        // Who outlives a shim that was not told to stop was let go: nobody can prove it its own any more.
        self.truth(shim.instance).others &= shim.stopping;
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.shim == id) {
            pipe.shim_gone = true;
        }
        self.pipes.retain(|_, pipe| !(pipe.shim_gone && pipe.daemon_gone));
        if let Some(window) = shim.window
            && let Some(it) = self.tmux.windows.get_mut(&window)
        {
            it.shim = None;
            if !it.kept {
                self.tmux.windows.remove(&window);
                self.tmux.up = !self.tmux.windows.is_empty();
            }
        }
    }

    /// A shim is killed; its ward ends what it held.
    pub(super) fn kill_shim(&mut self, id: u32) {
        let instance = self.shims[&id].instance;
        let truth = self.truth(instance);
        if truth.alive {
            (truth.alive, truth.exit) = (false, Some(Exit::Signal(9)));
        }
        (truth.shim_died, truth.others) = (true, false);
        self.say(|| format!("shim {id} of {} was killed", short(instance)));
        self.remove_shim(id);
    }

    /// The machine starts anew: no process is left, and of what was not synced only a part.
    pub(super) fn reboot(&mut self, choices: &mut Choices) {
        self.boot += 1;
        for truth in self.truth.values_mut() {
            if truth.alive {
                (truth.alive, truth.exit) = (false, Some(Exit::Signal(9)));
            }
            (truth.rebooted, truth.others) = (true, false);
        }
        for dir in self.dirs.values_mut() {
            dir.listens = None;
            if dir.exit.is_none() && choices.happens(2) {
                dir.journal = dir.journal.map(|bytes| bytes / 2).filter(|_| !choices.happens(2));
            }
        }
        self.shims.clear();
        self.pipes.clear();
        let server = self.tmux.server;
        self.tmux = Tmux { server, ..Tmux::default() };
    }
}

/// A run's name in a trace.
pub(super) fn short(id: InstanceId) -> String {
    format!("run-{}", id.tail(3))
}
