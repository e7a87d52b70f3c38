//! Attacks on the daemon, its data and its networks (docs/security.md), each really attempted.

use serde_json::json;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::{Engine, image, until};

fn daemon(engine: &Engine) -> String {
    std::fs::read_to_string(engine.folder().join("pid")).unwrap_or_default().trim().to_owned()
}

/// Runs a program in the engine's namespaces as a user of no rights.
fn as_nobody(engine: &Engine, script: &str) -> testkit::Output {
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script];
    engine.run("setpriv", &user)
}

#[test]
fn an_unprivileged_user_reaches_nothing() {
    // CVE-2021-41091, CVE-2021-41103.
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "--name", "target", "-v", "vol:/v", "busybox", "sleep", "1000"]).ok();
    let folder = engine.folder().display();
    let walked = as_nobody(&engine, &format!("find {folder}/data {folder}/exec -mindepth 1; true"));
    assert_eq!(walked.stdout, "", "names are seen");
    let script = format!("exec {} ps", Engine::executable().display());
    let mut command = engine.command("setpriv");
    let output =
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &script]).output();
    let output = output.unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("permission denied")
    );
    for process in engine.namespaces().processes() {
        let touched = as_nobody(
            &engine,
            &format!(
                "kill -9 {process} 2>/dev/null && echo killed; cat /proc/{process}/environ /proc/{process}/mem"
            ),
        );
        assert_eq!(touched.stdout, "", "process {process}");
    }
    assert_eq!(engine.wharf(&["exec", "target", "echo", "alive"]).ok(), "alive\n");
}

/// A mask is a bind of the host's null device: if it were a peer of the host's mount of /dev, a container that may mount could
/// cover the host's own device by mounting on the mask.
#[test]
fn what_is_mounted_on_a_mask_stays_inside() {
    let engine = Engine::with_busybox();
    // As systemd leaves it, but for this engine alone.
    engine.run("mount", &["--make-rshared", "/dev"]).ok();
    let run =
        ["run", "--rm", "--cap-add", "SYS_ADMIN", "--device", "/dev/null:/dev/other", "busybox", "sh", "-c"];
    let script = "grep -c shared: /proc/self/mountinfo; mount -o bind /bin/busybox /proc/keys && \
                  mount -o bind /bin/busybox /proc/timer_list && echo covered";
    assert_eq!(engine.wharf(&[&run[..], &[script]].concat()).stdout, "0\ncovered\n");
    engine.run("sh", &["-c", "test -c /dev/null"]).ok();
    let held = [
        &["run", "-d", "--cap-add", "SYS_ADMIN", "--name", "cover", "busybox", "sh", "-c"][..],
        &["mount -o bind /bin/busybox /proc/keys; exec sleep 1000"],
    ]
    .concat();
    engine.wharf(&held).ok();
    engine
        .wharf(&[
            "exec",
            "cover",
            "sh",
            "-c",
            "until grep -q ' /proc/keys .*overlay' /proc/mounts; do sleep 0.1; done",
        ])
        .ok();
    engine.run("sh", &["-c", "test -c /dev/null"]).ok();
}

#[test]
fn a_container_on_the_hosts_network_finds_no_socket_of_ours() {
    // CVE-2020-15257: abstract sockets belong to the network namespace.
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).ok();
    let script = "awk '$8 ~ /^@/ {print $8}' /proc/net/unix";
    let names = engine.wharf(&["run", "--rm", "--network", "host", "busybox", "sh", "-c", script]).ok();
    assert_eq!(names, "", "abstract sockets");
    let found = engine
        .wharf(&["run", "--rm", "--network", "host", "busybox", "find", "/", "-xdev", "-type", "s"])
        .ok();
    assert_eq!(found, "", "sockets");
}

