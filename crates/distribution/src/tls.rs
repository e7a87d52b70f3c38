//! TLS set-ups: which certificates are believed, and which one is shown.
//!
//! Roots are those of the Mozilla programme built in, the host's bundle, and `certs.d/HOST[:PORT]/*.crt` for that host
//! alone. `certs.d/HOST[:PORT]/NAME.cert` with `NAME.key` is the client certificate (Docker's layout, *Verify
//! repository client with certificates*).

use crate::endpoint::Security;
use crate::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of `certs.d` that concern one host.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostFiles {
    roots: Vec<PathBuf>,
    pairs: Vec<(PathBuf, PathBuf)>,
}

impl HostFiles {
    /// Looks for `authority` in each of `directories`. A directory that is not there is no error.
    pub(crate) fn find(directories: &[PathBuf], authority: &str) -> Self {
        let mut files = Self::default();
        if authority.contains('/') || authority.starts_with('.') {
            return files;
        }
        for directory in directories {
            let Ok(entries) = std::fs::read_dir(directory.join(authority)) else { continue };
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => files.roots.push(path),
                    Some("cert") => files.pairs.push((path.clone(), path.with_extension("key"))),
                    _ => {}
                }
            }
        }
        files
    }

    /// Makes them of roots, and of certificates with their keys.
    pub(crate) fn new(roots: Vec<PathBuf>, pairs: Vec<(PathBuf, PathBuf)>) -> Self {
        Self { roots, pairs }
    }

    /// Adds those of `other`, which come first.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.roots.splice(0..0, other.roots.iter().cloned());
        self.pairs.splice(0..0, other.pairs.iter().cloned());
        self
    }

    /// Returns how many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.roots.len() + self.pairs.len()
    }

    /// Says whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.pairs.is_empty()
    }
}

/// Makes the TLS set-up for a host. Reads files: blocks.
pub(crate) fn client_config(security: Security, files: &HostFiles) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Certificate { path: PathBuf::new(), problem: error.to_string() })?;
    let verifier: Arc<dyn ServerCertVerifier> = if security == Security::Verified {
        Arc::new(Verifier::new(files, provider)?)
    } else {
        Arc::new(::tls::AnyCertificate::new(provider))
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = files.pairs.first() else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key = ::tls::key(key).map_err(|error| unusable(&error.path, &error.problem))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(certificate, &error))
}

/// Verifies by roots. A certificate that is itself one of them is believed as well, even if it says that it signs
/// others: that is what `openssl req -x509` makes, and Docker's guides show.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// All roots but those built in.
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(files: &HostFiles, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut own = Vec::new();
        let found = ::tls::host_certificates();
        roots.add_parsable_certificates(found.iter().cloned());
        own.extend(found);
        for path in &files.roots {
            for certificate in certificates(path)? {
                roots.add(certificate.clone()).map_err(|error| unusable(path, &error))?;
                own.push(certificate);
            }
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let inner =
            inner.map_err(|error| Error::Certificate { path: PathBuf::new(), problem: error.to_string() })?;
        Ok(Self { inner, own })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki looks at the time before this, and at the name after.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if why.0.to_string() == "CaUsedAsEndEntity" && self.own.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    ::tls::certificates(path).map_err(|error| unusable(&error.path, &error.problem))
}

fn unusable(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::Certificate { path: path.to_owned(), problem: problem.to_string() }
}
