//! `.kaged/project.yaml` to a checked list of tasks, or every problem with its line and column.

/// placeholder until the part lands
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// f
    pub file: String,
    /// l
    pub line: usize,
    /// c
    pub column: usize,
    /// m
    pub message: String,
    /// h
    pub hint: Option<String>,
}
/// placeholder until the part lands
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDef {
    /// n
    pub name: crate::model::TaskName,
    /// c
    pub command: String,
    /// d
    pub description: Option<String>,
    /// g
    pub group: Option<String>,
    /// c
    pub cwd: Option<String>,
    /// l
    pub long_running: bool,
    /// c
    pub confirm: bool,
    /// e
    pub env: std::collections::BTreeMap<String, String>,
    /// h
    pub history: bool,
    /// h
    pub history_count: u8,
}