#[test]
fn a_neighbour_does_not_reach_what_is_bound_to_loopback() {
    // CVE-2020-8558, CVE-2025-54388.
    let mut engine = Engine::with_busybox();
    let serve = "echo page > /index.html; exec httpd -f -p 80 -h /";
    engine
        .wharf(&[
            "run",
            "-d",
            "-p",
            "127.0.0.1:8080:80",
            "-p",
            "8081:80",
            "--name",
            "web",
            "busybox",
            "sh",
            "-c",
            serve,
        ])
        .ok();
    let here = || engine.run("curl", &["-s", "-m", "2", "http://127.0.0.1:8080/index.html"]).stdout;
    until("the page", Duration::from_secs(10), || (here() == "page\n").then_some(()));
    let neighbour = engine.namespaces().neighbour();
    let address =
        engine.wharf(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web"]).line();
    let attempt = |script: &str| {
        let mut shell = neighbour.command("sh");
        String::from_utf8_lossy(&shell.args(["-c", script]).output().unwrap().stdout).into_owned()
    };
    let curl = |url: &str| attempt(&format!("curl -s -m 1 {url}/index.html"));
    assert_eq!(curl("10.99.0.2:8081"), "page\n", "what is bound to all addresses");
    // By the host's address; by a route to its loopback; by a route to the container.
    let routes = "ip route add 172.16.0.0/12 via 10.99.0.2; sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route del local 127.0.0.0/8 table local; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 10.99.0.2";
    attempt(routes);
    let all = || [curl("10.99.0.2:8080"), curl("127.0.0.1:8080"), curl(&format!("{address}:80"))].concat();
    assert_eq!(all(), "");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(all(), "", "after the daemon's restart");
    assert_eq!(engine.run("curl", &["-s", "-m", "2", "http://127.0.0.1:8080/index.html"]).stdout, "page\n");
}

#[test]
fn networks_have_no_ipv6_unless_asked_for() {
    // CVE-2024-32473, CVE-2020-13401.
    let engine = Engine::with_busybox();
    let script = "ip -6 addr show dev eth0; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6";
    assert_eq!(engine.wharf(&["run", "--rm", "busybox", "sh", "-c", script]).ok(), "1\n");
    let accepted = engine.run("cat", &["/proc/sys/net/ipv6/conf/docker0/accept_ra"]).line();
    assert_eq!(accepted, "0", "router advertisements on the bridge");
}

#[test]
fn router_advertisements_of_a_container_move_nobody() {
    // CVE-2020-13401.
    let engine = Engine::with_busybox();
    engine.wharf(&["network", "create", "--ipv6", "--subnet", "fd70::/64", "six"]).ok();
    let run = ["run", "-d", "--network", "six", "--name"];
    for name in ["attacker", "victim"] {
        engine.wharf(&[&run[..], &[name, "busybox", "sleep", "1000"]].concat()).ok();
    }
    // A router of the prefix fd66::/64 that lives for half an hour, said to all on the link; hop limit 255 as it has to be.
    let advertisement = r#"
        use Socket; socket(S, 10, SOCK_RAW, 58) or die "socket: $!";
        setsockopt(S, 41, 18, pack("i", 255)) or die "hops: $!";
        my $packet = pack("C2 n C2 n N2", 134, 0, 0, 64, 0, 1800, 0, 0)
            . pack("C4 N3", 3, 4, 64, 0xc0, 3600, 3600, 0) . pack("H32", "fd66" . "0" x 28);
        my ($index) = `cat /proc/net/if_inet6` =~ /^\S+ (\S+) \S+ 20 \S+ +eth0$/m or die "no link-local address";
        my $all = pack("S n N", 10, 0, 0) . pack("H32", "ff02" . "0" x 27 . "1") . pack("L", hex $index);
        for (1..5) { send(S, $packet, 0, $all) or die "send: $!"; select(undef, undef, undef, 0.05); }
        print "sent\n";"#;
    let pid = engine.wharf(&["inspect", "-f", "{{.State.Pid}}", "attacker"]).line();
    let listener = engine.wharf(&["inspect", "-f", "{{.State.Pid}}", "victim"]).line();
    let inside = |pid: &str, command: &[&str]| {
        engine.run("nsenter", &[&["-t", pid, "-n", "-m"][..], command].concat())
    };
    let script = ["-t", &pid, "-n", "perl", "-e", advertisement];
    // The link-local address has to be proven unique first.
    until("the advertisements", Duration::from_secs(10), || {
        (engine.run("nsenter", &script).stdout == "sent\n").then_some(())
    });
    for shown in [
        engine.run("ip", &["-6", "addr"]).ok(),
        engine.run("ip", &["-6", "route", "show", "table", "all"]).ok(),
        inside(&listener, &["ip", "-6", "addr"]).ok(),
        inside(&listener, &["ip", "-6", "route"]).ok(),
    ] {
        assert!(!shown.contains("fd66:") && !shown.contains("proto ra"), "{shown}");
    }
    let reachable = engine.wharf(&["exec", "victim", "ping", "-6", "-c", "1", "-W", "1", "fd70::1"]);
    assert_eq!(reachable.code, 0, "{reachable:?}");
}

#[test]
fn no_container_poses_as_the_host() {
    // CVE-2020-13401, and its cousin of IPv4: "I am your gateway", said to all by hand.
    let engine = Engine::with_busybox();
    let subnets = ["--ipv6", "--subnet", "fd70::/64", "--subnet", "10.71.0.0/24"];
    engine.wharf(&[&["network", "create"], &subnets[..], &["net"]].concat()).ok();
    for name in ["attacker", "victim"] {
        engine.wharf(&["run", "-d", "--network", "net", "--name", name, "busybox", "sleep", "1000"]).ok();
    }
    let ping =
        |target: &str| engine.wharf(&["exec", "victim", "ping", "-c", "1", "-W", "1", target]).code == 0;
    until("the gateway", Duration::from_secs(10), || (ping("10.71.0.1") && ping("fd70::1")).then_some(()));
    let own = |name: &str| {
        let format = "{{.NetworkSettings.Networks.net.MacAddress}}";
        engine.wharf(&["inspect", "-f", format, name]).line()
    };
    let attack = r#"
        use Socket; my ($mac, $host) = map { pack "H12", s/://gr } @ARGV;
        socket(A, 17, SOCK_RAW, 0x0608) or die "socket: $!";
        my ($index) = `cat /proc/net/if_inet6` =~ /^\S+ (\S+) \S+ 20 \S+ +eth0$/m or die "no link-local address";
        for my $address (@{[pack("C4", 10, 71, 0, 1), pack("C4", 10, 71, 0, 9)]}) {
            my $arp = "\xff" x 6 . $mac . pack("n n n C2 n", 0x806, 1, 0x800, 6, 4, 2)
                . $mac . $address . "\xff" x 6 . $address;
            my $to = pack("S n i S C C a8", 17, 0x806, hex $index, 1, 0, 6, "\xff" x 6);
            send(A, $arp, 0, $to) or die "send: $!";
        }
        socket(S, 10, SOCK_RAW, 58) or die "socket: $!";
        setsockopt(S, 41, 18, pack("i", 255)) or die "hops: $!";
        my $advertisement = pack("C2 n N H32 C2", 136, 0, 0, 0x20000000, "fd70" . "0" x 27 . "1", 2, 1) . $mac;
        my $all = pack("S n N", 10, 0, 0) . pack("H32", "ff02" . "0" x 27 . "1") . pack("L", hex $index);
        send(S, $advertisement, 0, $all) or die "send: $!";
        print "sent\n";"#;
    let pid = |name: &str| engine.wharf(&["inspect", "-f", "{{.State.Pid}}", name]).line();
    let (attacker, victim) = (pid("attacker"), pid("victim"));
    // What is not the host's is said by who likes: an address of its own that moves (keepalived).
    engine
        .run(
            "nsenter",
            &[
                "-t",
                &victim,
                "-n",
                "ip",
                "neigh",
                "add",
                "10.71.0.9",
                "lladdr",
                "02:00:00:00:00:09",
                "dev",
                "eth0",
                "nud",
                "stale",
            ],
        )
        .ok();
    let mac = own("attacker");
    let script = ["-t", &attacker, "-n", "perl", "-e", attack, &mac];
    let known =
        |address: &str| engine.run("nsenter", &["-t", &victim, "-n", "ip", "neigh", "show", address]).ok();
    until("the message to arrive", Duration::from_secs(10), || {
        let sent = engine.run("nsenter", &script);
        (sent.stdout == "sent\n" && known("10.71.0.9").contains(&mac)).then_some(())
    });
    for gateway in ["10.71.0.1", "fd70::1"] {
        assert!(!known(gateway).contains(&mac), "{gateway}: {}", known(gateway));
    }
    assert!(ping("10.71.0.1") && ping("fd70::1"));
}

#[test]
fn names_of_an_internal_network_are_asked_of_nobody() {
    // CVE-2024-29018: a server outside that would hear of them.
    let engine = Engine::start_with(&["--dns", "10.99.0.1"]);
    engine.load_busybox("busybox:latest");
    let neighbour = engine.namespaces().neighbour();
    let server = neighbour.within(|| UdpSocket::bind("10.99.0.1:53").unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    // It ends with the process; nobody waits for it.
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, client)) = server.recv_from(&mut question) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut answer = question[..length].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
            server.send_to(&answer, client).unwrap();
        }
    });
    engine.wharf(&["network", "create", "open"]).ok();
    engine.wharf(&["network", "create", "--internal", "closed"]).ok();
    let asks = |network: &str, server: &[&str]| {
        let question =
            ["run", "--rm", "--network", network, "busybox", "nslookup", "-type=a", "secret.example"];
        engine.wharf(&[&question[..], server].concat()).stdout
    };
    until("the name server", Duration::from_secs(10), || {
        asks("open", &[]).contains("192.0.2.77").then_some(())
    });
    let before = heard.load(Ordering::SeqCst);
    for server in [&[][..], &["10.99.0.1"], &["10.99.0.2"]] {
        let answer = asks("closed", server);
        assert!(!answer.contains("192.0.2.77"), "{server:?}: {answer}");
    }
    assert_eq!(heard.load(Ordering::SeqCst), before, "the server outside was asked");
}

