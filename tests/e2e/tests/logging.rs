//! Log drivers that send: what small receivers of the test get, and that `logs` reads the local copy.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::both;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;
use testkit::{Engine, Scratch, until};

const SCRIPT: &str = "echo one; sleep 0.2; echo two >&2";

/// Runs a container that says `one` and, on standard error, `two`; returns what it printed of both by `docker logs`.
fn say(engine: &Engine, name: &str, options: &[&str]) {
    let mut arguments = vec!["run", "--name", name];
    for option in options {
        arguments.extend(["--log-opt", option]);
    }
    let driver = name.split('-').next().expect("a name");
    arguments.extend(["--log-driver", driver, "busybox", "sh", "-c", SCRIPT]);
    engine.wharf(&arguments).ok();
}

/// Checks that both command lines read the local copy.
fn readable(engine: &Engine, name: &str) {
    let logs = both(engine, &["logs", name]);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("one\n", "two\n"), "{name}");
    assert_eq!(both(engine, &["logs", "--tail", "1", name]).stderr, "two\n");
}

fn udp(engine: &Engine) -> (UdpSocket, String) {
    let socket = engine.namespaces().within(|| UdpSocket::bind("127.0.0.1:0").expect("bind"));
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time limit");
    let address = socket.local_addr().expect("an address").to_string();
    (socket, address)
}

fn tcp(engine: &Engine) -> (TcpListener, String) {
    let listener = engine.namespaces().within(|| TcpListener::bind("127.0.0.1:0").expect("bind"));
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).expect("a datagram");
    buffer.truncate(length);
    buffer
}

#[test]
fn syslog_over_datagrams_streams_and_unix_sockets() {
    let engine = Engine::with_busybox();
    let (socket, address) = udp(&engine);
    let host = engine.run("hostname", &[]).line();
    say(
        &engine,
        "syslog-udp",
        &[
            &format!("syslog-address=udp://{address}"),
            "syslog-format=rfc5424",
            "syslog-facility=local3",
            "tag={{.Name}}/{{.ImageName}}",
        ],
    );
    let lines = [datagram(&socket), datagram(&socket)].map(|line| String::from_utf8(line).expect("text"));
    for (line, priority, text) in [(&lines[0], "<158>1 ", "one\n"), (&lines[1], "<155>1 ", "two\n")] {
        assert!(line.starts_with(priority) && line.ends_with(&format!(" - {text}")), "{line}");
        assert!(line.contains(&format!(" {host} syslog-udp/busybox ")), "{line}");
    }
    readable(&engine, "syslog-udp");

    let (listener, address) = tcp(&engine);
    say(&engine, "syslog-tcp", &[&format!("syslog-address=tcp://{address}"), "syslog-format=rfc3164"]);
    let (connection, _) = listener.accept().expect("a connection");
    let lines: Vec<String> = BufReader::new(connection).lines().map(|line| line.expect("a line")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("<30>") && lines[0].ends_with("]: one"), "{lines:?}");
    readable(&engine, "syslog-tcp");

    let path = engine.folder().join("log.sock");
    let socket = UnixDatagram::bind(&path).expect("bind");
    say(&engine, "syslog-unix", &[&format!("syslog-address=unixgram://{}", path.display())]);
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert!(String::from_utf8_lossy(&buffer[..length]).ends_with("]: one\n"));
    readable(&engine, "syslog-unix");

    let refused =
        both(&engine, &["run", "--rm", "--log-driver", "syslog", "--log-opt", "nosuch=1", "busybox", "true"]);
    assert!(refused.stderr.contains("unknown log opt 'nosuch' for syslog log driver"), "{}", refused.stderr);
}

