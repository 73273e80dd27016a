//! `kas run`: a task, or any command, in the project.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use super::filter::Policy;
use super::launch::{launch, sentence};
use super::logs::{Form, Printer, follow};
use super::output::code;
use super::signals::or_signal;
use super::wait::{ended, exit_code, outcome};
use super::{quote, tty};
use crate::client::{End, Mode, Run, Watch};

/// Run a task of the project file, or any command in the project
///
/// The run goes on when this command ends; with --wait, Ctrl-C ends the waiting and not the run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The task
    #[arg(required_unless_present = "words", conflicts_with = "words")]
    name: Option<String>,
    /// Show the output until it ends, and end with its code (128+n for a signal)
    #[arg(long, short)]
    wait: bool,
    /// With --wait: every byte of the output but questions to the terminal, also what changes its modes
    #[arg(long, requires = "wait")]
    raw: bool,
    /// Do not ask before a task with `confirm: true`
    #[arg(long, short)]
    yes: bool,
    /// The directory a command runs in, instead of this one
    #[arg(long, value_name = "DIR", requires = "words")]
    cwd: Option<PathBuf>,
    /// The terminal's columns
    #[arg(long, value_name = "N", requires = "rows", value_parser = clap::value_parser!(u32).range(1..))]
    cols: Option<u32>,
    /// The terminal's rows
    #[arg(long, value_name = "N", requires = "cols", value_parser = clap::value_parser!(u32).range(1..))]
    rows: Option<u32>,
    /// A command: one word is given to the shell as it is, several are run as they stand
    #[arg(last = true, value_name = "CMD")]
    words: Vec<String>,
}

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    let project = context.project_to_run_in().await?;
    let request = request(&args, &context)?;
    let Some(run) = launch(&mut context, &project, &request, args.yes).await? else {
        context.print(&json!({"cancelled": true}), "cancelled")?;
        return Ok(code::FAILED);
    };
    if args.wait {
        return or_signal(wait(run, args.raw, context)).await;
    }
    context.print(&run.json, &sentence(&run))?;
    Ok(code::OK)
}

fn request(args: &Args, context: &Context<'_>) -> Result<Value, Error> {
    let mut request = match &args.name {
        Some(task) => json!({ "task": task }),
        None => json!({"command": quote::command(&args.words)}),
    };
    if args.name.is_none()
        && let Some(cwd) = cwd(args, context)?
    {
        request["cwd"] = cwd.into();
    }
    let shown = || tty::size().filter(|_| args.wait).map(|size| (size.cols().into(), size.rows().into()));
    if let Some((cols, rows)) = args.cols.zip(args.rows).or_else(shown) {
        request["cols"] = cols.into();
        request["rows"] = rows.into();
    }
    Ok(request)
}

/// The directory of a command, relative to the project: the one asked for, else where we are if that is inside.
fn cwd(args: &Args, context: &Context<'_>) -> Result<Option<String>, Error> {
    let wish = args.cwd.as_deref();
    let here = context.project_dir()?.filter(|_| context.global.project.is_none());
    let relative = match (&here, wish) {
        // The daemon knows the directory of a project named by its id.
        (None, wish) => wish.map(Path::to_path_buf),
        (Some(root), wish) => {
            let wish = wish.unwrap_or(Path::new("."));
            let dir = std::fs::canonicalize(context.cwd.join(wish))
                .map_err(|error| Error::not_found("cwd_not_found", format!("{}: {error}", wish.display())))?;
            let inside = dir.strip_prefix(root).map(Path::to_path_buf).map_err(|_| {
                Error::usage(
                    "cwd_outside_project",
                    format!("{} is outside of {}", dir.display(), root.display()),
                )
            })?;
            Some(inside)
        }
    };
    let relative = relative.filter(|it| it.components().any(|part| part != Component::CurDir));
    relative
        .map(|it| it.into_os_string().into_string())
        .transpose()
        .map_err(|it| Error::usage("cwd", format!("{} is not UTF-8", it.display())))
}

/// Shows the output as it comes: on a terminal as it is but for what would do more than show something, elsewhere as lines of text.
async fn wait(run: Run, raw: bool, mut context: Context<'_>) -> Result<u8, Error> {
    let mut told = None;
    if !context.global.json {
        let form = Form::of(raw.then_some(Policy::Mute));
        match show(&run, form, &mut context).await {
            Ok(end) => told = Some(end),
            Err(Error::Client(error)) if error.is_not_found() => {
                context.remark("it has ended, and what it wrote is not kept any more")?;
            }
            Err(error) => return Err(error),
        }
    }
    // Its record may be gone by now. Where there is neither code nor signal, only the record or an event has the reason.
    let run = match told.filter(|end| end.exit_code.is_some() || end.signal.is_some()) {
        Some(end) => run.ended(end),
        None => ended(&context.client, run).await?,
    };
    if context.global.json {
        context.output.json(&run.json)?;
    } else if run.exit_code.is_none() || run.signal.is_some() {
        context.remark(&format!("{} {}", run.name(), outcome(&run)))?;
    }
    Ok(exit_code(run.state, run.exit_code, run.signal.as_deref()))
}

async fn show(run: &Run, form: Form, context: &mut Context<'_>) -> Result<End, Error> {
    let watch = Watch::open(&context.client, &run.project, run.id, Some(0), Mode::View).await?;
    follow(watch, Printer::new(form, None), context).await
}
