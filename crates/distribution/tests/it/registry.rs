//! A registry of the tests' own: distribution-spec over plain HTTP on loopback, on threads, with faults on demand.
//!
//! Hand-written HTTP/1.1, so that an answer can be cut, lie about its length or never come.

use oci::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the rest of the body was not waited for.
    broken: bool,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).map(decode)
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// An answer, and how to spoil it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Announce this length instead of the true one.
    pub(crate) announced: Option<usize>,
    /// Break the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Wait before the answer.
    pub(crate) delay: Duration,
    /// Wait after each piece of 64 KiB.
    pub(crate) pace: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// How users prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Open,
    Basic {
        user: String,
        password: String,
    },
    /// Tokens from `/token`; anonymous ones are good for nothing unless `anonymous`.
    Bearer {
        user: String,
        password: String,
        anonymous: bool,
    },
}

type Fault = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `REPOSITORY:TAG` and `REPOSITORY@DIGEST`.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    login: Login,
    fault: Option<Fault>,
    log: Vec<Request>,
    ranges: bool,
    issued: usize,
    /// After how many bytes the next uploads break.
    breaks: Vec<usize>,
}

/// A running registry; it stops when dropped.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub(crate) fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            uploads: BTreeMap::new(),
            login: Login::Open,
            fault: None,
            log: Vec::new(),
            ranges: true,
            issued: 0,
            breaks: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (accepting, stopping) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&accepting);
                let stopping = Arc::clone(&stopping);
                std::thread::spawn(move || serve(connection.unwrap(), &state, &stopping));
            }
        });
        Self { address, state, stop }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn login(&self, login: Login) {
        self.state.lock().unwrap().login = login;
    }

    /// Lets `fault` answer the requests it wants to.
    pub(crate) fn fault(&self, fault: impl FnMut(&Request) -> Option<Reply> + Send + 'static) {
        self.state.lock().unwrap().fault = Some(Box::new(fault));
    }

    /// Closes the connections of the next uploads after so many bytes each.
    pub(crate) fn break_uploads(&self, after: &[usize]) {
        self.state.lock().unwrap().breaks = after.iter().rev().copied().collect();
    }

    pub(crate) fn without_ranges(&self) {
        self.state.lock().unwrap().ranges = false;
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    /// How many requests had this method and a path that ends so.
    pub(crate) fn count(&self, method: &str, end: &str) -> usize {
        self.log().iter().filter(|request| request.method == method && request.path().ends_with(end)).count()
    }

    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256_of(bytes);
        self.state.lock().unwrap().blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(&digest.to_string()).cloned()
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) {
        self.state.lock().unwrap().blobs.remove(&digest.to_string());
    }

    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256_of(bytes);
        let value = (media_type.to_owned(), bytes.to_vec());
        let mut state = self.state.lock().unwrap();
        state.manifests.insert(format!("{repository}@{digest}"), value.clone());
        if !tag.is_empty() {
            state.manifests.insert(format!("{repository}:{tag}"), value);
        }
        digest
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Option<(String, Vec<u8>)> {
        self.state.lock().unwrap().manifests.get(&format!("{repository}:{tag}")).cloned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, stop: &AtomicBool) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, &mut writer, state) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if request.broken {
            let mut state = state.lock().unwrap();
            let upload = request.path().rsplit('/').next().unwrap().to_owned();
            state.log.push(request.clone());
            state.uploads.get_mut(&upload).unwrap().extend_from_slice(&request.body);
            return;
        }
        let reply = {
            let mut state = state.lock().unwrap();
            state.log.push(request.clone());
            let fault = state.fault.as_mut().and_then(|fault| fault(&request));
            fault.unwrap_or_else(|| state.answer(&request))
        };
        if write_reply(&mut writer, &request, &reply).is_err() || reply.cut.is_some() {
            return;
        }
    }
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
    state: &Mutex<State>,
) -> Option<Request> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        let entry: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
        if !entry.is_empty() {
            entry.push_str(", ");
        }
        entry.push_str(value.trim());
    }
    if headers.contains_key("expect") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    let mut broken = false;
    if let Some(length) = headers.get("content-length") {
        let mut length: usize = length.parse().ok()?;
        if length > 0 && matches!(&*method, "PUT" | "PATCH") && target.contains("/uploads/") {
            let after = state.lock().unwrap().breaks.pop().unwrap_or(length);
            broken = after < length;
            length = length.min(after);
        }
        reader.take(u64::try_from(length).unwrap()).read_to_end(&mut body).ok()?;
    } else if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim(), 16).ok()?;
            reader.by_ref().take(length).read_to_end(&mut body).ok()?;
            reader.read_line(&mut line).ok()?;
            if length == 0 {
                break;
            }
        }
    }
    Some(Request { method, target, headers, body, broken })
}

