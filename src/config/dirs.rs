//! Directories of our own, made and checked so that nobody else can read or swap what is in them.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::Error;

/// Opens a directory only we may enter (state, sockets), as a place (`O_PATH`), made with mode 0700 if it is missing, its parents too.
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
    let unsafe_dir = |reason: String| Error::UnsafeDir { path: path.to_owned(), reason };
    let Some(Component::Normal(name)) = path.components().next_back() else {
        return Err(unsafe_dir("it has no name of its own".to_owned()));
    };
    let parent = open_parents(path)?;
    make_at(&parent, Path::new(name)).map_err(|errno| Error::io("create", path, errno))?;
    // Only as a place, which needs no permission: whose it is can be said of a directory that may not be read.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(&parent, name, flags, Mode::empty())
        .map_err(|errno| no_directory(path, "open", path, errno))?;
    let stat = fstat(&dir).map_err(|errno| Error::io("look at", path, errno))?;
    let uid = geteuid().as_raw();
    if stat.st_uid != uid {
        return Err(unsafe_dir(format!("it belongs to user {}, not to {uid}", stat.st_uid)));
    }
    if stat.st_mode & forbidden != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(unsafe_dir(format!("others may use it (mode {mode:04o}); run `chmod go-rwx` on it")));
    }
    Ok(dir)
}

/// Opens the parent of `path`, making what is missing of it. Every directory on the way is looked at by its descriptor before a name is
/// looked up in it. A link is followed only where nobody else can have put it, and never in place of what was just made.
fn open_parents(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut so_far = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut at =
        openat(CWD, &so_far, flags, Mode::empty()).map_err(|errno| Error::io("open", &so_far, errno))?;
    let mut shared = refuse_exchange(&at, &so_far)?;
    for component in path.parent().unwrap_or(Path::new("")).components() {
        let name: &Path = component.as_ref();
        if !matches!(component, Component::Normal(_) | Component::ParentDir) {
            continue;
        }
        so_far.push(name);
        let open = |more| openat(&at, name, flags | more, Mode::empty());
        let opened = match open(if shared { OFlags::NOFOLLOW } else { OFlags::empty() }) {
            Err(Errno::NOENT) => make_at(&at, name).and_then(|()| open(OFlags::NOFOLLOW)),
            other => other,
        };
        at = opened.map_err(|errno| no_directory(&so_far, "create the parents of", path, errno))?;
        shared = refuse_exchange(&at, &so_far)?;
    }
    Ok(at)
}

/// With `O_DIRECTORY` and `O_NOFOLLOW` a link is ENOTDIR, or ELOOP on some filesystems.
fn no_directory(at: &Path, action: &'static str, path: &Path, errno: Errno) -> Error {
    match errno {
        Errno::NOTDIR | Errno::LOOP => {
            let reason = "it is a link or not a directory; remove it".to_owned();
            Error::UnsafeDir { path: at.to_owned(), reason }
        }
        _ => Error::io(action, path, errno),
    }
}

/// Refuses a directory in which another user could exchange what we look for: one of theirs, or one they may write to, unless it is sticky.
/// Says whether others may make things in it.
fn refuse_exchange(dir: &OwnedFd, path: &Path) -> Result<bool, Error> {
    let stat = fstat(dir).map_err(|errno| Error::io("look at", path, errno))?;
    let unsafe_dir = |reason: String| Err(Error::UnsafeDir { path: path.to_owned(), reason });
    let uid = geteuid().as_raw();
    let (mode, sticky) = (stat.st_mode & 0o7777, 0o1000);
    if stat.st_uid != uid && stat.st_uid != 0 && !is_unmapped(stat.st_uid) {
        return unsafe_dir(format!("it belongs to user {}, not to {uid}", stat.st_uid));
    }
    // A group of the user's own number is the user's alone, where each user has one (useradd(8), USERGROUPS_ENAB).
    let ours = if stat.st_gid == uid { 0o002 } else { 0o022 };
    let shared = mode & ours != 0;
    if shared && mode & sticky == 0 {
        return unsafe_dir(format!("others may write to it (mode {mode:04o})"));
    }
    Ok(shared)
}

/// Whether the user is nobody this side of the user namespace, as which the kernel shows all users from outside of it: a number that many
/// users may share (user_namespaces(7), "Unmapped user and group IDs").
#[must_use]
pub fn is_unmapped(uid: u32) -> bool {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let mapped = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next().and_then(number);
        let count = words.nth(1).and_then(number);
        // What cannot be read maps everything.
        first.zip(count).is_none_or(|(first, count)| uid.checked_sub(first).is_some_and(|it| it < count))
    };
    // A map that is empty maps no user; one that cannot be read is taken for the usual one.
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    number(&read("/proc/sys/kernel/overflowuid")) == Some(uid) && !map.lines().any(mapped)
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
    fn refuses_a_way_that_others_could_exchange() {
        let temp = tempfile::tempdir().unwrap();
        let shared = temp.path().join("shared");
        ensure_private_dir(&shared.join("real")).unwrap();
        let check = |mode: u32, below: &str, expect: &str| {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
            let found = reason(ensure_private_dir(&shared.join(below)));
            assert!(found.contains(expect), "{mode:o} {below}: {found}");
        };
        check(0o777, "real/a", "mode 0777");
        check(0o777, "real", "mode 0777");
        check(0o1777, "real/a", "ok");
        symlink("real", shared.join("link")).unwrap();
        check(0o1777, "link/a", "it is a link");
        check(0o755, "link/a", "ok");
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
        // A link above it is followed, for it is our own.
        assert_eq!(reason(ensure_private_dir(&temp.path().join("link/below"))), "ok");
        symlink(temp.path().join("nothing"), temp.path().join("dangling")).unwrap();
        assert!(reason(ensure_private_dir(&temp.path().join("dangling/below"))).contains("link or not"));
        assert!(!temp.path().join("nothing").exists());
        assert!(reason(ensure_private_dir(Path::new("/"))).contains("no name"));
    }
}
