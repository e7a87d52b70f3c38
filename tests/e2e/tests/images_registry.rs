//! Images and registries: searching, credentials, imports from the web, configuration read again, compressed archives.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "test code: a failed step ends the test")]

use e2e::both;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::{Engine, Registry, Scratch, image, until};

#[test]
fn searching() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    let host = Registry::HOST;
    let ours = Registry::start_own(engine.namespaces(), host, "");
    for name in ["tools/box:1", "other/thing:1", "box:latest"] {
        ours.push(engine.namespaces(), &archive, name);
    }
    let found = both(&engine, &["search", &format!("{host}/box")]).ok();
    let names: Vec<&str> = found.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["box", "tools/box"]);
    assert!(found.starts_with("NAME        DESCRIPTION   STARS     OFFICIAL"), "{found}");
    both(
        &engine,
        &["search", "--limit", "1", "--format", "{{.Name}}:{{.StarCount}}", &format!("{host}/box")],
    )
    .ok();
    both(&engine, &["search", "--filter", "stars=3", &format!("{host}/box")]).ok();
    assert_eq!(both(&engine, &["search", "--filter", "nope=3", &format!("{host}/box")]).code, 1);
    assert_eq!(both(&engine, &["search", "--limit", "101", &format!("{host}/box")]).code, 1);
    drop(ours);
    // A registry that cannot search has a catalog.
    let debian = Registry::start(engine.namespaces());
    debian.push(engine.namespaces(), &archive, "plain/box:1");
    let found = engine.wharf(&["search", "--format", "{{.Name}}", &format!("{host}/box")]).ok();
    assert_eq!(found, "plain/box\n");
}

#[test]
fn logging_in_and_out() {
    let engine = Engine::start();
    let files = Scratch::new();
    let further = Registry::passwords(&files);
    let _registry = Registry::start_own(engine.namespaces(), Registry::HOST, &further);
    let host = Registry::HOST;
    let wrong = both(&engine, &["login", "-u", "alice", "-p", "wrong", host]);
    assert_eq!(wrong.code, 1);
    let ours = engine.wharf(&["login", "-u", "alice", "-p", "secret", "-e", "a@example.com", host]).ok();
    assert_eq!(ours, "Login Succeeded\n");
    // What one command line keeps, the other one knows.
    assert!(both(&engine, &["login", host]).ok().contains("Login Succeeded"));
    both(&engine, &["login", "-u", "alice", "--password-stdin", "-p", "x", host]);
    both(&engine, &["login", "--password-stdin", host]);
    both(&engine, &["login", "-u", "bob", host]);
    both(&engine, &["login", "-u", "alice", "-p", "secret", host]).ok();
    assert_eq!(engine.wharf(&["logout", host]).ok(), format!("Removing login credentials for {host}\n"));
    let config =
        std::fs::read_to_string(engine.folder().join("config/config.json")).expect("a configuration");
    assert!(!config.contains(host), "{config}");
    both(&engine, &["logout", host]);
}

/// Keeps each server's credentials as a file named by its host, as Docker's helpers keep them elsewhere.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")/kept" || exit 1
echo "$1" >> ../asked
case $1 in
store) cat > new; mv new "$(sed 's/.*"ServerURL": *"\([^"]*\)".*/\1/' new | tr -c 'a-z0-9.\n' _)" ;;
get) read -r name; cat "$(echo "$name" | tr -c 'a-z0-9.\n' _)" 2> /dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) read -r name; rm -f "$(echo "$name" | tr -c 'a-z0-9.\n' _)" ;;
list) echo {} ;;
esac
"#;

