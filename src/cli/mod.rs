//! The command line: arguments, one file per command, what is printed and the exit code.

pub mod check;
pub mod output;
pub mod schema;
//! The command line: arguments, one file per command, output, exit codes.

pub mod debug;
