//! One run: a time of trouble, then quiet, then what must hold when it is quiet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kas::daemon::Project;

use super::callers::{Callers, PROJECTS, Request, TASKS};
use super::check;
use super::choices::Choices;
use super::daemon::{Daemon, Ready};
use super::jobs::Job;
use super::perform::Found;
use super::plant::Plant;
use super::store::Write;
use super::world::{Quirks, World};

/// Turns after which a run that does not become quiet is wrong.
const QUIET_IN: usize = 2_000;

/// What came of a run.
pub(super) struct Outcome {
    pub(super) wrong: Option<String>,
    pub(super) made: Vec<u32>,
    pub(super) trace: Vec<String>,
}

struct Run {
    world: World,
    callers: Callers,
    choices: Choices,
    plant: Plant,
    daemon: Option<Daemon>,
    found: Option<Found>,
}

/// Runs it; a panic is a wrong as well.
pub(super) fn run(mut choices: Choices, plant: Plant, tracing: bool) -> Outcome {
    let quirks = Quirks::chosen(&mut choices);
    let world = World::new(quirks, tracing);
    let mut run = Run { world, callers: Callers::default(), choices, plant, daemon: None, found: None };
    run.world.say(|| format!("{quirks:?}"));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.whole())) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        run.world.fail(|| format!("a panic: {}", text.unwrap_or_default()));
    }
    Outcome { wrong: run.world.wrong, made: run.choices.made, trace: run.world.trace.unwrap_or_default() }
}

/// What can happen next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Start,
    Daemon(Ready),
    Pipe(u32),
    Shim(u32),
}

impl Run {
    fn whole(&mut self) {
        for project in [0, 2] {
            let it = self.callers.project(project);
            let registered_at = self.world.time();
            let registered = kas::store::Registered { id: it.id, path: it.path, registered_at };
            let added = self.world.store.apply(&Write::AddProject(registered, Vec::new()));
            assert!(added.is_ok());
        }
        let turns = 20 + self.choices.pick(200);
        for _ in 0..turns {
            self.turn();
            if self.world.wrong.is_some() {
                return;
            }
        }
        self.quiet("after the trouble");
        self.check_again();
    }

    /// A restart finds nothing to do, every task can be run, and history is as it should be.
    fn check_again(&mut self) {
        let before = format!("{:?}", self.world.store.runs);
        if let Some(daemon) = self.daemon.take() {
            daemon.die(&mut self.world, &mut self.choices);
        }
        self.quiet("after one more start");
        let same = before == format!("{:?}", self.world.store.runs);
        self.world.check(same, || "one more start changed what was quiet".to_owned());
        for project in 0..PROJECTS.len() {
            for task in 0..2 {
                if self.world.wrong.is_none() {
                    let launch = Request::Launch { project, task: Some(task), key: None };
                    self.ask(launch);
                    self.quiet("after a last run");
                }
            }
        }
        if let Some(daemon) = &self.daemon {
            check::history(&daemon.state, &TASKS[..2], &mut self.world);
        }
    }

    fn turn(&mut self) {
        self.world.now += 1;
        match self.choices.pick(16) {
            0..=8 => self.progress(),
            9 | 10 => {
                let request = self.callers.ask(&mut self.choices);
                self.ask(request);
            }
            11..=13 => {
                let next = self.outside(true);
                if !next.is_empty() {
                    let at = self.choices.pick(next.len());
                    self.go(next[at]);
                }
            }
            14 => self.fault(),
            // The clock goes on, and sometimes back.
            _ => self.world.now += [100, 1_000, 5_000, 61_000, -3_000_000][self.choices.pick(5)],
        }
    }

    fn progress(&mut self) {
        let next = self.inside();
        if !next.is_empty() {
            let at = self.choices.pick(next.len());
            self.go(next[at]);
        }
    }

    fn ask(&mut self, request: Request) {
        if let Some(daemon) = &mut self.daemon {
            daemon.begin(Job::Ask(Box::new(request)), &mut self.world);
        }
    }

    fn inside(&self) -> Vec<Next> {
        match &self.daemon {
            None => vec![Next::Start],
            Some(_) if self.found.is_some() => vec![Next::Start],
            Some(daemon) => daemon.ready(&self.world).into_iter().map(Next::Daemon).collect(),
        }
    }

    fn outside(&self, eager: bool) -> Vec<Next> {
        let world = &self.world;
        let reads = |shim: u32| world.shims.get(&shim).is_some_and(|shim| !shim.frozen);
        let pipes = world
            .pipes
            .iter()
            .filter(|(_, pipe)| (!pipe.asked.is_empty() || pipe.daemon_gone) && reads(pipe.shim));
        let shims = world.shims.keys().filter(|id| world.is_due(**id, eager));
        pipes.map(|(id, _)| Next::Pipe(*id)).chain(shims.map(|id| Next::Shim(*id))).collect()
    }