#[test]
fn syslog_over_tls() {
    let engine = Engine::with_busybox();
    let files = Scratch::new();
    if e2e::certificates(files.path()).is_none() {
        drop(std::io::stderr().write_all(b"skipped: TLS needs openssl\n"));
        return;
    }
    let path = |name: &str| files.join(name).display().to_string();
    // The namespace is the test's own: nobody takes the port meanwhile.
    let (listener, address) = tcp(&engine);
    drop(listener);
    let option = |name: &str, file: &str| format!("syslog-tls-{name}={}", path(file));
    let url = format!("syslog-address=tcp+tls://{address}");
    let trusted =
        [option("ca-cert", "ca.pem"), option("cert", "client.pem"), option("key", "client-key.pem")];
    let [authority, certificate, key] = &trusted;
    let attempt = |name: &str, options: &[&str]| {
        let mut server = engine.command("openssl");
        server.args(["s_server", "-quiet", "-accept", &address, "-Verify", "1", "-verify_return_error"]);
        server.args([
            "-cert",
            &path("server.pem"),
            "-key",
            &path("server-key.pem"),
            "-CAfile",
            &path("ca.pem"),
        ]);
        let received = std::fs::File::create(files.join(name)).expect("make a file");
        server.stdin(Stdio::piped()).stdout(received).stderr(Stdio::null());
        let mut server = server.spawn().expect("start a receiver");
        until("the receiver", Duration::from_secs(10), || {
            engine.namespaces().within(|| TcpStream::connect(&address).ok()).map(drop)
        });
        let mut arguments = vec!["run", "--name", name, "--log-driver", "syslog", "--log-opt", &url];
        options.iter().for_each(|option| arguments.extend(["--log-opt", *option]));
        let ran = engine.wharf(&[&arguments[..], &["busybox", "echo", "over TLS"]].concat());
        let arrived =
            || std::fs::read_to_string(files.join(name)).is_ok_and(|text| text.contains("over TLS"));
        if ran.code == 0 {
            until("the line", Duration::from_secs(10), || arrived().then_some(()));
        }
        drop((server.kill(), server.wait()));
        (ran, arrived())
    };
    for (name, options) in [
        ("believed", &[authority.as_str(), certificate, key][..]),
        ("unseen", &["syslog-tls-skip-verify=true", certificate, key]),
    ] {
        let (ran, arrived) = attempt(name, options);
        assert!(ran.code == 0 && arrived, "{name}: {ran:?}");
        assert_eq!(both(&engine, &["logs", name]).line(), "over TLS");
    }
    let (ran, arrived) = attempt("stranger", &[certificate, key]);
    assert!(ran.code == 128 || ran.code == 125, "{ran:?}");
    assert!(!arrived && ran.stderr.contains("failed to initialize logging driver"), "{ran:?}");
    assert!(ran.stderr.contains("UnknownIssuer"), "{ran:?}");
}

#[test]
fn gelf_is_packed_over_datagrams_and_plain_over_streams() {
    let engine = Engine::with_busybox();
    let (socket, address) = udp(&engine);
    let address_option = format!("gelf-address=udp://{address}");
    say(&engine, "gelf-udp", &[&address_option, "gelf-compression-type=none"]);
    let first: serde_json::Value = serde_json::from_slice(&datagram(&socket)).expect("JSON");
    assert_eq!(
        (first["short_message"].as_str(), first["level"].as_u64(), first["_container_name"].as_str()),
        (Some("one"), Some(6), Some("gelf-udp"))
    );
    readable(&engine, "gelf-udp");

    let (socket, address) = udp(&engine);
    let address_option = format!("gelf-address=udp://{address}");
    engine
        .wharf(&[
            "run",
            "--rm",
            "--log-driver",
            "gelf",
            "--log-opt",
            &address_option,
            "--log-opt",
            "gelf-compression-type=none",
            "busybox",
            "sh",
            "-c",
            "head -c 5000 /dev/zero | tr '\\0' x; echo",
        ])
        .ok();
    let mut whole = Vec::new();
    for number in 0..4_u8 {
        let chunk = datagram(&socket);
        assert_eq!((chunk[0], chunk[1], chunk[10], chunk[11]), (0x1e, 0x0f, number, 4));
        whole.extend_from_slice(&chunk[12..]);
    }
    let value: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
    assert_eq!(value["short_message"].as_str().map(str::len), Some(5000));

    let (listener, address) = tcp(&engine);
    say(&engine, "gelf-tcp", &[&format!("gelf-address=tcp://{address}"), "env=SHELL,HOME", "tag=t"]);
    let (mut connection, _) = listener.accept().expect("a connection");
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).expect("read to the end");
    let documents: Vec<serde_json::Value> = bytes
        .split(|byte| *byte == 0)
        .filter(|document| !document.is_empty())
        .map(|document| serde_json::from_slice(document).expect("JSON"))
        .collect();
    assert_eq!(documents.len(), 2);
    assert_eq!(
        (documents[1]["short_message"].as_str(), documents[1]["_tag"].as_str()),
        (Some("two"), Some("t"))
    );
}

