//! Links, addresses and routes as the kernel takes them.

use crate::support::*;
use network::bridge::{self, Bridge};
use network::endpoint::{Attachment, EndpointPlan, MacvlanMode};
use network::{Error, Mac, endpoint, host, netns};
use rustix::fd::AsFd;
use std::time::{Duration, Instant};

fn wharf0() -> Bridge {
    Bridge {
        name: "wharf0".into(),
        addresses: vec![net("172.17.0.1/16"), net("fd00:17::1/64")],
        mtu: Some(1400),
        mac: None,
    }
}

#[test]
#[ignore = "root: network namespaces and links"]
fn a_bridge_is_made_changed_and_removed() {
    on_private_host(|| {
        let addresses = || {
            let mut list: Vec<String> = host::addresses()
                .unwrap()
                .into_iter()
                .filter(|(name, net)| name == "wharf0" && !net.to_string().starts_with("fe80"))
                .map(|(_, net)| net.to_string())
                .collect();
            list.sort();
            list
        };
        bridge::ensure(&wharf0()).unwrap();
        bridge::ensure(&wharf0()).unwrap();
        assert_eq!(addresses(), ["172.17.0.1/16", "fd00:17::1/64"]);
        assert!(host::routes().unwrap().contains(&net("172.17.0.0/16")));
        bridge::ensure(&Bridge { addresses: vec![net("172.18.0.1/16")], ..wharf0() }).unwrap();
        assert_eq!(addresses(), ["172.18.0.1/16"]);
        let file = |what: &str| {
            let path = format!("/proc/sys/net/ipv6/conf/wharf0/{what}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!((file("disable_ipv6"), file("accept_ra")), ("1".into(), "0".into()));
        bridge::remove("wharf0").unwrap();
        bridge::remove("wharf0").unwrap();
        assert!(!bridge::exists("wharf0").unwrap());
        assert!(matches!(bridge::remove("lo"), Err(Error::NotABridge(_))));
        let lo = Bridge { name: "lo".into(), ..Bridge::default() };
        assert!(matches!(bridge::ensure(&lo), Err(Error::NotABridge(_))));
    });
}

#[test]
#[ignore = "root: network namespaces and links"]
fn containers_reach_the_host_and_each_other() {
    on_private_host(|| {
        bridge::ensure(&wharf0()).unwrap();
        let one =
            container("wharf0", "veth1", &["172.17.0.2/16", "fd00:17::2/64"], &["172.17.0.1", "fd00:17::1"]);
        let two = container("wharf0", "veth2", &["172.17.0.3/16"], &["172.17.0.1"]);
        let here = netns::current().unwrap();
        serve_tcp(&here, "0.0.0.0:80");
        serve_tcp(&here, "[::]:81");
        serve_tcp(&two, "0.0.0.0:80");
        assert_eq!(tcp_from(&one, "172.17.0.1:80").unwrap(), "172.17.0.2");
        assert_eq!(tcp_from(&one, "[fd00:17::1]:81").unwrap(), "fd00:17::2");
        assert_eq!(tcp_from(&one, "172.17.0.3:80").unwrap(), "172.17.0.2");
        assert_eq!(tcp_from(&two, "127.0.0.1:80").unwrap(), "127.0.0.1");
        let ipv6 =
            run_in(&two, || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").unwrap());
        assert_eq!(ipv6.trim(), "1");
        let mut ports = host::ports_of("wharf0").unwrap();
        ports.sort();
        assert_eq!(ports, ["veth1", "veth2"]);

        endpoint::detach("veth1").unwrap();
        endpoint::detach("veth1").unwrap();
        endpoint::detach_inside(two.as_fd(), "eth0").unwrap();
        endpoint::detach_inside(two.as_fd(), "eth0").unwrap();
        assert_eq!(host::ports_of("wharf0").unwrap(), [""; 0]);
    });
}

#[test]
#[ignore = "root: network namespaces and links"]
fn closing_the_namespace_removes_the_pair() {
    on_private_host(|| {
        bridge::ensure(&wharf0()).unwrap();
        drop(container("wharf0", "veth1", &["172.17.0.2/16"], &["172.17.0.1"]));
        let deadline = Instant::now() + PATIENCE;
        while bridge::exists("veth1").unwrap() {
            assert!(Instant::now() < deadline, "the kernel keeps veth1");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
#[ignore = "root: network namespaces and links"]
fn a_failed_attach_leaves_nothing() {
    on_private_host(|| {
        bridge::ensure(&wharf0()).unwrap();
        let namespace = netns::create().unwrap();
        let plan = EndpointPlan {
            netns: namespace.as_fd(),
            link: Attachment::Bridge { bridge: "wharf0".into(), host_name: "veth1".into(), isolated: false },
            name: "eth0".into(),
            mac: Mac::random(),
            addresses: vec![net("172.17.0.2/16")],
            gateways: vec![ip("10.9.9.9")],
            routes: Vec::new(),
            mtu: 1500,
            sysctls: Vec::new(),
        };
        let error = endpoint::attach(&plan).unwrap_err();
        assert_eq!(base::chain(&error), "add default route through eth0: network is unreachable");
        assert_eq!(host::ports_of("wharf0").unwrap(), [""; 0]);

        let lost = Attachment::Bridge { bridge: "nosuch".into(), host_name: "veth1".into(), isolated: false };
        let error = endpoint::attach(&EndpointPlan { link: lost, ..plan.clone() }).unwrap_err();
        assert_eq!(error.to_string(), "link nosuch not found");

        let sysctls = vec![("kernel.hostname".to_owned(), "x".to_owned())];
        let error = endpoint::attach(&EndpointPlan { sysctls, ..plan.clone() }).unwrap_err();
        assert!(matches!(error, Error::ForeignSysctl(_)), "{error}");
        assert_eq!(host::ports_of("wharf0").unwrap(), [""; 0]);

        let good = EndpointPlan {
            gateways: vec![ip("172.17.0.1")],
            routes: vec![(net("10.0.0.0/8"), ip("172.17.0.7"))],
            sysctls: vec![("net.ipv4.conf.eth0.route_localnet".into(), "1".into())],
            ..plan
        };
        endpoint::attach(&good).unwrap();
        let routes = run_in(&namespace, || host::routes().unwrap());
        assert!(routes.contains(&net("10.0.0.0/8")) && routes.contains(&net("0.0.0.0/0")), "{routes:?}");
    });
}

#[test]
#[ignore = "root: network namespaces and links"]
fn macvlan_children_of_one_parent_see_each_other() {
    on_private_host(|| {
        // A bridge has carrier only with a port that is up.
        bridge::ensure(&Bridge { name: "parent".into(), ..Bridge::default() }).unwrap();
        let _port = container("parent", "veth0", &[], &[]);
        let child = |address: &str| {
            let namespace = netns::create().unwrap();
            endpoint::attach(&EndpointPlan {
                netns: namespace.as_fd(),
                link: Attachment::Macvlan { parent: "parent".into(), mode: MacvlanMode::Bridge },
                name: "eth0".into(),
                mac: Mac::random(),
                addresses: vec![net(address)],
                gateways: Vec::new(),
                routes: Vec::new(),
                mtu: 1500,
                sysctls: Vec::new(),
            })
            .unwrap();
            namespace
        };
        let (one, two) = (child("10.1.0.2/24"), child("10.1.0.3/24"));
        serve_tcp(&two, "0.0.0.0:80");
        assert_eq!(tcp_from(&one, "10.1.0.3:80").unwrap(), "10.1.0.2");
    });
}

#[test]
#[ignore = "root: network namespaces and links"]
fn forwarding_is_switched_on_in_this_namespace_only() {
    on_private_host(|| {
        let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
        network::enable_forwarding(&[net("172.17.0.0/16"), net("fd00::/64")]).unwrap();
        assert_eq!(read("/proc/sys/net/ipv4/ip_forward"), "1");
        assert_eq!(read("/proc/sys/net/ipv6/conf/all/forwarding"), "1");
    });
}
