//! Our registry when things go wrong, and where it is an image: a full disk, requests that make no sense, a container.
#![expect(clippy::expect_used, reason = "test code: a failed step ends the test")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::{Engine, Namespaces, Random, Registry, Scratch, image, until};

const HOST: &str = Registry::HOST;

fn curl(namespaces: &Namespaces, arguments: &[&str]) -> String {
    let output = namespaces.command("curl").args(["-sS", "--max-time", "30"]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("run curl").stdout).into_owned()
}

fn status(namespaces: &Namespaces, arguments: &[&str]) -> String {
    curl(namespaces, &[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat())
}

/// Writes a file and returns its digest.
fn write_noise(path: &Path, seed: u64, size: usize) -> String {
    std::fs::write(path, Random::new(seed).bytes(size)).expect("write a file");
    let output = Command::new("sha256sum").arg(path).output().expect("run sha256sum");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("sha256:{}", text.split(' ').next().unwrap_or_default())
}

/// Uploads a file in one piece and returns the status.
fn upload(namespaces: &Namespaces, file: &Path, digest: &str) -> String {
    let head = curl(
        namespaces,
        &["-D", "-", "-o", "/dev/null", "-X", "POST", &format!("http://{HOST}/v2/a/blobs/uploads/")],
    );
    let location = head.lines().find_map(|line| line.strip_prefix("location: "));
    let Some(location) = location.map(str::trim) else {
        return head.split(' ').nth(1).unwrap_or_default().to_owned();
    };
    let location =
        if location.starts_with('/') { format!("http://{HOST}{location}") } else { location.to_owned() };
    let separator = if location.contains('?') { '&' } else { '?' };
    let address = format!("{location}{separator}digest={digest}");
    status(
        namespaces,
        &[
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/octet-stream",
            "--data-binary",
            &format!("@{}", file.display()),
            &address,
        ],
    )
}

#[test]
fn a_full_disk_refuses_uploads_and_keeps_the_rest() {
    let namespaces = Namespaces::new();
    let mut registry = Registry::start_own(&namespaces, HOST, "");
    let script =
        "cp \"$1/config.yml\" /run && mount -t tmpfs -o size=6m tmpfs \"$1\" && cp /run/config.yml \"$1\"";
    let mounted = namespaces.command("sh").args(["-c", script, "sh"]).arg(registry.folder()).status();
    assert!(mounted.expect("run mount").success());
    registry.restart(&namespaces);
    let files = Scratch::new();
    let (small, large, other) = (files.join("small"), files.join("large"), files.join("other"));
    let small_digest = write_noise(&small, 1, 1 << 20);
    let large_digest = write_noise(&large, 2, 12 << 20);
    let other_digest = write_noise(&other, 3, 2 << 20);
    assert_eq!(upload(&namespaces, &small, &small_digest), "201");
    for _ in 0..3 {
        let refused = upload(&namespaces, &large, &large_digest);
        assert!(refused.starts_with('5'), "{refused}");
    }
    let blob = |digest: &str| status(&namespaces, &[&format!("http://{HOST}/v2/a/blobs/{digest}")]);
    assert_eq!(blob(&large_digest), "404");
    assert_eq!(blob(&small_digest), "200");
    // What could not be kept makes room again.
    assert_eq!(upload(&namespaces, &other, &other_digest), "201");
    registry.restart(&namespaces);
    assert_eq!((blob(&small_digest), blob(&other_digest)), ("200".to_owned(), "200".to_owned()));
}

/// Requests that were once right, with some bytes changed, doubled, left out or cut off: whatever they ask for, the
/// server goes on, and what it has stays.
#[test]
fn nonsense_does_no_harm() {
    const ROUNDS: usize = 1_500;
    let namespaces = Namespaces::new();
    let registry = Registry::start_own(&namespaces, HOST, "");
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    registry.push(&namespaces, &archive, "keep/box:1");
    let manifest = curl(&namespaces, &[&format!("http://{HOST}/v2/keep/box/manifests/1")]);
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let length = manifest.len();
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let seeds = [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /v2/keep/box/tags/list?n=2&last=0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /v2/_catalog?n=3&last=a HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!("GET /v2/keep/box/blobs/{digest} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\n\r\n"),
        format!("HEAD /v2/keep/box/manifests/{digest} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"),
        format!("GET /v2/keep/box/referrers/{digest}?artifactType=a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("POST /v2/new/box/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        format!("POST /v2/new/box/blobs/uploads/?mount={digest}&from=keep/box HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        "PATCH /v2/new/box/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef HTTP/1.1\r\nHost: x\r\nContent-Range: 0-4\r\nContent-Length: 5\r\n\r\n12345".to_owned(),
        format!("PUT /v2/new/box/manifests/2 HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{manifest}"),
        "POST /v2/new/box/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n".to_owned(),
        "GET /v1/search?q=box&n=5 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n".to_owned(),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(String::as_bytes).collect();
    let mut random = Random::of_environment();
    let net = std::fs::File::open(format!("/proc/{}/ns/net", namespaces.pid())).expect("open a namespace");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(net.as_fd(), kind).expect("enter a namespace");
            for round in 0..ROUNDS {
                let request = random.changed(&seeds, &["/../%2e%2e/%00/", "\r\n", "18446744073709551616"]);
                let mut stream =
                    TcpStream::connect(HOST).unwrap_or_else(|error| panic!("round {round}: {error}"));
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time limit");
                // The server may have hung up already: that is an answer.
                drop(stream.write_all(&request));
                drop(stream.shutdown(std::net::Shutdown::Write));
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        panic!("round {round}: no answer to {:?}", String::from_utf8_lossy(&request))
                    }
                    _ => {}
                }
                let text = String::from_utf8_lossy(&answer);
                let broken = text.starts_with("HTTP/1.1 500") || text.starts_with("HTTP/1.1 503");
                assert!(!broken, "round {round}: {:?}: {text}", String::from_utf8_lossy(&request));
            }
        });
    });
    assert_eq!(curl(&namespaces, &[&format!("http://{HOST}/v2/keep/box/manifests/1")]), manifest);
    let log = std::fs::read_to_string(registry.folder().join("log")).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
}

