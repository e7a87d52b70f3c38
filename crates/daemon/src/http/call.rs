//! One request, as a handler gets it.

use super::router::Parameters;
use super::{Failure, Query};
use api::{ApiVersion, Filters};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, Read};

/// The body of a request.
pub type Incoming = UnsyncBoxBody<Bytes, hyper::Error>;

/// The largest JSON document that is read.
const MAX_DOCUMENT: usize = 32 << 20;

/// One request: version, names in the path, query, headers, body.
#[derive(Debug)]
pub struct Call {
    /// The version of the API that the client speaks.
    pub version: ApiVersion,
    /// The named parts of the path.
    pub parameters: Parameters,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, until a handler takes it.
    pub body: Incoming,
    /// The connection to come, if the client asked for an upgrade.
    pub upgrade: Option<OnUpgrade>,
}

impl Call {
    /// Takes a request apart.
    pub fn new(version: ApiVersion, parameters: Parameters, mut request: Request<Incoming>) -> Self {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (head, body) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let upgrade = upgrade.filter(|_| head.headers.contains_key(http::header::UPGRADE));
        Self { version, parameters, query, headers: head.headers, body, upgrade }
    }

    /// Returns the part of the path that the pattern calls `name`.
    pub fn name(&self) -> &str {
        self.parameters.get("name")
    }

    /// Returns another parameter of the path.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name)
    }

    /// Says whether the client speaks at least version 1.`minor`.
    pub fn at_least(&self, minor: u16) -> bool {
        self.version >= ApiVersion::new(1, minor)
    }

    /// Reads the query's `filters`.
    ///
    /// # Errors
    ///
    /// An invalid argument if they are not a filter document.
    pub fn filters(&self) -> Result<Filters, Failure> {
        Filters::parse(self.query.get("filters")).map_err(|error| Failure::invalid(error.to_string()))
    }

    /// Reads a JSON body; without a body, all its fields have their defaults (moby, `httputils.ReadJSON`).
    ///
    /// # Errors
    ///
    /// An invalid argument if the body is declared as or is something else.
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        Ok(self.json_or_nothing().await?.unwrap_or_default())
    }

    /// Reads a JSON body that may be left out.
    ///
    /// # Errors
    ///
    /// An invalid argument if the body is declared as or is something else.
    pub async fn json_or_nothing<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let empty = self.body.is_end_stream();
        declared_as_json(&self.headers, empty)?;
        if empty {
            return Ok(None);
        }
        let bytes = self.document().await?;
        parse(&bytes).map(Some)
    }

    /// Reads the whole body, up to a size no sensible document has.
    async fn document(&mut self) -> Result<Bytes, Failure> {
        let body = std::mem::take(&mut self.body);
        match Limited::new(body, MAX_DOCUMENT).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(Failure::invalid(format!("error reading the request body: {error}"))),
        }
    }

    /// Takes the body as a stream.
    pub fn take_body(&mut self) -> Incoming {
        std::mem::take(&mut self.body)
    }

    /// Returns the body as blocking input, for [`tokio::task::spawn_blocking`].
    pub fn take_reader(&mut self) -> Reader {
        Reader {
            body: self.take_body(),
            handle: tokio::runtime::Handle::current(),
            piece: Vec::new(),
            given: 0,
        }
    }
}

/// No body is fine without a type; anything else must be declared as JSON (moby, `CheckForJSON`).
fn declared_as_json(headers: &HeaderMap, empty: bool) -> Result<(), Failure> {
    let declared = headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    if declared.is_empty() && empty {
        return Ok(());
    }
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() {
        return Err(Failure::invalid(format!(
            "malformed Content-Type header ({declared}): mime: no media type"
        )));
    }
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Failure::invalid(format!(
            "unsupported Content-Type header ({declared}): must be 'application/json'"
        )));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match values.next() {
        None => return Err(Failure::invalid("invalid JSON: got EOF while reading request body")),
        Some(Err(error)) if error.is_eof() => return Err(Failure::invalid("invalid JSON: unexpected EOF")),
        Some(Err(error)) => return Err(Failure::invalid(format!("invalid JSON: {error}"))),
        Some(Ok(value)) => value,
    };
    if values.next().is_some() {
        return Err(Failure::invalid("unexpected content after JSON"));
    }
    api::decode_request(value).map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))
}

/// A body as blocking input. Must be read on a thread that may block.
#[derive(Debug)]
pub struct Reader {
    body: Incoming,
    handle: tokio::runtime::Handle,
    piece: Vec<u8>,
    /// How much of it has been read.
    given: usize,
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.given == self.piece.len() {
            let frame = match self.handle.block_on(self.body.frame()) {
                None => return Ok(&[]),
                Some(Err(error)) => return Err(std::io::Error::other(error)),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            // Copied out at once, so that the connection reads the next into the same memory: fresh pages cost more.
            self.piece.clear();
            self.piece.extend_from_slice(&frame);
            self.given = 0;
        }
        Ok(self.piece.get(self.given..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.given = self.piece.len().min(self.given + count);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use std::collections::BTreeMap;

    fn call(content_type: Option<&'static str>, body: &'static str) -> Call {
        let mut request = Request::builder().uri("/x?filters=x");
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        let request = request.body(body.map_err(|never| match never {}).boxed_unsync()).unwrap();
        Call::new(ApiVersion::MAX, Parameters::default(), request)
    }

    #[tokio::test]
    async fn documents_are_checked_as_dockerd_checks_them() {
        for (content_type, body, expect) in [
            (Some("application/json"), r#"{"a":1}"#, Ok(1)),
            (Some("Application/JSON; charset=utf-8"), r#"{"a":1}"#, Ok(1)),
            (None, "", Ok(0)),
            (Some("application/json"), "", Ok(0)),
            (Some("application/json"), r#"{"a":null}"#, Ok(0)),
            (None, "{}", Err("malformed Content-Type header (): mime: no media type")),
            (
                Some("text/plain"),
                "{}",
                Err("unsupported Content-Type header (text/plain): must be 'application/json'"),
            ),
            (Some("application/json"), " ", Err("invalid JSON: got EOF while reading request body")),
            (Some("application/json"), "{", Err("invalid JSON: unexpected EOF")),
            (Some("application/json"), "{} {}", Err("unexpected content after JSON")),
        ] {
            let found = call(content_type, body).json::<BTreeMap<String, i64>>().await;
            let found = found.map(|map| map.get("a").copied().unwrap_or(0));
            assert_eq!(
                found.as_ref().map_err(|failure| failure.message.as_str()),
                expect.as_ref().map_err(|text| *text),
                "{body}"
            );
        }
        assert_eq!(call(None, "").filters().unwrap_err().message, "invalid filter");
    }

    #[tokio::test]
    async fn a_body_can_be_read_by_a_blocking_thread() {
        let mut reader = call(None, "hello").take_reader();
        let text = tokio::task::spawn_blocking(move || std::io::read_to_string(&mut reader).unwrap());
        assert_eq!(text.await.unwrap(), "hello");
    }
}
