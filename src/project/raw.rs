//! The file as written: what the schema lets through, before names and defaults are applied.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The keys of a project file that matter here; the rest belongs to others.
#[derive(Debug, Deserialize)]
pub(super) struct Project {
    pub(super) project: Option<String>,
    #[serde(default)]
    pub(super) tasks: BTreeMap<String, Option<Task>>,
}

/// One entry of `tasks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    pub(super) command: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) group: Option<String>,
    pub(super) cwd: Option<String>,
    #[serde(default)]
    pub(super) long_running: bool,
    #[serde(default)]
    pub(super) confirm: bool,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) history: Option<bool>,
    /// A float, because JSON Schema counts `3.0` as an integer; the schema keeps it whole and within 1 to 20.
    pub(super) history_count: Option<f64>,
}
