//! What tutorials do with a container's network by hand, step by step: bridges, pairs of interfaces, namespaces, files.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use std::process::Stdio;
use std::time::Duration;
use testkit::{Engine, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs lines of a tutorial in a shell, `docker` being ours.
fn follow(engine: &Engine, lines: &str) -> testkit::Output {
    let program = Engine::executable();
    let script = format!("set -e\ndocker() {{ {} \"$@\"; }}\n{lines}", program.display());
    let output =
        engine.command("bash").args(["-c", &script]).stdin(Stdio::null()).output().expect("run a shell");
    testkit::Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn run(engine: &Engine, name: &str, flags: &[&str]) {
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat()).ok();
}

/// A container that answers on ports 80 and 81.
fn serve(engine: &Engine, name: &str, flags: &[&str]) {
    let script = "echo page > /index.html; httpd -p 81 -h /; exec httpd -f -p 80 -h /";
    engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", script]].concat()).ok();
}

/// Whether `container` gets a page of `host`.
fn gets(engine: &Engine, container: &str, host: &str, port: &str) -> bool {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {host} {port}");
    engine.wharf(&["exec", container, "sh", "-c", &script]).stdout.ends_with("page\n")
}

fn pings(engine: &Engine, container: &str, target: &str) -> bool {
    engine.wharf(&["exec", container, "ping", "-c", "1", "-W", "1", target]).code == 0
}

fn address(engine: &Engine, name: &str) -> String {
    engine.wharf(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]).line()
}

#[test]
fn containers_that_do_not_reach_each_other_but_by_link() {
    let mut engine = Engine::start_with(&["--icc=false"]);
    engine.load_busybox("busybox:latest");
    serve(&engine, "db", &["--expose", "80"]);
    run(&engine, "other", &[]);
    run(&engine, "web", &["--link", "db:db"]);
    let db = address(&engine, "db");
    until("the linked container", PATIENCE, || gets(&engine, "web", "db", "80").then_some(()));
    let only_the_link = |engine: &Engine| {
        assert!(gets(engine, "web", &db, "80"), "the exposed port of a linked container");
        assert!(!gets(engine, "web", &db, "81"), "another port");
        assert!(!gets(engine, "other", &db, "80"), "another container");
        assert!(!pings(engine, "web", &db), "another protocol");
        assert!(!pings(engine, "db", &address(engine, "web")), "the other way");
        assert!(pings(engine, "other", "172.17.0.1"), "the host");
    };
    only_the_link(&engine);
    engine.kill_daemon();
    assert_eq!(engine.run("nft", &["list", "table", "bridge", "wharf"]).code, 0);
    engine.start_daemon();
    only_the_link(&engine);
    engine.run("nft", &["flush", "ruleset"]).ok();
    until("the rules", PATIENCE, || (!gets(&engine, "other", &db, "80")).then_some(()));
    only_the_link(&engine);
    // The linked container comes back elsewhere.
    engine.wharf(&["stop", "-t", "0", "db"]).ok();
    run(&engine, "squatter", &[]);
    assert_eq!(address(&engine, "squatter"), db);
    assert!(!pings(&engine, "web", &db), "an address that another one has now");
    engine.wharf(&["start", "db"]).ok();
    until("the linked container", PATIENCE, || gets(&engine, "web", "db", "80").then_some(()));
    assert!(!gets(&engine, "web", "db", "81"));
    engine.wharf(&["rm", "--link", "/web/db"]).ok();
    assert!(!gets(&engine, "web", &address(&engine, "db"), "80"), "without the link");
    engine.wharf(&["rm", "-f", "db", "web", "other", "squatter"]).ok();
    let left = engine.run("nft", &["list", "set", "bridge", "wharf", "closed"]).stdout;
    assert!(!left.contains("veth"), "{left}");
}

