//! What to do with each run after the daemon was away: recorded × found -> decision.

use std::collections::BTreeMap;

use crate::model::{BackendKind, ErrorWord, Exit, InstanceId, RunState, TimeMs};

/// A run as the store has it: every one that is not over, and the others for which a directory was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The run.
    pub id: InstanceId,
    /// Its recorded state.
    pub state: RunState,
    /// What holds it.
    pub backend: BackendKind,
}

/// What answered for an instance directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shim {
    /// No process of this instance lives.
    Gone,
    /// Something may live, but did not prove itself with the instance's nonce; it is not touched.
    Silent,
    /// It proved itself and waits at its gate; the command has not run.
    AtGate,
    /// It proved itself and holds the command, or waits for its end to be acknowledged.
    Live,
}

impl Shim {
    /// Whether the shim showed the nonce, so that it may be told to end.
    #[must_use]
    pub const fn is_proved(self) -> bool {
        matches!(self, Self::AtGate | Self::Live)
    }
}

/// The end as the shim wrote it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRecord {
    /// How the command ended.
    pub exit: Exit,
    /// The offset after its last byte of output.
    pub total: u64,
    /// When it ended.
    pub at: TimeMs,
}

/// An instance directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundDir {
    /// The instance it is named after.
    pub id: InstanceId,
    /// Its exit record, if there is one.
    pub end: Option<EndRecord>,
    /// Who answered for it.
    pub shim: Shim,
    /// Whether it was made since the machine started.
    pub same_boot: bool,
    /// Whether the gate was ever opened, as far as the directory shows.
    pub ran: bool,
}

/// A tmux session of kas's naming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSession {
    /// Its name.
    pub name: String,
    /// Whether its project is registered.
    pub registered: bool,
}

/// What a restart of the daemon does to runs on a PTY (`pty_on_restart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnRestart {
    /// They are adopted.
    Reattach,
    /// They are ended and `failed` with `daemon_restart` (`seeds/004`).
    Fail,
}

/// Everything the decisions are made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Runs of the store.
    pub recorded: Vec<Recorded>,
    /// Directories of the state directory.
    pub dirs: Vec<FoundDir>,
    /// Sessions of the tmux server; empty without one.
    pub sessions: Vec<FoundSession>,
    /// Whether a tmux server answers.
    pub tmux_up: bool,
    /// The operator's choice for PTY runs.
    pub on_restart: OnRestart,
}

/// What to do with one run, directory or session.
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
        /// Whether its shim proved itself and is to be ended, with its process tree.
        end_shim: bool,
    },
    /// Its command never ran: record `failed` with `spawn_failed`.
    NeverStarted(InstanceId),
    /// Something may live and did not prove itself: touch nothing, look again later.
    Wait(InstanceId),
    /// The run is over but its shim, which proved itself, lives: acknowledge and end it.
    EndShim(InstanceId),
    /// The run is over and nothing lives: remove the directory.
    Discard(InstanceId),
    /// A directory of no recorded run: say so, leave it alone.
    OrphanDir(InstanceId),
    /// A session of no registered project: say so, leave it alone.
    OrphanSession(String),
}

/// Decides for everything recorded or found, each once. Nothing is ended without proof; deciding again after the
/// decisions were carried out changes nothing.
#[must_use]
pub fn decide(facts: &Facts) -> Vec<Decision> {
    let dirs: BTreeMap<_, _> = facts.dirs.iter().map(|dir| (dir.id, dir)).collect();
    let recorded: BTreeMap<_, _> = facts.recorded.iter().map(|run| (run.id, run)).collect();
    let runs = recorded.values().filter_map(|run| of_run(run, dirs.get(&run.id).copied(), facts));
    let strays = dirs.keys().filter(|id| !recorded.contains_key(id)).map(|id| Decision::OrphanDir(*id));
    let sessions = facts.sessions.iter().filter(|session| !session.registered);
    let orphans = sessions.map(|session| Decision::OrphanSession(session.name.clone()));
    runs.chain(strays).chain(orphans).collect()
}

fn of_run(run: &Recorded, dir: Option<&FoundDir>, facts: &Facts) -> Option<Decision> {
    let id = run.id;
    match dir {
        None if run.state.is_terminal() => None,
        None if run.state == RunState::Starting => Some(Decision::NeverStarted(id)),
        None => Some(Decision::Lost { id, word: ErrorWord::ShimLost, end_shim: false }),
        Some(dir) if run.state.is_terminal() => Some(after_the_end(dir)),
        Some(dir) => Some(unfinished(run, dir, facts)),
    }
}

const fn after_the_end(dir: &FoundDir) -> Decision {
    match dir.shim {
        Shim::Gone => Decision::Discard(dir.id),
        Shim::Silent => Decision::Wait(dir.id),
        Shim::AtGate | Shim::Live => Decision::EndShim(dir.id),
    }
}

