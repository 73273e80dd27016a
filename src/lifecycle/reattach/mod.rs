//! What to do with everything that is recorded or found after the daemon was away: `facts` in, `decide` out, and the proofs without
//! which nothing is ended.

mod decide;
mod facts;
#[cfg(test)]
mod laws;
mod proof;

pub use decide::{Decision, decide};
pub use facts::{
    Boot, EndRecord, Facts, FoundDir, FoundSession, FoundWindow, OnRestart, Recorded, Server, Shim,
    WindowName,
};
pub use proof::{DeadDir, DeadWindow, ProvedShim, ProvedTree};