#[test]
fn links_of_ipv6_addresses() {
    let mut engine = Engine::start_with(&["--icc=false", "--ipv6", "--bip6", "fd65::1/64"]);
    engine.load_busybox("busybox:latest");
    serve(&engine, "db", &["--expose", "80"]);
    run(&engine, "other", &[]);
    run(&engine, "web", &["--link", "db:db"]);
    let six =
        |name: &str| engine.wharf(&["inspect", "-f", "{{.NetworkSettings.GlobalIPv6Address}}", name]).line();
    let db = six("db");
    assert_eq!((db.as_str(), six("other").as_str()), ("fd65::2", "fd65::3"));
    until("the linked container", PATIENCE, || gets(&engine, "web", &db, "80").then_some(()));
    assert!(!gets(&engine, "web", &db, "81"), "another port");
    assert!(!gets(&engine, "other", &db, "80"), "another container");
    assert!(!pings(&engine, "db", &six("web")), "the other way");
    assert!(pings(&engine, "other", "fd65::1"), "the host");
    engine.kill_daemon();
    engine.start_daemon();
    assert!(gets(&engine, "web", "fd65::2", "80") && !gets(&engine, "other", "fd65::2", "80"));
}

#[test]
fn the_default_bridge_and_one_made_by_hand() {
    let mut engine =
        Engine::start_with(&["--bip", "192.168.5.1/24", "--fixed-cidr", "192.168.5.128/25", "--mtu", "1400"]);
    engine.load_busybox("busybox:latest");
    run(&engine, "one", &[]);
    assert_eq!(address(&engine, "one"), "192.168.5.128");
    let routes = engine.wharf(&["exec", "one", "ip", "route"]).ok();
    assert!(routes.contains("default via 192.168.5.1"), "{routes}");
    assert!(engine.wharf(&["exec", "one", "ip", "link"]).ok().contains("mtu 1400"));
    assert!(follow(&engine, "ip addr show docker0").ok().contains("192.168.5.1/24"));
    assert!(follow(&engine, "bridge link show").ok().contains("master docker0"));
    engine.wharf(&["rm", "-f", "one"]).ok();
    engine.stop_daemon();
    // A bridge of the reader's own, used by the key.
    follow(&engine, "ip link set dev docker0 down; ip link del docker0; ip link add br0 type bridge; ip addr add 192.168.6.1/24 dev br0; ip link set dev br0 up").ok();
    let configured = Engine::executable();
    assert!(configured.is_file());
    std::fs::write(engine.folder().join("daemon.json"), "{\"bridge\": \"br0\"}").expect("write daemon.json");
    engine.replace_flags(&[]);
    engine.start_daemon();
    serve(&engine, "two", &["-p", "8080:80"]);
    assert_eq!(address(&engine, "two"), "192.168.6.2");
    assert!(follow(&engine, "bridge link show").ok().contains("master br0"));
    until("the page", PATIENCE, || {
        (follow(&engine, "curl -s -m 2 http://10.99.0.2:8080/ || true").stdout == "page\n").then_some(())
    });
    engine.wharf(&["rm", "-f", "two"]).ok();
    engine.stop_daemon();
    assert!(engine.namespaces().links().contains(&"br0".to_owned()), "it stays");
}

#[test]
fn namespaces_by_name_and_a_second_interface() {
    let mut engine = Engine::with_busybox();
    run(&engine, "web", &[]);
    let id = engine.wharf(&["inspect", "-f", "{{.Id}}", "web"]).line();
    for name in ["web", id.as_str()] {
        let shown = follow(&engine, &format!("ip netns exec {name} ip -o -4 addr show eth0")).ok();
        assert!(shown.contains(&address(&engine, "web")), "{shown}");
    }
    assert!(follow(&engine, "ip netns list").ok().contains("web"));
    // As pipework does it: a bridge, a pair, one end into the container.
    let steps = "
        ip link add br1 type bridge; ip addr add 192.168.1.254/24 dev br1; ip link set br1 up
        ip link add v0 type veth peer name v1
        ip link set v0 master br1 up
        ip link set v1 netns web
        ip netns exec web ip link set v1 name eth1
        ip netns exec web ip addr add 192.168.1.1/24 dev eth1
        ip netns exec web ip link set eth1 up";
    follow(&engine, steps).ok();
    assert_eq!(follow(&engine, "ping -c 1 -W 2 192.168.1.1").code, 0);
    assert!(pings(&engine, "web", "192.168.1.254"));
    // By pid.
    let pid = "pid=$(docker inspect -f '{{.State.Pid}}' web)";
    let shown = follow(&engine, &format!("{pid}; nsenter -t $pid -n ip -o -4 addr")).ok();
    assert!(shown.contains("192.168.1.1/24"), "{shown}");
    let inside = follow(
        &engine,
        &format!("{pid}; nsenter --target $pid --mount --uts --ipc --net --pid -- /bin/hostname"),
    );
    assert_eq!(inside.ok().trim(), id.get(..12).expect("an identifier"));
    let own = follow(
        &engine,
        &format!(
            "{pid}; mkdir -p /var/run/netns; ln -s /proc/$pid/ns/net /var/run/netns/$pid; ip netns exec $pid ip -o link; rm /var/run/netns/$pid"
        ),
    );
    assert!(own.ok().contains("eth1"));
    // The names follow the container.
    let names = || {
        let mut names: Vec<String> =
            follow(&engine, "ls /run/netns").stdout.lines().map(str::to_owned).collect();
        names.retain(|name| name != &id);
        names
    };
    assert_eq!(names(), ["web"]);
    engine.wharf(&["rename", "web", "site"]).ok();
    assert_eq!(names(), ["site"]);
    engine.wharf(&["restart", "-t", "0", "site"]).ok();
    assert_eq!(follow(&engine, "ip netns exec site true").code, 0);
    engine.wharf(&["stop", "-t", "0", "site"]).ok();
    assert_eq!(follow(&engine, "ls /run/netns").ok(), "");
    // What one leaves that ended without a daemon goes at its next start.
    engine.wharf(&["start", "site"]).ok();
    engine.kill_daemon();
    let pid = follow(&engine, "readlink /run/netns/site | cut -d / -f 3").ok();
    engine.run("kill", &["-9", pid.trim()]).ok();
    engine.start_daemon();
    until("the name to go", PATIENCE, || follow(&engine, "ls /run/netns").ok().is_empty().then_some(()));
}

