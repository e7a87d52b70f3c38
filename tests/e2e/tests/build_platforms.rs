//! Builds for other platforms, and for several at once: an index with an image for each.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed set-up ends the test")]

use e2e::building::{build, context, in_image, text};
use serde_json::Value;
use std::path::Path;
use testkit::{Engine, Registry, Scratch};

/// Loads `foreign:1`, an image of a machine that this is not and that nobody emulates here.
fn foreign(engine: &Engine) {
    let archive = engine.folder().join("foreign.tar");
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    // ET_EXEC, EM_S390.
    program[5] = 2;
    program[16..20].copy_from_slice(&[0, 2, 0, 22]);
    let layer = testkit::image::layer(&[testkit::image::Entry::File("bin/sh", 0o755, &program)]);
    let config = serde_json::json!({});
    testkit::image::write_archive_for(&archive, &["foreign:1"], &[layer], &config, "s390x");
    engine.wharf(&["load", "-q", "-i", &text(&archive)]).ok();
}

/// A command on this machine makes what images of all machines get.
const FILE: &str = "FROM --platform=$BUILDPLATFORM busybox AS make\nRUN echo made > /shared\nARG BUILDPLATFORM TARGETPLATFORM\nRUN echo \"$BUILDPLATFORM for $TARGETPLATFORM\" > /for\nFROM scratch\nARG TARGETARCH TARGETVARIANT\nENV arch=$TARGETARCH$TARGETVARIANT\nCOPY f /f\nCOPY --from=make /shared /for /made/\n";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The part of a platform after `linux/`.
fn machine(platform: &str) -> &str {
    platform.strip_prefix("linux/").unwrap()
}

fn host() -> String {
    format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" })
}

/// Checks that a layout has an index with everything in it.
fn check_layout(folder: &Path, id: &str, platforms: &str) {
    let blob = |digest: &str| json(&folder.join("blobs").join(digest.replace(':', "/")));
    let index = blob(id);
    assert_eq!(index["annotations"]["who"], "me");
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 3);
    for (entry, platform) in manifests.iter().zip(platforms.split(',')) {
        let named = &entry["platform"];
        let variant = named["variant"].as_str().map_or(String::new(), |variant| format!("/{variant}"));
        assert_eq!(
            format!("{}/{}{variant}", named["os"].as_str().unwrap(), named["architecture"].as_str().unwrap()),
            platform
        );
        assert_eq!(entry["annotations"]["each"], "one");
        let manifest = blob(entry["digest"].as_str().unwrap());
        assert_eq!(manifest["annotations"]["only"].is_string(), platform == "linux/s390x");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn several_platforms_make_an_index() {
    let engine = Engine::with_busybox();
    let files = context(&[("Dockerfile", FILE), ("f", "f")]);
    let out = Scratch::new();
    let platforms = format!("{},linux/s390x,linux/arm/v6", host());
    let place = |name: &str| text(&out.join(name));
    let output = build(
        &engine,
        &files,
        &[
            "--platform",
            &platforms,
            "--annotation",
            "index:who=me",
            "--annotation",
            "manifest[linux/s390x]:only=there",
            "--annotation",
            "manifest-descriptor:each=one",
            "-o",
            &format!("type=oci,dest={}", place("oci.tar")),
            "-o",
            &format!("type=local,dest={}", place("files")),
            "-o",
            &format!("type=tar,dest={}", place("files.tar")),
            "--iidfile",
            &place("id"),
        ],
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("[linux/s390x make] RUN echo made"), "{}", output.stderr);
    // What does not depend on the platform was made once.
    assert_eq!(output.stderr.matches("CACHED").count(), 4, "{}", output.stderr);
    let id = std::fs::read_to_string(out.join("id")).unwrap();
    assert_eq!(engine.wharf(&["images", "-q", "--no-trunc", "built"]).line(), id);
    for platform in platforms.split(',') {
        let shown = engine
            .wharf(&[
                "image",
                "inspect",
                "--platform",
                platform,
                "-f",
                "{{.Architecture}}/{{.Variant}} {{.Config.Env}}",
                "built",
            ])
            .line();
        let (arch, variant) = machine(platform).split_once('/').unwrap_or((machine(platform), ""));
        assert!(
            shown.starts_with(&format!("{arch}/{variant} ["))
                && shown.contains(&format!("arch={arch}{variant}")),
            "{shown}"
        );
        let folder = out.join("files").join(platform.replace('/', "_"));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read("made/shared"), read("f")), ("made\n".to_owned(), "f".to_owned()));
        assert_eq!(read("made/for"), format!("{} for {platform}\n", host()));
    }
    let listed = engine.run("tar", &["-tf", &place("files.tar")]).ok();
    assert!(listed.contains("linux_arm_v6/made/for\n") && listed.contains("linux_s390x/f\n"), "{listed}");
    std::fs::create_dir(out.join("oci")).unwrap();
    engine.run("tar", &["-xf", &place("oci.tar"), "-C", &place("oci")]).ok();
    check_layout(&out.join("oci"), &id, &platforms);
    // And is the same when it is built again.
    assert_eq!(
        build(
            &engine,
            &files,
            &[
                "-q",
                "--platform",
                &platforms,
                "--annotation",
                "index:who=me",
                "--annotation",
                "manifest[linux/s390x]:only=there",
                "--annotation",
                "manifest-descriptor:each=one"
            ]
        )
        .line(),
        id
    );
}

