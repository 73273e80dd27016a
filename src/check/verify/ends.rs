//! I2 and I4: how a run ended, told the same everywhere and never made up.

use super::say;
use super::view::{View, is_end, run};
use crate::check::violation::{Invariant, Violation};
use crate::journal::{Cause, Ending, ExitRecord};
use crate::model::{ErrorWord, EventKind, Exit, Instance, RunState};
use crate::store::RunRow;

/// A row's columns agree with its state.
pub(super) fn rows(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, row) in &view.runs {
        for sentence in state(row) {
            say(found, Invariant::StateMachine, run(*id), sentence);
        }
        for sentence in exit(row) {
            say(found, Invariant::ExitTruth, run(*id), sentence);
        }
    }
}

fn state(row: &RunRow) -> Vec<String> {
    let it = &row.run.instance;
    let stopped = it.state == RunState::Stopped;
    let rules = [
        (it.exited_at.is_some() == it.state.is_terminal(), "and its time of end does not fit that"),
        (it.stopped_at.is_some() == stopped, "and its time of stop does not fit that"),
        (!stopped || row.run.stop.is_some(), "and nobody asked for that"),
        (it.state != RunState::Running || it.pid.is_some(), "and has no process id"),
        (row.duration_ms == it.duration_ms(), "and its duration is not the time between launch and end"),
    ];
    rules.iter().filter(|(holds, _)| !holds).map(|(_, why)| format!("it is {} {why}", it.state)).collect()
}

fn exit(row: &RunRow) -> Vec<String> {
    let it = &row.run.instance;
    let known = it.exit.is_some() || row.exit_code.is_some();
    let rules = [
        (!known || it.state.is_terminal(), "it is not over and has an exit code"),
        (
            it.state == RunState::Stopped || (it.state == RunState::Done) == (row.exit_code == Some(0)),
            "its state and its exit code contradict each other",
        ),
        (
            it.state != RunState::Failed || known != it.error.is_some(),
            "it is failed and has not exactly one of an exit code and a reason",
        ),
        (it.exit_code().map(i64::from) == row.exit_code, "its exit code is not that of its signal"),
    ];
    rules.iter().filter(|(holds, _)| !holds).map(|(_, why)| (*why).to_owned()).collect()
}

/// An exit record is its run's, and the row says the same.
pub(super) fn records(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, directory) in &view.directories {
        let record = match &directory.exit {
            Ok(None) => continue,
            Ok(Some(record)) => record,
            Err(why) => {
                say(found, Invariant::ExitTruth, run(*id), format!("its exit record cannot be read ({why})"));
                continue;
            }
        };
        if let Ok(spec) = &directory.spec
            && (spec.nonce, &spec.boot_id) != (record.nonce, &record.boot_id)
        {
            say(
                found,
                Invariant::ExitTruth,
                run(*id),
                "its exit record was written by somebody else than its shim",
            );
        }
        let row = view.runs.get(id).filter(|row| row.run.instance.state.is_terminal());
        if let Some(sentence) = row.and_then(|row| contradiction(&row.run.instance, record)) {
            say(found, Invariant::ExitTruth, run(*id), sentence);
        }
    }
}

/// What a row says against its exit record. A tmux server that went away under the run hides the code, and a stop that came before its start or
/// found no record leaves none.
fn contradiction(it: &Instance, record: &ExitRecord) -> Option<String> {
    let ran = matches!(record.ending, Ending::Exited(_));
    let hidden = (it.state == RunState::Stopped && !ran)
        || it.error == Some(ErrorWord::DaemonRestart)
        || (it.error == Some(ErrorWord::TmuxCrash) && record.cause == Cause::WindowClosed);
    match (&record.ending, it.exit) {
        (_, None) if hidden => None,
        (Ending::Exited(told), Some(recorded)) if *told == recorded => None,
        (Ending::SpawnFailed { .. } | Ending::NeverStarted, None)
            if it.error == Some(ErrorWord::SpawnFailed) =>
        {
            None
        }
        (ending, recorded) => Some(format!(
            "its row says {}, its exit record {}",
            recorded.map_or_else(|| reason(it), shown),
            match ending {
                Ending::Exited(exit) => shown(*exit),
                Ending::SpawnFailed { .. } => "that it could not be started".to_owned(),
                Ending::NeverStarted => "that it never started".to_owned(),
            }
        )),
    }
}

fn reason(it: &Instance) -> String {
    it.error.map_or_else(|| it.state.to_string(), |error| error.to_string())
}

fn shown(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

/// The event of an end says what the row says.
pub(super) fn events(view: &View<'_>, found: &mut Vec<Violation>) {
    for (id, events) in &view.events {
        let Some(row) = view.runs.get(id) else { continue };
        let it = &row.run.instance;
        for event in events.iter().filter(|event| is_end(event) && event.details.contains_key("exit_code")) {
            let text = |key: &str| event.details.get(key).and_then(|value| value.as_str());
            // That of a stop tells its state by its kind.
            let stopped = (event.kind == EventKind::TaskStopped.word()).then_some(RunState::Stopped.word());
            let Some(state) = stopped.or(text("state")) else { continue };
            let code = event.details.get("exit_code").and_then(serde_json::Value::as_i64);
            let error = it.error.map(ErrorWord::word);
            if (state, code, text("error")) != (it.state.word(), row.exit_code, error) {
                let sentence = "the audit log tells another end of it than its row";
                say(found, Invariant::ExitTruth, run(*id), sentence);
            }
        }
    }
}
