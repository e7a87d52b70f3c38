//! The proxy between real sockets on loopback; no privileges needed.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy that is served by a thread until it is dropped.
struct Running {
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Running {
    fn start(limits: Limits, ports: &[(Protocol, &str, SocketAddr)]) -> Self {
        let mut proxy = Proxy::new(limits).unwrap();
        let mut addresses = Vec::new();
        for (protocol, address, target) in ports {
            let listener = Listener::bind(*protocol, address.parse().unwrap()).unwrap();
            addresses.push(listener.address());
            proxy.add(listener, *target).unwrap();
        }
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let rounds = Arc::new(AtomicUsize::new(0));
        let (stopped, counted, turned) = (stop.clone(), connections.clone(), rounds.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if sys::event::readable_within(proxy.as_fd(), Some(Duration::from_millis(20))).unwrap() {
                    proxy.dispatch().unwrap();
                    turned.fetch_add(1, Ordering::Relaxed);
                }
                counted.store(proxy.connections(), Ordering::Relaxed);
            }
        });
        Self { stop, connections, rounds, thread: Some(thread), addresses }
    }

    fn tcp(target: SocketAddr) -> Self {
        Self::start(Limits::default(), &[(Protocol::Tcp, "127.0.0.1:0", target)])
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn wait_for_connections(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.connections.load(Ordering::Relaxed) != count {
            assert!(Instant::now() < deadline, "{} connections", self.connections.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A server that runs `serve` for each connection on a thread.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn each_direction_ends_by_itself() {
    // The server answers only after the client has said that nothing more comes, and then keeps silent.
    let target = server(|mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        stream.write_all(question.to_uppercase().as_bytes()).unwrap();
    });
    let proxy = Running::tcp(target);
    let mut stream = proxy.connect();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO");
    proxy.wait_for_connections(0);

    // The other way: the server closes its half first and goes on reading.
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let target = server(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        tell.lock().unwrap().send(rest).unwrap();
    });
    let proxy = Running::tcp(target);
    let mut stream = proxy.connect();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "bye");
    stream.write_all(b"still here").unwrap();
    drop(stream);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "still here");
    proxy.wait_for_connections(0);
}

#[test]
fn much_data_both_ways_at_once_arrives_whole() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let pattern = || (0..LENGTH).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<u8>>();
    let target = server(move |stream| {
        let mut reader = stream.try_clone().unwrap();
        let echo = std::thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        let mut writer = stream;
        writer.write_all(&pattern()).unwrap();
        let received = echo.join().unwrap();
        writer.write_all(&[u8::from(received == pattern())]).unwrap();
    });
    let proxy = Running::tcp(target);
    let mut writer = proxy.connect();
    let mut reader = writer.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&pattern()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert_eq!(received.pop(), Some(1), "the server got what was sent");
    assert_eq!(received, pattern());
}

#[test]
fn a_reader_that_stops_stops_the_writer() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let target = server(move |mut stream| {
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent: usize = 0;
        loop {
            match stream.write(&[7; 64 * 1024]) {
                Ok(length) => sent += length,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        tell.lock().unwrap().send(sent).unwrap();
    });
    let proxy = Running::tcp(target);
    let mut stream = proxy.connect();
    let sent = told.recv_timeout(PATIENCE).unwrap();
    // Four socket buffers and ours; a proxy that hoards would take everything.
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
    // The proxy waits and does not spin.
    let before = proxy.rounds.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    assert!(proxy.rounds.load(Ordering::Relaxed) - before < 5);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}

#[test]
fn a_client_that_hangs_up_while_the_server_is_slow_does_not_make_the_proxy_spin() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let target = server(move |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        wait.lock().unwrap().recv().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
    });
    let proxy = Running::tcp(target);
    let stream = proxy.connect();
    let mut writer = stream.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while writer.write(&[7; 64 * 1024]).is_ok() {}
    drop((stream, writer));
    std::thread::sleep(Duration::from_millis(50));
    let before = proxy.rounds.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    let turns = proxy.rounds.load(Ordering::Relaxed) - before;
    assert!(turns < 10, "{turns} rounds");
    go.send(()).unwrap();
    proxy.wait_for_connections(0);
}

