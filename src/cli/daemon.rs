//! `kas daemon`: the background process that owns the runs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::context::Context;
use super::dispatch::asked;
use super::error::Error;
use super::output::code;
use super::table::span;
use crate::terminal::shown;

mod install;
mod process;
mod start;

/// Start, stop and ask the daemon
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: DaemonCommand,
}

#[derive(Debug, Subcommand)]
enum DaemonCommand {
    Start(start::Args),
    Install(install::Args),
    /// Stop the daemon; runs go on, and the next daemon takes them over
    Stop,
    /// Tell whether the daemon runs, and its projects
    Status,
    /// Register a project's directory
    Add {
        /// The directory with .kaged/project.yaml in it
        path: PathBuf,
    },
    /// Stop a project's runs and forget it
    Remove {
        /// Its directory, or its id
        path: PathBuf,
    },
    /// Read the configuration again; a bad one is told and changes nothing
    Reload,
}

pub(super) fn run(args: Args, context: Context<'_>) -> Result<u8, Error> {
    match args.command {
        DaemonCommand::Start(args) => start::run(&args, context),
        DaemonCommand::Install(args) => install::run(&args, context),
        DaemonCommand::Stop => process::stop(context),
        DaemonCommand::Status => asked(context, status),
        DaemonCommand::Add { path } => asked(context, |context| add(path, context)),
        DaemonCommand::Remove { path } => asked(context, |context| remove(path, context)),
        DaemonCommand::Reload => asked(context, reload),
    }
}

async fn status(mut context: Context<'_>) -> Result<u8, Error> {
    match context.client.get("/v1/status").await {
        Ok(status) => {
            context.print(&status, &described(&status))?;
            Ok(code::OK)
        }
        // That is the answer to the question, so it goes where answers go.
        Err(crate::client::Error::NotRunning { .. }) if !context.global.json => {
            writeln!(context.output.out, "daemon not running")?;
            Ok(code::UNREACHABLE)
        }
        Err(error) => Err(error.into()),
    }
}

/// The status in lines.
fn described(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map(shown);
    let uptime = span(status["uptime"].as_i64().unwrap_or(0).saturating_mul(1000));
    let version = text(&status["version"]).unwrap_or_default();
    let mut lines = vec![format!("daemon    running, pid {}, up {uptime}, version {version}", status["pid"])];
    let tmux = text(&status["tmux_version"]).map(|version| format!(" ({version})"));
    let backend = text(&status["backend"]).unwrap_or_default();
    lines.push(format!("backend   {backend}{}", tmux.unwrap_or_default()));
    let http = text(&status["http_url"]);
    lines.push(format!("page      {}", http.unwrap_or_else(|| "off".to_owned())));
    for repo in status["repos"].as_array().into_iter().flatten() {
        let (id, path) = (text(&repo["project"]), text(&repo["path"]));
        lines.push(format!("project   {}  {}", id.unwrap_or_default(), path.unwrap_or_default()));
        for plan in repo["active_plans"].as_array().into_iter().flatten() {
            lines.push(format!("  plan    {}", shown(plan.as_str().unwrap_or_default())));
        }
    }
    for note in status["tmux_notes"].as_array().into_iter().flatten() {
        lines.push(format!("tmux      {}", shown(note.as_str().unwrap_or_default())));
    }
    for problem in status["config_problems"].as_array().into_iter().flatten() {
        lines.push(format!("problem   {}", shown(problem.as_str().unwrap_or_default())));
    }
    lines.join("\n")
}

async fn add(path: PathBuf, mut context: Context<'_>) -> Result<u8, Error> {
    let full = std::fs::canonicalize(context.cwd.join(&path))
        .map_err(|error| Error::not_found("path", format!("{}: {error}", path.display())))?;
    let full = full.to_str().ok_or_else(|| Error::usage("path", "the path is not UTF-8"))?;
    let added = context.client.post("/v1/repos", &json!({ "path": full })).await?;
    let sentence = format!("added {} ({})", added["project"].as_str().unwrap_or_default(), shown(full));
    context.print(&added, &sentence)?;
    Ok(code::OK)
}

async fn remove(path: PathBuf, mut context: Context<'_>) -> Result<u8, Error> {
    let project = registered_at(&path, &context).await?;
    let removed = context.client.delete(&format!("/v1/repos/{project}")).await?;
    context.print(&removed, &format!("removed {project}"))?;
    Ok(code::OK)
}

/// The project registered at a path that may not exist any more, or of that id.
async fn registered_at(path: &Path, context: &Context<'_>) -> Result<String, Error> {
    let written = context.cwd.join(path);
    let full = std::fs::canonicalize(&written).unwrap_or_else(|_| written.components().collect());
    let (full, word) = (full.to_string_lossy(), path.to_string_lossy());
    let projects = context.projects().await?;
    let found =
        projects.iter().find(|it| it.path == full).or_else(|| projects.iter().find(|it| it.id == word));
    found.map(|it| it.id.clone()).ok_or_else(|| {
        Error::not_found("project_not_registered", format!("no project is registered at {}", shown(&full)))
    })
}

/// Asks over the socket rather than by SIGHUP, which does the same but cannot say what came of it.
async fn reload(mut context: Context<'_>) -> Result<u8, Error> {
    let report = context.client.post("/v1/reload", &json!({})).await?;
    let list = |key: &str| {
        let words = report[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(", ")
    };
    let mut sentence = "reloaded".to_owned();
    for (key, said) in [("applied", "changed"), ("needs_restart", "after a restart")] {
        let words = list(key);
        if !words.is_empty() {
            sentence.push_str(&format!("; {said}: {words}"));
        }
    }
    context.print(&report, &sentence)?;
    Ok(code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_status() {
        let status = json!({"running":true,"repos":[{"path":"/p\u{1b}","project":"demo","active_plans":[]}],"repo_count":1,
            "uptime":7200,"pid":12,"version":"0.1.0","http_addr":"0.0.0.0:7440","http_url":"https://kas.lan:7440","backend":"tmux","tmux_version":"tmux 3.4",
            "tmux_notes":["exit-unattached is on"],"config_problems":["bad"]});
        let expect = "daemon    running, pid 12, up 2h, version 0.1.0\nbackend   tmux (tmux 3.4)\n\
            page      https://kas.lan:7440\nproject   demo  /p\\u{1b}\n\
            tmux      exit-unattached is on\nproblem   bad";
        assert_eq!(described(&status), expect);
    }
}
