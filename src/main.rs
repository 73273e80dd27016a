//! The `kas` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        // Before anything heavy is set up: a shim is small and there are many.
        (Some(word), Some(dir)) if word == "shim" => shim(dir),
        _ => match kas::boot::as_first_process() {
            Ok(None) => with_room(|| kas::cli::run(std::env::args_os())),
            Ok(Some(code)) => ExitCode::from(code),
            Err(error) => failed("cannot begin", &error),
        },
    }
}

/// What a command may need of a stack, whatever `ulimit -s` says: it is not used before it is needed.
const STACK_BYTES: usize = 8 << 20;

fn with_room(command: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    match std::thread::Builder::new().name("main".to_owned()).stack_size(STACK_BYTES).spawn(command) {
        // A panic has been told where it happened.
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(101)),
        Err(error) => failed("cannot begin", &error),
    }
}

#[expect(clippy::print_stderr, reason = "nothing is there yet that could say it")]
fn failed(what: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("kas: {what}: {error}");
    ExitCode::FAILURE
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
