//! `kas check`: everything that is wrong with a project file.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::{Failure, Output, code, problem_json};
use crate::config::{Error, ProjectSources, find_project, read_project_at};
use crate::project::{Problem, Project};

/// Check a project file and list everything that is wrong with it
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A project's directory or a project file; without it, the project around the current directory
    path: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Checks the project file and says what was found. `cwd` is the directory to search from and to shorten names by.
///
/// # Errors
/// Those of the streams.
pub fn run(args: &Args, cwd: &Path, output: &mut Output<'_>) -> io::Result<u8> {
    let path = match &args.path {
        Some(path) => Some(cwd.join(path)),
        None => find_project(cwd),
    };
    let Some(path) = path else {
        let message = format!("no .kaged/project.yaml in {} or above it", cwd.display());
        let error = Failure { code: "not_found", message, details: json!({"reason": "project_not_found"}) };
        return output.failure(args.json, &error, code::NOT_FOUND);
    };
    let sources = match read_project_at(&path) {
        Ok(sources) => sources.named_from(cwd),
        Err(error) => return unreadable(args, &error, output),
    };
    let parsed = sources.parse();
    match &parsed.project {
        Some(project) => valid(args, &sources, project, output),
        None => invalid(args, &sources, &parsed.problems, output),
    }
}

fn unreadable(args: &Args, error: &Error, output: &mut Output<'_>) -> io::Result<u8> {
    let exit = error.exit_code();
    let word = if exit == code::NOT_FOUND { "not_found" } else { "invalid_request" };
    let failure =
        Failure { code: word, message: error.to_string(), details: json!({"reason": "project_file"}) };
    output.failure(args.json, &failure, exit)
}

fn valid(
    args: &Args,
    sources: &ProjectSources,
    project: &Project,
    output: &mut Output<'_>,
) -> io::Result<u8> {
    let names: Vec<&str> = project.tasks.iter().map(|task| task.name.as_str()).collect();
    if args.json {
        let id = project.id.as_ref().map(ToString::to_string);
        output.json(&json!({"ok": true, "file": sources.main.name, "project": id, "tasks": names}))?;
    } else {
        let tasks = if names.len() == 1 { "1 task".to_owned() } else { format!("{} tasks", names.len()) };
        let list = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        writeln!(output.out, "ok {}, {tasks}{list}", sources.main.name)?;
    }
    Ok(code::OK)
}

fn invalid(
    args: &Args,
    sources: &ProjectSources,
    problems: &[Problem],
    output: &mut Output<'_>,
) -> io::Result<u8> {
    let count =
        if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    let message = format!("{count} in {}", sources.main.name);
    if !args.json {
        write!(output.err, "{}", sources.render(problems, true))?;
    }
    let problems: Vec<_> = problems.iter().map(problem_json).collect();
    let details = json!({"reason": "project_invalid", "problems": problems});
    output.failure(args.json, &Failure { code: "invalid_request", message, details }, code::INVALID)
}
