//! The JSON of `spec/protocol.md`: what is read and what is written, nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::TokenRecord;
use crate::daemon::{self, Refusal};
use crate::model;
use crate::project;
use crate::store::StoredEvent;

// ---- requests

/// `{}`, where nothing needs saying.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Nothing {}

/// `POST /projects/:id/tasks/run`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Launch {
    pub(in crate::api) task: Option<String>,
    pub(in crate::api) command: Option<String>,
    pub(in crate::api) cwd: Option<String>,
    pub(in crate::api) cols: Option<Value>,
    pub(in crate::api) rows: Option<Value>,
}

/// `POST /projects/:id/tasks/run/confirm`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Confirm {
    pub(in crate::api) confirm_id: String,
    pub(in crate::api) proceed: bool,
}

/// `POST /session`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Exchange {
    pub(in crate::api) ticket: Option<String>,
    pub(in crate::api) token: Option<String>,
}

/// `POST /v1/repos`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AddRepo {
    pub(in crate::api) path: String,
}

/// `POST /v1/tokens`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct CreateToken {
    pub(in crate::api) name: Option<String>,
    pub(in crate::api) scope: Option<String>,
    pub(in crate::api) project: Option<String>,
    pub(in crate::api) task: Option<String>,
    /// Seconds.
    pub(in crate::api) expires_in: Option<i64>,
}

/// A terminal size as wished: both sides positive integers, or it is 80x24.
pub(in crate::api) fn size(cols: Option<&Value>, rows: Option<&Value>) -> model::Size {
    wished_size(cols, rows).unwrap_or(model::Size::DEFAULT)
}

/// The same, `None` where a side is absent or not a positive integer.
pub(in crate::api) fn wished_size(cols: Option<&Value>, rows: Option<&Value>) -> Option<model::Size> {
    let side = |value: Option<&Value>| {
        let value = value?;
        value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX))
    };
    model::Size::clamped(side(cols)?, side(rows)?)
}

// ---- answers

/// `{"error":{…}}`
#[derive(Debug, Serialize)]
pub(in crate::api) struct ErrorBody<'a> {
    error: ErrorFacts<'a>,
}

/// What an error says, in bodies and in error frames.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ErrorFacts<'a> {
    code: &'static str,
    message: &'a str,
    details: &'a Map<String, Value>,
}

impl<'a> ErrorFacts<'a> {
    pub(in crate::api) fn of(refusal: &'a Refusal) -> Self {
        Self {
            code: crate::api::error::word(refusal.code),
            message: &refusal.message,
            details: &refusal.details,
        }
    }
}

impl<'a> ErrorBody<'a> {
    pub(in crate::api) fn of(refusal: &'a Refusal) -> Self {
        Self { error: ErrorFacts::of(refusal) }
    }
}

/// A list, one page of it.
#[derive(Debug, Serialize)]
pub(in crate::api) struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
    has_more: bool,
}

impl<T> List<T> {
    /// A page, each item made by `each`.
    pub(in crate::api) fn of<S>(page: daemon::Page<S>, each: impl FnMut(&S) -> T) -> Self {
        let items = page.items.iter().map(each).collect();
        Self { items, has_more: page.next_cursor.is_some(), next_cursor: page.next_cursor }
    }
}

/// A problem of a project file.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Problem {
    file: String,
    line: u32,
    column: u32,
    /// The place in the document, a JSON pointer.
    path: String,
    message: String,
    hint: Option<String>,
    /// `project_moved`, or nothing.
    reason: Option<&'static str>,
}

impl From<&project::Problem> for Problem {
    fn from(it: &project::Problem) -> Self {
        Self {
            file: it.file.clone(),
            line: it.line,
            column: it.column,
            path: it.path.clone(),
            message: it.message.clone(),
            hint: it.hint.as_deref().map(str::to_owned),
            reason: it.reason.map(project::Reason::word),
        }
    }
}

fn problems(all: &[project::Problem]) -> Vec<Problem> {
    all.iter().map(Problem::from).collect()
}

/// A registered project.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Project {
    id: String,
    path: String,
    tasks: usize,
    running: usize,
    problems: Vec<Problem>,
}

impl From<&daemon::ProjectSummary> for Project {
    fn from(it: &daemon::ProjectSummary) -> Self {
        Self {
            id: it.id.to_string(),
            path: it.path.to_string_lossy().into_owned(),
            tasks: it.tasks,
            running: it.running,
            problems: problems(&it.problems),
        }
    }
}

/// One run of a command.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Instance {
    id: String,
    project_id: String,
    task_name: Option<String>,
    command: String,
    cwd: String,
    state: &'static str,
    backend: &'static str,
    tmux_session: Option<String>,
    tmux_window: Option<String>,
    pid: Option<u32>,
    exit_code: Option<i32>,
    signal: Option<String>,
    error: Option<&'static str>,
    error_text: Option<String>,
    launched_at: i64,
    exited_at: Option<i64>,
    stopped_at: Option<i64>,
    duration_ms: Option<i64>,
    launched_by: String,
    output_bytes: u64,
    restarted_from: Option<String>,
}

