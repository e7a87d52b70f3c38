//! From a request to its answer.

pub(crate) mod blobs;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod listen;
pub(crate) mod lists;
pub(crate) mod manifests;
pub(crate) mod uploads;

use crate::auth::{self, Gate};
use crate::config::Config;
use crate::error::{Code, Error, Refusal, Result};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::proxy::Proxy;
use crate::route::{Route, is_name};
use crate::storage::Storage;
use body::{Body, blocking};
use call::{Answer, Call};
use http::header::{self, HeaderName};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Everything that answers need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) storage: Arc<Storage>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) notify: Notifier,
    pub(crate) health: Health,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) proxy: Option<Proxy>,
}

impl App {
    /// Answers one request of `peer`; `tls` says how it came.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: String,
        tls: bool,
    ) -> Response<Body> {
        let begin = Instant::now();
        self.metrics.begin();
        let (parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let agent = call::text(&parts.headers, &header::USER_AGENT).unwrap_or_default().to_owned();
        let path = call::decode(uri.path(), false);
        let path = path.as_deref().and_then(|path| path.strip_prefix(self.config.http.prefix.as_str()));
        let route = path.and_then(Route::parse);
        let handler = route.as_ref().map_or("none", call::handler);
        let base = self.base(&parts, tls);
        let parameters = call::parameters(uri.query().unwrap_or_default());
        let mut call = Call { parts, parameters, base, user: String::new(), peer };
        let outcome = match &route {
            None if path == Some("/") => Ok(Answer::new(StatusCode::OK).nothing()),
            None => Ok(not_found()),
            Some(route) => self.dispatch(&mut call, route, body).await,
        };
        let mut response = outcome.unwrap_or_else(|error| self.refused(&error, &call)).done();
        self.dress(&mut response, route.as_ref());
        let status = response.status().as_u16();
        self.metrics.end(handler, method.as_str(), status, begin.elapsed());
        if self.config.log.access {
            let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
            tracing::info!(
                target: "access", peer = call.peer, user = call.user, %method, %uri, status, milliseconds, agent,
                "response completed"
            );
        }
        response
    }

    /// What absolute addresses begin with.
    fn base(&self, parts: &http::request::Parts, tls: bool) -> String {
        let config = &self.config.http;
        if config.relative_urls {
            return config.prefix.clone();
        }
        if !config.host.is_empty() {
            return format!("{}{}", config.host, config.prefix);
        }
        let first = |name: HeaderName| {
            call::text(&parts.headers, &name).and_then(|text| text.split(',').next()).map(str::trim)
        };
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = first(FORWARDED_HOST).or_else(|| first(header::HOST)).or(authority);
        let scheme = first(FORWARDED_PROTO).unwrap_or(if tls { "https" } else { "http" });
        match host {
            Some(host) if !host.is_empty() => format!("{scheme}://{host}{}", config.prefix),
            _ => config.prefix.clone(),
        }
    }

    async fn dispatch(
        self: &Arc<Self>,
        call: &mut Call,
        route: &Route<'_>,
        body: Incoming,
    ) -> Result<Answer> {
        if !self.health.is_well() {
            return Err(Refusal::with(Code::Unavailable, json!(self.health.problems())).into());
        }
        if let Some(name) = route.name().filter(|name| !is_name(name)) {
            return Err(Refusal::with(Code::NameInvalid, json!({"name": name})).into());
        }
        if !matches!(route, Route::Ping) {
            call.user = self.admit(call, route).await?;
        }
        let method = call.parts.method.clone();
        let reading = matches!(method, Method::GET | Method::HEAD);
        if !reading && !matches!(method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            return Err(not_allowed());
        }
        if !reading && (self.config.storage.read_only || self.proxy.is_some()) {
            return Err(not_allowed());
        }
        let deletes = self.config.storage.delete;
        match (route, &method) {
            (Route::Base, _) if reading => Ok(Answer::json(&json!({}))),
            (Route::Ping, _) if reading => Ok(lists::ping()),
            (Route::Search, _) if reading => lists::search(self, call).await,
            (Route::Catalog, _) if reading => lists::catalog(self, call).await,
            (Route::Tags(name), _) if reading => manifests::tags(self, call, name).await,
            (Route::Referrers(name, digest), _) if reading => {
                lists::referrers(self, call, name, digest).await
            }
            (Route::Manifest(name, reference), _) if reading => {
                manifests::get(self, call, name, reference).await
            }
            (Route::Manifest(name, reference), &Method::PUT) => {
                manifests::put(self, call, name, reference, body).await
            }
            (Route::Manifest(name, reference), &Method::DELETE) if deletes => {
                manifests::delete(self, call, name, reference).await
            }
            (Route::Blob(name, digest), _) if reading => blobs::get(self, call, name, digest).await,
            (Route::Blob(name, digest), &Method::DELETE) if deletes => {
                blobs::delete(self, call, name, digest).await
            }
            (Route::Uploads(name), &Method::POST) => uploads::begin(self, call, name, body).await,
            (Route::Upload(name, id), _) if reading => uploads::status(self, call, name, id).await,
            (Route::Upload(name, id), &Method::PATCH) => uploads::append(self, call, name, id, body).await,
            (Route::Upload(name, id), &Method::PUT) => uploads::close(self, call, name, id, body).await,
            (Route::Upload(name, id), &Method::DELETE) => uploads::cancel(self, name, id).await,
            _ => Err(not_allowed()),
        }
    }

    async fn admit(self: &Arc<Self>, call: &Call, route: &Route<'_>) -> Result<String> {
        if self.gate.is_open() {
            return Ok(String::new());
        }
        let from = call.parameter("from").filter(|from| is_name(from) && call.parameter("mount").is_some());
        let needed = auth::needed(&call.parts.method, route, from);
        let authorization = call.header(&header::AUTHORIZATION).map(str::to_owned);
        let (gate, base) = (Arc::clone(&self.gate), call.base.clone());
        blocking(move || Ok(gate.admit(authorization.as_deref(), &needed, &base)?)).await
    }

    /// Tells a client why not, and the log if it is our fault.
    fn refused(&self, error: &Error, call: &Call) -> Answer {
        match error {
            Error::Refused(refusal) => Answer::from(refusal),
            Error::Body(problem) => {
                tracing::debug!(peer = call.peer, problem, "a body did not come whole");
                Answer::from(&Refusal::with(Code::BlobUploadInvalid, problem.clone()))
            }
            error => {
                tracing::error!(uri = %call.parts.uri, error = base::chain(error), "a request failed");
                Answer::from(&Refusal::new(Code::Unknown))
            }
        }
    }

    /// Adds the headers of every answer.
    fn dress(&self, response: &mut Response<Body>, route: Option<&Route<'_>>) {
        let headers = response.headers_mut();
        if route.is_some() {
            headers.insert(API_VERSION, http::HeaderValue::from_static("registry/2.0"));
        }
        for (name, value) in &self.config.http.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), http::HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
    }

    /// Answers a request to the debug address.
    pub(crate) fn debug(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let answer = if path == "/debug/health" || path == "/debug/health/" {
            let problems = self.health.problems();
            let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Answer::new(status)
                .with(header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(json!(problems).to_string())
        } else if self.config.http.metrics.as_deref() == Some(path) {
            Answer::new(StatusCode::OK)
                .with(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
                .body(self.metrics.print())
        } else {
            not_found()
        };
        answer.done()
    }
}

/// Returns who sent a request, as a proxy before us says, else as the connection does.
pub(crate) fn peer(request: &Request<Incoming>, connection: &str) -> String {
    let forwarded = call::text(request.headers(), &FORWARDED_FOR).and_then(|text| text.split(',').next());
    forwarded.map_or(connection, str::trim).to_owned()
}

fn not_allowed() -> Error {
    Refusal::new(Code::Unsupported).into()
}

fn not_found() -> Answer {
    Answer::new(StatusCode::NOT_FOUND)
        .with(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body("404 page not found\n")
}
