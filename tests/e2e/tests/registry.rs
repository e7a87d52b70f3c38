//! Our registry server, used by parts that others wrote: skopeo, curl, Docker's command line, dockerd; and by our engine.
#![expect(clippy::unwrap_used, reason = "test code: a failed step ends the test")]

use e2e::command_lines;
use std::path::Path;
use std::time::Duration;
use testkit::{Engine, Namespaces, Registry, Scratch, image, until};

fn curl(namespaces: &Namespaces, arguments: &[&str]) -> String {
    let output =
        namespaces.command("curl").args(["-sk", "--max-time", "20"]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(namespaces: &Namespaces, arguments: &[&str]) -> String {
    curl(namespaces, &[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat())
}

fn skopeo(namespaces: &Namespaces, arguments: &[&str]) -> String {
    let output = namespaces.command("skopeo").args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn busybox(folder: &Scratch) -> std::path::PathBuf {
    let archive = folder.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    archive
}

#[test]
fn skopeo_and_both_command_lines() {
    let engine = Engine::start();
    let namespaces = engine.namespaces();
    let files = Scratch::new();
    let registry = Registry::start_own(namespaces, Registry::HOST, "");
    registry.push(namespaces, &busybox(&files), "tools/box:1");
    let host = Registry::HOST;
    let name = format!("{host}/tools/box:1");
    let digest = |name: &str| {
        skopeo(
            namespaces,
            &["inspect", "--tls-verify=false", "-f", "{{.Digest}}", &format!("docker://{name}")],
        )
    };
    let pushed = digest(&name);
    assert!(engine.wharf(&["pull", &name]).ok().contains(&pushed));
    assert_eq!(engine.wharf(&["run", "--rm", &name, "echo", "ran"]).stdout, "ran\n");
    for (line, copy) in [("wharf", "copies/one:a"), ("docker", "copies/two:b")] {
        let copy = format!("{host}/{copy}");
        engine.wharf(&["tag", &name, &copy]).ok();
        let output =
            if line == "wharf" { engine.wharf(&["push", &copy]) } else { engine.docker(&["push", &copy]) };
        assert!(output.ok().contains("digest: "), "{copy}");
        assert_eq!(digest(&copy), pushed, "bytes stay the same");
    }
    let layout = format!("oci:{}:x", files.join("layout").display());
    skopeo(namespaces, &["copy", "-q", "--src-tls-verify=false", &format!("docker://{name}"), &layout]);
    assert_eq!(
        curl(namespaces, &[&format!("http://{host}/v2/_catalog?n=2")]),
        "{\"repositories\":[\"copies/one\",\"copies/two\"]}\n"
    );
    let tags = curl(namespaces, &[&format!("http://{host}/v2/copies/one/tags/list")]);
    assert_eq!(tags, "{\"name\":\"copies/one\",\"tags\":[\"a\"]}\n");
    let found = curl(namespaces, &[&format!("http://{host}/v1/search?q=one")]);
    assert!(found.contains("\"name\":\"copies/one\"") && found.contains("\"num_results\":1"), "{found}");
    skopeo(namespaces, &["delete", "--tls-verify=false", &format!("docker://{host}/copies/one:a")]);
    assert!(engine.wharf(&["pull", &format!("{host}/copies/one:a")]).stderr.contains("not found"));
}

#[test]
fn passwords_and_tls() {
    let engine = Engine::start();
    let namespaces = engine.namespaces();
    let files = Scratch::new();
    let tls = Registry::certificate(&files, "DNS:localhost,IP:127.0.0.1");
    let further = Registry::passwords(&files) + &tls;
    let _registry = Registry::start_own(namespaces, Registry::HOST, &further);
    let address = format!("docker://{}/private/box:1", Registry::HOST);
    let archive = format!("docker-archive:{}", busybox(&files).display());
    // A key beside it would be a client's.
    let believed = Scratch::new();
    std::fs::copy(files.join("tls.crt"), believed.join("ca.crt")).unwrap();
    let folder = believed.path().display().to_string();
    let copy = ["copy", "-q", "--dest-cert-dir", folder.as_str(), "--dest-creds"];
    skopeo(namespaces, &[&copy[..], &["alice:secret", archive.as_str(), address.as_str()]].concat());
    let wrong =
        namespaces.command("skopeo").args(copy).args(["alice:wrong", &archive, &address]).output().unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("authentication required"));
    let name = format!("{}/private/box:1", Registry::HOST);
    let refused = engine.wharf(&["pull", &name]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("no basic auth credentials"), "{}", refused.stderr);
    let login = |password: &str| engine.docker(&["login", "-u", "alice", "-p", password, Registry::HOST]);
    assert_ne!(login("wrong").code, 0);
    login("secret").ok();
    engine.docker(&["pull", "-q", &name]).ok();
    engine.wharf(&["pull", "-q", &name]).ok();
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let namespaces = Namespaces::new();
    let mut registry = Registry::start_own(&namespaces, Registry::HOST, "");
    let files = Scratch::new();
    let blob = files.join("blob");
    std::fs::write(&blob, vec![7_u8; 3_000_000]).unwrap();
    let hash = std::process::Command::new("sha256sum").arg(&blob).output().unwrap().stdout;
    let digest = format!("sha256:{}", String::from_utf8_lossy(&hash[..64]));
    let data = format!("@{}", blob.display());
    let address = format!("http://{}/v2/a/blobs/uploads/", Registry::HOST);
    let begin = || {
        let head = curl(&namespaces, &["-i", "-X", "POST", &address]);
        let line =
            head.lines().find(|line| line.to_lowercase().starts_with("location:")).expect("a location");
        line.split_once(' ').expect("a value").1.trim().to_owned()
    };
    let whole = format!("{address}?digest={digest}");
    assert_eq!(status(&namespaces, &["-X", "POST", "--data-binary", &data, &whole]), "201");
    registry.restart(&namespaces);
    let wanted = format!("http://{}/v2/a/blobs/{digest}", Registry::HOST);
    assert_eq!(status(&namespaces, &[&wanted]), "200");
    // An upload that was under way goes on.
    let half = files.join("half");
    std::fs::write(&half, vec![7_u8; 1_000_000]).unwrap();
    let location = begin();
    let part = format!("@{}", half.display());
    assert_eq!(status(&namespaces, &["-X", "PATCH", "--data-binary", &part, &location]), "202");
    registry.restart(&namespaces);
    assert!(curl(&namespaces, &["-i", &location]).to_lowercase().contains("range: 0-999999"));
    let rest = files.join("rest");
    std::fs::write(&rest, vec![7_u8; 2_000_000]).unwrap();
    let part = format!("@{}", rest.display());
    let last = format!("{location}?digest={digest}");
    assert_eq!(status(&namespaces, &["-X", "PUT", "--data-binary", &part, &last]), "201");
    let output = std::process::Command::new(Engine::executable())
        .args(["registry", "check"])
        .arg(registry.folder().join("config.yml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_cache_of_another_registry() {
    let engine = Engine::start();
    let namespaces = engine.namespaces();
    let files = Scratch::new();
    let remote = Registry::start_own(namespaces, "127.0.0.1:5001", "");
    remote.push(namespaces, &busybox(&files), "library/box:1");
    let _cache =
        Registry::start_own(namespaces, Registry::HOST, "proxy: {remoteurl: \"http://127.0.0.1:5001\"}\n");
    let name = format!("{}/library/box:1", Registry::HOST);
    engine.wharf(&["pull", "-q", &name]).ok();
    engine.wharf(&["rmi", &name]).ok();
    assert!(!engine.wharf(&["push", &name]).stderr.is_empty());
    drop(remote);
    // What was pulled once is here, whether the other answers or not.
    engine.wharf(&["pull", "-q", &name]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", &name, "echo", "cached"]).stdout, "cached\n");
}

#[test]
fn garbage_goes_while_the_server_answers() {
    let namespaces = Namespaces::new();
    let registry = Registry::start_own(&namespaces, Registry::HOST, "");
    let files = Scratch::new();
    registry.push(&namespaces, &busybox(&files), "a:1");
    let blobs = || blobs_below(&registry.folder().join("docker/registry/v2/blobs/sha256"));
    let pushed = blobs();
    let digest = curl(&namespaces, &["-I", &format!("http://{}/v2/a/manifests/1", Registry::HOST)]);
    let digest = digest
        .lines()
        .find_map(|line| line.strip_prefix("docker-content-digest: "))
        .unwrap()
        .trim()
        .to_owned();
    let collect = || {
        let mut command = std::process::Command::new(Engine::executable());
        let output =
            command.args(["registry", "garbage-collect"]).arg(registry.folder().join("config.yml")).output();
        assert!(output.unwrap().status.success());
    };
    collect();
    assert_eq!(blobs(), pushed, "all of it is needed");
    let manifest = format!("http://{}/v2/a/manifests/{digest}", Registry::HOST);
    assert_eq!(status(&namespaces, &["-X", "DELETE", &manifest]), "202");
    until("the garbage to be old enough", Duration::from_secs(10), || {
        collect();
        (blobs() == 0).then_some(())
    });
    registry.push(&namespaces, &busybox(&files), "a:1");
    assert_eq!(status(&namespaces, &[&manifest]), "200");
}

fn blobs_below(folder: &Path) -> usize {
    let children =
        |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    children(folder).map(|pair| children(&pair).count()).sum()
}

/// dockerd is Docker's own daemon: what it pushes and pulls is what most clients do.
#[test]
fn dockerd_pushes_and_pulls() {
    let found = std::process::Command::new("dockerd").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no dockerd here");
        return;
    }
    let namespaces = Namespaces::new();
    let _registry = Registry::start_own(&namespaces, Registry::HOST, "");
    let files = Scratch::new();
    let folder = files.path().display().to_string();
    std::fs::write(files.join("daemon.json"), "{}").unwrap();
    let mut dockerd = namespaces
        .command("dockerd")
        .args([
            "--bridge=none",
            "--iptables=false",
            "--storage-driver=vfs",
            "-H",
            &format!("unix://{folder}/sock"),
        ])
        .args(["--data-root", &format!("{folder}/data"), "--exec-root", &format!("{folder}/exec")])
        .args(["-p", &format!("{folder}/pid"), "--config-file", &format!("{folder}/daemon.json")])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(files.join("log")).unwrap())
        .spawn()
        .unwrap();
    let docker = |arguments: &[&str]| {
        let host = format!("unix://{folder}/sock");
        let output = namespaces.command("docker").args(["-H", &host]).args(arguments).output().unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    until("dockerd to answer", Duration::from_secs(60), || docker(&["version"]).0.then_some(()));
    let name = format!("{}/from/dockerd:1", Registry::HOST);
    let archive = busybox(&files).display().to_string();
    let (theirs, ours) = (format!("{folder}/theirs.tar"), format!("{folder}/ours.tar"));
    // What we save, dockerd takes.
    let engine = Engine::start();
    engine.wharf(&["load", "-q", "-i", &archive]).ok();
    engine.wharf(&["tag", "box:latest", "saved/by:wharf"]).ok();
    engine.wharf(&["save", "-o", &ours, "saved/by:wharf"]).ok();
    let steps: [&[&str]; 8] = [
        &["load", "-i", &archive],
        &["tag", "box:latest", &name],
        &["push", &name],
        &["rmi", &name, "box:latest"],
        &["pull", &name],
        &["save", "-o", &theirs, &name],
        &["load", "-i", &ours],
        &["inspect", "saved/by:wharf"],
    ];
    let outcomes: Vec<_> = steps.iter().map(|step| docker(step)).collect();
    // dockerd and its containerd end before anything is asserted.
    drop(std::process::Command::new("kill").arg(dockerd.id().to_string()).status());
    drop(dockerd.wait());
    for ((success, output), step) in outcomes.iter().zip(steps) {
        assert!(success, "docker {step:?}: {output}");
    }
    // And the other way round.
    let loaded = engine.wharf(&["load", "-q", "-i", &theirs]).line();
    assert_eq!(loaded, format!("Loaded image: {name}"));
    assert_eq!(engine.wharf(&["run", "--rm", &name, "echo", "ran"]).stdout, "ran\n");
}

/// A token server, and a place for events: `token` signs with a key whose certificate the registry trusts.
const TOKEN_SERVER: &str = r#"
import base64, hashlib, http.server, json, subprocess, sys, time, urllib.parse
folder, form = sys.argv[1], sys.argv[2]
def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout
def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
public = openssl("pkey", "-in", folder + "/token.key", "-pubout", "-outform", "DER")
short = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
header = {"typ": "JWT", "alg": "RS256"}
if form == "kid":
    header["kid"] = ":".join(short[i:i + 4] for i in range(0, 48, 4))
else:
    header["x5c"] = [base64.b64encode(openssl("x509", "-in", folder + "/token.crt", "-outform", "DER")).decode()]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        user = base64.b64decode(self.headers.get("Authorization", "Basic Og==").split()[1]).decode()
        if user not in (":", "alice:secret"):
            self.send_response(401); self.end_headers(); return
        self.give(user, query)
    def give(self, user, query):
        access = []
        for scope in " ".join(query.get("scope", [])).split():
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if user != ":" else [a for a in actions.split(",") if a == "pull" and name.startswith("public/")]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {"iss": "Tokens", "sub": user.split(":")[0], "aud": query["service"][0], "exp": now + 60, "nbf": now - 5, "access": access}
        signed = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
        signature = openssl("dgst", "-sha256", "-sign", folder + "/token.key", data=signed.encode())
        answer = {"token": signed + "." + encode(signature)}
        if form == "kid" and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = "kept-for-long"
        body = json.dumps(answer).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/token"):
            asked = urllib.parse.parse_qs(body.decode())
            if asked["refresh_token"] != ["kept-for-long"]:
                self.send_response(401); self.end_headers(); return
            return self.give("alice:", asked)
        with open(folder + "/events", "ab") as log:
            log.write(body + b"\n")
        self.send_response(200); self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5001), Handler).serve_forever()
"#;

/// Everything that a test with tokens needs; ended when dropped.
struct Tokens {
    process: std::process::Child,
    files: Scratch,
}

impl Tokens {
    fn start(namespaces: &Namespaces, form: &str) -> Self {
        let files = Scratch::new();
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"])
            .arg("-keyout")
            .arg(files.join("token.key"))
            .arg("-out")
            .arg(files.join("token.crt"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(files.join("server.py"), TOKEN_SERVER).unwrap();
        let mut command = namespaces.command("python3");
        command.arg(files.join("server.py")).arg(files.path()).arg(form);
        let process = command.spawn().unwrap();
        until("the token server to answer", Duration::from_secs(20), || {
            (status(namespaces, &["http://127.0.0.1:5001/?service=x"]) == "200").then_some(())
        });
        Self { process, files }
    }

    fn config(&self) -> String {
        format!(
            "auth: {{token: {{realm: \"http://127.0.0.1:5001/token\", service: reg, issuer: Tokens, rootcertbundle: {}}}}}\n\
             notifications: {{endpoints: [{{name: log, url: \"http://127.0.0.1:5001/events\", ignore: {{actions: [pull]}}}}]}}\n",
            self.files.join("token.crt").display()
        )
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.files.join("events")).unwrap_or_default();
        let envelopes = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        envelopes.flat_map(|envelope| envelope.get("events").unwrap().as_array().unwrap().clone()).collect()
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn tokens_and_events() {
    for form in ["kid", "x5c"] {
        let engine = Engine::start();
        let namespaces = engine.namespaces();
        let tokens = Tokens::start(namespaces, form);
        let _registry = Registry::start_own(namespaces, Registry::HOST, &tokens.config());
        let archive = format!("docker-archive:{}", busybox(&tokens.files).display());
        for name in ["public/box:1", "private/box:1"] {
            let address = format!("docker://{}/{name}", Registry::HOST);
            let copy = ["copy", "-q", "--dest-tls-verify=false", "--dest-creds", "alice:secret"];
            skopeo(namespaces, &[&copy[..], &[archive.as_str(), address.as_str()]].concat());
        }
        let name = |name: &str| format!("{}/{name}", Registry::HOST);
        engine.wharf(&["pull", "-q", &name("public/box:1")]).ok();
        let refused = engine.wharf(&["pull", "-q", &name("private/box:1")]);
        assert!(refused.code == 1 && refused.stderr.contains("denied"), "{form}: {}", refused.stderr);
        let wrong = engine.wharf(&["login", "-u", "alice", "-p", "wrong", Registry::HOST]);
        assert_eq!(wrong.code, 1, "{form}: {wrong:?}");
        for line in command_lines() {
            line.run(&engine, &["logout", Registry::HOST]);
            line.run(&engine, &["login", "-u", "alice", "-p", "secret", Registry::HOST]).ok();
            let kept = std::fs::read_to_string(engine.folder().join("config/config.json")).unwrap();
            // In place of the password, from a server that gives them.
            let password = "YWxpY2U6c2VjcmV0";
            assert_eq!(
                (kept.contains("kept-for-long"), kept.contains(password)),
                (form == "kid", form != "kid")
            );
            engine.wharf(&["rmi", "-f", &name("private/box:1")]);
            line.run(&engine, &["pull", "-q", &name("private/box:1")]).ok();
        }
        engine.wharf(&["tag", &name("private/box:1"), &name("other/box:2")]).ok();
        engine.wharf(&["push", "-q", &name("other/box:2")]).ok();
        until("the events to come", Duration::from_secs(20), || {
            let last = tokens.events().into_iter().rfind(|event| event["target"]["tag"] == "2");
            let event = last?;
            assert_eq!(
                (&event["action"], &event["actor"]["name"]),
                (&"push".into(), &"alice".into()),
                "{event}"
            );
            assert_eq!(event["target"]["repository"], "other/box", "{event}");
            Some(())
        });
        let actions: Vec<_> = tokens.events().iter().map(|event| event["action"].clone()).collect();
        assert!(
            actions.iter().any(|action| action == "mount"),
            "blobs of a known repository are not sent again: {actions:?}"
        );
        assert!(actions.iter().all(|action| action != "pull"));
    }
}

#[test]
fn health_is_told_and_requests_under_way_end() {
    let namespaces = Namespaces::new();
    let files = Scratch::new();
    let ill = files.join("ill");
    let further = format!(
        "http: {{draintimeout: 30s, debug: {{addr: \"127.0.0.1:5003\"}}}}\n\
         health: {{file: [{{file: {}, interval: 100ms}}], storagedriver: {{enabled: true, interval: 100ms}}}}\n",
        ill.display()
    );
    let mut registry = Registry::start_own(&namespaces, Registry::HOST, &further);
    let host = Registry::HOST;
    let (health, api) = ("http://127.0.0.1:5003/debug/health", format!("http://{host}/v2/"));
    let both = || (status(&namespaces, &[health]), status(&namespaces, &[&api]));
    assert_eq!(both(), ("200".to_owned(), "200".to_owned()));
    std::fs::write(&ill, "").unwrap();
    until("the registry to say that it is ill", Duration::from_secs(20), || {
        (both() == ("503".to_owned(), "503".to_owned())).then_some(())
    });
    assert!(curl(&namespaces, &[health]).contains("file exists"));
    std::fs::remove_file(&ill).unwrap();
    until("the registry to be well again", Duration::from_secs(20), || {
        (both() == ("200".to_owned(), "200".to_owned())).then_some(())
    });

    // A download that has begun ends though the server was told to go; nobody else is let in.
    let archive = files.join("large.tar");
    let large = image::layer(&[image::Entry::File("large", 0o644, &testkit::Random::new(7).bytes(24 << 20))]);
    image::write_archive(&archive, &["large:1"], &[large], &serde_json::json!({}));
    registry.push(&namespaces, &archive, "large:1");
    let manifest = curl(&namespaces, &["-H", "Accept: */*", &format!("http://{host}/v2/large/manifests/1")]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let (digest, size) =
        (manifest["layers"][0]["digest"].as_str().unwrap(), manifest["layers"][0]["size"].as_u64());
    let place = files.join("blob");
    let mut download = namespaces.command("curl");
    download
        .args(["-sf", "--limit-rate", "8M", "-o"])
        .arg(&place)
        .arg(format!("http://{host}/v2/large/blobs/{digest}"));
    let mut download = download.spawn().unwrap();
    until("the download to begin", Duration::from_secs(20), || {
        std::fs::metadata(&place).is_ok_and(|file| file.len() > 0).then_some(())
    });
    registry.terminate();
    until("the door to be shut", Duration::from_secs(20), || {
        (status(&namespaces, &[&api]) == "000").then_some(())
    });
    assert!(download.wait().unwrap().success());
    assert_eq!(std::fs::metadata(&place).ok().map(|file| file.len()), size);
    assert!(registry.wait_for_end());
}
