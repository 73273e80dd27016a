//! The decisions: recorded x found -> what to do, each thing once.

use std::collections::BTreeMap;

use super::facts::{
    Boot, EndRecord, Facts, FoundDir, FoundWindow, OnRestart, Recorded, Server, Shim, WindowName,
};
use super::proof::{DeadDir, DeadWindow, ProvedShim, ProvedTree};
use crate::model::{BackendKind, ErrorWord, InstanceId, RunState};

/// What to do with one run, directory, window or session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Its shim lives: connect and go on. A gate still closed is opened; a stop already asked for is taken up again.
    Adopt(InstanceId),
    /// It ended while the daemon was away: record this end, keep its output, acknowledge.
    Finish(InstanceId, EndRecord),
    /// Its end is unknown: record `failed` with the word and keep what output there is.
    Lost {
        /// The run.
        id: InstanceId,
        /// Why.
        word: ErrorWord,
        /// Its shim, where it proved itself and is to be ended, with its process tree.
        end: Option<ProvedShim>,
    },
    /// Its command never ran, which is certain, and in this boot: begin it.
    Begin(InstanceId),
    /// Its command never ran as far as can be seen: record `failed` with `spawn_failed`.
    NeverStarted(InstanceId),
    /// Something may live and did not prove itself: touch nothing, look again later.
    Wait(InstanceId),
    /// It goes on, and its window is not the one recorded, or is gone: record this.
    Repair(InstanceId, Option<WindowName>),
    /// Its shim is dead and its processes live: end them, and then look again.
    EndTree(ProvedTree),
    /// The run is over but its shim lives: acknowledge and end it.
    EndShim(ProvedShim),
    /// The run is over, nothing lives, and its output could not be read at its end: read it until it can be.
    Salvage(InstanceId),
    /// Nothing lives and nothing would be lost: remove the directory.
    Discard(DeadDir),
    /// A window of a run that nobody knows any more, or that has no window, and nothing lives in it: close it.
    CloseWindow(DeadWindow),
    /// A directory of no recorded run, in which something lives or lies: say so, leave it alone.
    OrphanDir(InstanceId),
    /// A window of no recorded run, made here, in which something lives: say so, leave it alone.
    OrphanWindow(InstanceId),
    /// A session of no registered project: say so, leave it alone.
    OrphanSession(String),
}

impl Decision {
    /// The instance whose fate it is. What is done about windows, or about a record, is decided besides.
    #[must_use]
    pub const fn run(&self) -> Option<InstanceId> {
        match self {
            Self::Adopt(id)
            | Self::Finish(id, _)
            | Self::Lost { id, .. }
            | Self::Begin(id)
            | Self::NeverStarted(id)
            | Self::Wait(id)
            | Self::Salvage(id)
            | Self::OrphanDir(id) => Some(*id),
            Self::EndTree(tree) => Some(tree.id()),
            Self::EndShim(shim) => Some(shim.id()),
            Self::Discard(dead) => Some(dead.id()),
            Self::Repair(..) | Self::CloseWindow(_) | Self::OrphanWindow(_) | Self::OrphanSession(_) => None,
        }
    }
}

/// Decides for everything recorded or found. Nothing is ended without proof; deciding again after the decisions were carried out
/// changes nothing; and what is known of one run has no part in what becomes of another.
#[must_use]
pub fn decide(facts: &Facts) -> Vec<Decision> {
    let dirs: BTreeMap<_, _> = facts.dirs.iter().map(|dir| (dir.id, dir)).collect();
    let recorded: BTreeMap<_, _> = facts.recorded.iter().map(|run| (run.id, run)).collect();
    let known = |id: &InstanceId| recorded.contains_key(id) || dirs.contains_key(id);
    let runs = recorded.values().flat_map(|run| of_run(run, dirs.get(&run.id).copied(), facts));
    let strays = dirs.iter().filter(|(id, _)| !recorded.contains_key(id)).map(|(_, dir)| of_stray(dir));
    let windows = facts.windows.iter().filter(|window| !known(&window.id)).filter_map(of_nobodys_window);
    // A run on a PTY has no window: what is left is of a try in tmux that failed.
    let on_pty = |id: &InstanceId| recorded.get(id).is_some_and(|run| run.backend == BackendKind::Pty);
    let failed = facts.windows.iter().filter(|window| on_pty(&window.id)).filter_map(DeadWindow::of_nobody);
    let sessions = facts.sessions.iter().filter(|session| !session.registered);
    let orphans = sessions.map(|session| Decision::OrphanSession(session.name.clone()));
    runs.chain(strays).chain(windows).chain(failed.map(Decision::CloseWindow)).chain(orphans).collect()
}

