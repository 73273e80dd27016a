//! The orchestrator: inputs, a pure step, effects, and the loop that performs them.

mod handle;
mod refusal;
mod view;

pub use handle::{Answer, Handle};
pub use refusal::{Code, Refusal};
pub use view::{
    AuditFilter, ConfirmRequired, Confirmed, InstanceFilter, LaunchRequest, Launched, Page, PaneView,
    ProjectSummary, ReloadReport, Status, TaskView, TasksView, Terminal, TerminalId, Transcript, What,
};