#[test]
fn a_pair_of_containers_with_a_link_of_their_own() {
    let engine = Engine::with_busybox();
    let steps = "
        docker run -d --net=none --name c1 busybox sleep 1000
        docker run -d --net=none --name c2 busybox sleep 1000
        p1=$(docker inspect -f '{{.State.Pid}}' c1); p2=$(docker inspect -f '{{.State.Pid}}' c2)
        mkdir -p /var/run/netns
        ln -s /proc/$p1/ns/net /var/run/netns/$p1; ln -s /proc/$p2/ns/net /var/run/netns/$p2
        ip link add A type veth peer name B
        ip link set A netns $p1
        ip netns exec $p1 ip addr add 10.1.1.1/32 dev A
        ip netns exec $p1 ip link set A up
        ip netns exec $p1 ip route add 10.1.1.2/32 dev A
        ip link set B netns $p2
        ip netns exec $p2 ip addr add 10.1.1.2/32 dev B
        ip netns exec $p2 ip link set B up
        ip netns exec $p2 ip route add 10.1.1.1/32 dev B";
    follow(&engine, steps).ok();
    assert!(pings(&engine, "c1", "10.1.1.2") && pings(&engine, "c2", "10.1.1.1"));
}

#[test]
fn files_of_a_running_container_are_edited() {
    let mut engine = Engine::with_busybox();
    run(&engine, "box", &["--hostname", "first"]);
    let inside = |engine: &Engine, script: &str| engine.wharf(&["exec", "box", "sh", "-c", script]).ok();
    inside(
        &engine,
        "echo '192.0.2.7 mine' >> /etc/hosts; echo 'nameserver 192.0.2.53' > /etc/resolv.conf; echo second > /etc/hostname",
    );
    assert_eq!(
        inside(&engine, "tail -n 1 /etc/hosts; cat /etc/resolv.conf /etc/hostname"),
        "192.0.2.7 mine\nnameserver 192.0.2.53\nsecond\n"
    );
    let mounts = inside(&engine, "grep -c -E ' /etc/(hosts|hostname|resolv.conf) ' /proc/mounts");
    assert_eq!(mounts.trim(), "3");
    // Changes of networks and the daemon's death leave them alone; the next start writes them anew, as in Docker.
    engine.wharf(&["network", "create", "net"]).ok();
    engine.wharf(&["network", "connect", "net", "box"]).ok();
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(
        inside(&engine, "tail -n 1 /etc/hosts; cat /etc/resolv.conf"),
        "192.0.2.7 mine\nnameserver 192.0.2.53\n"
    );
    assert_eq!(engine.wharf(&["diff", "box"]).ok().matches("/etc/hosts").count(), 0);
    engine.wharf(&["restart", "-t", "0", "box"]).ok();
    assert_eq!(inside(&engine, "cat /etc/hostname"), "first\n");
}
