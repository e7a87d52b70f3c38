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
