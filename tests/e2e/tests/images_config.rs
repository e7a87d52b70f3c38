//! How registries are reached: daemon.json read again while the daemon runs, mirrors of any registry, `hosts.toml`,
//! certificates by host, proxies.
#![expect(clippy::expect_used, reason = "test code: a failed step ends the test")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use testkit::{Engine, Registry, Scratch, image, until};

/// Not on loopback, where nothing has to be verified.
const AWAY: &str = "10.99.0.2:5000";

fn configure(engine: &Engine, json: &str) {
    std::fs::write(engine.folder().join("daemon.json"), json).expect("write daemon.json");
}

fn archive(files: &Scratch) -> std::path::PathBuf {
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    archive
}

/// Makes a certificate for `AWAY` that only who has it believes; returns the registry's further configuration.
fn certificate(files: &Scratch) -> String {
    Registry::certificate(files, "IP:10.99.0.2")
}

/// Lays a folder of this test's own over the daemon's `/etc`, and returns it.
fn own_etc(engine: &Engine, files: &Scratch) -> std::path::PathBuf {
    let upper = files.join("etc");
    for folder in [&upper, &files.join("work")] {
        std::fs::create_dir(folder).expect("make a folder");
    }
    let path = files.path().display();
    let options = format!("lowerdir=/etc,upperdir={path}/etc,workdir={path}/work");
    engine.run("mount", &["-t", "overlay", "overlay", "-o", &options, "/etc"]).ok();
    Path::new("/etc").to_owned()
}

/// Writes a file into the daemon's `/etc/docker/certs.d`.
fn write(engine: &Engine, host: &str, name: &str, text: &str) {
    let folder = format!("/etc/docker/certs.d/{host}");
    let script = "mkdir -p \"$1\" && printf %s \"$3\" > \"$1/$2\"";
    engine.run("sh", &["-c", script, "sh", &folder, name, text]).ok();
}

