#![doc = include_str!("../ARCHITECTURE.md")]
//!
//! # Modules
//!
//! The order below is the architecture: a module imports only modules listed above it, and the first section does no I/O.
//! `tests/it/tidy.rs` reads this list and holds both.

// ---- pure: no I/O, no clock, no async
pub mod control;
pub mod terminal;
pub mod model;
pub mod project;
pub mod policy;
pub mod lifecycle;
// ---- adapters: each talks to one outside thing
pub mod failpoint;
pub mod config;
pub mod metrics;
pub mod auth;
pub mod tls;
pub mod journal;
pub mod store;
pub mod broker;
pub mod shim;
pub mod backend;
// ---- application
pub mod check;
pub mod daemon;
pub mod web;
pub mod api;
pub mod client;
pub mod boot;
pub mod cli;
