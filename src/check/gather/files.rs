//! The other files of a state directory: who may use them, and what the log tells.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Lines of a log that are told of; more say the same.
const LINES: usize = 20;
/// How much of a line is shown, in characters.
const SHOWN: usize = 200;

/// What a log tells that it should not have to, or must not.
#[derive(Default)]
pub(super) struct Log {
    pub(super) panics: Vec<String>,
    pub(super) exposed: Option<String>,
}

/// The daemon's token, where it can be read.
pub(super) fn secret(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Reads a log, if there is one.
pub(super) fn log(path: &Path, secret: Option<&str>) -> Log {
    let mut log = Log::default();
    let Ok(file) = fs::File::open(path) else { return log };
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if line.contains("panicked at") && log.panics.len() < LINES {
            log.panics.push(line.chars().take(SHOWN).collect());
        }
        if secret.is_some_and(|secret| line.contains(secret)) {
            log.exposed = Some("the log tells the daemon's token".to_owned());
        }
    }
    log
}

/// Files and directories of a state directory that others may use.
pub(super) fn exposed(state_dir: &Path) -> Vec<String> {
    let names = ["", "token", "runner.db", "runner.db-wal", "runner.db-shm", "instances"];
    let paths = names.iter().map(|name| state_dir.join(name));
    let specs = fs::read_dir(state_dir.join("instances")).into_iter().flatten().flatten();
    let instances =
        specs.flat_map(|dir| [dir.path(), dir.path().join("spec.json"), dir.path().join("shim.sock")]);
    let open = |path: &Path| {
        let found = fs::symlink_metadata(path).ok()?;
        (found.mode() & 0o077 != 0).then(|| format!("{} may be used by others", path.display()))
    };
    paths.chain(instances).filter_map(|path| open(&path)).collect()
}
