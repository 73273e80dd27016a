//! `kas ps` and `kas projects`.

use serde_json::{Value, json};

use super::context::{Context, MAX_LISTED};
use super::error::Error;
use super::output::code;
use super::table::{cut, span, write};
use super::tty;
use crate::client::Run;
use crate::model::TimeMs;

/// Of a cause, so many characters are listed; `kas wait` and `--json` tell all of it.
const WHY_CHARS: usize = 60;

/// List runs: of this project, or of all when not in one
#[derive(Debug, clap::Args)]
pub(super) struct PsArgs {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
}

/// List registered projects
#[derive(Debug, clap::Args)]
pub(super) struct ProjectsArgs {}

pub(super) async fn ps(args: PsArgs, mut context: Context<'_>) -> Result<u8, Error> {
    let here = context.known_project().await?;
    let projects = match &here {
        Some(id) => vec![id.clone()],
        None => context.projects().await?.into_iter().map(|it| it.id).collect(),
    };
    let filter = if args.all { "" } else { "?state=starting&state=running" };
    let mut runs: Vec<Run> = Vec::new();
    for id in projects {
        let path = format!("/api/v1/projects/{id}/tasks/instances{filter}");
        for item in context.client.list(&path, MAX_LISTED).await? {
            runs.push(Run::of(item)?);
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.id));
    if context.global.json {
        let items: Vec<Value> = runs.into_iter().map(|run| run.json).collect();
        context.output.json(&json!({ "items": items }))?;
        return Ok(code::OK);
    }
    show(&runs, here.is_none(), &mut context)?;
    Ok(code::OK)
}

fn show(runs: &[Run], with_project: bool, context: &mut Context<'_>) -> Result<(), Error> {
    let now = TimeMs::now();
    let row = |run: &Run| {
        let project = with_project.then(|| run.project.clone());
        let name = run.task.clone().unwrap_or_else(|| "-".to_owned());
        let time = run.duration_ms.unwrap_or(now.0 - run.launched_at);
        let started = format!("{} ago", span(now.0 - run.launched_at));
        let rest = [name, state(run), started, span(time), run.command.clone()];
        [run.id.to_string()].into_iter().chain(project).chain(rest).collect()
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    let project = with_project.then_some("PROJECT");
    let rest = ["TASK", "STATE", "STARTED", "TIME", "COMMAND"];
    let header: Vec<&str> = ["ID"].into_iter().chain(project).chain(rest).collect();
    Ok(write(context.output.out, &header, &rows, tty::columns())?)
}

fn state(run: &Run) -> String {
    match (&run.signal, run.exit_code, run.error_text.as_ref().or(run.error.as_ref())) {
        (Some(how), ..) => format!("{} ({how})", run.state),
        (None, None, Some(why)) => format!("{}: {}", run.state, cut(why, WHY_CHARS)),
        (None, Some(own), _) if own != 0 => format!("{} ({own})", run.state),
        (None, Some(_), _) | (None, None, None) => run.state.to_string(),
    }
}

pub(super) async fn projects(_args: ProjectsArgs, mut context: Context<'_>) -> Result<u8, Error> {
    if context.global.json {
        let items = context.client.list("/api/v1/projects", MAX_LISTED).await?;
        context.output.json(&json!({ "items": items }))?;
        return Ok(code::OK);
    }
    let projects = context.projects().await?;
    let rows: Vec<Vec<String>> = projects
        .into_iter()
        .map(|it| vec![it.id, it.tasks.to_string(), it.running.to_string(), it.problems.to_string(), it.path])
        .collect();
    write(context.output.out, &["ID", "TASKS", "RUNNING", "PROBLEMS", "PATH"], &rows, tty::columns())?;
    Ok(code::OK)
}
