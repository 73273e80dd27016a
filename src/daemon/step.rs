//! The one place that decides: an input and the time in, effects out. No I/O, no clock.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::effect::{Effect, RunEffect};
use super::input::{
    Confirmation, DeleteTarget, Input, Placement, Plan, Project, Reached, Reply, ReplyId, ShimReport,
    SpawnFailure,
};
use super::refusal::{Code, Refusal};
use super::restart::{after, begin_again, replace, restart};
use super::state::{Live, Phase, State, wait};
use super::view::{ConfirmRequired, Confirmed, Launched};
use crate::journal::{Cause, Ending, ExitRecord};
use crate::lifecycle::{self, Event, Run};
use crate::model::{
    Actor, BackendKind, ErrorWord, EventKind, Instance, InstanceId, ProjectId, RunState, TaskName, TimeMs,
};
use crate::policy::{Load, Rejected, Subject};
use crate::project::TaskDef;
use crate::store::NewEvent;

/// Decides what an input means, changes the state, and says what is to be done.
pub fn step(state: &mut State, input: Input, now: TimeMs) -> Vec<Effect> {
    match input {
        Input::Launch { reply, actor, plan, ask } => launch(state, reply, &actor, *plan, ask, now),
        Input::Restart { reply, actor, plan } => restart(state, reply, &actor, *plan, now),
        Input::Begin { plan, refused } => begin_again(state, *plan, refused, now),
        Input::Confirm { reply, actor, given } => confirm(state, reply, &actor, *given, now),
        Input::Recorded { id, result } => recorded(state, id, result, now),
        Input::Spawned { id, result } => spawned(state, id, result, now),
        Input::Shim { id, report } => shim(state, id, report, now),
        Input::Finished { id, result } => finished(state, id, result),
        Input::Stop { reply, actor, id } => stop(state, reply, &actor, id, now),
        Input::Delete { reply, target } => delete(state, reply, target),
        Input::AddProject { reply, project, moved_from } => add_project(state, reply, project, moved_from),
        Input::ProjectRecorded { reply, project, result } => project_recorded(state, reply, project, result),
        Input::RemoveProject { reply, actor, id } => remove_project(state, reply, &actor, id, now),
        Input::ProjectRemoved { reply, id, result } => project_removed(state, reply, &id, result),
        Input::ProjectRead { id, path, tasks, problems } => {
            project_read(state, (&id, &path), tasks, problems, now)
        }
        Input::Turn { reply } => answer(reply, Ok(Reply::Done)),
        Input::Limits(limits) => {
            state.limits = limits;
            Vec::new()
        }
    }
}

pub(super) fn answer(to: ReplyId, answer: Result<Reply, Refusal>) -> Vec<Effect> {
    vec![Effect::Reply { to, answer: Box::new(answer) }]
}

fn no_such(what: &str, id: &impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::NotFound, format!("There is no {what} {id}."))
}

// ---- launch

fn launch(
    state: &mut State,
    reply: ReplyId,
    actor: &Actor,
    plan: Plan,
    ask: Option<String>,
    now: TimeMs,
) -> Vec<Effect> {
    if let Some(same) = state.live.values_mut().find(|live| live.is_launch_of(&plan, &actor.operator)) {
        return launched_before(same, reply);
    }
    if let Err(refusal) = may_launch(state, &plan.project, &actor.operator, |_| false) {
        return answer(reply, Err(refusal));
    }
    match (ask, &plan.task) {
        (Some(confirm_id), Some(task)) => {
            let task = task.clone();
            answer(reply, Ok(Reply::Launched(question(state, actor, (confirm_id, task), plan, now))))
        }
        (None, _) | (_, None) => {
            begin(state, Phase::Recording { reply, confirmed: false }, actor, plan, None, now)
        }
    }
}

/// The same launch once more, by its key: the first one's answer, as soon as there is one.
pub(super) fn launched_before(live: &mut Live, reply: ReplyId) -> Vec<Effect> {
    if live.is_recorded() {
        let instance = Box::new(live.run.instance.clone());
        return answer(reply, Ok(Reply::Launched(Launched::Instance(instance))));
    }
    too_many(wait(&mut live.also, reply))
}