#[test]
fn output_that_nobody_reads_fills_no_memory() {
    // CVE-2022-31030.
    let engine = Engine::with_busybox();
    engine.wharf(&["run", "-d", "--name", "target", "busybox", "sleep", "1000"]).ok();
    let mut flood = engine.wharf_command();
    flood.args(["exec", "target", "yes", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]);
    flood.stdout(std::process::Stdio::piped());
    let mut flood = flood.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    for process in engine.namespaces().processes() {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        assert!(kib < 200 << 10, "process {process} has {kib} KiB");
    }
    flood.kill().unwrap();
    flood.wait().unwrap();
    assert_eq!(engine.wharf(&["exec", "target", "echo", "alive"]).ok(), "alive\n");
}

#[test]
fn attaching_and_leaving_leaves_nothing() {
    // CVE-2025-64329.
    let engine = Engine::with_busybox();
    let id = engine.wharf(&["run", "-d", "--name", "target", "busybox", "sleep", "1000"]).line();
    let held = || {
        let processes = engine.namespaces().processes();
        let count = |what: &str| -> usize {
            let folders = processes.iter().map(|process| format!("/proc/{process}/{what}"));
            folders.map(|folder| std::fs::read_dir(folder).map_or(0, Iterator::count)).sum()
        };
        (count("fd"), count("task"))
    };
    let attach = |stay: bool| {
        let mut client = UnixStream::connect(engine.folder().join("wharf.sock")).unwrap();
        let head = "HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
        write!(client, "POST /v1.51/containers/{id}/attach?stream=1&stdout=1&stdin=1 {head}").unwrap();
        if stay {
            let mut answer = [0; 12];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
        }
    };
    attach(true);
    std::thread::sleep(Duration::from_millis(200));
    let (descriptors, _) = held();
    for round in 0..1000 {
        attach(round % 2 == 0);
    }
    until("what the clients held to be given back", Duration::from_secs(20), || {
        let (now, threads) = held();
        (now <= descriptors + 8 && threads < 64).then_some(())
    });
    assert_eq!(engine.wharf(&["exec", "target", "echo", "alive"]).ok(), "alive\n");
    assert!(!daemon(&engine).is_empty());
}

