//! The `kas` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        // Before anything heavy is set up: a shim is small and there are many.
        (Some(word), Some(dir)) if word == "shim" => shim(dir),
        _ => kas::cli::run(std::env::args_os()),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a shim that cannot begin; its window shows them")]
fn shim(dir: std::ffi::OsString) -> ExitCode {
    kas::shim::main(dir).map_or_else(
        |error| {
            eprintln!("kas shim: {error}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}
