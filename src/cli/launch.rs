//! A launch, with the question that may come before it.

use std::io;

use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use super::tty;
use crate::client::{Question, Run, Started};
use crate::terminal::shown;

/// Launches what `request` says. `yes` answers the question of a task with `confirm: true` beforehand.
///
/// `None` when the person asked said no.
pub(super) async fn launch(
    context: &mut Context<'_>,
    project: &str,
    request: &Value,
    yes: bool,
) -> Result<Option<Run>, Error> {
    let path = format!("/api/v1/projects/{project}/tasks/run");
    let mut started = Started::of(context.client.post(&path, request).await?)?;
    if let Started::Confirm(question) = started {
        let answer = if yes { Some(true) } else { ask(context, &question)? };
        let reply = json!({"confirm_id": question.id, "proceed": answer == Some(true)});
        started = Started::of(context.client.post(&format!("{path}/confirm"), &reply).await?)?;
        if answer.is_none() {
            let message = format!("task {} wants to be confirmed; --yes does that", question.task);
            return Err(Error::usage("confirm_required", message));
        }
    }
    match started {
        Started::Run(run) => Ok(Some(*run)),
        Started::Cancelled => Ok(None),
        Started::Confirm(question) => {
            Err(Error::failed("confirm", format!("the daemon asks twice about {}", question.task)))
        }
    }
}

/// Asks the person at the terminal; `None` when there is none.
fn ask(context: &mut Context<'_>, question: &Question) -> Result<Option<bool>, Error> {
    if context.global.json || !tty::can_ask() {
        return Ok(None);
    }
    write!(context.output.err, "{} runs: {}\nRun it? [y/N] ", question.task, shown(&question.command))?;
    context.output.err.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(Some(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// What is said of a run just launched.
pub(super) fn sentence(run: &Run) -> String {
    match &run.task {
        Some(task) => format!("started {task} {}", run.id),
        None => format!("started {}", run.id),
    }
}