/// The answer to a caller in whose place another one waits.
fn too_many(no_longer: Option<ReplyId>) -> Vec<Effect> {
    let Some(to) = no_longer else { return Vec::new() };
    let message = "Too many callers wait for this. What was asked for is done all the same; ask again.";
    answer(to, Err(Refusal::new(Code::Unavailable, message).reason("waiting")))
}

/// Whether there is room for one more run; those that are `gone` by then hold no place.
pub(super) fn may_launch(
    state: &State,
    project: &ProjectId,
    operator: &str,
    gone: impl Fn(&Live) -> bool,
) -> Result<(), Refusal> {
    if !state.projects.contains_key(project) {
        return Err(no_such("project", project));
    }
    if state.removing.contains_key(project) {
        return Err(being_removed(project));
    }
    let counted = || state.places().filter(|live| !gone(live)).map(|live| &live.run.instance);
    let load = Load {
        in_project: counted().filter(|run| run.project_id == *project).count(),
        of_operator: counted().filter(|run| run.launched_by == operator).count(),
    };
    state.limits.allow(load).map_err(|over| {
        Refusal::new(Code::RateLimited, sentence(&over)).reason(over.word()).detail("limit", over.limit())
    })
}

fn being_removed(project: &ProjectId) -> Refusal {
    Refusal::new(Code::Conflict, format!("Project {project} is being removed.")).reason("removing")
}

fn question(
    state: &mut State,
    actor: &Actor,
    (confirm_id, task): (String, TaskName),
    plan: Plan,
    now: TimeMs,
) -> Launched {
    let command = plan.definition.command.clone();
    let message = format!("Task {task} asks for confirmation before it runs.");
    let task_name = task.to_string();
    let subject = Subject { credential: actor.credential.clone(), project: plan.project, task };
    let expires_at = state.confirmations.ask(confirm_id.clone(), subject, plan.definition, now);
    Launched::Confirm(ConfirmRequired { confirm_id, task_name, command, message, expires_at })
}

fn confirm(
    state: &mut State,
    reply: ReplyId,
    actor: &Actor,
    given: Confirmation,
    now: TimeMs,
) -> Vec<Effect> {
    let taken = state.confirmations.take(&given.confirm_id, &actor.credential, &given.project, now);
    let question = match taken {
        Ok(question) => question,
        Err(rejected) => return answer(reply, Err(rejection(rejected))),
    };
    if !given.proceed {
        return answer(reply, Ok(Reply::Confirmed(Confirmed::Cancelled)));
    }
    let task = question.subject.task.clone();
    let defined = given.definitions.iter().find(|(name, _)| *name == task).map(|(_, definition)| definition);
    if let Err(rejected) = question.matches(defined) {
        return answer(reply, Err(rejection(rejected)));
    }
    if let Err(refusal) = may_launch(state, &given.project, &actor.operator, |_| false) {
        return answer(reply, Err(refusal));
    }
    let tasks = state.projects.get(&given.project).map(|project| project.tasks.clone()).unwrap_or_default();
    let history = tasks.iter().find(|def| def.name == task).and_then(history_of);
    let plan = Plan {
        id: given.id,
        project: given.project,
        task: Some(task),
        definition: question.definition,
        history,
        restarted_from: None,
        idempotency_key: None,
    };
    begin(state, Phase::Recording { reply, confirmed: true }, actor, plan, None, now)
}

fn rejection(rejected: Rejected) -> Refusal {
    let message = sentence(&rejected);
    match rejected {
        Rejected::Gone => Refusal::new(Code::Gone, message).reason("confirm_expired"),
        Rejected::Changed => Refusal::new(Code::Conflict, message).reason("definition_changed"),
    }
}

/// How many ended runs of a task are kept, with their windows; `None` when it keeps no history.
#[must_use]
pub(super) fn history_of(task: &TaskDef) -> Option<u8> {
    task.history.then_some(task.history_count)
}

/// An error's words as a sentence for people.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// Takes a place, and has the launch recorded.
pub(super) fn begin(
    state: &mut State,
    phase: Phase,
    actor: &Actor,
    plan: Plan,
    replaces: Option<InstanceId>,
    now: TimeMs,
) -> Vec<Effect> {
    let instance = plan.instance(state.backend, &actor.operator, now);
    let live = Live::at(Run::new(instance.clone()), Some(plan.clone()), phase);
    state.live.insert(plan.id, Live { replaces, ..live });
    vec![RunEffect::RecordLaunch { instance, plan: plan.clone() }.on(plan.id)]
}

