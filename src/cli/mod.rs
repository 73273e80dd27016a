//! The command line: arguments, one file per command, what is printed and the exit code.

mod args;
mod attach;
pub mod check;
mod context;
mod daemon;
pub mod debug;
mod detach;
mod dispatch;
mod error;
mod filter;
mod launch;
mod list;
mod logs;
mod open;
pub mod output;
mod quote;
mod run;
mod runs;
mod salvage;
pub mod schema;
mod signals;
mod table;
mod token;
mod tty;
mod wait;

pub use dispatch::run;
