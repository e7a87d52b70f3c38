//! What the operations on the way of a start cost. Prints; asserts only that nothing is slower by an order of magnitude.
//!
//! `cargo test --release -p network --test privileged measure -- --include-ignored --nocapture --test-threads 1`

#![expect(clippy::print_stdout, reason = "a measurement prints")]

use crate::firewall::mapping;
use crate::support::*;
use network::bridge::{self, Bridge};
use network::endpoint::{self, Attachment, EndpointPlan};
use network::firewall::{Contents, Firewall, Mapping, NetworkRules};
use network::{Mac, Protocol, netns};
use rustix::fd::AsFd;
use std::time::{Duration, Instant};

/// Runs `step` this often and returns the shortest and the median time.
fn measure(name: &str, count: usize, mut step: impl FnMut(usize)) -> Duration {
    let mut times: Vec<Duration> = (0..count)
        .map(|index| {
            let start = Instant::now();
            step(index);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{name}: min {:?}, median {:?}, n = {count}", times[0], times[count / 2]);
    times[count / 2]
}

fn tcp(port: u16) -> Mapping {
    mapping(Protocol::Tcp, &format!("0.0.0.0:{port}"), "172.17.0.2:80")
}

#[test]
#[ignore = "root: network namespaces and nftables; a measurement"]
fn publishing_costs_the_same_at_any_number() {
    on_private_host(|| {
        let mut firewall = Firewall::open().unwrap();
        let networks: Vec<NetworkRules> = (0..20)
            .map(|number| NetworkRules {
                bridge: format!("br-{number}"),
                subnets: vec![net(&format!("10.{number}.0.0/16"))],
                masqueraded: vec![net(&format!("10.{number}.0.0/16"))],
                addresses: Vec::new(),
                open: [false; 2],
                icc: true,
                internal: false,
            })
            .collect();
        measure("install 20 networks", 50, |_| firewall.install(&networks).unwrap());
        for published in [0_u16, 1000, 10_000] {
            let ports: Vec<Mapping> = (0..published).map(|port| tcp(10_000 + port)).collect();
            let start = Instant::now();
            firewall.replace(&Contents { mappings: ports.clone(), ..Contents::default() }).unwrap();
            println!("replace by {published} ports: {:?}", start.elapsed());
            let add = measure(&format!("publish one of {published}"), 500, |index| {
                firewall.publish(&[tcp(1 + u16::try_from(index).unwrap())]).unwrap();
            });
            let delete = measure(&format!("unpublish one of {published}"), 500, |index| {
                firewall.unpublish(&[tcp(1 + u16::try_from(index).unwrap())]).unwrap();
            });
            assert!(add < Duration::from_millis(2) && delete < Duration::from_millis(2));
        }
    });
}

#[test]
#[ignore = "root: network namespaces and links; a measurement"]
fn attaching_an_endpoint() {
    on_private_host(|| {
        let bridge =
            Bridge { name: "docker0".into(), addresses: vec![net("172.17.0.1/16")], mtu: None, mac: None };
        bridge::ensure(&bridge).unwrap();
        let mut namespaces = Vec::new();
        measure("make a namespace", 100, |_| namespaces.push(netns::create().unwrap()));
        measure("attach an endpoint", 100, |index| {
            let host_name = format!("veth{index}");
            endpoint::attach(&EndpointPlan {
                netns: namespaces[index].as_fd(),
                link: Attachment::Bridge { bridge: "docker0".into(), host_name, isolated: false },
                name: "eth0".into(),
                mac: Mac::random(),
                addresses: vec![net(&format!("172.17.1.{index}/16"))],
                gateways: vec![ip("172.17.0.1")],
                routes: Vec::new(),
                mtu: 1500,
                sysctls: Vec::new(),
            })
            .unwrap();
        });
        measure("close the namespace", 100, |_| drop(namespaces.pop()));
    });
}
