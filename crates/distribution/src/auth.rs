//! Answering a registry's challenges: name and password, or tokens fetched for a scope and kept until they expire.
//!
//! Docker's *token authentication* and *OAuth 2* pages of the distribution project. A token is kept per token server,
//! service, scope and user; a challenge per host and scope, so that the next request carries its token at once.

use crate::challenge::{Bearer, Challenge};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{Error, Refusal};
use crate::refusal;
use crate::transport::{self, Transport};
use crate::uri;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The largest answer of a token server.
const TOKEN_LIMIT: u64 = 1 << 20;
/// What this program is called to token servers.
const CLIENT: &str = "wharf";
/// What a token lives if the server does not say (distribution's *token specification*).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token this close to its end is not used any more.
const LEEWAY: Duration = Duration::from_secs(10);
/// How many tokens are kept before the expired ones are thrown out.
const KEPT: usize = 256;

/// Everything learnt about authentication.
#[derive(Default)]
pub(crate) struct Authenticator {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    challenges: HashMap<String, Challenge>,
    tokens: HashMap<TokenKey, Token>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    realm: String,
    service: String,
    scope: String,
    credentials: Credentials,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
}

/// Who asks whom for what.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) credentials: &'a Credentials,
    /// `repository:NAME:pull`, several separated by blanks; empty for none.
    pub(crate) scope: &'a str,
}

impl Subject<'_> {
    /// The credentials, unless the endpoint is not theirs.
    fn own_credentials(&self) -> Credentials {
        if self.endpoint.origin { self.credentials.clone() } else { Credentials::default() }
    }

    /// Says whether a name and password are asked for, and nothing else, and there are none.
    pub(crate) fn cannot_answer(&self, challenges: &[Challenge]) -> bool {
        let basic =
            !challenges.is_empty() && challenges.iter().all(|challenge| *challenge == Challenge::Basic);
        basic && self.own_credentials().basic().is_none()
    }
}

impl Authenticator {
    /// Returns the header to send unasked, from what is known; fetches a token if one has expired.
    pub(crate) async fn header(
        &self,
        transport: &Transport,
        subject: Subject<'_>,
    ) -> Result<Option<HeaderValue>, Error> {
        let credentials = subject.own_credentials();
        if !credentials.registry_token.is_empty() {
            return secret(&format!("Bearer {}", credentials.registry_token)).map(Some);
        }
        let challenge = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.challenges.get(&subject.endpoint.authority).cloned()
        };
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => credentials.basic().map(|value| secret(&value)).transpose(),
            Some(Challenge::Bearer(bearer)) => self.token(transport, subject, &bearer, None).await.map(Some),
        }
    }

    /// Returns the header that answers `challenges`, or `None` if there is no better one than `refused`.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        subject: Subject<'_>,
        challenges: Vec<Challenge>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let credentials = subject.own_credentials();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer.clone()),
            Challenge::Basic => None,
        });
        let header = if let Some(bearer) = bearer {
            self.remember(subject, Challenge::Bearer(bearer.clone()));
            if !credentials.registry_token.is_empty() {
                return Ok(None);
            }
            Some(self.token(transport, subject, &bearer, refused).await?)
        } else if challenges.contains(&Challenge::Basic) {
            self.remember(subject, Challenge::Basic);
            credentials.basic().map(|value| secret(&value)).transpose()?
        } else {
            None
        };
        Ok(header.filter(|header| Some(header) != refused))
    }

    /// Asks the token server that the endpoint has named for a token in place of name and password; `None` if there is no
    /// such server, or it gives none.
    pub(crate) async fn identity_token(
        &self,
        transport: &Transport,
        subject: Subject<'_>,
    ) -> Result<Option<String>, Error> {
        let challenge = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.challenges.get(&subject.endpoint.authority).cloned()
        };
        let credentials = subject.own_credentials();
        let Some(Challenge::Bearer(bearer)) = challenge else { return Ok(None) };
        if credentials.username.is_empty() {
            return Ok(None);
        }
        check_realm(subject.endpoint, &bearer)?;
        let realm = uri::with_query(&bearer.realm, "offline_token", "true");
        let realm = uri::with_query(&realm, "client_id", CLIENT);
        let key = TokenKey { realm, service: bearer.service, scope: String::new(), credentials };
        let (answer, _url) = ask(transport, &key).await?;
        Ok(answer.refresh_token.filter(|token| !token.is_empty()))
    }

    fn remember(&self, subject: Subject<'_>, mut challenge: Challenge) {
        if let Challenge::Bearer(bearer) = &mut challenge {
            // The scope and the complaint belong to one request, the rest to the host.
            bearer.scope.clear();
            bearer.error.clear();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.challenges.len() >= KEPT {
            known.challenges.clear();
        }
        known.challenges.insert(subject.endpoint.authority.clone(), challenge);
    }

    async fn token(
        &self,
        transport: &Transport,
        subject: Subject<'_>,
        bearer: &Bearer,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let scope = if subject.scope.is_empty() { bearer.scope.as_str() } else { subject.scope };
        let key = TokenKey {
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scope: scope.to_owned(),
            credentials: subject.own_credentials(),
        };
        if let Some(token) = self.fresh(&key)
            && Some(&token) != refused
        {
            return Ok(token);
        }
        check_realm(subject.endpoint, bearer)?;
        let token = fetch(transport, &key).await?;
        let header = token.header.clone();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.len() >= KEPT {
            let now = Instant::now();
            known.tokens.retain(|_, token| token.until > now);
        }
        if known.tokens.len() >= KEPT {
            known.tokens.clear();
        }
        known.tokens.insert(key, token);
        Ok(header)
    }

    fn fresh(&self, key: &TokenKey) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tokens.get(key).filter(|token| token.until > Instant::now()).map(|token| token.header.clone())
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

/// A registry behind verified HTTPS may not send a password over plain HTTP.
fn check_realm(endpoint: &Endpoint, bearer: &Bearer) -> Result<(), Error> {
    use crate::endpoint::Security;
    let refused = |reason| Error::Redirect {
        from: format!("https://{}", endpoint.authority),
        to: bearer.realm.split('?').next().unwrap_or_default().to_owned(),
        reason,
    };
    let realm: Uri = bearer.realm.parse().map_err(|_ignored| refused("not a URL"))?;
    match realm.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if endpoint.security != Security::Verified => Ok(()),
        _ => Err(refused("the token server does not use HTTPS")),
    }
}