fn recorded(
    state: &mut State,
    id: InstanceId,
    result: Result<Option<Instance>, Refusal>,
    now: TimeMs,
) -> Vec<Effect> {
    let Some(live) = state.live.get_mut(&id) else { return Vec::new() };
    let Phase::Recording { reply, confirmed } = live.phase else { return Vec::new() };
    let done = |instance: Instance| match confirmed {
        true => Reply::Confirmed(Confirmed::Instance(Box::new(instance))),
        false => Reply::Launched(Launched::Instance(Box::new(instance))),
    };
    let asked: Vec<ReplyId> = [reply].into_iter().chain(std::mem::take(&mut live.also)).collect();
    let tell = |told: Result<Reply, Refusal>| asked.iter().flat_map(move |to| answer(*to, told.clone()));
    let first = match result {
        Ok(None) => None,
        Ok(Some(earlier)) => Some(Ok(done(earlier))),
        Err(refusal) => Some(Err(refusal)),
    };
    if let Some(instead) = first {
        let Some(live) = state.live.remove(&id) else { return Vec::new() };
        let next = after(state, &live);
        let gone = live.waiting.into_iter().flat_map(|to| answer(to, Err(no_such("instance", &id))));
        let rest = removal(state, live.run.instance.project_id);
        return tell(instead).chain(gone).chain(next).chain(rest).collect();
    }
    if live.replaces.is_some() {
        live.also = asked;
        return replace(state, id, now);
    }
    let mut effects: Vec<Effect> = tell(Ok(done(live.run.instance.clone()))).collect();
    effects.extend(start(live));
    effects
}

/// Starts the shim of what is recorded.
pub(super) fn start(live: &mut Live) -> Option<Effect> {
    live.phase = Phase::Spawning;
    let (plan, backend) = (live.plan.clone()?, live.run.instance.backend);
    let id = plan.id;
    Some(RunEffect::Spawn { plan, backend }.on(id))
}

// ---- the shim's reports

fn spawned(
    state: &mut State,
    id: InstanceId,
    result: Result<Placement, SpawnFailure>,
    now: TimeMs,
) -> Vec<Effect> {
    let Some(live) = state.live.get_mut(&id) else { return Vec::new() };
    match result {
        Ok(placement) => placed(live, placement),
        Err(failure) if failure.backend == BackendKind::Tmux && live.run.stop.is_none() => {
            fall_back(live, failure, now)
        }
        Err(failure) => {
            tracing::error!(%id, backend = %failure.backend, "the run could not be started: {}", failure.message);
            let text = failure.message;
            let event = if live.run.stop.is_some() { Event::TreeGone } else { Event::SpawnFailed { text } };
            finish(live, event, None, now)
        }
    }
}

fn placed(live: &mut Live, placement: Placement) -> Vec<Effect> {
    let instance = &mut live.run.instance;
    instance.backend = placement.backend;
    (instance.tmux_session, instance.tmux_window) = placement.window.unzip();
    let id = instance.id;
    if live.run.stop.is_some() {
        return vec![RunEffect::Abort.on(id)];
    }
    live.phase = Phase::Running;
    vec![change(live, Vec::new()), RunEffect::OpenGate.on(id)]
}

fn fall_back(live: &mut Live, failure: SpawnFailure, now: TimeMs) -> Vec<Effect> {
    let instance = &mut live.run.instance;
    tracing::warn!(id = %instance.id, "task_runner.tmux_fallback: tmux failed for this run, it goes on a PTY: {}", failure.message);
    instance.backend = BackendKind::Pty;
    let event = NewEvent::of_run(EventKind::TmuxFallback, now, instance, "").detail("error", failure.message);
    let mut effects = vec![change(live, vec![event])];
    if let Some(plan) = &live.plan {
        effects.push(RunEffect::Spawn { plan: plan.clone(), backend: BackendKind::Pty }.on(plan.id));
    }
    effects
}

