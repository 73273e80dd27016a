//! Why the configuration or a file of ours cannot be used.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::project::{Problem, Reason, Source, render};

/// A file with problems, kept with its text so that they can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The file.
    pub source: Source,
    /// What is wrong with it; at least one.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// The problems with their snippets.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render(&self.problems, &[&self.source], colour)
    }
}

/// What can go wrong before anything runs. `Display` is one line for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The way to a registered project is a link now.
    #[error("{}", super::cwd::moved(root))]
    Moved {
        /// The project's directory as it is registered.
        root: PathBuf,
    },
    /// Something is there that is not a regular file.
    #[error("{} is {kind}, not a file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `daemon.toml` has problems.
    #[error("{}", .0.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Invalid),
    /// The address is one others could reach, which takes TLS.
    #[error(
        "{addr} is not a loopback address; to serve others set `tls_cert` and `tls_key` below `[http]` in daemon.toml"
    )]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// One half of what TLS takes.
    #[error("`{set}` is set without `{missing}`; set both below `[http]` in daemon.toml, or neither")]
    HalfTls {
        /// The key that is there.
        set: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Every address of the machine is served, and none is known.
    #[error(
        "{addr} is every address of this machine; set `names` below `[http]` in daemon.toml to those that browsers use"
    )]
    NoName {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// A secret that others can read.
    #[error("{} may be read by others than its owner; `chmod 600` takes that away, and if they may have read it, make a new one", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// A text that is not an address.
    #[error(
        "\"{text}\" is not an address; write `127.0.0.1:7440`, port 0 for any free one, or \"\" for no HTTP"
    )]
    BadAddress {
        /// What was given.
        text: String,
    },
    /// A socket's path that the kernel cannot take.
    #[error("the socket path {} has {length} bytes, more than {}; set a shorter `socket_path`", path.display(), super::MAX_SOCKET_PATH_BYTES)]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Neither `HOME` nor the XDG variable says where a directory is.
    #[error("neither {variable} nor HOME is set to an absolute path; set one of them")]
    NoHome {
        /// The XDG variable that would help.
        variable: &'static str,
    },
    /// A directory that others could change or read.
    #[error("{} is not safe to use: {reason}", path.display())]
    UnsafeDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// An error with something that can be done about it.
    #[error("{error}; {advice}")]
    Advised {
        /// What went wrong.
        error: Box<Self>,
        /// What to do: a phrase in the imperative.
        advice: &'static str,
    },
}

impl Error {
    /// The error of a system call on `path`.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// Adds what can be done about it.
    pub(super) fn advise(self, advice: &'static str) -> Self {
        Self::Advised { error: Box::new(self), advice }
    }

    /// The exit code of the command line for it (`spec/protocol.md` §5).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 3,
            Self::NotAFile { .. }
            | Self::Invalid(_)
            | Self::BadAddress { .. }
            | Self::SocketPathTooLong { .. } => 4,
            Self::Moved { .. } => 7,
            Self::NotLoopback { .. }
            | Self::HalfTls { .. }
            | Self::NoName { .. }
            | Self::NotPrivate { .. }
            | Self::UnsafeDir { .. } => 8,
            Self::Io { .. } | Self::NoHome { .. } => 1,
            Self::Advised { error, .. } => error.exit_code(),
        }
    }

    /// The same as a problem of the file `name`, for lists of problems.
    #[must_use]
    pub fn problem(&self, name: &str) -> Problem {
        let problem = Source::new(name, Vec::new()).problem(0..0, self.to_string());
        let reason = matches!(self, Self::Moved { .. }).then_some(Reason::ProjectMoved);
        Problem { reason, ..problem }
    }
}
