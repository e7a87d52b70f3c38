//! From a connection to a handler and back.

use super::body::Body;
use super::call::{Call, Incoming};
use super::leftover;
use super::lenient::Lenient;
use super::listen::Listener;
use super::router::{self, Route};
use super::stream::Connection;
use super::{Answer, Failure, query, version};
use api::ApiVersion;
use base::Kind;
use futures_util::FutureExt;
use http::header::HeaderValue;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a handler's call returns.
pub type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers a call with the services it needs.
pub type Handler<S> = fn(&S, Call) -> Pending;

/// How long a connection may take to send a request's head, as dockerd allows.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long answers that are under way may take to end when the daemon stops.
const GRACE: Duration = Duration::from_millis(500);
/// How long to wait after a failed accept: it fails when descriptors run out, and those must first be freed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Routes and the services behind them.
#[derive(Debug)]
pub struct Server<S> {
    /// Every route.
    pub routes: Vec<Route<Handler<S>>>,
    /// What handlers need.
    pub services: S,
    /// The `Server` header.
    pub software: HeaderValue,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// The oldest version of the API that is served.
    pub oldest: ApiVersion,
}

impl<S: Send + Sync + 'static> Server<S> {
    /// Serves every listener until `stop` says true, then lets answers under way end for a moment.
    pub async fn run(self, listeners: Vec<Listener>, stop: watch::Receiver<bool>) {
        let server = Arc::new(self);
        // Each connection holds a sender; all are gone when the receiver ends.
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        for listener in listeners {
            tokio::spawn(accept(Arc::clone(&server), listener, stop.clone(), alive.clone()));
        }
        drop(alive);
        let mut stop = stop;
        stopped(&mut stop).await;
        drop(tokio::time::timeout(2 * GRACE, all_gone.recv()).await);
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answer = match AssertUnwindSafe(self.handle(request)).catch_unwind().await {
            Ok(answer) => answer,
            Err(panic) => {
                let reason = panic_message(panic.as_ref());
                tracing::error!(reason, "a request panicked");
                Err(Failure::new(Kind::Internal, format!("the request failed: {reason}")))
            }
        };
        let mut response = answer.unwrap_or_else(|failure| {
            if failure.kind == Kind::Internal {
                tracing::error!(error = failure.message, "a request failed");
            } else {
                tracing::debug!(error = failure.message, kind = ?failure.kind, "a request was refused");
            }
            failure.response()
        });
        self.head(&mut response);
        response
    }

    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let uri = request.uri();
        tracing::debug!(method = %request.method(), %uri, "request");
        let path = query::decode_path(uri.path()).ok_or_else(Failure::page_not_found)?;
        let (version, rest) = version::split(&path, self.oldest)?;
        let (route, parameters) = router::find(&self.routes, request.method(), version, rest)
            .ok_or_else(Failure::page_not_found)?;
        (route.handler)(&self.services, Call::new(version, parameters, request)).await
    }

    /// Adds the headers that every answer of dockerd has.
    fn head(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if let Ok(version) = HeaderValue::from_str(&ApiVersion::MAX.to_string()) {
            headers.insert("api-version", version);
        }
        let experimental = if self.experimental { "true" } else { "false" };
        headers.insert("docker-experimental", HeaderValue::from_static(experimental));
        headers.insert("ostype", HeaderValue::from_static("linux"));
        headers.insert("server", self.software.clone());
    }
}

/// Waits until the daemon stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    drop(stop.wait_for(|stop| *stop).await);
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

