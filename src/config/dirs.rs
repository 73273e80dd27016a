//! Directories of our own, made and checked so that nobody else can read or swap what is in them.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::Error;

/// Opens a directory only we may enter (state, sockets), made with mode 0700 if it is missing, its parents too.
///
/// # Errors
/// [`Error::UnsafeDir`] when it is a symlink, somebody else's, or open to others; [`Error::Io`]. What exists is never changed.
pub fn ensure_private_dir(path: &Path) -> Result<OwnedFd, Error> {
    ensure(path, 0o077)
}

/// Opens a directory only we may write to (configuration); others may read. Otherwise as [`ensure_private_dir`].
///
/// # Errors
/// As [`ensure_private_dir`].
pub fn ensure_safe_dir(path: &Path) -> Result<OwnedFd, Error> {
    ensure(path, 0o022)
}

fn ensure(path: &Path, forbidden: u32) -> Result<OwnedFd, Error> {
    let parent = open_parents(path)?;
    let unsafe_dir = |reason: String| Error::UnsafeDir { path: path.to_owned(), reason };
    let Some(Component::Normal(name)) = path.components().next_back() else {
        return Err(unsafe_dir("it has no name of its own".to_owned()));
    };
    make_at(&parent, Path::new(name)).map_err(|errno| Error::io("create", path, errno))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(&parent, name, flags, Mode::empty()).map_err(|errno| match errno {
        // With O_DIRECTORY and O_NOFOLLOW a symlink is ENOTDIR, or ELOOP on some filesystems.
        Errno::NOTDIR | Errno::LOOP => unsafe_dir("it is a link or not a directory; remove it".to_owned()),
        _ => Error::io("open", path, errno),
    })?;
    let stat = fstat(&dir).map_err(|errno| Error::io("look at", path, errno))?;
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid != uid {
        return Err(unsafe_dir(format!("it belongs to user {}, not to {uid}", stat.st_uid)));
    }
    if stat.st_mode & forbidden != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(unsafe_dir(format!("others may use it (mode {mode:04o}); run `chmod go-rwx` on it")));
    }
    Ok(dir)
}

/// Refuses a directory that somebody else owns, or that others may write to and remove from, around `path`. One that is missing is fine:
/// it will be made.
pub(super) fn refuse_shared_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let stat = match rustix::fs::stat(parent) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::io("look at", parent, errno)),
    };
    let unsafe_dir = |reason: String| Err(Error::UnsafeDir { path: parent.to_owned(), reason });
    let uid = rustix::process::geteuid().as_raw();
    let (mode, sticky) = (stat.st_mode & 0o7777, 0o1000);
    if stat.st_uid != uid && stat.st_uid != 0 {
        return unsafe_dir(format!("it belongs to user {}, not to {uid}", stat.st_uid));
    }
    if mode & 0o022 != 0 && mode & sticky == 0 {
        return unsafe_dir(format!("others may write to it (mode {mode:04o})"));
    }
    Ok(())
}

/// Opens the parent of `path`, making what is missing of it. Links above the last name are the administrator's business.
fn open_parents(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let start = if path.is_absolute() { "/" } else { "." };
    let mut at = openat(CWD, start, flags, Mode::empty()).map_err(|errno| Error::io("open", start, errno))?;
    for component in path.parent().unwrap_or(Path::new("")).components() {
        let name: &Path = component.as_ref();
        if matches!(component, Component::Normal(_) | Component::ParentDir) {
            at = match openat(&at, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    make_at(&at, name).and_then(|()| openat(&at, name, flags, Mode::empty()))
                }
                other => other,
            }
            .map_err(|errno| Error::io("create the parents of", path, errno))?;
        }
    }
    Ok(at)
}

fn make_at(at: &OwnedFd, name: &Path) -> Result<(), Errno> {
    match mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn reason(result: Result<OwnedFd, Error>) -> String {
        result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
    }

    #[test]
    fn makes_private_directories_with_their_parents() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/c");
        ensure_private_dir(&path).unwrap();
        ensure_private_dir(&path).unwrap();
        for dir in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(temp.path().join(dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{dir}");
        }
    }

    #[test]
    fn refuses_what_others_could_use_and_leaves_it_alone() {
        let temp = tempfile::tempdir().unwrap();
        let open = temp.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(reason(ensure_private_dir(&open)).contains("mode 0755"));
        assert_eq!(reason(ensure_safe_dir(&open)), "ok");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(reason(ensure_safe_dir(&open)).contains("mode 0777"));
        assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o777);
    }

    #[test]
    fn refuses_links_and_files() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("real");
        ensure_private_dir(&real).unwrap();
        symlink(&real, temp.path().join("link")).unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        for name in ["link", "file"] {
            assert!(
                reason(ensure_private_dir(&temp.path().join(name))).contains("link or not a directory"),
                "{name}"
            );
        }
        // A link above it is followed.
        assert_eq!(reason(ensure_private_dir(&temp.path().join("link/below"))), "ok");
        assert!(reason(ensure_private_dir(Path::new("/"))).contains("no name"));
    }
}
