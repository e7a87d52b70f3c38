//! The packet filter on a private host: two networks behind it, a neighbour in front of it.

use crate::support::*;
use network::bridge::{self, Bridge};
use network::firewall::{Contents, Firewall, Mapping, NetworkRules, Redirections, Way};
use network::{Error, Protocol};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::process::Command;

fn rules(bridge: &str, subnets: &[&str]) -> NetworkRules {
    NetworkRules {
        bridge: bridge.into(),
        subnets: subnets.iter().map(|text| net(text)).collect(),
        masqueraded: subnets.iter().map(|text| net(text)).collect(),
        addresses: Vec::new(),
        open: [false; 2],
        icc: true,
        internal: false,
    }
}

pub(crate) fn mapping(protocol: Protocol, host: &str, container: &str) -> Mapping {
    let (host, container) = (addr(host), addr(container));
    Mapping {
        protocol,
        host_ip: host.ip(),
        host_port: host.port(),
        container_ip: container.ip(),
        container_port: container.port(),
        more: 0,
        way: Way::Host,
    }
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::Firewall { errno, .. } => Some(*errno),
        _ => None,
    }
}

/// The host has 192.0.2.1 towards the neighbour 192.0.2.2, and two networks. The neighbour sends everything for the
/// networks to the host, but does not know whom 172.17.0.0/16 belongs to unless told.
pub(crate) struct Site {
    pub(crate) firewall: Firewall,
    pub(crate) networks: Vec<NetworkRules>,
    pub(crate) neighbour: OwnedFd,
    pub(crate) one: OwnedFd,
    pub(crate) two: OwnedFd,
    pub(crate) other: OwnedFd,
}

