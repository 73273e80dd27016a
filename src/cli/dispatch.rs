//! From the arguments to the exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::{Value, json};

use super::args::{Args, Command, Global};
use super::context::Context;
use super::error::Error;
use super::filter::Guard;
use super::output::{Failure, Output, code};
use super::{attach, check, daemon, debug, list, logs, open, run as run_task, runs, schema, token, wait};
use crate::client::Client;
use crate::terminal::shown;

/// Does what the arguments say; `argv` begins with the program's name.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let (mut out, mut err) = (Guard::new(anstream::stdout()), Guard::new(anstream::stderr()));
    let mut output = Output { out: &mut out, err: &mut err };
    let exit = match Args::try_parse_from(&argv) {
        Ok(args) => command(args, &mut output),
        Err(error) => unparsed(&argv, &error, &mut output).map_err(Error::from),
    };
    // A reader that went away wants no more, and a full disk cannot be told anywhere else.
    let flushed = out.flush().map_err(Error::from);
    match exit.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => ExitCode::from(exit),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(code::FAILED),
    }
}

/// Runs the command and says what failed; only what could not be said is an error.
fn command(args: Args, output: &mut Output<'_>) -> Result<u8, Error> {
    let json = args.global.json;
    match perform(args, output) {
        Err(error) if error.is_broken_pipe() => Err(error),
        Err(error) => {
            let failure = error.failure();
            if !json {
                tell_problems(&failure.details["problems"], output)?;
            }
            Ok(output.failure(json, &failure, error.exit())?)
        }
        done => done,
    }
}

/// The problems of a file, a line each, before the sentence that sums them up.
fn tell_problems(problems: &Value, output: &mut Output<'_>) -> io::Result<()> {
    for problem in problems.as_array().into_iter().flatten() {
        let text = |key: &str| problem[key].as_str().map(shown);
        let message = text("message").or_else(|| problem.as_str().map(shown)).unwrap_or_default();
        let place = text("file").map(|file| format!("{file}:{}:{}: ", problem["line"], problem["column"]));
        let hint = text("hint").map(|hint| format!(" ({hint})"));
        writeln!(output.err, "{}{message}{}", place.unwrap_or_default(), hint.unwrap_or_default())?;
    }
    Ok(())
}

fn perform(args: Args, output: &mut Output<'_>) -> Result<u8, Error> {
    let global = args.global;
    match args.command {
        Command::Check(args) => Ok(check::run(&args, &std::env::current_dir()?, output)?),
        Command::Schema(args) => Ok(schema::run(&args, output)?),
        Command::Debug(args) => debug::run(args, global.json).map_err(debug_error),
        Command::Daemon(args) => daemon::run(args, context(global, output)?),
        Command::Run(args) => asked(context(global, output)?, |context| run_task::run(args, context)),
        Command::Ps(args) => asked(context(global, output)?, |context| list::ps(args, context)),
        Command::Logs(args) => asked(context(global, output)?, |context| logs::run(args, context)),
        Command::Attach(args) => block_on(attach::run(args, context(global, output)?)),
        Command::Wait(args) => asked(context(global, output)?, |context| wait::run(args, context)),
        Command::Stop(args) => asked(context(global, output)?, |context| runs::stop(args, context)),
        Command::Restart(args) => asked(context(global, output)?, |context| runs::restart(args, context)),
        Command::Rm(args) => asked(context(global, output)?, |context| runs::rm(args, context)),
        Command::Open(args) => asked(context(global, output)?, |context| open::run(args, context)),
        Command::Projects(args) => asked(context(global, output)?, |context| list::projects(args, context)),
        Command::Token(args) => asked(context(global, output)?, |context| token::run(args, context)),
    }
}

fn context<'a>(global: Global, output: &'a mut Output<'_>) -> Result<Context<'a>, Error> {
    Context::new(global, Output { out: output.out, err: output.err })
}

/// Runs a command that talks to the daemon, and ends it when the daemon hangs.
pub(super) fn asked<'a, F>(context: Context<'a>, command: impl FnOnce(Context<'a>) -> F) -> Result<u8, Error>
where
    F: Future<Output = Result<u8, Error>>,
{
    let client = context.client.clone();
    run_beside(&client, command(context))
}

/// Waits for what is asked of this daemon for as long as it lives.
pub(super) fn run_beside<T>(
    client: &Client,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    block_on(client.beside(work))
}

fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// What clap says: help and the version on stdout with 0, the rest on stderr with 2.
fn unparsed(argv: &[OsString], error: &clap::Error, output: &mut Output<'_>) -> io::Result<u8> {
    let text = error.render();
    if !error.use_stderr() {
        write!(output.out, "{}", text.ansi())?;
        return Ok(code::OK);
    }
    if !argv.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
        write!(output.err, "{}", text.ansi())?;
        return Ok(code::USAGE);
    }
    let message = text.to_string().trim_end().trim_start_matches("error: ").to_owned();
    let failure = Failure { code: "invalid_request", message, details: json!({"reason": "usage"}) };
    output.failure(true, &failure, code::USAGE)
}

/// A recording that is not there is told apart from one that cannot be read.
fn debug_error(error: anyhow::Error) -> Error {
    let message = format!("{error:#}");
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => Error::not_found("file", message),
        Some(_) | None => Error::failed("debug", message),
    }
}
