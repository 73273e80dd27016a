//! Programs: by name, and this one, whatever becomes of its file.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// The first program of this name on a `PATH`; relative directories in it are passed over.
pub(super) fn find_program(path: &OsStr, name: &str) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(is_program)
}

/// The program of this process, held open: what it starts of itself is itself, also when its file was replaced by an upgrade or removed.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    file: Arc<OwnedFd>,
    /// Device and inode.
    id: (u64, u64),
}

impl Program {
    /// This process's own.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, ..Self::at(Path::new("/proc/self/exe"))? })
    }

    /// The program of this file.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { path: path.to_owned(), file, id: id(&fs::metadata(path)?) })
    }

    /// Where it can be executed now, by any process of this user: its own path while that is still it, else by way of this process's descriptor.
    ///
    /// The path comes first because the descriptor's means something else to a tmux server in another PID namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match fs::metadata(&self.path) {
            Ok(found) if id(&found) == self.id => self.path.clone(),
            Ok(_) | Err(_) => {
                PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
            }
        }
    }
}

fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_itself_whatever_lies_at_its_path() {
        let own = Program::own().unwrap();
        assert_eq!(own.path(), std::env::current_exe().unwrap());
        let gone = Program { path: "/nowhere".into(), ..own.clone() };
        let replaced = Program { path: "/bin/sh".into(), ..own };
        for program in [gone, replaced] {
            assert_eq!(id(&fs::metadata(program.path()).unwrap()), program.id);
        }
    }
}
