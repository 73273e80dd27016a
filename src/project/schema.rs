//! The JSON Schema of project files, the one that is printed and the one that is used.

use std::sync::LazyLock;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// `grammar/project.schema.json`, JSON Schema 2020-12.
pub const SCHEMA: &str = include_str!("../../grammar/project.schema.json");

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(SCHEMA).expect("a test parses the committed schema"));

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| compile(&DOCUMENT).expect("a test compiles the committed schema"));

/// The most bytes that a compiled pattern may take; those of the schema take a tenth of it.
const PATTERN_BYTES: usize = 1 << 20;

/// Compiles a schema whose patterns run on the linear engine: their time must not depend on how clever their input is.
fn compile(document: &Value) -> Result<Validator, Box<jsonschema::ValidationError<'_>>> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns).build(document).map_err(Box::new)
}

/// The compiled schema.
pub(super) fn validator() -> &'static Validator {
    &VALIDATOR
}

/// The keys a task may have.
pub(super) fn task_keys() -> impl Iterator<Item = &'static str> {
    let properties = DOCUMENT.pointer("/$defs/Task/properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ProjectId, TaskName};

    #[test]
    fn is_a_valid_schema_of_its_draft() {
        assert!(jsonschema::meta::is_valid(&DOCUMENT));
        assert!(validator().is_valid(&json!({})));
        assert_eq!(task_keys().count(), 9);
    }

    #[test]
    fn a_pattern_that_could_take_long_or_much_is_no_pattern() {
        let compiles = |pattern: &str| compile(&json!({ "pattern": pattern })).is_ok();
        assert!(compiles("^(a+)+$"));
        // Only an engine that backtracks has these.
        assert!(!compiles("^(?=a)b") && !compiles("^(a+)\\1$"));
        assert!(!compiles("^(a{1000}){1000}$"));
    }

    #[test]
    fn names_agree_with_the_model() {
        let long = ["a".repeat(32), "a".repeat(33), "9".repeat(63), "9".repeat(64)];
        let mut names =
            vec!["", "a", "ab", "a1", "1a", "a-", "-a", "a_", "a_b", "A", "a b", "new", "all", "adhoc", "é1"];
        names.extend(["a\n", "ab\n", "newer", "a-b-c", "a--b", "0", "a.b"]);
        for name in names.into_iter().chain(long.iter().map(String::as_str)) {
            let task = validator().is_valid(&json!({"tasks": {name: {"command": "x"}}}));
            assert_eq!(task, name.parse::<TaskName>().is_ok(), "task {name:?}");
            let project = validator().is_valid(&json!({"project": name}));
            assert_eq!(project, name.parse::<ProjectId>().is_ok(), "project {name:?}");
        }
    }
}
