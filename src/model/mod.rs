//! Ids, and the records that three or more modules share. No I/O types, no framework types, nothing serializable.

mod actor;
mod definition;
mod event;
mod id;
mod instance;
mod size;
mod time;

pub use actor::{Actor, Scope, SharedTask};
pub use definition::Definition;
pub use event::EventKind;
pub use id::{InstanceId, InvalidId, Offset, ProjectId, TaskName};
pub use instance::{BackendKind, ErrorWord, Exit, Instance, RunState, cause_text, signal_number};
pub use size::Size;
pub use time::TimeMs;