    fn go(&mut self, next: Next) {
        match next {
            Next::Start => self.start(),
            Next::Daemon(ready) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.go(ready, &mut self.world, &mut self.callers, &mut self.choices);
                }
            }
            Next::Pipe(pipe) => self.world.obey(pipe, &mut self.choices),
            Next::Shim(shim) => self.world.advance(shim, &mut self.choices),
        }
    }

    /// The daemon looks around, and in another turn takes up what it found.
    fn start(&mut self) {
        if let (Some(daemon), Some(found)) = (&mut self.daemon, self.found.take()) {
            return daemon.take_up(found, &mut self.world);
        }
        self.world.say(|| "the daemon starts".to_owned());
        let registered = |project: &Project| self.world.store.projects.contains_key(&project.id);
        let projects = (0..PROJECTS.len()).map(|project| self.callers.project(project));
        let projects = projects.filter(registered).collect();
        let daemon = Daemon::new(&self.world, projects, self.plant);
        self.found = Some(daemon.find(&mut self.world));
        self.daemon = Some(daemon);
    }

    fn die(&mut self) {
        self.found = None;
        if let Some(daemon) = self.daemon.take() {
            daemon.die(&mut self.world, &mut self.choices);
            self.callers.hang_up();
        }
    }

    fn fault(&mut self) {
        let quirks = self.world.quirks;
        let may = [
            quirks.kills,
            quirks.tmux_faults && quirks.tmux,
            quirks.tmux_faults && quirks.tmux,
            quirks.operator && quirks.tmux,
            quirks.disk,
            quirks.shims,
            quirks.shims,
            quirks.reboots,
        ];
        let kinds: Vec<usize> = (0..may.len()).filter(|&kind| may[kind]).collect();
        if kinds.is_empty() {
            return;
        }
        let kind = kinds[self.choices.pick(kinds.len())];
        let shims: Vec<u32> = self.world.shims.keys().copied().collect();
        match kind {
            0 => self.die(),
            1 => {
                self.world.say(|| "tmux crashes".to_owned());
                self.world.crash_tmux();
            }
            2 => self.world.tmux.refuses = !self.world.tmux.refuses,
            3 => self.close_a_window(),
            4 => {
                self.world.disk_full = !self.world.disk_full;
                let full = self.world.disk_full;
                self.world.say(|| format!("the disk is full: {full}"));
            }
            5 | 6 if shims.is_empty() => {}
            5 => {
                let shim = shims[self.choices.pick(shims.len())];
                self.world.kill_shim(shim);
            }
            6 => {
                let id = shims[self.choices.pick(shims.len())];
                if let Some(shim) = self.world.shims.get_mut(&id) {
                    shim.frozen = !shim.frozen;
                    let (frozen, instance) = (shim.frozen, shim.instance);
                    self.world.truth(instance).hindered |= frozen;
                    self.world.say(|| format!("shim {id} stands still: {frozen}"));
                }
            }
            _ => {
                self.die();
                self.world.say(|| "the machine starts anew".to_owned());
                self.world.reboot(&mut self.choices);
            }
        }
    }

    fn close_a_window(&mut self) {
        let windows: Vec<u32> = self.world.tmux.windows.keys().copied().collect();
        if !windows.is_empty() {
            let window = windows[self.choices.pick(windows.len())];
            self.world.say(|| format!("the operator closes window {window}"));
            self.world.kill_window(window);
        }
    }

    /// Nothing fails any more, and everything goes on in turn until nothing has anything to do.
    fn quiet(&mut self, when: &str) {
        if self.world.wrong.is_some() {
            return;
        }
        self.world.say(|| format!("-- quiet {when}"));
        (self.world.settling, self.world.disk_full, self.world.tmux.refuses) = (true, false, false);
        self.world.shims.values_mut().for_each(|shim| shim.frozen = false);
        let mut last = Vec::new();
        for turn in 0..QUIET_IN {
            self.world.now += 10;
            let mut next = self.inside();
            next.extend(self.outside(false));
            if next.is_empty() {
                next = self.outside(true);
            }
            if next.is_empty() || self.world.wrong.is_some() {
                return self.check_quiet(when);
            }
            self.go(next[turn % next.len()]);
            last = next;
        }
        self.world.fail(|| format!("it does not become quiet {when}: {last:?}"));
    }

    fn check_quiet(&mut self, when: &str) {
        let Some(daemon) = &self.daemon else { return };
        if let Some(who) = self.callers.who_waits() {
            self.world.fail(|| format!("{when} nobody answers {who}"));
        }
        check::quiet(&daemon.state, &mut self.world);
    }
}
