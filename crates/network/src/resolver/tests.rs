//! The resolver between real sockets on loopback; no privileges needed.

use super::message::{A, AAAA, MX, PTR, question};
use super::*;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);
const TXT: u16 = 16;

struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl Running {
    fn start(settings: Settings) -> Self {
        let (sockets, udp, tcp) = Sockets::bind(0).unwrap();
        let mut resolver = Resolver::on(sockets, None, settings).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if sys::event::readable_within(resolver.as_fd(), Some(Duration::from_millis(20))).unwrap() {
                    resolver.dispatch().unwrap();
                }
            }
        });
        let at = |port| SocketAddr::new(crate::files::RESOLVER, port);
        Self { stop, thread: Some(thread), udp: at(udp), tcp: at(tcp) }
    }

    fn ask(&self, name: &str, kind: u16) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.udp).unwrap();
        socket.send(&question([9, 9], name, kind)).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..2], &[9, 9]);
        buffer[..length].to_vec()
    }

    fn code(&self, name: &str, kind: u16) -> (u8, u16) {
        let answer = self.ask(name, kind);
        (message::code(&answer).unwrap(), u16::from_be_bytes([answer[6], answer[7]]))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn names() -> Names {
    let mut names = Names::new();
    names.add("web", "172.18.0.2".parse().unwrap());
    names.add("Web.MyNet.", "172.18.0.2".parse().unwrap());
    names.add("both", "172.18.0.3".parse().unwrap());
    names.add("both", "fd00::3".parse().unwrap());
    names.add_pointer("172.18.0.2".parse().unwrap(), "web.mynet");
    names
}

/// A name server over UDP and TCP on one port that answers every question with `code` and this address.
fn server(code: u8, address: [u8; 4]) -> Forwarder {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(at).unwrap();
    let answer = move |message: &[u8]| {
        let query = message::parse(message).unwrap();
        if code == 0 { query.addresses(&[address.into()]) } else { query.empty(code) }
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            // A forged answer first: another id, another question.
            let mut forged = answer(&buffer[..length]);
            forged[0] ^= 1;
            udp.send_to(&forged, peer).unwrap();
            udp.send_to(&answer(&question([buffer[0], buffer[1]], "other", A)), peer).unwrap();
            udp.send_to(&answer(&buffer[..length]), peer).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            let answer = answer(&message);
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    Forwarder { address: at, from_host: true }
}

fn silent() -> (UdpSocket, Forwarder) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Forwarder { address, from_host: true })
}

#[test]
fn known_names_are_answered_here() {
    let resolver = Running::start(Settings { names: names(), ..Settings::default() });
    let check = |name: &str, kind: u16, expect: (u8, u16), ends: &[u8]| {
        let answer = resolver.ask(name, kind);
        assert_eq!((answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]])), expect, "{name} {kind}");
        assert!(answer.ends_with(ends), "{name} {kind}: {answer:?}");
    };
    check("web", A, (0, 1), &[172, 18, 0, 2]);
    check("WEB.mynet", A, (0, 1), &[172, 18, 0, 2]);
    check("web", AAAA, (0, 0), &[]);
    check("web", MX, (0, 0), &[]);
    check("both", A, (0, 1), &[172, 18, 0, 3]);
    check("both", AAAA, (0, 1), &[0, 3]);
    check("2.0.18.172.in-addr.arpa", PTR, (0, 1), b"\x03web\x05mynet\0");
    // Without servers outside nothing else is known.
    check("example.org", A, (2, 0), &[]);
    check("9.0.18.172.in-addr.arpa", PTR, (2, 0), &[]);
    check("web", TXT, (2, 0), &[]);
}

#[test]
fn other_names_are_asked_outside_until_a_server_answers() {
    let closed = {
        let (socket, forwarder) = silent();
        drop(socket);
        forwarder
    };
    let (_keep, mute) = silent();
    let check = |forwarders: Vec<Forwarder>, expect: (u8, u16)| {
        let resolver = Running::start(Settings { names: names(), forwarders, ..Settings::default() });
        assert_eq!(resolver.code("example.org", A), expect);
        assert_eq!(resolver.code("web", A), (0, 1));
    };
    check(vec![server(0, [1, 2, 3, 4])], (0, 1));
    check(vec![closed, server(0, [1, 2, 3, 4])], (0, 1));
    check(vec![mute, server(0, [1, 2, 3, 4])], (0, 1));
    check(vec![server(2, [0; 4]), server(5, [0; 4]), server(0, [1, 2, 3, 4])], (0, 1));
    check(vec![server(3, [0; 4]), server(0, [1, 2, 3, 4])], (3, 0));
    check(vec![server(5, [0; 4]), closed], (5, 0));
    check(vec![closed, closed, closed, server(0, [1, 2, 3, 4])], (2, 0));
}