async fn accept<S: Send + Sync + 'static>(
    server: Arc<Server<S>>,
    listener: Listener,
    mut stop: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok(pending) => {
                let (server, stop, alive) = (Arc::clone(&server), stop.clone(), alive.clone());
                tokio::spawn(async move {
                    match pending.connected().await {
                        Ok(connection) => serve(server, connection, stop).await,
                        Err(error) => tracing::debug!(%error, "a connection could not be set up"),
                    }
                    drop(alive);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Serves one connection until it ends.
async fn serve<S: Send + Sync + 'static>(
    server: Arc<Server<S>>,
    connection: Connection,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let server = Arc::clone(&server);
        async move {
            let (leftover, request) = leftover::watch(request);
            let response = server.answer(request.map(BodyExt::boxed_unsync)).await;
            leftover.discard();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(Lenient::new(connection)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(served) => served,
                // What follows something would never end.
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{body, hijack};
    use super::*;
    use http::Method;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn route(method: Method, pattern: &'static str, handler: Handler<()>) -> Route<Handler<()>> {
        Route { method, pattern, since: ApiVersion::MIN, handler }
    }

    /// Upper-cases what it reads until the end of input, as a process with its own descriptor would.
    fn shout(call: &mut Call) -> Answer {
        let (response, hijack) =
            hijack::hijack(call, hijack::MULTIPLEXED).map_err(|error| Failure::invalid(error.to_string()))?;
        tokio::spawn(async move {
            let mut stream = std::os::unix::net::UnixStream::from(hijack.into_fd().await.unwrap());
            tokio::task::spawn_blocking(move || {
                stream.set_nonblocking(false).unwrap();
                let mut buffer = [0; 64];
                loop {
                    let length = stream.read(&mut buffer).unwrap();
                    if length == 0 {
                        return stream.write_all(b"!").unwrap();
                    }
                    stream.write_all(&buffer[..length].to_ascii_uppercase()).unwrap();
                }
            });
        });
        Ok(response)
    }

    fn server() -> Arc<Server<()>> {
        Arc::new(Server {
            routes: vec![
                route(Method::GET, "/name/{name...}", |(), call| {
                    Box::pin(async move { Ok(body::ok(&(call.name(), call.version.to_string()))) })
                }),
                route(Method::GET, "/panic", |(), _| Box::pin(async { panic!("on purpose") })),
                route(Method::GET, "/same", |(), _| {
                    Box::pin(async { Err(Failure::new(Kind::NotModified, "")) })
                }),
                route(Method::POST, "/attach", |(), mut call| Box::pin(async move { shout(&mut call) })),
            ],
            services: (),
            oldest: ApiVersion::MIN,
            software: HeaderValue::from_static("Wharf/test (linux)"),
            experimental: false,
        })
    }

    /// Sends `parts` on one connection, each after an answer to the one before has begun, and returns all answers.
    async fn exchange(parts: &[&str]) -> String {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(serve(server(), Connection::Unix(theirs), stopped));
        let (mut reader, mut writer) = ours.into_split();
        let mut answer = Vec::new();
        for part in parts {
            writer.write_all(part.as_bytes()).await.unwrap();
            let before = answer.len();
            while answer.len() == before {
                assert_ne!(reader.read_buf(&mut answer).await.unwrap(), 0, "{part}");
            }
        }
        // A client that half-closes a connection which is still HTTP has gone.
        if answer.starts_with(b"HTTP/1.1 101") {
            writer.shutdown().await.unwrap();
        }
        reader.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(path: &str) -> (String, String) {
        let answer =
            exchange(&[&format!("GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn answers_and_refusals_are_dockers() {
        for (path, status, body) in [
            ("/v1.24/name/a%2Fb:1", "200 OK", "[\"a/b:1\",\"1.24\"]\n"),
            ("/name/a/b", "200 OK", "[\"a/b\",\"1.51\"]\n"),
            ("/nosuch", "404 Not Found", "{\"message\":\"page not found\"}\n"),
            ("/attach", "404 Not Found", "{\"message\":\"page not found\"}\n"),
            (
                "/v1.99/same",
                "400 Bad Request",
                "{\"message\":\"client version 1.99 is too new. Maximum supported API version is 1.51\"}\n",
            ),
            ("/panic", "500 Internal Server Error", "{\"message\":\"the request failed: on purpose\"}\n"),
            ("/same", "304 Not Modified", ""),
        ] {
            let (head, found) = get(path).await;
            assert_eq!(found, body, "{path}");
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            for header in
                ["api-version: 1.51", "docker-experimental: false", "ostype: linux", "server: Wharf/"]
            {
                assert!(head.contains(header), "{head}");
            }
        }
    }

    const UPGRADE: &str = "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

    #[tokio::test]
    async fn an_upgraded_connection_is_handed_over() {
        let answer = exchange(&[UPGRADE, "abc"]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
        assert!(head.contains("content-type: application/vnd.docker.multiplexed-stream"), "{head}");
        assert_eq!(body, "ABC!");
    }

    #[tokio::test]
    async fn bytes_sent_early_are_not_lost() {
        let answer = exchange(&[&format!("{UPGRADE}early"), "later"]).await;
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, "EARLYLATER!");
    }

    #[tokio::test]
    async fn what_a_refused_request_still_sends_is_taken() {
        let body = "x".repeat(3 << 20);
        let request =
            format!("PUT /nosuch HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let next = "GET /same HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
        let answer = exchange(&[&request, next]).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.contains("HTTP/1.1 304 Not Modified\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn without_upgrade_the_bodies_are_the_streams() {
        let answer = exchange(&[
            "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            "1\r\nc\r\n0\r\n\r\n",
        ])
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(hijack::RAW) && answer.ends_with("!\r\n0\r\n\r\n"), "{answer}");
    }
}
