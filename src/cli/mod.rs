//! The command line: arguments, one file per command, output, exit codes.

pub mod debug;
