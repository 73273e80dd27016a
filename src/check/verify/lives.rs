//! I1, I3, I9, I10 and I11: what lives, against what is recorded as living.

use super::say;
use super::view::{View, run};
use crate::check::evidence::{Directory, Holding, Process, Windows};
use crate::check::violation::{Invariant, Violation};
use crate::model::{BackendKind, ErrorWord, Instance, RunState};

/// How far apart the wall clock and a process's start may be, in milliseconds: the kernel counts from boot, in ticks.
const CLOCKS_MS: i64 = 2000;

/// More than the daemon ever needs: a ring for each terminal and what a thousand clients have not taken yet (`src/api`); the runtime's
/// 512 threads for blocking work.
const DAEMON: [u64; 3] = [512 << 10, 8192, 640];
/// More than a shim ever needs: a program's input and output of a few MiB that wait, and a descriptor for each client that follows it.
const SHIM: [u64; 3] = [16 << 10, 64, 8];

/// Each living shim is the only one of a run that is not over.
pub(super) fn shims(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, shims) in &view.shims {
        let mut wrong = |invariant, sentence: &str| say(found, invariant, run(*id), sentence);
        if shims.len() > 1 {
            wrong(Invariant::SingleLaunch, "more than one shim of it lives");
        }
        if shims.iter().any(|shim| shim.is_halted()) {
            continue;
        }
        let directory = view.directories.get(id).copied();
        let Some(directory) = directory else {
            wrong(Invariant::NoOrphans, "its shim lives and its directory is gone");
            continue;
        };
        match &directory.spec {
            Err(_) => wrong(Invariant::NoOrphans, "its shim lives and its spec cannot be read"),
            Ok(spec) if spec.id != *id || spec.boot_id != view.all.boot_id => {
                wrong(Invariant::NoOrphans, "its shim lives and its spec is of another run or another boot");
            }
            Ok(_) => {}
        }
        match view.runs.get(id) {
            None => wrong(Invariant::NoOrphans, "its shim lives and no row knows it"),
            Some(row) if row.run.instance.state.is_terminal() && !stays(directory) => {
                wrong(Invariant::NoOrphans, "it is over and its shim lives");
            }
            Some(_) => {}
        }
    }
}

/// A ward is gone when what its shim held is.
pub(super) fn wards(view: &View<'_>, found: &mut Vec<Violation>) {
    for ward in view.all.processes.iter().filter(|it| !it.is_ended() && !it.is_halted()) {
        let Some(id) = ward.ward_of.filter(|id| !view.shims.contains_key(id)) else { continue };
        if view.runs.get(&id).is_none_or(|row| row.run.instance.state.is_terminal()) {
            say(found, Invariant::NoOrphans, run(id), "it is over and the ward of its shim lives");
        }
    }
}

/// Whether the shim stays in its window after the end, to be read there.
fn stays(directory: &Directory) -> bool {
    directory.spec.as_ref().is_ok_and(|spec| spec.keep_window) && has_ended(directory)
}

fn has_ended(directory: &Directory) -> bool {
    matches!(directory.exit, Ok(Some(_)))
}

/// Each run that is not over is held by something, or a daemon will say what became of it; each directory has a row.
pub(super) fn rows(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, row) in &view.runs {
        if let Some((invariant, sentence)) = unheld(view, &row.run.instance) {
            say(found, invariant, run(*id), sentence);
        }
    }
    for id in view.directories.keys() {
        if !view.runs.contains_key(id) && !view.shims.contains_key(id) {
            say(found, Invariant::NoOrphans, run(*id), "it has a directory and no row");
        }
    }
}

fn unheld(view: &View<'_>, it: &Instance) -> Option<(Invariant, &'static str)> {
    let directory = view.directories.get(&it.id).copied();
    let shim = view.shims.get(&it.id).and_then(|shims| shims.first()).copied();
    match (it.state, shim, directory) {
        (RunState::Done | RunState::Failed | RunState::Stopped, ..) => None,
        (RunState::Running, Some(shim), Some(directory)) => (!holds(view, it, shim, directory))
            .then_some((Invariant::NoOrphans, "it is running and its shim does not hold its process")),
        (RunState::Running | RunState::Starting, Some(_), _) => None,
        (RunState::Running, None, None) => {
            Some((Invariant::NoOrphans, "it is running and has neither a process nor a directory"))
        }
        _ if !view.works() => None,
        (RunState::Running | RunState::Starting, None, Some(directory)) if has_ended(directory) => {
            Some((Invariant::Liveness, "it has ended and the daemon does not record it"))
        }
        (RunState::Running, None, Some(_)) => {
            Some((Invariant::NoOrphans, "it is running and no process holds it"))
        }
        (RunState::Starting, None, None) if waits(view, it) => None,
        (RunState::Starting, None, None) => {
            Some((Invariant::Liveness, "it is starting and nothing is done for it"))
        }
        (RunState::Starting, None, Some(_)) => {
            Some((Invariant::Liveness, "it is starting and no process holds it"))
        }
    }
}

/// Whether it begins when a run that it replaces is over, and that is not. One that it replaces may itself be a replacement that waited.
fn waits(view: &View<'_>, it: &Instance) -> bool {
    let before = |it: &&Instance| Some(&view.runs.get(&it.restarted_from?)?.run.instance);
    std::iter::successors(before(&it), before).any(|old| !old.state.is_terminal())
}

