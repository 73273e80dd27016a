//! `kas daemon install`: a user unit of systemd that starts this program.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::context::Context;
use super::super::error::Error;
use super::super::output::code;
use crate::boot::operator_name;
use crate::config::{Env, is_listened_at};

/// The unit as it is by hand; [`unit()`] fills in what is particular to this machine.
const TEMPLATE: &str = include_str!("../../../contrib/systemd/kas.service");
const PROGRAM: &str = "ExecStart=%h/.local/bin/kas daemon";
/// The first line of a unit written here, by which it is known again.
const MARK: &str =
    "# Written by `kas daemon install`, which replaces it; make changes with `systemctl --user edit kas`.";
const NEXT: &str = "systemctl --user daemon-reload && systemctl --user enable --now kas";

/// Write a systemd user unit that starts this program; starts nothing, and says what to run next
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the unit and what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a kas.service that kas did not write
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, mut context: Context<'_>) -> Result<u8, Error> {
    let env = Env::of_process();
    let text = unit(&std::env::current_exe()?, env.get("PATH").and_then(|path| path.to_str()))?;
    let dir = context.paths.config_dir.parent().unwrap_or(Path::new("/")).join("systemd/user");
    let file = dir.join("kas.service");
    let allowed = args.force || is_ours_or_absent(&file)?;
    let shown = file.display();
    if !args.dry_run {
        if !allowed {
            let message = format!("{shown} was not written by kas; --force replaces it");
            return Err(Error::NotPermitted { message, reason: "not_ours" });
        }
        write(&dir, &file, &text)?;
    }
    let hints = hints(&env, &context);
    let body = json!({"unit": file, "text": text, "written": !args.dry_run, "next": NEXT, "hints": hints});
    let said = match (args.dry_run, allowed) {
        (false, _) => format!("wrote {shown}"),
        (true, true) => format!("{text}\nwould write this to {shown}"),
        (true, false) => format!("{text}\nwould not replace {shown}: it was not written by kas (--force)"),
    };
    let mut lines = vec![said, "then run:".to_owned()];
    lines.extend(hints.iter().map(|(command, why)| format!("  {command}    # {why}")));
    lines.push(format!("  {NEXT}"));
    context.print(&body, &lines.join("\n"))?;
    Ok(code::OK)
}

/// What is to be done first, each with its reason.
fn hints(env: &Env, context: &Context<'_>) -> Vec<(String, &'static str)> {
    let user = operator_name(env.uid());
    let mut hints = Vec::new();
    if !Path::new("/var/lib/systemd/linger").join(&user).exists() {
        let command = format!("loginctl enable-linger {user}");
        hints.push((command, "or systemd ends kas and every task with your last login session"));
    }
    if is_listened_at(&context.paths.socket) {
        hints
            .push(("kas daemon stop".to_owned(), "the one that runs now is not the service; its runs go on"));
    }
    hints
}

/// The unit for the program at `kas`; with the `PATH` that tasks are to find their programs on, for systemd's own is short.
fn unit(kas: &Path, path: Option<&str>) -> Result<String, Error> {
    // Quotes and backslashes systemd refuses in a program's path, however they are written.
    let kas =
        kas.to_str().filter(|path| !path.contains(['"', '\'', '\\'])).and_then(quoted).ok_or_else(|| {
            Error::failed(
                "path",
                format!("{} cannot stand in a unit file; move kas elsewhere", kas.display()),
            )
        })?;
    let mut service = format!("ExecStart={kas} daemon");
    if let Some(path) = path.and_then(|path| quoted(&format!("PATH={path}"))) {
        service = format!("Environment={path}\n{service}");
    }
    let body = TEMPLATE.lines().skip(1).collect::<Vec<_>>().join("\n");
    Ok(format!("{MARK}\n{}\n", body.replace(PROGRAM, &service)))
}

/// A word in systemd's quotes (systemd.syntax(7)); `None` for one with control characters.
fn quoted(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Some(format!("\"{escaped}\""))
}

fn is_ours_or_absent(file: &Path) -> Result<bool, Error> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.starts_with(MARK)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        // Not text: certainly not ours.
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(cannot("read", file, &error)),
    }
}

/// Puts the file there whole or not at all.
fn write(dir: &Path, file: &Path, text: &str) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|error| cannot("make", dir, &error))?;
    let new: PathBuf = dir.join(format!(".kas.service.{}", std::process::id()));
    let written = fs::File::options().write(true).create(true).truncate(true).mode(0o644).open(&new);
    let written = written.and_then(|mut it| it.write_all(text.as_bytes()).and_then(|()| it.sync_all()));
    written.and_then(|()| fs::rename(&new, file)).map_err(|error| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
        cannot("write", file, &error)
    })
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::failed("unit_file", format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_program_with_this_path() {
        let text = unit(Path::new("/o p/100%/k"), Some("/a \"b:/bin")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], MARK);
        assert!(lines.contains(&"Environment=\"PATH=/a \\\"b:/bin\""), "{text}");
        assert!(lines.contains(&"ExecStart=\"/o p/100%%/k\" daemon start --foreground"), "{text}");
        assert!(!text.contains("%h"), "{text}");
        for bad in ["/a\nb", "/a'b", "/a\"b", "/a\\b"] {
            assert!(unit(Path::new(bad), None).is_err(), "{bad}");
        }
        assert!(!unit(Path::new("/kas"), None).unwrap().contains("Environment"));
    }
}
