//! What the schema refuses, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::parse::{Documents, MAX_PROBLEMS, Part};
use super::problem::{segments, shown};
use super::{Problem, closest, schema};
use crate::model::{ProjectId, TaskName};

const NAME_RULE: &str = "2 to 32 of `a-z`, `0-9`, `_`, `-`; a letter first, no `_` or `-` last";

/// Adds everything the schema refuses in `value`, which is what `documents` say together.
pub(super) fn validate(value: &Value, documents: &Documents<'_>, problems: &mut Vec<Problem>) {
    for error in schema::validator().iter_errors(value) {
        // Enough to fill the list; to find every place in a huge file would take long.
        if problems.len() > 2 * MAX_PROBLEMS {
            return;
        }
        explain(&error, documents, problems);
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest are keywords of single values; `rule` words them by field"
)]
fn explain(error: &ValidationError<'_>, documents: &Documents<'_>, problems: &mut Vec<Problem>) {
    let path = segments(error.instance_path().as_str());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let some = unexpected.iter().take(2 * MAX_PROBLEMS);
            problems.extend(some.map(|key| unknown_key(&path, key, documents)));
        }
        ValidationErrorKind::PropertyNames { error } => {
            problems.push(bad_key(&path, error.instance(), documents))
        }
        ValidationErrorKind::Required { .. } => problems.extend(missing(&path, error.instance(), documents)),
        ValidationErrorKind::Type { kind } => {
            problems.push(wrong_type(&path, kind, error.instance(), documents))
        }
        _ => {
            let (message, hint) = rule(&path, error);
            let part = if ends_in(&path, "tasks") { Part::Key } else { Part::Value };
            problems.push(documents.problem(&path, part, message).maybe_hint(hint));
        }
    }
}

fn unknown_key(path: &[String], key: &str, documents: &Documents<'_>) -> Problem {
    let message = format!("a task has no key `{}`", shown(key));
    let hint = match closest(key, schema::task_keys()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("a task may have: {}", schema::task_keys().collect::<Vec<_>>().join(", ")),
    };
    documents.problem(&child(path, key), Part::Key, message).hint(hint)
}

fn bad_key(path: &[String], name: &Value, documents: &Documents<'_>) -> Problem {
    let name = name.as_str().unwrap_or_default();
    let problem = |message| documents.problem(&child(path, name), Part::Key, message);
    if path.last().is_some_and(|it| it == "env") {
        let message = format!("{} cannot be the name of a variable", quoted(name));
        return problem(message).hint("a name is not empty and has no `=` and no NUL");
    }
    if TaskName::RESERVED.contains(&name) {
        return problem(format!("`{name}` is a reserved word and cannot name a task"))
            .hint("choose another name");
    }
    problem(format!("{} cannot name a task", quoted(name))).hint(name_hint(name))
}

/// The rule for names, and a name near to the given one that follows it.
fn name_hint(name: &str) -> String {
    let slug = ProjectId::slug(name).map(|slug| slug.as_str().chars().take(32).collect::<String>());
    let near =
        slug.map(|slug| slug.trim_matches('-').to_owned()).filter(|slug| slug.parse::<TaskName>().is_ok());
    near.map_or_else(|| NAME_RULE.to_owned(), |near| format!("{NAME_RULE}: `{near}`"))
}

/// Of a task without a command; nothing when a misspelt `command` is told of already.
fn missing(path: &[String], task: &Value, documents: &Documents<'_>) -> Option<Problem> {
    let keys = || task.as_object().into_iter().flat_map(|task| task.keys());
    if keys().take(2 * MAX_PROBLEMS).any(|key| closest(key, schema::task_keys()) == Some("command")) {
        return None;
    }
    let name = path.last().map_or("", String::as_str);
    let message = format!("the task `{}` has no `command`", shown(name));
    Some(documents.problem(path, Part::Key, message).hint("add `command: …`, the shell command to run"))
}

fn wrong_type(path: &[String], kind: &TypeKind, value: &Value, documents: &Documents<'_>) -> Problem {
    let (expected, hint) = match kind {
        TypeKind::Single(JsonType::String) => ("text", text_hint(path, value, documents)),
        TypeKind::Single(JsonType::Boolean) => ("true or false", bool_hint(value)),
        TypeKind::Single(JsonType::Integer) => ("a whole number", integer_hint(value)),
        TypeKind::Single(JsonType::Null | JsonType::Number | JsonType::Array | JsonType::Object) => {
            ("a mapping", mapping_hint(path, value))
        }
        TypeKind::Multiple(_) => ("a mapping", Some(task_hint(value))),
    };
    let message = format!("{} must be {expected}, not {}", subject(path), described(value));
    documents.problem(path, Part::Value, message).maybe_hint(hint)
}

