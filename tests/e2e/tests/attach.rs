//! Attaching: websockets, several clients, detach keys, half-closed and once-only input.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;
use testkit::{Engine, until};

/// Connects to the daemon, sends a request's head and returns the answer's, ended by its empty line.
fn request(engine: &Engine, head: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(engine.folder().join("wharf.sock")).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time limit");
    stream.write_all(head.as_bytes()).expect("send");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).expect("text"))
}

fn upgrade(engine: &Engine, path: &str) -> UnixStream {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    let (stream, answer) = request(engine, &head);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream
}

/// A frame as clients send them.
fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
    let mask = [9_u8, 8, 7, 6];
    let masked = text.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
    let length = u8::try_from(text.len()).expect("a short frame");
    [0x80 | kind, 0x80 | length].into_iter().chain(mask).chain(masked).collect()
}

fn received(stream: &mut UnixStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let length = stream.read(&mut buffer).expect("output");
        assert_ne!(length, 0, "the end before {text:?}: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn over_a_websocket() {
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "-i", "--name", "box", "busybox", "cat"]).ok();
    let path = "/v1.45/containers/box/attach/ws?stream=1&stdin=1&stdout=1";
    let (mut stream, answer) = request(
        &engine,
        &format!(
            "GET {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    stream.write_all(&frame(1, b"hello\n")).expect("send");
    assert_eq!(
        received(&mut stream, "hello\n"),
        "\u{fffd}\u{6}hello\n",
        "a binary frame, and no frame of Docker's in it"
    );
    stream.write_all(&frame(2, b"again\n")).expect("send");
    received(&mut stream, "again\n");
    // The container's end closes the socket.
    engine.wharf(&["kill", "box"]).ok();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert!(rest.ends_with(b"\x88\x02\x03\xe8"), "{rest:?}");
    let (_, refused) = request(&engine, &format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n"));
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    let (_, absent) = request(&engine, "GET /containers/nosuch/attach/ws HTTP/1.1\r\nHost: d\r\n\r\n");
    assert!(absent.starts_with("HTTP/1.1 404"), "{absent}");
}

#[test]
fn several_clients_get_everything_and_input_ends_once() {
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", "cat; echo the end"]).ok();
    let path = "/containers/box/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let mut one = upgrade(&engine, path);
    let mut two = upgrade(&engine, path);
    // Whoever gets back what it sent is there; the answer alone does not say so.
    one.write_all(b"from one\n").expect("send");
    received(&mut one, "from one\n");
    two.write_all(b"from two\n").expect("send");
    for client in [&mut two, &mut one] {
        received(client, "from two\n");
    }
    one.write_all(b"to both\n").expect("send");
    for client in [&mut one, &mut two] {
        received(client, "to both\n");
    }
    // One that is gone harms nobody, and without `StdinOnce` its end is not the end of input.
    drop(two);
    one.write_all(b"still there\n").expect("send");
    received(&mut one, "still there\n");
    engine.wharf(&["kill", "box"]).ok();

    // `docker run -i` sets `StdinOnce`: the client's half-close ends the input, and output goes on to its end.
    let mut child = engine.wharf_command();
    child.args(["run", "-i", "--rm", "busybox", "sh", "-c", "cat; sleep 0.3; echo the end"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
    child.stdin.take().expect("a pipe").write_all(b"typed\n").expect("type");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\nthe end\n");
}

#[test]
fn a_half_closed_connection_still_gets_output() {
    let engine = Engine::with_busybox();
    let config = r#"{"Image":"busybox","Cmd":["sh","-c","cat; echo the end"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true}"#;
    let (_, answer) = request(
        &engine,
        &format!(
            "POST /containers/create?name=box HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{config}",
            config.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let mut stream = upgrade(&engine, "/containers/box/attach?stream=1&stdin=1&stdout=1");
    engine.wharf(&["start", "box"]).ok();
    stream.write_all(b"typed\n").expect("send");
    stream.shutdown(Shutdown::Write).expect("half-close");
    let all = received(&mut stream, "the end\n");
    assert!(all.contains("typed\n"), "{all}");
    assert_eq!(engine.wharf(&["wait", "box"]).line(), "0");
}

#[test]
fn keys_detach_and_the_container_goes_on() {
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-dit", "--name", "box", "busybox", "sh"]).ok();
    let mut stream = upgrade(&engine, "/containers/box/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x");
    stream.write_all(b"echo $((40+2))\n").expect("type");
    received(&mut stream, "42\r\n");
    stream.write_all(b"\x01x").expect("type");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end of the connection");
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.Running}}", "box"]).line(), "true");
    let refused = request(
        &engine,
        "POST /containers/box/attach?stream=1&detachKeys=ctrl-1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(refused.1.starts_with("HTTP/1.1 400"), "{}", refused.1);
    engine.wharf(&["kill", "box"]).ok();
}

#[test]
fn the_past_can_be_asked_for() {
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", "echo early; sleep 1000"]).ok();
    until("the line", Duration::from_secs(10), || {
        (engine.wharf(&["logs", "box"]).stdout == "early\n").then_some(())
    });
    let mut stream = upgrade(&engine, "/containers/box/attach?logs=1&stdout=1");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the end");
    assert_eq!(all, b"\x01\0\0\0\0\0\0\x06early\n");
}
