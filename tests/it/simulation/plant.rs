//! Bugs planted between the simulation and the real code, to see that each is found.

use kas::daemon::{Effect, Input, RunEffect, ShimReport, State};
use kas::lifecycle::{self, Decision, Facts};
use kas::model::{ErrorWord, Exit, RunState};
use kas::policy::TaskLimits;

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    Nothing,
    /// A stop is recorded and nobody is signalled.
    DropsStop,
    /// A shim is started twice.
    SpawnsTwice,
    /// A shim is started together with the writing of its row.
    SpawnsUnrecorded,
    /// An unknown end is called a good one.
    GuessesZero,
    /// An answer is not given.
    ForgetsReply,
    /// An answer is given twice.
    RepliesTwice,
    /// A launch is never too many.
    IgnoresLimits,
    /// A state is entered without its event.
    ForgetsEvent,
    /// An end is not stored.
    ForgetsEnd,
    /// A stop is signalled and not recorded.
    ForgetsWish,
    /// A run over is not let go.
    ForgetsRelease,
    /// History grows for ever.
    NeverCulls,
    /// A shim that lives is called lost after a restart.
    GivesUp,
    /// An exit record is not read after a restart.
    IgnoresRecord,
    /// A gate that was closed stays closed after a restart.
    LeavesGate,
    /// A run given up by a restart is called over while it ends.
    HurriesGiveUp,
    /// A launch that a daemon died before is given up.
    ForgetsLaunch,
    /// What may have begun is begun once more.
    BeginsTwice,
    /// A replacement is started before the run that it replaces is over.
    HurriesReplacement,
}

impl Plant {
    pub(super) const ALL: [Self; 19] = [
        Self::DropsStop,
        Self::SpawnsTwice,
        Self::SpawnsUnrecorded,
        Self::GuessesZero,
        Self::ForgetsReply,
        Self::RepliesTwice,
        Self::IgnoresLimits,
        Self::ForgetsEvent,
        Self::ForgetsEnd,
        Self::ForgetsWish,
        Self::ForgetsRelease,
        Self::NeverCulls,
        Self::GivesUp,
        Self::IgnoresRecord,
        Self::LeavesGate,
        Self::HurriesGiveUp,
        Self::ForgetsLaunch,
        Self::BeginsTwice,
        Self::HurriesReplacement,
    ];

    /// The real step, with the bug around it.
    pub(super) fn meddle(
        self,
        state: &mut State,
        input: Input,
        step: impl FnOnce(&mut State, Input) -> Vec<Effect>,
    ) -> Vec<Effect> {
        if self == Self::IgnoresLimits {
            let limits = state.limits;
            state.limits = TaskLimits { per_project: usize::MAX - 1, per_operator: usize::MAX - 1 };
            let effects = step(state, input);
            state.limits = limits;
            return effects;
        }
        let input = match (self, input) {
            (Self::HurriesGiveUp, Input::Shim { id, report: ShimReport::GiveUp(word) }) => {
                Input::Shim { id, report: ShimReport::Lost(word, None) }
            }
            (_, input) => input,
        };
        if self == Self::HurriesReplacement
            && let Input::Recorded { id, result: Ok(None) } = &input
            && let Some(live) = state.live.get_mut(id)
        {
            live.replaces = None;
        }
        step(state, input).into_iter().flat_map(|effect| self.bend(effect)).collect()
    }

    /// What becomes of one effect.
    fn bend(self, effect: Effect) -> Vec<Effect> {
        match (self, effect) {
            (Self::DropsStop, Effect::StopTree(_)) | (Self::NeverCulls, Effect::Cull { .. }) => Vec::new(),
            (Self::ForgetsReply, Effect::Reply { to, .. }) if to.0 % 4 == 0 => Vec::new(),
            (Self::RepliesTwice, Effect::Reply { to, answer }) if to.0 % 4 == 0 => {
                vec![Effect::Reply { to, answer: answer.clone() }, Effect::Reply { to, answer }]
            }
            (_, Effect::Run { id, effect }) => {
                self.bend_run(*effect).into_iter().map(|it| it.on(id)).collect()
            }
            (_, other) => vec![other],
        }
    }

    fn bend_run(self, mut effect: RunEffect) -> Vec<RunEffect> {
        match (self, &mut effect) {
            (Self::SpawnsTwice, RunEffect::Spawn { .. }) => return vec![effect.clone(), effect],
            (Self::SpawnsUnrecorded, RunEffect::RecordLaunch { instance, plan }) => {
                let spawn = RunEffect::Spawn { plan: plan.clone(), backend: instance.backend };
                return vec![spawn, RunEffect::OpenGate, effect];
            }
            (Self::GuessesZero, RunEffect::Finish { run, .. }) if run.instance.error.is_some() => {
                run.instance.state = RunState::Done;
                (run.instance.exit, run.instance.error) = (Some(Exit::Code(0)), None);
            }
            (
                Self::ForgetsEvent,
                RunEffect::RecordChange { events, .. } | RunEffect::Finish { events, .. },
            ) => {
                events.clear();
            }
            (Self::ForgetsWish, RunEffect::RecordChange { run, .. }) => run.stop = None,
            (Self::ForgetsEnd, RunEffect::Finish { .. }) | (Self::ForgetsRelease, RunEffect::Release) => {
                return Vec::new();
            }
            _ => {}
        }
        vec![effect]
    }

    /// The real decisions, with the bug behind them.
    pub(super) fn decide(self, facts: &Facts) -> Vec<Decision> {
        let bend = |decision| match (self, decision) {
            (Self::GivesUp, Decision::Adopt(id)) => {
                Decision::Lost { id, word: ErrorWord::ShimLost, end: None }
            }
            (Self::IgnoresRecord, Decision::Finish(id, _)) => {
                Decision::Lost { id, word: ErrorWord::ShimLost, end: None }
            }
            (Self::LeavesGate, Decision::Adopt(id)) => Decision::Wait(id),
            (Self::ForgetsLaunch, Decision::Begin(id)) => Decision::NeverStarted(id),
            (Self::BeginsTwice, Decision::Lost { id, end: None, .. }) => Decision::Begin(id),
            (_, decision) => decision,
        };
        lifecycle::decide(facts).into_iter().map(bend).collect()
    }
}
