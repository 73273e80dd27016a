//! The daemon's own token, in a file that only its user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::keys::fresh_token;

/// Why there is no bootstrap token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read or made.
    #[error("the token file {}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Others could have read or written it, or it holds no token.
    #[error("the token file {} is not used: {why}; delete it to get a new token", path.display())]
    Unsafe {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// A token's text: `kas_` and 43 characters.
const TOKEN_CHARS: usize = 47;

/// The token in the file at `path`, made when there is none. The file appears whole, with mode 0600 from its first
/// moment, and never in place of another.
///
/// # Errors
/// [`TokenFileError`]; an existing file is left as it is.
pub fn bootstrap_token(path: &Path) -> Result<String, TokenFileError> {
    let io = |cause| TokenFileError::Io { path: path.to_owned(), cause };
    match make(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map_err(io),
    }
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(|error| io(io::Error::other(error)))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    read(&file).map_err(io)?.map_err(|why| TokenFileError::Unsafe { path: path.to_owned(), why })
}

/// Written aside, then given its name by a link, which fails where a file of that name is.
fn make(path: &Path) -> io::Result<String> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let token = fresh_token()?;
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let linked =
        writeln!(file, "{token}").and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside)?;
    linked.map(|()| token)
}

fn read(file: &File) -> io::Result<Result<String, &'static str>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(Err("it is not a plain file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Ok(Err("it belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Ok(Err("others may read or write it"));
    }
    let mut text = String::new();
    file.take(TOKEN_CHARS as u64 + 2).read_to_string(&mut text)?;
    let token = text.trim_end_matches('\n');
    let good = token.len() == TOKEN_CHARS && token.starts_with("kas_");
    Ok(if good { Ok(token.to_owned()) } else { Err("it holds no token") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_is_made_once_and_only_for_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = bootstrap_token(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{token}\n"));
        assert_eq!(bootstrap_token(&path).unwrap(), token);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_could_have_touched_is_refused_and_left() {
        let check = |make: &dyn Fn(&Path), expect: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("token");
            make(&path);
            let text = bootstrap_token(&path).unwrap_err().to_string();
            assert!(text.contains(expect) && text.contains(path.to_str().unwrap()), "{text}");
        };
        let write = |path: &Path, text: &str, mode| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let token = fresh_token().unwrap();
        check(&|path| write(path, &token, 0o644), "others may read");
        check(&|path| write(path, "", 0o600), "holds no token");
        check(&|path| write(path, &format!("{token}x"), 0o600), "holds no token");
        check(&|path| symlink("/dev/null", path).unwrap(), "token file");
        check(&|path| fs::create_dir(path).unwrap(), "not a plain file");
    }
}
