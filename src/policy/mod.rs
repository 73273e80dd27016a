//! Rules as pure functions: how many runs at once, what needs a yes, which ended runs are kept.

mod confirm;
mod limits;
mod retention;

pub use confirm::{Confirmations, Fingerprint, Question, Rejected, Subject};
pub use limits::{Load, OverLimit, TaskLimits};
pub use retention::{AD_HOC_KEPT, cull, kept_of_task};
