//! Where a shim lives: in a tmux window or on its own.

pub mod pty;
