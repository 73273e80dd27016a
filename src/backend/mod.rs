//! Where a shim lives: in a tmux window or on its own.

mod error;
mod holder;
pub mod pty;
pub mod tmux;

pub use error::BackendError;
pub use holder::Holder;
