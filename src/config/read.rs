//! Files from disk, without being held up or flooded by what is there.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};
use rustix::io::Errno;

use super::Error;
use crate::project::{MAX_SOURCE_BYTES, Parsed, Problem, Source, parse, render};
use crate::terminal::shown;

/// A project's files as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSources {
    /// `.kaged/project.yaml`.
    pub main: Source,
    /// `.kaged/project.local.yaml`, if there is one.
    pub local: Option<Source>,
}

impl ProjectSources {
    /// The project they declare, or what is wrong with them.
    #[must_use]
    pub fn parse(&self) -> Parsed {
        parse(&self.main, self.local.as_ref())
    }

    /// The same with names relative to `base` where they are below it.
    #[must_use]
    pub fn named_from(mut self, base: &Path) -> Self {
        for source in self.local.iter_mut().chain([&mut self.main]) {
            if let Ok(short) = Path::new(&source.name).strip_prefix(base) {
                source.name = short.to_string_lossy().into_owned();
            }
        }
        self
    }

    /// Problems with snippets from these files.
    #[must_use]
    pub fn render(&self, problems: &[Problem], colour: bool) -> String {
        let sources: Vec<&Source> = self.local.iter().chain([&self.main]).collect();
        render(problems, &sources, colour)
    }
}

/// Reads the project files of the directory `dir`.
///
/// # Errors
/// [`Error::NotFound`] without a `project.yaml`; a file that is there and cannot be read, also the local one.
pub fn read_project(dir: &Path) -> Result<ProjectSources, Error> {
    read_pair(&dir.join(".kaged/project.yaml"), &dir.join(".kaged/project.local.yaml"))
}

/// Reads the project files of a registered directory, whose path was recorded without links and is not followed through one: another
/// directory's files would be read for this one's. A directory that somebody exchanges for another one counts as made anew.
///
/// # Errors
/// As [`read_project`], and [`Error::Moved`].
pub fn read_registered(root: &Path) -> Result<ProjectSources, Error> {
    match super::cwd::open_root(root) {
        Err(Errno::LOOP) => Err(Error::Moved { root: root.to_owned() }),
        // Any other reason is the one that its file cannot be read for.
        Ok(_) | Err(_) => read_project(root),
    }
}

fn read_pair(main: &Path, local: &Path) -> Result<ProjectSources, Error> {
    let main = read_source(main)?;
    let local = match read_source(local) {
        Err(Error::NotFound { .. }) => None,
        other => Some(other?),
    };
    Ok(ProjectSources { main, local })
}

/// Reads the project that `path` names: a project's directory, its `.kaged`, either of its files, or any other file by itself.
///
/// # Errors
/// As [`read_project`].
pub fn read_project_at(path: &Path) -> Result<ProjectSources, Error> {
    let parent = || path.parent().unwrap_or(Path::new("."));
    match path.file_name().and_then(|name| name.to_str()) {
        Some("project.yaml" | "project.local.yaml") if !path.is_dir() => {
            read_pair(&parent().join("project.yaml"), &parent().join("project.local.yaml"))
        }
        Some(".kaged") => read_project(parent()),
        Some(_) | None if path.is_dir() => read_project(path),
        Some(_) | None => Ok(ProjectSources { main: read_source(path)?, local: None }),
    }
}

/// The nearest directory from `start` upwards that has a `.kaged/project.yaml`, of whatever kind.
#[must_use]
pub fn find_project(start: &Path) -> Option<PathBuf> {
    let has = |dir: &&Path| std::fs::symlink_metadata(dir.join(".kaged/project.yaml")).is_ok();
    start.ancestors().find(has).map(Path::to_path_buf)
}

/// Reads a text file that a person wrote. At most one byte more than [`MAX_SOURCE_BYTES`] is read: enough to know that it is too
/// large. Never waits, whatever kind of file it is.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAFile`], [`Error::Io`].
pub fn read_source(path: &Path) -> Result<Source, Error> {
    Ok(Source::new(shown(&path.to_string_lossy()), read_bytes(path, |_| Ok(()))?))
}

/// The same for a secret, which only its owner may be able to read.
///
/// # Errors
/// As [`read_source`], and [`Error::NotPrivate`].
pub fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let private =
        |stat: &Stat| Mode::from_raw_mode(stat.st_mode).intersection(Mode::RWXG | Mode::RWXO).is_empty();
    read_bytes(
        path,
        |stat| if private(stat) { Ok(()) } else { Err(Error::NotPrivate { path: path.to_owned() }) },
    )
}

fn read_bytes(path: &Path, check: impl FnOnce(&Stat) -> Result<(), Error>) -> Result<Vec<u8>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound { path: path.to_owned() },
        Errno::NXIO => Error::NotAFile { path: path.to_owned(), kind: "a socket" },
        _ => Error::io("open", path, errno),
    })?;
    let stat = fstat(&fd).map_err(|errno| Error::io("look at", path, errno))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Err(Error::NotAFile { path: path.to_owned(), kind: described(kind) });
    }
    check(&stat)?;
    let mut text = Vec::new();
    let mut file = File::from(fd).take(MAX_SOURCE_BYTES as u64 + 1);
    file.read_to_end(&mut text).map_err(|error| Error::io("read", path, error))?;
    Ok(text)
}

const fn described(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Symlink | FileType::Unknown => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn check(make: impl FnOnce(&Path), expect: &str) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("it");
        make(&path);
        let found =
            read_source(&path).map_or_else(|error| error.to_string(), |it| format!("{}", it.text.len()));
        assert_eq!(found.replace(&path.display().to_string(), "IT"), expect);
    }

    #[test]
    fn reads_files_and_never_waits() {
        check(|it| fs::write(it, "abc").unwrap(), "3");
        check(|_| (), "IT does not exist");
        check(|it| fs::create_dir(it).unwrap(), "IT is a directory, not a file");
        let fifo = |it: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, it, FileType::Fifo, Mode::RWXU, 0).unwrap();
        };
        check(fifo, "IT is a pipe, not a file");
        check(|it| drop(UnixListener::bind(it).unwrap()), "IT is a socket, not a file");
        check(|it| symlink("/dev/zero", it).unwrap(), "IT is a device, not a file");
        check(
            |it| symlink("it", it).unwrap(),
            "cannot open IT: Too many levels of symbolic links (os error 40)",
        );
        check(|it| fs::write(it, vec![b'x'; MAX_SOURCE_BYTES + 10]).unwrap(), "262145");
    }

    #[test]
    fn a_project_is_found_upwards() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(temp.path().join(".kaged")).unwrap();
        fs::write(temp.path().join(".kaged/project.yaml"), "tasks: {ab: {command: x}}").unwrap();
        assert_eq!(find_project(&deep).as_deref(), Some(temp.path()));
        let sources = read_project(temp.path()).unwrap();
        assert!(sources.local.is_none() && sources.parse().project.is_some_and(|it| it.tasks.len() == 1));
        fs::create_dir(temp.path().join(".kaged/project.local.yaml")).unwrap();
        assert!(matches!(read_project(temp.path()), Err(Error::NotAFile { .. })));
        assert!(matches!(read_project(&deep), Err(Error::NotFound { .. })));
    }
}
