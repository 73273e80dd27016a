//! What must hold: after every step, of every row that is written, of every answer, and when everything is quiet.

use kas::daemon::{State, waited_in_vain};
use kas::model::{BackendKind, ErrorWord, EventKind, Instance, InstanceId, ProjectId, RunState};
use kas::policy;
use kas::store::Record;

use super::callers::{PROJECTS, TASKS};
use super::world::{Truth, World, short};

/// A row was written: its states go forward with one event each, and it says what truly happened.
pub(super) fn row(id: InstanceId, before: Option<&Record>, world: &mut World) {
    let Some(record) = world.store.runs.get(&id).cloned() else { return };
    let instance = &record.run.instance;
    let name = short(id);
    world.truth(id);
    if let Some(before) = before.filter(|before| before.run.instance.state.is_terminal()) {
        let same = before.run == record.run;
        world.check(same, || format!("the end of {name} changed to {instance:?}"));
    }
    let audit = world.store.audit.get(&id).cloned().unwrap_or_default();
    let count = |kind: EventKind| audit.iter().filter(|it| **it == kind).count();
    let (launched, exited, stopped) =
        (count(EventKind::TaskLaunched), count(EventKind::TaskExited), count(EventKind::TaskStopped));
    let over = instance.state.is_terminal();
    let fits = launched <= 1
        && (launched == 1 || !matches!(instance.state, RunState::Running | RunState::Done))
        && exited == usize::from(matches!(instance.state, RunState::Done | RunState::Failed))
        && stopped == usize::from(instance.state == RunState::Stopped)
        && instance.exited_at.is_some() == over;
    world.check(fits, || format!("{name} is {} and the audit log says {audit:?}", instance.state));
    if over {
        end(instance, record.run.stop.is_some(), world);
    }
}

/// An end is the truth, or says that it is not known.
fn end(instance: &Instance, asked: bool, world: &mut World) {
    let id = instance.id;
    let (name, truth) = (short(id), world.truth(id).clone());
    let exit = world.dirs.get(&id).and_then(|dir| dir.exit.as_ref());
    let on_disk = exit.is_some_and(|record| !waited_in_vain(record));
    match (instance.exit, instance.error) {
        (Some(exit), _) => {
            let same = truth.exit == Some(exit) && instance.output_bytes == truth.output;
            world.check(same, || format!("{name} is said to have ended with {exit:?}; in truth: {truth:?}"));
            let state = if asked { RunState::Stopped } else { exit.state() };
            world.check(instance.state == state, || format!("{name} is {} after {exit:?}", instance.state));
        }
        (None, Some(word)) => {
            let true_word = match word {
                ErrorWord::SpawnFailed => truth.starts == 0 && has_reason(instance, &truth),
                ErrorWord::ShimLost => (truth.shim_died || truth.starts == 0) && !on_disk,
                ErrorWord::HostRestart => truth.rebooted && !on_disk,
                ErrorWord::TmuxCrash => truth.tmux_crashed || truth.shim_died || truth.window_closed,
                ErrorWord::DaemonRestart => world.quirks.give_up,
            };
            world.check(true_word, || format!("{name} is {word}; in truth: {truth:?}"));
        }
        (None, None) => {
            let stopped = instance.state == RunState::Stopped && (asked || truth.window_closed);
            world.check(stopped, || format!("{name} is {} for no reason", instance.state));
            let unknown = truth.exit.is_none() || truth.shim_died || truth.rebooted || truth.starts == 0;
            world.check(unknown, || format!("{name} is stopped without its code; in truth: {truth:?}"));
        }
    }
    let ended_here = instance.error == Some(ErrorWord::DaemonRestart);
    let dead = !(truth.alive || ended_here && truth.others);
    world.check(dead, || {
        format!("{name} is said to be over, and its command or what it began lives: {truth:?}")
    });
}

/// What was launched runs, or something happened to this very run that it does not: the death of a daemon is no reason, and neither is a shim
/// that waited for the next one in vain.
fn has_reason(instance: &Instance, truth: &Truth) -> bool {
    // A run that waits at its gate in a window goes with the window.
    let hindered = truth.hindered || truth.shim_died || truth.window_closed || truth.tmux_crashed;
    let text = instance.error_text.as_deref().unwrap_or_default();
    hindered || text.contains("o such shell") || text.contains("which is the limit")
}

/// Whoever is told of a run can rely on it: it is recorded, and what is told of its end is stored.
pub(super) fn told(instance: &Instance, world: &mut World) {
    let stored = world.store.runs.get(&instance.id).map(|record| record.run.instance.state);
    let gone = world.store.gone.contains(&instance.id);
    let kept = gone || stored.is_some_and(|state| !instance.state.is_terminal() || state == instance.state);
    world.check(kept, || {
        format!("{} was told to be {}, which is not stored ({stored:?})", short(instance.id), instance.state)
    });
}

