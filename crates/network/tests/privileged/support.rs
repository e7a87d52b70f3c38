//! A private host with a neighbour, for tests that need root.
//!
//! Each test runs on a thread with a network namespace of its own that plays the host; everything it makes is gone with
//! the namespace.

use network::endpoint::{Attachment, EndpointPlan};
use network::{IpNet, Mac, endpoint, netns};
use rustix::fd::{AsFd, OwnedFd};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for a packet in a virtual network, short enough to wait for what must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Runs `test` on a thread in a fresh network namespace with `lo` up.
pub(crate) fn on_private_host<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        sys::namespace::unshare(&[sys::namespace::Namespace::Network]).unwrap();
        netns::set_loopback_up(netns::current().unwrap().as_fd()).unwrap();
        test()
    });
    thread.join().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A namespace with one interface `eth0` on a bridge of the private host.
pub(crate) fn container(bridge: &str, host_name: &str, addresses: &[&str], gateways: &[&str]) -> OwnedFd {
    let link = Attachment::Bridge { bridge: bridge.into(), host_name: host_name.into(), isolated: false };
    container_on(link, addresses, gateways)
}

/// The same for an isolated port.
pub(crate) fn isolated(bridge: &str, host_name: &str, addresses: &[&str], gateways: &[&str]) -> OwnedFd {
    let link = Attachment::Bridge { bridge: bridge.into(), host_name: host_name.into(), isolated: true };
    container_on(link, addresses, gateways)
}

fn container_on(link: Attachment, addresses: &[&str], gateways: &[&str]) -> OwnedFd {
    let namespace = netns::create().unwrap();
    let plan = EndpointPlan {
        netns: namespace.as_fd(),
        link,
        name: "eth0".into(),
        mac: Mac::random(),
        addresses: addresses.iter().map(|text| net(text)).collect(),
        gateways: gateways.iter().map(|text| ip(text)).collect(),
        routes: Vec::new(),
        mtu: 1500,
        sysctls: Vec::new(),
    };
    endpoint::attach(&plan).unwrap();
    namespace
}

/// Runs `work` inside a namespace on a thread that the caller joins.
pub(crate) fn spawn_in<T: Send + 'static>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = namespace.try_clone().unwrap();
    std::thread::spawn(move || {
        sys::namespace::enter(namespace.as_fd(), sys::namespace::Namespace::Network).unwrap();
        work()
    })
}

pub(crate) fn run_in<T: Send + 'static>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_in(namespace, work).join().unwrap()
}

/// Starts a TCP server in a namespace that answers each connection with the address it sees the peer under.
pub(crate) fn serve_tcp(namespace: &OwnedFd, address: &str) {
    let address = addr(address);
    let (ready, wait) = std::sync::mpsc::channel();
    spawn_in(namespace, move || {
        let listener = TcpListener::bind(address).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            stream.write_all(peer.as_bytes()).unwrap_or_default();
        }
    });
    wait.recv().unwrap();
}

/// Starts a UDP server in a namespace that answers with the address it sees the peer under.
pub(crate) fn serve_udp(namespace: &OwnedFd, address: &str) {
    let address = addr(address);
    let (ready, wait) = std::sync::mpsc::channel();
    spawn_in(namespace, move || {
        let socket = UdpSocket::bind(address).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 2048];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(peer.ip().to_string().as_bytes(), peer).unwrap();
        }
    });
    wait.recv().unwrap();
}

/// Connects from the calling thread's namespace; returns what the server of [`serve_tcp`] says.
pub(crate) fn ask_tcp(address: &str, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr(address), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn ask_udp(address: &str, patience: Duration) -> std::io::Result<String> {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(addr(address))?;
    socket.send(b"hello")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// From inside a namespace: TCP to `address`, patiently.
pub(crate) fn tcp_from(namespace: &OwnedFd, address: &'static str) -> std::io::Result<String> {
    run_in(namespace, move || ask_tcp(address, PATIENCE))
}

/// From inside a namespace: TCP to `address`, which is expected to be dropped.
pub(crate) fn tcp_dropped(namespace: &OwnedFd, address: &'static str) -> bool {
    run_in(namespace, move || ask_tcp(address, SILENCE)).is_err()
}