fn of_run(run: &Recorded, dir: Option<&FoundDir>, facts: &Facts) -> Vec<Decision> {
    let id = run.id;
    let decision = match dir {
        None if run.state.is_terminal() => return Vec::new(),
        None if run.state == RunState::Starting => never_began(run, run.boot),
        None => Decision::Lost { id, word: ErrorWord::ShimLost, end: None },
        // Whatever it is called in the end: nothing is over before its tree is gone.
        Some(dir) if let Some(tree) = ProvedTree::of(dir) => Decision::EndTree(tree),
        Some(dir) if run.state.is_terminal() => after_the_end(dir),
        Some(dir) => unfinished(run, dir, facts),
    };
    let goes_on = matches!(decision, Decision::Adopt(_));
    repair(run, facts).filter(|_| goes_on).into_iter().chain([decision]).collect()
}

fn after_the_end(dir: &FoundDir) -> Decision {
    match (ProvedShim::of(dir), DeadDir::of_ended(dir)) {
        (Some(shim), _) => Decision::EndShim(shim),
        (None, Some(dead)) => Decision::Discard(dead),
        (None, None) if dir.shim == Shim::Gone => Decision::Salvage(dir.id),
        (None, None) => Decision::Wait(dir.id),
    }
}

fn of_stray(dir: &FoundDir) -> Decision {
    DeadDir::of_nobody(dir).map_or(Decision::OrphanDir(dir.id), Decision::Discard)
}

fn of_nobodys_window(window: &FoundWindow) -> Option<Decision> {
    match DeadWindow::of_nobody(window) {
        Some(dead) => Some(Decision::CloseWindow(dead)),
        None => (window.live && window.made_here).then_some(Decision::OrphanWindow(window.id)),
    }
}

fn unfinished(run: &Recorded, dir: &FoundDir, facts: &Facts) -> Decision {
    let id = run.id;
    if let Some(end) = dir.end {
        return Decision::Finish(id, end);
    }
    let fails = run.backend == BackendKind::Pty && facts.on_restart == OnRestart::Fail;
    // What waits at its gate is no run yet: it is let go.
    let given_up = fails && dir.shim == Shim::Live;
    match (dir.shim, ProvedShim::of(dir)) {
        (Shim::Silent, _) => Decision::Wait(id),
        (_, Some(shim)) if given_up => Decision::Lost { id, word: ErrorWord::DaemonRestart, end: Some(shim) },
        (_, Some(_)) => Decision::Adopt(id),
        (_, None) if run.state == RunState::Starting && !dir.ran => {
            never_began(run, if dir.boot == Boot::Unknown { run.boot } else { dir.boot })
        }
        (_, None) => Decision::Lost { id, word: why_gone(run, dir, facts), end: None },
    }
}

/// A launch of which no shim came to its gate. Only in the boot in which it was recorded is that certain: after a power loss a directory or
/// a journal that is missing proves nothing, it may have been lost with what was not synced.
const fn never_began(run: &Recorded, boot: Boot) -> Decision {
    match boot {
        Boot::This => Decision::Begin(run.id),
        Boot::Unknown => Decision::NeverStarted(run.id),
        Boot::Earlier => Decision::Lost { id: run.id, word: ErrorWord::HostRestart, end: None },
    }
}

fn why_gone(run: &Recorded, dir: &FoundDir, facts: &Facts) -> ErrorWord {
    match run.backend {
        _ if dir.boot == Boot::Earlier => ErrorWord::HostRestart,
        BackendKind::Tmux if facts.tmux == Server::Down => ErrorWord::TmuxCrash,
        BackendKind::Tmux | BackendKind::Pty => ErrorWord::ShimLost,
    }
}

