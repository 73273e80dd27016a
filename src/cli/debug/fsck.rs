//! `kas debug fsck`: whether records, directories, processes, windows and recorded streams agree with what is promised.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::backend::tmux::Settings;
use crate::check::{Error, Report, Sources, examine};
use crate::cli::filter::Guard;
use crate::cli::output::{code, harmless};
use crate::config::{Config, Env, Paths, load};

/// Arguments of `kas debug fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads only, beside a running daemon or without one, and looks again where something looks wrong, for up to \
    ten seconds. Ends with 0 when nothing is violated, 1 when something is, 3 when there is no state directory. \
    What cannot be seen from outside is listed as not judged."
)]
pub(super) struct FsckArgs {
    /// The state directory to check
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What a client was sent of a terminal, as recorded
    #[arg(long, value_name = "FILE")]
    stream: Vec<PathBuf>,
    /// Bytes that a full disk did not take are no violation
    #[arg(long)]
    disk_was_full: bool,
    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Checks and says what was found; answers the exit code.
///
/// # Errors
///
/// When there is nothing to check or it cannot be read.
pub(super) fn run(args: FsckArgs) -> anyhow::Result<u8> {
    let as_json = args.json;
    let sources = sources(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(examine(&sources)).map_err(told)?;
    let mut out = Guard::new(io::stdout().lock());
    let shown =
        if as_json { writeln!(out, "{}", harmless(&json_of(&report))) } else { show(&report, &mut out) };
    match shown.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if report.violations.is_empty() { code::OK } else { code::FAILED })
}

fn sources(args: FsckArgs) -> anyhow::Result<Sources> {
    let env = Env::of_process();
    let paths = Paths::new(&env, None)?;
    // A configuration that is broken now does not hide what a daemon did with an earlier one.
    let config = load(None, &paths.config_file).unwrap_or_else(|_| Config::default());
    let state_dir = args.state_dir.unwrap_or(paths.state_dir);
    let tmux = Settings::new(&config.task_runner, &env, &state_dir, config.limits.scrollback_lines);
    Ok(Sources { state_dir, tmux, streams: args.stream, disk_was_full: args.disk_was_full })
}

/// A state directory or a recording that is not there is told apart from one that cannot be read.
fn told(error: Error) -> anyhow::Error {
    match error {
        Error::NoStateDir(_) => anyhow::Error::from(io::Error::from(ErrorKind::NotFound)).context(error),
        Error::Io { path, source } => {
            anyhow::Error::from(source).context(format!("cannot read {}", path.display()))
        }
        Error::Store(_) | Error::Stream { .. } => error.into(),
    }
}

fn show(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for violation in &report.violations {
        writeln!(out, "{violation}; {}", violation.invariant.advice())?;
    }
    for unjudged in &report.unjudged {
        writeln!(out, "{unjudged}")?;
    }
    let Report { runs, directories, windows, .. } = report;
    let verdict = match report.violations.len() {
        0 => "no violations".to_owned(),
        1 => "1 violation".to_owned(),
        count => format!("{count} violations"),
    };
    writeln!(out, "{runs} runs, {directories} directories, {windows} windows checked: {verdict}")
}

fn json_of(report: &Report) -> serde_json::Value {
    let violations = report.violations.iter().map(|it| {
        let (code, advice) = (it.invariant.code(), it.invariant.advice());
        json!({"invariant": code, "subject": it.subject, "sentence": it.sentence, "advice": advice})
    });
    let unjudged = report.unjudged.iter().map(|it| json!({"invariant": it.invariant.code(), "why": it.why}));
    json!({
        "ok": report.violations.is_empty(),
        "runs": report.runs,
        "directories": report.directories,
        "windows": report.windows,
        "violations": violations.collect::<Vec<_>>(),
        "not_judged": unjudged.collect::<Vec<_>>(),
    })
}
