//! The process that holds a command on its own PTY, and the protocol spoken with it.
//!
//! `kas shim DIR` is one thread around poll(2): `holder` is its state and its loop, `window`, `peer` and `input` are what it copies to and
//! from, `supply` is where the bytes come from, `answers` what the command asks its terminal, `tree` ends process trees, `spawn` starts the command, and `ward` is the process that outlives a killed
//! shim. `remains` ends what is left where the ward was killed too, which `label` knows. [`Client`] is the other side.

mod answers;
mod client;
mod holder;
mod input;
mod label;
mod peer;
mod process;
mod remains;
mod running;
mod spawn;
mod supply;
mod sys;
mod tree;
mod ward;
mod window;
mod wire;

pub use client::{Client, ClientError, EventStream, INPUT_CREDIT, gone};
pub use label::leave_run;
pub use process::main;
pub use remains::{Left, Living, Look, RUN_ID, Remains, mark_of};
pub use running::running;
pub use wire::{Event, Hello, OLDEST, Phase, Request, SOCKET, VERSION, WireError, read_only};
