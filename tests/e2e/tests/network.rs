//! The default bridge, published ports, and who reaches whom.

use e2e::both;
use std::time::Duration;
use testkit::{Engine, until};

#[test]
fn containers_reach_each_other_and_ports_are_published() {
    let engine = Engine::with_busybox();
    let serve = "echo hello > /index.html; exec httpd -f -p 80 -h /";
    engine
        .wharf(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:80",
            "-p",
            "127.0.0.1:8081:80",
            "busybox",
            "sh",
            "-c",
            serve,
        ])
        .ok();
    let address = engine.wharf(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).line();
    let get = |url: &str| engine.run("curl", &["-s", "-m", "2", url]).stdout;
    until("the server", Duration::from_secs(10), || {
        (get(&format!("http://{address}/")) == "hello\n").then_some(())
    });
    assert_eq!(get("http://127.0.0.1:8080/"), "hello\n");
    assert_eq!(get("http://10.99.0.2:8080/"), "hello\n");
    assert_eq!(get("http://127.0.0.1:8081/"), "hello\n");
    assert_eq!(get("http://10.99.0.2:8081/"), "", "bound to loopback alone");
    // Not wget: a static one looks names up with libraries that the image does not have.
    let fetch = |host: &str, port: &str| {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port} | tail -n 1");
        engine.wharf(&["run", "--rm", "busybox", "sh", "-c", &script]).stdout
    };
    assert_eq!(fetch(&address, "80"), "hello\n");
    assert_eq!(fetch("10.99.0.2", "8080"), "hello\n", "from a sibling by the host's address");
    assert_eq!(both(&engine, &["port", "web", "80"]).stdout, "0.0.0.0:8080\n127.0.0.1:8081\n[::]:8080\n");
    let taken = engine.wharf(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert_eq!(taken.code, 125);
    assert!(
        taken.stderr.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"),
        "{}",
        taken.stderr
    );
    engine.wharf(&["rm", "-f", "web"]).ok();
    assert_eq!(get("http://127.0.0.1:8080/"), "");
}

#[test]
fn modes() {
    let engine = Engine::with_busybox();
    let links = |flags: &[&str]| {
        both(&engine, &[&["run", "--rm"], flags, &["busybox", "ls", "/sys/class/net"]].concat()).stdout
    };
    assert_eq!(links(&[]), "eth0\nlo\n");
    assert_eq!(links(&["--network", "none"]), "lo\n");
    // sysfs shows the network namespace of whoever mounted it, so the host's devices are asked for by netlink.
    let devices = engine.wharf(&["run", "--rm", "--network", "host", "busybox", "ip", "link"]);
    assert!(devices.stdout.contains("docker0"), "{}", devices.stdout);
    engine.wharf(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    let address = |name: &str| engine.wharf(&["exec", name, "ip", "addr", "show", "eth0"]).line();
    engine
        .wharf(&["run", "-d", "--name", "two", "--network", "container:one", "busybox", "sleep", "1000"])
        .ok();
    assert_eq!(address("one"), address("two"));
    let hosts = engine.wharf(&["exec", "one", "cat", "/etc/hosts"]).ok();
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"), "{hosts}");
}

#[test]
fn networks_of_a_configuration() {
    let engine = Engine::with_busybox();
    let create =
        |flags: &[&str], name: &str| both(&engine, &[&["network", "create"], flags, &[name]].concat());
    let subnet = ["--config-only", "--subnet", "10.77.0.0/24", "--label", "a=b", "-o"];
    let mtu = "com.docker.network.driver.mtu=1400";
    engine.wharf(&[&["network", "create"], &subnet[..], &[mtu, "cfg"]].concat()).ok();
    let shown = |name: &str| {
        let format = "{{.Driver}} {{.ConfigOnly}} {{.ConfigFrom.Network}} {{(index .IPAM.Config 0).Subnet}} {{.Labels}}";
        both(&engine, &["network", "inspect", "-f", format, name]).line()
    };
    assert_eq!(shown("cfg"), "null true  10.77.0.0/24 map[a:b]");
    for (flags, words) in [
        (
            &["--config-only", "--internal"][..],
            "configuration network can only contain network specific fields",
        ),
        (&["--config-only", "--config-from", "cfg"], "a configuration network cannot depend on another"),
        (&["--config-from", "nosuch"], "configuration network \"nosuch\" does not exist"),
        (
            &["--config-from", "cfg", "--subnet", "10.78.0.0/24"],
            "user specified configurations are not supported",
        ),
        (&["--config-from", "cfg", "-o", "a=b"], "network driver options are not supported"),
    ] {
        let refused = create(flags, "wrong");
        assert!(refused.stderr.contains(words), "{flags:?}: {}", refused.stderr);
    }
    engine.wharf(&["network", "create", "--config-from", "cfg", "net"]).ok();
    assert_eq!(shown("net"), "bridge false cfg 10.77.0.0/24 map[a:b]");
    let link =
        engine.wharf(&["run", "--rm", "--network", "net", "busybox", "ip", "addr", "show", "eth0"]).ok();
    assert!(link.contains("mtu 1400") && link.contains("10.77.0.2/24"), "{link}");
    assert!(create(&["--config-from", "cfg"], "second").stderr.contains("overlaps"));
    assert!(
        create(&["--config-from", "net"], "third").stderr.contains("configuration network \"net\" does not")
    );
    let refused = engine.wharf(&["run", "--rm", "--network", "cfg", "busybox", "true"]).stderr;
    assert!(refused.contains("cannot create endpoint on configuration-only network"), "{refused}");
    let refused = both(&engine, &["network", "rm", "cfg"]).stderr;
    assert!(
        refused.contains("error while removing network: configuration network \"cfg\" is in use"),
        "{refused}"
    );
    let pruned = engine.wharf(&["network", "prune", "-f"]).ok();
    assert!(pruned.contains("net") && !pruned.contains("cfg"), "{pruned}");
    engine.wharf(&["network", "rm", "cfg"]).ok();
}