#[test]
fn credentials_are_kept_by_helpers() {
    use std::os::unix::fs::PermissionsExt as _;
    let engine = Engine::start();
    let files = Scratch::new();
    let further = Registry::passwords(&files);
    let _registry = Registry::start_own(engine.namespaces(), Registry::HOST, &further);
    let host = Registry::HOST;
    let config = engine.folder().join("config/config.json");
    std::fs::create_dir_all(engine.folder().join("config")).expect("make a folder");
    let path = format!("{}:{}", files.path().display(), std::env::var("PATH").unwrap_or_default());
    let run = |program: &str, arguments: &[&str]| {
        let mut command = engine.command("env");
        let output =
            command.arg(format!("PATH={path}")).arg(program).args(arguments).output().expect("run env");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let ours = Engine::executable().display().to_string();
    std::fs::create_dir(files.join("kept")).expect("make a folder");
    let helper = files.join("docker-credential-fake");
    std::fs::write(&helper, HELPER).expect("write a helper");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    engine.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    let name = format!("{host}/private/box:1");
    engine.wharf(&["tag", "box", &name]).ok();
    for settings in
        [serde_json::json!({"credsStore": "fake"}), serde_json::json!({"credHelpers": {host: "fake"}})]
    {
        // Who logged in by one command line may use the other one.
        for (first, second) in [(ours.as_str(), "docker"), ("docker", ours.as_str())] {
            std::fs::write(&config, settings.to_string()).expect("write a configuration");
            let (done, said) = run(first, &["login", "-u", "alice", "-p", "secret", host]);
            assert!(done && said.contains("Login Succeeded"), "{said}");
            let kept = std::fs::read_to_string(&config).expect("a configuration");
            assert!(!kept.contains("YWxpY2U6c2VjcmV0") && !kept.contains("secret"), "{kept}");
            for program in [first, second] {
                let (done, said) = run(program, &["push", "-q", &name]);
                assert!(done, "{program}: {said}");
            }
            let (done, said) = run(second, &["logout", host]);
            assert!(done, "{said}");
            assert_eq!(std::fs::read_dir(files.join("kept")).expect("a folder").count(), 0);
            let (done, said) = run(first, &["push", "-q", &name]);
            assert!(!done && said.contains("no basic auth credentials"), "{said}");
        }
    }
    let asked = std::fs::read_to_string(files.join("asked")).expect("what was asked");
    assert_eq!(asked.lines().filter(|line| *line == "store").count(), 4, "{asked}");
    // A helper that is not there is no reason to keep a secret in the open.
    std::fs::write(&config, r#"{"credsStore": "absent"}"#).expect("write a configuration");
    let (done, said) = run(&ours, &["login", "-u", "alice", "-p", "secret", host]);
    assert!(!done && said.contains("docker-credential-absent"), "{said}");
}

/// A web server for one folder.
struct Web(Child);

impl Web {
    fn start(engine: &Engine, folder: &Scratch) -> Self {
        let mut command = engine.namespaces().command("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "8099", "--directory"]).arg(folder.path());
        let web =
            Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a web server"));
        until("the web server to answer", Duration::from_secs(20), || {
            let output = engine.run("curl", &["-s", "-o", "/dev/null", "http://127.0.0.1:8099/"]);
            (output.code == 0).then_some(())
        });
        web
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn importing_from_everywhere() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("root.tar");
    std::fs::write(&archive, image::busybox_layer()).expect("write an archive");
    let path = archive.display().to_string();
    for program in ["xz", "bzip2", "gzip"] {
        let status = Command::new(program).args(["-k", &path]).status().expect("compress an archive");
        assert!(status.success(), "{program}");
    }
    let _web = Web::start(&engine, &files);
    let sources = [
        path.clone(),
        format!("{path}.xz"),
        format!("{path}.bz2"),
        format!("{path}.gz"),
        "http://127.0.0.1:8099/root.tar.xz".to_owned(),
    ];
    for (number, source) in sources.iter().enumerate() {
        let name = format!("imported:{number}");
        engine.wharf(&["import", "-c", "CMD [\"echo\", \"hello\"]", source, &name]).ok();
        assert_eq!(engine.wharf(&["run", "--rm", &name]).stdout, "hello\n", "{source}");
    }
    let missing = both(&engine, &["import", "http://127.0.0.1:8099/none.tar", "imported:x"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("404"), "{}", missing.stderr);
    let saved = files.join("saved.tar");
    engine.wharf(&["save", "-o", &saved.display().to_string(), "imported:0", "imported:1"]).ok();
    engine.wharf(&["rmi", "imported:0", "imported:1"]).ok();
    let status = Command::new("xz").arg(&saved).status().expect("compress an archive");
    assert!(status.success());
    let loaded = engine.wharf(&["load", "-q", "-i", &format!("{}.xz", saved.display())]).ok();
    let mut lines: Vec<&str> = loaded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Loaded image: imported:0", "Loaded image: imported:1"]);
}

#[test]
fn registries_are_configured_while_the_daemon_runs() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    let mirror = Registry::start_own(engine.namespaces(), "10.99.0.2:5000", "");
    mirror.push(engine.namespaces(), &archive, "library/box:latest");
    // Neither the mirror nor the registry's certificate is known yet.
    assert_eq!(engine.wharf(&["pull", "-q", "box"]).code, 1);
    assert_eq!(engine.wharf(&["pull", "-q", "10.99.0.2:5000/library/box"]).code, 1);
    let json = r#"{"registry-mirrors": ["http://10.99.0.2:5000"], "insecure-registries": ["10.99.0.0/24"], "max-concurrent-downloads": 1}"#;
    std::fs::write(engine.folder().join("daemon.json"), json).expect("write daemon.json");
    let pid = std::fs::read_to_string(engine.folder().join("pid")).expect("read the pid file");
    let told = Command::new("kill").args(["-HUP", pid.trim()]).status().expect("run kill");
    assert!(told.success());
    until("the daemon to read it", Duration::from_secs(10), || {
        engine.daemon_log().contains("Registries").then_some(())
    });
    assert_eq!(engine.wharf(&["pull", "-q", "box"]).line(), "docker.io/library/box:latest");
    engine.wharf(&["pull", "-q", "10.99.0.2:5000/library/box"]).ok();
    let found = engine.wharf(&["search", "--format", "{{.Name}}", "box"]).ok();
    assert_eq!(found, "10.99.0.2:5000/library/box\n", "a search asks mirrors as well");
}

/// Pushes an image for `architecture` as `m:ARCHITECTURE`; returns its descriptor.
fn publish(engine: &Engine, registry: &Registry, files: &Scratch, architecture: &str) -> serde_json::Value {
    let archive = files.join(&format!("{architecture}.tar"));
    let own = image::layer(&[image::Entry::File("machine", 0o644, architecture.as_bytes())]);
    let config = serde_json::json!({"Cmd": ["cat", "/machine"]});
    image::write_archive_for(&archive, &["m:1"], &[image::busybox_layer(), own], &config, architecture);
    registry.push(engine.namespaces(), &archive, &format!("m:{architecture}"));
    let mut entry = descriptor(engine, architecture);
    entry["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
    entry
}

/// The descriptor of `m:TAG`.
fn descriptor(engine: &Engine, tag: &str) -> serde_json::Value {
    let address = format!("http://{}/v2/m/manifests/{tag}", Registry::HOST);
    let head = engine.run("curl", &["-sI", &address]).ok().to_lowercase();
    let field = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)).expect("a header").trim().to_owned()
    };
    let size: u64 = field("content-length:").parse().expect("a size");
    let (kind, digest) = (field("content-type:"), field("docker-content-digest:"));
    serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
}

/// Puts an index of `entries` as `m:TAG`.
fn put_index(engine: &Engine, kind: &str, tag: &str, entries: &[serde_json::Value]) {
    // Neither spaces nor the order of keys are as anybody here would write them.
    let index = serde_json::json!({"manifests": entries, "mediaType": kind, "schemaVersion": 2});
    let text = serde_json::to_string_pretty(&index).expect("an index");
    let (header, address) =
        (format!("Content-Type: {kind}"), format!("http://{}/v2/m/manifests/{tag}", Registry::HOST));
    engine.run("curl", &["-s", "-f", "-X", "PUT", "-H", &header, "--data-binary", &text, &address]).ok();
}

/// An index of indexes that do not say what they are for, the first of which is for others alone.
#[test]
fn indexes_in_indexes_stay_as_they_are() {
    let engine = Engine::start();
    let files = Scratch::new();
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let host = Registry::HOST;
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut images = ["amd64", "s390x", "arm64", "riscv64"]
        .map(|architecture| (architecture, publish(&engine, &registry, &files, architecture)));
    // Whatever this machine is, it comes last.
    let own = engine.wharf(&["version", "-f", "{{.Server.Arch}}"]).line();
    images.sort_by_key(|(architecture, _)| *architecture == own);
    let [one, two, three, four] = images.map(|(_, entry)| entry);
    put_index(&engine, kind, "first", &[one, two]);
    put_index(&engine, kind, "second", &[three, four]);
    let inner = [descriptor(&engine, "first"), descriptor(&engine, "second")];
    put_index(&engine, kind, "all", &inner);
    let name = format!("{host}/m:all");
    let bytes = |repository: &str, reference: &str| {
        let address = format!("http://{host}/v2/{repository}/manifests/{reference}");
        engine.run("curl", &["-s", "-f", &address]).ok()
    };
    engine.wharf(&["pull", "-q", &name]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", "--net=none", &name]).line(), own);
    for platform in ["linux/amd64", "linux/s390x", "linux/arm64", "linux/riscv64"] {
        engine.wharf(&["pull", "-q", "--platform", platform, &name]).ok();
    }
    let missing = engine.wharf(&["pull", "-q", "--platform", "linux/mips64le", &name]);
    assert!(missing.code == 1 && missing.stderr.contains("no matching manifest for linux/mips64le"));
    let id = engine.wharf(&["image", "inspect", "-f", "{{.Id}}", &name]).line();
    assert_eq!(descriptor(&engine, "all")["digest"], id.as_str());

    let saved = files.join("saved.tar").display().to_string();
    engine.wharf(&["save", "-o", &saved, &name]).ok();
    engine.wharf(&["rmi", "-f", &name]).ok();
    assert_eq!(engine.wharf(&["images", "-aq"]).line(), "");
    let tags = ["all", "first", "second", "amd64", "s390x", "arm64", "riscv64"];
    for tag in tags {
        let digest = descriptor(&engine, tag)["digest"].as_str().expect("a digest").to_owned();
        let path = format!("blobs/{}", digest.replace(':', "/"));
        assert_eq!(engine.run("tar", &["-xOf", &saved, &path]).ok(), bytes("m", tag), "{tag}");
    }
    engine.wharf(&["load", "-q", "-i", &saved]).ok();
    assert_eq!(engine.wharf(&["image", "inspect", "-f", "{{.Id}}", &name]).line(), id);
    assert_eq!(engine.wharf(&["run", "--rm", "--net=none", &name]).line(), own);
    let copy = format!("{host}/copy:all");
    engine.wharf(&["tag", &name, &copy]).ok();
    let pushed = engine.wharf(&["push", &copy]).ok();
    assert!(pushed.contains(&format!("all: digest: {id} size: ")), "{pushed}");
    for tag in tags {
        let digest = descriptor(&engine, tag)["digest"].as_str().expect("a digest").to_owned();
        assert_eq!(bytes("copy", &digest), bytes("m", tag), "{tag}");
    }
    assert_eq!(engine.wharf(&["system", "check"]).ok(), "No problems found\n");
}

#[test]
fn images_for_several_platforms() {
    let engine = Engine::start();
    let files = Scratch::new();
    let namespaces = engine.namespaces();
    let registry = Registry::start_own(namespaces, Registry::HOST, "");
    let host = Registry::HOST;
    let entries = ["amd64", "s390x"].map(|architecture| publish(&engine, &registry, &files, architecture));
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    put_index(&engine, kind, "all", &entries);
    let name = format!("{host}/m:all");
    engine.wharf(&["pull", "-q", &name]).ok();
    engine.wharf(&["pull", "-q", "--platform", "linux/s390x", &name]).ok();
    let architecture = |platform: &str| {
        both(&engine, &["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", &name])
    };
    assert_eq!(architecture("linux/s390x").line(), "s390x");
    assert_eq!(architecture("linux/amd64").line(), "amd64");
    let saved = files.join("saved.tar").display().to_string();
    engine.wharf(&["save", "-o", &saved, &name]).ok();
    let missing = engine.wharf(&["rmi", "--platform", "linux/riscv64", &name]);
    assert!(missing.code == 1 && missing.stderr.contains("linux/riscv64"), "{missing:?}");
    assert!(engine.wharf(&["rmi", "--platform", "linux/s390x", &name]).ok().starts_with("Deleted: sha256:"));
    assert_eq!(architecture("linux/s390x").code, 1);
    assert_eq!(architecture("linux/amd64").line(), "amd64");
    assert_eq!(engine.wharf(&["system", "check"]).ok(), "No problems found\n");
    // The last one goes with the image and its name.
    assert!(
        engine
            .wharf(&["rmi", "--platform", "linux/amd64", &name])
            .ok()
            .contains(&format!("Untagged: {name}"))
    );
    assert_eq!(engine.wharf(&["images", "-q"]).line(), "");
    engine.wharf(&["load", "-q", "--platform", "linux/s390x", "-i", &saved]).ok();
    assert_eq!(architecture("linux/s390x").line(), "s390x");
    assert_eq!(architecture("linux/amd64").code, 1);
    engine.wharf(&["rmi", &name]).ok();
    let missing = engine.wharf(&["load", "-q", "--platform", "linux/riscv64", "-i", &saved]);
    assert!(
        missing.code == 1 && missing.stderr.contains("requested platform (linux/riscv64) not found"),
        "{missing:?}"
    );
    assert_eq!(engine.wharf(&["images", "-q"]).line(), "");
}
