//! The rule set as nft would print it.

use super::*;

fn networks() -> Vec<NetworkRules> {
    let open = NetworkRules {
        bridge: "docker0".into(),
        subnets: vec!["172.17.0.1/16".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
        masqueraded: vec!["172.17.0.1/16".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
        open: [false, true],
        icc: true,
        internal: false,
    };
    let closed = NetworkRules {
        bridge: "br-1".into(),
        subnets: vec!["172.18.0.0/16".parse().unwrap()],
        masqueraded: Vec::new(),
        open: [false; 2],
        icc: false,
        internal: true,
    };
    vec![open, closed]
}

#[test]
fn the_rules_of_two_networks() {
    let expect = r#"table inet wharf {
	set bridges { type ifname; elements = { "docker0", "br-1" } }
	set internal { type ifname; elements = { "br-1" } }
	set open4 { type ifname }
	set open6 { type ifname; elements = { "docker0" } }
	map intra { type ifname . ifname : verdict; elements = { "docker0" . "docker0" : accept, "br-1" . "br-1" : goto between } }
	set links { type ipv4_addr . ipv4_addr . inet_proto . inet_service }
	set direct4 { type inet_proto . ipv4_addr . inet_service }
	set direct6 { type inet_proto . ipv6_addr . inet_service }
	map ports4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service }
	map ports4-any { type inet_proto . inet_service : ipv4_addr . inet_service }
	map ports6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service }
	map ports6-any { type inet_proto . inet_service : ipv6_addr . inet_service }
	set loopback-ports { type inet_proto . ipv4_addr . inet_service }
	chain wharf-user {
	}
	chain raw-prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname != "lo" meta nfproto ipv4 meta l4proto . ip daddr . th dport @loopback-ports drop
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
		meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6-any
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
		iifname @bridges drop
		ct status dnat accept
		meta nfproto ipv4 meta l4proto . ip daddr . th dport @direct4 accept
		meta nfproto ipv6 meta l4proto . ip6 daddr . th dport @direct6 accept
		meta nfproto ipv4 oifname @open4 accept
		meta nfproto ipv6 oifname @open6 accept
		drop
	}
	chain between {
		meta nfproto ipv4 ip saddr . ip daddr . meta l4proto . th dport @links accept
		meta nfproto ipv4 ip daddr . ip saddr . meta l4proto . th sport @links accept
		drop
	}
	chain outbound {
		iifname @internal drop
		accept
	}
}
"#;
    assert_eq!(plan::table(&networks()).to_string(), expect);
}

#[test]
fn the_rules_of_bridges() {
    let expect = r#"table bridge wharf {
	set closed { type ifname }
	set links { type ipv4_addr . ipv4_addr . inet_proto . inet_service }
	set neighbours { type ipv4_addr . ipv4_addr }
	chain forward {
		type filter hook forward priority -200; policy accept;
		iifname @closed goto between
	}
	chain between {
		meta protocol 0x0800 ip saddr . ip daddr . meta l4proto . th dport @links accept
		meta protocol 0x0800 ip daddr . ip saddr . meta l4proto . th sport @links accept
		meta protocol 0x0806 arp saddr ip . arp daddr ip @neighbours accept
		drop
	}
}
"#;
    assert_eq!(plan::bridge_table().to_string(), expect);
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
            way: Way::Host,
        };
        let got = element(&mapping).map(|(set, element)| {
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