fn shim(state: &mut State, id: InstanceId, report: ShimReport, now: TimeMs) -> Vec<Effect> {
    let Some(live) = state.live.get_mut(&id) else { return Vec::new() };
    if live.phase == Phase::Finishing {
        return Vec::new();
    }
    match report {
        ShimReport::Reached(found) => reached(live, found, now),
        ShimReport::Started { pid } => started(live, pid, now),
        // The stop is answered when nothing of the tree lives.
        ShimReport::Exited(record) if live.is_being_ended() && matches!(record.ending, Ending::Exited(_)) => {
            Vec::new()
        }
        ShimReport::Exited(record) | ShimReport::Ended(record) => ended(live, *record, now),
        ShimReport::TmuxGone(record) => {
            live.run.instance.output_bytes = record.total_bytes;
            finish(live, Event::Lost(ErrorWord::TmuxCrash, None), Some(*record), now)
        }
        ShimReport::Lost(..) if live.run.stop.is_some() && live.run.instance.state == RunState::Starting => {
            finish(live, Event::TreeGone, None, now)
        }
        ShimReport::Lost(word, text) => {
            tracing::error!(%id, "the shim is gone and left no exit record: {word}");
            finish(live, Event::Lost(word, text), None, now)
        }
        ShimReport::GiveUp(word) => {
            live.given_up = Some(word);
            vec![Effect::StopTree(id)]
        }
    }
}

/// Goes on where the daemon left off: a closed gate is opened, a stop that was asked for is carried out.
fn reached(live: &mut Live, found: Reached, now: TimeMs) -> Vec<Effect> {
    let instance = &live.run.instance;
    let (id, backend) = (instance.id, instance.backend);
    if found.at_gate {
        let known = || instance.tmux_session.clone().zip(instance.tmux_window.clone());
        let window = found.window.or_else(known);
        let effects = placed(live, Placement { backend, window });
        // A stop that could not be told before is told now, and its end is what is waited for.
        return if live.run.stop.is_some() { vec![Effect::StopTree(id)] } else { effects };
    }
    let effects = found.pid.map_or_else(Vec::new, |pid| started(live, pid, now));
    if effects.is_empty() && live.run.stop.is_some() {
        return vec![Effect::StopTree(id)];
    }
    effects
}

fn started(live: &mut Live, pid: u32, now: TimeMs) -> Vec<Effect> {
    let Ok(next) = lifecycle::transition(&live.run, Event::Started { pid }, now) else { return Vec::new() };
    live.run = next.run;
    let events = audit(&live.run, &next.audit, now);
    let mut effects = vec![change(live, events)];
    if live.run.stop.is_some() {
        effects.push(Effect::StopTree(live.run.instance.id));
    }
    effects
}

fn ended(live: &mut Live, record: ExitRecord, now: TimeMs) -> Vec<Effect> {
    let id = live.run.instance.id;
    // What the command did before it was told to end is its own end, and a stop that was asked for is a stop.
    let given_up = live.given_up.filter(|_| record.cause == Cause::Stop && live.run.stop.is_none());
    let event = match &record.ending {
        _ if let Some(word) = given_up => {
            live.run.instance.output_bytes = record.total_bytes;
            Event::Lost(word, None)
        }
        Ending::Exited(exit) => Event::Ended { exit: *exit, total: record.total_bytes, at: record.ended_at },
        Ending::SpawnFailed { text, .. } => {
            tracing::error!(%id, "the command could not be started: {text}");
            Event::SpawnFailed { text: text.clone() }
        }
        Ending::NeverStarted if live.run.stop.is_some() => Event::TreeGone,
        Ending::NeverStarted => Event::Lost(ErrorWord::SpawnFailed, None),
    };
    if record.cause == Cause::WindowClosed && live.run.stop.is_none() {
        // The operator closed the window by hand, which is a stop that did not come through here.
        let by = format!("{} (tmux)", live.run.instance.launched_by);
        if let Ok(next) = lifecycle::transition(&live.run, Event::StopRequested { by }, now) {
            live.run = next.run;
        }
    }
    finish(live, event, Some(record), now)
}

/// The run's row as it is now, to be written.
fn change(live: &Live, events: Vec<NewEvent>) -> Effect {
    RunEffect::RecordChange { run: live.run.clone(), events }.on(live.run.instance.id)
}

