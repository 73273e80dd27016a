//! `kas stop`, `kas restart`, `kas rm`.

use serde_json::json;

use super::context::Context;
use super::error::Error;
use super::output::code;
use super::wait::outcome;
use crate::client::{Error as ClientError, Run};

/// Stop a run; returns when nothing of it lives. One that is over is left as it is
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID")]
    name: String,
}

/// Stop a run if it is not over, and launch the same again
#[derive(Debug, clap::Args)]
pub(super) struct RestartArgs {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID")]
    name: String,
}

/// Delete an ended run: its window, record and output
#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID", required_unless_present = "ended")]
    name: Option<String>,
    /// Every ended run of the project
    #[arg(long, conflicts_with = "name")]
    ended: bool,
}

pub(super) async fn stop(args: StopArgs, mut context: Context<'_>) -> Result<u8, Error> {
    let run = context.find_run(&args.name).await?;
    let path = format!("/api/v1/tasks/{}", run.id);
    let run = match context.client.post(&format!("{path}/stop"), &json!({})).await {
        Err(ClientError::Refused(it)) if it.details.get("reason").is_some_and(|it| it == "not_running") => {
            let run = Run::of(context.client.get(&path).await?)?;
            // Its record says so a moment later.
            let how =
                if run.state.is_terminal() { outcome(&run) } else { "its end is being stored".to_owned() };
            context.print(&run.json, &format!("{} is over: {how}", run.name()))?;
            return Ok(code::OK);
        }
        stopped => Run::of(stopped?)?,
    };
    context.print(&run.json, &format!("{} {}", run.name(), outcome(&run)))?;
    Ok(code::OK)
}

pub(super) async fn restart(args: RestartArgs, mut context: Context<'_>) -> Result<u8, Error> {
    let run = context.find_run(&args.name).await?;
    let new = context.client.post(&format!("/api/v1/tasks/{}/restart", run.id), &json!({})).await?;
    let new = Run::of(new)?;
    context.print(&new.json, &super::launch::sentence(&new))?;
    Ok(code::OK)
}

pub(super) async fn rm(args: RmArgs, mut context: Context<'_>) -> Result<u8, Error> {
    let Some(name) = args.name else {
        let project = context.project().await?;
        let path = format!("/api/v1/projects/{project}/tasks/cleanup");
        let deleted = context.client.post(&path, &json!({})).await?;
        context.print(&deleted, &format!("deleted {}", deleted["deleted"]))?;
        return Ok(code::OK);
    };
    let run = context.find_run(&name).await?;
    context.client.delete(&format!("/api/v1/tasks/{}", run.id)).await?;
    context.print(&json!({"deleted": 1, "id": run.id.to_string()}), &format!("deleted {}", run.name()))?;
    Ok(code::OK)
}
