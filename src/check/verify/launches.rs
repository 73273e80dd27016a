//! I1, I2 and I12: what was launched, what was told of it, and that neither is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::say;
use super::view::{View, is_end, is_launch, run};
use crate::check::violation::{Invariant, Violation};
use crate::model::{ErrorWord, EventKind, InstanceId, RunState};
use crate::store::{RunRow, StoredEvent};

/// Events kept by the store; it drops older ones with each new one.
const EVENTS: i64 = 100_000;

/// A key stands for one run, and a run was launched under one key.
pub(super) fn keys(view: &View<'_>, found: &mut Vec<Violation>) {
    let keys = view.database.map_or(&[][..], |it| &it.keys);
    let mut runs: BTreeMap<_, BTreeSet<InstanceId>> = BTreeMap::new();
    let mut names: BTreeMap<InstanceId, usize> = BTreeMap::new();
    for key in keys {
        runs.entry((&key.operator, &key.project, &key.key)).or_default().insert(key.instance);
        *names.entry(key.instance).or_default() += 1;
        let row = view.runs.get(&key.instance).map(|row| &row.run.instance);
        let other = row.is_some_and(|it| {
            (it.launched_by.as_str(), it.project_id.as_str(), it.launched_at)
                != (key.operator.as_str(), key.project.as_str(), key.created_at)
        });
        if other {
            let sentence = "it was launched by another operator, in another project or at another time than its idempotency key says";
            say(found, Invariant::SingleLaunch, run(key.instance), sentence);
        }
    }
    for ids in runs.values().filter(|ids| ids.len() > 1) {
        let first = ids.first().copied().map(run).unwrap_or_default();
        let sentence = format!("{} runs were launched under one idempotency key", ids.len());
        say(found, Invariant::SingleLaunch, first, sentence);
    }
    for (id, _) in names.into_iter().filter(|(_, count)| *count > 1) {
        say(found, Invariant::SingleLaunch, run(id), "two idempotency keys stand for it");
    }
}

/// One event for each state that a run entered, in order.
pub(super) fn events(view: &View<'_>, found: &mut Vec<Violation>) {
    let none = Vec::new();
    for (id, events) in &view.events {
        let launches = events.iter().filter(|it| is_launch(it)).count();
        if launches > 1 {
            say(
                found,
                Invariant::SingleLaunch,
                run(*id),
                format!("it was launched {launches} times, by the audit log"),
            );
        }
        let end = events.iter().position(|it| is_end(it));
        if end.is_some_and(|end| events[end..].iter().any(|it| is_launch(it))) {
            say(found, Invariant::StateMachine, run(*id), "the audit log has its end before its launch");
        }
        if events.iter().filter(|it| is_end(it)).count() > 1 {
            say(found, Invariant::StateMachine, run(*id), "the audit log has more than one end of it");
        }
    }
    for (id, row) in view.runs.iter().filter(|(_, row)| view.has_all_events_of(row)) {
        told(row, view.events.get(id).unwrap_or(&none), found);
    }
}

/// Whether the events of a run are those that its state asks for.
fn told(row: &RunRow, events: &[&StoredEvent], found: &mut Vec<Violation>) {
    let it = &row.run.instance;
    let launched = events.iter().any(|it| is_launch(it));
    let ended = events.iter().any(|it| is_end(it));
    let must_launch = it.pid.is_some() || it.exit.is_some() || it.state == RunState::Running;
    let may_launch = it.state != RunState::Starting && it.error != Some(ErrorWord::SpawnFailed);
    let mut wrong = |sentence: String| say(found, Invariant::StateMachine, run(it.id), sentence);
    if must_launch && !launched {
        wrong(format!("it is {} and the audit log has no launch of it", it.state));
    }
    if launched && !may_launch {
        wrong(format!("it is {} without having started, and the audit log has a launch of it", it.state));
    }
    if it.state.is_terminal() != ended {
        let has = if ended { "has an" } else { "has no" };
        wrong(format!("it is {} and the audit log {has} end of it", it.state));
    }
    let kind = if it.state == RunState::Stopped { EventKind::TaskStopped } else { EventKind::TaskExited };
    if let Some(end) = events.iter().find(|it| is_end(it)).filter(|end| end.kind != kind.word()) {
        wrong(format!("it is {} and the audit log calls its end {}", it.state, end.kind));
    }
}

/// A run that was told of has its row until it is deleted, which is told too.
pub(super) fn told_runs_last(view: &View<'_>, found: &mut Vec<Violation>) {
    let Some(database) = view.database.filter(|_| view.has_every_event()) else { return };
    for key in &database.keys {
        if !view.runs.contains_key(&key.instance) && !view.events.contains_key(&key.instance) {
            let sentence = "a key stands for it, and it has neither a row nor an event";
            say(found, Invariant::Durability, run(key.instance), sentence);
        }
    }
    let mut gone: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, events) in view.events.iter().filter(|(id, _)| !view.runs.contains_key(id)) {
        if events.iter().any(|it| is_end(it)) {
            *gone.entry(events[0].project_id.as_deref().unwrap_or_default()).or_default() += 1;
        } else {
            say(found, Invariant::Durability, run(*id), "it was launched, has not ended, and has no row");
        }
    }
    for (project, gone) in gone {
        let deleted = deleted(&database.events, project);
        if deleted.is_some_and(|deleted| deleted < gone) {
            let sentence = "more runs have ended and have no row than were deleted";
            say(found, Invariant::Durability, format!("project {project}"), sentence);
        }
    }
}

/// How many runs of a project were deleted; any number when the project was removed with them.
fn deleted(events: &[StoredEvent], project: &str) -> Option<u64> {
    let change = |event: &StoredEvent, what: &str| {
        event.kind == EventKind::ProjectChanged.word()
            && event.project_id.as_deref() == Some(project)
            && event.details.get("change").and_then(|it| it.as_str()) == Some(what)
    };
    let count = |event: &StoredEvent| event.details.get("deleted").and_then(serde_json::Value::as_u64);
    let removed = events.iter().any(|event| change(event, "removed"));
    let deletions = events.iter().filter(|event| change(event, "runs_deleted"));
    (!removed).then(|| deletions.filter_map(count).sum())
}

/// SQLite, the rows and the audit log are whole.
pub(super) fn database_is_whole(view: &View<'_>, found: &mut Vec<Violation>) {
    let Some(database) = view.database else { return };
    for damage in &database.damage {
        say(found, Invariant::Durability, "the database", damage);
    }
    for (id, why) in &database.unreadable {
        say(found, Invariant::Durability, format!("run {id}"), format!("its row cannot be read ({why})"));
    }
    let log = database.log;
    if log.count > 0 && log.last - log.first + 1 != log.count {
        say(
            found,
            Invariant::Durability,
            "the audit log",
            "events are missing between its first and its last",
        );
    }
    if log.count > EVENTS {
        say(found, Invariant::Bounds, "the audit log", format!("it has more than {EVENTS} events"));
    }
}
