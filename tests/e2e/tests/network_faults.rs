//! A daemon that dies in the middle of connecting, disconnecting and publishing; and many of these in a row.

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

#[test]
fn many_cycles_leave_nothing() {
    let engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "net"]).ok();
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let before = (interfaces(&engine), engine.run("nft", &["-s", "list", "ruleset"]).ok());
    for _ in 0..20 {
        engine.wharf(&["network", "connect", "net", "box"]).ok();
        engine.wharf(&["network", "disconnect", "net", "box"]).ok();
    }
    assert_eq!((interfaces(&engine), engine.run("nft", &["-s", "list", "ruleset"]).ok()), before);
    assert_eq!(engine.wharf(&["network", "rm", "net"]).code, 0);
}
