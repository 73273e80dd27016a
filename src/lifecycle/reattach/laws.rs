//! What holds of the decisions whatever is recorded and found.

use proptest::prelude::*;

use super::*;
use crate::model::{BackendKind, ErrorWord, Exit, InstanceId, RunState, TimeMs};

const END: EndRecord = EndRecord { exit: Exit::Code(3), total: 12, at: TimeMs(99) };

fn id(n: u128) -> InstanceId {
    InstanceId::from_parts(1, n)
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    proptest::sample::select(all.to_vec())
}

fn any_name() -> impl Strategy<Value = WindowName> {
    ("kaged-[ab]", "task-[ab]")
}

fn any_run() -> impl Strategy<Value = Recorded> {
    let kinds = (one_of(&RunState::ALL), one_of(&BackendKind::ALL));
    let boot = one_of(&[Boot::This, Boot::Earlier, Boot::Unknown]);
    (0..6u128, kinds, prop::option::of(any_name()), boot)
        .prop_map(|(n, (state, backend), window, boot)| Recorded { id: id(n), state, backend, window, boot })
}

fn any_dir() -> impl Strategy<Value = FoundDir> {
    let shim = one_of(&[Shim::Gone, Shim::Silent, Shim::AtGate, Shim::Live]);
    let boot = one_of(&[Boot::This, Boot::Earlier, Boot::Unknown]);
    let holds = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..6u128, any::<bool>(), shim, boot, holds).prop_map(
        |(n, ended, shim, boot, (ran, output, only_copy, left))| FoundDir {
            id: id(n),
            end: ended.then_some(END),
            shim,
            boot,
            ran,
            output,
            only_copy,
            left,
        },
    )
}

