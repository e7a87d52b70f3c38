//! The resolver inside a container's namespace.

use crate::support::*;
use network::bridge::{self, Bridge};
use network::netns;
use network::resolver::{Forwarder, Names, Resolver, Settings};
use rustix::fd::{AsFd, OwnedFd};
use std::net::UdpSocket;
use std::time::Duration;

/// Asks 127.0.0.11:53 from inside for the address of `name`, as any resolver library does.
fn look_up(namespace: &OwnedFd, name: &'static str, from: &'static str) -> Vec<u8> {
    run_in(namespace, move || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        let mut question = vec![4, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        socket.send(&question).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    })
}

/// A name server in a namespace that answers every question with the last octet of its asker's address.
fn name_server(namespace: &OwnedFd, address: &'static str) {
    let (ready, wait) = std::sync::mpsc::channel();
    spawn_in(namespace, move || {
        let socket = UdpSocket::bind(address).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let last = match peer.ip() {
                std::net::IpAddr::V4(v4) => v4.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 9, 9, 9, last]);
            socket.send_to(&answer, peer).unwrap();
        }
    });
    wait.recv().unwrap();
}

#[test]
#[ignore = "root: network namespaces, links and nftables"]
fn names_inside_and_outside() {
    on_private_host(|| {
        bridge::ensure(&Bridge { name: "br-1".into(), addresses: vec![net("172.18.0.1/16")], mtu: None, mac: None })
            .unwrap();
        let one = container("br-1", "veth1", &["172.18.0.2/16"], &["172.18.0.1"]);
        // One server that the container reaches, one that only the host does.
        name_server(&netns::current().unwrap(), "172.18.0.1:53");
        name_server(&netns::current().unwrap(), "127.0.0.53:53");
        let mut names = Names::new();
        names.add("web", ip("172.18.0.7"));
        let forwarder = |address: &str, from_host| Forwarder { address: addr(address), from_host };
        let mut settings =
            Settings { names, forwarders: vec![forwarder("172.18.0.1:53", false)], ..Settings::default() };
        let mut resolver = Resolver::new(one.try_clone().unwrap(), settings.clone()).unwrap();
        let (tell, told) = std::sync::mpsc::channel::<Settings>();
        std::thread::spawn(move || {
            loop {
                if sys::event::readable_within(resolver.as_fd(), Some(Duration::from_millis(20))).unwrap() {
                    resolver.dispatch().unwrap();
                }
                told.try_iter().for_each(|settings| resolver.update(settings));
            }
        });
        let here = "0.0.0.0:0";
        assert!(look_up(&one, "web", here).ends_with(&[172, 18, 0, 7]));
        assert!(look_up(&one, "example.org", here).ends_with(&[9, 9, 9, 2]), "asked by the container");
        settings.forwarders = vec![forwarder("127.0.0.53:53", true)];
        tell.send(settings.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(look_up(&one, "example.org", here).ends_with(&[9, 9, 9, 1]), "asked by the host");
        settings.forwarders.clear();
        tell.send(settings).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(look_up(&one, "example.org", here)[3] & 15, 2);
        // A name server of the container's own may take port 53 of all its addresses.
        let taken = run_in(&one, || UdpSocket::bind("0.0.0.0:53").map(|_| ()));
        taken.unwrap();
    });
}
