//! The fault suite: each fault of `README.md` beside this file, made to happen to real daemons, shims and tmux servers.
//!
//! Every test ends with `World::fsck`, which checks the invariants over everything the fault left behind.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests start processes, read clocks, say what they measured, and stop at the first surprise"
)]

mod bounds;
#[allow(dead_code, unused_imports, reason = "shared by the test binaries, each of which uses a part of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod kill;
mod launch;
mod list;
mod process;
mod reattach;
mod service;
mod storage;
mod tmux;

/// How thorough this run is: `KAS_FAULTS=long` is what `scripts/faults --long` asks for, anything else is CI's share.
#[allow(dead_code, reason = "only what takes long asks")]
fn long() -> bool {
    std::env::var_os("KAS_FAULTS").is_some_and(|how| how == "long")
}