#[test]
fn names_without_a_dot_stay_inside_if_wanted() {
    let forwarders = vec![server(0, [1, 2, 3, 4])];
    let settings = Settings { names: names(), forwarders, keep_single_labels: true };
    let resolver = Running::start(settings.clone());
    assert_eq!(resolver.code("nosuch", A), (0, 0));
    assert_eq!(resolver.code("nosuch.example", A), (0, 1));
    let resolver = Running::start(Settings { keep_single_labels: false, ..settings });
    assert_eq!(resolver.code("nosuch", A), (0, 1));
}

#[test]
fn over_tcp_several_questions_one_connection() {
    let forwarders = vec![server(2, [0; 4]), server(0, [1, 2, 3, 4])];
    let resolver = Running::start(Settings { names: names(), forwarders, ..Settings::default() });
    let mut stream = TcpStream::connect(resolver.tcp).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    for (id, name) in [(1, "web"), (2, "example.org"), (3, "nosuch.example")] {
        let message = question([0, id], name, A);
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    // In pieces, and nothing more afterwards: the answers still come.
    let (head, tail) = bytes.split_at(5);
    stream.write_all(head).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(tail).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let mut answers = connection::take_messages(&mut received);
    answers.sort();
    let got: Vec<(u8, &[u8])> =
        answers.iter().map(|answer| (answer[1], &answer[answer.len() - 4..])).collect();
    assert_eq!(got, [(1, &[172, 18, 0, 2][..]), (2, &[1, 2, 3, 4]), (3, &[1, 2, 3, 4])]);
}

#[test]
fn what_is_no_question_gets_no_answer_and_a_broken_one_gets_its_error() {
    let resolver = Running::start(Settings { names: names(), ..Settings::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(resolver.udp).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(b"").unwrap();
    socket.send(&[0; 7]).unwrap();
    let mut response = question([1, 1], "web", A);
    response[2] |= 0x80;
    socket.send(&response).unwrap();
    let cut = question([1, 2], "web", A);
    socket.send(&cut[..14]).unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], &[1, 2, 0x80, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_flood_of_connections_leaves_room_for_the_next() {
    let resolver = Running::start(Settings { names: names(), ..Settings::default() });
    let flood: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(resolver.tcp).unwrap()).collect();
    let mut stream = TcpStream::connect(resolver.tcp).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let message = question([0, 1], "web", A);
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&message).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    drop(flood);
}

#[test]
fn several_addresses_take_turns() {
    let mut names = Names::new();
    let all: Vec<IpAddr> = (1..=4).map(|host| IpAddr::from([10, 0, 0, host])).collect();
    all.iter().for_each(|address| names.add("many", *address));
    let resolver = Running::start(Settings { names, ..Settings::default() });
    let firsts: std::collections::HashSet<u8> = (0..64)
        .map(|_| {
            let answer = resolver.ask("many", A);
            assert_eq!(answer[7], 4);
            answer[answer.len() - 1]
        })
        .collect();
    assert!(firsts.len() > 1);
}

#[test]
fn a_silent_server_is_still_heard_when_another_one_is_asked() {
    let (first, one) = silent();
    let (second, two) = silent();
    for socket in [&first, &second] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let resolver = Running::start(Settings { forwarders: vec![one, two], ..Settings::default() });
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| resolver.ask("web.example", A));
        let mut buffer = [0; 512];
        let (length, asker) = first.recv_from(&mut buffer).unwrap();
        second.recv_from(&mut [0; 512]).unwrap();
        let answer = message::parse(&buffer[..length]).unwrap().addresses(&[[192, 0, 2, 1].into()]);
        first.send_to(&answer, asker).unwrap();
        client.join().unwrap()
    });
    assert!(client.ends_with(&[192, 0, 2, 1]), "{client:?}");
}

#[test]
fn what_was_answered_is_not_asked_again() {
    let (server, forwarder) = silent();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let resolver = Running::start(Settings { forwarders: vec![forwarder], ..Settings::default() });
    std::thread::scope(|scope| {
        let client = scope.spawn(|| (resolver.ask("web.example", A), resolver.ask("web.example", A)));
        let mut buffer = [0; 512];
        let (length, asker) = server.recv_from(&mut buffer).unwrap();
        let answer = message::parse(&buffer[..length]).unwrap().addresses(&[[192, 0, 2, 1].into()]);
        server.send_to(&answer, asker).unwrap();
        let (one, two) = client.join().unwrap();
        assert_eq!(one, two);
    });
    server.set_nonblocking(true).unwrap();
    assert!(server.recv_from(&mut [0; 512]).is_err(), "asked twice");
}
