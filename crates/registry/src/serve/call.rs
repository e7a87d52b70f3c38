//! One request: what was asked, with the questions that handlers put to it.

use super::body::{self, Body};
use crate::error::{Code, Refusal, Result};
use crate::route::Route;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use oci::Digest;
use serde_json::json;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(crate) const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Call {
    /// Method, headers and the like.
    pub(crate) parts: Parts,
    /// The decoded parameters, in their order.
    pub(crate) parameters: Vec<(String, String)>,
    /// What absolute addresses begin with: `http://host/prefix`, or only the prefix.
    pub(crate) base: String,
    /// Who asks; empty for nobody in particular.
    pub(crate) user: String,
    /// From where.
    pub(crate) peer: String,
}

impl Call {
    /// Returns a parameter's first value.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns a parameter that is a digest.
    pub(crate) fn digest(&self, name: &str) -> Result<Option<Digest>> {
        self.parameter(name).map(parse_digest).transpose()
    }

    /// Returns the number `name`.
    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>> {
        let parsed = self.parameter(name).filter(|text| !text.is_empty()).map(str::parse);
        let wrong =
            |_| Refusal::with(Code::PaginationNumberInvalid, json!({"n": self.parameter(name)})).into();
        parsed.transpose().map_err(wrong)
    }

    /// Returns a header's text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        text(&self.parts.headers, name)
    }

    /// Returns the address of a path.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// Returns a header's text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a digest of a request.
pub(crate) fn parse_digest(text: &str) -> Result<Digest> {
    let wrong = |error: oci::InvalidDigest| {
        Refusal::with(Code::DigestInvalid, json!({"digest": text, "reason": error.to_string()})).into()
    };
    Digest::parse(text).map_err(wrong)
}

/// An answer being put together.
#[derive(Debug)]
pub(crate) struct Answer(Response<Body>);

impl Answer {
    /// Begins with a status and no body.
    pub(crate) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(body::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// Answers with JSON.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(StatusCode::OK)
            .with(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(format!("{value}\n").into_bytes())
    }

    /// Adds a header; what cannot be one is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.0.headers_mut().append(name, value);
        }
        self
    }

    /// Sets a body that is here whole.
    pub(crate) fn body(self, bytes: impl Into<bytes::Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len().to_string();
        self.with(header::CONTENT_LENGTH, length).stream(body::full(bytes))
    }

    /// Sets a body whose length is in a header already.
    pub(crate) fn stream(mut self, body: Body) -> Self {
        *self.0.body_mut() = body;
        self
    }

    /// Says that there is no body, where clients expect a length.
    pub(crate) fn nothing(self) -> Self {
        self.with(header::CONTENT_LENGTH, "0")
    }

    /// Returns it.
    pub(crate) fn done(self) -> Response<Body> {
        self.0
    }
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self(response)
    }
}

impl From<&Refusal> for Answer {
    fn from(refusal: &Refusal) -> Self {
        let answer = Self::new(refusal.status)
            .with(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(refusal.body());
        refusal.headers.iter().fold(answer, |answer, (name, value)| answer.with(name.clone(), value))
    }
}

/// Decodes `%XX`; `plus` makes blanks of plus signs. `None` if what comes out is not text.
pub(crate) fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match *first {
            b'%' => {
                let (pair, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
                rest = after;
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads a query.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Encodes a value for a query.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// What the handler of a route is called in metrics and logs; the well-known registry's words.
pub(crate) fn handler(route: &Route<'_>) -> &'static str {
    match route {
        Route::Base => "base",
        Route::Catalog => "catalog",
        Route::Tags(_) => "tags",
        Route::Manifest(..) => "manifest",
        Route::Blob(..) => "blob",
        Route::Uploads(_) => "blob_upload",
        Route::Upload(..) => "blob_upload_chunk",
        Route::Referrers(..) => "referrers",
        Route::Ping | Route::Search => "search",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(
            parameters("digest=sha256%3Aab&from=a%2Fb&x&q=a+b&&bad=%zz"),
            [("digest", "sha256:ab"), ("from", "a/b"), ("x", ""), ("q", "a b")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(encode("a/b:c d"), "a/b%3Ac%20d");
        assert_eq!(decode("a+b%2", false), None);
    }
}
