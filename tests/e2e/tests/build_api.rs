//! The parameters of `POST /build`, `/build/prune` and `/build/cancel`, as SDKs send them: what each one means, by version of the API.
//! Those that limit commands are in `build_flags.rs`, through Docker's command line, which sends the same.

use e2e::building::{in_image, text};
use testkit::web::Reply;
use testkit::{Engine, Scratch, Web};

const FILE: &str =
    "FROM busybox AS first\nRUN echo first > /made\nFROM busybox\nARG A\nRUN echo last $A > /made\n";

struct Api {
    engine: Engine,
    /// The archive of a context.
    archive: String,
    _scratch: Scratch,
}

impl Api {
    fn new() -> Self {
        let engine = Engine::with_busybox();
        let scratch = e2e::building::context(&[
            ("Dockerfile", FILE),
            ("other/File", "FROM busybox\nRUN echo other > /made\n"),
            ("fails", "FROM busybox\nRUN exit 3\n"),
            (
                "hosts",
                "FROM busybox\nRUN grep far /etc/hosts | cut -f1 > /made; ls /sys/class/net | tr '\\n' ' ' >> /made\n",
            ),
            ("foreign", "FROM scratch\nCOPY Dockerfile /f\n"),
        ]);
        let archive = text(&scratch.join("context.tar"));
        let folder = text(scratch.path());
        engine
            .run("tar", &["-cf", &archive, "-C", &folder, "Dockerfile", "other", "fails", "hosts", "foreign"])
            .ok();
        Self { engine, archive, _scratch: scratch }
    }

    /// Sends a request; returns the status and the answer.
    fn post(&self, version: &str, path: &str, query: &[&str]) -> (u16, String) {
        let socket = self.engine.host().trim_start_matches("unix://").to_owned();
        let body = format!("@{}", self.archive);
        let url = format!("http://d/v{version}{path}");
        let mut words = vec![
            "-s",
            "-w",
            "\n%{http_code}",
            "--unix-socket",
            &socket,
            "-H",
            "Content-Type: application/x-tar",
            "-X",
            "POST",
        ];
        if path == "/build" {
            words.extend(["--data-binary", &body]);
        }
        let mut address = url.clone();
        for (index, field) in query.iter().enumerate() {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            address.push_str(&format!("{}{name}={value}", if index == 0 { '?' } else { '&' }));
        }
        words.push(&address);
        let output = self.engine.run("curl", &words).ok();
        let (answer, status) = output.rsplit_once('\n').unwrap_or(("", ""));
        (status.parse().unwrap_or(0), answer.to_owned())
    }

    /// Builds `built`; returns the stream.
    fn build(&self, version: &str, query: &[&str]) -> String {
        let (status, answer) = self.post(version, "/build", &[&["t=built"][..], query].concat());
        assert_eq!(status, 200, "{query:?}: {answer}");
        answer
    }

    fn made(&self) -> String {
        in_image(&self.engine, "cat /made")
    }
}

#[test]
fn parameters_of_builds() {
    let api = Api::new();
    for (query, expect) in [
        (&[][..], "last"),
        (&["target=first"], "first"),
        (&["dockerfile=other/File"], "other"),
        (&["buildargs={\"A\":\"x\"}"], "last x"),
        (&["dockerfile=hosts", "extrahosts=far:10.0.0.9", "networkmode=none"], "10.0.0.9\nlo"),
        // What is always so; what has been taken since 1.40 alone is not read before.
        (&["rm=0", "forcerm=1", "version=1", "isolation=default"], "last"),
    ] {
        let answer = api.build("1.43", query);
        assert!(answer.contains("\"aux\":{\"ID\":\"sha256:"), "{query:?}: {answer}");
        assert_eq!(api.made(), expect, "{query:?}");
    }
    assert_eq!(api.engine.wharf(&["ps", "-aq"]).line(), "", "no step's container stays");
    // `q`: the identifier alone.
    let quiet = api.build("1.43", &["q=1"]);
    assert!(quiet.starts_with("{\"stream\":\"sha256:") && quiet.lines().count() == 1, "{quiet}");
    assert!(api.build("1.43", &[]).contains("Using cache"));
    assert!(!api.build("1.43", &["nocache=1"]).contains("Using cache"));
    api.build("1.43", &["labels={\"k\":\"v\"}", "t=further:2"]);
    let labels = api.engine.wharf(&["image", "inspect", "-f", "{{json .Config.Labels}}", "further:2"]).line();
    assert_eq!(labels, r#"{"k":"v"}"#);
    api.build("1.43", &["squash=1"]);
    let layers = api.engine.wharf(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "built"]).line();
    assert_eq!(layers, "2");
    api.build("1.43", &["dockerfile=foreign", "platform=linux/arm64"]);
    let machine = api.engine.wharf(&["image", "inspect", "-f", "{{.Architecture}}", "built"]).line();
    assert_eq!(machine, "arm64");
    // Platforms came with 1.32, outputs with 1.40.
    api.build("1.31", &["dockerfile=foreign", "platform=linux/arm64"]);
    let machine = api.engine.wharf(&["image", "inspect", "-f", "{{.Architecture}}", "built"]).line();
    assert_ne!(machine, "arm64");
    api.build("1.39", &["outputs=[{\"type\":\"tar\"}]"]);
    for (version, query, status, expect) in [
        ("1.43", "outputs=[{\"type\":\"tar\"}]", 400, "outputs need"),
        ("1.43", "version=2", 501, "BuildKit's protocol"),
        (
            "1.43",
            "t=a@sha256:e3d9b422a97908332eec6511ec0915f786b6a11b80e55a247a166f2bbce136ba",
            400,
            "cannot contain a digest",
        ),
        ("1.43", "isolation=hyperv", 400, "unsupported isolation"),
        ("1.43", "buildargs={", 400, "error reading build arg"),
        ("1.43", "memory=x", 400, "x"),
        ("1.43", "platform=a b", 400, "platform"),
        ("1.43", "dockerfile=none", 0, "Cannot locate specified Dockerfile"),
        ("1.43", "target=none", 0, "target stage"),
        // The command's code goes beside its text.
        ("1.43", "dockerfile=fails", 0, "\"errorDetail\":{\"code\":3,"),
        // There is no registry.
        ("1.43", "pull=1", 0, "busybox"),
    ] {
        let (got, answer) = api.post(version, "/build", &["t=no", query]);
        // What goes wrong later is told with whatever status the stream began with.
        assert!((status == 0 || got == status) && answer.contains(expect), "{query}: {got} {answer}");
    }
}

