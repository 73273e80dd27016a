//! The process that holds a command on its own PTY, and the protocol spoken with it.

mod client;
mod wire;

pub use client::{Client, ClientError, EventStream, INPUT_CREDIT};
pub use wire::{Event, Hello, Phase, Request, VERSION, WireError};

/// The socket's name in an instance directory.
pub const SOCKET: &str = "shim.sock";
