//! What connections get: the certificate in force, and a bounded handshake.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Certificate, Error};
use crate::model::TimeMs;

/// How long a connection may take from its first byte to the end of its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The first byte of every TLS connection: a record of the type `handshake` (RFC 8446, §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// TLS with a certificate that can be exchanged while it serves.
#[derive(Debug)]
pub struct Tls(Mutex<Certificate>);

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// Encrypted from here on.
    Tls(Box<TlsStream<TcpStream>>),
    /// Something else, such as plain HTTP; nothing was read of it yet.
    Other(TcpStream),
}

impl Tls {
    /// Serves with this certificate.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        Self(Mutex::new(certificate))
    }

    /// Reads the files again; whether there was another certificate in them. Connections that are open keep the one they have.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the one before stays in force.
    pub fn renew(&self, cert: &Path, key: &Path, now: TimeMs) -> Result<bool, Error> {
        let new = Certificate::read(cert, key, now)?;
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = new.chain != current.chain;
        *current = new;
        Ok(is_other)
    }

    /// Does the handshake with a new connection.
    ///
    /// # Errors
    /// It failed, or took too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Opened> {
        let config = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).config);
        let opening = async {
            let mut first = [HANDSHAKE_RECORD];
            stream.peek(&mut first).await?;
            if first != [HANDSHAKE_RECORD] {
                return Ok(Opened::Other(stream));
            }
            Ok(Opened::Tls(Box::new(TlsAcceptor::from(config).accept(stream).await?)))
        };
        tokio::time::timeout(HANDSHAKE, opening).await?
    }
}