fn any_window() -> impl Strategy<Value = FoundWindow> {
    (0..6u128, any_name(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(n, name, live, made_here, registered)| FoundWindow { id: id(n), name, live, made_here, registered },
    )
}

fn any_session() -> impl Strategy<Value = FoundSession> {
    ("kaged-[a-c]", any::<bool>()).prop_map(|(name, registered)| FoundSession { name, registered })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let lists = (prop::collection::vec(any_run(), 0..6), prop::collection::vec(any_dir(), 0..6));
    let shown = (prop::collection::vec(any_session(), 0..3), prop::collection::vec(any_window(), 0..6));
    let tmux = one_of(&[Server::Up, Server::Down, Server::Unknown]);
    let choice = one_of(&[OnRestart::Reattach, OnRestart::Fail]);
    (lists, shown, tmux, choice).prop_map(
        |((mut recorded, mut dirs), (mut sessions, mut windows), tmux, on_restart)| {
            recorded.sort_by_key(|run| run.id);
            recorded.dedup_by_key(|run| run.id);
            dirs.sort_by_key(|dir| dir.id);
            dirs.dedup_by_key(|dir| dir.id);
            if tmux != Server::Up {
                sessions.clear();
                windows.clear();
            }
            Facts { recorded, dirs, sessions, windows, tmux, on_restart }
        },
    )
}

/// Carries the decisions out, as far as later decisions can see.
fn apply(facts: &mut Facts, decisions: &[Decision]) {
    for decision in decisions {
        match decision {
            Decision::Finish(id, _) | Decision::NeverStarted(id) => set(facts, *id, RunState::Failed),
            Decision::Begin(id) => {
                facts.dirs.retain(|dir| dir.id != *id);
                let boot = Boot::This;
                let (shim, ran) = (Shim::AtGate, true);
                let (output, only_copy, left) = (false, false, false);
                let new = FoundDir { id: *id, end: None, shim, boot, ran, output, only_copy, left };
                facts.dirs.push(new);
            }
            Decision::Lost { id, end, .. } => {
                set(facts, *id, RunState::Failed);
                end.iter().for_each(|shim| leave(facts, shim.id()));
            }
            Decision::EndShim(shim) => leave(facts, shim.id()),
            Decision::EndTree(tree) => {
                let id = tree.id();
                facts.dirs.iter_mut().filter(|dir| dir.id == id).for_each(|dir| dir.left = false);
            }
            Decision::Salvage(id) => {
                facts.dirs.iter_mut().filter(|dir| dir.id == *id).for_each(|dir| dir.only_copy = false);
            }
            Decision::Discard(dead) => facts.dirs.retain(|dir| dir.id != dead.id()),
            Decision::CloseWindow(dead) => {
                facts.windows.retain(|window| window.id != dead.id() || window.live);
            }
            Decision::Repair(id, name) => {
                let run = facts.recorded.iter_mut().find(|run| run.id == *id).unwrap();
                run.window.clone_from(name);
            }
            Decision::Adopt(_)
            | Decision::Wait(_)
            | Decision::OrphanDir(_)
            | Decision::OrphanWindow(_)
            | Decision::OrphanSession(_) => {}
        }
    }
}

fn set(facts: &mut Facts, id: InstanceId, state: RunState) {
    facts.recorded.iter_mut().filter(|run| run.id == id).for_each(|run| run.state = state);
}

/// A shim leaves, and with it the process in its window.
fn leave(facts: &mut Facts, id: InstanceId) {
    facts
        .dirs
        .iter_mut()
        .filter(|dir| dir.id == id)
        .for_each(|dir| (dir.shim, dir.left) = (Shim::Gone, false));
    facts.windows.iter_mut().filter(|window| window.id == id).for_each(|window| window.live = false);
}

fn fate_of(facts: &Facts, wanted: InstanceId) -> Option<Decision> {
    decide(facts).into_iter().find(|decision| decision.run() == Some(wanted))
}

fn dir_of(facts: &Facts, id: InstanceId) -> Option<FoundDir> {
    facts.dirs.iter().find(|dir| dir.id == id).copied()
}

fn with_dir(facts: &Facts, changed: FoundDir) -> Facts {
    let mut facts = facts.clone();
    facts.dirs.iter_mut().filter(|dir| dir.id == changed.id).for_each(|dir| *dir = changed);
    facts
}

proptest! {
    #[test]
    fn only_what_showed_its_nonce_is_ended(facts in any_facts()) {
        for decision in decide(&facts) {
            if let Decision::EndShim(shim) | Decision::Lost { end: Some(shim), .. } = decision {
                let found = dir_of(&facts, shim.id()).map(|dir| dir.shim);
                prop_assert!(matches!(found, Some(Shim::AtGate | Shim::Live)));
            }
        }
    }

    #[test]
    fn only_dead_windows_of_nobody_that_were_made_here_are_closed(facts in any_facts()) {
        for decision in decide(&facts) {
            if let Decision::CloseWindow(dead) = decision {
                let id = dead.id();
                prop_assert!(facts.windows.iter().any(|it| it.id == id && !it.live && it.made_here && it.registered));
                let recorded = facts.recorded.iter().find(|run| run.id == id);
                let unknown = recorded.is_none() && dir_of(&facts, id).is_none();
                prop_assert!(unknown || recorded.is_some_and(|run| run.backend == BackendKind::Pty));
            }
        }
    }

    #[test]
    fn nothing_is_removed_that_lives_or_holds_the_only_copy(facts in any_facts()) {
        for decision in decide(&facts) {
            if let Decision::Discard(dead) = decision {
                let dir = dir_of(&facts, dead.id()).unwrap();
                let stored = facts.recorded.iter().any(|run| run.id == dir.id && run.state.is_terminal());
                prop_assert!(dir.shim == Shim::Gone && (stored && !dir.only_copy || !dir.output));
            }
        }
    }

    #[test]
    fn deciding_again_changes_nothing(mut facts in any_facts()) {
        // After the end of a tree a run is decided anew; what is begun then is taken up, with its new window.
        for _ in 0..3 {
            let first = decide(&facts);
            apply(&mut facts, &first);
        }
        let settled = facts.recorded.clone();
        // What is let go leaves a directory, which goes the next time.
        for _ in 0..3 {
            let again = decide(&facts);
            apply(&mut facts, &again);
        }
        prop_assert_eq!(&facts.recorded, &settled);
        for decision in decide(&facts) {
            let steady = matches!(
                decision,
                Decision::Adopt(_) | Decision::Wait(_) | Decision::OrphanDir(_) | Decision::OrphanWindow(_)
                    | Decision::OrphanSession(_)
            );
            prop_assert!(steady, "{decision:?}");
        }
    }

    #[test]
    fn every_run_that_is_not_over_has_one_fate(facts in any_facts()) {
        let decisions = decide(&facts);
        for run in facts.recorded.iter().filter(|run| !run.state.is_terminal()) {
            prop_assert_eq!(decisions.iter().filter(|it| it.run() == Some(run.id)).count(), 1);
        }
    }

    /// What is found besides cannot turn a known end into an unknown one, or into another.
    #[test]
    fn an_exit_record_decides_whatever_else_is_found(facts in any_facts(), shim in any_dir(), n in 0..6u128) {
        let Some(dir) = dir_of(&facts, id(n)) else { return Ok(()) };
        let ended = with_dir(&facts, FoundDir { end: Some(END), left: false, ..dir });
        let Some(run) = facts.recorded.iter().find(|run| run.id == id(n)) else { return Ok(()) };
        if run.state.is_terminal() {
            return Ok(());
        }
        prop_assert_eq!(fate_of(&ended, id(n)), Some(Decision::Finish(id(n), END)));
        let more = with_dir(&ended, FoundDir { id: id(n), end: Some(END), left: false, ..shim });
        prop_assert_eq!(fate_of(&more, id(n)), Some(Decision::Finish(id(n), END)));
    }

    /// Nothing is called over whose processes live, and nothing else of them is ended than what was proved.
    #[test]
    fn a_tree_that_is_left_is_ended_first(facts in any_facts(), n in 0..6u128) {
        let Some(dir) = dir_of(&facts, id(n)) else { return Ok(()) };
        let is_left = dir.left && dir.shim == Shim::Gone;
        let fate = fate_of(&facts, id(n));
        let recorded = facts.recorded.iter().any(|run| run.id == id(n));
        prop_assert_eq!(matches!(fate, Some(Decision::EndTree(_))), is_left && recorded, "{:?}", fate);
    }

    /// A shim that is silent leaves everything open; when it speaks or is gone, only then something is decided.
    #[test]
    fn silence_decides_nothing(facts in any_facts(), n in 0..6u128) {
        let Some(dir) = dir_of(&facts, id(n)).filter(|dir| dir.end.is_none()) else { return Ok(()) };
        let silent = fate_of(&with_dir(&facts, FoundDir { shim: Shim::Silent, ..dir }), id(n));
        prop_assert!(matches!(silent, Some(Decision::Wait(_) | Decision::OrphanDir(_))), "{silent:?}");
    }

    /// A shim that lives is never given up as lost or never started, whatever else is missing.
    #[test]
    fn a_living_shim_is_never_called_lost(facts in any_facts(), n in 0..6u128) {
        let Some(dir) = dir_of(&facts, id(n)) else { return Ok(()) };
        let live = with_dir(&facts, FoundDir { shim: Shim::Live, ..dir });
        let fate = fate_of(&live, id(n));
        let unknown = |word: &ErrorWord| *word != ErrorWord::DaemonRestart;
        prop_assert!(!matches!(&fate, Some(Decision::Begin(_) | Decision::NeverStarted(_) | Decision::Discard(_))), "{fate:?}");
        prop_assert!(!matches!(&fate, Some(Decision::Lost { word, .. }) if unknown(word)), "{fate:?}");
    }

    /// What may have begun is never begun again, and neither is what another boot of the machine may have begun.
    #[test]
    fn only_what_certainly_never_began_is_begun(facts in any_facts()) {
        for decision in decide(&facts) {
            let Decision::Begin(id) = decision else { continue };
            let run = facts.recorded.iter().find(|run| run.id == id).unwrap();
            let dir = dir_of(&facts, id);
            prop_assert_eq!(run.state, RunState::Starting);
            prop_assert!(dir.is_none_or(|dir| dir.end.is_none() && dir.shim == Shim::Gone && !dir.ran));
            let boots = [Some(run.boot), dir.map(|dir| dir.boot)];
            prop_assert!(boots.contains(&Some(Boot::This)));
            prop_assert!(dir.is_none_or(|dir| dir.boot != Boot::Earlier));
        }
    }

    /// What is known of one run has no part in the fate of another.
    #[test]
    fn runs_are_decided_apart(facts in any_facts(), n in 0..6u128) {
        let mut alone = facts.clone();
        alone.recorded.retain(|run| run.id == id(n));
        alone.dirs.retain(|dir| dir.id == id(n));
        alone.windows.retain(|window| window.id == id(n));
        prop_assert_eq!(fate_of(&alone, id(n)), fate_of(&facts, id(n)));
    }
}
