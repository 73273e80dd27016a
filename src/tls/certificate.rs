//! The operator's certificate and key, checked before anybody connects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CertificateError, Error as TlsError, RootCertStore, ServerConfig};

use super::Error;
use crate::config;
use crate::model::TimeMs;

/// A certificate with its key, fit to serve with.
#[derive(Debug)]
pub struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads both files. Of the certificates in the first one, the first is ours and the others lead to a root.
    ///
    /// # Errors
    /// Whatever a browser would stumble over without being able to say: see [`Error`].
    pub fn read(cert: &Path, key: &Path, now: TimeMs) -> Result<Self, Error> {
        let at = |setting| move |error| Error::File { setting, error };
        let certificates = config::read_source(cert).map_err(at("tls_cert"))?.text;
        let secret = config::read_secret(key).map_err(at("tls_key"))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let chain = chain.unwrap_or_default();
        let Some(own) = chain.first() else { return Err(Error::NoCertificate { path: cert.to_owned() }) };
        check_time(own, now, cert)?;
        let secret =
            PrivateKeyDer::from_pem_slice(&secret).map_err(|_| Error::NoKey { path: key.to_owned() })?;
        let config = server_config(chain.clone(), secret).map_err(|why| unusable(cert, key, why))?;
        Ok(Self { chain, config: Arc::new(config) })
    }

    /// Those of the names that it is not for; browsers warn of them.
    #[must_use]
    pub fn lacks<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        let own = self.chain.first().map(ParsedCertificate::try_from);
        let Some(Ok(own)) = own else { return names.iter().map(String::as_str).collect() };
        let is_for = |name: &str| {
            let name = ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']'));
            name.is_ok_and(|name| verify_server_name(&own, &name).is_ok())
        };
        names.iter().map(String::as_str).filter(|name| !is_for(name)).collect()
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12])?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(cert: &Path, key: &Path, why: TlsError) -> Error {
    let (cert, key) = (cert.to_owned(), key.to_owned());
    if matches!(why, TlsError::InconsistentKeys(_)) {
        Error::Mismatch { cert, key }
    } else {
        Error::Unusable { cert, key, why }
    }
}

/// Asks whether it is valid now the way a client does. Without a root it finds no way to one, which is the client's matter; it looks at
/// the time before.
fn check_time(own: &CertificateDer<'_>, now: TimeMs, path: &Path) -> Result<(), Error> {
    // What cannot be read is told when it is paired with its key.
    let Ok(own) = ParsedCertificate::try_from(own) else { return Ok(()) };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0.max(0).unsigned_abs()));
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let verified =
        verify_server_cert_signed_by_trust_anchor(&own, &RootCertStore::empty(), &[], now, algorithms);
    let path: PathBuf = path.to_owned();
    match verified {
        Err(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Err(Error::Expired { path }),
        Err(TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Err(Error::NotYetValid { path }),
        Ok(()) | Err(_) => Ok(()),
    }
}
