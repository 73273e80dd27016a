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
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::journal::Nonce;
    use crate::model::{Definition, Exit, Scope, Size};
    use crate::policy::TaskLimits;

    const NOW: TimeMs = TimeMs(1_000);

    fn demo() -> ProjectId {
        "demo".parse().unwrap()
    }

    fn state(backend: BackendKind) -> State {
        let mut state = State::new(TaskLimits { per_project: 2, per_operator: 3 }, backend);
        let task = TaskDef {
            name: "deploy".parse().unwrap(),
            command: "make deploy".to_owned(),
            description: String::new(),
            group: None,
            cwd: None,
            long_running: false,
            confirm: true,
            env: BTreeMap::new(),
            history: true,
            history_count: 3,
        };
        for id in ["demo", "other"] {
            let (id, path) = (id.parse::<ProjectId>().unwrap(), format!("/{id}").into());
            let project = Project {
                id: id.clone(),
                path,
                tasks: Arc::new(vec![task.clone()]),
                problems: Arc::default(),
            };
            state.projects.insert(id, project);
        }
        state
    }

    fn ada() -> Actor {
        let (operator, credential) = ("ada".to_owned(), "socket".to_owned());
        Actor { operator, credential, scope: Scope::Full, only: None }
    }

    fn definition() -> Definition {
        Definition {
            command: "make deploy".to_owned(),
            cwd: "/demo".into(),
            env: BTreeMap::new(),
            size: Size::DEFAULT,
        }
    }

    fn id(n: u128) -> InstanceId {
        InstanceId::from_parts(1, n)
    }

    fn plan(n: u128, project: &str) -> Box<Plan> {
        Box::new(Plan {
            id: id(n),
            project: project.parse().unwrap(),
            task: Some("deploy".parse().unwrap()),
            definition: definition(),
            history: Some(3),
            restarted_from: None,
            idempotency_key: None,
        })
    }

    fn launch_in(state: &mut State, n: u128, project: &str) -> Vec<Effect> {
        let plan = plan(n, project);
        step(state, Input::Launch { reply: ReplyId(n as u64), actor: ada(), plan, ask: None }, NOW)
    }

    fn record(ending: Ending, cause: Cause) -> Box<ExitRecord> {
        Box::new(ExitRecord {
            ending,
            cause,
            total_bytes: 12,
            lost_bytes: 0,
            started_at: NOW,
            ended_at: TimeMs(2_000),
            pid: Some(7),
            nonce: Nonce::from_bytes([0; 16]),
            boot_id: "boot".to_owned(),
        })
    }

    fn placed_on(backend: BackendKind) -> Result<Placement, SpawnFailure> {
        Ok(Placement { backend, window: None })
    }

    /// Takes a run from its launch to where its command runs.
    fn running(state: &mut State, n: u128) {
        launch_in(state, n, "demo");
        step(state, Input::Recorded { id: id(n), result: Ok(None) }, NOW);
        step(state, Input::Spawned { id: id(n), result: placed_on(BackendKind::Pty) }, NOW);
        step(state, Input::Shim { id: id(n), report: ShimReport::Started { pid: 7 } }, NOW);
    }

    /// What effects are, in words.
    fn words(effects: &[Effect]) -> Vec<String> {
        let answered = |answer: &Result<Reply, Refusal>| match answer {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => {
                refusal.details.get("reason").and_then(|it| it.as_str()).unwrap_or("error").to_owned()
            }
        };
        let one = |effect: &Effect| match effect {
            Effect::Reply { to, answer } => format!("reply {} {}", to.0, answered(answer)),
            Effect::Run { effect, .. } => match effect.as_ref() {
                RunEffect::RecordLaunch { .. } => "record launch".to_owned(),
                RunEffect::RecordChange { run, events } => {
                    let kinds: Vec<_> = events.iter().map(|event| event.kind.word()).collect();
                    format!("record {} {}", run.instance.state, kinds.join(","))
                }
                RunEffect::Clear { .. } => "clear".to_owned(),
                RunEffect::Spawn { backend, .. } => format!("spawn {backend}"),
                RunEffect::OpenGate => "open gate".to_owned(),
                RunEffect::Abort => "abort".to_owned(),
                RunEffect::Finish { run, events, .. } => {
                    let kinds: Vec<_> = events.iter().map(|event| event.kind.word()).collect();
                    let error = run.instance.error.map_or("-", ErrorWord::word);
                    let code = run.instance.exit_code();
                    format!("finish {} {code:?} {error} {}", run.instance.state, kinds.join(","))
                }
                RunEffect::Release => "release".to_owned(),
                RunEffect::Leave => "leave".to_owned(),
            },
            Effect::StopTree(_) => "stop tree".to_owned(),
            Effect::RecordEvents(_) => "events".to_owned(),
            Effect::Cull { .. } => "cull".to_owned(),
            Effect::Delete { .. } => "delete".to_owned(),
            Effect::RecordProject { .. } => "record project".to_owned(),
            Effect::RemoveProject { .. } => "remove project".to_owned(),
        };
        effects.iter().map(one).collect()
    }

    #[test]
    fn nothing_is_started_before_it_is_recorded_and_nothing_runs_before_its_shim_waits() {
        let mut state = state(BackendKind::Pty);
        assert_eq!(words(&launch_in(&mut state, 1, "demo")), ["record launch"]);
        let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
        assert_eq!(words(&recorded), ["reply 1 ok", "spawn pty"]);
        let spawned = Input::Spawned { id: id(1), result: placed_on(BackendKind::Pty) };
        assert_eq!(words(&step(&mut state, spawned, NOW)), ["record starting ", "open gate"]);
        let started = Input::Shim { id: id(1), report: ShimReport::Started { pid: 7 } };
        assert_eq!(words(&step(&mut state, started, NOW)), ["record running task.launched"]);
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(3)), Cause::Itself));
        let ended = step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        assert_eq!(words(&ended), ["finish failed Some(3) - task.exited"]);
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["release", "cull"]);
        assert!(state.live.is_empty());
    }

    #[test]
    fn an_end_that_cannot_be_stored_is_left_for_the_next_start() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
        step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        let failed = Err(Refusal::new(Code::Internal, "damaged").reason("store"));
        assert_eq!(words(&step(&mut state, Input::Finished { id: id(1), result: failed }, NOW)), ["leave"]);
    }

    #[test]
    fn limits_count_what_is_not_over_and_hold_for_launches_at_once() {
        let mut state = state(BackendKind::Pty);
        for n in 1..=2 {
            assert_eq!(words(&launch_in(&mut state, n, "demo")), ["record launch"]);
        }
        assert_eq!(words(&launch_in(&mut state, 3, "demo")), ["reply 3 task_limit"]);
        assert_eq!(words(&launch_in(&mut state, 4, "other")), ["record launch"]);
        assert_eq!(words(&launch_in(&mut state, 5, "other")), ["reply 5 operator_limit"]);
        let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
        assert_eq!(
            words(&step(&mut state, Input::Recorded { id: id(1), result: failed }, NOW)),
            ["reply 1 store"]
        );
        assert_eq!(words(&launch_in(&mut state, 6, "demo")), ["record launch"]);
    }

    #[test]
    fn a_run_whose_end_is_being_stored_holds_no_place_and_is_deleted_after() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        running(&mut state, 2);
        assert_eq!(words(&launch_in(&mut state, 3, "demo")), ["reply 3 task_limit"]);
        let delete = |reply| Input::Delete { reply: ReplyId(reply), target: DeleteTarget::One(id(1)) };
        assert_eq!(words(&step(&mut state, delete(4), NOW)), ["reply 4 still_running"]);
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
        step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        assert_eq!(words(&launch_in(&mut state, 5, "demo")), ["record launch"]);
        assert!(step(&mut state, delete(6), NOW).is_empty());
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["release", "delete", "cull"]);
    }

    #[test]
    fn a_repeated_key_answers_the_first_run_and_starts_nothing() {
        let mut state = state(BackendKind::Pty);
        launch_in(&mut state, 1, "demo");
        let first = plan(9, "demo").instance(BackendKind::Pty, "ada", NOW);
        let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(Some(first)) }, NOW);
        assert_eq!(words(&recorded), ["reply 1 ok"]);
        assert!(state.live.is_empty());
    }

    #[test]
    fn callers_with_one_key_at_once_share_a_launch_and_a_place() {
        let mut state = state(BackendKind::Pty);
        let mut keyed = |n: u128, key: &str| {
            let plan = Box::new(Plan { idempotency_key: Some(key.to_owned()), ..*plan(n, "demo") });
            step(&mut state, Input::Launch { reply: ReplyId(n as u64), actor: ada(), plan, ask: None }, NOW)
        };
        assert_eq!(words(&keyed(1, "a")), ["record launch"]);
        for n in 2..9 {
            assert!(keyed(n, "a").is_empty());
        }
        assert_eq!(words(&keyed(9, "b")), ["record launch"]);
        assert_eq!(words(&keyed(10, "c")), ["reply 10 task_limit"]);
        let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
        let told: Vec<_> = (1..9).map(|n| format!("reply {n} ok")).chain(["spawn pty".to_owned()]).collect();
        assert_eq!(words(&recorded), told);
        let plan = Box::new(Plan { idempotency_key: Some("a".to_owned()), ..*plan(11, "demo") });
        let again =
            step(&mut state, Input::Launch { reply: ReplyId(11), actor: ada(), plan, ask: None }, NOW);
        assert_eq!(words(&again), ["reply 11 ok"]);
    }

    #[test]
    fn a_run_that_tmux_refuses_goes_on_a_pty_and_one_that_a_pty_refuses_has_failed() {
        let mut state = state(BackendKind::Tmux);
        launch_in(&mut state, 1, "demo");
        step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
        let failed = |backend| Input::Spawned {
            id: id(1),
            result: Err(SpawnFailure { backend, message: "no".into() }),
        };
        let effects = step(&mut state, failed(BackendKind::Tmux), NOW);
        assert_eq!(words(&effects), ["record starting task_runner.tmux_fallback", "spawn pty"]);
        let effects = step(&mut state, failed(BackendKind::Pty), NOW);
        assert_eq!(words(&effects), ["finish failed None spawn_failed task.exited"]);
    }

    #[test]
    fn a_stop_is_recorded_before_anything_is_signalled_and_answered_at_the_end() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        let stop = |n| Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) };
        assert_eq!(words(&step(&mut state, stop(8), NOW)), ["record running ", "stop tree"]);
        assert!(step(&mut state, stop(9), NOW).is_empty());
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Signal(15)), Cause::Stop));
        let ended = step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        assert_eq!(words(&ended), ["finish stopped None - task.stopped"]);
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["reply 8 ok", "reply 9 ok", "release", "cull"]);
        assert_eq!(words(&step(&mut state, stop(10), NOW)), ["reply 10 not_running"]);
    }

    #[test]
    fn a_stop_while_an_end_is_stored_is_told_what_it_came_to() {
        let ask = |n| Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) };
        let ended = |cause| ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), cause));
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        step(&mut state, Input::Shim { id: id(1), report: ended(Cause::Itself) }, NOW);
        assert_eq!(words(&step(&mut state, ask(8), NOW)), ["reply 8 not_running"], "it ended by itself");
        step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        running(&mut state, 1);
        step(&mut state, ask(8), NOW);
        step(&mut state, Input::Shim { id: id(1), report: ended(Cause::Stop) }, NOW);
        assert!(step(&mut state, ask(9), NOW).is_empty(), "it was stopped, and that is stored first");
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["reply 8 ok", "reply 9 ok", "release", "cull"]);
    }

    #[test]
    fn a_stop_that_meets_an_end_is_answered_when_nothing_of_the_tree_lives() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
        let record = || record(Ending::Exited(Exit::Code(0)), Cause::Itself);
        let report = |report| Input::Shim { id: id(1), report };
        assert!(step(&mut state, report(ShimReport::Exited(record())), NOW).is_empty());
        let ended = step(&mut state, report(ShimReport::Ended(record())), NOW);
        assert_eq!(words(&ended), ["finish stopped Some(0) - task.stopped"]);
    }

    #[test]
    fn a_run_is_deleted_once_its_end_is_stored_and_not_before_its_end() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        let delete = |n| Input::Delete { reply: ReplyId(n), target: DeleteTarget::One(id(1)) };
        assert_eq!(words(&step(&mut state, delete(8), NOW)), ["reply 8 still_running"]);
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
        step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        assert!(step(&mut state, delete(9), NOW).is_empty());
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["release", "delete", "cull"]);
        assert_eq!(words(&step(&mut state, delete(10), NOW)), ["delete"]);
    }

    #[test]
    fn a_stop_before_the_gate_never_lets_the_command_run() {
        let mut state = state(BackendKind::Pty);
        launch_in(&mut state, 1, "demo");
        step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
        assert!(step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW).is_empty());
        let spawned = Input::Spawned { id: id(1), result: placed_on(BackendKind::Pty) };
        assert_eq!(words(&step(&mut state, spawned, NOW)), ["abort"]);
        let never = ShimReport::Ended(record(Ending::NeverStarted, Cause::Itself));
        let never = step(&mut state, Input::Shim { id: id(1), report: never }, NOW);
        assert_eq!(words(&never), ["finish stopped None - task.stopped"]);
    }

    #[test]
    fn a_window_closed_by_hand_is_a_stop_and_a_dead_server_is_not() {
        let mut state = state(BackendKind::Tmux);
        let closed = || record(Ending::Exited(Exit::Signal(1)), Cause::WindowClosed);
        running(&mut state, 1);
        let by_hand = step(&mut state, Input::Shim { id: id(1), report: ShimReport::Ended(closed()) }, NOW);
        assert_eq!(words(&by_hand), ["finish stopped None - task.stopped"]);
        step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        running(&mut state, 2);
        let crashed =
            step(&mut state, Input::Shim { id: id(2), report: ShimReport::TmuxGone(closed()) }, NOW);
        assert_eq!(words(&crashed), ["finish failed None tmux_crash task.exited"]);
    }

    #[test]
    fn a_question_is_answered_once_by_who_was_asked_about_what_was_shown() {
        let mut state = state(BackendKind::Pty);
        let ask = |state: &mut State| {
            let (plan, ask) = (plan(1, "demo"), Some("q".to_owned()));
            words(&step(state, Input::Launch { reply: ReplyId(1), actor: ada(), plan, ask }, NOW))
        };
        let confirm = |state: &mut State, actor: Actor, proceed: bool, command: &str| {
            let now = Definition { command: command.to_owned(), ..definition() };
            let given = Box::new(Confirmation {
                project: demo(),
                confirm_id: "q".to_owned(),
                proceed,
                id: id(2),
                definitions: vec![("deploy".parse().unwrap(), now)],
            });
            words(&step(state, Input::Confirm { reply: ReplyId(2), actor, given }, NOW))
        };
        let stranger = || Actor { credential: "token:x".to_owned(), ..ada() };
        assert_eq!(ask(&mut state), ["reply 1 ok"]);
        assert_eq!(confirm(&mut state, stranger(), true, "make deploy"), ["reply 2 confirm_expired"]);
        assert_eq!(confirm(&mut state, ada(), true, "make deploy"), ["record launch"]);
        assert_eq!(confirm(&mut state, ada(), true, "make deploy"), ["reply 2 confirm_expired"]);
        ask(&mut state);
        assert_eq!(confirm(&mut state, ada(), true, "rm -rf /"), ["reply 2 definition_changed"]);
        ask(&mut state);
        assert_eq!(confirm(&mut state, ada(), false, "make deploy"), ["reply 2 ok"]);
    }

    #[test]
    fn a_project_leaves_after_its_runs() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        let remove = |n| Input::RemoveProject { reply: ReplyId(n), actor: ada(), id: demo() };
        assert_eq!(words(&step(&mut state, remove(5), NOW)), ["record running ", "stop tree"]);
        assert_eq!(words(&step(&mut state, remove(6), NOW)), ["reply 6 removing"]);
        assert_eq!(words(&launch_in(&mut state, 2, "demo")), ["reply 2 removing"]);
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Stop));
        step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
        let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["release", "cull", "remove project"]);
        let removed = Input::ProjectRemoved { reply: ReplyId(5), id: demo(), result: Ok(()) };
        assert_eq!(words(&step(&mut state, removed, NOW)), ["reply 5 ok"]);
        assert!(!state.projects.contains_key(&demo()));
    }

    #[test]
    fn a_project_leaves_also_when_its_last_launch_could_not_be_recorded() {
        let mut state = state(BackendKind::Pty);
        launch_in(&mut state, 1, "demo");
        let remove = Input::RemoveProject { reply: ReplyId(5), actor: ada(), id: demo() };
        assert!(step(&mut state, remove, NOW).is_empty());
        let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
        let recorded = step(&mut state, Input::Recorded { id: id(1), result: failed }, NOW);
        assert_eq!(words(&recorded), ["reply 1 store", "remove project"]);
    }

    #[test]
    fn a_run_reached_again_goes_on_where_it_was() {
        let mut state = state(BackendKind::Pty);
        let reached = |at_gate, pid| Input::Shim {
            id: id(1),
            report: ShimReport::Reached(Reached { at_gate, pid, window: None }),
        };
        let run = Run::new(plan(1, "demo").instance(BackendKind::Pty, "ada", NOW));
        state.live.insert(id(1), Live::resumed(run));
        assert_eq!(words(&step(&mut state, reached(true, None), NOW)), ["record starting ", "open gate"]);
        assert_eq!(words(&step(&mut state, reached(false, Some(7)), NOW)), ["record running task.launched"]);
        assert!(step(&mut state, reached(false, Some(7)), NOW).is_empty());
        step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
        assert_eq!(words(&step(&mut state, reached(false, Some(7)), NOW)), ["stop tree"]);
        assert_eq!(words(&step(&mut state, reached(true, None), NOW)), ["stop tree"]);
    }

    #[test]
    fn a_run_given_up_is_over_when_nothing_of_its_tree_lives() {
        let own = || record(Ending::Exited(Exit::Code(3)), Cause::Itself);
        let told = || record(Ending::Exited(Exit::Signal(15)), Cause::Stop);
        let check = |stop: bool, end: Box<ExitRecord>, expect: &str| {
            let mut state = state(BackendKind::Pty);
            let shim = |report| Input::Shim { id: id(1), report };
            running(&mut state, 1);
            let given_up = step(&mut state, shim(ShimReport::GiveUp(ErrorWord::DaemonRestart)), NOW);
            assert_eq!(words(&given_up), ["stop tree"]);
            if stop {
                step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
            }
            assert!(step(&mut state, shim(ShimReport::Exited(end.clone())), NOW).is_empty());
            assert_eq!(words(&step(&mut state, shim(ShimReport::Ended(end)), NOW)), [expect]);
        };
        check(false, told(), "finish failed None daemon_restart task.exited");
        check(true, told(), "finish stopped None - task.stopped");
        check(false, own(), "finish failed Some(3) - task.exited");
    }

    #[test]
    fn a_second_directory_with_an_id_is_refused_and_both_are_named() {
        let mut state = state(BackendKind::Pty);
        let project = Project {
            id: demo(),
            path: "/elsewhere".into(),
            tasks: Arc::default(),
            problems: Arc::default(),
        };
        let add = |project: &Project, moved_from: Option<&str>| Input::AddProject {
            reply: ReplyId(1),
            project: project.clone(),
            moved_from: moved_from.map(Into::into),
        };
        let effects = step(&mut state, add(&project, None), NOW);
        assert_eq!(words(&effects), ["reply 1 id_taken"]);
        // A link that leads here from another directory than the registered one makes no difference; from that one it does.
        assert_eq!(words(&step(&mut state, add(&project, Some("/other")), NOW)), ["reply 1 id_taken"]);
        assert_eq!(words(&step(&mut state, add(&project, Some("/demo")), NOW)), ["record project"]);
        let Effect::Reply { answer, .. } = &effects[0] else { panic!("{effects:?}") };
        let message = &answer.as_ref().as_ref().unwrap_err().message;
        assert!(message.contains("/demo") && message.contains("/elsewhere"), "{message}");
    }

    #[test]
    fn a_bad_edit_keeps_the_last_good_tasks_and_is_told_once() {
        let mut state = state(BackendKind::Pty);
        let problem = crate::project::Source::new("project.yaml", "x").problem(0..0, "bad");
        let read_at = |path: &str| Input::ProjectRead {
            id: demo(),
            path: path.into(),
            tasks: None,
            problems: vec![problem.clone()],
        };
        assert!(step(&mut state, read_at("/elsewhere"), NOW).is_empty(), "another directory's");
        let read = || read_at("/demo");
        assert_eq!(words(&step(&mut state, read(), NOW)), ["events"]);
        assert!(step(&mut state, read(), NOW).is_empty());
        let project = &state.projects[&demo()];
        assert_eq!((project.tasks.len(), project.problems.len()), (1, 1));
    }

    fn restart_in(state: &mut State, n: u128, old: u128) -> Vec<Effect> {
        let plan = Box::new(Plan { restarted_from: Some(id(old)), ..*plan(n, "demo") });
        step(state, Input::Restart { reply: ReplyId(n as u64), actor: ada(), plan }, NOW)
    }

    #[test]
    fn of_many_callers_the_oldest_is_told_to_ask_again() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        let asked: Vec<Effect> = (100..300)
            .flat_map(|n| step(&mut state, Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) }, NOW))
            .collect();
        let waiting = state.live[&id(1)].waiting.clone();
        let told = words(&asked).into_iter().filter(|word| word.ends_with(" waiting"));
        let oldest = 300 - u64::try_from(waiting.len()).unwrap();
        assert_eq!(
            told.collect::<Vec<_>>(),
            (100..oldest).map(|n| format!("reply {n} waiting")).collect::<Vec<_>>()
        );
        assert!(waiting.len() < 100 && waiting.last() == Some(&ReplyId(299)));
    }

    fn record_and_finish(state: &mut State, n: u128) -> Vec<Effect> {
        let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Stop));
        step(state, Input::Shim { id: id(n), report: ended }, NOW);
        step(state, Input::Finished { id: id(n), result: Ok(()) }, NOW)
    }

    #[test]
    fn a_restart_is_checked_and_recorded_before_anything_is_stopped() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        running(&mut state, 2);
        state.limits.per_project = 1;
        assert_eq!(words(&restart_in(&mut state, 3, 1)), ["reply 3 task_limit"]);
        assert!(state.live[&id(1)].run.stop.is_none());
        // Where two may run, the replacement takes the place of the run that it replaces.
        state.limits.per_project = 2;
        assert_eq!(words(&restart_in(&mut state, 4, 1)), ["record launch"]);
        assert_eq!(words(&launch_in(&mut state, 5, "demo")), ["reply 5 task_limit"]);
        let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
        let refused = step(&mut state, Input::Recorded { id: id(4), result: failed }, NOW);
        assert_eq!(words(&refused), ["reply 4 store"]);
        assert!(state.live[&id(1)].run.stop.is_none());

        assert_eq!(words(&restart_in(&mut state, 6, 1)), ["record launch"]);
        assert_eq!(words(&restart_in(&mut state, 7, 1)), ["reply 7 restarting"]);
        let recorded = step(&mut state, Input::Recorded { id: id(6), result: Ok(None) }, NOW);
        assert_eq!(words(&recorded), ["record running ", "stop tree"]);
        assert_eq!(words(&restart_in(&mut state, 8, 1)), ["reply 8 restarting"]);
        assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull", "reply 6 ok", "spawn pty"]);
        // What is over is restarted at once.
        step(&mut state, Input::Spawned { id: id(6), result: placed_on(BackendKind::Pty) }, NOW);
        step(&mut state, Input::Shim { id: id(6), report: ShimReport::Started { pid: 9 } }, NOW);
        record_and_finish(&mut state, 2);
        assert_eq!(words(&restart_in(&mut state, 9, 1)), ["record launch"]);
        let recorded = step(&mut state, Input::Recorded { id: id(9), result: Ok(None) }, NOW);
        assert_eq!(words(&recorded), ["reply 9 ok", "spawn pty"]);
    }

    #[test]
    fn a_replacement_that_is_stopped_or_restarted_itself_is_not_started() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        restart_in(&mut state, 2, 1);
        step(&mut state, Input::Recorded { id: id(2), result: Ok(None) }, NOW);
        restart_in(&mut state, 3, 2);
        let recorded = step(&mut state, Input::Recorded { id: id(3), result: Ok(None) }, NOW);
        assert_eq!(words(&recorded), ["finish stopped None - task.stopped"]);
        // What is waited for is known all the time, so that the caller is told when it cannot be ended.
        let waited_for = |state: &State, n| crate::daemon::run::View::of(state).replaced_with(id(n));
        assert_eq!(waited_for(&state, 2), [id(2), id(1)]);
        // What the second one replaces is over, what that replaced is not.
        let finished = step(&mut state, Input::Finished { id: id(2), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["release", "cull", "reply 2 ok"]);
        assert_eq!((waited_for(&state, 2), waited_for(&state, 1)), (vec![id(1)], Vec::new()));
        let stop = step(&mut state, Input::Stop { reply: ReplyId(9), actor: ada(), id: id(3) }, NOW);
        assert_eq!(words(&stop), ["finish stopped None - task.stopped"]);
        assert_eq!(crate::daemon::run::View::of(&state).runs_of(&demo()), [id(1), id(3)]);
        let finished = step(&mut state, Input::Finished { id: id(3), result: Ok(()) }, NOW);
        assert_eq!(words(&finished), ["reply 9 ok", "release", "cull", "reply 3 ok"]);
        assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull"]);
    }

    /// A state as after a start: run `n` is due, a restart of `old`.
    fn due(state: &mut State, n: u128, old: Option<u128>) {
        let plan = Plan { restarted_from: old.map(id), ..*plan(n, "demo") };
        let run = Run::new(plan.instance(BackendKind::Tmux, "ada", NOW));
        state.live.insert(id(n), Live::due(run));
    }

    fn begin_in(state: &mut State, n: u128, old: Option<u128>, refused: Option<&str>) -> Vec<Effect> {
        let plan = Box::new(Plan { restarted_from: old.map(id), ..*plan(n, "demo") });
        step(state, Input::Begin { plan, refused: refused.map(str::to_owned) }, NOW)
    }

    #[test]
    fn what_a_daemon_died_before_is_begun_in_order_within_the_limits_or_says_why_not() {
        let mut state = state(BackendKind::Pty);
        (1..=4).for_each(|n| due(&mut state, n, None));
        let failed = "finish failed None spawn_failed task.exited";
        assert_eq!(words(&begin_in(&mut state, 1, None, None)), ["clear", "spawn pty"]);
        assert_eq!(words(&begin_in(&mut state, 2, None, Some("it is gone"))), ["clear", failed]);
        assert_eq!(state.live[&id(2)].run.instance.error_text.as_deref(), Some("It is gone"));
        assert_eq!(words(&begin_in(&mut state, 3, None, None)), ["clear", "spawn pty"]);
        assert_eq!(words(&begin_in(&mut state, 4, None, None)), ["clear", failed]);
        let text = state.live[&id(4)].run.instance.error_text.clone().unwrap();
        assert!(text.contains("which is the limit"), "{text}");
        assert_eq!(words(&begin_in(&mut state, 1, None, None)), [""; 0], "once");
    }

    #[test]
    fn a_replacement_that_a_daemon_died_before_ends_what_it_replaces_first() {
        let mut state = state(BackendKind::Pty);
        running(&mut state, 1);
        due(&mut state, 2, Some(1));
        assert_eq!(words(&begin_in(&mut state, 2, Some(1), None)), ["clear", "record running ", "stop tree"]);
        assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull", "spawn pty"]);
        due(&mut state, 3, Some(1));
        assert_eq!(words(&begin_in(&mut state, 3, Some(1), None)), ["clear", "spawn pty"]);
    }
}
