//! The `kas` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kas::cli::run(std::env::args_os())
}