#[test]
fn resets_and_refusals_are_passed_on() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = Running::tcp(closed);
    let mut stream = proxy.connect();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.wait_for_connections(0);

    let target = server(|stream| {
        // Unread data makes the close a reset.
        std::thread::sleep(Duration::from_millis(50));
        drop(stream);
    });
    let proxy = Running::tcp(target);
    let mut stream = proxy.connect();
    stream.write_all(b"unread").unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.wait_for_connections(0);
}

#[test]
fn many_connections_come_and_go() {
    let target = server(|mut stream| {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let proxy = Running::tcp(target);
    let mut streams: Vec<TcpStream> = (0..100).map(|_| proxy.connect()).collect();
    proxy.wait_for_connections(100);
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&[u8::try_from(index).unwrap()]).unwrap();
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), index);
    }
    drop(streams);
    proxy.wait_for_connections(0);
}

#[test]
fn ports_of_others_are_refused_in_dockers_words() {
    let check = |protocol: Protocol, any: &str| {
        let first = Listener::bind(protocol, any.parse().unwrap()).unwrap();
        let error = Listener::bind(protocol, first.address()).unwrap_err();
        let expect =
            format!("failed to bind host port {}/{protocol}: address already in use", first.address());
        assert_eq!(error.to_string(), expect);
    };
    check(Protocol::Tcp, "127.0.0.1:0");
    check(Protocol::Udp, "127.0.0.1:0");
    check(Protocol::Tcp, "[::1]:0");
    let first = Listener::bind(Protocol::Tcp, "0.0.0.0:0".parse().unwrap()).unwrap();
    let beside = SocketAddr::new("::".parse().unwrap(), first.address().port());
    Listener::bind(Protocol::Tcp, beside).unwrap();
}

fn udp_server() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let answer = [buffer[..length].to_vec(), peer.port().to_string().into_bytes()].concat();
            socket.send_to(&answer, peer).unwrap();
        }
    });
    address
}

fn ask(socket: &UdpSocket, question: &str) -> String {
    socket.send(question.as_bytes()).unwrap();
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn udp_flows_are_kept_apart_and_forgotten() {
    let limits = Limits { idle: Duration::from_millis(300), flows: 3 };
    let ports = [(Protocol::Udp, "0.0.0.0:0", udp_server()), (Protocol::Udp, "[::]:0", udp_server())];
    let proxy = Running::start(limits, &ports);
    let client = |address: &str, listener: usize| {
        let port = proxy.addresses[listener].port();
        let target = SocketAddr::new(address.parse().unwrap(), port);
        let any = if target.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(target).unwrap();
        socket
    };
    let (one, two, six) = (client("127.0.0.1", 0), client("127.0.0.9", 0), client("::1", 1));
    let first = ask(&one, "x");
    assert_eq!(ask(&one, "x"), first);
    assert_ne!(ask(&two, "x"), first);
    assert!(ask(&six, "y").starts_with('y'));
    proxy.wait_for_connections(3);
    // The fourth and fifth client of a listener push the longest idle one out.
    let (three, four) = (client("127.0.0.1", 0), client("127.0.0.1", 0));
    ask(&three, "x");
    ask(&four, "x");
    proxy.wait_for_connections(4);
    assert_ne!(ask(&one, "x"), first, "a new flow");
    proxy.wait_for_connections(0);
    assert!(ask(&two, "z").starts_with('z'));
}

#[test]
fn a_listener_can_be_passed_on_and_removed() {
    let target = server(|mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let listener = Listener::bind(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    let listener = Listener::from_fd(Protocol::Tcp, listener.into_fd()).unwrap();
    assert_eq!(listener.address(), address);
    let mut proxy = Proxy::new(Limits::default()).unwrap();
    let key = proxy.add(listener, target).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut round = |proxy: &mut Proxy| {
        stream.write_all(b"x").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while stream.read_exact(&mut [0]).is_err() {
            assert!(Instant::now() < deadline);
            proxy.dispatch().unwrap();
        }
    };
    round(&mut proxy);
    assert!(proxy.remove(key).is_some());
    assert!(TcpStream::connect(address).is_err());
    round(&mut proxy);
    assert_eq!(proxy.connections(), 1);
}
