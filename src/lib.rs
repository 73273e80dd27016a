//! `kas` runs a project's commands in tmux windows or plain PTYs, shows them live in browser terminals, and loses nothing.
//!
//! The modules below are listed in reading order, and a module imports only modules above it; `tests/it/tidy.rs` holds that.

// ---- pure: no I/O, no clock, no async
pub mod control;
pub mod lifecycle;
pub mod model;
pub mod policy;
pub mod project;
pub mod terminal;
// ---- adapters: each talks to one outside thing
pub mod auth;
pub mod backend;
pub mod broker;
pub mod config;
pub mod journal;
pub mod metrics;
pub mod shim;
pub mod store;
// ---- application
pub mod api;
pub mod boot;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod web;
