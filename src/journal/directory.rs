//! Instance directories as a whole: made, listed, removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Spec;
use crate::model::InstanceId;

/// Makes the directory of the spec's instance (0700) under `instances` with its spec (0600), and returns its path.
///
/// Both are on disk when it returns.
///
/// # Errors
///
/// When the directory exists already or cannot be written; then nothing of it is left.
pub fn create(instances: &Path, spec: &Spec) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(instances)?;
    let dir = instances.join(spec.id.to_string());
    DirBuilder::new().mode(0o700).create(&dir)?;
    let filled = write_spec(&dir, spec).and_then(|()| File::open(instances)?.sync_all());
    if let Err(error) = filled {
        // The first error is the one to tell; a directory that stays is found as "never started" later.
        let _ = fs::remove_dir_all(&dir);
        return Err(error);
    }
    Ok(dir)
}

fn write_spec(dir: &Path, spec: &Spec) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(Spec::FILE))?;
    file.write_all(&spec.to_bytes())?;
    file.sync_all()
}

/// The instances that have a directory under `instances`, oldest first. None when `instances` does not exist.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn list(instances: &Path) -> io::Result<Vec<InstanceId>> {
    let entries = match fs::read_dir(instances) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()));
    }
    found.sort();
    Ok(found)
}

/// How often a directory is emptied in which somebody still makes files. A shim that begins makes half a dozen.
const REMOVALS: usize = 100;

/// Removes an instance directory and everything in it. It is no error when it is gone already.
///
/// # Errors
///
/// When something in it cannot be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..REMOVALS {
        last = match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Err(e),
            other => return other,
        };
    }
    last
}