/// The window as it is, where that is known and not what is recorded. A window that the operator linked or split is one of several.
fn repair(run: &Recorded, facts: &Facts) -> Option<Decision> {
    if run.backend == BackendKind::Pty || facts.tmux == Server::Unknown {
        return None;
    }
    let live = facts.windows.iter().filter(|window| window.id == run.id && window.live);
    let names: Vec<&WindowName> = live.map(|window| &window.name).collect();
    let is_right = match &run.window {
        Some(name) => names.contains(&name),
        None => names.is_empty(),
    };
    (!is_right).then(|| Decision::Repair(run.id, names.first().copied().cloned()))
}

#[cfg(test)]
mod tests {
    use super::super::facts::FoundSession;
    use super::*;
    use crate::model::{Exit, TimeMs};

    const END: EndRecord = EndRecord { exit: Exit::Code(3), total: 12, at: TimeMs(99) };

    fn id(n: u128) -> InstanceId {
        InstanceId::from_parts(1, n)
    }

    fn run(state: RunState, backend: BackendKind) -> Recorded {
        Recorded { id: id(1), state, backend, window: None, boot: Boot::This }
    }

    fn dir(shim: Shim) -> FoundDir {
        FoundDir {
            id: id(1),
            end: None,
            shim,
            boot: Boot::This,
            ran: true,
            output: true,
            only_copy: false,
            left: false,
        }
    }

    fn facts(run: Recorded, dir: Option<FoundDir>) -> Facts {
        Facts {
            recorded: vec![run],
            dirs: dir.into_iter().collect(),
            sessions: Vec::new(),
            windows: Vec::new(),
            tmux: Server::Up,
            on_restart: OnRestart::Reattach,
        }
    }

    fn nobodys(dir: FoundDir) -> Facts {
        Facts { recorded: Vec::new(), ..facts(run(RunState::Done, BackendKind::Pty), Some(dir)) }
    }

    fn window(live: bool, made_here: bool) -> FoundWindow {
        FoundWindow { id: id(1), name: names("task-dev"), live, made_here, registered: true }
    }

    fn names(window: &str) -> WindowName {
        ("kaged-demo".to_owned(), window.to_owned())
    }

    fn lost(word: ErrorWord) -> Decision {
        Decision::Lost { id: id(1), word, end: None }
    }

    fn proved() -> ProvedShim {
        ProvedShim::of(&dir(Shim::Live)).unwrap()
    }

    fn discarded() -> Decision {
        Decision::Discard(DeadDir::of_ended(&dir(Shim::Gone)).unwrap())
    }

    fn check(facts: &Facts, expect: &[Decision]) {
        assert_eq!(decide(facts), expect, "{facts:?}");
    }

    #[test]
    fn output_that_could_not_be_stored_is_read_again_before_it_goes() {
        let over = |dir| facts(run(RunState::Done, BackendKind::Pty), Some(dir));
        let unread = FoundDir { only_copy: true, ..dir(Shim::Gone) };
        check(&over(unread), &[Decision::Salvage(id(1))]);
        check(&over(FoundDir { output: false, ..unread }), &[discarded()]);
        check(&over(FoundDir { shim: Shim::Silent, ..unread }), &[Decision::Wait(id(1))]);
    }

    #[test]
    fn what_is_left_of_a_run_is_ended_before_anything_is_said_of_it() {
        let left = FoundDir { left: true, ..dir(Shim::Gone) };
        let ends = [Decision::EndTree(ProvedTree::of(&left).unwrap())];
        for state in RunState::ALL {
            check(&facts(run(state, BackendKind::Pty), Some(left)), &ends);
            let ended = FoundDir { end: Some(END), ..left };
            check(&facts(run(state, BackendKind::Tmux), Some(ended)), &ends);
        }
        // Of no recorded run: told, and left alone.
        check(&nobodys(FoundDir { output: false, ..left }), &[Decision::OrphanDir(id(1))]);
    }

