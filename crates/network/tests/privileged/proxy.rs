//! The port proxy beside the packet filter: what each of them serves.

use crate::firewall::{mapping, site};
use crate::support::*;
use network::Protocol;
use network::proxy::{Limits, Listener, Proxy};
use rustix::fd::AsFd;
use std::time::Duration;

/// Serves a proxy on a thread for the rest of the test.
fn serve(mut proxy: Proxy) {
    std::thread::spawn(move || {
        loop {
            sys::event::readable_within(proxy.as_fd(), Some(Duration::from_secs(1))).unwrap();
            proxy.dispatch().unwrap();
        }
    });
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn loopback_and_containers_are_served_by_the_proxy_and_the_outside_by_the_filter() {
    on_private_host(|| {
        let mut site = site(&[]);
        let ports = [
            mapping(Protocol::Tcp, "0.0.0.0:8080", "172.17.0.2:80"),
            mapping(Protocol::Tcp, "[::]:8080", "172.17.0.2:80"),
            mapping(Protocol::Tcp, "127.0.0.1:8081", "172.17.0.2:80"),
            mapping(Protocol::Udp, "0.0.0.0:5353", "172.17.0.2:53"),
        ];
        let mut proxy = Proxy::new(Limits::default()).unwrap();
        for port in &ports {
            let listener = Listener::bind(port.protocol, (port.host_ip, port.host_port).into()).unwrap();
            proxy.add(listener, (port.container_ip, port.container_port).into()).unwrap();
        }
        serve(proxy);
        site.firewall.publish(&ports).unwrap();
        // The container sees the client itself, or the bridge's address where the proxy stands between.
        let proxied = "::ffff:172.17.0.1";
        assert_eq!(tcp_from(&site.neighbour, "192.0.2.1:8080").unwrap(), "::ffff:192.0.2.2");
        assert_eq!(tcp_from(&site.neighbour, "[fd00:2::1]:8080").unwrap(), proxied);
        assert_eq!(ask_tcp("127.0.0.1:8080", PATIENCE).unwrap(), proxied);
        assert_eq!(ask_tcp("[::1]:8080", PATIENCE).unwrap(), proxied);
        assert_eq!(ask_tcp("127.0.0.1:8081", PATIENCE).unwrap(), proxied);
        assert_eq!(tcp_from(&site.other, "192.0.2.1:8080").unwrap(), proxied);
        assert_eq!(tcp_from(&site.two, "172.17.0.1:8080").unwrap(), proxied);
        assert_eq!(tcp_from(&site.one, "192.0.2.1:8080").unwrap(), proxied, "a container to its own port");
        for namespace in [&site.one, &site.two, &site.other] {
            // Connected sockets: the answer must come from the very address that was asked.
            assert_eq!(run_in(namespace, || ask_udp("192.0.2.1:5353", PATIENCE)).unwrap(), "172.17.0.1");
        }
        assert_eq!(run_in(&site.neighbour, || ask_udp("192.0.2.1:5353", PATIENCE)).unwrap(), "192.0.2.2");
    });
}
