//! The rule set as nft would print it.

use super::*;
use crate::netlink::nft::ElementData;
use std::net::SocketAddr;

fn networks() -> Vec<NetworkRules> {
    let open = NetworkRules {
        bridge: "docker0".into(),
        subnets: vec!["172.17.0.1/16".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
        addresses: vec!["172.17.0.1".parse().unwrap(), "fd00:17::1".parse().unwrap()],
        masqueraded: vec!["172.17.0.1/16".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
        open: [false, true],
        icc: true,
        internal: false,
    };
    let closed = NetworkRules {
        bridge: "br-1".into(),
        subnets: vec!["172.18.0.0/16".parse().unwrap()],
        addresses: Vec::new(),
        masqueraded: Vec::new(),
        open: [false; 2],
        icc: false,
        internal: true,
    };
    vec![open, closed]
}

const RULES_OF_TWO: &str = r#"table inet wharf {
	set bridges { type ifname; elements = { "docker0", "br-1" } }
	set internal { type ifname; elements = { "br-1" } }
	set open4 { type ifname }
	set open6 { type ifname; elements = { "docker0" } }
	map intra { type ifname . ifname : verdict; elements = { "docker0" . "docker0" : accept, "br-1" . "br-1" : goto between } }
	set links4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service }
	set links6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service }
	set direct4 { type inet_proto . ipv4_addr . inet_service }
	set direct6 { type inet_proto . ipv6_addr . inet_service }
	map ports4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service }
	map ports4-any { type inet_proto . inet_service : ipv4_addr . inet_service }
	map ranges4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr; flags interval }
	map shifted4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service . inet_service; flags interval }
	map ports6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service }
	map ports6-any { type inet_proto . inet_service : ipv6_addr . inet_service }
	map ranges6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr; flags interval }
	map shifted6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service . inet_service; flags interval }
	set loopback-ports { type inet_proto . ipv4_addr . inet_service }
	set loopback-ranges { type inet_proto . ipv4_addr . inet_service; flags interval }
	chain wharf-user {
	}
	chain raw-prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname != "lo" meta nfproto ipv4 meta l4proto . ip daddr . th dport @loopback-ports drop
		iifname != "lo" meta nfproto ipv4 meta l4proto . ip daddr . th dport @loopback-ranges drop
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname @bridges return
		fib daddr type local jump published
	}
	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.0/8 return
		ip6 daddr ::1/128 return
		fib daddr type local jump published
	}
	chain published {
		meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @ports4
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4-any
		meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @ranges4
		meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @shifted4
		meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6-any
		meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @ranges6
		meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @shifted6
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
		ip6 saddr fd00:17::/64 oifname != "docker0" masquerade
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		jump wharf-user
		oifname @bridges goto inbound
		iifname @bridges goto outbound
	}
	chain inbound {
		iifname . oifname vmap @intra
		oifname @internal drop
		iifname @internal drop
		ct state established,related accept
		meta mark & 0xff == 0x1 accept
		iifname @bridges drop
		ct status dnat accept
		meta nfproto ipv4 meta l4proto . ip daddr . th dport @direct4 accept
		meta nfproto ipv6 meta l4proto . ip6 daddr . th dport @direct6 accept
		meta nfproto ipv4 oifname @open4 accept
		meta nfproto ipv6 oifname @open6 accept
		drop
	}
	chain between {
		meta nfproto ipv4 ip saddr . ip daddr . meta l4proto . th dport @links4 accept
		meta nfproto ipv4 ip daddr . ip saddr . meta l4proto . th sport @links4 accept
		meta nfproto ipv6 ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept
		meta nfproto ipv6 ip6 daddr . ip6 saddr . meta l4proto . th sport @links6 accept
		meta nfproto ipv6 icmpv6 type nd-neighbor-solicit accept
		meta nfproto ipv6 icmpv6 type nd-neighbor-advert accept
		drop
	}
	chain outbound {
		iifname @internal drop
		accept
	}
}
"#;

#[test]
fn the_rules_of_two_networks() {
    assert_eq!(plan::table(&networks(), Some(Mark { value: 1, mask: 0xff })).to_string(), RULES_OF_TWO);
}

#[test]
fn the_rules_of_bridges() {
    let expect = r#"table bridge wharf {
	set closed { type ifname }
	set links4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service }
	set links6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service }
	set neighbours4 { type ipv4_addr . ipv4_addr }
	set neighbours6 { type ipv6_addr . ipv6_addr }
	set gateways4 { type ipv4_addr; elements = { 172.17.0.1 } }
	set gateways6 { type ipv6_addr; elements = { fd00:17::1 } }
	chain forward {
		type filter hook forward priority -200; policy accept;
		meta protocol 0x0806 arp saddr ip @gateways4 drop
		meta protocol 0x86dd icmpv6 type nd-neighbor-advert icmpv6 taddr @gateways6 drop
		iifname @closed goto between
	}
	chain between {
		meta protocol 0x0800 ip saddr . ip daddr . meta l4proto . th dport @links4 accept
		meta protocol 0x0800 ip daddr . ip saddr . meta l4proto . th sport @links4 accept
		meta protocol 0x86dd ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept
		meta protocol 0x86dd ip6 daddr . ip6 saddr . meta l4proto . th sport @links6 accept
		meta protocol 0x0806 arp saddr ip . arp daddr ip @neighbours4 accept
		meta protocol 0x86dd icmpv6 type nd-neighbor-solicit ip6 saddr . icmpv6 taddr @neighbours6 accept
		meta protocol 0x86dd icmpv6 type nd-neighbor-advert ip6 saddr . ip6 daddr @neighbours6 accept
		drop
	}
}
"#;
    assert_eq!(plan::bridge_table(&networks()).to_string(), expect);
}

