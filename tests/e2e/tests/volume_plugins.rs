//! Volumes of a driver that is another program, and a volume that hangs beside others.
#![expect(clippy::unwrap_used, reason = "test code: a failed set-up ends the test")]

use e2e::both;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::{Engine, until};

/// A small plugin: each volume is a folder below `root`. What it was asked is in `calls`.
#[derive(Debug, Clone)]
struct Plugin {
    root: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Plugin {
    /// Listens at `socket`. A volume called `stuck` is never mounted.
    fn start(root: &Path, socket: &Path) -> Self {
        std::fs::create_dir_all(root).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let plugin = Self { root: root.to_owned(), calls: Arc::default() };
        let own = plugin.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.answer(connection));
            }
        });
        plugin
    }

    fn answer(&self, mut connection: UnixStream) {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
            request.push(byte[0]);
        }
        let head = String::from_utf8(request).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        connection.read_exact(&mut body).unwrap();
        let method = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let name = asked.get("Name").and_then(serde_json::Value::as_str).unwrap_or_default();
        self.calls.lock().unwrap().push(format!("{method} {name}").trim().to_owned());
        if (method.as_str(), name) == ("VolumeDriver.Mount", "stuck") {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        let folder = self.root.join(name);
        let place = format!("{{\"Mountpoint\": \"{}\", \"Err\": \"\"}}", folder.display());
        let answer = match method.as_str() {
            "Plugin.Activate" => "{\"Implements\": [\"VolumeDriver\"]}".to_owned(),
            "VolumeDriver.Capabilities" => "{\"Capabilities\": {\"Scope\": \"global\"}}".to_owned(),
            "VolumeDriver.Create" if asked.pointer("/Opts/broken").is_some_and(|broken| broken == "yes") => {
                "{\"Err\": \"no room on the array\"}".to_owned()
            }
            "VolumeDriver.Create" => {
                std::fs::create_dir_all(&folder).unwrap();
                "{\"Err\": \"\"}".to_owned()
            }
            "VolumeDriver.Remove" => {
                std::fs::remove_dir_all(&folder).unwrap();
                "{}".to_owned()
            }
            "VolumeDriver.Mount" | "VolumeDriver.Path" => place,
            "VolumeDriver.Get" if folder.is_dir() => format!("{{\"Volume\": {}}}", self.told(name)),
            "VolumeDriver.Get" => "{\"Err\": \"no such volume\"}".to_owned(),
            "VolumeDriver.List" => {
                let entries = std::fs::read_dir(&self.root).unwrap().flatten();
                let all = entries.map(|entry| self.told(&entry.file_name().to_string_lossy()));
                format!("{{\"Volumes\": [{}]}}", all.collect::<Vec<_>>().join(", "))
            }
            _ => "{}".to_owned(),
        };
        let chunks = format!("{:x}\r\n{answer}\r\n0\r\n\r\n", answer.len());
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write_all(format!("{head}{chunks}").as_bytes()).ok();
    }

    /// What the plugin tells of a volume.
    fn told(&self, name: &str) -> String {
        let place = self.root.join(name).display().to_string();
        serde_json::json!({
            "Name": name, "Mountpoint": place, "CreatedAt": "2020-01-02T03:04:05Z", "Status": {"replicas": 3},
        })
        .to_string()
    }

    fn calls(&self, method: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.starts_with(method)).count()
    }
}

/// An engine, and a plugin it finds by a file.
fn with_plugin() -> (Engine, Plugin) {
    let engine = Engine::with_busybox();
    let (root, socket) = (engine.folder().join("array"), engine.folder().join("array.sock"));
    let plugin = Plugin::start(&root, &socket);
    // /run is the engine's own.
    engine.run("mkdir", &["-p", "/run/docker/plugins"]).ok();
    engine.run("ln", &["-s", &socket.display().to_string(), "/run/docker/plugins/array.sock"]).ok();
    (engine, plugin)
}

