//! One daemon per state directory: a lock on a file that stays open, so that it ends with the process however that ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Error;

/// The held lock; dropping it lets it go.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes this process's id into its file.
    ///
    /// # Errors
    /// [`Error::Locked`] naming the holder, or what the file system said.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Locked { pid: holder(&mut file), lock: path.to_owned() });
            }
            Err(error) => {
                return Err(anyhow::Error::from(error)
                    .context(format!("cannot lock {}", path.display()))
                    .into());
            }
        }
        write_pid(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let second = Lock::take(&path).unwrap_err();
        assert_eq!(second.exit_code(), 17);
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        Lock::take(&path).unwrap();
    }
}
