//! Containers of two hosts, and those on links of the host: overlay, macvlan, ipvlan, routes between bridges.

use std::time::Duration;
use testkit::{Engine, until};

const PATIENCE: Duration = Duration::from_secs(10);
const FIRST: &str = "10.99.0.2";
const SECOND: &str = "10.99.0.3";

/// Two engines on hosts that share a link: 10.99.0.2 on `eth0` and 10.99.0.3 on `lan0`.
fn two_hosts(first: &[&str], second: &[&str]) -> (Engine, Engine) {
    let (one, other) = (Engine::start_with(first), Engine::start_with(second));
    let ip = |engine: &Engine, arguments: &str| {
        engine.run("ip", &arguments.split(' ').collect::<Vec<_>>()).ok();
    };
    ip(&other, "link del eth0");
    ip(&one, &format!("link set uplink0 netns {} name lan0", other.namespaces().pid()));
    ip(&other, &format!("addr add {SECOND}/24 dev lan0"));
    ip(&other, "link set lan0 up");
    for engine in [&one, &other] {
        engine.load_busybox("busybox:latest");
    }
    (one, other)
}

fn run(engine: &Engine, name: &str, flags: &[&str]) {
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat()).ok();
}

/// Whether one ping is answered.
fn reaches(engine: &Engine, container: &str, target: &str) -> bool {
    engine.wharf(&["exec", container, "ping", "-c", "1", "-W", "1", target]).code == 0
}

fn create(engine: &Engine, driver: &str, flags: &[&str], name: &str) -> testkit::Output {
    engine.wharf(&[&["network", "create", "-d", driver], flags, &[name]].concat())
}

#[test]
fn an_overlay_of_known_hosts() {
    let (one, other) = two_hosts(&[], &[]);
    let net = |engine: &Engine, range: &str, peer: &str| {
        let peers = format!("peers={peer}");
        let flags = ["--subnet", "10.20.0.0/16", "--ip-range", range, "-o", &peers, "-o", "vxlanid=4100"];
        create(engine, "overlay", &flags, "far").ok();
    };
    net(&one, "10.20.1.0/24", SECOND);
    net(&other, "10.20.2.0/24", FIRST);
    run(&one, "ca", &["--network", "far"]);
    run(&other, "cb", &["--network", "far"]);
    let address = |engine: &Engine, name: &str| {
        engine.wharf(&["inspect", "-f", "{{.NetworkSettings.Networks.far.IPAddress}}", name]).line()
    };
    assert_eq!((address(&one, "ca"), address(&other, "cb")), ("10.20.1.0".into(), "10.20.2.0".into()));
    until("the other host's container", PATIENCE, || reaches(&one, "ca", "10.20.2.0").then_some(()));
    assert!(reaches(&other, "cb", "10.20.1.0"));
    // What does not fit is fragmented by nobody: the network's own packets are smaller.
    assert!(one.wharf(&["exec", "ca", "ip", "link", "show", "eth0"]).ok().contains("mtu 1450"));
    assert_eq!(one.wharf(&["exec", "ca", "ping", "-c", "1", "-W", "1", "-s", "20000", "10.20.2.0"]).code, 0);
    // A host that is said not to belong to it hears nothing, and the daemon's death changes nothing.
    let refused = create(&one, "overlay", &["-o", "encrypted="], "secret");
    assert!(refused.stderr.contains("encrypted overlay networks are not supported"), "{}", refused.stderr);
    let refused = create(&one, "overlay", &["-o", "vxlanid=4100"], "twice");
    assert!(refused.stderr.contains("create tunnel"), "{}", refused.stderr);
    assert_eq!(one.wharf(&["network", "ls", "-q", "-f", "name=twice"]).line(), "", "nothing is left");
    one.wharf(&["rm", "-f", "ca"]).ok();
    one.wharf(&["network", "rm", "far"]).ok();
    let links = one.namespaces().links();
    assert!(!links.iter().any(|link| link.starts_with("vx-") || link.starts_with("br-")), "{links:?}");
}

