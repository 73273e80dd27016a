//! The directory a task runs in, proven to be inside its project.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::project::PROJECT_MOVED;

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
    /// The way to the project is a link now: another directory than the registered one may be at its end.
    #[error("{}", moved(root))]
    Moved {
        /// The project's directory as it is registered.
        root: PathBuf,
    },
}

impl CwdError {
    /// The word for it in `details.reason` (`spec/protocol.md` §3).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "cwd_not_found",
            Self::OutsideProject { .. } => "cwd_outside_project",
            Self::Moved { .. } => PROJECT_MOVED,
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
    let top = open_root(root).map_err(|errno| match errno {
        Errno::LOOP => CwdError::Moved { root: root.to_owned() },
        errno => failed(errno),
    })?;
    let dir = open_beneath(&top, Path::new(relative), DIRECTORY, ResolveFlags::empty()).map_err(failed)?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let path = real.map_err(|source| CwdError::NotFound { path: path.clone(), source })?;
    Ok(Cwd { dir, path })
}

/// Opens a directory that [`project_cwd`] found, `below` the project's `root`, to run in. It was recorded by its path without links, so by now there
/// must be none on the way, to the root either.
///
/// # Errors
/// What the kernel said, [`Errno::LOOP`] for a link.
pub fn recorded_cwd(root: &Path, below: &Path) -> Result<OwnedFd, Errno> {
    let top = open_root(root)?;
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    open_beneath(&top, below, DIRECTORY, ResolveFlags::NO_SYMLINKS)
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory of a registered project. Its path was recorded without links, so a link on the way, [`Errno::LOOP`], was put there
/// since. A directory made anew at the same path is the same project.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    openat2(CWD, root, DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// What is said of a project at whose path a link is found.
pub(super) fn moved(root: &Path) -> String {
    let root = root.display();
    format!(
        "{root} is reached through a link now, so it may be another directory than the registered one; nothing of it runs until it is \
         added again: `kas daemon add {root}`"
    )
}

fn open_beneath(top: &OwnedFd, relative: &Path, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
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
    fn what_was_recorded_is_opened_again_where_no_link_has_come_in_its_way() {
        let (_temp, root) = project();
        let open = |below: &str| recorded_cwd(&root, Path::new(below));
        assert!(open("").is_ok() && open("sub/deep").is_ok());
        for link in ["inside", "inside/deep", "outside", "absolute"] {
            assert_eq!(open(link).unwrap_err(), Errno::LOOP, "{link}");
        }
        assert_eq!(open("sub/../..").unwrap_err(), Errno::XDEV);
        fs::rename(&root, root.with_file_name("moved")).unwrap();
        symlink("moved", &root).unwrap();
        assert_eq!(open("sub").unwrap_err(), Errno::LOOP, "the root itself");
    }

    /// Somebody exchanges the directory and a link out of the project all the time: what is opened is inside, or nothing is.
    #[test]
    fn a_race_for_the_way_in_is_never_won() {
        let (_temp, root) = project();
        let outside = root.with_file_name("elsewhere");
        fs::create_dir(&outside).unwrap();
        symlink("../elsewhere", root.join("trap")).unwrap();
        let inode = |dir: &OwnedFd| rustix::fs::fstat(dir).unwrap().st_ino;
        let inside = inode(&project_cwd(&root, Some("sub")).unwrap().dir);
        let over = std::sync::atomic::AtomicBool::new(false);
        let (mut opened, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    rustix::fs::renameat_with(CWD, root.join("sub"), CWD, root.join("trap"), flags).unwrap();
                }
            });
            for _ in 0..2000 {
                let checked = project_cwd(&root, Some("sub")).map(|it| it.dir).ok();
                for dir in [checked, recorded_cwd(&root, Path::new("sub")).ok()] {
                    match dir {
                        Some(dir) => {
                            assert_eq!(inode(&dir), inside);
                            opened += 1;
                        }
                        None => refused += 1,
                    }
                }
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(opened > 0 && refused > 0, "there was no race: {opened} opened, {refused} refused");
    }

    #[test]
    fn a_root_reached_through_a_link_has_moved() {
        let (_temp, root) = project();
        let reason = |root: &Path| project_cwd(root, None).map(drop).map_err(|error| error.reason());
        let parent = root.parent().unwrap();
        fs::create_dir_all(parent.join("real/below")).unwrap();
        symlink("real", parent.join("link")).unwrap();
        assert_eq!(reason(&parent.join("real/below")), Ok(()));
        assert_eq!(reason(&parent.join("link/below")), Err(PROJECT_MOVED), "a link higher up");
        fs::rename(&root, root.with_file_name("moved")).unwrap();
        symlink("moved", &root).unwrap();
        assert_eq!(reason(&root), Err(PROJECT_MOVED));
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        assert_eq!(reason(&root), Ok(()), "made anew");
    }

    #[test]
    fn a_root_that_is_gone_is_not_found() {
        let error = project_cwd(Path::new("/nonexistent/project"), None).unwrap_err();
        assert_eq!(error.reason(), "cwd_not_found");
    }
}
