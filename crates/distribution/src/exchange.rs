//! One request to one endpoint: HTTPS or HTTP, the answer to a challenge, redirects.
//!
//! The rules that keep secrets in: an `Authorization` header goes to the endpoint's own origin and nowhere else
//! (CVE-2020-15157), and nothing that began with HTTPS goes on with HTTP (CVE-2014-5277).

use crate::auth::{Authenticator, Subject};
use crate::challenge;
use crate::endpoint::{Endpoint, Security};
use crate::error::Error;
use crate::refusal;
use crate::transport::{self, Transport};
use crate::uri;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many redirects are followed; Go's clients follow ten.
const MAX_REDIRECTS: usize = 10;
/// How often a challenge is answered for one request: once with what was known, once with a fresh token.
const MAX_CHALLENGES: usize = 2;
/// As much of a redirect's or challenge's body as is read so that its connection can be used again.
const DRAIN_LIMIT: u64 = 16 * 1024;

/// A request, apart from where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// What follows the endpoint: `/v2/…`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// An answer, and the URL it came from in the end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: Uri,
    pub(crate) response: Response<Incoming>,
}

impl Answer {
    /// Returns a header's text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

/// Everything that outlives one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) transport: Transport,
    authenticator: Authenticator,
    /// What insecure hosts were found to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Exchange {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, authenticator: Authenticator::default(), schemes: Mutex::default() }
    }

    /// Sends `call` and returns the answer if its status is one of success.
    pub(crate) async fn success(&self, subject: Subject<'_>, call: &Call) -> Result<Answer, Error> {
        let answer = self.answer(subject, call).await?;
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        let refusal = refusal::read(&self.transport, &answer.url, answer.response).await?;
        Err(Error::Refused { refusal })
    }

    /// Sends `call` and returns the answer, whatever its status.
    pub(crate) async fn answer(&self, subject: Subject<'_>, call: &Call) -> Result<Answer, Error> {
        let authority = &subject.endpoint.authority;
        match subject.endpoint.security {
            Security::Verified | Security::Unverified => {
                return self.authorized("https", subject, call).await;
            }
            Security::Plain => return self.authorized("http", subject, call).await,
            Security::Insecure => {}
        }
        let known = self.schemes().get(authority).copied();
        if let Some(scheme) = known {
            let outcome = self.authorized(scheme, subject, call).await;
            if outcome.as_ref().is_err_and(|error| is_unreachable(error, scheme, authority)) {
                self.schemes().remove(authority);
            }
            return outcome;
        }
        let mut scheme = "https";
        let mut outcome = self.authorized(scheme, subject, call).await;
        if outcome.as_ref().is_err_and(|error| is_unreachable(error, scheme, authority)) {
            scheme = "http";
            outcome = self.authorized(scheme, subject, call).await;
        }
        if !outcome.as_ref().is_err_and(|error| is_unreachable(error, scheme, authority)) {
            self.schemes().insert(authority.clone(), scheme);
        }
        outcome
    }

    /// Gets any URL, without credentials; the answer's status is one of success.
    pub(crate) async fn get(&self, url: Uri) -> Result<Answer, Error> {
        let call = Call { method: Method::GET, path: String::new(), headers: Vec::new(), body: Bytes::new() };
        let answer = self.follow(url, &call, None, None).await?;
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        let refusal = refusal::read(&self.transport, &answer.url, answer.response).await?;
        Err(Error::Refused { refusal })
    }

    /// Returns the `Authorization` that goes with a request without being asked for.
    pub(crate) async fn authorization(&self, subject: Subject<'_>) -> Result<Option<HeaderValue>, Error> {
        self.authenticator.header(&self.transport, subject).await
    }

    /// Returns a token in place of name and password, from the token server that `subject`'s endpoint has named.
    pub(crate) async fn identity_token(&self, subject: Subject<'_>) -> Result<Option<String>, Error> {
        self.authenticator.identity_token(&self.transport, subject).await
    }

    fn schemes(&self) -> std::sync::MutexGuard<'_, HashMap<String, &'static str>> {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `call`, answering challenges.
    async fn authorized(&self, scheme: &str, subject: Subject<'_>, call: &Call) -> Result<Answer, Error> {
        let url = url(scheme, subject, call)?;
        let mut authorization = self.authenticator.header(&self.transport, subject).await?;
        for _ in 0..MAX_CHALLENGES {
            let answer =
                self.follow(url.clone(), call, authorization.as_ref(), Some(subject.endpoint)).await?;
            let ours = uri::same_origin(&answer.url, &url);
            if answer.response.status() != StatusCode::UNAUTHORIZED || !ours {
                return Ok(answer);
            }
            let challenges = challenge::parse(refusal::authenticate(answer.response.headers()));
            if subject.cannot_answer(&challenges) {
                let method = transport::method_name(&call.method);
                return Err(Error::NoCredentials { method, url: uri::without_query(&url) });
            }
            let next = self
                .authenticator
                .answer(&self.transport, subject, challenges, authorization.as_ref())
                .await?;
            if next.is_none() {
                return Ok(answer);
            }
            authorization = next;
            self.drain(answer).await;
        }
        self.follow(url, call, authorization.as_ref(), Some(subject.endpoint)).await
    }

    /// Sends `call` to `url` and where its answers point.
    async fn follow(
        &self,
        url: Uri,
        call: &Call,
        authorization: Option<&HeaderValue>,
        endpoint: Option<&Endpoint>,
    ) -> Result<Answer, Error> {
        let mut here = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let ours = uri::same_origin(&here, &url);
            let mut request = request(&here, call, authorization.filter(|_| ours))?;
            if let Some(endpoint) = endpoint.filter(|_| ours) {
                endpoint.prepare(&mut request);
            }
            let response = self.transport.send(request).await?;
            let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect || !matches!(call.method, Method::GET | Method::HEAD) {
                return Ok(Answer { url: here, response });
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.unwrap_or_default().to_owned();
            let refused = |reason| Error::Redirect {
                from: uri::without_query(&here),
                to: location.split('?').next().unwrap_or_default().to_owned(),
                reason,
            };
            let next = uri::join(&here, &location).ok_or_else(|| refused("not a URL"))?;
            if next.scheme_str() != Some("https") && here.scheme_str() == Some("https") {
                return Err(refused("it leaves HTTPS"));
            }
            self.drain(Answer { url: here, response }).await;
            here = next;
        }
        Err(Error::Redirect {
            from: uri::without_query(&url),
            to: uri::without_query(&here),
            reason: "too many redirects",
        })
    }

    async fn drain(&self, answer: Answer) {
        // Only the reuse of the connection depends on it.
        drop(self.transport.read(&answer.url, answer.response, DRAIN_LIMIT).await);
    }
}

fn url(scheme: &str, subject: Subject<'_>, call: &Call) -> Result<Uri, Error> {
    // An upload's location is a whole URL, perhaps at another host than the endpoint's.
    let text = if call.path.starts_with('/') {
        format!("{scheme}://{}{}", subject.endpoint.authority, subject.endpoint.path(&call.path))
    } else {
        call.path.clone()
    };
    text.parse().map_err(|_ignored| Error::Protocol { url: text, problem: "not a URL".to_owned() })
}

fn request(
    url: &Uri,
    call: &Call,
    authorization: Option<&HeaderValue>,
) -> Result<Request<transport::Body>, Error> {
    let mut request = Request::new(transport::body(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(crate::USER_AGENT));
    for (name, value) in &call.headers {
        headers.append(name, value.clone());
    }
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

/// Says whether the endpoint itself (not its token server) did not answer on `scheme`.
fn is_unreachable(error: &Error, scheme: &str, authority: &str) -> bool {
    let Error::Request { url, .. } = error else { return false };
    let own = url
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.strip_prefix(authority));
    error.is_unreachable() && own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