/// Moves a run to its end and has its record and transcript stored.
pub(super) fn finish(live: &mut Live, event: Event, record: Option<ExitRecord>, now: TimeMs) -> Vec<Effect> {
    let next = match lifecycle::transition(&live.run, event, now) {
        Ok(next) => next,
        Err(refused) => {
            tracing::warn!(id = %live.run.instance.id, "an end that does not fit was ignored: {refused}");
            return Vec::new();
        }
    };
    live.run = next.run;
    live.phase = Phase::Finishing;
    let events = audit(&live.run, &next.audit, now);
    vec![RunEffect::Finish { run: live.run.clone(), record, events }.on(live.run.instance.id)]
}

fn finished(state: &mut State, id: InstanceId, result: Result<(), Refusal>) -> Vec<Effect> {
    let Some(live) = state.live.remove(&id) else { return Vec::new() };
    let next = after(state, &live);
    let instance = live.run.instance;
    let reply = result.map(|()| Reply::Instance(Box::new(instance.clone())));
    let mut effects: Vec<Effect> = live.waiting.iter().flat_map(|to| answer(*to, reply.clone())).collect();
    effects.push(if reply.is_ok() { RunEffect::Release } else { RunEffect::Leave }.on(id));
    effects.extend(live.deleting.iter().flat_map(|to| match &reply {
        Ok(_) => vec![Effect::Delete { reply: *to, target: DeleteTarget::One(id) }],
        Err(refusal) => answer(*to, Err(refusal.clone())),
    }));
    if reply.is_ok() {
        effects.push(Effect::Cull {
            project: instance.project_id.clone(),
            task: instance.task_name.clone(),
            history: instance.history,
            spared: id,
        });
    }
    // After the answers to its stops, and before those of its replacement.
    effects.extend(next);
    effects.extend(removal(state, instance.project_id));
    effects
}

/// A project that is to leave goes when the last of its runs has gone.
fn removal(state: &State, project: ProjectId) -> Option<Effect> {
    let reply = state.removing.get(&project).copied().filter(|_| !state.is_busy(&project))?;
    Some(Effect::RemoveProject { reply, id: project })
}

// ---- stop and delete

fn stop(state: &mut State, reply: ReplyId, actor: &Actor, id: InstanceId, now: TimeMs) -> Vec<Effect> {
    let Some(live) = state.live.get_mut(&id) else {
        let refusal = Refusal::new(Code::Conflict, format!("Instance {id} is not running."));
        return answer(reply, Err(refusal.reason("not_running")));
    };
    if live.phase == Phase::Finishing && live.run.stop.is_none() {
        let state = live.run.instance.state;
        let refusal = Refusal::new(Code::Conflict, format!("Instance {id} is already {state}."));
        return answer(reply, Err(refusal.reason("not_running")));
    }
    // Each further stop is answered when the end is stored, too.
    let mut effects = too_many(wait(&mut live.waiting, reply));
    effects.extend(ask_to_stop(live, &actor.operator, now));
    effects
}

/// Records the wish before anything is signalled, then ends the tree if there is one.
pub(super) fn ask_to_stop(live: &mut Live, by: &str, now: TimeMs) -> Vec<Effect> {
    let asked_before = live.run.stop.is_some();
    let event = Event::StopRequested { by: by.to_owned() };
    let Ok(next) = lifecycle::transition(&live.run, event, now) else { return Vec::new() };
    live.run = next.run;
    let id = live.run.instance.id;
    match live.phase {
        _ if asked_before => Vec::new(),
        Phase::Recording { .. } | Phase::Spawning | Phase::Finishing => Vec::new(),
        Phase::Due => finish(live, Event::TreeGone, None, now),
        Phase::Running => vec![change(live, Vec::new()), Effect::StopTree(id)],
    }
}

fn delete(state: &mut State, reply: ReplyId, target: DeleteTarget) -> Vec<Effect> {
    if let DeleteTarget::One(id) = target
        && let Some(live) = state.live.get_mut(&id)
    {
        if live.phase == Phase::Finishing {
            return too_many(wait(&mut live.deleting, reply));
        }
        let refusal = Refusal::new(Code::Conflict, format!("Instance {id} is still running. Stop it first."));
        return answer(reply, Err(refusal.reason("still_running")));
    }
    match &target {
        DeleteTarget::Project(id) if !state.projects.contains_key(id) => {
            answer(reply, Err(no_such("project", id)))
        }
        DeleteTarget::One(_) | DeleteTarget::Project(_) => vec![Effect::Delete { reply, target }],
    }
}