    #[test]
    fn a_live_shim_is_adopted_and_an_exit_record_is_believed() {
        for state in [RunState::Starting, RunState::Running] {
            let run = run(state, BackendKind::Pty);
            check(&facts(run.clone(), Some(dir(Shim::Live))), &[Decision::Adopt(id(1))]);
            check(&facts(run.clone(), Some(dir(Shim::AtGate))), &[Decision::Adopt(id(1))]);
            for shim in [Shim::Gone, Shim::Silent, Shim::AtGate, Shim::Live] {
                let ended = FoundDir { end: Some(END), boot: Boot::Earlier, ..dir(shim) };
                check(&facts(run.clone(), Some(ended)), &[Decision::Finish(id(1), END)]);
            }
        }
    }

    #[test]
    fn an_unknown_end_is_said_with_its_reason() {
        let (tmux, pty) =
            (run(RunState::Running, BackendKind::Tmux), run(RunState::Running, BackendKind::Pty));
        let gone = dir(Shim::Gone);
        check(&facts(pty.clone(), Some(gone)), &[lost(ErrorWord::ShimLost)]);
        check(&facts(pty, None), &[lost(ErrorWord::ShimLost)]);
        check(&facts(tmux.clone(), Some(gone)), &[lost(ErrorWord::ShimLost)]);
        let with =
            |tmux_is, boot| Facts { tmux: tmux_is, ..facts(tmux.clone(), Some(FoundDir { boot, ..gone })) };
        check(&with(Server::Down, Boot::This), &[lost(ErrorWord::TmuxCrash)]);
        check(&with(Server::Unknown, Boot::This), &[lost(ErrorWord::ShimLost)]);
        check(&with(Server::Down, Boot::Earlier), &[lost(ErrorWord::HostRestart)]);
        check(&with(Server::Up, Boot::Unknown), &[lost(ErrorWord::ShimLost)]);
    }

    #[test]
    fn a_command_that_never_ran_is_not_called_lost() {
        let starting = run(RunState::Starting, BackendKind::Tmux);
        let of_boot = |boot| Recorded { boot, ..starting.clone() };
        let (begin, never) = ([Decision::Begin(id(1))], [Decision::NeverStarted(id(1))]);
        check(&facts(starting.clone(), None), &begin);
        check(&facts(of_boot(Boot::Unknown), None), &never);
        check(&facts(of_boot(Boot::Earlier), None), &[lost(ErrorWord::HostRestart)]);
        let unopened = |boot| Some(FoundDir { ran: false, boot, ..dir(Shim::Gone) });
        for boot in [Boot::This, Boot::Unknown] {
            check(&facts(starting.clone(), unopened(boot)), &begin);
        }
        check(&facts(of_boot(Boot::Unknown), unopened(Boot::Unknown)), &never);
        check(&facts(of_boot(Boot::Earlier), unopened(Boot::Unknown)), &[lost(ErrorWord::HostRestart)]);
        check(&facts(starting.clone(), unopened(Boot::Earlier)), &[lost(ErrorWord::HostRestart)]);
        check(&facts(starting.clone(), Some(dir(Shim::Gone))), &[lost(ErrorWord::ShimLost)]);
        let silent = Some(FoundDir { ran: false, ..dir(Shim::Silent) });
        check(&facts(starting, silent), &[Decision::Wait(id(1))]);
        check(&facts(run(RunState::Running, BackendKind::Pty), None), &[lost(ErrorWord::ShimLost)]);
    }

    #[test]
    fn pty_runs_are_given_up_only_where_the_operator_said_so_and_only_with_proof() {
        let fail = |facts| Facts { on_restart: OnRestart::Fail, ..facts };
        let (tmux, pty) =
            (run(RunState::Running, BackendKind::Tmux), run(RunState::Running, BackendKind::Pty));
        let given_up = Decision::Lost { id: id(1), word: ErrorWord::DaemonRestart, end: Some(proved()) };
        check(&fail(facts(pty.clone(), Some(dir(Shim::Live)))), &[given_up]);
        check(&fail(facts(pty.clone(), Some(dir(Shim::Silent)))), &[Decision::Wait(id(1))]);
        check(&fail(facts(pty, Some(dir(Shim::AtGate)))), &[Decision::Adopt(id(1))]);
        check(&fail(facts(tmux, Some(dir(Shim::Live)))), &[Decision::Adopt(id(1))]);
    }

