//! What a user may show to a registry. Never printed, never logged.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::fmt;

/// A user's credentials for one registry; the default is none (anonymous).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password or access token that goes with it.
    pub password: String,
    /// A refresh token for the token server (`IdentityToken` in Docker's words).
    pub identity_token: String,
    /// A bearer token to show to the registry as it is.
    pub registry_token: String,
}

/// Why a header does not hold credentials.
#[derive(Debug, thiserror::Error)]
#[error("invalid X-Registry-Auth header: {0}")]
pub struct InvalidHeader(String);

/// Docker's `AuthConfig`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    serveraddress: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Base 64 with or without padding, in either alphabet.
const fn lenient(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

const URL_SAFE: GeneralPurpose = lenient(&alphabet::URL_SAFE);
const STANDARD: GeneralPurpose = lenient(&alphabet::STANDARD);

impl Credentials {
    /// Says whether there is nothing to show.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// Reads the value of `X-Registry-Auth` (base 64 of an `AuthConfig`); returns the server's address beside it.
    ///
    /// An empty value is anonymous.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHeader`] for anything else that is not base 64 of such an object.
    pub fn from_header(value: &str) -> Result<(Self, String), InvalidHeader> {
        let value = value.trim();
        if value.is_empty() {
            return Ok((Self::default(), String::new()));
        }
        let bytes = decode(value)
            .ok_or_else(|| InvalidHeader("must be a valid base64url-encoded string".to_owned()))?;
        Self::from_json(&bytes)
    }

    /// Reads an `AuthConfig` in JSON, as `POST /auth` sends it; returns the server's address beside it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHeader`] if it is not such an object.
    pub fn from_json(bytes: &[u8]) -> Result<(Self, String), InvalidHeader> {
        if bytes.trim_ascii().is_empty() || bytes.trim_ascii() == b"null" {
            return Ok((Self::default(), String::new()));
        }
        // serde's message would quote the input.
        let config: AuthConfig = serde_json::from_slice(bytes)
            .map_err(|error| InvalidHeader(format!("invalid JSON at column {}", error.column())))?;
        let mut credentials = Self {
            username: config.username.unwrap_or_default(),
            password: config.password.unwrap_or_default(),
            identity_token: config.identitytoken.unwrap_or_default(),
            registry_token: config.registrytoken.unwrap_or_default(),
        };
        if credentials.username.is_empty() && credentials.password.is_empty() {
            let pair =
                config.auth.and_then(|auth| decode(&auth)).and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some((username, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
                credentials.username = username.to_owned();
                credentials.password = password.trim_end_matches('\0').to_owned();
            }
        }
        Ok((credentials, config.serveraddress.unwrap_or_default()))
    }

    /// Returns the value of an `Authorization` header with name and password, if there are any.
    pub(crate) fn basic(&self) -> Option<String> {
        if self.username.is_empty() {
            return None;
        }
        let pair = format!("{}:{}", self.username, self.password);
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_anonymous() { "Credentials(anonymous)" } else { "Credentials(…)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_in_every_encoding_clients_use() {
        let encode = |json: &str| base64::engine::general_purpose::URL_SAFE.encode(json);
        let pair = encode(r#"{"username":"u","password":"p?>","serveraddress":"r.example"}"#);
        for text in [pair.as_str(), pair.trim_end_matches('='), &pair.replace('-', "+").replace('_', "/")] {
            let (credentials, server) = Credentials::from_header(text).unwrap();
            assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("u", "p?>"));
            assert_eq!(server, "r.example");
        }
        let (credentials, _) = Credentials::from_header(&encode(r#"{"auth":"dTpwOnE="}"#)).unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("u", "p:q"));
        let (credentials, _) = Credentials::from_header(&encode(r#"{"identitytoken":"t"}"#)).unwrap();
        assert!(!credentials.is_anonymous() && credentials.basic().is_none());
        for empty in ["", "e30=", "e30", "bnVsbA=="] {
            assert!(Credentials::from_header(empty).unwrap().0.is_anonymous(), "{empty}");
        }
        assert!(Credentials::from_header("!").is_err());
        assert!(Credentials::from_header(&encode("[1]")).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret =
            Credentials { username: "u".into(), password: "hunter2".into(), ..Credentials::default() };
        assert_eq!(format!("{secret:?}"), "Credentials(…)");
    }
}