#[test]
fn where_a_port_goes() {
    let check = |host: &str, container: &str, expect: Option<(&str, &[u8], &[u8])>| {
        let mapping = Mapping {
            protocol: Protocol::Tcp,
            host_ip: host.parse().unwrap(),
            host_port: 8080,
            container_ip: container.parse().unwrap(),
            container_port: 80,
            more: 0,
            way: Way::Host,
        };
        let got = ports::element(&mapping).map(|(set, element)| {
            let data = match element.data {
                ElementData::Value(data) => data,
                _ => Vec::new(),
            };
            (set, element.key, data)
        });
        assert_eq!(got, expect.map(|(set, key, data)| (set, key.to_vec(), data.to_vec())), "{host}");
    };
    let any: (&[u8], &[u8]) = (&[6, 0, 0, 0, 0x1f, 0x90, 0, 0], &[172, 17, 0, 2, 0, 80, 0, 0]);
    check("0.0.0.0", "172.17.0.2", Some(("ports4-any", any.0, any.1)));
    check("192.0.2.1", "172.17.0.2", Some(("ports4", &[6, 0, 0, 0, 192, 0, 2, 1, 0x1f, 0x90, 0, 0], any.1)));
    check(
        "127.0.0.1",
        "172.17.0.2",
        Some(("loopback-ports", &[6, 0, 0, 0, 127, 0, 0, 1, 0x1f, 0x90, 0, 0], &[])),
    );
    check("::", "172.17.0.2", None);
    check("::1", "fd00::2", None);
    let six = [[0xfd, 0].as_slice(), &[0; 13], &[2, 0, 80, 0, 0]].concat();
    check("::", "fd00::2", Some(("ports6-any", any.0, &six)));
}

fn run(host: &str, container: &str, more: u16) -> Mapping {
    let (host, container): (SocketAddr, SocketAddr) = (host.parse().unwrap(), container.parse().unwrap());
    Mapping {
        protocol: Protocol::Tcp,
        host_ip: host.ip(),
        host_port: host.port(),
        container_ip: container.ip(),
        container_port: container.port(),
        more,
        way: Way::Host,
    }
}

#[test]
fn a_run_of_ports_is_one_element() {
    let mut books = Redirections::default();
    let single =
        |host: u16, container: u16| run(&format!("0.0.0.0:{host}"), &format!("172.17.0.2:{container}"), 0);
    let change = books.change(&[], (8000..=8999).rev().map(|port| single(port, port)).collect());
    assert_eq!(change.open, [run("0.0.0.0:8000", "172.17.0.2:8000", 999)]);
    let (set, element) = ports::element(&change.open[0]).unwrap();
    assert_eq!(set, "ranges4");
    assert_eq!(element.key, [6, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0x40, 0, 0]);
    assert_eq!(element.last, Some(vec![6, 0, 0, 0, 255, 255, 255, 255, 0x23, 0x27, 0, 0]));
    // Two parts of it go, and the rest goes on.
    let gone =
        ["0.0.0.0:8100", "0.0.0.0:8101", "0.0.0.0:8500"].map(|at| (Protocol::Tcp, at.parse().unwrap()));
    let change = books.change(&gone, Vec::new());
    assert_eq!(change.closed, [run("0.0.0.0:8000", "172.17.0.2:8000", 999)]);
    let rest = [("8000", 99), ("8102", 397), ("8501", 498)];
    let rest = rest.map(|(port, more)| run(&format!("0.0.0.0:{port}"), &format!("172.17.0.2:{port}"), more));
    assert_eq!(change.open, rest);
    assert_eq!(books.all(), rest);
    books.undo(&change);
    assert_eq!(books.all(), [run("0.0.0.0:8000", "172.17.0.2:8000", 999)]);
    // What is on another address or leads elsewhere does not belong to it.
    let change = books.change(&[], vec![single(9000, 80), single(9001, 82), single(9002, 83)]);
    assert_eq!(
        change.open,
        [run("0.0.0.0:9000", "172.17.0.2:80", 0), run("0.0.0.0:9001", "172.17.0.2:82", 1)]
    );
    assert_eq!(
        books.change(&[(Protocol::Udp, "0.0.0.0:9000".parse().unwrap())], Vec::new()),
        Change::default()
    );
}

#[test]
fn runs_that_lead_to_other_numbers_are_exact() {
    // What the kernel does with the two ports of an element.
    let kernel = |port: u16, low: u16, high: u16| {
        u32::from(low) + u32::from(port) % (u32::from(high) - u32::from(low) + 1)
    };
    let check = |host: u16, container: u16, more: u16, elements: usize| {
        let mut books = Redirections::default();
        let whole = run(&format!("192.0.2.1:{host}"), &format!("172.17.0.2:{container}"), more);
        let open = books.change(&[], vec![whole]).open;
        assert_eq!(open.len(), elements, "{host} {container} {more}");
        for (set, element) in open.iter().filter_map(ports::element) {
            let (ElementData::Value(value), Some(last)) = (element.data, element.last) else { continue };
            assert_eq!(set, "shifted4");
            let number = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            for port in number(&element.key, 8)..=number(&last, 8) {
                let expected = u32::from(port) - u32::from(host) + u32::from(container);
                assert_eq!(
                    kernel(port, number(&value, 4), number(&value, 8)),
                    expected,
                    "{host} {container}"
                );
            }
        }
    };
    for (host, container, more, elements) in [
        (8000, 80, 999, 1),
        (80, 8000, 999, 1),
        (60000, 50000, 5535, 1),
        (2, 65530, 5, 1),
        (1, 2, 65533, 1),
        (65000, 1, 535, 1),
        (1000, 900, 1199, 2),
        (2, 1, 65000, 16),
    ] {
        check(host, container, more, elements);
    }
}
