//! What is asked of plugins and of a cluster's store: one request with a document, one answer, on a connection of its own.
//! An answer that does not end is read line by line.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Response as HttpResponse};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls::Client as Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// The largest answer that is taken, in bytes.
const LARGEST: usize = 4 << 20;

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A socket's path.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
    /// Host and port, spoken to over TLS.
    Tls(String, Tls),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Posts a document and waits for the answer, `patience` long. Blocks; not to be called where a runtime does not allow it.
///
/// # Errors
///
/// Why there is no answer, in words.
pub(crate) fn post(
    address: &Address,
    path: &str,
    media_type: &str,
    body: String,
    patience: Duration,
) -> Result<Response, String> {
    let request = request(address, path, media_type, body)?;
    let exchange = async {
        let answer = send(address, request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok(Response { status, body: body.map_err(|error| error.to_string())?.to_bytes() })
    };
    runtime()?.block_on(async { within(patience, exchange).await })
}

/// Posts a document and gives the lines of the answer to `line` as they come, until that says no or none comes for
/// `patience`. Blocks like [`post`].
///
/// # Errors
///
/// Why there is no answer, or no more of it, in words.
pub(crate) fn lines(
    address: &Address,
    path: &str,
    body: String,
    patience: Duration,
    mut line: impl FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let request = request(address, path, "application/json", body)?;
    runtime()?.block_on(async {
        let answer = within(patience, send(address, request)).await?;
        let mut body = answer.into_body();
        let mut rest = Vec::new();
        loop {
            let Ok(frame) = tokio::time::timeout(patience, body.frame()).await else { return Ok(()) };
            let frame = frame.ok_or("the connection was closed")?.map_err(|error| base::chain(&error))?;
            rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let complete: Vec<u8> = rest.drain(..=end).collect();
                if !line(&complete) {
                    return Ok(());
                }
            }
            if rest.len() > LARGEST {
                return Err("a line of the answer does not end".to_owned());
            }
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| base::io_message(&error))
}

fn request(
    address: &Address,
    path: &str,
    media_type: &str,
    body: String,
) -> Result<Request<Full<Bytes>>, String> {
    let host = match address {
        Address::Unix(_) => "plugin",
        Address::Tcp(host) | Address::Tls(host, _) => host,
    };
    Request::post(path)
        .header(HOST, host)
        .header(ACCEPT, media_type)
        .header(CONTENT_TYPE, media_type)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(patience, work).await;
    done.map_err(|_elapsed| format!("no answer within {} s", patience.as_secs()))?
}

async fn send(address: &Address, request: Request<Full<Bytes>>) -> Result<HttpResponse<Incoming>, String> {
    let refused = |error: std::io::Error| base::io_message(&error);
    match address {
        Address::Unix(path) => exchange(UnixStream::connect(path).await.map_err(refused)?, request).await,
        Address::Tcp(host) => exchange(TcpStream::connect(host).await.map_err(refused)?, request).await,
        Address::Tls(host, files) => {
            let (connector, name) = secure(host, files)?;
            let plain = TcpStream::connect(host).await.map_err(refused)?;
            exchange(connector.connect(name, plain).await.map_err(refused)?, request).await
        }
    }
}

/// Returns what makes a connection to `host` (with its port) a secure one, and the name that it must have a certificate for.
fn secure(host: &str, files: &Tls) -> Result<(TlsConnector, ServerName<'static>), String> {
    // As in Go, whose plugins these are: the host's roots count where no authority is named.
    let roots = if files.authority.is_none() { tls::host_certificates() } else { Vec::new() };
    let config = files.config(roots).map_err(|error| base::chain(&error))?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<HttpResponse<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| base::chain(&error);
    // Names of headers as plugins of small means look for them.
    let client = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream));
    let (mut sender, connection) = client.await.map_err(words)?;
    // It ends with the sender and the answer; what goes wrong these tell.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn answered(text: &'static str) -> Result<Response, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = client.read(&mut request).unwrap();
            client.write_all(text.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = post(&address, "/Plugin.Activate", "a/b", "{}".to_owned(), Duration::from_secs(10));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /Plugin.Activate HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("\r\naccept: a/b\r\n"), "{request}");
        answer
    }

    #[test]
    fn answers_are_read_and_rubbish_is_refused() {
        let answer = answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"{}"[..]));
        let answer =
            answered("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, &*answer.body), (404, &b"x"[..]));
        for rubbish in ["", "x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"] {
            assert!(answered(rubbish).is_err(), "{rubbish}");
        }
    }
}