impl From<&model::Instance> for Instance {
    fn from(it: &model::Instance) -> Self {
        Self {
            id: it.id.to_string(),
            project_id: it.project_id.to_string(),
            task_name: it.task_name.as_ref().map(ToString::to_string),
            command: it.command.clone(),
            cwd: it.cwd.to_string_lossy().into_owned(),
            state: it.state.word(),
            backend: it.backend.word(),
            tmux_session: it.tmux_session.clone(),
            tmux_window: it.tmux_window.clone(),
            pid: it.pid,
            exit_code: it.exit_code(),
            signal: it.signal(),
            error: it.error.map(model::ErrorWord::word),
            error_text: it.error_text.clone(),
            launched_at: it.launched_at.0,
            exited_at: it.exited_at.map(|at| at.0),
            stopped_at: it.stopped_at.map(|at| at.0),
            duration_ms: it.duration_ms(),
            launched_by: it.launched_by.clone(),
            output_bytes: it.output_bytes,
            restarted_from: it.restarted_from.map(|id| id.to_string()),
        }
    }
}

/// The newest run of a task, in short.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Latest {
    id: String,
    state: &'static str,
    exit_code: Option<i32>,
    launched_at: i64,
    exited_at: Option<i64>,
}

/// A named task.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Task {
    name: String,
    command: String,
    description: String,
    group: Option<String>,
    cwd: Option<String>,
    long_running: bool,
    confirm: bool,
    env: BTreeMap<String, String>,
    history: bool,
    history_count: u8,
    latest: Option<Latest>,
}

impl From<&daemon::TaskView> for Task {
    fn from(it: &daemon::TaskView) -> Self {
        let task = &it.task;
        Self {
            name: task.name.to_string(),
            command: task.command.clone(),
            description: task.description.clone(),
            group: task.group.clone(),
            cwd: task.cwd.clone(),
            long_running: task.long_running,
            confirm: task.confirm,
            env: task.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            history: task.history,
            history_count: task.history_count,
            latest: it.latest.as_ref().map(|run| Latest {
                id: run.id.to_string(),
                state: run.state.word(),
                exit_code: run.exit_code(),
                launched_at: run.launched_at.0,
                exited_at: run.exited_at.map(|at| at.0),
            }),
        }
    }
}

/// `GET /projects/:id/tasks`
#[derive(Debug, Serialize)]
pub(in crate::api) struct Tasks {
    items: Vec<Task>,
    instances: Vec<Instance>,
    problems: Vec<Problem>,
}

impl From<&daemon::TasksView> for Tasks {
    fn from(it: &daemon::TasksView) -> Self {
        Self {
            items: it.tasks.iter().map(Task::from).collect(),
            instances: it.instances.iter().map(Instance::from).collect(),
            problems: problems(&it.problems),
        }
    }
}

/// A question before a run.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ConfirmRequired {
    confirm_required: bool,
    confirm_id: String,
    task_name: String,
    command: String,
    message: String,
    expires_at: i64,
}

impl From<&daemon::ConfirmRequired> for ConfirmRequired {
    fn from(it: &daemon::ConfirmRequired) -> Self {
        Self {
            confirm_required: true,
            confirm_id: it.confirm_id.clone(),
            task_name: it.task_name.clone(),
            command: it.command.clone(),
            message: it.message.clone(),
            expires_at: it.expires_at.0,
        }
    }
}

/// A pane that no instance owns.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Pane {
    pane: u32,
    window: u32,
    title: String,
    command: String,
    cols: u16,
    rows: u16,
}

impl From<&daemon::PaneView> for Pane {
    fn from(it: &daemon::PaneView) -> Self {
        Self {
            pane: it.pane,
            window: it.window,
            title: it.title.clone(),
            command: it.command.clone(),
            cols: it.size.cols(),
            rows: it.size.rows(),
        }
    }
}

/// An event: the same object in the audit list, on the socket (with `"type":"event"`) and in server-sent events.
/// What it carries besides stands beside the fixed fields and cannot overwrite them.
pub(in crate::api) fn event(it: &StoredEvent) -> Map<String, Value> {
    let mut object = it.details.clone();
    object.insert("id".into(), it.id.into());
    object.insert("event".into(), it.kind.clone().into());
    object.insert("at".into(), it.at.0.into());
    object.insert("project_id".into(), it.project_id.clone().into());
    object.insert("task_id".into(), it.task_id.clone().into());
    object
}

/// A registered directory, as `/v1/repos` tells it.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Repo {
    path: String,
    project: String,
    /// Always empty: plans are not this program's business yet.
    active_plans: [(); 0],
}

impl From<&daemon::ProjectSummary> for Repo {
    fn from(it: &daemon::ProjectSummary) -> Self {
        let path = it.path.to_string_lossy().into_owned();
        Self { path, project: it.id.to_string(), active_plans: [] }
    }
}

/// A token; its secret only where it was just made.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Token {
    id: String,
    name: String,
    scope: &'static str,
    project: Option<String>,
    task: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

