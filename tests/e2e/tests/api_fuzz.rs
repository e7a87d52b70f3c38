//! Requests that no sensible client sends, generated for every endpoint about containers, execs, networks, volumes and the
//! system: each gets an answer of Docker's shape, and nothing panics.
//!
//! The choice is random but replayable: the seed is printed, and `WHARF_SEED` sets it; `WHARF_ROUNDS` makes it longer.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use testkit::Engine;
use testkit::random::{Random, number};

/// Method, path, and the parameters of the query.
const ENDPOINTS: &[(&str, &str, &[&str])] = &[
    ("GET", "/_ping", &[]),
    ("GET", "/version", &[]),
    ("GET", "/info", &[]),
    ("GET", "/events", &["since", "until", "filters"]),
    ("GET", "/system/df", &["type"]),
    ("GET", "/containers/json", &["all", "limit", "size", "filters"]),
    ("POST", "/containers/create", &["name", "platform"]),
    ("POST", "/containers/prune", &["filters"]),
    ("GET", "/containers/{}/json", &["size"]),
    ("GET", "/containers/{}/top", &["ps_args"]),
    ("GET", "/containers/{}/logs", &["stdout", "stderr", "since", "until", "timestamps", "tail", "details"]),
    ("GET", "/containers/{}/changes", &[]),
    ("GET", "/containers/{}/stats", &["stream", "one-shot"]),
    ("POST", "/containers/{}/resize", &["h", "w"]),
    ("POST", "/containers/{}/start", &["detachKeys"]),
    ("POST", "/containers/{}/stop", &["signal", "t"]),
    ("POST", "/containers/{}/restart", &["signal", "t"]),
    ("POST", "/containers/{}/kill", &["signal"]),
    ("POST", "/containers/{}/update", &[]),
    ("POST", "/containers/{}/rename", &["name"]),
    ("POST", "/containers/{}/pause", &[]),
    ("POST", "/containers/{}/unpause", &[]),
    ("POST", "/containers/{}/attach", &["logs", "stream", "stdin", "stdout", "stderr", "detachKeys"]),
    ("GET", "/containers/{}/attach/ws", &["stream", "stdout"]),
    ("POST", "/containers/{}/wait", &["condition"]),
    ("DELETE", "/containers/{}", &["v", "link"]),
    ("HEAD", "/containers/{}/archive", &["path"]),
    ("GET", "/containers/{}/archive", &["path"]),
    ("PUT", "/containers/{}/archive", &["path", "noOverwriteDirNonDir", "copyUIDGID"]),
    ("POST", "/containers/{}/exec", &[]),
    ("POST", "/exec/{}/start", &[]),
    ("POST", "/exec/{}/resize", &["h", "w"]),
    ("GET", "/exec/{}/json", &[]),
    ("POST", "/commit", &["container", "repo", "tag", "comment", "author", "pause", "changes"]),
    ("GET", "/images/json", &["all", "filters", "shared-size"]),
    ("GET", "/images/{}/json", &["platform"]),
    ("GET", "/images/{}/history", &[]),
    ("POST", "/images/{}/tag", &["repo", "tag"]),
    ("GET", "/networks", &["filters"]),
    ("GET", "/networks/{}", &["verbose", "scope"]),
    ("POST", "/networks/create", &[]),
    ("POST", "/networks/{}/connect", &[]),
    ("POST", "/networks/{}/disconnect", &[]),
    ("DELETE", "/networks/{}", &[]),
    ("GET", "/volumes", &["filters"]),
    ("POST", "/volumes/create", &[]),
    ("GET", "/volumes/{}", &[]),
    ("DELETE", "/volumes/{}", &["force"]),
    ("GET", "/swarm", &[]),
    ("GET", "/services/{}", &[]),
    ("GET", "/plugins/{}/json", &[]),
    ("GET", "/nosuch/{}", &["x"]),
];

