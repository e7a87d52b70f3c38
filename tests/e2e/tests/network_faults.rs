//! A daemon that dies in the middle of connecting, disconnecting and publishing; and many of these in a row.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use testkit::Engine;

/// Another engine's interface, by a name as ours are.
const FOREIGN: &str = "veth0a1b2c3";

fn interfaces(engine: &Engine) -> Vec<String> {
    let mut links: Vec<String> =
        engine.namespaces().links().into_iter().filter(|link| link.starts_with("veth")).collect();
    links.retain(|link| link != FOREIGN);
    links.sort();
    links
}

#[test]
fn nothing_stays_half_connected() {
    let mut engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "net"]).ok();
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    engine.run("ip", &["link", "add", FOREIGN, "type", "veth", "peer", "name", "far"]).ok();
    engine.run("ip", &["link", "set", FOREIGN, "master", "docker0"]).ok();
    let connect = ["network", "connect", "net", "box"];
    let disconnect = ["network", "disconnect", "net", "box"];
    let publish = ["update", "--publish-add", "8080:80", "box"];
    for (point, command) in [
        ("network.connect.record", connect),
        ("network.connect.gateway", connect),
        ("network.disconnect.record", disconnect),
    ] {
        let connected = |engine: &Engine| {
            let networks = engine.wharf(&["inspect", "-f", "{{.NetworkSettings.Networks}}", "box"]).line();
            networks.contains("net:")
        };
        if command == disconnect && !connected(&engine) {
            engine.wharf(&connect).ok();
        }
        engine.doom_daemon(point);
        assert_ne!(engine.wharf(&command).code, 0, "{point}: the daemon has died");
        engine.replace_dead_daemon();
        let is_there = engine.wharf(&["exec", "box", "ip", "link", "show", "eth1"]).code == 0;
        assert_eq!(is_there, connected(&engine), "{point}: half connected");
        assert_eq!(interfaces(&engine).len(), if is_there { 2 } else { 1 }, "{point}");
        // Whatever it is, it can be changed.
        engine.wharf(if is_there { &disconnect } else { &connect }).ok();
        engine.wharf(if is_there { &connect } else { &disconnect }).ok();
    }
    engine.doom_daemon("network.publish.tell");
    assert_ne!(engine.wharf(&publish).code, 0, "the daemon has died");
    engine.replace_dead_daemon();
    assert_eq!(engine.wharf(&["port", "box"]).ok(), "");
    let rules = engine.run("nft", &["list", "map", "inet", "wharf", "ports4-any"]).ok();
    assert!(!rules.contains("8080"), "{rules}");
    engine.wharf(&publish).ok();
    assert!(
        engine.namespaces().links().iter().any(|link| link == FOREIGN),
        "another engine's interface is gone"
    );
}

/// The kernel's objects of the engine's namespaces that connecting makes.
fn objects(engine: &Engine) -> Vec<(String, usize)> {
    let lines = |output: testkit::Output| output.ok().lines().count();
    let count = |program: &str, arguments: &str| {
        lines(engine.run(program, &arguments.split(' ').collect::<Vec<_>>()))
    };
    let inside = |arguments: &str| {
        let command = [&["exec", "box", "ip"], arguments.split(' ').collect::<Vec<_>>().as_slice()].concat();
        lines(engine.wharf(&command))
    };
    [
        ("interfaces", count("ip", "-o link")),
        ("addresses", count("ip", "-o addr")),
        // Those of IPv6 come and go with the kernel's own proofs that addresses are unique.
        ("routes", count("ip", "-4 route show table all")),
        ("forwarding entries", count("bridge", "fdb show")),
        ("rules and elements", count("nft", "-s list ruleset")),
        ("interfaces inside", inside("-o link")),
        ("routes inside", inside("route")),
    ]
    .map(|(name, number)| (name.to_owned(), number))
    .into()
}

/// How many files the engine's processes hold open.
fn open_files(engine: &Engine) -> usize {
    engine
        .namespaces()
        .processes()
        .iter()
        .filter_map(|process| std::fs::read_dir(format!("/proc/{process}/fd")).ok())
        .map(Iterator::count)
        .sum()
}

/// How many cycles: as many as fit in some seconds, or `WHARF_TEST_CYCLES`.
fn cycles() -> usize {
    std::env::var("WHARF_TEST_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[test]
fn many_cycles_leave_nothing() {
    let engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "net"]).ok();
    engine.wharf(&["run", "-d", "--name", "box", "-p", "8080:80", "busybox", "sleep", "1000"]).ok();
    let post = |path: &str, body: &str| {
        let mut stream = UnixStream::connect(engine.folder().join("wharf.sock")).expect("connect");
        let length = body.len();
        let head = "Host: wharf\r\nConnection: close\r\nContent-Type: application/json";
        write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    };
    let cycle = || {
        post("/networks/net/connect", r#"{"Container": "box"}"#);
        post("/networks/net/disconnect", r#"{"Container": "box"}"#);
    };
    // What is made once and kept.
    (0..5).for_each(|_| cycle());
    let (before, open) = ((interfaces(&engine), objects(&engine)), open_files(&engine));
    let (count, begin) = (cycles(), Instant::now());
    (0..count).for_each(|_| cycle());
    let (after, seconds) = ((interfaces(&engine), objects(&engine)), begin.elapsed().as_secs_f64());
    println!("{count} cycles in {seconds:.1} s: {:?}, {open} and {} files", after.1, open_files(&engine));
    assert_eq!(after, before);
    // Some of the daemon's own come and go.
    assert!(open_files(&engine) < open + 10, "{open} and {} files", open_files(&engine));
    assert_eq!(engine.wharf(&["network", "rm", "net"]).code, 0);
}
