//! Our registry and our archives, used by the clients that others wrote: podman, containerd, crane, regctl, skopeo, umoci;
//! and the conformance suite of distribution-spec. Each is left out, and said to be, where it is not installed.
//!
//! `WHARF_PEERS` names a folder of programs beside those of the search path; `cargo xtask test` fills it.
#![expect(clippy::expect_used, reason = "test code: a failed step ends the test")]

use e2e::bundle::skipped;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::{Engine, Namespaces, Registry, Scratch, image, until};

const HOST: &str = Registry::HOST;

/// Finds a program; says that the test is skipped if there is none.
fn program(name: &str) -> Option<String> {
    let mut folders: Vec<PathBuf> = std::env::var_os("WHARF_PEERS").map(PathBuf::from).into_iter().collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found.map(|path| path.display().to_string())
}

/// Runs a program inside the namespaces and returns its output; it has to succeed.
fn ok(namespaces: &Namespaces, program: &str, arguments: &[&str]) -> String {
    let output = namespaces.command(program).args(arguments).output().expect("run a program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn archive(files: &Scratch) -> PathBuf {
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    archive
}

/// The digest that the registry says of a manifest.
fn digest(namespaces: &Namespaces, name: &str, tag: &str) -> String {
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json";
    let head =
        ok(namespaces, "curl", &["-sI", "-H", accept, &format!("http://{HOST}/v2/{name}/manifests/{tag}")]);
    let line = head.lines().find_map(|line| line.strip_prefix("docker-content-digest: "));
    line.expect("a digest").trim().to_owned()
}

#[test]
fn podman() {
    let Some(podman) = program("podman") else { return };
    let engine = Engine::start();
    let namespaces = engine.namespaces();
    let _registry = Registry::start_own(namespaces, HOST, "");
    let files = Scratch::new();
    let archive = archive(&files).display().to_string();
    let (root, run) = (files.join("root").display().to_string(), files.join("run").display().to_string());
    let global =
        ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let podman = |arguments: &[&str]| ok(namespaces, &podman, &[&global[..], arguments].concat());
    let name = format!("{HOST}/from/podman:1");
    podman(&["load", "-q", "-i", &archive]);
    podman(&["tag", "box:latest", &name]);
    podman(&["push", "-q", "--tls-verify=false", &name]);
    let pushed = digest(namespaces, "from/podman", "1");
    assert!(engine.wharf(&["pull", &name]).ok().contains(&pushed));
    assert_eq!(engine.wharf(&["run", "--rm", &name, "echo", "ran"]).stdout, "ran\n");
    let ours = format!("{HOST}/from/wharf:1");
    engine.wharf(&["tag", &name, &ours]).ok();
    engine.wharf(&["push", "-q", &ours]).ok();
    podman(&["rmi", "-f", &name, "box:latest"]);
    podman(&["pull", "-q", "--tls-verify=false", &ours]);
    assert_eq!(podman(&["image", "inspect", "-f", "{{.Digest}}", &ours]), pushed);
    // Archives, in both directions and all forms.
    let path = |name: &str| files.join(name).display().to_string();
    engine.wharf(&["save", "-o", &path("ours.tar"), &ours]).ok();
    podman(&["rmi", "-f", &ours]);
    assert!(podman(&["load", "-q", "-i", &path("ours.tar")]).contains("from/wharf:1"));
    for form in ["docker-archive", "oci-archive"] {
        podman(&["save", "-q", "--format", form, "-o", &path(form), &ours]);
        engine.wharf(&["rmi", "-f", &ours, &name]);
        let loaded = engine.wharf(&["load", "-q", "-i", &path(form)]).line();
        assert_eq!(loaded, format!("Loaded image: {ours}"), "{form}");
        assert_eq!(engine.wharf(&["run", "--rm", &ours, "echo", "ran"]).stdout, "ran\n", "{form}");
    }
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

#[test]
fn containerd() {
    let (Some(containerd), Some(ctr)) = (program("containerd"), program("ctr")) else { return };
    let namespaces = Namespaces::new();
    let registry = Registry::start_own(&namespaces, HOST, "");
    let files = Scratch::new();
    registry.push(&namespaces, &archive(&files), "some/box:1");
    let mut command = namespaces.command(&containerd);
    command.arg("-c").arg(testkit::containerd_config(&files, "root")).stdout(Stdio::null());
    let log = std::fs::File::create(files.join("log")).expect("make a log");
    let _running = Running(command.stderr(log).spawn().expect("start containerd"));
    let socket = files.join("sock").display().to_string();
    until("containerd to answer", Duration::from_secs(60), || {
        let mut command = namespaces.command(&ctr);
        let output = command.args(["-a", &socket, "version"]).output().expect("run ctr");
        output.status.success().then_some(())
    });
    let ctr = |arguments: &[&str]| ok(&namespaces, &ctr, &[&["-a", &socket], arguments].concat());
    let (name, copy) = (format!("{HOST}/some/box:1"), format!("{HOST}/from/containerd:1"));
    ctr(&["images", "pull", "--plain-http", "--snapshotter", "native", &name]);
    ctr(&["images", "tag", &name, &copy]);
    ctr(&["images", "push", "--plain-http", &copy]);
    assert_eq!(digest(&namespaces, "from/containerd", "1"), digest(&namespaces, "some/box", "1"));
}

#[test]
fn crane_and_regctl() {
    let namespaces = Namespaces::new();
    let registry = Registry::start_own(&namespaces, HOST, "");
    let files = Scratch::new();
    registry.push(&namespaces, &archive(&files), "some/box:1");
    let wanted = digest(&namespaces, "some/box", "1");
    let name = format!("{HOST}/some/box:1");
    let path = |name: &str| files.join(name).display().to_string();
    if let Some(crane) = program("crane") {
        let crane = |arguments: &[&str]| ok(&namespaces, &crane, &[&["--insecure"], arguments].concat());
        assert_eq!(crane(&["digest", &name]), wanted);
        crane(&["validate", "--remote", &name]);
        crane(&["copy", &name, &format!("{HOST}/by/crane:1")]);
        crane(&["pull", "--format", "oci", &name, &path("layout")]);
        crane(&["push", &path("layout"), &format!("{HOST}/by/crane:2")]);
        assert_eq!(crane(&["ls", &format!("{HOST}/by/crane")]), "1\n2");
        assert_eq!(crane(&["digest", &format!("{HOST}/by/crane:1")]), wanted);
        assert!(crane(&["catalog", HOST]).contains("by/crane"));
        crane(&["delete", &format!("{HOST}/by/crane@{wanted}")]);
    }
    if let Some(regctl) = program("regctl") {
        let host = format!("reg={HOST},tls=disabled");
        let regctl = |arguments: &[&str]| ok(&namespaces, &regctl, &[&["--host", &host], arguments].concat());
        let copy = format!("{HOST}/by/regctl:1");
        regctl(&["image", "copy", &name, &copy]);
        assert_eq!(regctl(&["image", "digest", &copy]), wanted);
        std::fs::write(files.join("note"), "a note").expect("write a file");
        let artifact =
            ["artifact", "put", "--subject", &copy, "--artifact-type", "text/note", "-f", &path("note")];
        regctl(&artifact);
        assert!(regctl(&["artifact", "list", &copy]).contains("text/note"));
        assert_eq!(
            regctl(&["artifact", "get", "--subject", &copy, "--filter-artifact-type", "text/note"]),
            "a note"
        );
        regctl(&["index", "create", &format!("{HOST}/by/regctl:all"), "--ref", &copy]);
        assert!(regctl(&["tag", "ls", &format!("{HOST}/by/regctl")]).contains("all"));
        regctl(&["tag", "delete", &format!("{HOST}/by/regctl:all")]);
        assert!(!regctl(&["tag", "ls", &format!("{HOST}/by/regctl")]).contains("all"));
    }
}

/// What `save` writes is a layout as well: others read it, unpack it, change it, and it comes back.
#[test]
fn layouts() {
    let engine = Engine::start();
    let namespaces = engine.namespaces();
    let files = Scratch::new();
    let path = |name: &str| files.join(name).display().to_string();
    engine.wharf(&["load", "-q", "-i", &archive(&files).display().to_string()]).ok();
    engine.wharf(&["save", "-o", &path("saved.tar"), "box:latest"]).ok();
    std::fs::create_dir(files.join("layout")).expect("make a folder");
    ok(namespaces, "tar", &["-xf", &path("saved.tar"), "-C", &path("layout")]);
    let id = engine.wharf(&["image", "inspect", "-f", "{{.Id}}", "box"]).line();
    if let Some(skopeo) = program("skopeo") {
        ok(
            namespaces,
            &skopeo,
            &["copy", "-q", &format!("oci:{}:latest", path("layout")), &format!("dir:{}", path("dir"))],
        );
        let manifest = std::fs::read(files.join("dir/manifest.json")).expect("a manifest");
        let sum = ok(namespaces, "sha256sum", &[&path("dir/manifest.json")]);
        assert!(
            id.ends_with(sum.split(' ').next().unwrap_or_default()) && !manifest.is_empty(),
            "{id} {sum}"
        );
        let docker = format!("docker-archive:{}", path("saved.tar"));
        ok(namespaces, &skopeo, &["inspect", &docker]);
    }
    if let Some(umoci) = program("umoci") {
        let layout = format!("{}:latest", path("layout"));
        assert_eq!(ok(namespaces, &umoci, &["ls", "--layout", &path("layout")]), "latest");
        ok(namespaces, &umoci, &["unpack", "--image", &layout, &path("bundle")]);
        assert!(Path::new(&path("bundle/rootfs/bin/busybox")).is_file());
        std::fs::write(files.join("bundle/rootfs/added"), "by umoci\n").expect("write a file");
        ok(
            namespaces,
            &umoci,
            &["repack", "--image", &format!("{}:changed", path("layout")), &path("bundle")],
        );
        ok(namespaces, "tar", &["-cf", &path("changed.tar"), "-C", &path("layout"), "."]);
        engine.wharf(&["rmi", "-f", "box"]).ok();
        let loaded = engine.wharf(&["load", "-q", "-i", &path("changed.tar")]).ok();
        let image =
            loaded.lines().last().and_then(|line| line.split(": ").nth(1)).expect("an image").to_owned();
        let images = engine.wharf(&["images", "-q"]).ok();
        let found = images
            .lines()
            .any(|id| engine.wharf(&["run", "--rm", id, "cat", "/added"]).stdout == "by umoci\n");
        assert!(found, "{image} {images}");
    }
}

#[test]
fn conformance() {
    let Some(suite) = program("conformance") else { return };
    let namespaces = Namespaces::new();
    let _registry = Registry::start_own(&namespaces, HOST, "");
    let files = Scratch::new();
    let mut command = namespaces.command(&suite);
    let folder = files.path().display().to_string();
    command.current_dir(files.path()).env_remove("OCI_CONFIGURATION");
    let settings = [
        ("OCI_REGISTRY", HOST),
        ("OCI_TLS", "disabled"),
        ("OCI_REPO1", "conf/one"),
        ("OCI_REPO2", "conf/two"),
        ("OCI_RESULTS_DIR", folder.as_str()),
        ("OCI_VERSION", "dev"),
        ("OCI_API_BLOBS_UPLOAD_CANCEL", "true"),
        ("OCI_API_BLOBS_DIGEST_HEADER", "true"),
        ("OCI_API_MANIFESTS_DIGEST_HEADER", "true"),
        ("OCI_API_MANIFESTS_TAG_PARAM", "true"),
    ];
    let output = command.envs(settings).output().expect("run the suite");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tail: Vec<&str> = said.lines().rev().take(60).collect();
    assert!(output.status.success(), "{tail:#?}");
    let results = std::fs::read_to_string(files.join("junit.xml")).expect("the results");
    let head = results.lines().find(|line| line.contains("<testsuite ")).unwrap_or_default();
    assert!(head.contains("failures=\"0\"") && !head.contains("tests=\"0\""), "{head}");
}
