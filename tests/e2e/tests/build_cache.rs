//! The build cache beyond one engine: caches from elsewhere and for elsewhere, and its collection.

use e2e::building::{build, classic, context, in_image, text};
use e2e::command_lines;
use testkit::{Engine, Output, Registry, Scratch};

const FILE: &str = "FROM busybox AS tool
RUN echo tool > /tool && touch /more
FROM busybox
COPY --from=tool /tool /
RUN --mount=type=cache,id=kept,target=/c echo x >> /c/n; wc -l < /c/n > /count; cat /proc/sys/kernel/random/uuid > /when
RUN true
CMD [\"x\"]
";

/// Forgets all that builds left.
fn forget(engine: &Engine) {
    engine.wharf(&["rmi", "-f", "built"]).ok();
    engine.wharf(&["builder", "prune", "-af"]).ok();
    let usage = engine.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(usage.contains("Build Cache 0"), "{usage}");
}

fn cached(output: &Output) -> usize {
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stderr.matches(" CACHED").count()
}

fn id(engine: &Engine) -> String {
    engine.wharf(&["images", "-q", "--no-trunc", "built"]).line()
}

#[test]
fn caches_go_through_a_registry_a_folder_and_the_image() {
    let engine = Engine::with_busybox();
    let registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let context = context(&[("Dockerfile", FILE)]);
    let folder = Scratch::new();
    let layout = text(&folder.join("layout"));
    let name = format!("{}/team/cache:1", Registry::HOST);
    let to_registry = format!("type=registry,ref={name},mode=max,mounts=true");
    let to_folder = format!("type=local,dest={layout},mode=max,mounts=true");
    let first = build(&engine, &context, &["--cache-to", &to_registry, "--cache-to", &to_folder]);
    assert_eq!(cached(&first), 0, "{}", first.stderr);
    let made = id(&engine);
    let when = in_image(&engine, "cat /when");
    // What was given away is no image here.
    assert_eq!(engine.wharf(&["images", "-qa"]).line().lines().count(), 2);
    for source in [name.clone(), format!("type=registry,ref={name}"), format!("type=local,src={layout}")] {
        forget(&engine);
        let again = build(&engine, &context, &["--cache-from", &source]);
        assert_eq!(cached(&again), 4, "{source}: {}", again.stderr);
        assert_eq!(id(&engine), made, "{source}: the same image");
        assert_eq!(in_image(&engine, "cat /when /count"), format!("{when}\n1"));
    }
    // The cache mount came along: the next command finds one line in it.
    forget(&engine);
    let changed = FILE.replace("echo x >>", "echo y >>");
    std::fs::write(context.join("Dockerfile"), changed).unwrap();
    let again = build(&engine, &context, &["--cache-from", &name]);
    assert_eq!(cached(&again), 2, "{}", again.stderr);
    assert_eq!(in_image(&engine, "cat /count"), "2");
    // A cache that is not there is told and missed.
    let none = build(&engine, &context, &["--cache-from", &format!("{}/no/such:1", Registry::HOST)]);
    assert_eq!(none.code, 0);
    drop(registry);
    forget(&engine);
    let gone = build(&engine, &context, &["--cache-from", &name]);
    assert_eq!(cached(&gone), 0);
    assert!(gone.stderr.contains("failed to import cache manifest from"), "{}", gone.stderr);
    let refused = build(&engine, &context, &["--cache-to", &format!("type=registry,ref={name}")]);
    assert_ne!(refused.code, 0, "a cache that cannot be given away fails the build");
}

#[test]
fn an_image_is_its_own_cache() {
    let engine = Engine::with_busybox();
    let _registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let context = context(&[("Dockerfile", FILE)]);
    let name = format!("{}/team/app:1", Registry::HOST);
    let inline: &[&[&str]] = &[&["--cache-to", "type=inline"], &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]];
    for (flags, line) in inline.iter().zip(command_lines().iter().cycle()) {
        build(&engine, &context, &[flags, &["-t", &name][..]].concat()).ok();
        let when = in_image(&engine, "cat /when");
        engine.wharf(&["push", &name]).ok();
        engine.wharf(&["rmi", "-f", &name]).ok();
        forget(&engine);
        // Only what is in the image is in such a cache: the stage of the tool is not.
        let again = match line {
            e2e::CommandLine::Wharf => {
                let output = build(&engine, &context, &["--cache-from", &name]);
                assert_eq!(output.code, 0, "{}", output.stderr);
                output.stderr
            }
            e2e::CommandLine::Docker => classic(&engine, &context, &["--cache-from", &name]).ok(),
        };
        let made = again.matches(" CACHED").count() + again.matches("Using cache").count();
        assert_eq!(made, 3, "{line:?}: {again}");
        assert_eq!(in_image(&engine, "cat /when"), when);
        forget(&engine);
    }
    // One stage alone: all of it is in the image; and it is here already.
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /when\nRUN echo > /x\n",
    )
    .unwrap();
    build(&engine, &context, &["--cache-to", "type=inline", "-t", "kept"]).ok();
    let when = in_image(&engine, "cat /when");
    forget(&engine);
    let again = build(&engine, &context, &["--cache-from", "kept"]);
    assert_eq!(cached(&again), 2, "{}", again.stderr);
    assert_eq!(in_image(&engine, "cat /when"), when);
    // A child says nothing of how its base was made.
    std::fs::write(context.join("Dockerfile"), "FROM kept\nENV A=1\n").unwrap();
    build(&engine, &context, &[]).ok();
    for (name, expect) in [("kept", true), ("built", false)] {
        let archive = text(&context.join("archive"));
        engine.wharf(&["save", "-o", &archive, name]).ok();
        let bytes = std::fs::read(&archive).unwrap();
        assert_eq!(bytes.windows(14).any(|part| part == b"wharf.cache.v1"), expect, "{name}");
        std::fs::remove_file(&archive).unwrap();
    }
}

