//! Integration tests, one binary. Each file is listed here; `tidy` checks that none was forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests start processes, read clocks and stop at the first surprise"
)]

mod abnf;
mod backend_story;
mod check;
mod cli;
mod control;
mod daemon_process;
mod demo_project;
mod fuzz;
#[path = "../fuzz/targets.rs"]
mod fuzz_targets;
mod grammar;
#[allow(dead_code, unused_imports, reason = "shared by the test binaries, each of which uses a part of it")]
#[path = "../harness/mod.rs"]
mod harness;
mod http;
mod journal;
mod local_users;
mod matrix;
mod namespaces;
mod project;
mod replay;
mod scripts;
mod served;
mod sharing;
mod shim;
mod simulation;
mod store_story;
mod tidy;
mod tls;
mod tmux;
mod untrusted;
mod window;
mod widths;
mod wrong_credentials;
mod ws;