/// The libraries that an executable needs, by `ldd`; none if it is static.
fn libraries(executable: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(executable).output().expect("run ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

#[test]
fn the_registry_as_an_image() {
    let engine = Engine::start();
    let context = Scratch::new();
    std::fs::copy(Engine::executable(), context.join("wharf")).expect("copy the executable");
    let mut dockerfile = "FROM scratch\nCOPY wharf /wharf\n".to_owned();
    for library in libraries(&Engine::executable()) {
        let name = library.trim_start_matches('/').replace('/', "-");
        std::fs::copy(&library, context.join(&name)).expect("copy a library");
        dockerfile.push_str(&format!("COPY {name} {library}\n"));
    }
    dockerfile.push_str("EXPOSE 5000\nVOLUME /var/lib/registry\nENV REGISTRY_HTTP_DEBUG_ADDR=:5001 REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED=true\nCOPY config.yml /config.yml\nCMD [\"/wharf\", \"registry\", \"serve\", \"/config.yml\"]\n");
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("write a Dockerfile");
    let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\nhttp: {addr: \":5000\", draintimeout: 10s}\n";
    std::fs::write(context.join("config.yml"), config).expect("write a configuration");
    engine.wharf(&["build", "-q", "-t", "registry", &context.path().display().to_string()]).ok();
    // As in the guides.
    engine
        .docker(&[
            "run",
            "-d",
            "-p",
            "5000:5000",
            "-p",
            "5001:5001",
            "--restart=always",
            "--name",
            "registry",
            "registry",
        ])
        .ok();
    engine.load_busybox("busybox");
    let answers = || engine.run("curl", &["-sf", "-m", "2", "http://localhost:5000/v2/"]).code == 0;
    until("the registry to answer", Duration::from_secs(20), || answers().then_some(()));
    let name = "localhost:5000/my-busybox";
    engine.docker(&["tag", "busybox", name]).ok();
    engine.docker(&["push", name]).ok();
    engine.docker(&["rmi", name]).ok();
    engine.docker(&["pull", name]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", name, "echo", "ran"]).stdout, "ran\n");
    let metrics = engine.run("curl", &["-sf", "http://localhost:5001/metrics"]).ok();
    assert!(metrics.contains("registry_http_requests_total{"), "{metrics}");
    // What was pushed is in the volume; and a stop is no crash.
    engine.docker(&["restart", "registry"]).ok();
    until("the registry to answer again", Duration::from_secs(20), || answers().then_some(()));
    assert_eq!(
        engine.run("curl", &["-s", "http://localhost:5000/v2/my-busybox/tags/list"]).ok().trim(),
        r#"{"name":"my-busybox","tags":["latest"]}"#
    );
    engine.docker(&["stop", "registry"]).ok();
    assert_eq!(engine.wharf(&["inspect", "-f", "{{.State.ExitCode}}", "registry"]).line(), "0");
}

/// Blobs on another file system than the repositories, as with a volume mounted for them.
#[test]
fn blobs_may_be_on_another_disk() {
    let engine = Namespaces::new();
    let registry = Registry::start_own(&engine, HOST, "");
    let root = registry.folder().join("docker/registry/v2/blobs");
    std::fs::create_dir_all(&root).expect("make a folder");
    let mounted = engine.command("mount").args(["-t", "tmpfs", "blobs"]).arg(&root).status();
    assert!(mounted.expect("run mount").success());
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:1");
    registry.push(&engine, &archive, "some/box:1");
    let found = engine.command("find").arg(&root).args(["-type", "f", "!", "-name", "data"]).output();
    assert_eq!(String::from_utf8_lossy(&found.expect("run find").stdout), "", "nothing unfinished stays");
    let copied = files.join("copy");
    let mut skopeo = engine.command("skopeo");
    skopeo.args(["copy", "-q", "--src-tls-verify=false", &format!("docker://{HOST}/some/box:1")]);
    let output = skopeo.arg(format!("dir:{}", copied.display())).output().expect("run skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
