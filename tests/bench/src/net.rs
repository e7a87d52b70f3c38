//! Networks: starts, published ports, names, and what passes through.
//!
//! What passes is measured by this program itself, started again inside the network namespace from which it is to come
//! (`INSIDE`); the servers are busybox's in containers, the same for every engine.

use crate::peer::Peer;
use crate::rows::{Row, median, nothing};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first argument of a client inside a namespace; then come what it does and where it connects.
pub(crate) const INSIDE: &str = "--network-client";

/// How long one figure is taken.
const SPAN: Duration = Duration::from_secs(1);
/// How often.
const ROUNDS: usize = 3;

/// Starts with networks and ports.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "network: run --rm -p true, 0 published",
        rounds: 10,
        before: nothing,
        work: publish_one,
        after: nothing,
    },
    Row {
        name: "network: create and rm of 20",
        rounds: 1,
        before: nothing,
        work: |peer| networks(peer, 0..20),
        after: nothing,
    },
    Row {
        name: "network: 50 × run -d in one network",
        rounds: 1,
        before: |peer| peer.ok(&["network", "create", "crowd"]),
        work: |peer| crowd(peer, &["run", "-d", "--network", "crowd"], &["busybox", "sleep", "1000"]),
        after: |peer| {
            let names: Vec<String> = (0..50).map(|number| format!("crowd{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            peer.ok(&[&["rm", "-f"], names.as_slice()].concat());
            peer.ok(&["network", "rm", "crowd"]);
        },
    },
];

fn publish_one(peer: &Peer) {
    peer.ok(&["run", "--rm", "-p", "18080:80", "busybox", "true"]);
}

fn networks(peer: &Peer, numbers: std::ops::Range<u8>) {
    for number in numbers.clone() {
        let subnet = format!("10.200.{number}.0/24");
        peer.ok(&["network", "create", "--subnet", &subnet, &format!("net{number}")]);
    }
    for number in numbers {
        peer.ok(&["network", "rm", &format!("net{number}")]);
    }
}

fn crowd(peer: &Peer, flags: &[&str], command: &[&str]) {
    for number in 0..50 {
        peer.ok(&[flags, &["--name", &format!("crowd{number}")], command].concat());
    }
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Neighbour,
    Host,
    Server,
    Sibling,
}

/// What is measured: its name, from where, what the client does, the address; `None` is the server's own.
const FIGURES: [(&str, From, &str, Option<&str>); 11] = [
    ("from another host, Gbit/s", From::Neighbour, "stream", Some("10.99.0.2:18081")),
    ("from the host by its address, Gbit/s", From::Host, "stream", Some("10.99.0.2:18081")),
    ("from the host by loopback, Gbit/s", From::Host, "stream", Some("127.0.0.1:18081")),
    ("by hairpin, Gbit/s", From::Server, "stream", Some("10.99.0.2:18081")),
    ("container to container, Gbit/s", From::Sibling, "stream", None),
    ("from another host, requests/s", From::Neighbour, "requests", Some("10.99.0.2:18080")),
    ("from the host by its address, requests/s", From::Host, "requests", Some("10.99.0.2:18080")),
    ("from the host by loopback, requests/s", From::Host, "requests", Some("127.0.0.1:18080")),
    ("by hairpin, requests/s", From::Server, "requests", Some("10.99.0.2:18080")),
    ("container to container, requests/s", From::Sibling, "requests", None),
    ("names asked of the resolver, queries/s", From::Sibling, "names", Some("127.0.0.11:53")),
];

/// Measures what passes, and what only Wharf can be asked; more is better.
pub(crate) fn table(peers: &[Peer], chosen: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !chosen("network: traffic") {
        return lines;
    }
    for peer in peers {
        peer.ok(&["network", "create", "traffic"]);
        let run = ["run", "-d", "--network", "traffic", "--name"];
        let serve = "httpd -p 80 -h /etc; exec nc -ll -p 81 -e cat /dev/zero";
        let ports = ["-p", "18080:80", "-p", "18081:81"];
        peer.ok(&[&run[..], &["web"], &ports, &["busybox", "sh", "-c", serve]].concat());
        peer.ok(&[&run[..], &["sibling", "busybox", "sleep", "1000"]].concat());
    }
    let neighbours: Vec<_> = peers.iter().map(|peer| peer.namespaces().neighbour()).collect();
    for (name, from, what, address) in FIGURES {
        let mut figures: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
        for _ in 0..ROUNDS {
            for ((peer, neighbour), figures) in peers.iter().zip(&neighbours).zip(&mut figures) {
                let pid = match from {
                    From::Neighbour => neighbour.pid().to_string(),
                    From::Host => peer.namespaces().pid().to_string(),
                    From::Server => look(peer, "web", "{{.State.Pid}}"),
                    From::Sibling => look(peer, "sibling", "{{.State.Pid}}"),
                };
                let own = || {
                    let ip = look(peer, "web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
                    format!("{ip}:{}", if what == "stream" { 81 } else { 80 })
                };
                figures.push(client(&pid, what, &address.map_or_else(own, str::to_owned)));
            }
        }
        lines.push(line(name, figures));
    }
    for peer in peers {
        peer.ok(&["rm", "-f", "web", "sibling"]);
        peer.ok(&["network", "rm", "traffic"]);
    }
    lines.extend(peers.first().map(two_hundred));
    lines.extend(peers.first().map(among_ten_thousand));
    lines
}

/// Networks by the hundred, which take the others minutes.
fn two_hundred(peer: &Peer) -> String {
    let begin = Instant::now();
    networks(peer, 0..200);
    format!("| network: create and rm of 200 (ms) | {:.1} | |", begin.elapsed().as_secs_f64() * 1000.0)
}

/// A start that publishes one port beside 10,000. The others keep a process for each port and address, and are not asked.
fn among_ten_thousand(peer: &Peer) -> String {
    let begin = Instant::now();
    let range = "0.0.0.0:20000-29999:20000-29999";
    peer.ok(&["run", "-d", "--name", "many", "-p", range, "busybox", "sleep", "1000"]);
    let all = begin.elapsed();
    let times: Vec<f64> = (0..10)
        .map(|_| {
            let begin = Instant::now();
            publish_one(peer);
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    peer.ok(&["rm", "-f", "many"]);
    let one = median(times);
    format!(
        "| network: run --rm -p true, 10,000 published (ms; {:.0} ms for those) | {one:.1} | |",
        all.as_secs_f64() * 1000.0
    )
}

fn line(name: &str, figures: Vec<Vec<f64>>) -> String {
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    let mut line = format!("| network: {name} |");
    for figure in &medians {
        // Writing to a text does not fail.
        write!(line, " {figure:.1} |").unwrap_or_default();
    }
    let own = medians.first().copied().unwrap_or(f64::NAN);
    let ratios: Vec<String> = medians.iter().skip(1).map(|peer| format!("{:.2}×", own / peer)).collect();
    line + " " + &ratios.join(", ") + " |"
}

fn look(peer: &Peer, name: &str, format: &str) -> String {
    let output = peer.command(&["inspect", "-f", format, name]).stdout(Stdio::piped()).output();
    String::from_utf8_lossy(&output.expect("inspect a container").stdout).trim().to_owned()
}

/// Runs a client in the network namespace of a process; not a number if it cannot connect (podman has another resolver).
fn client(pid: &str, what: &str, address: &str) -> f64 {
    let program = std::env::current_exe().expect("find this program");
    let mut command = Command::new("nsenter");
    command.args(["-t", pid, "-n"]).arg(program).args([INSIDE, what, address]).stderr(Stdio::null());
    let output = command.output().expect("enter a namespace");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN)
}

/// What a client does, inside: prints one figure.
pub(crate) fn inside() {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [what, address] = arguments.as_slice() else { return };
    let Ok(address) = address.parse() else { return };
    let figure = match what.as_str() {
        "stream" => stream(address),
        "requests" => requests(address),
        _ => names(address),
    };
    println!("{}", figure.unwrap_or(f64::NAN));
}

/// Reads as fast as it comes; Gbit/s.
fn stream(address: SocketAddr) -> std::io::Result<f64> {
    let mut connection = TcpStream::connect_timeout(&address, SPAN)?;
    let mut buffer = vec![0; 1 << 20];
    let (begin, mut total) = (Instant::now(), 0_u32);
    while begin.elapsed() < SPAN {
        match connection.read(&mut buffer)? {
            0 => break,
            count => total += u32::try_from(count / 1024).unwrap_or(0),
        }
    }
    Ok(f64::from(total) * 8.0 * 1024.0 / 1e9 / begin.elapsed().as_secs_f64())
}

/// Asks for a page again and again, a connection each.
fn requests(address: SocketAddr) -> std::io::Result<f64> {
    let (begin, mut count, mut page) = (Instant::now(), 0_u32, Vec::new());
    while begin.elapsed() < SPAN {
        let mut connection = TcpStream::connect_timeout(&address, SPAN)?;
        connection.write_all(b"GET /hostname HTTP/1.0\r\n\r\n")?;
        page.clear();
        connection.read_to_end(&mut page)?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

/// Asks for the address of `web` again and again.
fn names(address: SocketAddr) -> std::io::Result<f64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(SPAN))?;
    let question = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";
    let (begin, mut count, mut answer) = (Instant::now(), 0_u32, [0; 512]);
    while begin.elapsed() < SPAN {
        socket.send(question)?;
        socket.recv(&mut answer)?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}