#[test]
fn contexts_from_elsewhere() {
    let api = Api::new();
    let archive = std::fs::read(&api.archive).unwrap_or_default();
    let _web = Web::start(api.engine.namespaces(), move |request| match request.path.as_str() {
        "/context.tar" => Reply::ok("application/x-tar", archive.clone()),
        "/Dockerfile" => Reply::ok("text/plain", "FROM busybox\nRUN echo alone > /made\n"),
        _ => Reply::status(404),
    });
    for (query, expect) in [
        (&["remote=http://WEB/context.tar"][..], "last"),
        (&["remote=http://WEB/context.tar", "dockerfile=other/File"], "other"),
        (&["remote=http://WEB/Dockerfile"], "alone"),
    ] {
        let query: Vec<String> = query.iter().map(|field| field.replace("WEB", Web::HOST)).collect();
        api.build("1.43", &query.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(api.made(), expect, "{query:?}");
    }
}

#[test]
fn parameters_of_pruning() {
    let api = Api::new();
    let count = || {
        let usage = api.engine.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
        let line =
            usage.lines().find_map(|line| line.strip_prefix("Build Cache ")).unwrap_or_default().to_owned();
        line.parse::<usize>().unwrap_or(usize::MAX)
    };
    let fill = || {
        api.build("1.43", &["nocache=1"]);
        api.engine.wharf(&["rmi", "built"]).ok();
    };
    for (version, query, stays) in [
        // What is in no image goes, and with `all` everything.
        ("1.43", &["all=1"][..], false),
        ("1.43", &["all=1", "filters={\"until\":{\"1h\":true}}"], true),
        ("1.43", &["all=1", "filters={\"unused-for\":{\"1h\":true}}"], true),
        ("1.43", &["all=1", "filters={\"type\":{\"exec.cachemount\":true}}"], true),
        ("1.43", &["all=1", "keep-storage=1000000000"], true),
        ("1.47", &["all=1", "reserved-space=1000000000"], false),
        ("1.48", &["all=1", "reserved-space=1000000000"], true),
        ("1.48", &["all=1", "keep-storage=1000000000"], true),
        ("1.48", &["all=1", "max-used-space=1"], false),
        ("1.48", &["all=1", "min-free-space=1"], true),
    ] {
        fill();
        let before = count();
        assert!(before > 0 && before < usize::MAX);
        let (status, answer) = api.post(version, "/build/prune", query);
        assert_eq!(status, 200, "{query:?}: {answer}");
        assert!(answer.contains("\"SpaceReclaimed\":"), "{answer}");
        assert_eq!(count(), if stays { before } else { 0 }, "{version} {query:?}: {answer}");
    }
    for query in ["filters={\"until\":{\"never\":true}}", "filters={\"what\":{\"x\":true}}", "keep-storage=x"]
    {
        let (status, answer) = api.post("1.47", "/build/prune", &[query]);
        assert_eq!(status, 400, "{query}: {answer}");
    }
    assert_eq!(api.post("1.43", "/build/cancel", &[]).0, 400);
    assert_eq!(api.post("1.43", "/build/cancel", &["id=nobody"]).0, 200);
}
