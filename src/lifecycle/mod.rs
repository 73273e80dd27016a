//! One run's life as pure functions: what an event makes of it, and what to do with it after the daemon was away.

mod reattach;
mod run;
mod transition;

pub use reattach::{
    Boot, DeadDir, DeadWindow, Decision, EndRecord, Facts, FoundDir, FoundSession, FoundWindow, OnRestart,
    ProvedShim, ProvedTree, Recorded, Server, Shim, WindowName, decide,
};
pub use run::{Run, StopRequest};
pub use transition::{Event, Refused, Step, transition};
