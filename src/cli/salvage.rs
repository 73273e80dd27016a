//! `kas debug salvage`: what is known of runs from their directories alone, when there is no database to ask.

use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::output::harmless;
use super::table;
use crate::config::{Env, Paths, is_listened_at};
use crate::journal::{self, Ending, ExitRecord, Reader, Spec};
use crate::model::InstanceId;
use crate::shim::SOCKET;

/// Lists every run that has a directory, and answers the exit code.
///
/// # Errors
/// When the directory of instances cannot be read.
pub(super) fn run(as_json: bool) -> anyhow::Result<u8> {
    let paths = Paths::new(&Env::of_process(), None)?;
    let ids = journal::list(&paths.instances)
        .with_context(|| format!("cannot read {}", paths.instances.display()))?;
    let items: Vec<Value> = ids.into_iter().map(|id| item(&paths.instances, id)).collect();
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", harmless(&json!({ "items": items })))?;
        return Ok(0);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let columns = ["id", "state", "exit", "output", "dir", "command"];
    let rows: Vec<Vec<String>> =
        items.iter().map(|it| columns.iter().map(|name| text(&it[*name])).collect()).collect();
    table::write(&mut out, &["ID", "STATE", "EXIT", "OUTPUT", "DIRECTORY", "COMMAND"], &rows, None)?;
    Ok(0)
}

/// One run: whether a shim holds it, how it ended, and which bytes of it are there.
fn item(instances: &Path, id: InstanceId) -> Value {
    let dir = instances.join(id.to_string());
    let spec = Spec::read(&dir);
    let record = ExitRecord::read(&dir).ok().flatten();
    let (start, end) = Reader::new(&dir).range().unwrap_or_default();
    let state = match (&record, held(&dir)) {
        (Some(_), _) => "ended",
        (None, true) => "running",
        (None, false) => "lost",
    };
    let exit = record.map_or_else(|| "-".to_owned(), |record| ended(&record.ending));
    json!({
        "id": id.to_string(),
        "state": state,
        "exit": exit,
        "start_offset": start.0,
        "end_offset": end.0,
        "output": format!("{start}..{end}"),
        "dir": dir.to_string_lossy(),
        "command": spec.map_or_else(|error| format!("unknown: {error}"), |spec| spec.command.to_string_lossy().into_owned()),
    })
}

fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Exited(exit) => exit.signal_name().unwrap_or_else(|| exit.code().to_string()),
        Ending::SpawnFailed { text, .. } => text.clone(),
        Ending::NeverStarted => "never started".to_owned(),
    }
}

/// Whether a shim listens there. A socket's address holds 107 bytes; by way of the directory's descriptor every path fits.
fn held(dir: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(dir, flags, Mode::empty()) else { return false };
    is_listened_at(Path::new(&format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())))
}