fn text_hint(path: &[String], value: &Value, documents: &Documents<'_>) -> Option<String> {
    match value {
        Value::Bool(_) | Value::Number(_) => {
            Some(format!("quote it: \"{}\"", shown(&documents.written(path))))
        }
        Value::Null if is_env(path) => Some("write \"\" for an empty value".to_owned()),
        Value::Null => Some("give it a value or remove the key".to_owned()),
        Value::Array(_) if ends_in(path, "command") => {
            Some("write one line; join commands with `&&`".to_owned())
        }
        Value::Array(_) | Value::Object(_) | Value::String(_) => None,
    }
}

fn bool_hint(value: &Value) -> Option<String> {
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("yes" | "y" | "on" | "true" | "1") => Some("write `true`, without quotes".to_owned()),
        Some("no" | "n" | "off" | "false" | "0") => Some("write `false`, without quotes".to_owned()),
        Some(_) | None => Some("write `true` or `false`".to_owned()),
    }
}

fn integer_hint(value: &Value) -> Option<String> {
    let number = value.as_str().and_then(|text| text.trim().parse::<i64>().ok());
    number.map(|number| format!("write `{number}`, without quotes"))
}

fn task_hint(value: &Value) -> String {
    let command = value.as_str().map_or_else(|| "…".to_owned(), shown);
    format!("put the command under it: `command: {command}`")
}

fn mapping_hint(path: &[String], value: &Value) -> Option<String> {
    let hint = match path.last().map(String::as_str) {
        None => "a project file starts with keys such as `tasks:`",
        Some("tasks") if value.is_null() => "write `tasks: {}` if there are none",
        Some("tasks") => "write each task under its name: `test:`, and below it `command: …`",
        Some("env") => "write `NAME: \"value\"` lines below it",
        Some(_) => return None,
    };
    Some(hint.to_owned())
}

/// Message and advice for a value of the right type that breaks its field's rule.
fn rule(path: &[String], error: &ValidationError<'_>) -> (String, Option<String>) {
    let text = error.instance().as_str().unwrap_or_default();
    let told = |message: String, hint: &str| (message, Some(hint.to_owned()));
    if is_env(path) || text.contains('\0') {
        return told(
            format!("{} contains a NUL character", subject(path)),
            "remove `\\0`: no command can be given one",
        );
    }
    match path.last().map_or("", String::as_str) {
        "command" => told("`command` is empty".to_owned(), "write the shell command to run"),
        "description" => {
            let length = text.chars().count();
            told(format!("`description` has {length} characters, more than 280"), "shorten it")
        }
        "group" => (format!("{} cannot name a group", quoted(text)), Some(name_hint(text))),
        "cwd" => cwd_rule(text),
        "history_count" => told(
            format!("`history_count` must be 1 to 20, not {}", error.instance()),
            "or `history: false` to keep none",
        ),
        "project" => {
            let near = ProjectId::slug(text).map_or_else(String::new, |slug| format!(": `{slug}`"));
            let hint = format!("1 to 63 of `a-z`, `0-9`, `-`, not `-` first{near}");
            (format!("{} cannot be a project's id", quoted(text)), Some(hint))
        }
        "tasks" => {
            let count = error.instance().as_object().map_or(0, serde_json::Map::len);
            told(format!("{count} tasks, more than 64"), "remove some, or make two projects")
        }
        _ => (error.to_string(), None),
    }
}

fn cwd_rule(cwd: &str) -> (String, Option<String>) {
    let message = if cwd.is_empty() {
        "`cwd` is empty"
    } else if cwd.starts_with('/') {
        "`cwd` must be relative to the project, not absolute"
    } else {
        "`cwd` must stay inside the project: no `..`"
    };
    let hint = "write a path below the project's directory, or leave `cwd` out to run at its root";
    (message.to_owned(), Some(hint.to_owned()))
}

fn child(path: &[String], key: &str) -> Vec<String> {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

fn ends_in(path: &[String], key: &str) -> bool {
    path.last().is_some_and(|last| last == key)
}

/// Whether the path is of a variable: `/tasks/<name>/env/<variable>`.
fn is_env(path: &[String]) -> bool {
    path.len() == 4 && path[2] == "env"
}

fn subject(path: &[String]) -> String {
    match path {
        [] => "the file".to_owned(),
        [_, task] => format!("the task `{}`", shown(task)),
        [.., name] if is_env(path) => format!("the variable `{}`", shown(name)),
        [.., key] => format!("`{}`", shown(key)),
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "an empty text".to_owned() } else { format!("`{}`", shown(text)) }
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(it) => format!("`{it}`"),
        Value::Number(it) => format!("the number `{it}`"),
        Value::String(it) => format!("the text \"{}\"", shown(it)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