#[test]
fn macvlan_on_a_link_that_hosts_share() {
    let (one, other) = two_hosts(&[], &[]);
    let net = |engine: &Engine, parent: &str, range: &str| {
        let parent = format!("parent={parent}");
        let flags =
            ["--subnet", "10.30.0.0/24", "--gateway", "10.30.0.254", "--ip-range", range, "-o", &parent];
        create(engine, "macvlan", &flags, "lan").ok();
    };
    net(&one, "eth0", "10.30.0.0/26");
    net(&other, "lan0", "10.30.0.64/26");
    run(&one, "ca", &["--network", "lan", "--ip", "10.30.0.5"]);
    run(&other, "cb", &["--network", "lan", "--ip", "10.30.0.70"]);
    run(&other, "cc", &["--network", "lan"]);
    until("the other host's container", PATIENCE, || reaches(&one, "ca", "10.30.0.70").then_some(()));
    assert!(reaches(&other, "cb", "10.30.0.5"));
    assert!(reaches(&other, "cb", "cc.lan") || reaches(&other, "cb", "10.30.0.65"), "on the same host");
    let routes = one.wharf(&["exec", "ca", "ip", "route"]).ok();
    assert!(routes.contains("default via 10.30.0.254 dev eth0"), "{routes}");
    let kind = one.wharf(&["network", "inspect", "-f", "{{.Driver}} {{.Options.parent}}", "lan"]).line();
    assert_eq!(kind, "macvlan eth0");
    one.wharf(&["rm", "-f", "ca"]).ok();
    one.wharf(&["network", "rm", "lan"]).ok();
    assert!(one.namespaces().links().contains(&"eth0".to_owned()), "the host's link stays");
}

#[test]
fn modes_of_macvlan() {
    let engine = Engine::with_busybox();
    for (mode, meet) in [("bridge", true), ("private", false), ("vepa", false)] {
        let option = format!("macvlan_mode={mode}");
        let name = format!("mode-{mode}");
        create(&engine, "macvlan", &["--subnet", "10.31.0.0/24", "-o", "parent=eth0", "-o", &option], &name)
            .ok();
        run(&engine, "ca", &["--network", &name, "--ip", "10.31.0.5"]);
        run(&engine, "cb", &["--network", &name, "--ip", "10.31.0.6"]);
        assert_eq!(reaches(&engine, "ca", "10.31.0.6"), meet, "{mode}");
        engine.wharf(&["rm", "-f", "ca", "cb"]).ok();
        engine.wharf(&["network", "rm", &name]).ok();
    }
    // One device takes over its parent, with its hardware address.
    engine.run("ip", &["link", "add", "p0", "type", "veth", "peer", "name", "p1"]).ok();
    let whole = ["--subnet", "10.32.0.0/24", "-o", "parent=p0", "-o", "macvlan_mode=passthru"];
    create(&engine, "macvlan", &whole, "whole").ok();
    let second = create(&engine, "macvlan", &["--subnet", "10.33.0.0/24", "-o", "parent=p0"], "more");
    assert!(second.stderr.contains("is already using parent interface p0"), "{}", second.stderr);
    run(&engine, "all", &["--network", "whole"]);
    let own = engine.run("cat", &["/sys/class/net/p0/address"]);
    let shown =
        engine.wharf(&["inspect", "-f", "{{.NetworkSettings.Networks.whole.MacAddress}}", "all"]).line();
    let inside = engine.wharf(&["exec", "all", "ip", "link", "show", "eth0"]).ok();
    assert!(inside.contains(&shown), "{shown} in {inside}, parent {own:?}");
    // Without a parent containers see each other alone.
    create(&engine, "macvlan", &["--subnet", "10.34.0.0/24"], "inner").ok();
    run(&engine, "cx", &["--network", "inner"]);
    run(&engine, "cy", &["--network", "inner"]);
    until("the neighbour", PATIENCE, || reaches(&engine, "cx", "cy").then_some(()));
    assert!(!engine.wharf(&["exec", "cx", "ip", "route"]).ok().contains("default"));
    engine.wharf(&["rm", "-f", "cx", "cy", "all"]).ok();
    engine.wharf(&["network", "rm", "inner", "whole"]).ok();
    let links = engine.namespaces().links();
    assert!(!links.iter().any(|link| link.starts_with("dm-")), "{links:?}");
    for (option, words) in [
        ("macvlan_mode=odd", "requested macvlan mode 'odd' is not valid"),
        ("parent=nosuch0", "link nosuch0 not found"),
        ("parent=lo", "loopback interface is not a valid macvlan parent link"),
    ] {
        let refused = create(&engine, "macvlan", &["-o", option], "wrong");
        assert!(refused.stderr.contains(words), "{option}: {}", refused.stderr);
    }
}