#[test]
fn annotations_are_the_manifests() {
    let engine = Engine::with_busybox();
    let _registry = Registry::start_own(engine.namespaces(), Registry::HOST, "");
    let context = context(&[("Dockerfile", "FROM busybox\nENV A=1\n")]);
    let name = format!("{}/team/app:2", Registry::HOST);
    let flags = ["-t", &name, "--annotation", "a.b=c", "--annotation", "manifest:d=e=f"];
    build(&engine, &context, &flags).ok();
    engine.wharf(&["push", &name]).ok();
    let manifest = engine.run("curl", &["-s", &format!("http://{}/v2/team/app/manifests/2", Registry::HOST)]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest.stdout).unwrap();
    assert_eq!(manifest["annotations"], serde_json::json!({ "a.b": "c", "d": "e=f" }));
    let refused = build(&engine, &context, &["--annotation", "index:a=b"]);
    assert!(refused.stderr.contains("need an index"), "{}", refused.stderr);
}

/// Builds an image whose one layer has a megabyte of its own, and removes the image.
fn megabyte(engine: &Engine, number: usize) -> bool {
    let file = format!(
        "FROM busybox\nRUN --mount=type=cache,target=/c{number} dd if=/dev/urandom of=/c{number}/x bs=1M count=1; dd if=/dev/urandom of=/x{number} bs=1M count=1\n"
    );
    let output = build(engine, &context(&[("Dockerfile", &file)]), &[]);
    let found = cached(&output) > 0;
    engine.wharf(&["rmi", "-f", "built"]).ok();
    found
}

/// Kinds of what is in the cache, sorted.
fn kinds(engine: &Engine) -> Vec<String> {
    let host = engine.host();
    let socket = host.trim_start_matches("unix://");
    let usage = engine.run("curl", &["-s", "--unix-socket", socket, "http://wharf/system/df"]).ok();
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap_or_default();
    let kind = |entry: &serde_json::Value| Some(entry.get("Type")?.as_str()?.to_owned());
    let mut kinds: Vec<String> = usage
        .get("BuildCache")
        .and_then(|all| all.as_array())
        .into_iter()
        .flatten()
        .filter_map(kind)
        .collect();
    // Contexts of earlier builds come and go with these tests' folders.
    kinds.retain(|kind| kind != "source.local");
    kinds.sort();
    kinds
}

#[test]
fn pruning_has_limits_and_filters() {
    let engine = Engine::with_busybox();
    let prune = |flags: &[&str]| {
        engine.wharf(&[&["builder", "prune", "-f"], flags].concat()).ok();
        kinds(&engine).len()
    };
    assert!(!megabyte(&engine, 1) && !megabyte(&engine, 2) && megabyte(&engine, 1));
    assert_eq!(kinds(&engine).len(), 4);
    for nothing in [
        &["--filter", "until=1h"][..],
        &["--filter", "unused-for=1h"],
        &["--filter", "description=nothing"],
        &["--reserved-space", "100MB"],
        &["--keep-storage", "100MB"],
        &["--max-used-space", "100MB"],
        &["--min-free-space", "1B"],
    ] {
        assert_eq!(prune(nothing), 4, "{nothing:?}");
    }
    // What is wanted to be free is more than there is, but some is reserved.
    assert_eq!(prune(&["--min-free-space", "1000TB", "--reserved-space", "2500KB"]), 2);
    prune(&["--filter", "type=exec.cachemount", "--max-used-space", "1KB"]);
    assert!(kinds(&engine).iter().all(|kind| kind == "regular"));
    assert!(megabyte(&engine, 1), "what was used last stays");
    assert_eq!(prune(&[]), 0);
    let wrong = engine.wharf(&["builder", "prune", "-f", "--filter", "until=never"]);
    assert!(wrong.stderr.contains("invalid until filter: never"), "{}", wrong.stderr);
}

#[test]
fn the_cache_is_collected_by_rules() {
    let files = Scratch::new();
    let config = files.join("daemon.json");
    let policy = r#"{"builder": {"gc": {"policy": [
        {"keepStorage": "2200KB", "filter": ["type==exec.cachemount"]},
        {"keepStorage": "1100KB", "filter": ["type==regular"], "all": true}]}}}"#;
    std::fs::write(&config, policy).unwrap();
    let engine = Engine::start_with(&["--config-file", &text(&config)]);
    engine.load_busybox("busybox:latest");
    assert!(!megabyte(&engine, 1));
    for number in 2..5 {
        megabyte(&engine, number);
    }
    testkit::until("the cache to be collected", std::time::Duration::from_secs(30), || {
        let kinds = kinds(&engine);
        let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
        // The last image may have been there still when its layer was counted.
        (count("exec.cachemount") == 2 && count("regular") <= 2).then_some(())
    });
}
