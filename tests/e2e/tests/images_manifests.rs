//! Indexes put together by hand, images of several platforms, and registries that are not verified: compared with Docker's
//! command line wherever it can do the same.
#![expect(clippy::expect_used, reason = "test code: a failed step ends the test")]

use e2e::{both, command_lines};
use std::path::Path;
use testkit::{Engine, Registry, Scratch, image};

const HOST: &str = Registry::HOST;

/// Pushes the same small image for two architectures, as `m:amd64` and `m:s390x`.
fn push_platforms(engine: &Engine, registry: &Registry, files: &Scratch) {
    for architecture in ["amd64", "s390x"] {
        let archive = files.join(&format!("{architecture}.tar"));
        let own = image::layer(&[image::Entry::File("machine", 0o644, architecture.as_bytes())]);
        let config = serde_json::json!({"Cmd": ["cat", "/machine"]});
        image::write_archive_for(&archive, &["m:1"], &[image::busybox_layer(), own], &config, architecture);
        registry.push(engine.namespaces(), &archive, &format!("m:{architecture}"));
    }
}

/// Every file below `folder`, with its content.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found
                .extend(tree(&entry.path()).into_iter().map(|(rest, text)| (format!("{name}/{rest}"), text)));
        } else {
            found.push((name, std::fs::read_to_string(entry.path()).expect("read a file")));
        }
    }
    found.sort();
    found
}

