//! The orchestrator: inputs, a pure step, effects, and the loop that performs them.
//!
//! [`Input`] is everything that can wake it, `step` decides, [`Effect`] is what it wants done, the performer does it. Bytes of
//! terminals never pass here: they go from a shim or tmux to a channel, and from a viewer to a shim.

mod changes;
mod effect;
mod ended;
mod facts;
mod handle;
mod ids;
mod input;
mod lives_on;
mod panes;
mod perform;
mod processes;
mod projects;
mod reads;
mod refusal;
mod replies;
mod restart;
mod resume;
mod run;
mod start;
mod state;
mod step;
mod terminals;
mod view;
mod watching;

pub use effect::{Effect, RunEffect};
pub use facts::{Facts, Serving, task_limits};
pub use handle::{Answer, Handle};
pub use input::{
    Confirmation, DeleteTarget, Input, Placement, Plan, Project, Reached, Reply, ReplyId, ShimReport,
    SpawnFailure,
};
pub use perform::Places;
pub use projects::problems_json;
pub use refusal::{Code, Refusal};
pub use resume::{Resume, end_report, resume, waited_in_vain};
pub use start::{Parts, start};
pub use state::{Live, Phase, State};
pub use step::step;
pub use view::{
    AuditFilter, ConfirmRequired, Confirmed, InstanceFilter, LaunchRequest, Launched, Page, PaneView,
    ProjectSummary, ReloadReport, Status, StoredEvent, TaskView, TasksView, Terminal, TerminalId, Transcript,
    What,
};