    #[test]
    fn a_run_that_is_over_leaves_neither_shim_nor_directory() {
        let over = |shim| facts(run(RunState::Stopped, BackendKind::Pty), Some(dir(shim)));
        check(&over(Shim::Gone), &[discarded()]);
        check(&over(Shim::Silent), &[Decision::Wait(id(1))]);
        check(&over(Shim::AtGate), &[Decision::EndShim(proved())]);
        check(&over(Shim::Live), &[Decision::EndShim(proved())]);
    }

    #[test]
    fn a_directory_of_nobody_goes_only_when_nothing_lives_and_nothing_is_in_it() {
        let empty = |shim| nobodys(FoundDir { output: false, ..dir(shim) });
        check(&empty(Shim::Gone), &[discarded()]);
        for shim in [Shim::Silent, Shim::AtGate, Shim::Live] {
            check(&empty(shim), &[Decision::OrphanDir(id(1))]);
        }
        check(&nobodys(dir(Shim::Gone)), &[Decision::OrphanDir(id(1))]);
    }

    #[test]
    fn the_window_of_a_run_that_goes_on_is_recorded_as_it_is() {
        let recorded = |window| Recorded { window, ..run(RunState::Running, BackendKind::Tmux) };
        let with = |window, windows| Facts { windows, ..facts(recorded(window), Some(dir(Shim::Live))) };
        let repaired = |name| [Decision::Repair(id(1), name), Decision::Adopt(id(1))];
        let here = || vec![window(true, true)];
        check(&with(Some(names("task-dev")), here()), &[Decision::Adopt(id(1))]);
        check(&with(None, here()), &repaired(Some(names("task-dev"))));
        check(&with(Some(names("old")), here()), &repaired(Some(names("task-dev"))));
        check(&with(Some(names("old")), vec![window(false, true)]), &repaired(None));
        let linked = FoundWindow { name: ("work".to_owned(), "task-dev".to_owned()), ..window(true, true) };
        let twice = vec![linked, window(true, true)];
        check(&with(Some(names("task-dev")), twice), &[Decision::Adopt(id(1))]);
        let hung = Facts { tmux: Server::Unknown, ..with(Some(names("old")), Vec::new()) };
        check(&hung, &[Decision::Adopt(id(1))]);
    }

    #[test]
    fn a_window_of_nobody_is_closed_only_when_it_is_ours_and_nothing_lives_in_it() {
        let alone = |window| Facts {
            recorded: Vec::new(),
            windows: vec![window],
            ..facts(run(RunState::Done, BackendKind::Tmux), None)
        };
        let dead = window(false, true);
        let closed = Decision::CloseWindow(DeadWindow::of_nobody(&dead).unwrap());
        check(&alone(dead.clone()), &[closed]);
        check(&alone(window(true, true)), &[Decision::OrphanWindow(id(1))]);
        check(&alone(window(true, false)), &[]);
        check(&alone(window(false, false)), &[]);
        check(&alone(FoundWindow { registered: false, ..dead.clone() }), &[]);
        let of_a_run = facts(run(RunState::Done, BackendKind::Tmux), None);
        check(&Facts { windows: vec![dead.clone()], ..of_a_run }, &[]);
        let fell_back = |window| Facts {
            windows: vec![window],
            ..facts(run(RunState::Running, BackendKind::Pty), Some(dir(Shim::Live)))
        };
        let closed = Decision::CloseWindow(DeadWindow::of_nobody(&dead).unwrap());
        check(&fell_back(dead), &[Decision::Adopt(id(1)), closed]);
        check(&fell_back(window(true, true)), &[Decision::Adopt(id(1))]);
    }

    #[test]
    fn a_session_of_no_project_is_told_and_left_alone() {
        let sessions = [("kaged-old", false), ("kaged-demo", true)];
        let sessions = sessions.map(|(name, registered)| FoundSession { name: name.to_owned(), registered });
        let over = facts(run(RunState::Done, BackendKind::Pty), None);
        let expect = [Decision::OrphanSession("kaged-old".to_owned())];
        check(&Facts { sessions: sessions.to_vec(), ..over }, &expect);
    }
}
