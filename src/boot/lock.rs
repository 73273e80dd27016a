//! One daemon per state directory: a lock on a file that stays open, so that it ends with the process however that ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Error;

/// A lock whose holder is gone is tried again so often: a daemon that was killed while it started a process left the lock to that for the moment
/// until it executes its program, and one that has just taken it has not written its id yet.
const TRIES: u32 = 500;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(4);

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
        let mut tries = TRIES;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {
                    let pid = holder(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
                    tries -= 1;
                    if tries == 0 || is_process(&pid) {
                        return Err(Error::Locked { pid, lock: path.to_owned() });
                    }
                    std::thread::sleep(TRY_AGAIN_AFTER);
                }
                Err(error) => {
                    return Err(anyhow::Error::from(error)
                        .context(format!("cannot lock {}", path.display()))
                        .into());
                }
            }
        }
        write_pid(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Who wrote its id last: the holder, unless it has just taken the lock and is about to.
fn holder(file: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.take(20).read_to_string(&mut text)?;
    let text = text.trim();
    Ok(if text.is_empty() { "unknown".to_owned() } else { text.to_owned() })
}

/// Whether a process of this id runs. One that has ended and was not reaped holds nothing any more.
fn is_process(pid: &str) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    // The name may hold anything, so the state comes after the last parenthesis (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    // Over what is there, and cut to its length afterwards: a full disk takes that, and would not take back a byte that was let go.
    let text = format!("{}\n", std::process::id());
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
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