/// A stop was answered: it is stored, and nothing of the tree lives.
pub(super) fn stopped(id: InstanceId, instance: &Instance, world: &mut World) {
    told(instance, world);
    let truth = world.truth(id).clone();
    let over = instance.id == id && instance.state.is_terminal();
    let lives = truth.alive || (truth.others && instance.state == RunState::Stopped && !truth.window_closed);
    world.check(over && !lives, || format!("{} was said to be stopped: {instance:?} {truth:?}", short(id)));
}

/// A restart was answered: the run that was to end is over, and the new one is another.
pub(super) fn replaced(id: InstanceId, instance: &Instance, world: &mut World) {
    let stored = world.store.runs.get(&id).map(|record| record.run.instance.state);
    let over = stored.is_none_or(RunState::is_terminal) && !world.truth(id).alive;
    // A replacement that was stopped itself is answered as it is.
    let over = over || instance.state.is_terminal();
    let fits = instance.restarted_from == Some(id) && instance.id != id;
    world
        .check(over && fits, || format!("{} was said to be replaced by {instance:?}: {stored:?}", short(id)));
}

/// A project was forgotten: so are its windows.
pub(super) fn removed(id: &ProjectId, world: &mut World) {
    let window = world.tmux.windows.values().find(|window| window.project == *id).cloned();
    world.check(window.is_none(), || format!("{id} is removed and {window:?} is there"));
}

/// The orchestrator's own state.
pub(super) fn state(state: &State, world: &mut World) {
    for (id, live) in &state.live {
        let stored = world.store.runs.get(id).map(|record| record.run.instance.state);
        let ghost = stored.is_some_and(RunState::is_terminal) && !live.run.instance.state.is_terminal();
        world.check(!ghost, || format!("{} is {stored:?} in the store and held to be live", short(*id)));
    }
    // One run has one replacement at a time.
    let starting =
        state.live.values().map(|live| &live.run.instance).filter(|it| it.state == RunState::Starting);
    let mut replaced: Vec<_> = starting.filter_map(|it| it.restarted_from).collect();
    replaced.sort_unstable();
    let twice = replaced.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    world.check(twice.is_none(), || format!("{} is replaced twice", twice.map(short).unwrap_or_default()));
}

/// Everything is quiet: nothing is live, and nothing is left of what is over.
pub(super) fn quiet(live: &State, world: &mut World) {
    let state: Vec<_> = live.live.keys().copied().collect();
    let rows: Vec<_> = world.store.live().iter().map(|record| record.run.instance.id).collect();
    let kept = |id: &InstanceId| world.shims.values().any(|shim| shim.instance == *id && shim.keep);
    let dirs: Vec<_> = world.dirs.keys().copied().filter(|id| !kept(id)).collect();
    let shims: Vec<_> = world.shims.values().filter(|shim| !shim.keep).map(|shim| shim.instance).collect();
    for (what, left) in
        [("held to be live", state), ("live in the store", rows), ("a directory", dirs), ("a shim", shims)]
    {
        world.check(left.is_empty(), || {
            format!(
                "everything is quiet and left is: {what}: {}",
                left.iter().map(|id| short(*id)).collect::<Vec<_>>().join(" ")
            )
        });
    }
    world.check(live.removing.is_empty(), || format!("{:?} is being removed for ever", live.removing));
    let windows: Vec<_> = world.tmux.windows.values().map(|window| window.instance).collect();
    for id in windows {
        let of = world.store.runs.get(&id).map(|record| record.run.instance.backend);
        world.check(of == Some(BackendKind::Tmux), || format!("a window of {} is left ({of:?})", short(id)));
    }
}

/// History is what its tasks say, and beyond that at most the run whose end was the occasion of the last culling. Of the tasks that were run
/// `at_last`, that is the newest one.
pub(super) fn history(live: &State, at_last: &[&str], world: &mut World) {
    for (id, project) in PROJECTS.iter().filter_map(|name| live.projects.get_key_value(&name.parse().ok()?)) {
        for task in TASKS {
            let ended = world.store.ended(id, Some(task));
            let newest = ended.iter().max().and_then(|id| world.store.runs.get(id));
            let Some(newest) = newest else { continue };
            let spared = usize::from(!at_last.contains(&task));
            let keep = policy::kept_of_task(newest.run.instance.history) + spared;
            let (count, tasks) = (ended.len(), project.tasks.len());
            world.check(count <= keep, || {
                format!("{count} runs of {id} {task} ({tasks}) are kept, not {keep}")
            });
        }
    }
}
