//! Why the daemon does not start.

use std::path::PathBuf;

/// What stands in the way, with its exit code (`spec/protocol.md` §5).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration, a path or a directory is not usable.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The operator's certificate cannot be served with.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// `backend = "tmux"` and no usable tmux.
    #[error("{0}")]
    NoTmux(String),
    /// Another daemon works on the state directory.
    #[error("another daemon (pid {pid}) holds {}", lock.display())]
    Locked {
        /// Its process id, or a word when it has not written one yet.
        pid: String,
        /// The lock.
        lock: PathBuf,
    },
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Error {
    /// The exit code that tells this error apart.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::Tls(_) => 8,
            Self::NoTmux(_) => 16,
            Self::Locked { .. } => 17,
            Self::Failed(_) => 1,
        }
    }
}