fn unfinished(run: &Recorded, dir: &FoundDir, facts: &Facts) -> Decision {
    let id = run.id;
    if let Some(end) = dir.end {
        return Decision::Finish(id, end);
    }
    let given_up = run.backend == BackendKind::Pty && facts.on_restart == OnRestart::Fail;
    match dir.shim {
        Shim::Silent => Decision::Wait(id),
        Shim::AtGate | Shim::Live if given_up => {
            Decision::Lost { id, word: ErrorWord::DaemonRestart, end_shim: true }
        }
        Shim::AtGate | Shim::Live => Decision::Adopt(id),
        // After a power loss a missing journal proves nothing: it may have been lost with what was not synced.
        Shim::Gone if run.state == RunState::Starting && !dir.ran && dir.same_boot => {
            Decision::NeverStarted(id)
        }
        Shim::Gone => Decision::Lost { id, word: why_gone(run, dir, facts), end_shim: false },
    }
}

const fn why_gone(run: &Recorded, dir: &FoundDir, facts: &Facts) -> ErrorWord {
    match run.backend {
        _ if !dir.same_boot => ErrorWord::HostRestart,
        BackendKind::Tmux if !facts.tmux_up => ErrorWord::TmuxCrash,
        BackendKind::Tmux | BackendKind::Pty => ErrorWord::ShimLost,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: EndRecord = EndRecord { exit: Exit::Code(3), total: 12, at: TimeMs(99) };

    fn id(n: u128) -> InstanceId {
        InstanceId::from_parts(1, n)
    }

    fn run(state: RunState, backend: BackendKind) -> Recorded {
        Recorded { id: id(1), state, backend }
    }

    fn dir(shim: Shim) -> FoundDir {
        FoundDir { id: id(1), end: None, shim, same_boot: true, ran: true }
    }

    fn facts(run: Recorded, dir: Option<FoundDir>) -> Facts {
        Facts {
            recorded: vec![run],
            dirs: dir.into_iter().collect(),
            sessions: Vec::new(),
            tmux_up: true,
            on_restart: OnRestart::Reattach,
        }
    }

    fn lost(word: ErrorWord, end_shim: bool) -> Decision {
        Decision::Lost { id: id(1), word, end_shim }
    }

    fn check(facts: &Facts, expect: &[Decision]) {
        assert_eq!(decide(facts), expect, "{facts:?}");
    }

    #[test]
    fn a_live_shim_is_adopted_and_an_exit_record_is_believed() {
        for backend in BackendKind::ALL {
            for state in [RunState::Starting, RunState::Running] {
                let run = run(state, backend);
                check(&facts(run, Some(dir(Shim::Live))), &[Decision::Adopt(id(1))]);
                check(&facts(run, Some(dir(Shim::AtGate))), &[Decision::Adopt(id(1))]);
                for shim in [Shim::Gone, Shim::Silent, Shim::AtGate, Shim::Live] {
                    let ended = FoundDir { end: Some(END), same_boot: false, ..dir(shim) };
                    check(&facts(run, Some(ended)), &[Decision::Finish(id(1), END)]);
                }
            }
        }
    }

    #[test]
    fn an_unknown_end_is_said_with_its_reason() {
        let (tmux, pty) =
            (run(RunState::Running, BackendKind::Tmux), run(RunState::Running, BackendKind::Pty));
        let gone = dir(Shim::Gone);
        check(&facts(pty, Some(gone)), &[lost(ErrorWord::ShimLost, false)]);
        check(&facts(pty, None), &[lost(ErrorWord::ShimLost, false)]);
        check(&facts(tmux, Some(gone)), &[lost(ErrorWord::ShimLost, false)]);
        let crashed = Facts { tmux_up: false, ..facts(tmux, Some(gone)) };
        check(&crashed, &[lost(ErrorWord::TmuxCrash, false)]);
        let rebooted = FoundDir { same_boot: false, ..gone };
        check(
            &Facts { tmux_up: false, ..facts(tmux, Some(rebooted)) },
            &[lost(ErrorWord::HostRestart, false)],
        );
    }

    #[test]
    fn a_command_that_never_ran_is_not_called_lost() {
        let starting = run(RunState::Starting, BackendKind::Tmux);
        check(&facts(starting, None), &[Decision::NeverStarted(id(1))]);
        let unopened = FoundDir { ran: false, ..dir(Shim::Gone) };
        check(&facts(starting, Some(unopened)), &[Decision::NeverStarted(id(1))]);
        let rebooted = FoundDir { same_boot: false, ..unopened };
        check(&facts(starting, Some(rebooted)), &[lost(ErrorWord::HostRestart, false)]);
        check(&facts(starting, Some(dir(Shim::Gone))), &[lost(ErrorWord::ShimLost, false)]);
    }

    #[test]
    fn pty_runs_are_given_up_only_where_the_operator_said_so_and_only_with_proof() {
        let fail = |facts| Facts { on_restart: OnRestart::Fail, ..facts };
        let (tmux, pty) =
            (run(RunState::Running, BackendKind::Tmux), run(RunState::Running, BackendKind::Pty));
        check(&fail(facts(pty, Some(dir(Shim::Live)))), &[lost(ErrorWord::DaemonRestart, true)]);
        check(&fail(facts(pty, Some(dir(Shim::Silent)))), &[Decision::Wait(id(1))]);
        check(&fail(facts(tmux, Some(dir(Shim::Live)))), &[Decision::Adopt(id(1))]);
    }

    #[test]
    fn what_nobody_recorded_is_left_alone() {
        let mut facts = facts(run(RunState::Done, BackendKind::Pty), None);
        facts.dirs.push(FoundDir { id: id(2), ..dir(Shim::Live) });
        facts.sessions = vec![
            FoundSession { name: "kaged-old".to_owned(), registered: false },
            FoundSession { name: "kaged-demo".to_owned(), registered: true },
        ];
        check(&facts, &[Decision::OrphanDir(id(2)), Decision::OrphanSession("kaged-old".to_owned())]);
    }

    /// Carries the decisions out, as far as later decisions can see.
    fn apply(facts: &mut Facts, decisions: &[Decision]) {
        for decision in decisions {
            match decision {
                Decision::Finish(id, _) | Decision::NeverStarted(id) => set(facts, *id, RunState::Failed),
                Decision::Lost { id, end_shim, .. } => {
                    set(facts, *id, RunState::Failed);
                    if *end_shim {
                        end(facts, *id);
                    }
                }
                Decision::EndShim(id) => end(facts, *id),
                Decision::Discard(id) => facts.dirs.retain(|dir| dir.id != *id),
                Decision::Adopt(_)
                | Decision::Wait(_)
                | Decision::OrphanDir(_)
                | Decision::OrphanSession(_) => {}
            }
        }
    }

    fn set(facts: &mut Facts, id: InstanceId, state: RunState) {
        facts.recorded.iter_mut().filter(|run| run.id == id).for_each(|run| run.state = state);
    }

    fn end(facts: &mut Facts, id: InstanceId) {
        facts.dirs.iter_mut().filter(|dir| dir.id == id).for_each(|dir| dir.shim = Shim::Gone);
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let states = proptest::sample::select(RunState::ALL.to_vec());
        let backends = proptest::sample::select(BackendKind::ALL.to_vec());
        let run = (0..6u128, states, backends).prop_map(|(n, state, backend)| Recorded {
            id: id(n),
            state,
            backend,
        });
        let shims = proptest::sample::select(vec![Shim::Gone, Shim::Silent, Shim::AtGate, Shim::Live]);
        let dir = (0..6u128, any::<bool>(), shims, any::<bool>(), any::<bool>()).prop_map(
            |(n, ended, shim, same_boot, ran)| FoundDir {
                id: id(n),
                end: ended.then_some(END),
                shim,
                same_boot,
                ran,
            },
        );
        let choice = proptest::sample::select(vec![OnRestart::Reattach, OnRestart::Fail]);
        let lists = (prop::collection::vec(run, 0..6), prop::collection::vec(dir, 0..6));
        (lists, any::<bool>(), choice).prop_map(|((mut recorded, mut dirs), tmux_up, on_restart)| {
            recorded.sort_by_key(|run| run.id);
            recorded.dedup_by_key(|run| run.id);
            dirs.sort_by_key(|dir| dir.id);
            dirs.dedup_by_key(|dir| dir.id);
            Facts { recorded, dirs, sessions: Vec::new(), tmux_up, on_restart }
        })
    }

    proptest! {
        #[test]
        fn nothing_is_ended_without_proof(facts in any_facts()) {
            let shim = |id: InstanceId| facts.dirs.iter().find(|dir| dir.id == id).map(|dir| dir.shim);
            for decision in decide(&facts) {
                if let Decision::EndShim(id) | Decision::Lost { id, end_shim: true, .. } = decision {
                    prop_assert!(shim(id).is_some_and(Shim::is_proved));
                }
            }
        }

        #[test]
        fn deciding_twice_changes_nothing(mut facts in any_facts()) {
            let first = decide(&facts);
            apply(&mut facts, &first);
            let settled = facts.recorded.clone();
            for _ in 0..3 {
                let again = decide(&facts);
                apply(&mut facts, &again);
            }
            prop_assert_eq!(&facts.recorded, &settled);
            let steady = |it: &Decision| matches!(it, Decision::Adopt(_) | Decision::Wait(_) | Decision::OrphanDir(_));
            prop_assert!(decide(&facts).iter().all(steady));
        }

        #[test]
        fn every_unfinished_run_gets_one_decision(facts in any_facts()) {
            let decisions = decide(&facts);
            let live = facts.recorded.iter().filter(|run| !run.state.is_terminal());
            for run in live {
                let of_it = decisions.iter().filter(|decision| match decision {
                    Decision::Adopt(id)
                    | Decision::Finish(id, _)
                    | Decision::Lost { id, .. }
                    | Decision::NeverStarted(id)
                    | Decision::Wait(id) => *id == run.id,
                    Decision::EndShim(_)
                    | Decision::Discard(_)
                    | Decision::OrphanDir(_)
                    | Decision::OrphanSession(_) => false,
                });
                prop_assert_eq!(of_it.count(), 1);
            }
        }
    }
}
