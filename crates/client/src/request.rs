//! Building a request and sending it.

use crate::hijack::Hijacked;
use crate::http::{Body, Response};
use crate::{Chunks, Client, Error, Host};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};

/// A request being made.
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a Client,
    method: &'static str,
    path: String,
    versioned: bool,
    query: String,
    headers: String,
    body: Body<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(client: &'a Client, method: &'static str, path: String) -> Self {
        let (query, headers) = (String::new(), String::new());
        Self { client, method, path, versioned: true, query, headers, body: Body::Empty }
    }

    pub(crate) fn unversioned(client: &'a Client, method: &'static str, path: String) -> Self {
        Self { versioned: false, ..Self::new(client, method, path) }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        escape(name, &mut self.query);
        self.query.push('=');
        escape(value.as_ref(), &mut self.query);
        self
    }

    /// Adds a query parameter unless its value is empty.
    #[must_use]
    pub fn query_if_set(self, name: &str, value: impl AsRef<str>) -> Self {
        if value.as_ref().is_empty() { self } else { self.query(name, value) }
    }

    /// Adds `name=1` if `set`.
    #[must_use]
    pub fn flag(self, name: &str, set: bool) -> Self {
        if set { self.query(name, "1") } else { self }
    }

    /// Adds a header; name and value must not contain line ends.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = value.replace(['\r', '\n'], " ");
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Sends a document as JSON.
    #[must_use]
    pub fn json(mut self, document: &impl Serialize) -> Self {
        // Our documents have text keys only: this cannot fail.
        self.body = Body::Bytes(serde_json::to_vec(document).unwrap_or_default(), "application/json");
        self
    }

    /// Sends a stream, in chunks.
    #[must_use]
    pub fn stream(mut self, source: &'a mut dyn Read, content_type: &'static str) -> Self {
        self.body = Body::Stream(source, content_type);
        self
    }

    /// Sends what `write` writes, in chunks.
    #[must_use]
    pub fn written(
        mut self,
        write: &'a mut dyn FnMut(&mut Chunks<'_>) -> io::Result<()>,
        content_type: &'static str,
    ) -> Self {
        self.body = Body::Written(write, content_type);
        self
    }

    /// Sends it; an answer of status 400 or more becomes [`Error::Daemon`].
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn send(self) -> Result<Response<'a>, Error> {
        let route = self.route();
        let response = self.send_unchecked()?;
        if response.status < 400 { Ok(response) } else { Err(daemon_error(response, &route)) }
    }

    /// Sends it and reads the answer as a document.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        let what = self.route();
        let bytes = self.send()?.bytes()?;
        api::decode(&bytes).map_err(|source| Error::Decode { what, source })
    }

    /// Sends it and reads the answer as the bytes it is.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        self.send()?.bytes()
    }

    /// Sends it and drops what the answer says.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn done(self) -> Result<(), Error> {
        self.send()?.bytes().map(drop)
    }

    /// Sends it and takes the connection over.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn hijack(mut self) -> Result<Hijacked, Error> {
        let route = self.route();
        let client = self.client;
        let body = std::mem::take(&mut self.body);
        self.headers.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        let head = self.head()?;
        let mut connection = client.connection()?;
        let failed = |source| Error::Transport { operation: route.clone(), source };
        // Without a length, engines of Docker's kind take the request for one whose body never comes.
        let body = if matches!(body, Body::Empty) { Body::Bytes(Vec::new(), "text/plain") } else { body };
        connection.send(head, body).map_err(failed)?;
        let answer = connection
            .receive_head()
            .map_err(|source| Error::Transport { operation: route.clone(), source })?;
        if answer.status >= 400 {
            return Err(daemon_error(Response::new(client, connection, answer, "POST"), &route));
        }
        Ok(Hijacked::new(connection.reader, answer.header("content-type").unwrap_or_default()))
    }

    /// Sends it, whatever the answer's status.
    pub(crate) fn send_unchecked(mut self) -> Result<Response<'a>, Error> {
        let route = self.route();
        let body = std::mem::take(&mut self.body);
        let head = self.head()?;
        let mut connection = self.client.connection()?;
        let streamed = matches!(body, Body::Stream(..) | Body::Written(..));
        let sent = connection.send(head, body);
        // An engine may answer before it has read the whole body, and close: its answer says more than EPIPE.
        if let Err(error) = sent
            && !(streamed && error.kind() == io::ErrorKind::BrokenPipe)
        {
            return Err(Error::transport(route)(error));
        }
        let answer = connection.receive_head().map_err(Error::transport(route))?;
        Ok(Response::new(self.client, connection, answer, self.method))
    }

    fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the request line and the headers that do not depend on the body.
    fn head(&self) -> Result<String, Error> {
        let version = if self.versioned { format!("/v{}", self.client.version()?) } else { String::new() };
        let host = match self.client.host() {
            Host::Unix(_) => "api.moby.localhost",
            Host::Ssh(_) => "docker.example.com",
            Host::Tcp(address) | Host::Tls(address, _) => address,
        };
        Ok(format!(
            "{} {version}{}{} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {}\r\n{}",
            self.method, self.path, self.query, self.client.user_agent, self.headers
        ))
    }
}

fn daemon_error(response: Response<'_>, route: &str) -> Error {
    let status = response.status;
    let body = match response.bytes() {
        Ok(body) => body,
        Err(error) => return error,
    };
    let message = match api::decode::<api::ErrorResponse>(&body) {
        Ok(error) if !error.message.is_empty() => error.message,
        Ok(_) | Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    let message = if message.is_empty() {
        format!(
            "request returned {status} for API route and version {route}, check if the server supports the requested API version"
        )
    } else {
        message
    };
    Error::Daemon { status, message }
}

/// Escapes for a query or one path segment: unreserved characters stay (RFC 3986), all else is `%XX`.
pub(crate) fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Returns a name as it may stand in a path: the `/`, `:` and `@` of references stay.
pub fn path_segment(name: &str) -> String {
    let mut escaped = String::new();
    for piece in name.split_inclusive(['/', ':', '@']) {
        let (text, separator) = match piece.strip_suffix(['/', ':', '@']) {
            Some(text) => (text, piece.chars().next_back()),
            None => (piece, None),
        };
        escape(text, &mut escaped);
        escaped.extend(separator);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_path() {
        assert_eq!(path_segment("localhost:5000/a/b@sha256:12"), "localhost:5000/a/b@sha256:12");
        assert_eq!(path_segment("a b?c#d%"), "a%20b%3Fc%23d%25");
    }
}
