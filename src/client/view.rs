//! The fields of answers that the command line needs, taken out of JSON in one place. The JSON itself stays at hand for `--json`.

use serde_json::Value;

use super::{End, Error};
use crate::model::{BackendKind, InstanceId, RunState};

fn text(value: &Value, key: &str) -> Result<String, Error> {
    let found = value[key].as_str().map(str::to_owned);
    found.ok_or_else(|| Error::Nonsense(format!("`{key}` is missing")))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(value: &Value, key: &str) -> Result<T, Error> {
    text(value, key)?.parse().map_err(|error: T::Err| Error::Nonsense(format!("`{key}`: {error}")))
}

fn integer(value: &Value, key: &str) -> Result<i64, Error> {
    value[key].as_i64().ok_or_else(|| Error::Nonsense(format!("`{key}` is missing")))
}

/// One run of a command, as `Instance` of `spec/protocol.md` §3 tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: InstanceId,
    /// The project it belongs to.
    pub project: String,
    /// The named task; `None` for an ad-hoc command.
    pub task: Option<String>,
    /// The shell command.
    pub command: String,
    /// Where it is in its life.
    pub state: RunState,
    /// What holds it.
    pub backend: BackendKind,
    /// The code, once it ended and the kernel gave one.
    pub exit_code: Option<i32>,
    /// The signal's name, if one ended it.
    pub signal: Option<String>,
    /// Why there is no code, if there is none.
    pub error: Option<String>,
    /// The same in words.
    pub error_text: Option<String>,
    /// Epoch milliseconds.
    pub launched_at: i64,
    /// How long it ran, once it ended.
    pub duration_ms: Option<i64>,
    /// The whole answer.
    pub json: Value,
}

impl Run {
    /// Reads an `Instance`.
    ///
    /// # Errors
    /// [`Error::Nonsense`], the field named.
    pub fn of(json: Value) -> Result<Self, Error> {
        let maybe = |key: &str| json[key].as_str().map(str::to_owned);
        Ok(Self {
            id: word(&json, "id")?,
            project: text(&json, "project_id")?,
            task: maybe("task_name"),
            command: text(&json, "command")?,
            state: word(&json, "state")?,
            backend: word(&json, "backend")?,
            exit_code: json["exit_code"].as_i64().and_then(|code| code.try_into().ok()),
            signal: maybe("signal"),
            error: maybe("error"),
            error_text: maybe("error_text"),
            launched_at: integer(&json, "launched_at")?,
            duration_ms: json["duration_ms"].as_i64(),
            json,
        })
    }

    /// The run as it ended, where its record is gone and an event told the end: `task.exited` or `task.stopped`. Any other event is none.
    #[must_use]
    pub fn ended_as(&self, event: &Value) -> Option<Self> {
        let state = match event["event"].as_str()? {
            "task.stopped" => "stopped",
            "task.exited" => event["state"].as_str()?,
            _ => return None,
        };
        let mut json = self.json.clone();
        json["state"] = state.into();
        json["exited_at"] = event["at"].clone();
        for told in ["exit_code", "signal", "error", "error_text", "duration_ms"] {
            if let Some(value) = event.get(told) {
                json[told] = value.clone();
            }
        }
        Self::of(json).ok()
    }

    /// The run with the end that its terminal told, as far as that goes.
    #[must_use]
    pub fn ended(mut self, end: End) -> Self {
        (self.state, self.exit_code, self.signal) = (end.state, end.exit_code, end.signal);
        self
    }

    /// What to call it: the task's name, or the id of an ad-hoc run.
    #[must_use]
    pub fn name(&self) -> String {
        self.task.clone().unwrap_or_else(|| self.id.to_string())
    }
}

/// What a launch came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// It runs.
    Run(Box<Run>),
    /// A person must say yes first.
    Confirm(Question),
    /// A person said no.
    Cancelled,
}

/// A question before a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// To be sent back.
    pub id: String,
    /// The task.
    pub task: String,
    /// What would run.
    pub command: String,
}

impl Started {
    /// Reads the answer to a launch or to a confirmation.
    ///
    /// # Errors
    /// [`Error::Nonsense`].
    pub fn of(json: Value) -> Result<Self, Error> {
        if json["confirm_required"] == true {
            let (id, task) = (text(&json, "confirm_id")?, text(&json, "task_name")?);
            return Ok(Self::Confirm(Question { id, task, command: text(&json, "command")? }));
        }
        if json["cancelled"] == true {
            return Ok(Self::Cancelled);
        }
        Run::of(json).map(|run| Self::Run(Box::new(run)))
    }
}

/// A registered project.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// Its directory.
    pub path: String,
    /// How many named tasks it has.
    pub tasks: i64,
    /// How many runs are starting or running.
    pub running: i64,
    /// How many problems its file has now.
    pub problems: usize,
}

impl Registered {
    /// Reads an item of `GET /projects`.
    ///
    /// # Errors
    /// [`Error::Nonsense`], the field named.
    pub fn of(json: &Value) -> Result<Self, Error> {
        Ok(Self {
            id: text(json, "id")?,
            path: text(json, "path")?,
            tasks: integer(json, "tasks")?,
            running: integer(json, "running")?,
            problems: json["problems"].as_array().map_or(0, Vec::len),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance() -> Value {
        json!({"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","project_id":"demo","task_name":null,"command":"true","state":"done",
            "backend":"pty","exit_code":0,"signal":null,"error":null,"launched_at":5,"duration_ms":7})
    }

    #[test]
    fn reads_a_run_and_names_what_is_missing() {
        let run = Run::of(instance()).unwrap();
        assert_eq!(
            (run.name().as_str(), run.exit_code, run.duration_ms),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(0), Some(7))
        );
        for key in ["id", "project_id", "command", "state", "backend", "launched_at"] {
            let mut json = instance();
            json[key] = Value::Null;
            assert!(Run::of(json).unwrap_err().to_string().contains(key));
        }
    }

    #[test]
    fn an_end_is_taken_from_the_event_that_told_it() {
        let mut json = instance();
        json["state"] = "running".into();
        let run = Run::of(json).unwrap();
        let exited = json!({"event": "task.exited", "at": 9, "state": "failed", "exit_code": 137, "signal": "SIGKILL",
            "error": null, "duration_ms": 4});
        let ended = run.ended_as(&exited).unwrap();
        let end = (ended.state, ended.exit_code, ended.signal.as_deref(), ended.duration_ms);
        assert_eq!(end, (RunState::Failed, Some(137), Some("SIGKILL"), Some(4)));
        assert_eq!(ended.json["exited_at"], 9);
        let stopped = json!({"event": "task.stopped", "at": 9, "exit_code": 0, "signal": null});
        let ended = run.ended_as(&stopped).unwrap();
        assert_eq!((ended.state, ended.exit_code, ended.signal), (RunState::Stopped, Some(0), None));
        assert_eq!(run.ended_as(&json!({"event": "task.launched"})), None);
    }

    #[test]
    fn tells_a_run_from_a_question() {
        assert!(matches!(Started::of(instance()), Ok(Started::Run(_))));
        assert_eq!(Started::of(json!({"cancelled":true})).unwrap(), Started::Cancelled);
        let question = json!({"confirm_required":true,"confirm_id":"c","task_name":"deploy","command":"x","message":"?","expires_at":1});
        let expect = Question { id: "c".into(), task: "deploy".into(), command: "x".into() };
        assert_eq!(Started::of(question).unwrap(), Started::Confirm(expect));
    }
}