#[test]
fn an_index_goes_to_a_registry_and_comes_back() {
    let engine = Engine::with_busybox();
    let _registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let files = context(&[("Dockerfile", FILE), ("f", "f")]);
    let name = format!("{}/team/app:1", Registry::HOST);
    let cache = format!("{}/team/cache:1", Registry::HOST);
    let platforms = format!("{},linux/s390x", host());
    let flags = [
        "--platform",
        &platforms,
        "-t",
        &name,
        "-o",
        "type=registry",
        "--cache-to",
        &format!("type=registry,ref={cache},mode=max"),
    ];
    let built = |flags: &[&str]| {
        let folder = text(files.path());
        engine.wharf(&[&["build", "--progress", "plain"], flags, &[folder.as_str()]].concat())
    };
    let first = built(&flags);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let kind = "application/vnd.oci.image.index.v1+json";
    let url = format!("http://{}/v2/team/app/manifests/1", Registry::HOST);
    let index = engine.run("curl", &["-s", "-H", &format!("accept: {kind}"), &url]).ok();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!((&index["mediaType"], index["manifests"].as_array().unwrap().len()), (&kind.into(), 2));
    // Another engine would do this: the image, and the cache of all platforms.
    engine.wharf(&["rmi", "-f", &name]).ok();
    engine.wharf(&["builder", "prune", "-af"]).ok();
    engine.wharf(&["pull", "-q", "--platform", "linux/s390x", &name]).ok();
    let env = engine
        .wharf(&["image", "inspect", "--platform", "linux/s390x", "-f", "{{.Config.Env}}", &name])
        .line();
    assert!(env.contains("arch=s390x"), "{env}");
    let again = built(&["--platform", &platforms, "--cache-from", &cache]);
    assert_eq!(again.stderr.matches("CACHED").count(), 8, "{}", again.stderr);
}

#[test]
fn one_platform_makes_an_index_if_asked() {
    let engine = Engine::with_busybox();
    let files = context(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    build(&engine, &files, &["--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "--annotation", "index:a=b"]).ok();
    let kind = engine.wharf(&["image", "inspect", "-f", "{{.Descriptor.mediaType}}", "built"]).line();
    assert_eq!(kind, "application/vnd.oci.image.index.v1+json");
    assert_eq!(in_image(&engine, "cat /x"), "x");
    for (flags, expect) in [
        (&["--annotation", "index:a=b"][..], "annotations of type \"index\" need an index"),
        (&["--platform", "linux/a b"], "is an invalid platform"),
        (
            &["--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=x"],
            "has no place for several platforms",
        ),
    ] {
        let output = build(&engine, &files, flags);
        assert!(output.code != 0 && output.stderr.contains(expect), "{}", output.stderr);
    }
}

#[test]
fn a_platform_that_fails_is_named_and_ends_the_others() {
    let engine = Engine::with_busybox();
    foreign(&engine);
    let file = format!(
        "FROM {}busybox AS linux-{}\nRUN sleep 1236\nFROM foreign:1 AS linux-s390x\nRUN true\nFROM linux-$TARGETARCH\n",
        "",
        machine(&host())
    );
    let files = context(&[("Dockerfile", &file)]);
    let output = build(&engine, &files, &["--platform", &format!("{},linux/s390x", host())]);
    let expect = "commands of linux/s390x need an emulator on this host, registered in binfmt_misc";
    assert!(output.code != 0 && output.stderr.contains(expect), "{}", output.stderr);
    assert!(output.stderr.contains("4 | RUN true"), "{}", output.stderr);
    assert_eq!(engine.wharf(&["images", "-q", "built"]).line(), "");
    // An image that has no such platform.
    let files = context(&[("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n")]);
    let output = build(&engine, &files, &["--platform", &format!("{},linux/s390x", host())]);
    assert!(output.code != 0, "{}", output.stderr);
}

#[test]
fn another_platform_needs_an_emulator_for_its_commands_alone() {
    let engine = Engine::start();
    foreign(&engine);
    let file = "FROM foreign:1\nARG TARGETARCH\nENV arch=$TARGETARCH\nCOPY f /f\nWORKDIR /made\n";
    let files = context(&[("Dockerfile", file), ("f", "f")]);
    build(&engine, &files, &["--platform", "linux/s390x"]).ok();
    let made = engine.wharf(&["image", "inspect", "-f", "{{.Architecture}} {{.Config.Env}}", "built"]).line();
    assert!(made.starts_with("s390x [") && made.contains("arch=s390x"), "{made}");
    std::fs::write(files.join("Dockerfile"), format!("{file}RUN true\n")).unwrap();
    let output = build(&engine, &files, &["--platform", "linux/s390x"]);
    let expect = "commands of linux/s390x need an emulator on this host, registered in binfmt_misc";
    assert!(output.code != 0 && output.stderr.contains(expect), "{}", output.stderr);
    assert!(output.stderr.contains("6 | RUN true"), "{}", output.stderr);
}