const NAMES: &[&str] = &[
    "made",
    "runs",
    "nosuch",
    "..%2F..%2Fetc",
    "%2e%2e",
    "a%00b",
    "%C3%A9",
    "%ff",
    "a%2Fb",
    "made%0d%0aX:1",
    "-",
    "{id}",
    "%25",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "true",
    "no",
    "99999999999999999999",
    "1e309",
    "%00",
    "..%2F..%2F..%2Fetc%2Fpasswd",
    "%2F",
    "%C3%A9",
    "%FF",
    "%7B",
    "%5B1%5D",
    "null",
    "%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D",
    "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D",
    "%7B%22nosuch%22%3A%5B%22x%22%5D%7D",
    "%7B%22until%22%3A%5B%2210m%22%2C%221h%22%5D%7D",
    "2006-01-02T15:04:05Z",
    "10m",
    "-9223372036854775808",
    "SIGKILL",
    "SIGNOSUCH",
    "next-exit",
    "linux%2Famd64",
    "aux",
    "-o%20pid%2Cargs",
    "x%0dy%0az",
];

/// Bodies and their type. What stands for `~` is a text of a megabyte.
const BODIES: &[&str] = &[
    "",
    "{}",
    "null",
    "[]",
    "5",
    "\"x\"",
    "{",
    "{\"a\":",
    "{} {}",
    "\u{0}",
    "{\"Image\":5}",
    "{\"Image\":\"nosuch\"}",
    "{\"Image\":\"busybox\",\"Cmd\":{}}",
    "{\"Image\":\"busybox\",\"HostConfig\":[]}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":\"lots\"}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":1e40}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"/:/\",\"::\",\"\"]}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"../x:/y\"],\"Tmpfs\":{\"\":\"\"}}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"80\":[{\"HostPort\":\"x\"}],\"a/b\":null}}}",
    "{\"Image\":\"busybox\",\"ExposedPorts\":{\"99999/tcp\":{}},\"Env\":[\"=\",\"\\u0000\",\"A\"]}",
    "{\"Image\":\"busybox\",\"Healthcheck\":{\"Test\":[\"X\"],\"Interval\":-1}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Devices\":[{\"PathOnHost\":\"/nosuch\"}],\"Ulimits\":[{\"Name\":\"x\"}]}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"LogConfig\":{\"Type\":\"x\"},\"RestartPolicy\":{\"Name\":\"x\"}}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"container:\",\"PidMode\":\"container:x\",\"IpcMode\":\"x\"}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Sysctls\":{\"a\":\"b\"},\"ShmSize\":-1,\"OomScoreAdj\":99999}}",
    "{\"Image\":\"busybox\",\"HostConfig\":{\"Mounts\":[{\"Type\":\"x\",\"Target\":\"y\"}],\"VolumesFrom\":[\"x:y:z\"]}}",
    "{\"Image\":\"busybox\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"x\":{\"IPAMConfig\":{\"IPv4Address\":\"x\"}}}}}",
    "{\"Image\":\"busybox\",\"Hostname\":\"~\"}",
    "{\"Cmd\":[\"~\"],\"Unknown\":{\"x\":[1,2,{\"y\":null}]}}",
    "{\"Name\":\"~\"}",
    "{\"Name\":\"../x\",\"Driver\":\"x\",\"IPAM\":{\"Config\":[{\"Subnet\":\"x\"}]}}",
    "{\"Name\":\"n\",\"Options\":5}",
    "{\"Container\":\"made\",\"EndpointConfig\":{\"IPAMConfig\":{\"IPv4Address\":\"1.2.3\"}}}",
    "{\"Container\":5}",
    "{\"Memory\":1,\"CpuShares\":-1,\"CpusetCpus\":\"x\",\"PidsLimit\":-9}",
    "{\"RestartPolicy\":{\"Name\":\"always\",\"MaximumRetryCount\":3}}",
    "{\"Detach\":\"x\",\"Tty\":1,\"ConsoleSize\":[1]}",
    "{\"DetachKeys\":\"ctrl-1\",\"Cmd\":[\"\"]}",
];

/// Sends bytes and returns the answer as far as it comes at once: head, and body if its length is told.
///
/// A client that closes its half before the answer has gone: only one whose body never ends does so.
fn exchange(engine: &Engine, bytes: &[u8], closes: bool) -> String {
    let mut stream = UnixStream::connect(engine.folder().join("wharf.sock")).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time limit");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("set a time limit");
    // The daemon may answer and close before it has read everything.
    drop(stream.write_all(bytes));
    if closes {
        drop(stream.shutdown(Shutdown::Write));
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if length.is_none_or(|length| body.len() >= length) {
                return text;
            }
        }
        let length = stream.read(&mut buffer).expect("an answer");
        if length == 0 {
            return String::from_utf8_lossy(&answer).into_owned();
        }
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
}