#[test]
fn volumes_of_a_plugin() {
    let (mut engine, plugin) = with_plugin();
    both(&engine, &["volume", "create", "-d", "array", "-o", "tier=fast", "data"]).ok();
    let format = "{{.Driver}} {{.Scope}} {{.Options.tier}} {{.Mountpoint}}";
    let shown = engine.wharf(&["volume", "inspect", "-f", format, "data"]).line();
    assert_eq!(shown, format!("array global fast {}", plugin.root.join("data").display()));
    assert_eq!(engine.wharf(&["volume", "ls", "-q", "-f", "driver=array"]).line(), "data");
    let write = |name: &str, row: &str| {
        let script = format!("echo {row} >> /d/rows; cat /d/rows");
        engine.wharf(&["run", "--rm", "-v", &format!("{name}:/d"), "busybox", "sh", "-c", &script]).ok()
    };
    assert_eq!(write("data", "one"), "one\n");
    assert_eq!(std::fs::read_to_string(plugin.root.join("data/rows")).unwrap(), "one\n");
    until("the end of the use", Duration::from_secs(10), || {
        (plugin.calls("VolumeDriver.Unmount") == plugin.calls("VolumeDriver.Mount")).then_some(())
    });
    // Used by two, over the daemon's death; mounted once, given back after the last.
    let run = |name: &str| {
        let flags =
            ["run", "-d", "--name", name, "--mount", "type=volume,source=data,target=/d,volume-driver=array"];
        engine.wharf(&[&flags[..], &["busybox", "sleep", "1000"]].concat()).ok();
    };
    run("aa");
    run("bb");
    let mounts = plugin.calls("VolumeDriver.Mount");
    let busy = engine.wharf(&["volume", "rm", "data"]);
    assert!(busy.stderr.contains("volume is in use"), "{}", busy.stderr);
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(engine.wharf(&["exec", "bb", "cat", "/d/rows"]).ok(), "one\n");
    engine.wharf(&["cp", "aa:/d/rows", "-"]).ok();
    assert_eq!(plugin.calls("VolumeDriver.Mount"), mounts, "it is mounted already");
    engine.wharf(&["rm", "-f", "aa"]).ok();
    let unmounts = plugin.calls("VolumeDriver.Unmount");
    engine.wharf(&["rm", "-f", "bb"]).ok();
    until("the end of the use", Duration::from_secs(10), || {
        (plugin.calls("VolumeDriver.Unmount") == unmounts + 1).then_some(())
    });
    engine.wharf(&["volume", "rm", "data"]).ok();
    assert!(!plugin.root.join("data").exists());
    // Refusals are the plugin's or ours, and leave nothing.
    let broken = engine.wharf(&["volume", "create", "-d", "array", "-o", "broken=yes", "bad"]);
    assert!(broken.stderr.contains("VolumeDriver.Create: no room on the array"), "{}", broken.stderr);
    engine.wharf(&["volume", "create", "mine"]).ok();
    let other = engine.wharf(&["volume", "create", "-d", "array", "mine"]);
    assert!(other.stderr.contains("already exists with the local driver"), "{}", other.stderr);
    let unknown = both(&engine, &["volume", "create", "-d", "nosuch", "x"]).stderr;
    assert!(
        unknown.contains("error looking up volume plugin nosuch: plugin \"nosuch\" not found"),
        "{unknown}"
    );
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).line(), "mine");
}

/// What was made, used and removed with the plugin's own tools is seen.
#[test]
fn a_plugins_own_volumes() {
    let (engine, plugin) = with_plugin();
    std::fs::create_dir(plugin.root.join("theirs")).unwrap();
    std::fs::write(plugin.root.join("theirs/rows"), "old\n").unwrap();
    engine.wharf(&["volume", "create", "ours"]).ok();
    let format = ["volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"];
    assert_eq!(both(&engine, &format).ok(), "ours local local\ntheirs array global\n");
    let format = ["volume", "inspect", "-f", "{{.CreatedAt}} {{.Status}} {{.Mountpoint}}", "theirs"];
    let place = plugin.root.join("theirs").display().to_string();
    assert_eq!(both(&engine, &format).line(), format!("2020-01-02T03:04:05Z map[replicas:3] {place}"));
    // By its name alone, and without asking the plugin to make it.
    let run = ["run", "--rm", "-v", "theirs:/d", "busybox", "cat", "/d/rows"];
    assert_eq!(engine.wharf(&run).ok(), "old\n");
    assert_eq!(plugin.calls("VolumeDriver.Create"), 0);
    // Not ours to prune.
    engine.wharf(&["volume", "prune", "-af"]).ok();
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).line(), "theirs");
    until("the end of the use", Duration::from_secs(10), || {
        (plugin.calls("VolumeDriver.Unmount") == plugin.calls("VolumeDriver.Mount")).then_some(())
    });
    std::fs::remove_dir_all(plugin.root.join("theirs")).unwrap();
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).ok(), "");
    let gone = both(&engine, &["volume", "inspect", "theirs"]);
    assert!(gone.code == 1 && gone.stderr.contains("no such volume"), "{}", gone.stderr);
    std::fs::create_dir(plugin.root.join("unused")).unwrap();
    engine.wharf(&["volume", "rm", "unused"]).ok();
    assert!(!plugin.root.join("unused").exists());
}

