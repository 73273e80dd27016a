//! The daemon, a shim or the whole machine goes away at any moment.

mod cycles;
mod downtime;
mod launches;
mod pause;
mod retry;
mod shim;
mod stale;
mod truth;