impl Token {
    /// With its secret, and the address that opens the page with it, when it was just made.
    pub(in crate::api) fn of(it: &TokenRecord, made: Option<(String, Option<String>)>) -> Self {
        let (token, link) = made.map_or((None, None), |(secret, link)| (Some(secret), link));
        Self {
            id: it.id.clone(),
            name: it.name.clone(),
            scope: it.scope.word(),
            created_at: it.created_at.0,
            expires_at: it.expires_at.map(|at| at.0),
            revoked_at: it.revoked_at.map(|at| at.0),
            project: it.only.as_ref().map(|only| only.project.to_string()),
            task: it.only.as_ref().map(|only| only.task.to_string()),
            token,
            link,
        }
    }
}

/// `GET /v1/status`
#[derive(Debug, Serialize)]
pub(in crate::api) struct Status {
    running: bool,
    repos: Vec<Repo>,
    repo_count: usize,
    /// Seconds.
    uptime: i64,
    started_at: i64,
    pid: u32,
    version: &'static str,
    http_addr: Option<String>,
    /// The page's address as a browser is to use it.
    http_url: Option<String>,
    backend: &'static str,
    tmux_version: Option<String>,
    /// What the tmux server is set to that kas overrides, cannot override, or goes without it for.
    tmux_notes: Vec<String>,
    tasks_running: usize,
    config_problems: Vec<String>,
}

impl Status {
    pub(in crate::api) fn of(it: &daemon::Status, tmux_notes: Vec<String>, now: model::TimeMs) -> Self {
        Self {
            running: true,
            repos: it.projects.iter().map(Repo::from).collect(),
            repo_count: it.projects.len(),
            uptime: ((now.0 - it.started_at.0) / 1000).max(0),
            started_at: it.started_at.0,
            pid: it.pid,
            version: env!("CARGO_PKG_VERSION"),
            http_addr: it.http_addr.clone(),
            http_url: it.http_url.clone(),
            backend: it.backend.word(),
            tmux_version: it.tmux_version.clone(),
            tmux_notes,
            tasks_running: it.projects.iter().map(|project| project.running).sum(),
            config_problems: it.config_problems.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{InstanceId, Offset, RunState, TimeMs};

    #[test]
    fn a_size_is_whole_or_the_default() {
        let check = |cols: Value, rows: Value, expect: (u16, u16)| {
            let size = size(Some(&cols), Some(&rows));
            assert_eq!((size.cols(), size.rows()), expect, "{cols} {rows}");
        };
        check(json!(132), json!(44), (132, 44));
        check(json!(5000), json!(44), (1000, 44));
        check(json!(u64::MAX), json!(1_000_000_000_000_i64), (1000, 1000));
        for bad in [json!(0), json!(-1), json!(1.5), json!("80"), json!(null), json!([80]), json!(true)] {
            check(bad.clone(), json!(44), (80, 24));
            check(json!(44), bad, (80, 24));
        }
        assert_eq!(size(None, Some(&json!(10))), model::Size::DEFAULT);
    }

    #[test]
    fn an_event_cannot_be_disguised_by_its_details() {
        let mut details = Map::new();
        details.insert("id".into(), 99.into());
        details.insert("exit_code".into(), 3.into());
        let stored = StoredEvent {
            id: 7,
            kind: "task.exited".into(),
            at: TimeMs(5),
            project_id: Some("demo".into()),
            task_id: None,
            details,
        };
        let expect =
            json!({"id":7,"event":"task.exited","at":5,"project_id":"demo","task_id":null,"exit_code":3});
        assert_eq!(Value::Object(event(&stored)), expect);
    }

    #[test]
    fn an_instance_has_exactly_the_fields_of_the_contract() {
        let run = model::Instance {
            id: InstanceId::from_parts(1, 2),
            project_id: "demo".parse().unwrap(),
            task_name: None,
            command: "sleep 9".into(),
            cwd: "/p".into(),
            state: RunState::Failed,
            backend: model::BackendKind::Tmux,
            tmux_session: Some("kaged-demo".into()),
            tmux_window: None,
            pid: Some(4),
            exit: Some(model::Exit::Signal(9)),
            error: None,
            error_text: None,
            launched_at: TimeMs(10),
            exited_at: Some(TimeMs(30)),
            stopped_at: None,
            launched_by: "me".into(),
            output_bytes: Offset(12).0,
            restarted_from: None,
            history: None,
        };
        let expect = json!({
            "id": run.id.to_string(), "project_id": "demo", "task_name": null, "command": "sleep 9", "cwd": "/p",
            "state": "failed", "backend": "tmux", "tmux_session": "kaged-demo", "tmux_window": null, "pid": 4,
            "exit_code": 137, "signal": "SIGKILL", "error": null, "error_text": null, "launched_at": 10, "exited_at": 30,
            "stopped_at": null, "duration_ms": 20, "launched_by": "me", "output_bytes": 12, "restarted_from": null,
        });
        assert_eq!(serde_json::to_value(Instance::from(&run)).unwrap(), expect);
    }
}
