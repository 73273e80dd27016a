//! What can go wrong in the store.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store did not do what was asked. Nothing of a failed change is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database could not be opened.
    #[error("cannot open the database {}: {cause}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<Self>,
    },
    /// A newer kas made the database. The file was not touched.
    #[error("it has schema {found} and this kas knows schemas up to {known}; use the newer kas again")]
    Newer {
        /// The file's schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },
    /// The file belongs to another program.
    #[error(
        "it is not a database of kas ({0}); `kas debug salvage` lists what still runs; move it aside to start with an empty one"
    )]
    Foreign(String),
    /// The file's content cannot be trusted.
    #[error(
        "it is damaged ({0}); `kas debug salvage` lists what still runs; move it aside to start with an empty one, or restore a copy"
    )]
    Corrupt(String),
    /// The file or its directory cannot be written.
    #[error("it cannot be written: {0}")]
    ReadOnly(String),
    /// Another program held the database for five seconds.
    #[error("another program holds the database; try again")]
    Busy,
    /// No space is left.
    #[error("no space is left for the database")]
    Full,
    /// The change was fine, but its commit failed together with another's.
    #[error("the change was undone together with another that failed; try again")]
    Undone,
    /// The store's writer has ended.
    #[error("the store is closed")]
    Closed,
    /// There is no such run.
    #[error("no such instance")]
    NoInstance,
    /// The change contradicts what is recorded.
    #[error("{0}")]
    Conflict(String),
    /// A cursor that no page gave out.
    #[error("not a cursor of this list")]
    Cursor,
    /// The operating system said no: a disk that fails, no descriptor, no memory.
    #[error("{0}")]
    Io(String),
    /// SQLite said no.
    #[error("{0}")]
    Sql(String),
}

impl Error {
    pub(super) fn opening(self, path: &Path) -> Self {
        Self::Open { path: path.to_owned(), cause: Box::new(self) }
    }

    /// A value in a row that no kas wrote.
    pub(super) fn bad_value(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
            Some(ErrorCode::ConstraintViolation) => Self::Conflict(text),
            // The machine's doing, not the data's: a disk that fails, no descriptor, no memory. It may pass.
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Io(text),
            _ => Self::Sql(text),
        }
    }
}

impl From<std::io::Error> for Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows; the text is kept")]
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(error.to_string()),
            ErrorKind::StorageFull => Self::Full,
            _ => Self::Io(error.to_string()),
        }
    }
}