pub(crate) fn site(neighbour_gateways: &[&str]) -> Site {
    let bridge = |name: &str, addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| net(text)).collect();
        bridge::ensure(&Bridge { name: name.into(), addresses, mtu: None, mac: None }).unwrap();
    };
    bridge("uplink", &["192.0.2.1/24", "fd00:2::1/64"]);
    bridge("docker0", &["172.17.0.1/16", "fd00:17::1/64"]);
    bridge("br-1", &["172.18.0.1/16"]);
    let neighbour = container("uplink", "up1", &["192.0.2.2/24", "fd00:2::2/64"], neighbour_gateways);
    let gateways = ["172.17.0.1", "fd00:17::1"];
    let one = container("docker0", "veth1", &["172.17.0.2/16", "fd00:17::2/64"], &gateways);
    let two = container("docker0", "veth2", &["172.17.0.3/16", "fd00:17::3/64"], &gateways);
    let other = container("br-1", "veth3", &["172.18.0.2/16"], &["172.18.0.1"]);
    for namespace in [&neighbour, &one, &two, &other] {
        serve_tcp(namespace, "[::]:80");
        serve_udp(namespace, "0.0.0.0:53");
    }
    let networks =
        vec![rules("docker0", &["172.17.0.0/16", "fd00:17::/64"]), rules("br-1", &["172.18.0.0/16"])];
    network::enable_forwarding(&networks[0].subnets).unwrap();
    let mut firewall = Firewall::open().unwrap();
    firewall.install(&networks).unwrap();
    Site { firewall, networks, neighbour, one, two, other }
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn containers_go_out_under_the_hosts_address() {
    on_private_host(|| {
        let site = site(&[]);
        assert_eq!(tcp_from(&site.one, "192.0.2.2:80").unwrap(), "::ffff:192.0.2.1");
        assert_eq!(tcp_from(&site.one, "[fd00:2::2]:80").unwrap(), "fd00:2::1");
        assert_eq!(run_in(&site.one, || ask_udp("192.0.2.2:53", PATIENCE)).unwrap(), "192.0.2.1");
        assert_eq!(tcp_from(&site.other, "192.0.2.2:80").unwrap(), "::ffff:192.0.2.1");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn only_published_ports_are_reached_from_outside() {
    on_private_host(|| {
        let mut site = site(&["192.0.2.1", "fd00:2::1"]);
        // Directly, by whoever has a route.
        assert!(tcp_dropped(&site.neighbour, "172.17.0.2:80"));
        assert!(tcp_dropped(&site.neighbour, "[fd00:17::2]:80"));
        let ports = [
            mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80"),
            mapping(Protocol::Tcp, "[::]:8080", "[fd00:17::2]:80"),
            mapping(Protocol::Tcp, "192.0.2.1:8081", "172.17.0.3:80"),
            mapping(Protocol::Tcp, "[fd00:2::1]:8081", "[fd00:17::3]:80"),
            mapping(Protocol::Udp, "0.0.0.0:5353", "172.17.0.2:53"),
            mapping(Protocol::Tcp, "127.0.0.1:8082", "172.17.0.2:80"),
            mapping(Protocol::Tcp, "[::]:8083", "172.17.0.2:80"),
        ];
        site.firewall.publish(&ports).unwrap();
        site.firewall.publish(&ports).unwrap();
        let from_neighbour = |address| tcp_from(&site.neighbour, address).unwrap();
        assert_eq!(from_neighbour("192.0.2.1:8080"), "::ffff:192.0.2.2");
        assert_eq!(from_neighbour("[fd00:2::1]:8080"), "fd00:2::2");
        assert_eq!(from_neighbour("192.0.2.1:8081"), "::ffff:192.0.2.2");
        assert_eq!(from_neighbour("[fd00:2::1]:8081"), "fd00:2::2");
        assert_eq!(run_in(&site.neighbour, || ask_udp("192.0.2.1:5353", PATIENCE)).unwrap(), "192.0.2.2");
        // The host to its own address.
        assert_eq!(ask_tcp("192.0.2.1:8080", PATIENCE).unwrap(), "::ffff:192.0.2.1");
        assert_eq!(ask_tcp("[fd00:2::1]:8081", PATIENCE).unwrap(), "fd00:2::1");
        // Still not directly.
        assert!(tcp_dropped(&site.neighbour, "172.17.0.2:80"));
        // Rules written anew keep the ports.
        site.firewall.install(&site.networks).unwrap();
        assert_eq!(tcp_from(&site.neighbour, "192.0.2.1:8080").unwrap(), "::ffff:192.0.2.2");

        let elsewhere = mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.9:80");
        assert_eq!(errno(&site.firewall.publish(&[elsewhere]).unwrap_err()), Some(Errno::EXIST));

        site.firewall.unpublish(&ports[..1]).unwrap();
        site.firewall.unpublish(&ports).unwrap();
        site.firewall.unpublish(&ports).unwrap();
        assert!(tcp_dropped(&site.neighbour, "192.0.2.1:8081"));
        assert!(run_in(&site.neighbour, || ask_udp("192.0.2.1:5353", SILENCE)).is_err());
        site.firewall.replace(&Contents { mappings: ports.to_vec(), ..Contents::default() }).unwrap();
        assert_eq!(tcp_from(&site.neighbour, "192.0.2.1:8081").unwrap(), "::ffff:192.0.2.2");
        site.firewall.replace(&Contents::default()).unwrap();
        assert!(tcp_dropped(&site.neighbour, "192.0.2.1:8081"));
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn a_thousand_ports_are_one_element_that_leads_to_the_right_ones() {
    on_private_host(|| {
        let mut site = site(&["192.0.2.1", "fd00:2::1"]);
        let run = |protocol, host: &str, container: &str, more| Mapping {
            more,
            ..mapping(protocol, host, container)
        };
        let ports = [
            run(Protocol::Tcp, "0.0.0.0:50", "172.17.0.2:50", 999),
            run(Protocol::Tcp, "0.0.0.0:8050", "172.17.0.2:50", 999),
            run(Protocol::Tcp, "192.0.2.1:20", "172.17.0.3:70", 20),
            run(Protocol::Tcp, "[::]:60000", "[fd00:17::2]:60", 5000),
            run(Protocol::Tcp, "[fd00:2::1]:50", "[fd00:17::3]:50", 999),
            run(Protocol::Udp, "0.0.0.0:5343", "172.17.0.2:43", 20),
            run(Protocol::Tcp, "127.0.0.1:9050", "172.17.0.2:50", 999),
        ];
        let mut books = Redirections::default();
        let change = books.change(&[], ports.to_vec());
        assert_eq!(change.open.len(), ports.len());
        site.firewall.change(&change).unwrap();
        site.firewall.publish(&ports).unwrap();
        let listed = nft(&["list", "table", "inet", "wharf"]);
        for element in [
            "tcp . 0.0.0.0/0 . 50-1049 : 172.17.0.2",
            "tcp . 0.0.0.0/0 . 8050-9049",
            "tcp . 127.0.0.1 . 9050-10049",
        ] {
            assert_eq!(listed.matches(element).count(), 1, "{element} in {listed}");
        }
        let from_neighbour = |address| tcp_from(&site.neighbour, address).unwrap();
        for address in ["192.0.2.1:80", "192.0.2.1:8080", "192.0.2.1:30"] {
            assert_eq!(from_neighbour(address), "::ffff:192.0.2.2", "{address}");
        }
        for address in ["[fd00:2::1]:60020", "[fd00:2::1]:80"] {
            assert_eq!(from_neighbour(address), "fd00:2::2", "{address}");
        }
        assert_eq!(run_in(&site.neighbour, || ask_udp("192.0.2.1:5353", PATIENCE)).unwrap(), "192.0.2.2");
        assert_eq!(ask_tcp("192.0.2.1:8080", PATIENCE).unwrap(), "::ffff:192.0.2.1");
        // One port of many goes, in one step; the others go on.
        let change = books.change(&[(Protocol::Tcp, addr("0.0.0.0:8080"))], Vec::new());
        assert_eq!((change.closed.len(), change.open.len()), (1, 2));
        site.firewall.change(&change).unwrap();
        assert!(tcp_dropped(&site.neighbour, "192.0.2.1:8080"));
        assert_eq!(from_neighbour("192.0.2.1:80"), "::ffff:192.0.2.2");
        site.firewall
            .change(&books.change(&[], vec![mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.3:80")]))
            .unwrap();
        assert_eq!(from_neighbour("192.0.2.1:8080"), "::ffff:192.0.2.2");
        site.firewall.replace(&Contents { mappings: books.all(), ..Contents::default() }).unwrap();
        assert_eq!(from_neighbour("192.0.2.1:30"), "::ffff:192.0.2.2");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn networks_are_apart() {
    on_private_host(|| {
        let mut site = site(&["192.0.2.1"]);
        assert_eq!(tcp_from(&site.one, "172.17.0.3:80").unwrap(), "::ffff:172.17.0.2");
        assert!(tcp_dropped(&site.one, "172.18.0.2:80"));
        assert!(tcp_dropped(&site.other, "172.17.0.2:80"));
        // A port published by one is not redirected for the other; the listener on the host would answer.
        site.firewall.publish(&[mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80")]).unwrap();
        assert!(tcp_dropped(&site.other, "192.0.2.1:8080"));
        serve_tcp(&network::netns::current().unwrap(), "0.0.0.0:8080");
        assert_eq!(tcp_from(&site.other, "192.0.2.1:8080").unwrap(), "172.18.0.2");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn icc_off_parts_siblings_but_not_the_host() {
    on_private_host(|| {
        let mut site = site(&[]);
        site.networks[0].icc = false;
        site.firewall.install(&site.networks).unwrap();
        assert!(tcp_dropped(&site.one, "172.17.0.3:80"));
        assert!(tcp_dropped(&site.one, "[fd00:17::3]:80"));
        assert_eq!(tcp_from(&site.one, "192.0.2.2:80").unwrap(), "::ffff:192.0.2.1");
        site.firewall.publish(&[mapping(Protocol::Tcp, "192.0.2.1:8080", "172.17.0.2:80")]).unwrap();
        assert_eq!(tcp_from(&site.neighbour, "192.0.2.1:8080").unwrap(), "::ffff:192.0.2.2");
        // Where no filter sees bridged packets, isolated ports do the same.
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0").unwrap();
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0").unwrap();
        let gateways = ["172.17.0.1"];
        let three = isolated("docker0", "veth4", &["172.17.0.4/16"], &gateways);
        let four = isolated("docker0", "veth5", &["172.17.0.5/16"], &gateways);
        serve_tcp(&four, "0.0.0.0:80");
        assert!(tcp_dropped(&three, "172.17.0.5:80"));
        assert_eq!(tcp_from(&three, "192.0.2.2:80").unwrap(), "::ffff:192.0.2.1");
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap();
        site.networks[0].icc = true;
        site.firewall.install(&site.networks).unwrap();
        assert_eq!(tcp_from(&site.one, "172.17.0.3:80").unwrap(), "::ffff:172.17.0.2");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn internal_networks_have_no_outside() {
    on_private_host(|| {
        let mut site = site(&["192.0.2.1"]);
        site.networks[0].internal = true;
        site.firewall.install(&site.networks).unwrap();
        assert!(tcp_dropped(&site.one, "192.0.2.2:80"));
        assert!(tcp_dropped(&site.one, "172.18.0.2:80"));
        assert_eq!(tcp_from(&site.one, "172.17.0.3:80").unwrap(), "::ffff:172.17.0.2");
        site.firewall.publish(&[mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80")]).unwrap();
        assert!(tcp_dropped(&site.neighbour, "192.0.2.1:8080"));
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn ports_on_loopback_are_for_the_host_alone() {
    on_private_host(|| {
        let mut site = site(&[]);
        serve_tcp(&network::netns::current().unwrap(), "127.0.0.1:8080");
        serve_tcp(&network::netns::current().unwrap(), "127.0.0.1:8081");
        // CVE-2020-8558: with route_localnet the kernel lets a neighbour's packets to 127.0.0.1 in.
        for device in ["all", "uplink", "docker0"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/route_localnet"), "1").unwrap();
        }
        for namespace in [&site.neighbour, &site.one] {
            run_in(namespace, || {
                std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
                std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
                for arguments in ["addr flush dev lo", "route add 127.0.0.0/8 via GATEWAY dev eth0"] {
                    let addresses = network::host::addresses().unwrap();
                    let own =
                        addresses.iter().find(|(name, net)| name == "eth0" && !net.is_ipv6()).unwrap().1;
                    let gateway = if own.to_string().starts_with("172") { "172.17.0.1" } else { "192.0.2.1" };
                    let arguments = arguments.replace("GATEWAY", gateway);
                    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
                    assert!(status.success(), "ip {arguments}");
                }
            });
        }
        assert_eq!(
            tcp_from(&site.neighbour, "127.0.0.1:8080").unwrap(),
            "192.0.2.2",
            "the attack must be real"
        );
        site.firewall.publish(&[mapping(Protocol::Tcp, "127.0.0.1:8080", "172.17.0.2:80")]).unwrap();
        assert!(tcp_dropped(&site.neighbour, "127.0.0.1:8080"));
        assert!(tcp_dropped(&site.one, "127.0.0.1:8080"));
        assert_eq!(ask_tcp("127.0.0.1:8080", PATIENCE).unwrap(), "127.0.0.1");
        assert_eq!(tcp_from(&site.neighbour, "127.0.0.1:8081").unwrap(), "192.0.2.2", "not ours to guard");
        site.firewall.install(&site.networks).unwrap();
        assert!(tcp_dropped(&site.neighbour, "127.0.0.1:8080"), "after a reload too (CVE-2025-54388)");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn a_flow_from_before_meets_the_new_rule() {
    on_private_host(|| {
        let mut site = site(&[]);
        serve_udp(&network::netns::current().unwrap(), "0.0.0.0:5353");
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (say, said) = std::sync::mpsc::channel::<std::io::Result<String>>();
        let client = spawn_in(&site.neighbour, move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:4000").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect("192.0.2.1:5353").unwrap();
            while told.recv().is_ok() {
                socket.send(b"hello").unwrap();
                let mut buffer = [0; 64];
                let answer = socket.recv(&mut buffer);
                say.send(answer.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()))
                    .unwrap();
            }
        });
        let ask = || {
            tell.send(()).unwrap();
            said.recv().unwrap().unwrap()
        };
        assert_eq!(ask(), "192.0.2.2");
        // Served by the host until now. The container sees the client itself; to tell the two apart, mask the client.
        nft(&[
            "add",
            "rule",
            "inet",
            "wharf",
            "postrouting",
            "ip",
            "daddr",
            "172.17.0.2",
            "snat",
            "ip",
            "to",
            "172.17.0.1",
        ]);
        let port = [mapping(Protocol::Udp, "0.0.0.0:5353", "172.17.0.2:53")];
        site.firewall.publish(&port).unwrap();
        assert_eq!(ask(), "172.17.0.1");
        site.firewall.unpublish(&port).unwrap();
        assert_eq!(ask(), "192.0.2.2");
        drop(tell);
        client.join().unwrap();
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn the_administrators_chain_comes_first_and_is_kept() {
    on_private_host(|| {
        let mut site = site(&["192.0.2.1"]);
        nft(&["add", "rule", "inet", "wharf", "wharf-user", "ip", "daddr", "172.17.0.3", "accept"]);
        nft(&[
            "add",
            "rule",
            "inet",
            "wharf",
            "wharf-user",
            "ip",
            "saddr",
            "172.17.0.2",
            "ip",
            "daddr",
            "192.0.2.2",
            "drop",
        ]);
        site.firewall.install(&site.networks).unwrap();
        assert_eq!(tcp_from(&site.neighbour, "172.17.0.3:80").unwrap(), "::ffff:192.0.2.2");
        assert!(tcp_dropped(&site.one, "192.0.2.2:80"));
        assert_eq!(tcp_from(&site.two, "192.0.2.2:80").unwrap(), "::ffff:192.0.2.1");
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn writing_twice_is_writing_once_and_removal_leaves_others() {
    on_private_host(|| {
        nft(&["add", "table", "inet", "mine"]);
        let mut site = site(&[]);
        site.networks[1].icc = false;
        site.firewall.install(&site.networks).unwrap();
        site.firewall.publish(&[mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80")]).unwrap();
        let once = nft(&["-s", "list", "ruleset"]);
        site.firewall.install(&site.networks).unwrap();
        assert_eq!(nft(&["-s", "list", "ruleset"]), once);
        for line in [
            "iifname @bridges return",
            "dnat ip to meta l4proto . ip daddr . th dport map @ports4",
            "dnat ip6 to meta l4proto . th dport map @ports6-any",
            "ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade",
            "ip6 saddr fd00:17::/64 oifname != \"docker0\" masquerade",
            "ct status dnat accept",
            "elements = { tcp . 8080 : 172.17.0.2 . 80 }",
            "\"docker0\" . \"docker0\" : accept",
        ] {
            assert!(once.contains(line), "{line:?} is not in\n{once}");
        }
        site.firewall.install(&[]).unwrap();
        assert!(!nft(&["list", "ruleset"]).contains("docker0"));
        site.firewall.remove().unwrap();
        site.firewall.remove().unwrap();
        assert_eq!(nft(&["list", "tables"]), "table inet mine\n");
    });
}

#[test]
#[ignore = "root: network namespaces and nftables"]
fn without_tables_nothing_is_published() {
    on_private_host(|| {
        let mut firewall = Firewall::open().unwrap();
        let port = [mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80")];
        let error = firewall.publish(&port).unwrap_err();
        assert_eq!(base::chain(&error), "nftables: publish ports: no such file or directory");
        firewall.unpublish(&port).unwrap();
        firewall.remove().unwrap();
    });
}