#[test]
fn fluentd_gets_its_protocol_and_is_needed_unless_async() {
    let engine = Engine::with_busybox();
    let (listener, address) = tcp(&engine);
    say(&engine, "fluentd", &[&format!("fluentd-address={address}"), "tag=my.{{.Name}}"]);
    let (mut connection, _) = listener.accept().expect("a connection");
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).expect("read to the end");
    assert!(bytes.starts_with(b"\x94\xaamy.fluentd\xce"), "{bytes:?}");
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(b"\xa3log\xa3one") && has(b"\xa3log\xa3two") && has(b"\xa6source\xa6stderr"));
    readable(&engine, "fluentd");
    drop(listener);
    let address = format!("fluentd-address={address}");
    let absent =
        both(&engine, &["run", "--rm", "--log-driver", "fluentd", "--log-opt", &address, "busybox", "true"]);
    assert_eq!(absent.code, 125);
    assert!(absent.stderr.contains("failed to initialize logging driver"), "{}", absent.stderr);
    say(&engine, "fluentd-async", &[&address, "fluentd-async=true"]);
    readable(&engine, "fluentd-async");
}

#[test]
fn the_journal_gets_fields_and_the_cache_can_be_left_out() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("journal");
    std::fs::create_dir(&folder).expect("make a folder");
    engine.run("mkdir", &["-p", "/run/systemd/journal"]).ok();
    engine.run("mount", &["--bind", &folder.display().to_string(), "/run/systemd/journal"]).ok();
    let absent = engine.wharf(&["run", "--rm", "--log-driver", "journald", "busybox", "true"]);
    assert!(absent.stderr.contains("failed to initialize logging driver"), "{}", absent.stderr);
    let socket = UnixDatagram::bind(folder.join("socket")).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a time limit");
    engine
        .wharf(&[
            "run",
            "--name",
            "journald",
            "--log-driver",
            "journald",
            "--label",
            "com.example.tier=front",
            "--log-opt",
            "labels-regex=^com",
            "--log-opt",
            "cache-disabled=true",
            "busybox",
            "sh",
            "-c",
            SCRIPT,
        ])
        .ok();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a datagram");
    let text = String::from_utf8_lossy(&buffer[..length]);
    for line in ["MESSAGE=one\n", "PRIORITY=6\n", "CONTAINER_NAME=journald\n", "COM_EXAMPLE_TIER=front\n"] {
        assert!(text.contains(line), "{text}");
    }
    let refused = both(&engine, &["logs", "journald"]);
    assert!(
        refused.stderr.contains("configured logging driver does not support reading"),
        "{}",
        refused.stderr
    );
}

#[test]
fn entries_carry_what_the_options_choose_and_old_files_are_compressed() {
    let engine = Engine::with_busybox();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    engine
        .wharf(&[
            "run",
            "--name",
            "box",
            "--label",
            "tier=front",
            "--label",
            "other=x",
            "-e",
            "APP_MODE=test",
            "--log-opt",
            "labels-regex=^ti",
            "--log-opt",
            "env-regex=^APP_",
            "--log-opt",
            "tag={{.Name}}",
            "--log-opt",
            "max-size=50k",
            "--log-opt",
            "max-file=3",
            "--log-opt",
            "compress=true",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let details = both(&engine, &["logs", "--details", "--tail", "1", "box"]).ok();
    assert_eq!(details, "APP_MODE=test,tag=box,tier=front line 2999\n");
    let id = engine.wharf(&["inspect", "-f", "{{.Id}}", "box"]).line();
    let folder = engine.folder().join("data/containers").join(&id);
    until("the old files to be compressed", Duration::from_secs(10), || {
        let named = |name: String| folder.join(name).exists();
        (named(format!("{id}-json.log.1.gz")) && named(format!("{id}-json.log.2.gz"))).then_some(())
    });
    let lines = both(&engine, &["logs", "box"]).ok();
    let last: Vec<&str> = lines.lines().rev().take(2).collect();
    assert_eq!(last, ["line 2999", "line 2998"]);
    assert!(lines.lines().count() > 600, "{}", lines.lines().count());
}