#[test]
fn manifest_lists() {
    let engine = Engine::start();
    let files = Scratch::new();
    let registry = Registry::start_own(engine.namespaces(), HOST, "");
    push_platforms(&engine, &registry, &files);
    let (amd, s390) = (format!("{HOST}/m:amd64"), format!("{HOST}/m:s390x"));
    let list = format!("{HOST}/all/m:1");
    let kept = engine.folder().join("config/manifests");

    // The registry's own documents, in both forms.
    both(&engine, &["manifest", "inspect", "--insecure", &amd]).ok();
    both(&engine, &["manifest", "inspect", "--insecure", "-v", &amd]).ok();
    assert_eq!(both(&engine, &["manifest", "inspect", "--insecure", &format!("{HOST}/m:none")]).code, 1);
    assert_eq!(both(&engine, &["manifest", "inspect", "--insecure", "UPPER"]).code, 1);

    // Each command line makes the same list, the same files, and the same document at the registry.
    let mut made = Vec::new();
    for line in command_lines() {
        let run = |arguments: &[&str]| line.run(&engine, arguments);
        assert_eq!(
            run(&["manifest", "create", "--insecure", &list, &amd, &s390]).ok(),
            format!("Created manifest list {list}\n")
        );
        let again = run(&["manifest", "create", "--insecure", &list, &amd]);
        assert_eq!(
            (again.code, again.stderr.trim_end()),
            (1, "refusing to amend an existing manifest list with no --amend flag")
        );
        run(&["manifest", "create", "--insecure", "--amend", &list, &amd]).ok();
        let features = ["--os-features", "a,b", "--os-version", "7", "--variant", "v1"];
        run(&[&["manifest", "annotate"], &features[..], &[&list, &s390]].concat()).ok();
        let wrong = run(&["manifest", "annotate", "--arch", "vax", &list, &s390]);
        assert_eq!(
            (wrong.code, wrong.stderr.trim_end()),
            (1, "manifest entry for image has unsupported os/arch combination: /vax")
        );
        let missing = run(&["manifest", "annotate", "--arch", "arm", &list, "nope"]);
        let expected = format!("manifest for image nope does not exist in {list}");
        assert_eq!((missing.code, missing.stderr.trim_end()), (1, expected.as_str()));
        let files = tree(&kept);
        assert_eq!(files.len(), 2, "{files:?}");
        // Whoever made it, both show it.
        both(&engine, &["manifest", "inspect", "--insecure", &list]).ok();
        both(&engine, &["manifest", "inspect", "--insecure", "-v", &list]).ok();
        both(&engine, &["manifest", "inspect", "--insecure", &list, &s390]).ok();
        both(&engine, &["manifest", "inspect", "--insecure", "-v", &list, &s390]).ok();
        assert_eq!(both(&engine, &["manifest", "inspect", "--insecure", &list, "nope"]).code, 1);
        let pushed = run(&["manifest", "push", "--insecure", "--purge", &list]).ok();
        assert_eq!(pushed.lines().count(), 3, "{pushed}");
        assert_eq!(tree(&kept), []);
        let address = format!("http://{HOST}/v2/all/m/manifests/1");
        let document = engine.run("curl", &["-sS", "-f", "-H", "Accept: */*", &address]).ok();
        made.push((files, pushed, document));
    }
    made.dedup();
    assert_eq!(made.len(), 1, "{made:#?}");
    both(&engine, &["manifest", "inspect", "--insecure", &list]).ok();
    both(&engine, &["manifest", "inspect", "--insecure", "-v", &list]).ok();
    let nested = both(&engine, &["manifest", "create", "--insecure", "other", &list]);
    assert_eq!(nested.code, 1);

    // What is not there, and what does not fit.
    assert_eq!(both(&engine, &["manifest", "rm", "nope", &list]).code, 1);
    assert_eq!(both(&engine, &["manifest", "push", "--insecure", "nope"]).code, 1);
    both(&engine, &["manifest", "create", "--insecure", "-a", "elsewhere/m:1", &amd]).ok();
    assert_eq!(both(&engine, &["manifest", "push", "--insecure", "elsewhere/m:1"]).code, 1);
    assert_eq!(both(&engine, &["manifest", "inspect", "--insecure", "elsewhere/m:1"]).code, 1);
    engine.wharf(&["manifest", "rm", "elsewhere/m:1"]).ok();
    assert_eq!(tree(&kept), []);

    // It is an index like any other.
    engine.wharf(&["pull", "-q", &list]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", &list]).stdout, "amd64");
}

#[test]
fn trees_filters_and_platforms() {
    let engine = Engine::start();
    let files = Scratch::new();
    let registry = Registry::start_own(engine.namespaces(), HOST, "");
    push_platforms(&engine, &registry, &files);
    let list = format!("{HOST}/m:all");
    let (amd, s390) = (format!("{HOST}/m:amd64"), format!("{HOST}/m:s390x"));
    engine.wharf(&["manifest", "create", "--insecure", &list, &amd, &s390]).ok();
    engine.wharf(&["manifest", "push", "--insecure", "-p", &list]).ok();
    engine.wharf(&["pull", "-q", &list]).ok();
    both(&engine, &["images", "--tree"]).ok();
    engine.wharf(&["pull", "-q", "--platform", "linux/s390x", &list]).ok();
    engine.wharf(&["tag", &list, "a-much-longer-name.example/of/the/same:image"]).ok();
    engine.wharf(&["create", "--name", "user", &list]).ok();
    let shown = both(&engine, &["images", "--tree"]).ok();
    assert!(shown.contains("├─ linux/amd64") && shown.contains("└─ linux/s390x"), "{shown}");
    for flag in ["-q", "--no-trunc", "--digests", "--format=x"] {
        assert_eq!(both(&engine, &["images", "--tree", flag]).code, 1);
    }
    engine.wharf(&["rm", "user"]).ok();

    // The platform that is asked for, or none.
    for platform in
        ["linux/s390x", "linux/amd64", "linux/riscv64", "linux", "a/b/c/d", "linux//x", "/", "nope"]
    {
        for command in ["history", "inspect"] {
            both(&engine, &["image", command, "--platform", platform, &list]);
        }
    }
    for platform in ["linux/s390x", "linux/amd64"] {
        let mut archives = Vec::new();
        for line in command_lines() {
            let archive = files.join(&format!("{line:?}.tar")).display().to_string();
            line.run(&engine, &["save", "--platform", platform, "-o", &archive, &list]).ok();
            archives.push(std::fs::read(&archive).expect("read an archive"));
        }
        archives.dedup();
        assert_eq!(archives.len(), 1, "{platform}");
    }
    assert_eq!(both(&engine, &["save", "--platform", "linux/riscv64", &list]).code, 1);
    let archive = files.join("Wharf.tar").display().to_string();
    engine.wharf(&["rmi", &list, "a-much-longer-name.example/of/the/same:image"]).ok();
    assert_eq!(both(&engine, &["load", "--platform", "linux/s390x", "-i", &archive]).code, 1);
    both(&engine, &["load", "--platform", "linux/amd64", "-i", &archive]).ok();
    engine.wharf(&["rmi", &list]).ok();

    // Filters of lists and of prune.
    for (name, label) in
        [("one:1", "stage=a"), ("one:2", "stage=b"), ("two:1", "other=c"), ("two:1", "other=d")]
    {
        let context = Scratch::new();
        std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").expect("write");
        engine
            .wharf(&["build", "-q", "-t", name, "--label", label, &context.path().display().to_string()])
            .ok();
    }
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    for filter in [
        "reference=one",
        "reference=one:*",
        "reference=t*",
        "label=stage",
        "label=stage=a",
        "label!=stage=a",
        "dangling=true",
        "dangling=false",
        "dangling=maybe",
        "before=one:2",
        "since=one:1",
        "since=nope",
        "until=1h",
        "nope=1",
    ] {
        both(&engine, &["images", "--filter", filter, "--format", format]);
        both(&engine, &["image", "ls", "-a", "-f", filter, "-f", "label=stage", "--format", format]);
    }
    for filters in
        [&["-f", "until=1h"][..], &["-f", "label!=other"], &["-f", "nope=1"], &["-a", "-f", "label=zz"]]
    {
        both(&engine, &[&["image", "prune", "--force"], filters].concat());
    }
    assert!(engine.wharf(&["image", "prune", "-f"]).ok().contains("deleted: sha256:"));
    assert!(engine.wharf(&["image", "prune", "-af", "--filter", "label=stage=b"]).ok().contains("one:2"));
    assert_eq!(engine.wharf(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().lines().count(), 2);
}

#[test]
fn pushing_all_tags() {
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    let _registry = Registry::start_own(engine.namespaces(), HOST, "");
    engine.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    let name = format!("{HOST}/many");
    assert_eq!(both(&engine, &["push", "-a", &name]).code, 1);
    for tag in ["1", "2", "three"] {
        engine.wharf(&["tag", "box", &format!("{name}:{tag}")]).ok();
    }
    assert_eq!(both(&engine, &["push", "-a", &format!("{name}:1")]).code, 1);
    engine.wharf(&["push", "-a", &name]).ok();
    // All of it is there by now: each says the same.
    both(&engine, &["push", "-a", &name]).ok();
    both(&engine, &["push", "-a", "-q", &name]).ok();
    both(&engine, &["push", &format!("{name}:nope")]);
    let tags = engine.run("curl", &["-sS", &format!("http://{HOST}/v2/many/tags/list")]).ok();
    assert!(tags.contains(r#"["1","2","three"]"#), "{tags}");
}

/// A registry whose certificate nobody knows, not on loopback.
#[test]
fn unverified_registries() {
    const AWAY: &str = "10.99.0.2:5000";
    let engine = Engine::start();
    let files = Scratch::new();
    let archive = files.join("box.tar");
    image::write_busybox(&archive, "box:latest");
    let tls = Registry::certificate(&files, "DNS:nobody");
    let further = tls + &Registry::passwords(&files);
    let _registry = Registry::start_own(engine.namespaces(), AWAY, &further);
    engine.wharf(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    let name = format!("{AWAY}/box:1");
    engine.wharf(&["tag", "box", &name]).ok();
    let refused = |arguments: &[&str]| {
        let output = engine.wharf(arguments);
        assert!(
            output.code == 1 && output.stderr.contains("certificate"),
            "{arguments:?}: {}",
            output.stderr
        );
    };
    refused(&["login", "-u", "alice", "-p", "secret", AWAY]);
    engine.wharf(&["login", "--tls-verify=false", "-u", "alice", "-p", "secret", AWAY]).ok();
    refused(&["push", &name]);
    engine.wharf(&["push", "--tls-verify=false", &name]).ok();
    engine.wharf(&["rmi", &name]).ok();
    refused(&["pull", &name]);
    refused(&["manifest", "inspect", &name]);
    engine.wharf(&["manifest", "inspect", "--insecure", &name]).ok();
    assert_eq!(engine.wharf(&["pull", "-q", "--tls-verify=false", &name]).line(), name);
    // It was for that one time.
    engine.wharf(&["rmi", &name]).ok();
    refused(&["pull", &name]);
}
