//! Builds everything and runs until shutdown.
//!
//! The order matters: the lock comes before anything that is shared, what was found is taken up before anybody is served, and
//! the readiness is told last.

mod error;
mod lock;
mod log;
mod memory;
mod operator;
mod run;
mod vault;

pub use error::Error;
pub use run::{Options, run_blocking};
