//! `kas daemon start`: in the foreground, or detached with the caller waiting until it answers.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getpid, setsid};
use rustix::stdio::{dup2_stdout, stderr, stdout};
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::dispatch::run_beside;
use super::super::error::Error;
use super::super::output::code;
use super::process::{forget, record};
use crate::boot;
use crate::client::Client;
use crate::config::{ensure_safe_dir, load};

/// How long a daemon may take until it answers; it may have many runs to take over.
const START_PATIENCE_S: i64 = 60;
/// The most bytes of a report of failure.
const MAX_REPORT_BYTES: u64 = 1 << 20;

/// Start the daemon in the background
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stay in the foreground, for a service manager
    #[arg(long)]
    foreground: bool,
    /// The configuration, instead of ~/.config/kasmos/daemon.toml
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Where the page is served, instead of `http_addr`
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Leave the terminal behind and report on stdout: what a detached start runs itself with
    #[arg(long, hide = true, requires = "foreground")]
    detached: bool,
}

pub(super) fn run(args: &Args, context: Context<'_>) -> Result<u8, Error> {
    match (args.foreground, args.detached) {
        (_, true) => detached(args, &context),
        (true, false) => serve(args, &context, None),
        (false, false) => launch(args, context),
    }
}

// ---- the daemon's side

fn serve(args: &Args, context: &Context<'_>, ready: Option<OwnedFd>) -> Result<u8, Error> {
    let options = boot::Options {
        config: args.config.as_ref().map(|path| context.cwd.join(path)),
        http: args.http.clone(),
        socket: context.global.socket.as_ref().map(|path| context.cwd.join(path)),
        ready,
    };
    Ok(boot::run_blocking(options).map(|()| code::OK)?)
}

/// Becomes a session of its own; the report goes to the pipe that was stdout, all else to the log that is stderr.
fn detached(args: &Args, context: &Context<'_>) -> Result<u8, Error> {
    setsid().map_err(std::io::Error::from)?;
    let report = stdout().try_clone_to_owned()?;
    dup2_stdout(stderr()).map_err(std::io::Error::from)?;
    let done = serve(args, context, Some(report.try_clone()?));
    forget(&context.paths.pid_file, getpid())?;
    if let Err(error) = &done {
        let failure = error.failure();
        let body = json!({"exit": error.exit(), "code": failure.code, "message": failure.message, "details": failure.details});
        // The starter may have gone; the log has it all the same.
        File::from(report).write_all(body.to_string().as_bytes()).unwrap_or_default();
    }
    done
}

// ---- the starter's side

fn launch(args: &Args, mut context: Context<'_>) -> Result<u8, Error> {
    ensure_safe_dir(&context.paths.config_dir)?;
    context.paths.ensure_state_dir()?;
    let mut child = spawn(args, &context)?;
    let report = child.stdout.take().map(|pipe| report(pipe, &context)).transpose()?.unwrap_or_default();
    if !report.starts_with(b"{") && !report.is_empty() {
        return started(args, &child, &mut context);
    }
    let status = child.wait()?;
    let error: Value = serde_json::from_slice(&report).unwrap_or_default();
    let text = |key: &str| error[key].as_str().map(str::to_owned);
    let log = context.paths.log.display();
    Err(Error::Start {
        exit: error["exit"].as_u64().and_then(|exit| exit.try_into().ok()).unwrap_or(code::FAILED),
        code: text("code").unwrap_or_else(|| "internal".to_owned()),
        message: text("message")
            .unwrap_or_else(|| format!("the daemon ended while starting ({status}); see {log}")),
        details: error["details"].clone(),
    })
}

#[expect(clippy::disallowed_methods, reason = "the daemon is this program, started once more on its own")]
fn spawn(args: &Args, context: &Context<'_>) -> Result<Child, Error> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&context.paths.log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["daemon", "start", "--foreground", "--detached"]);
    let absolute = |path: &PathBuf| context.cwd.join(path);
    if let Some(config) = &args.config {
        command.arg("--config").arg(absolute(config));
    }
    if let Some(http) = &args.http {
        command.arg("--http").arg(http);
    }
    if let Some(socket) = &context.global.socket {
        command.arg("--socket").arg(absolute(socket));
    }
    // The root, so that no directory is kept from being removed or unmounted.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    Ok(command.spawn()?)
}

/// What the daemon says: anything but `{` when it answers requests, an error as JSON when it will not.
fn report(mut pipe: ChildStdout, context: &Context<'_>) -> Result<Vec<u8>, Error> {
    let timeout = Timespec { tv_sec: START_PATIENCE_S, tv_nsec: 0 };
    let mut readable = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    if poll(&mut readable, Some(&timeout)).map_err(std::io::Error::from)? == 0 {
        let log = context.paths.log.display();
        return Err(Error::TimedOut(format!(
            "the daemon does not answer after {START_PATIENCE_S} s; see {log}"
        )));
    }
    let mut report = vec![0; 1];
    let count = pipe.read(&mut report)?;
    report.truncate(count);
    if report == b"{" {
        pipe.take(MAX_REPORT_BYTES).read_to_end(&mut report)?;
    }
    Ok(report)
}

/// Where the new daemon listens: its own configuration may say so.
fn socket(args: &Args, context: &Context<'_>) -> Result<PathBuf, Error> {
    let Some(config) = &args.config else { return Ok(context.paths.socket.clone()) };
    let configured = load(Some(&context.cwd.join(config)), &context.paths.config_file)?.socket_path;
    let chosen = context.global.socket.clone().or(configured);
    Ok(chosen.unwrap_or_else(|| context.default_socket.clone()))
}

fn started(args: &Args, child: &Child, context: &mut Context<'_>) -> Result<u8, Error> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::failed("pid", "the daemon has no process id"))?;
    record(&context.paths.pid_file, pid)?;
    let client = Client::new(socket(args, context)?);
    let status = run_beside(&client, async { Ok(client.get("/v1/status").await?) })?;
    let http = status["http_url"].as_str().map(str::to_owned);
    let body = json!({"started": true, "pid": child.id(), "http": http});
    let place = http.map(|http| format!(", {http}")).unwrap_or_default();
    context.print(&body, &format!("started daemon {}{place}", child.id()))?;
    Ok(code::OK)
}