#[test]
fn reload_tells_what_changed() {
    let engine = Engine::start();
    let info = |format: &str| engine.wharf(&["info", "-f", format]).line();
    assert_eq!(engine.wharf(&["system", "reload"]).ok(), "Nothing has changed\n");
    configure(
        &engine,
        r#"{"debug": true, "labels": ["a=b"], "max-concurrent-uploads": 2, "max-download-attempts": 1}"#,
    );
    let changed = engine.wharf(&["system", "reload"]).ok();
    assert!(
        changed.contains("debug") && changed.contains("labels") && changed.contains("registries"),
        "{changed}"
    );
    assert_eq!((info("{{.Debug}}"), info("{{.Labels}}")), ("true".to_owned(), "[a=b]".to_owned()));
    // A wrong file changes nothing, and says so.
    for (json, text) in [
        (r#"{"debug": 1}"#, "cannot unmarshal number"),
        (r#"{"nope": 1}"#, "nope"),
        (r#"{"registry-mirrors": ["x"]}"#, "invalid mirror"),
        ("{", "invalid JSON"),
    ] {
        configure(&engine, json);
        let refused = engine.wharf(&["system", "reload"]);
        assert!(refused.code == 1 && refused.stderr.contains(text), "{json}: {refused:?}");
        assert_eq!(info("{{.Labels}}"), "[a=b]");
    }
    // One try, and no waiting for a second one.
    let gone = engine.wharf(&["pull", "127.0.0.1:1/x"]);
    assert!(gone.code == 1 && gone.stderr.contains("connection refused"), "{gone:?}");
}

#[test]
fn mirrors_of_any_registry() {
    let engine = Engine::start();
    let files = Scratch::new();
    let mirror = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    mirror.push(engine.namespaces(), &archive(&files), "some/box:1");
    let name = "quay.example/some/box:1";
    assert_eq!(engine.wharf(&["pull", "-q", name]).code, 1);
    let json = format!(
        r#"{{"registry-mirrors": {{"quay.example": ["http://{}"], "docker.io": "http://127.0.0.1:1"}}}}"#,
        Registry::HOST
    );
    configure(&engine, &json);
    assert_eq!(engine.wharf(&["system", "reload"]).ok(), "Changed: registries\n");
    assert_eq!(engine.wharf(&["pull", "-q", name]).line(), name);
    let mirrors = |registry: &str| {
        let format = format!("{{{{(index .RegistryConfig.IndexConfigs \"{registry}\").Mirrors}}}}");
        engine.wharf(&["info", "-f", &format]).line()
    };
    assert_eq!(mirrors("quay.example"), format!("[http://{}/]", Registry::HOST));
    assert_eq!(mirrors("docker.io"), "[http://127.0.0.1:1/]");
}

#[test]
fn hosts_files_and_certificates() {
    let engine = Engine::start();
    let files = Scratch::new();
    let registry = Registry::start_own(engine.namespaces(), AWAY, &certificate(&files));
    registry.push(engine.namespaces(), &archive(&files), "some/box:1");
    own_etc(&engine, &files);
    let authority = std::fs::read_to_string(files.join("tls.crt")).expect("read a certificate");
    let pull = |name: &str| {
        engine.wharf(&["rmi", "-f", name]);
        engine.wharf(&["pull", "-q", name])
    };
    let refused = |name: &str, text: &str| {
        let output = pull(name);
        assert!(output.code == 1 && output.stderr.contains(text), "{name}: {output:?}");
    };
    let away = format!("{AWAY}/some/box:1");
    let elsewhere = "quay.example/some/box:1";
    refused(&away, "certificate");
    // Docker's way: a certificate in the host's folder.
    write(&engine, AWAY, "ca.crt", &authority);
    engine.wharf(&["system", "reload"]).ok();
    assert_eq!(pull(&away).line(), away);
    engine.run("rm", &["-r", &format!("/etc/docker/certs.d/{AWAY}")]).ok();
    engine.wharf(&["system", "reload"]).ok();
    refused(&away, "certificate");
    // containerd's way, for the registry itself and for a mirror of another one; no reload is needed.
    write(&engine, AWAY, "authority.pem", &authority);
    write(&engine, AWAY, "hosts.toml", &format!("server = \"https://{AWAY}\"\nca = \"authority.pem\"\n"));
    assert_eq!(pull(&away).line(), away);
    let mirror = |more: &str| {
        let text = format!("[host.\"https://{AWAY}\"]\ncapabilities = [\"pull\", \"resolve\"]\n{more}\n");
        write(&engine, "quay.example", "hosts.toml", &text);
    };
    mirror("");
    assert_eq!(pull(elsewhere).code, 1);
    mirror("skip_verify = true");
    assert_eq!(pull(elsewhere).line(), elsewhere);
    mirror(&format!(
        "ca = [\"/etc/docker/certs.d/{AWAY}/authority.pem\"]\n[host.\"https://{AWAY}\".header]\nx-test = \"yes\""
    ));
    assert_eq!(pull(elsewhere).line(), elsewhere);
    mirror("colour = 1");
    refused(elsewhere, "/etc/docker/certs.d/quay.example/hosts.toml");
    // Pushes go where it says that they may.
    let text = format!("server = \"https://quay.example\"\n[host.\"https://{AWAY}\"]\nskip_verify = true\n");
    write(&engine, "quay.example", "hosts.toml", &text);
    engine.wharf(&["tag", &away, "quay.example/other:1"]).ok();
    engine.wharf(&["push", "-q", "quay.example/other:1"]).ok();
    let tags = engine.run("curl", &["-sk", &format!("https://{AWAY}/v2/other/tags/list")]).ok();
    assert!(tags.contains("[\"1\"]"), "{tags}");
    // A path that is not /v2.
    write(
        &engine,
        "_default",
        "hosts.toml",
        &format!("server = \"https://{AWAY}/v2\"\noverride_path = true\nskip_verify = true\n"),
    );
    assert_eq!(pull("any.example/some/box:1").line(), "any.example/some/box:1");
}

/// A proxy that only knows `CONNECT` and writes down what it is asked for.
const PROXY: &str = r#"
import http.server, select, socket, sys
class Proxy(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        open(sys.argv[1], "a").write(self.path + "\n")
        host, port = self.path.rsplit(":", 1)
        other = socket.create_connection((host, int(port)))
        self.send_response(200)
        self.end_headers()
        pair = [self.connection, other]
        while True:
            for one in select.select(pair, [], [])[0]:
                data = one.recv(65536)
                if not data:
                    return
                pair[1 - pair.index(one)].sendall(data)
    def log_message(self, *rest):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8888), Proxy).serve_forever()
"#;

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn proxies() {
    let engine = Engine::start();
    let files = Scratch::new();
    let registry = Registry::start_own(engine.namespaces(), AWAY, "");
    registry.push(engine.namespaces(), &archive(&files), "box:1");
    let log = files.join("log");
    std::fs::write(&log, "").expect("write a log");
    let mut command = engine.namespaces().command("python3");
    command.args(["-c", PROXY]).arg(&log).stdout(Stdio::null()).stderr(Stdio::null());
    let _proxy = Proxy(command.spawn().expect("start a proxy"));
    until("the proxy to answer", Duration::from_secs(20), || {
        (engine.run("curl", &["-s", "http://127.0.0.1:8888/"]).code == 0).then_some(())
    });
    let asked = || std::fs::read_to_string(&log).expect("read a log");
    let name = format!("{AWAY}/box:1");
    let pull = |proxies: &str| {
        configure(&engine, &format!(r#"{{"insecure-registries": ["{AWAY}"], "proxies": {{{proxies}}}}}"#));
        engine.wharf(&["system", "reload"]).ok();
        engine.wharf(&["rmi", "-f", &name]);
        assert_eq!(engine.wharf(&["pull", "-q", &name]).line(), name);
    };
    let both = r#""http-proxy": "http://127.0.0.1:8888", "https-proxy": "http://127.0.0.1:8888""#;
    pull(both);
    assert!(asked().contains(AWAY), "{}", asked());
    assert_eq!(engine.wharf(&["info", "-f", "{{.HTTPProxy}}"]).line(), "http://127.0.0.1:8888");
    std::fs::write(&log, "").expect("write a log");
    pull(&format!(r#"{both}, "no-proxy": "10.99.0.0/24""#));
    assert_eq!(asked(), "");
}

/// What guides write to `/etc/default/docker`, which our unit reads.
#[test]
fn options_of_etc_default() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd/wharf.service");
    let unit = std::fs::read_to_string(unit).expect("read the unit");
    assert!(unit.contains("\nEnvironmentFile=-/etc/default/docker\n"), "{unit}");
    let begun = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/wharf daemon "));
    assert!(begun.is_some_and(|flags| flags.split(' ').any(|word| word == "$DOCKER_OPTS")), "{unit}");
    let text = r#"DOCKER_OPTS="--registry-mirror=http://127.0.0.1:5000 --insecure-registry 192.168.0.0/16 --dns 9.9.9.9""#;
    // systemd splits at blanks what is not in braces.
    let options: Vec<&str> = text.trim_start_matches("DOCKER_OPTS=").trim_matches('"').split(' ').collect();
    let engine = Engine::start_with(&options);
    let files = Scratch::new();
    let mirror = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    mirror.push(engine.namespaces(), &archive(&files), "library/box:1");
    assert_eq!(engine.wharf(&["pull", "-q", "box:1"]).line(), "docker.io/library/box:1");
    let known = engine.wharf(&["info", "-f", "{{.RegistryConfig.InsecureRegistryCIDRs}}"]).line();
    assert!(known.contains("192.168.0.0/16"), "{known}");
    let resolver = engine.wharf(&["run", "--rm", "box:1", "cat", "/etc/resolv.conf"]).ok();
    assert!(resolver.contains("nameserver 9.9.9.9"), "{resolver}");
}

/// A registry behind TLS that sends everybody on to plain HTTP, where it notes who comes.
const LEADING_AWAY: &str = r#"
import http.server, ssl, sys, threading
folder, host = sys.argv[1], "10.99.0.2"
class Plain(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(folder + "/came", "a").write(self.path + "\n")
        self.send_response(200); self.end_headers()
    do_HEAD = do_GET
class Away(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/" else 307)
        self.send_header("Location", "http://%s:5001%s" % (host, self.path))
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *rest):
        pass
threading.Thread(target=http.server.ThreadingHTTPServer((host, 5001), Plain).serve_forever, daemon=True).start()
server = http.server.ThreadingHTTPServer((host, 5000), Away)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/tls.crt", folder + "/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn nobody_is_led_away_from_tls() {
    let engine = Engine::start();
    let files = Scratch::new();
    certificate(&files);
    own_etc(&engine, &files);
    let authority = std::fs::read_to_string(files.join("tls.crt")).expect("read a certificate");
    write(&engine, AWAY, "ca.crt", &authority);
    engine.run("ip", &["addr", "add", "10.99.0.2/32", "dev", "lo"]).ok();
    let mut command = engine.command("python3");
    command.args(["-c", LEADING_AWAY]).arg(files.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Proxy(command.spawn().expect("start a server"));
    until("the server to answer", Duration::from_secs(20), || {
        let output = engine.run("curl", &["-sk", "-o", "/dev/null", &format!("https://{AWAY}/v2/")]);
        (output.code == 0).then_some(())
    });
    let refused = engine.wharf(&["pull", &format!("{AWAY}/some/box:1")]);
    assert!(refused.code == 1 && refused.stderr.contains("it leaves HTTPS"), "{refused:?}");
    assert!(!files.join("came").exists(), "it went on without TLS");
}
