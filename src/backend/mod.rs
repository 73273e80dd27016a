//! Where a shim lives: in a tmux window or on its own.

mod error;
mod holder;
mod program;
pub mod pty;
mod scope;
pub mod tmux;

pub use error::BackendError;
pub use holder::Holder;
pub use program::Program;
use program::find_program;
pub use scope::Scopes;
