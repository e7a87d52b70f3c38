//! Many containers at once, and many clients that watch them: 40 containers, or as many as `WHARF_SCALE` says. What was
//! measured is written to standard error (`cargo test -p e2e --test scale -- --nocapture`); nothing is asserted of times.

#![expect(clippy::unwrap_used, reason = "test code: a failed step ends the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{Engine, until};

const AT_ONCE: usize = 8;
const CLIENTS: usize = 100;

/// Sends a request and leaves its answer to be read.
fn ask(engine: &Engine, method: &str, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.folder().join("wharf.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = "HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{method} {path} {head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

/// Sends a request whose answer has to begin with `status`; returns all of the answer.
fn answer(engine: &Engine, method: &str, path: &str, body: &str, status: u16) -> String {
    let mut text = String::new();
    ask(engine, method, path, body).read_to_string(&mut text).unwrap();
    assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {text}");
    text
}

/// Does `work` for each of `count`, eight at a time.
fn each(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let take = || next.fetch_add(1, Ordering::Relaxed);
                std::iter::repeat_with(take).take_while(|index| *index < count).for_each(&work);
            });
        }
    });
}

/// Reads until `text` has come.
fn await_text(stream: &mut UnixStream, text: &str) {
    let mut seen = Vec::new();
    let mut block = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let length = stream.read(&mut block).unwrap();
        assert!(length > 0, "the stream ended before {text}");
        seen.extend_from_slice(block.get(..length).unwrap_or_default());
    }
}

fn report(what: &str, since: Instant) {
    let line = format!("{what}: {} ms\n", since.elapsed().as_millis());
    drop(std::io::stderr().write_all(line.as_bytes()));
}

#[test]
fn many_containers_and_many_clients() {
    let count: usize = std::env::var("WHARF_SCALE").map_or(40, |text| text.parse().unwrap());
    let mut engine = Engine::with_busybox();
    let start = Instant::now();
    each(count, |index| {
        let body = r#"{"Image":"busybox","Cmd":["sleep","100000"]}"#;
        answer(&engine, "POST", &format!("/containers/create?name=c{index}"), body, 201);
        answer(&engine, "POST", &format!("/containers/c{index}/start"), "", 204);
    });
    report(&format!("{count} containers started, {AT_ONCE} at a time"), start);
    let running = |engine: &Engine| {
        let start = Instant::now();
        let list = answer(engine, "GET", "/containers/json", "", 200);
        report("list", start);
        list.matches("\"State\":\"running\"").count()
    };
    assert_eq!(running(&engine), count);

    let mut events: Vec<_> = (0..CLIENTS).map(|_| ask(&engine, "GET", "/events", "")).collect();
    let mut stats: Vec<_> =
        (0..count).map(|index| ask(&engine, "GET", &format!("/containers/c{index}/stats"), "")).collect();
    for stream in &mut events {
        await_text(stream, "\r\n\r\n");
    }
    for (index, stream) in stats.iter_mut().enumerate() {
        await_text(stream, &format!("\"name\":\"/c{index}\""));
    }
    assert_eq!(running(&engine), count);
    let start = Instant::now();
    answer(&engine, "POST", "/containers/c0/rename?name=first", "", 204);
    for stream in &mut events {
        await_text(stream, "\"rename\"");
    }
    report(&format!("an event at {CLIENTS} clients"), start);
    drop((events, stats));

    engine.kill_daemon();
    let start = Instant::now();
    engine.start_daemon();
    answer(&engine, "GET", "/_ping", "", 200);
    report("first answer after a restart", start);
    until("all to be found again", Duration::from_secs(20), || (running(&engine) == count).then_some(()));
    let start = Instant::now();
    answer(&engine, "POST", "/containers/first/rename?name=c0", "", 204);
    each(count, |index| drop(answer(&engine, "DELETE", &format!("/containers/c{index}?force=1"), "", 204)));
    report("all removed", start);
    assert_eq!(running(&engine), 0);
}