#[test]
fn an_image_decides_nothing_about_the_host() {
    // CVE-2014-6408, CVE-2022-23648: host options and climbing volumes in an image's configuration.
    let engine = Engine::with_busybox();
    std::fs::write(engine.folder().join("secret"), "secret").unwrap();
    let up = format!("/../../../../../../../..{}", engine.folder().display());
    let config = json!({
        "Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": { up.as_str(): {}, "/etc/../data": {} },
        "HostConfig": { "Privileged": true, "Binds": ["/:/host"] }, "Privileged": true, "CapAdd": ["ALL"],
    });
    let archive = engine.folder().join("evil.tar");
    image::write_archive(&archive, &["evil:1"], &[image::busybox_layer()], &config);
    engine.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    let script = "ls /host /data; grep CapEff /proc/self/status; find / -xdev -name secret; find /data /tmp -name secret";
    let output = engine.wharf(&["run", "--rm", "evil:1", "sh", "-c", script]);
    assert!(!output.stdout.contains("secret"), "{output:?}");
    assert!(output.stdout.contains("00000000a80425fb"), "the default capabilities: {output:?}");
    assert!(output.stderr.contains("/host: No such file"), "{output:?}");
}

#[test]
fn giant_ranges_are_refused_at_once() {
    // CVE-2018-20699.
    let engine = Engine::with_busybox();
    let refused = engine.wharf(&["run", "--rm", "--cpuset-cpus", "0-2147483647", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("cpu"), "{refused:?}");
    let refused = engine.wharf(&["run", "--rm", "-p", "1-65535:1-65534", "busybox", "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
}
