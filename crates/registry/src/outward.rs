//! Requests that the server itself makes: events and health checks.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::time::Duration;

/// A client that only looks at the status of answers.
#[derive(Debug, Clone)]
pub(crate) struct Outward(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Outward {
    /// Makes a client that trusts the public authorities.
    pub(crate) fn new() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
        // The provider has the default versions: this cannot fail.
        let config = config.unwrap_or_else(|_| {
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        });
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends a request and returns the answer's status.
    pub(crate) async fn status(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<StatusCode, String> {
        match tokio::time::timeout(limit, self.0.request(request)).await {
            Err(_) => Err(format!("no answer within {limit:?}")),
            Ok(Err(error)) => Err(base::chain(&error)),
            Ok(Ok(answer)) => Ok(answer.status()),
        }
    }
}
