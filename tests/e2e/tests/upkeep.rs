//! What somebody else does to our rules and links, and what a running container's networks and ports do about changes.

use std::time::Duration;
use testkit::{Engine, until};

const PATIENCE: Duration = Duration::from_secs(10);

fn get(engine: &Engine, url: &str) -> String {
    engine.run("curl", &["-s", "-m", "2", url]).stdout
}

/// A container that serves `hello` on port 80.
fn serve(engine: &Engine, name: &str, flags: &[&str]) {
    let script = "echo hello > /index.html; exec httpd -f -p 80 -h /";
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", script]].concat()).ok();
}

fn served(engine: &Engine, url: &str) {
    until(url, PATIENCE, || (get(engine, url) == "hello\n").then_some(()));
}

#[test]
fn what_somebody_deletes_is_made_again() {
    let engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "--subnet", "10.40.0.0/24", "net"]).ok();
    serve(&engine, "web", &["--network", "net", "-p", "8080:80"]);
    let outside = engine.namespaces().neighbour();
    let from_outside = || {
        let mut command = outside.command("curl");
        let output = command.args(["-s", "-m", "2", "http://10.99.0.2:8080/"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    until("the page", PATIENCE, || (from_outside() == "hello\n").then_some(()));
    let rules = || engine.run("nft", &["-s", "list", "table", "inet", "wharf"]).stdout;
    let before = rules();
    assert!(before.contains("8080"), "{before}");
    for line in [
        "flush ruleset",
        "flush table inet wharf",
        "delete table inet wharf",
        "flush chain inet wharf forward",
    ] {
        engine.run("nft", &line.split(' ').collect::<Vec<_>>()).ok();
        until(&format!("the rules after {line}"), PATIENCE, || (rules() == before).then_some(()));
    }
    assert_eq!(from_outside(), "hello\n");
    // The administrator's own chain is his own.
    engine.run("nft", &["add", "rule", "inet", "wharf", "wharf-user", "counter"]).ok();
    engine.run("nft", &["flush", "chain", "inet", "wharf", "wharf-user"]).ok();
    // The container's interface, then the bridge.
    let format = "{{(index .NetworkSettings.Networks \"net\").IPAddress}}";
    let address = engine.wharf(&["inspect", "-f", format, "web"]).line();
    let inside = || engine.wharf(&["exec", "web", "ip", "-o", "addr", "show", "eth0"]).stdout;
    let veth = || {
        let links = engine.namespaces().links();
        links.into_iter().find(|link| link.starts_with("veth"))
    };
    engine.run("ip", &["link", "del", &veth().unwrap()]).ok();
    until("the interface", PATIENCE, || inside().contains(&address).then_some(()));
    served(&engine, &format!("http://{address}/"));
    let bridge = engine.namespaces().links().into_iter().find(|link| link.starts_with("br-")).unwrap();
    engine.run("ip", &["link", "del", &bridge]).ok();
    served(&engine, &format!("http://{address}/"));
    assert_eq!(from_outside(), "hello\n");
    let log = engine.daemon_log();
    for word in [
        "deleted rules of the packet filter",
        "deleted a network's device",
        "deleted a container's interface",
    ] {
        assert!(log.contains(word), "{word} in {log}");
    }
    engine.wharf(&["rm", "-f", "web"]).ok();
    // The kernel takes the namespace apart in its own time.
    until("the interface to go", PATIENCE, || veth().is_none().then_some(()));
}

#[test]
fn ports_come_and_go_while_it_runs() {
    let mut engine = Engine::with_busybox();
    serve(&engine, "web", &["-p", "8080:80"]);
    served(&engine, "http://127.0.0.1:8080/");
    let ports = |engine: &Engine| engine.wharf(&["port", "web"]).stdout;
    engine.wharf(&["update", "--publish-add", "8081:80", "--publish-add", "127.0.0.1:8082:80", "web"]).ok();
    for url in [
        "http://10.99.0.2:8081/",
        "http://127.0.0.1:8081/",
        "http://127.0.0.1:8082/",
        "http://127.0.0.1:8080/",
    ] {
        served(&engine, url);
    }
    assert_eq!(get(&engine, "http://10.99.0.2:8082/"), "");
    let all = "80/tcp -> 0.0.0.0:8080\n80/tcp -> 0.0.0.0:8081\n80/tcp -> 127.0.0.1:8082\n80/tcp -> [::]:8080\n80/tcp -> [::]:8081\n";
    assert_eq!(ports(&engine), all);
    engine.wharf(&["update", "--publish-rm", "8080:80", "web"]).ok();
    assert_eq!(get(&engine, "http://127.0.0.1:8080/"), "");
    assert_eq!(get(&engine, "http://10.99.0.2:8080/"), "");
    served(&engine, "http://10.99.0.2:8081/");
    let gone = engine.wharf(&["update", "--publish-rm", "8080:80", "web"]);
    assert!(gone.stderr.contains("container web does not publish 80/tcp"), "{}", gone.stderr);
    let taken = engine.wharf(&["run", "--rm", "-p", "8081:1", "busybox", "true"]);
    assert!(taken.stderr.contains("port is already allocated"), "{}", taken.stderr);
    engine.wharf(&["run", "--rm", "-p", "8080:1", "busybox", "true"]).ok();
    // It stays so over the daemon's death and the container's.
    engine.kill_daemon();
    engine.start_daemon();
    served(&engine, "http://10.99.0.2:8081/");
    engine.wharf(&["restart", "-t", "0", "web"]).ok();
    served(&engine, "http://127.0.0.1:8082/");
    served(&engine, "http://10.99.0.2:8081/");
    assert_eq!(get(&engine, "http://127.0.0.1:8080/"), "");
    engine.wharf(&["update", "--publish-rm", "80", "web"]).ok();
    assert_eq!(ports(&engine), "");
    let host = engine.wharf(&["create", "--network", "host", "--name", "bare", "busybox"]);
    host.ok();
    let refused = engine.wharf(&["update", "--publish-add", "80:80", "bare"]);
    assert!(refused.stderr.contains("has no ports to publish"), "{}", refused.stderr);
}

#[test]
fn the_default_route_and_ports_follow_the_networks() {
    let mut engine = Engine::with_busybox();
    for (name, subnet) in [("one", "10.41.0.0/24"), ("two", "10.42.0.0/24")] {
        engine.wharf(&["network", "create", "--subnet", subnet, name]).ok();
    }
    serve(&engine, "web", &["--network", "one", "-p", "8080:80"]);
    let route = |engine: &Engine| {
        let routes = engine.wharf(&["exec", "web", "ip", "route"]).ok();
        routes.lines().find(|line| line.starts_with("default")).map(str::to_owned)
    };
    let is = |engine: &Engine, expect: &str| {
        assert!(route(engine).is_some_and(|route| route.contains(expect)), "{expect}: {:?}", route(engine));
        for url in ["http://10.99.0.2:8080/", "http://127.0.0.1:8080/"] {
            served(engine, url);
        }
    };
    is(&engine, "10.41.0.1");
    let lan = ["--gw-priority", "1", "--driver-opt", "com.docker.network.endpoint.ifname=lan0"];
    engine.wharf(&[&["network", "connect"], &lan[..], &["two", "web"]].concat()).ok();
    is(&engine, "via 10.42.0.1 dev lan0");
    engine.kill_daemon();
    engine.start_daemon();
    is(&engine, "10.42.0.1");
    engine.wharf(&["network", "disconnect", "two", "web"]).ok();
    is(&engine, "10.41.0.1");
    engine.wharf(&["network", "disconnect", "one", "web"]).ok();
    assert_eq!(route(&engine), None);
    assert_eq!(get(&engine, "http://10.99.0.2:8080/"), "", "nothing leads to an address that is free");
    engine.wharf(&["network", "connect", "one", "web"]).ok();
    is(&engine, "10.41.0.1");
}

#[test]
fn interfaces_as_they_are_asked_for() {
    let engine = Engine::with_busybox();
    for name in ["one", "two"] {
        engine.wharf(&["network", "create", name]).ok();
    }
    let sysctls = "name=two,gw-priority=5,\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1\"";
    let first = "name=one,driver-opt=com.docker.network.endpoint.ifname=lan7,link-local-ip=169.254.7.7";
    let script = "ip -o addr; cat /proc/sys/net/ipv4/conf/*/log_martians; ip route";
    let flags = ["run", "--rm", "--network", first, "--network", sysctls, "busybox", "sh", "-c", script];
    let output = engine.wharf(&flags).ok();
    assert!(output.contains("lan7") && output.contains("169.254.7.7/16"), "{output}");
    assert!(output.lines().any(|line| line == "1"), "{output}");
    assert!(output.contains("default via") && output.contains("dev eth0"), "{output}");
    let wrong = "name=one,driver-opt=com.docker.network.endpoint.ifname=a/b";
    let refused = engine.wharf(&["run", "--rm", "--network", wrong, "busybox", "true"]);
    assert!(refused.stderr.contains("invalid interface name"), "{}", refused.stderr);
}
