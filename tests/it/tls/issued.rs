//! Certificates as an operator may make them, by `openssl`.

use std::path::PathBuf;
use std::sync::Arc;

use kas::tls::{Certificate, Error};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::harness::World;

/// The name that certificates are for, besides 127.0.0.1.
pub(super) const NAME: &str = "kas.test";

/// A certificate that is its own root, and its key.
pub(super) struct Issued {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Issued {
    /// Makes one that is valid for ten days; `kind` is what `openssl req -newkey` takes.
    pub(super) fn of(world: &World, name: &str, kind: &str) -> Self {
        Self::made(world, name, kind, &[])
    }

    pub(super) fn new(world: &World, name: &str) -> Self {
        Self::of(world, name, "ec")
    }

    /// The same, made when the clock showed this.
    pub(super) fn at(world: &World, name: &str, date: &str) -> Self {
        Self::made(world, name, "ec", &["faketime", date])
    }

    fn made(world: &World, name: &str, kind: &str, before: &[&str]) -> Self {
        let [cert, key, config] = ["cert", "key", "cnf"].map(|end| world.path(&format!("{name}.{end}")));
        let text = format!(
            "[req]\ndistinguished_name = name\nx509_extensions = more\nprompt = no\n[name]\nCN = {name}\n[more]\n\
             subjectAltName = DNS:{NAME}, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n"
        );
        world.write(config.file_name().unwrap().to_str().unwrap(), text);
        let [cert_path, key_path, config] = [&cert, &key, &config].map(|path| path.to_str().unwrap());
        let mut words = before.to_vec();
        words.extend(["openssl", "req", "-x509", "-nodes", "-days", "10", "-newkey", kind]);
        if kind == "ec" {
            words.extend(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        words.extend(["-config", config, "-keyout", key_path, "-out", cert_path]);
        let made = world.command(words[0], &words[1..]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { cert, key }
    }

    /// What `daemon.toml` says of it.
    pub(super) fn configuration(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("[http]\ntls_cert = \"{cert}\"\ntls_key = \"{key}\"\nnames = [\"{NAME}\"]\n")
    }

    /// Puts these files in the place of others.
    pub(super) fn replace(&self, other: &Self) {
        std::fs::copy(&self.key, &other.key).unwrap();
        std::fs::copy(&self.cert, &other.cert).unwrap();
    }

    pub(super) fn read(&self) -> Result<Certificate, Error> {
        Certificate::read(&self.cert, &self.key, kas::model::TimeMs::now())
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).unwrap()).unwrap();
        roots
    }

    /// A client that trusts this certificate and no other, and would like to speak HTTP/2 too.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
