//! What every side that speaks TLS needs: certificates and keys from files, a client's set-up made of them, and the verifier
//! for those who ask for none.
//!
//! Who is believed is decided by the callers.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of certificates or keys that is of no use.
#[expect(clippy::error_impl_error, reason = "each crate has one error, named by its path")]
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: pem::Error,
}

/// Reads the certificates of a PEM file, in their order; there may be none.
///
/// # Errors
///
/// If the file cannot be read, or is damaged.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    found.map_err(|problem| Error { path: path.to_owned(), problem })
}

/// Reads the first private key of a PEM file.
///
/// # Errors
///
/// If the file cannot be read, or there is none in it.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|problem| Error { path: path.to_owned(), problem })
}

/// Where distributions keep the host's bundle of roots: Debian, Fedora, SUSE, Alpine.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Returns the roots that the host believes. They are a bonus: what cannot be read or parsed there is left out.
pub fn host_certificates() -> Vec<CertificateDer<'static>> {
    HOST_BUNDLES.iter().find_map(|bundle| certificates(Path::new(bundle)).ok()).unwrap_or_default()
}

/// Whom a client believes and what it shows, by files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The authority that the server's certificate must come from; without one nobody is believed.
    pub authority: Option<PathBuf>,
    /// The client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server's certificate is not looked at.
    pub skip_verify: bool,
}

/// Why a client's set-up cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file is of no use.
    #[error(transparent)]
    File(#[from] Error),
    /// What the files hold does not fit.
    #[error(transparent)]
    Content(#[from] rustls::Error),
}

impl Client {
    /// Reads the files. Those of `roots` are believed as well.
    ///
    /// # Errors
    ///
    /// [`Unusable`].
    pub fn config(&self, roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Unusable> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        } else {
            let mut believed = RootCertStore::empty();
            believed.add_parsable_certificates(roots);
            for certificate in self.authority.as_deref().map(certificates).transpose()?.unwrap_or_default() {
                believed.add(certificate)?;
            }
            builder.with_root_certificates(believed)
        };
        Ok(match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, own)) => builder.with_client_auth_cert(certificates(chain)?, key(own)?)?,
        })
    }
}

/// Takes any certificate, where the user asks for that; that the other side has its key is still checked.
#[derive(Debug)]
pub struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl AnyCertificate {
    /// Makes the verifier; signatures are checked by `provider`.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