fn write_reply(writer: &mut TcpStream, request: &Request, reply: &Reply) -> std::io::Result<()> {
    std::thread::sleep(reply.delay);
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let chunked = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    if !chunked && !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", reply.announced.unwrap_or(reply.body.len())));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
    for piece in body.chunks(64 * 1024) {
        writer.write_all(piece)?;
        std::thread::sleep(reply.pace);
    }
    writer.flush()
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.path() == "/token" {
            return self.token(request);
        }
        if let Some(refused) = self.refused(request) {
            return refused;
        }
        let Some(rest) = request.path().strip_prefix("/v2/") else {
            return Reply::error(404, "X", "no such page");
        };
        if rest.is_empty() {
            return Reply::new(200, "{}");
        }
        if let Some((repository, name)) = rest.rsplit_once("/manifests/") {
            return self.manifests(request, repository, name);
        }
        if let Some((repository, upload)) = rest.rsplit_once("/blobs/uploads/") {
            return self.upload(request, repository, upload);
        }
        if let Some((_, digest)) = rest.rsplit_once("/blobs/") {
            return self.get_blob(request, digest);
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            let tags: Vec<_> =
                self.manifests.keys().filter_map(|key| key.strip_prefix(&format!("{repository}:"))).collect();
            return Reply::new(200, serde_json::json!({ "name": repository, "tags": tags }).to_string());
        }
        Reply::error(404, "X", "no such page")
    }

    fn refused(&self, request: &Request) -> Option<Reply> {
        let authorization = request.header("authorization");
        match &self.login {
            Login::Open => None,
            Login::Basic { user, password } => {
                if authorization == basic(user, password) {
                    return None;
                }
                Some(
                    Reply::error(401, "UNAUTHORIZED", "authentication required")
                        .header("www-authenticate", "Basic realm=\"x\""),
                )
            }
            Login::Bearer { .. } => {
                let host = request.header("host");
                let scope = request.path().trim_start_matches("/v2/").split("/manifests/").next().unwrap();
                let scope = scope.split("/blobs/").next().unwrap();
                let action =
                    if request.method == "GET" || request.method == "HEAD" { "pull" } else { "pull,push" };
                let scope = format!("repository:{scope}:{action}");
                let challenge =
                    format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"{scope}\"");
                if let Some(granted) = authorization.strip_prefix("Bearer ") {
                    let granted = granted.split('#').next().unwrap();
                    if request.path() == "/v2/" || granted.starts_with(&scope) {
                        return None;
                    }
                    let challenge = format!("{challenge},error=\"insufficient_scope\"");
                    return Some(
                        Reply::error(401, "UNAUTHORIZED", "authentication required")
                            .header("www-authenticate", challenge),
                    );
                }
                Some(
                    Reply::error(401, "UNAUTHORIZED", "authentication required")
                        .header("www-authenticate", challenge),
                )
            }
        }
    }

    /// The token is the scope it is good for.
    fn token(&mut self, request: &Request) -> Reply {
        let Login::Bearer { user, password, anonymous } = self.login.clone() else {
            return Reply::new(404, "");
        };
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let known = request.header("authorization") == basic(&user, &password)
            || form.contains(&format!("refresh_token={password}&"))
            || form.ends_with(&format!("refresh_token={password}"));
        let offered = !request.header("authorization").is_empty() || !form.is_empty();
        if offered && !known {
            return Reply::new(401, r#"{"details":"incorrect username or password"}"#);
        }
        let asked = Request { target: format!("/?{form}"), ..request.clone() };
        let scope = request.query("scope").or_else(|| asked.query("scope")).unwrap_or_default();
        self.issued += 1;
        let scope = if known || anonymous { scope } else { String::new() };
        Reply::new(
            200,
            serde_json::json!({ "token": format!("{scope}#{}", self.issued), "expires_in": 300 }).to_string(),
        )
    }

    fn manifests(&mut self, request: &Request, repository: &str, name: &str) -> Reply {
        let key =
            if name.contains(':') { format!("{repository}@{name}") } else { format!("{repository}:{name}") };
        if request.method == "PUT" {
            let digest = Digest::sha256_of(&request.body).to_string();
            let value = (request.header("content-type").to_owned(), request.body.clone());
            self.manifests.insert(format!("{repository}@{digest}"), value.clone());
            self.manifests.insert(key, value);
            return Reply::new(201, "").header("docker-content-digest", digest);
        }
        match self.manifests.get(&key) {
            Some((media_type, bytes)) => Reply::new(200, bytes.clone())
                .header("content-type", media_type)
                .header("docker-content-digest", Digest::sha256_of(bytes)),
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn get_blob(&mut self, request: &Request, digest: &str) -> Reply {
        let Some(bytes) = self.blobs.get(digest) else {
            return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let range = request.header("range").strip_prefix("bytes=").filter(|_| self.ranges);
        let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
            return Reply::new(200, bytes.clone());
        };
        let start: usize = start.parse().unwrap();
        let end: usize = end.parse().unwrap_or(bytes.len() - 1);
        Reply::new(206, &bytes[start..=end])
            .header("content-range", format!("bytes {start}-{end}/{}", bytes.len()))
    }

    fn upload(&mut self, request: &Request, repository: &str, upload: &str) -> Reply {
        let location = |upload: &str| format!("/v2/{repository}/blobs/uploads/{upload}?state=x");
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(_)) = (request.query("mount"), request.query("from"))
                    && self.blobs.contains_key(&digest)
                {
                    return Reply::new(201, "").header("docker-content-digest", digest);
                }
                let upload = format!("u{}", self.uploads.len());
                self.uploads.insert(upload.clone(), Vec::new());
                Reply::new(202, "").header("location", location(&upload)).header("range", "0-0")
            }
            "GET" if self.uploads.contains_key(upload) => {
                let end = self.uploads[upload].len().max(1) - 1;
                Reply::new(204, "").header("location", location(upload)).header("range", format!("0-{end}"))
            }
            "PATCH" => {
                let content = self.uploads.get_mut(upload).unwrap();
                content.extend_from_slice(&request.body);
                let end = content.len().max(1) - 1;
                Reply::new(202, "").header("location", location(upload)).header("range", format!("0-{end}"))
            }
            "PUT" => {
                let mut content = self.uploads.remove(upload).unwrap_or_default();
                content.extend_from_slice(&request.body);
                let digest = request.query("digest").unwrap_or_default();
                if Digest::sha256_of(&content).to_string() != digest {
                    return Reply::error(
                        400,
                        "DIGEST_INVALID",
                        "provided digest did not match uploaded content",
                    );
                }
                self.blobs.insert(digest.clone(), content);
                Reply::new(201, "").header("docker-content-digest", digest)
            }
            _ => Reply::error(405, "UNSUPPORTED", "method"),
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
