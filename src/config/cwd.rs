//! The directory a task runs in, proven to be inside its project.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// An open directory and where it really is.
#[derive(Debug)]
pub struct Cwd {
    /// The directory, opened with `O_PATH`: good for `fchdir` and `/proc/self/fd/N`.
    pub dir: OwnedFd,
    /// Its path with all links resolved.
    pub path: PathBuf,
}

/// Why a task cannot run in its directory.
#[derive(Debug, thiserror::Error)]
pub enum CwdError {
    /// It does not exist, is not a directory, or may not be entered.
    #[error("the directory {} cannot be used: {source}", path.display())]
    NotFound {
        /// The directory asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is absolute, or a `..` or a link in it leads out of the project. An absolute link always does.
    #[error("the directory {} leads out of the project", path.display())]
    OutsideProject {
        /// The directory asked for.
        path: PathBuf,
    },
}

impl CwdError {
    /// The word for it in `details.reason` (`spec/protocol.md` §3).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "cwd_not_found",
            Self::OutsideProject { .. } => "cwd_outside_project",
        }
    }
}

/// Opens the directory `relative` below the project's `root`; the root itself without it.
///
/// # Errors
/// [`CwdError`]. The kernel decides what is outside (`openat2` with `RESOLVE_BENEATH`), so a link swapped meanwhile cannot get by.
pub fn project_cwd(root: &Path, relative: Option<&str>) -> Result<Cwd, CwdError> {
    let relative = relative.filter(|it| !it.is_empty()).unwrap_or(".");
    let path = root.join(relative);
    let failed = |errno: Errno| match errno {
        Errno::XDEV => CwdError::OutsideProject { path: path.clone() },
        _ => CwdError::NotFound { path: path.clone(), source: errno.into() },
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, root, flags, Mode::empty()).map_err(failed)?;
    let dir = open_beneath(&top, relative, flags).map_err(failed)?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let path = real.map_err(|source| CwdError::NotFound { path: path.clone(), source })?;
    Ok(Cwd { dir, path })
}

fn open_beneath(top: &OwnedFd, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(top, relative, flags, Mode::empty(), resolve) {
            // The kernel could not rule out a rename that raced with a `..`; openat2(2) says to try again.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn project() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap().join("x#(touch PWNED)\n");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("sub", root.join("inside")).unwrap();
        symlink("..", root.join("outside")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        (temp, root)
    }

    #[test]
    fn opens_only_what_is_inside() {
        let (_temp, root) = project();
        let check = |relative: Option<&str>, expect: Result<&str, &str>| {
            let found = project_cwd(&root, relative).map(|it| it.path).map_err(|error| error.reason());
            assert_eq!(found, expect.map(|it| root.join(it).components().collect()), "{relative:?}");
        };
        check(None, Ok(""));
        check(Some("."), Ok(""));
        check(Some("sub/deep"), Ok("sub/deep"));
        check(Some("inside/deep/"), Ok("sub/deep"));
        check(Some("sub/../sub"), Ok("sub"));
        for outside in ["..", "sub/../..", "outside", "outside/x", "absolute", "/etc", "/proc/self/cwd"] {
            check(Some(outside), Err("cwd_outside_project"));
        }
        for missing in ["nothing", "file", "loop", "file/x"] {
            check(Some(missing), Err("cwd_not_found"));
        }
    }

    #[test]
    fn a_root_that_is_gone_is_not_found() {
        let error = project_cwd(Path::new("/nonexistent/project"), None).unwrap_err();
        assert_eq!(error.reason(), "cwd_not_found");
    }
}