/// Whether the run's process descends from its shim, or its end is on its way.
fn holds(view: &View<'_>, it: &Instance, shim: &Process, directory: &Directory) -> bool {
    let alive = |pid: u32| view.processes.contains_key(&pid) && view.descends(pid, shim.pid);
    shim.is_halted() || has_ended(directory) || it.pid.is_none_or(alive)
}

/// Panes that carry a run's id are of recorded runs, and a run in a window lives there.
pub(super) fn panes(view: &View<'_>, found: &mut Vec<Violation>) {
    let Windows::Seen(census) = &view.all.windows else { return };
    if census.is_marked {
        let sentence = "an option of kas's is set for the whole server";
        say(found, Invariant::NoCollateral, "tmux", sentence);
    }
    for pane in census.panes.iter().filter(|pane| !view.runs.contains_key(&pane.instance)) {
        let sentence = format!("window {} carries its id and no row knows it", pane.window);
        say(found, Invariant::NoOrphans, run(pane.instance), sentence);
    }
    // Without any window it may be another server that was asked.
    if census.windows == 0 {
        return;
    }
    let in_windows = view.runs.values().map(|row| &row.run.instance);
    for it in in_windows.filter(|it| it.state == RunState::Running && it.backend == BackendKind::Tmux) {
        let shims = view.shims.get(&it.id).into_iter().flatten();
        // A window's process is the shim's ward; one whose ward was killed is in no window either.
        let shown =
            |shim: &&Process| census.panes.iter().any(|pane| [shim.pid, shim.parent].contains(&pane.pid));
        if shims.into_iter().any(|shim| !shim.is_halted() && !shown(shim)) {
            say(found, Invariant::NoOrphans, run(it.id), "it runs on tmux and its shim is in no window");
        }
    }
}

/// The command of a run that is over does not live: who has its pid and began before its end is the command itself.
pub(super) fn commands(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, row) in &view.runs {
        let it = &row.run.instance;
        let (Some(pid), Some(end)) = (it.pid, it.exited_at) else { continue };
        let Some(process) = view.processes.get(&pid).filter(|process| !process.is_ended()) else { continue };
        if process.started_at.plus_ms(CLOCKS_MS) < end {
            say(
                found,
                Invariant::NoOrphans,
                run(*id),
                format!("it is over and its command lives as process {pid}"),
            );
        }
    }
}

/// Nothing says that it is of a run whose processes were lost out of sight. Such a process may be of another run's making, so no daemon ends it.
pub(super) fn doubtful(view: &View<'_>, found: &mut Vec<Violation>) {
    for process in
        view.all.processes.iter().filter(|it| !it.is_ended() && view.all.daemon.pid() != Some(it.pid))
    {
        let row = process.says_it_is_of.and_then(|id| view.runs.get(&id));
        let Some(it) = row.map(|row| &row.run.instance) else { continue };
        // What a shim holds, and the command itself, are told as such.
        if view.shims.contains_key(&it.id) || it.pid == Some(process.pid) {
            continue;
        }
        let out_of_sight = [ErrorWord::ShimLost, ErrorWord::TmuxCrash, ErrorWord::DaemonRestart];
        if it.error.is_some_and(|word| out_of_sight.contains(&word)) {
            let sentence = format!(
                "it was lost, and process {} has its id in its environment, which proves nothing: end that by hand if it is the run's",
                process.pid
            );
            say(found, Invariant::NoOrphans, run(it.id), sentence);
        }
    }
}

/// Neither the daemon nor a shim leaves its children unreaped.
pub(super) fn zombies(view: &View<'_>, found: &mut Vec<Violation>) {
    for zombie in view.all.processes.iter().filter(|process| process.state == 'Z') {
        let parent = view.processes.get(&zombie.parent).filter(|parent| !parent.is_halted());
        let ours = |parent: &Process| parent.shim_of.or(parent.ward_of).is_some();
        let whose = match parent {
            Some(parent) if view.all.daemon.pid() == Some(parent.pid) && view.works() => "the daemon",
            Some(parent) if ours(parent) => "a shim",
            Some(_) | None => continue,
        };
        let sentence = format!("it has ended and {whose} does not reap it");
        say(found, Invariant::Bounds, format!("process {}", zombie.pid), sentence);
    }
}

/// Neither the daemon nor a shim holds more than any load needs.
pub(super) fn holdings(view: &View<'_>, found: &mut Vec<Violation>) {
    for held in &view.all.holdings {
        let &Holding { pid, memory_kib, descriptors, threads } = held;
        let is_daemon = view.all.daemon.pid() == Some(pid);
        let (whose, limits) = if is_daemon { ("the daemon", DAEMON) } else { ("a shim", SHIM) };
        let units = ["KiB of memory", "descriptors", "threads"];
        for ((has, limit), unit) in [memory_kib, descriptors, threads].into_iter().zip(limits).zip(units) {
            if has > limit {
                let sentence = format!("{whose} holds more than {limit} {unit}");
                say(found, Invariant::Bounds, format!("process {pid}"), sentence);
            }
        }
    }
}
