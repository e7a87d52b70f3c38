//! Reading a registry's "no" (distribution-spec *error codes*).

use crate::challenge::{self, Challenge};
use crate::error::{Error, Refusal};
use crate::transport::Transport;
use http::{HeaderMap, Response, Uri, header};
use hyper::body::Incoming;
use serde::Deserialize;
use std::time::Duration;

/// As much of an error body as is read.
const BODY_LIMIT: u64 = 64 * 1024;
/// As much of a message as is kept.
const MESSAGE_LIMIT: usize = 2048;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Body {
    errors: Vec<Entry>,
    /// Token servers use one of these instead.
    details: Option<String>,
    message: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    code: Option<String>,
    message: Option<String>,
}

/// Reads an answer whose status is not success.
pub(crate) async fn read(
    transport: &Transport,
    url: &Uri,
    response: Response<Incoming>,
) -> Result<Refusal, Error> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    // A body that is too large or breaks off says nothing more than the status does.
    let body = transport.read(url, response, BODY_LIMIT).await.unwrap_or_default();
    Ok(parse(status, &headers, &body))
}

/// Returns what status, headers and body say.
pub(crate) fn parse(status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let parsed: Body = serde_json::from_slice(body).unwrap_or_default();
    let first = parsed.errors.into_iter().next().unwrap_or_default();
    let message = [first.message, parsed.details, parsed.error_description, parsed.message];
    let mut refusal = Refusal {
        status,
        code: first.code.map(|code| printable(&code)).unwrap_or_default(),
        message: message.into_iter().flatten().next().map(|message| printable(&message)).unwrap_or_default(),
        retry_after: retry_after(headers),
    };
    if status == 401 {
        // Docker reads the challenge's own complaint before the body.
        for challenge in challenge::parse(authenticate(headers)) {
            if let Challenge::Bearer(bearer) = challenge
                && bearer.error == "insufficient_scope"
            {
                "DENIED".clone_into(&mut refusal.code);
                "requested access to the resource is denied".clone_into(&mut refusal.message);
            }
        }
        if refusal.code.is_empty() && refusal.message.is_empty() {
            "UNAUTHORIZED".clone_into(&mut refusal.code);
            "authentication required".clone_into(&mut refusal.message);
        }
    }
    refusal
}

/// Returns the `WWW-Authenticate` headers that are text.
pub(crate) fn authenticate(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Foreign text ends on a terminal: no control characters, no endless lines.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn bodies_and_challenges_are_read() {
        let denied = r#"Bearer realm="https://a",error="insufficient_scope""#;
        for (status, challenge, body, text) in [
            (
                404,
                "",
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (
                401,
                denied,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
                "denied: requested access to the resource is denied",
            ),
            (401, "Basic", "", "unauthorized: authentication required"),
            (401, "", r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (502, "", "<html>", "received unexpected HTTP status: 502 Bad Gateway"),
            (400, "", "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[31mb\"}]}", "x: a[31mb"),
            (400, "", r#"{"errors":[]}"#, "received unexpected HTTP status: 400 Bad Request"),
        ] {
            let mut headers = HeaderMap::new();
            if !challenge.is_empty() {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            assert_eq!(parse(status, &headers, body.as_bytes()).to_string(), text, "{body}");
        }
    }

    #[test]
    fn retry_after_is_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(parse(429, &headers, b"").retry_after, None);
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
        assert_eq!(parse(429, &headers, b"").retry_after, Some(Duration::from_secs(3)));
    }
}
