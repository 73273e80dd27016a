//! Why a certificate cannot be served with.

use std::path::PathBuf;

use tokio_rustls::rustls;

use crate::config;

/// What is wrong with the operator's certificate or key. `Display` is one line for people, with the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or others can read the key.
    #[error("`{setting}` in daemon.toml: {error}")]
    File {
        /// The key in `daemon.toml` that names the file.
        setting: &'static str,
        /// What stands in the way.
        error: config::Error,
    },
    /// No certificate in the file.
    #[error("{} holds no certificate; set `tls_cert` to a PEM file with a whole `BEGIN CERTIFICATE` block", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No private key in the file.
    #[error("{} holds no private key; set `tls_key` to a PEM file with a whole `PRIVATE KEY` block that asks for no passphrase", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The two files are of different makings.
    #[error("the key in {} does not belong to the certificate in {}; set `tls_cert` and `tls_key` to a pair", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("the certificate in {} has expired; put a new one there", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
    },
    /// Its time has not come, by this machine's clock.
    #[error("the certificate in {} is not valid yet; put another one there, or set this machine's clock", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
    },
    /// A kind of certificate or key that is not known here, or bytes that are neither.
    #[error("the certificate in {} with the key in {} cannot be used: {why}", cert.display(), key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library says.
        why: rustls::Error,
    },
}
