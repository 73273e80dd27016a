//! Builds everything and runs until shutdown.
//!
//! The order matters: the lock comes before anything that is shared, what was found is taken up before anybody is served, and
//! the readiness is told last.

mod error;
mod init;
mod lock;
mod log;
mod memory;
mod notify;
mod operator;
mod run;
mod signals;
mod vault;

pub use error::Error;
pub use init::as_first_process;
pub use operator::name as operator_name;
pub use run::{Options, run_blocking};