/// Sends the request for a token; returns the answer, and where it came from.
async fn ask(transport: &Transport, key: &TokenKey) -> Result<(TokenAnswer, Uri), Error> {
    let request = token_request(key)?;
    let url = request.uri().clone();
    let response = transport.send(request).await?;
    let status = response.status();
    if !status.is_success() {
        let refusal = refusal::read(transport, &url, response).await?;
        let url = uri::without_query(&url);
        // The words of Docker's clients for wrong passwords, which token servers do not send themselves.
        let refusal = match (refusal.status, refusal.code.as_str()) {
            (401, "") => Refusal {
                code: "UNAUTHORIZED".to_owned(),
                message: if refusal.message.is_empty() {
                    "incorrect username or password".to_owned()
                } else {
                    refusal.message
                },
                ..refusal
            },
            _ => refusal,
        };
        return Err(Error::Token { url, refusal });
    }
    let body = transport.read(&url, response, TOKEN_LIMIT).await?;
    let answer = serde_json::from_slice(&body).map_err(|_ignored| invalid(&url, "not a token answer"))?;
    Ok((answer, url))
}

fn invalid(url: &Uri, problem: &str) -> Error {
    Error::Protocol { url: uri::without_query(url), problem: problem.to_owned() }
}

async fn fetch(transport: &Transport, key: &TokenKey) -> Result<Token, Error> {
    let asked = Instant::now();
    let (answer, url) = ask(transport, key).await?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| invalid(&url, "authorization server did not include a token in the response"))?;
    let life = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let life = life.unwrap_or(DEFAULT_LIFE).max(DEFAULT_LIFE).min(Duration::from_secs(86_400));
    Ok(Token { header: secret(&format!("Bearer {token}"))?, until: asked + life.saturating_sub(LEEWAY) })
}

fn token_request(key: &TokenKey) -> Result<Request<transport::Body>, Error> {
    let mut parameters = vec![];
    if !key.service.is_empty() {
        parameters.push(("service", key.service.as_str()));
    }
    parameters.extend(key.scope.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope)));
    let credentials = &key.credentials;
    let invalid = |_| Error::Protocol { url: key.realm.clone(), problem: "not a URL".to_owned() };
    if !credentials.identity_token.is_empty() {
        // OAuth 2 takes all scopes in one parameter.
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT),
            ("service", key.service.as_str()),
            ("scope", key.scope.as_str()),
            ("refresh_token", credentials.identity_token.as_str()),
        ];
        let form: Vec<_> =
            form.iter().map(|(name, value)| format!("{name}={}", uri::encode(value))).collect();
        return Request::builder()
            .method(Method::POST)
            .uri(&key.realm)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(transport::body(Bytes::from(form.join("&"))))
            .map_err(invalid);
    }
    if !credentials.username.is_empty() {
        parameters.push(("account", credentials.username.as_str()));
    }
    let url =
        parameters.iter().fold(key.realm.clone(), |url, (name, value)| uri::with_query(&url, name, value));
    let mut request = Request::get(url).body(transport::body(Bytes::new())).map_err(invalid)?;
    if let Some(basic) = credentials.basic() {
        request.headers_mut().insert(header::AUTHORIZATION, secret(&basic)?);
    }
    Ok(request)
}

/// Makes a header value that is not shown in debug output.
fn secret(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_ignored| Error::Protocol {
        url: "credentials".to_owned(),
        problem: "a name, password or token holds characters that no header can carry".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
