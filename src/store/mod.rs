//! Domain verbs over SQLite: one writer thread, a few readers.

/// placeholder until the part lands
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// i
    pub id: i64,
    /// k
    pub kind: String,
    /// a
    pub at: crate::model::TimeMs,
    /// p
    pub project_id: Option<String>,
    /// t
    pub task_id: Option<String>,
    /// d
    pub details: serde_json::Map<String, serde_json::Value>,
}
