//! Instance directories as a whole: made, listed, removed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Spec, index};
use crate::model::InstanceId;

/// What the name of a directory that is being removed begins with.
const GONE: &str = ".gone-";

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

/// Whether a shim ever came to its gate in an instance directory. It makes the journal's index before, in this very directory, and leaves it
/// there; so as long as there is none no gate was opened, and a command did not run.
///
/// # Errors
///
/// When it cannot be told.
pub fn has_begun(dir: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(dir.join(index::FILE)) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
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
/// It loses its name first: what a death in the middle leaves is no instance's any more, and [`sweep`] removes it.
///
/// # Errors
///
/// When something in it cannot be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    let Some(name) = dir.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut gone = OsString::from(GONE);
    gone.push(name);
    let gone = dir.with_file_name(gone);
    remove_all(&gone)?;
    match fs::rename(dir, &gone) {
        Ok(()) => remove_all(&gone),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes what [`remove`] began to.
///
/// # Errors
///
/// When the directory cannot be read or something in it not be removed.
pub fn sweep(instances: &Path) -> io::Result<()> {
    for entry in fs::read_dir(instances)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(GONE.as_bytes()) {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_all(dir: &Path) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_being_removed_is_swept_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let (id, other) = (InstanceId::from_parts(1, 1), InstanceId::from_parts(1, 2));
        let half = home.path().join(format!("{GONE}{id}"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("index"), "").unwrap();
        fs::create_dir(home.path().join(other.to_string())).unwrap();
        assert_eq!(list(home.path()).unwrap(), [other]);
        sweep(home.path()).unwrap();
        assert!(!half.exists());
        assert_eq!(list(home.path()).unwrap(), [other]);
        let dir = home.path().join(other.to_string());
        remove(&dir).unwrap();
        remove(&dir).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