// ---- projects

fn add_project(state: &State, reply: ReplyId, project: Project, moved_from: Option<PathBuf>) -> Vec<Effect> {
    let same_path = state.projects.values().find(|known| known.path == project.path);
    let same_id = state.projects.get(&project.id).filter(|known| Some(&known.path) != moved_from.as_ref());
    if state.removing.contains_key(&project.id) {
        return answer(reply, Err(being_removed(&project.id)));
    }
    let Some(known) = same_path.or(same_id) else {
        return vec![Effect::RecordProject { reply, project, moved_from }];
    };
    let (id, here, there) = (&known.id, project.path.display(), known.path.display());
    let (message, reason) = if known.path == project.path {
        (format!("{here} is already registered, as project {id}."), "already_registered")
    } else {
        (format!("Project id {id} is taken by {there}; {here} needs another `project:` key."), "id_taken")
    };
    let refusal = Refusal::new(Code::Conflict, message)
        .reason(reason)
        .detail("project", id.as_str())
        .detail("paths", json!([there.to_string(), here.to_string()]));
    answer(reply, Err(refusal))
}

fn project_recorded(
    state: &mut State,
    reply: ReplyId,
    project: Project,
    result: Result<(), Refusal>,
) -> Vec<Effect> {
    let added = result.map(|()| {
        state.projects.insert(project.id.clone(), project.clone());
        Reply::Project(project)
    });
    answer(reply, added)
}

fn remove_project(
    state: &mut State,
    reply: ReplyId,
    actor: &Actor,
    id: ProjectId,
    now: TimeMs,
) -> Vec<Effect> {
    if !state.projects.contains_key(&id) {
        return answer(reply, Err(no_such("project", &id)));
    }
    if state.removing.contains_key(&id) {
        let refusal = Refusal::new(Code::Conflict, format!("Project {id} is already being removed."));
        return answer(reply, Err(refusal.reason("removing")));
    }
    state.removing.insert(id.clone(), reply);
    if !state.is_busy(&id) {
        return vec![Effect::RemoveProject { reply, id }];
    }
    let its_own = state.live.values_mut().filter(|live| live.run.instance.project_id == id);
    its_own.flat_map(|live| ask_to_stop(live, &actor.operator, now)).collect()
}

fn project_removed(
    state: &mut State,
    reply: ReplyId,
    id: &ProjectId,
    result: Result<(), Refusal>,
) -> Vec<Effect> {
    state.removing.remove(id);
    if result.is_ok() {
        state.projects.remove(id);
    }
    answer(reply, result.map(|()| Reply::Done))
}

fn project_read(
    state: &mut State,
    (id, path): (&ProjectId, &Path),
    tasks: Option<Vec<TaskDef>>,
    problems: Vec<crate::project::Problem>,
    now: TimeMs,
) -> Vec<Effect> {
    // What was read of the directory that had this id before is not this one's.
    let Some(project) = state.projects.get_mut(id).filter(|it| it.path == path) else { return Vec::new() };
    let same_tasks = tasks.as_ref().is_none_or(|tasks| *tasks == *project.tasks);
    if same_tasks && problems == *project.problems {
        return Vec::new();
    }
    if let Some(tasks) = tasks {
        project.tasks = tasks.into();
    }
    project.problems = problems.into();
    let event = NewEvent::new(EventKind::ProjectChanged, now).project(id);
    let event = event.detail("tasks", project.tasks.len()).detail("problems", project.problems.len());
    vec![Effect::RecordEvents(vec![event])]
}

// ---- events

fn audit(run: &Run, kinds: &[EventKind], now: TimeMs) -> Vec<NewEvent> {
    let user = run.stop.as_ref().map_or(run.instance.launched_by.as_str(), |stop| stop.by.as_str());
    kinds.iter().map(|&kind| NewEvent::of_run(kind, now, &run.instance, user)).collect()
}

#[cfg(test)]
mod tests;
