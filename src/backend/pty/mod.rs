//! A shim without a window: a detached child of the daemon.

mod spawn;

pub use spawn::{Detached, ended, spawn, spawn_outside};