#[test]
fn containers_of_two_hosts_over_routed_bridges() {
    let flags = |bridge: &'static str| ["--bip", bridge, "--ip-masq=false"];
    let (one, other) = two_hosts(&flags("192.168.4.1/24"), &flags("192.168.5.1/24"));
    let follow = |engine: &Engine, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        engine.run(words[0], &words[1..]).ok()
    };
    follow(&one, &format!("ip route add 192.168.5.0/24 via {SECOND}"));
    follow(&other, &format!("ip route add 192.168.4.0/24 via {FIRST}"));
    run(&one, "ca", &[]);
    other.wharf(&["run", "-d", "--name", "cb", "busybox", "httpd", "-f", "-vv", "-p", "80"]).ok();
    assert!(!reaches(&one, "ca", "192.168.5.2"), "only what is let in is reached from another host");
    let let_in = |engine: &Engine, from: &str, to: &str| {
        follow(engine, &format!("nft add rule inet wharf wharf-user ip saddr {from} ip daddr {to} accept"));
    };
    let_in(&one, "192.168.5.0/24", "192.168.4.0/24");
    let_in(&other, "192.168.4.0/24", "192.168.5.0/24");
    until("the other host's container", PATIENCE, || reaches(&one, "ca", "192.168.5.2").then_some(()));
    assert!(reaches(&other, "cb", "192.168.4.2"));
    // They see each other under their own addresses.
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 192.168.5.2 80";
    until("the page", PATIENCE, || {
        one.wharf(&["exec", "ca", "sh", "-c", ask]).stdout.contains("404").then_some(())
    });
    let log = other.wharf(&["logs", "cb"]);
    assert!(log.stderr.contains("192.168.4.2"), "{log:?}");
}

/// Whether this kernel has links of a kind.
fn has_kind(engine: &Engine, arguments: &[&str]) -> bool {
    engine.run("ip", arguments).code == 0
}

#[test]
fn vlans_and_ipvlan_where_the_kernel_has_them() {
    let engine = Engine::with_busybox();
    let vlan = create(&engine, "macvlan", &["--subnet", "10.35.0.0/24", "-o", "parent=eth0.10"], "tagged");
    if has_kind(&engine, &["link", "add", "link", "eth0", "name", "v11", "type", "vlan", "id", "11"]) {
        vlan.ok();
        assert!(engine.namespaces().links().contains(&"eth0.10".to_owned()));
        run(&engine, "ct", &["--network", "tagged"]);
        engine.wharf(&["rm", "-f", "ct"]).ok();
        engine.wharf(&["network", "rm", "tagged"]).ok();
        assert!(!engine.namespaces().links().contains(&"eth0.10".to_owned()));
    } else {
        assert!(vlan.stderr.contains("the kernel has no vlan devices"), "{}", vlan.stderr);
    }
    let flags = ["--subnet", "10.36.0.0/24", "-o", "parent=eth0"];
    let ipvlan = create(&engine, "ipvlan", &flags, "shared");
    if has_kind(&engine, &["link", "add", "link", "eth0", "name", "i0", "type", "ipvlan"]) {
        ipvlan.ok();
        run(&engine, "ca", &["--network", "shared"]);
        run(&engine, "cb", &["--network", "shared"]);
        until("the neighbour", PATIENCE, || reaches(&engine, "ca", "cb").then_some(()));
    } else {
        assert!(ipvlan.stderr.contains("the kernel has no ipvlan devices"), "{}", ipvlan.stderr);
    }
}