/// Checks that an answer is one of Docker's; returns what is wrong.
fn wrong(method: &str, answer: &str, closes: bool) -> Option<String> {
    let Some(status) = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok())
    else {
        // One that closes may be gone before it is answered.
        return (!closes || !answer.is_empty()).then(|| "no status".to_owned());
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    if status == 500 && body.contains("the request failed") {
        return Some("a panic".to_owned());
    }
    // The HTTP layer's own refusals (a path that is no text) come without a body and without our headers.
    if status < 400 || method == "HEAD" || !head.contains("api-version: ") {
        return None;
    }
    // One that repeats a megabyte is not read to its end.
    if body.len() > 100_000 && body.starts_with("{\"message\":\"") {
        return None;
    }
    let message = serde_json::from_str::<serde_json::Value>(body).ok();
    let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
    message.is_none_or(str::is_empty).then(|| format!("{status} without a message"))
}

#[test]
fn nothing_panics_and_every_refusal_has_a_message() {
    let engine = Engine::with_busybox();
    engine.wharf(&["create", "--name", "made", "busybox", "true"]).ok();
    engine.wharf(&["run", "-d", "--name", "runs", "busybox", "sleep", "1000"]).ok();
    let seed = number("WHARF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x9e37);
    let rounds = number("WHARF_ROUNDS").unwrap_or(20);
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("WHARF_SEED={seed}\n")));
    let mut random = Random::new(seed);
    let huge = "x".repeat(1 << 20);
    let mut failures = Vec::new();
    for _ in 0..rounds {
        for (method, pattern, parameters) in ENDPOINTS {
            let long = "n".repeat(3000);
            let name = if random.below(20) == 0 { long.as_str() } else { random.one(NAMES) };
            let mut path = pattern.replace("{}", name);
            let mut separator = '?';
            for parameter in *parameters {
                if random.below(3) > 0 {
                    path.push_str(&format!("{separator}{parameter}={}", random.one(VALUES)));
                    separator = '&';
                }
            }
            if random.below(10) == 0 {
                path = format!("/v1.{}{path}", random.one(&["24", "41", "51", "99", "x", "4294967296"]));
            }
            let body = if matches!(*method, "GET" | "HEAD" | "DELETE") { "" } else { random.one(BODIES) };
            let body = body.replace('~', &huge);
            let kind =
                random.one(&["application/json", "application/json", "application/json", "text/plain", ""]);
            let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            // Sometimes the body never ends, or is no chunk.
            let cut = random.below(15);
            let (length, body) = match cut {
                0 => (format!("Content-Length: {}\r\n", body.len() + 100), body),
                1 => ("Transfer-Encoding: chunked\r\n".to_owned(), format!("zz\r\n{body}")),
                _ => (format!("Content-Length: {}\r\n", body.len()), body),
            };
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}{length}\r\n");
            let answer = exchange(&engine, format!("{head}{body}").as_bytes(), cut == 0);
            if let Some(why) = wrong(method, &answer, cut == 0) {
                let short = |text: &str| text.chars().take(300).collect::<String>();
                failures.push(format!(
                    "{why}: {method} {} {} -> {}",
                    short(&path),
                    short(&body),
                    short(&answer)
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!engine.daemon_log().contains("panicked"), "{}", engine.daemon_log());
    assert!(
        exchange(&engine, b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", false)
            .ends_with("OK")
    );
}

#[test]
fn what_is_no_request_is_refused() {
    let engine = Engine::start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let create = |body: &str| {
        format!(
            "POST /containers/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (request, expect) in [
        ("NONSENSE\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "HTTP/1.1 "),
        (format!("GET /{} HTTP/1.1\r\nHost: d\r\n\r\n", "x".repeat(100_000)), "HTTP/1.1 "),
        (create(&deep), "HTTP/1.1 400"),
        (create("{\"Image\":\"busybox\"} trailing"), "HTTP/1.1 400"),
        (create("\u{feff}{}"), "HTTP/1.1 400"),
    ] {
        let answer = exchange(&engine, request.as_bytes(), false);
        let shown: String = request.chars().take(80).collect();
        assert!(answer.starts_with(expect) && !answer.starts_with("HTTP/1.1 5"), "{shown}: {answer}");
    }
    assert!(!engine.daemon_log().contains("panicked"));
}
