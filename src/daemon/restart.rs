//! Launches that do not begin at once: one that replaces a run begins when that is over, and one that a daemon died before begins with the
//! next. Decides only, as [`super::step()`] does.

use super::effect::{Effect, RunEffect};
use super::input::{Plan, Reply, ReplyId};
use super::refusal::{Code, Refusal};
use super::state::{Live, Phase, State};
use super::step::{answer, ask_to_stop, begin, finish, launched_before, may_launch, start};
use super::view::Launched;
use crate::lifecycle::Event;
use crate::model::{Actor, BackendKind, InstanceId, RunState, TimeMs};

/// A run is to be ended, if it is not over, and launched again. Everything that can refuse comes first, then the replacement takes its place
/// and is recorded, and only then the run is asked to stop: from the first word on either the run goes on or its replacement is certain.
pub(super) fn restart(
    state: &mut State,
    reply: ReplyId,
    actor: &Actor,
    plan: Plan,
    now: TimeMs,
) -> Vec<Effect> {
    if let Some(same) = state.live.values_mut().find(|live| live.is_launch_of(&plan, &actor.operator)) {
        return launched_before(same, reply);
    }
    let old = plan.restarted_from;
    let other = |live: &&Live| {
        let instance = &live.run.instance;
        old.is_some() && instance.restarted_from == old && instance.state == RunState::Starting
    };
    if let Some(other) = state.live.values().find(other) {
        let id = other.run.instance.id.to_string();
        let message = format!("The run is being restarted already: {id} takes its place.");
        let refusal = Refusal::new(Code::Conflict, message).reason("restarting").detail("id", id);
        return answer(reply, Err(refusal));
    }
    let is_old = |live: &Live| Some(live.run.instance.id) == old;
    if let Err(refusal) = may_launch(state, &plan.project, &actor.operator, is_old) {
        return answer(reply, Err(refusal));
    }
    let replaces = old.filter(|old| state.live.contains_key(old));
    begin(state, Phase::Recording { reply, confirmed: false }, actor, plan, replaces, now)
}

/// A replacement is recorded: the run that it replaces is asked to stop.
pub(super) fn replace(state: &mut State, id: InstanceId, now: TimeMs) -> Vec<Effect> {
    let Some(live) = state.live.get_mut(&id) else { return Vec::new() };
    live.phase = Phase::Due;
    if live.run.stop.is_some() {
        // It was stopped before it was recorded: then nothing is to be replaced.
        return finish(live, Event::TreeGone, None, now);
    }
    let (old, by) = (live.replaces, live.run.instance.launched_by.clone());
    let old = old.and_then(|old| state.live.get_mut(&old));
    old.map_or_else(Vec::new, |old| ask_to_stop(old, &by, now))
}

/// A run is gone: what waited for it to be over goes on, and its launch is answered where that still waits.
pub(super) fn after(state: &mut State, gone: &Live) -> Vec<Effect> {
    let id = gone.run.instance.id;
    let mut effects: Vec<Effect> = launched(gone).collect();
    // It was a replacement itself, and what it was to replace is still ending.
    let before = gone.replaces.filter(|before| state.live.contains_key(before));
    for live in state.live.values_mut().filter(|live| live.replaces == Some(id)) {
        live.replaces = before;
        if before.is_none() && live.phase == Phase::Due {
            effects.extend(launched(live));
            live.also.clear();
            effects.extend(start(live));
        }
    }
    effects
}

/// Answers a launch to the callers that still wait for it.
fn launched(live: &Live) -> impl Iterator<Item = Effect> {
    let reply = Reply::Launched(Launched::Instance(Box::new(live.run.instance.clone())));
    let told = if live.is_recorded() { live.also.as_slice() } else { &[] };
    told.iter().flat_map(move |to| answer(*to, Ok(reply.clone())))
}

/// Begins what an earlier daemon was away before, as if it were asked for now: the limits hold, and launches are begun in their order. One
/// that replaces a run which is not over ends that first.
pub(super) fn begin_again(
    state: &mut State,
    plan: Plan,
    refused: Option<String>,
    now: TimeMs,
) -> Vec<Effect> {
    let (id, backend) = (plan.id, state.backend);
    let replaces = plan.restarted_from.filter(|old| state.live.contains_key(old));
    let Some(live) = state.live.get_mut(&id).filter(|live| live.plan.is_none()) else { return Vec::new() };
    let mut effects = vec![RunEffect::Clear { project: plan.project.clone() }.on(id)];
    (live.phase, live.replaces, live.plan) = (Phase::Due, replaces, Some(plan.clone()));
    if live.run.stop.is_some() {
        effects.extend(finish(live, Event::TreeGone, None, now));
        return effects;
    }
    if backend == BackendKind::Pty {
        live.run.instance.backend = backend;
    }
    let by = live.run.instance.launched_by.clone();
    let later = |live: &Live| live.phase == Phase::Due && live.run.instance.id >= id;
    let refused = refused.or_else(|| may_launch(state, &plan.project, &by, later).err().map(|it| it.message));
    let Some(live) = state.live.get_mut(&id) else { return effects };
    match (refused, replaces) {
        (Some(text), _) => {
            tracing::error!(%id, "a launch that was recorded cannot be carried out any more: {text}");
            effects.extend(finish(live, Event::SpawnFailed { text }, None, now));
        }
        (None, Some(_)) => effects.extend(replace(state, id, now)),
        (None, None) => {
            tracing::info!(%id, "the daemon was away before this launch began: it begins");
            effects.extend(start(live));
        }
    }
    effects
}
