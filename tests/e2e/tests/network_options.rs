//! Keys of daemon.json and options of networks that say how containers are reached, from outside and by which addresses.
#![expect(clippy::unwrap_used, reason = "test code: a failed set-up ends the test")]

use std::time::Duration;
use testkit::{Engine, Namespaces, until};

const PATIENCE: Duration = Duration::from_secs(10);

fn serve(engine: &Engine, name: &str, flags: &[&str]) {
    let script = "echo hello > /index.html; httpd -p 81 -h /; exec httpd -f -p 80 -h /";
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", script]].concat()).ok();
}

/// Another host, which sends what is for the containers' subnets to the engine's.
fn outside(engine: &Engine, routes: &[&str]) -> Namespaces {
    let outside = engine.namespaces().neighbour();
    let ip = |namespaces: &Namespaces, arguments: &str| {
        let status = namespaces.command("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    };
    ip(&outside, "addr add fd99::1/64 dev uplink0 nodad");
    ip(engine.namespaces(), "addr add fd99::2/64 dev eth0 nodad");
    for route in routes {
        let via = if route.contains(':') { "fd99::2" } else { "10.99.0.2" };
        ip(&outside, &format!("route add {route} via {via}"));
    }
    outside
}

fn get(from: &Namespaces, url: &str) -> bool {
    let output = from.command("curl").args(["-s", "-g", "-m", "1", url]).output().unwrap();
    output.stdout == b"hello\n"
}

fn reached(from: &Namespaces, url: &str) {
    until(url, PATIENCE, || get(from, url).then_some(()));
}

#[test]
fn gateway_modes() {
    let engine = Engine::with_busybox();
    let outside = outside(&engine, &["10.50.0.0/16", "fd50::/48"]);
    let create = |name: &str, four: &str, six: &str, third: u8| {
        let (subnet4, subnet6) = (format!("10.50.{third}.0/24"), format!("fd50:0:0:{third}::/64"));
        let mode4 = format!("com.docker.network.bridge.gateway_mode_ipv4={four}");
        let mode6 = format!("com.docker.network.bridge.gateway_mode_ipv6={six}");
        let flags = [
            "network", "create", "--ipv6", "--subnet", &subnet4, "--subnet", &subnet6, "-o", &mode4, "-o",
            &mode6, name,
        ];
        engine.wharf(&flags).ok();
        serve(&engine, &format!("web-{name}"), &["--network", name, "-p", &format!("80{third}:80")]);
    };
    create("plain", "nat", "nat", 10);
    create("routed", "nat", "routed", 11);
    create("open", "nat-unprotected", "nat-unprotected", 12);
    // Published ports of the host lead to all but those that are routed.
    for url in [
        "http://10.99.0.2:8010/",
        "http://[fd99::2]:8010/",
        "http://10.99.0.2:8011/",
        "http://[fd99::2]:8012/",
    ] {
        reached(&outside, url);
    }
    reached(&outside, "http://[fd50:0:0:11::2]/");
    reached(&outside, "http://10.50.12.2:81/");
    reached(&outside, "http://[fd50:0:0:12::2]:81/");
    for url in [
        "http://10.50.10.2/",
        "http://[fd50:0:0:10::2]/",
        "http://[fd50:0:0:11::2]:81/",
        "http://10.50.11.2/",
        "http://[fd99::2]:8011/",
    ] {
        assert!(!get(&outside, url), "{url}");
    }
    // Routed addresses are their own outside, too.
    let rules = engine.run("nft", &["list", "chain", "inet", "wharf", "postrouting"]).ok();
    assert!(rules.contains("10.50.11.0/24") && !rules.contains("fd50:0:0:b::"), "{rules}");
    for (mode, words) in
        [("odd", "unknown gateway mode odd"), ("isolated", "can only be used for an internal network")]
    {
        let option = format!("com.docker.network.bridge.gateway_mode_ipv4={mode}");
        let refused = engine.wharf(&["network", "create", "-o", &option, "wrong"]);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    let isolated = [
        "--internal",
        "-o",
        "com.docker.network.bridge.gateway_mode_ipv4=isolated",
        "-o",
        "com.docker.network.bridge.name=iso0",
    ];
    engine.wharf(&[&["network", "create"], &isolated[..], &["alone"]].concat()).ok();
    let address = engine.run("ip", &["-4", "-o", "addr", "show", "iso0"]).stdout;
    assert_eq!(address, "", "the host has no address there");
}

#[test]
fn published_ports_by_the_containers_addresses_or_behind_the_hosts_rules() {
    let mut engine = Engine::start_with(&[
        "--allow-direct-routing",
        "--default-network-opt",
        "bridge=com.docker.network.driver.mtu=1300",
    ]);
    engine.load_busybox("busybox:latest");
    let outside = outside(&engine, &["172.17.0.0/16"]);
    serve(&engine, "web", &["-p", "8080:80", "-p", "127.0.0.1:8081:81"]);
    reached(&outside, "http://10.99.0.2:8080/");
    reached(&outside, "http://172.17.0.2/");
    assert!(!get(&outside, "http://172.17.0.2:81/"), "published on loopback alone");
    engine.wharf(&["network", "create", "net"]).ok();
    let mtu = ["run", "--rm", "--network", "net", "busybox", "cat", "/sys/class/net/eth0/mtu"];
    assert_eq!(engine.wharf(&mtu).line(), "1300");
    engine.wharf(&["rm", "-f", "web"]).ok();
    engine.stop_daemon();
    // What the host does not let in reaches no published port.
    engine.replace_flags(&["--ports-through-input"]);
    engine.start_daemon();
    serve(&engine, "web", &["-p", "8080:80"]);
    reached(&outside, "http://10.99.0.2:8080/");
    let rules = "add table inet mine; add chain inet mine input { type filter hook input priority 0; }; add rule inet mine input iifname eth0 tcp dport 8080 drop";
    engine.run("nft", &[rules]).ok();
    assert!(!get(&outside, "http://10.99.0.2:8080/"));
    reached(engine.namespaces(), "http://127.0.0.1:8080/");
}

#[test]
fn the_default_bridge_with_ipv6_and_networks_with_nothing_else() {
    let engine = Engine::start_with(&["--ipv6", "--fixed-cidr-v6", "fd60::/64"]);
    engine.load_busybox("busybox:latest");
    let outside = outside(&engine, &[]);
    serve(&engine, "web", &["-p", "8080:80"]);
    let six = engine.wharf(&["inspect", "-f", "{{.NetworkSettings.GlobalIPv6Address}}", "web"]).line();
    assert_eq!(six, "fd60::2");
    reached(engine.namespaces(), "http://[fd60::2]/");
    reached(&outside, "http://[fd99::2]:8080/");
    let routes = engine.wharf(&["exec", "web", "ip", "-6", "route"]).ok();
    assert!(routes.contains("default via fd60::1"), "{routes}");
    // IPv6 alone.
    engine.wharf(&["network", "create", "--ipv6", "--ipv4=false", "--subnet", "fd61::/64", "six"]).ok();
    serve(&engine, "only", &["--network", "six", "-p", "8081:80"]);
    assert_eq!(engine.wharf(&["exec", "only", "ip", "-4", "-o", "addr", "show", "eth0"]).ok(), "");
    reached(&outside, "http://[fd99::2]:8081/");
    reached(engine.namespaces(), "http://[::1]:8081/");
    assert_eq!(engine.wharf(&["port", "only"]).ok(), "80/tcp -> [::]:8081\n");
    let shown = engine.wharf(&["network", "inspect", "-f", "{{.EnableIPv4}} {{.EnableIPv6}}", "six"]).line();
    assert_eq!(shown, "false true");
    let neither = engine.wharf(&["network", "create", "--ipv4=false", "none-at-all"]);
    assert!(neither.stderr.contains("IPv4 or IPv6 must be enabled"), "{}", neither.stderr);
}

#[test]
fn packets_with_a_mark_reach_containers() {
    let engine = Engine::start_with(&["--bridge-accept-fwmark", "0x1/0x3", "--ip-forward-no-drop"]);
    engine.load_busybox("busybox:latest");
    let outside = outside(&engine, &["172.16.0.0/12"]);
    serve(&engine, "web", &[]);
    engine.wharf(&["network", "create", "--internal", "--subnet", "172.30.0.0/24", "shut"]).ok();
    serve(&engine, "inner", &["--network", "shut"]);
    reached(engine.namespaces(), "http://172.17.0.2/");
    assert!(!get(&outside, "http://172.17.0.2/"));
    let mark = "add table ip mine; add chain ip mine in { type filter hook prerouting priority -150; }; add rule ip mine in iifname eth0 meta mark set 0x5";
    engine.run("nft", &[mark]).ok();
    reached(&outside, "http://172.17.0.2/");
    assert!(!get(&outside, "http://172.30.0.2/"), "an internal network");
}
