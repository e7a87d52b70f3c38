//! Checking credentials against a registry (`docker login`).

use crate::auth::Subject;
use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::{Error, Refusal};
use crate::exchange::Call;
use crate::{Client, uri};
use http::Method;

impl Client {
    /// Shows `credentials` to the registry at `server`, an address as users and Docker's clients write it:
    /// `registry.example:5000`, `https://index.docker.io/v1/`, or nothing for Docker Hub. Returns the token that is to be kept
    /// in place of name and password (`IdentityToken`), if the registry's token server gives one.
    ///
    /// # Errors
    ///
    /// `Unauthorized` if the registry does not take them; others as they come.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<Option<String>, Error> {
        let domain = domain_of(server);
        let endpoints = endpoint::endpoints(domain, &[], &self.inner().settings.insecure);
        let mut token = None;
        for endpoint in &endpoints {
            let subject = Subject { endpoint, credentials, scope: "" };
            let call = Call::new(Method::GET, "/v2/".to_owned());
            let answer = self.inner().exchange.answer(subject, &call).await?;
            let status = answer.response.status();
            if !status.is_success() {
                let url = uri::without_query(&answer.url);
                // Docker's words for a refused name and password.
                let message = format!("login attempt to {url} failed with status: {status}");
                let refusal =
                    Refusal { status: status.as_u16(), code: String::new(), message, retry_after: None };
                return Err(Error::Refused { refusal });
            }
            token = self.inner().exchange.identity_token(subject).await?;
        }
        Ok(token)
    }
}

/// Returns the domain of a server's address, as [`Client::login`] takes it.
pub fn domain_of(server: &str) -> &str {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    match server.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_domains() {
        for (server, expected) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("http://localhost:5000/v2/", "localhost:5000"),
            ("quay.io", "quay.io"),
        ] {
            assert_eq!(domain_of(server), expected, "{server}");
        }
    }
}
