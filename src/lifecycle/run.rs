//! A run and what was asked of it.

use crate::model::{Instance, TimeMs};

/// The operator's wish that a run end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// When it was asked for.
    pub at: TimeMs,
    /// Who asked: the operator's name.
    pub by: String,
}

/// A run with what decides how its end is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is shown of it.
    pub instance: Instance,
    /// The first stop that was asked for. It is recorded before anything is signalled, so that a daemon that dies in
    /// between still knows why the command ended.
    pub stop: Option<StopRequest>,
}

impl Run {
    /// A run nobody asked to stop.
    #[must_use]
    pub const fn new(instance: Instance) -> Self {
        Self { instance, stop: None }
    }
}