/// A plugin that asks for certificates. Its volumes are folders below the folder given.
const SECURE_PLUGIN: &str = r#"
import http.server, json, os, ssl, sys
os.chdir(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        place = os.path.join(os.getcwd(), "volume-" + asked.get("Name", ""))
        answer = {"Implements": ["VolumeDriver"], "Err": ""}
        if self.path.endswith("Create"):
            os.mkdir(place)
        if self.path.endswith(("Mount", "Path")):
            answer["Mountpoint"] = place
        if self.path.endswith("Get") and os.path.isdir(place):
            answer["Volume"] = {"Name": asked["Name"]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 4433), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server-key.pem")
context.load_verify_locations("ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
"#;

/// A plugin elsewhere, as a file in /etc/docker/plugins describes it.
#[test]
fn a_plugin_over_tls() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("tls");
    std::fs::create_dir(&folder).unwrap();
    if e2e::certificates(&folder).is_none() {
        drop(std::io::stderr().write_all(b"skipped: TLS needs openssl\n"));
        return;
    }
    // Of /etc the engine sees a copy of its own.
    let script = "mkdir upper work && mount -t overlay overlay -o lowerdir=/etc,upperdir=upper,workdir=work /etc && \
                  mkdir -p /etc/docker/plugins";
    engine.run("sh", &["-c", &format!("cd {} && {script}", folder.display())]).ok();
    let mut server = engine.command("python3");
    server.arg("-c").arg(SECURE_PLUGIN).arg(&folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n");
    let describe = |files: serde_json::Value| {
        let text = serde_json::json!({"Name": "far", "Addr": "https://127.0.0.1:4433", "TLSConfig": files});
        std::fs::write(folder.join("upper/docker/plugins/far.json"), text.to_string()).unwrap();
    };
    let file = |name: &str| folder.join(name).display().to_string();
    let create = ["volume", "create", "-d", "far", "data"];
    describe(serde_json::json!({"CAFile": file("ca.pem")}));
    let refused = engine.wharf(&create);
    assert!(refused.code == 1 && refused.stderr.contains("ertificate"), "no certificate: {}", refused.stderr);
    let (certificate, key) = (file("client.pem"), file("client-key.pem"));
    describe(serde_json::json!({"CertFile": certificate, "KeyFile": key}));
    let refused = engine.wharf(&create);
    assert!(
        refused.code == 1 && refused.stderr.contains("UnknownIssuer"),
        "no authority: {}",
        refused.stderr
    );
    describe(serde_json::json!({"CAFile": file("ca.pem"), "CertFile": certificate, "KeyFile": key}));
    engine.wharf(&create).ok();
    engine.wharf(&["run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo far > /d/x"]).ok();
    assert_eq!(std::fs::read_to_string(folder.join("volume-data/x")).unwrap(), "far\n");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn one_that_hangs_holds_up_nobody() {
    let (engine, plugin) = with_plugin();
    engine.wharf(&["volume", "create", "-d", "array", "stuck"]).ok();
    let hang = ["run", "--rm", "-v", "stuck:/d", "busybox", "true"];
    let mut stuck = engine.wharf_command();
    let mut stuck = stuck.args(hang).spawn().unwrap();
    until("the hanging mount", Duration::from_secs(10), || {
        (plugin.calls("VolumeDriver.Mount stuck") > 0).then_some(())
    });
    for volume in ["tmpfs", "other"] {
        let options = ["-o", "type=tmpfs", "-o", "device=tmpfs"];
        engine.wharf(&[&["volume", "create"], &options[..], &[volume]].concat()).ok();
        let mount = format!("{volume}:/d");
        engine.wharf(&["run", "--rm", "-v", &mount, "busybox", "touch", "/d/x"]).ok();
    }
    assert!(stuck.try_wait().unwrap().is_none(), "it hangs still");
    stuck.wait().unwrap();
}
