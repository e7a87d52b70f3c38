//! `build`: what instructions make, the cache; with our own command line and Docker's (the classic protocol).

use e2e::building::{build, classic, context, in_image, text};
use e2e::command_lines;
use testkit::{Engine, Scratch};

const MANY: &str = r#"# syntax=docker/dockerfile:1
ARG TAG=latest
FROM busybox:$TAG AS base
ARG WHO=nobody
ENV A=1 B="two words" C=$A
WORKDIR /srv/app
COPY --chown=1000:10 --chmod=u=rwX,go= src ./src/
COPY <<one <<"two" /docs/
$WHO
one
$WHO
two
RUN <<EOF
set -e
echo "$WHO $B $C" > /who
cat <<inner >> /who
tail
inner
EOF
FROM base AS maker
RUN --mount=type=cache,target=/cache echo x >> /cache/n && wc -l < /cache/n > /count
RUN --mount=type=bind,source=src,target=/mnt/src,rw cat /mnt/src/a > /read && echo gone > /mnt/src/new
RUN --mount=type=tmpfs,target=/scratch/pad touch /scratch/pad/x
RUN --mount=type=secret,id=key,target=/run/key test "$(cat /run/key 2>/dev/null)" = "" || touch /had-secret
FROM base
COPY --link --from=maker /count /read /made/
COPY --parents --from=base /srv/./app/src/sub /kept/
USER alice
EXPOSE 80 53/udp
LABEL what=test
CMD ["cat", "/who"]
"#;

#[test]
fn many_constructs_in_one() {
    let engine = Engine::with_busybox();
    let context =
        context(&[("Dockerfile", MANY), ("src/a", "alpha\n"), ("src/sub/b", "beta\n"), ("src/x.o", "")]);
    std::fs::write(context.join(".dockerignore"), "**/*.o\n").unwrap();
    for line in command_lines() {
        let output = match line {
            e2e::CommandLine::Wharf => build(&engine, &context, &["--build-arg", "WHO=me"]),
            e2e::CommandLine::Docker => classic(&engine, &context, &["--build-arg", "WHO=me"]),
        };
        assert_eq!(output.code, 0, "{line:?}: {}{}", output.stdout, output.stderr);
        assert_eq!(engine.wharf(&["run", "--rm", "built"]).line(), "me two words \ntail");
        assert_eq!(in_image(&engine, "cat /docs/one /docs/two"), "me\n$WHO");
        assert_eq!(
            in_image(&engine, "stat -c '%u:%g %a' /srv/app/src /srv/app/src/sub /srv/app/src/a"),
            "1000:10 755\n1000:10 700\n1000:10 600"
        );
        assert_eq!(
            in_image(&engine, "cat /made/count /made/read; ls -a /kept/app/src/sub"),
            "1\nalpha\n.\n..\nb"
        );
        // What was mounted has left nothing behind.
        assert_eq!(
            in_image(&engine, "ls -d /cache /mnt /scratch /run /made/new 2>/dev/null; ls / | tr '\\n' ' '"),
            "bin dev docs etc home kept made proc root srv sys tmp var who"
        );
        assert_eq!(in_image(&engine, "id -un; pwd; ls /srv/app/src 2>&1"), "alice\n/srv/app\na\nsub");
        let config = engine.wharf(&["image", "inspect", "-f", "{{json .Config}}", "built"]).line();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["User"], "alice");
        assert_eq!(config["Labels"]["what"], "test");
        assert_eq!(config["ExposedPorts"].as_object().unwrap().len(), 2);
        assert_eq!(config["Env"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn the_cache_knows_content_and_no_times() {
    let engine = Engine::with_busybox();
    let file = "FROM busybox\nCOPY a /a\nRUN cat /a > /made\nCOPY b /b\nCMD [\"x\"]\n";
    let context = context(&[("Dockerfile", file), ("a", "one"), ("b", "two")]);
    let first = build(&engine, &context, &["-q"]).line();
    assert!(first.starts_with("sha256:"), "{first}");
    std::fs::File::options()
        .write(true)
        .open(context.join("a"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    let again = build(&engine, &context, &[]);
    assert_eq!(again.stderr.matches(" CACHED").count(), 3, "{}", again.stderr);
    assert_eq!(build(&engine, &context, &["-q"]).line(), first, "the same build gives the same image");
    assert_eq!(classic(&engine, &context, &["-q"]).line(), first, "and so does the classic protocol");
    std::fs::write(context.join("b"), "changed").unwrap();
    let changed = build(&engine, &context, &["--explain"]);
    assert_eq!(changed.stderr.matches(" CACHED").count(), 2, "{}", changed.stderr);
    assert!(changed.stderr.contains("#4 not cached: the content of b changed"), "{}", changed.stderr);
    let none = build(&engine, &context, &["--no-cache"]);
    assert_eq!(none.stderr.matches(" CACHED").count(), 0, "{}", none.stderr);
    let usage = engine.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(!usage.contains("Build Cache 0"), "{usage}");
    // What the image has, too, is not dangling.
    assert!(!engine.wharf(&["builder", "prune", "-f"]).ok().is_empty());
    let usage = engine.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(!usage.contains("Build Cache 0"), "{usage}");
    assert!(engine.wharf(&["builder", "prune", "-af"]).ok().starts_with("Deleted build cache objects:\n"));
    let usage = engine.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(usage.contains("Build Cache 0"), "{usage}");
    // The image has its layers still.
    assert_eq!(in_image(&engine, "cat /a /made /b"), "oneonechanged");
}

#[test]
fn stages_run_at_the_same_time() {
    let engine = Engine::with_busybox();
    // Each waits for the other: one after the other they would wait for ever.
    let wait = "RUN --mount=type=cache,id=meet,target=/m touch /m/";
    let file = format!(
        "FROM busybox AS a\n{wait}a && for i in $(seq 200); do test -e /m/b && exit 0; sleep 0.1; done; exit 1\nFROM busybox AS b\n{wait}b && for i in $(seq 200); do test -e /m/a && exit 0; sleep 0.1; done; exit 1\nFROM busybox AS unused\nRUN exit 9\nFROM scratch\nCOPY --from=a /etc/group /a\nCOPY --from=b /etc/group /b\n"
    );
    let output = build(&engine, &context(&[("Dockerfile", &file)]), &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[test]
fn results_go_elsewhere_too() {
    let engine = Engine::with_busybox();
    let context = context(&[("Dockerfile", "FROM scratch\nCOPY f /dir/f\n"), ("f", "content")]);
    let out = Scratch::new();
    let folder = text(&out.join("files"));
    build(&engine, &context, &["-o", &folder]).ok();
    assert_eq!(std::fs::read_to_string(out.join("files/dir/f")).unwrap(), "content");
    assert_eq!(std::fs::read_dir(out.join("files")).unwrap().count(), 1, "nothing but what was built");
    let archive = text(&out.join("image.tar"));
    let id = text(&out.join("id"));
    build(&engine, &context, &["-o", &format!("type=oci,dest={archive}"), "--iidfile", &id]).ok();
    let id = std::fs::read_to_string(id).unwrap();
    engine.wharf(&["rmi", "-f", "built"]).ok();
    engine.wharf(&["load", "-q", "-i", &archive]).ok();
    assert_eq!(engine.wharf(&["images", "-q", "--no-trunc", "built"]).line(), id);
    // A Dockerfile alone, an archive, further contexts.
    let mut child = engine.wharf_command();
    child.args(["build", "-q", "-t", "built", "-"]).stdin(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"FROM busybox\nRUN echo stdin > /from\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(in_image(&engine, "cat /from"), "stdin");
    let other = Scratch::new();
    std::fs::write(other.join("o"), "other").unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM alias\nCOPY --from=more o /o\n").unwrap();
    let more = format!("more={}", text(other.path()));
    build(&engine, &context, &["--build-context", &more, "--build-context", "alias=docker-image://busybox"])
        .ok();
    assert_eq!(in_image(&engine, "cat /o"), "other");
}

#[test]
fn layers_can_be_made_one() {
    let engine = Engine::with_busybox();
    let file = "FROM busybox\nRUN echo a > /a && echo b > /b && rm /bin/vi\nRUN rm /a && mkdir /bin/vi && touch /bin/vi/x\nRUN rm -r /home\n";
    build(&engine, &context(&[("Dockerfile", file)]), &["--squash"]).ok();
    assert_eq!(
        in_image(&engine, "ls -d /a /b /home /bin/vi/x /bin/ls 2>/dev/null; true"),
        "/b\n/bin/ls\n/bin/vi/x"
    );
    let layers = engine.wharf(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "built"]).line();
    assert_eq!(layers, "2", "the base's and ours");
}

#[test]
fn the_same_inputs_give_the_same_digests() {
    let files = [("Dockerfile", "FROM busybox\nCOPY f /new/f\nRUN echo x > /x && mkdir /d\n"), ("f", "f")];
    let digest = || {
        let engine = Engine::with_busybox();
        let context = context(&files);
        std::fs::File::options()
            .write(true)
            .open(context.join("f"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        build(&engine, &context, &["-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).line()
    };
    let first = digest();
    assert!(first.starts_with("sha256:"));
    assert_eq!(first, digest());
}

#[test]
fn commands_get_devices_that_are_allowed() {
    let folder = Scratch::new();
    let specs = folder.join("cdi");
    std::fs::create_dir(&specs).unwrap();
    let engine = Engine::start_with(&[&format!("--cdi-spec-dir={}", text(&specs))]);
    engine.load_busybox("busybox:latest");
    let document = |kind: &str, facts: &str, names: &[&str]| {
        let device = |name: &&str| {
            format!(
                "- name: {name}\n  containerEdits:\n    env: [DEVICE_{name}=1]\n    deviceNodes:\n    - {{path: /dev/{name}, hostPath: /dev/zero}}\n"
            )
        };
        let devices: String = names.iter().map(device).collect();
        format!("cdiVersion: 0.6.0\nkind: {kind}\nannotations: {{{facts}}}\ndevices:\n{devices}")
    };
    std::fs::write(specs.join("a.yaml"), document("v.org/c", "", &["one", "two"])).unwrap();
    let free =
        "org.mobyproject.buildkit.device.autoallow: \"true\", org.mobyproject.buildkit.device.class: any";
    std::fs::write(specs.join("b.yaml"), document("v.org/free", free, &["three"])).unwrap();
    let run = |line: &str, flags: &[&str]| {
        build(&engine, &context(&[("Dockerfile", &format!("FROM busybox\n{line}\n"))]), flags)
    };
    let show = "env | grep -o 'DEVICE_.*' | sort > /made; head -c 1 /dev/one | wc -c >> /made";
    run(&format!("RUN --device=v.org/c=one {show}"), &["--allow", "device=v.org/c=one"]).ok();
    assert_eq!(in_image(&engine, "cat /made; test ! -e /dev/one"), "DEVICE_one=1\n1");
    for (flag, allow, expect) in [
        ("v.org/c=*", "device", "DEVICE_one=1\nDEVICE_two=1"),
        ("v.org/c", "device", "DEVICE_one=1"),
        ("v.org/free", "device=v.org/c=one", "DEVICE_three=1"),
        ("any", "device=v.org/c=one", "DEVICE_three=1"),
        ("v.org/none=x", "device", ""),
    ] {
        run(&format!("RUN --device={flag} env | grep -o 'DEVICE_.*' | sort > /made"), &["--allow", allow])
            .ok();
        assert_eq!(in_image(&engine, "cat /made"), expect, "{flag}");
    }
    for (flag, allow, expect) in [
        ("v.org/c=one", "device=v.org/c=two", "device v.org/c=one is requested by the build but not allowed"),
        (
            "v.org/none=x,required",
            "device",
            "required device \"v.org/none=x\" is not registered\n2 | RUN --device",
        ),
        ("v.org/c=one", "devices", "unknown entitlement devices"),
    ] {
        let output = run(&format!("RUN --device={flag} true"), &["--allow", allow]);
        assert!(output.code != 0 && output.stderr.contains(expect), "{flag}: {}", output.stderr);
    }
}

#[test]
fn arguments_that_are_switches_of_the_builder() {
    let engine = Engine::with_busybox();
    let run = |file: &str, flags: &[&str]| build(&engine, &context(&[("Dockerfile", file)]), flags);
    let file = "FROM busybox\nRUN hostname > /name\n";
    run(file, &[]).ok();
    assert_eq!(in_image(&engine, "cat /name"), "buildkitsandbox");
    run(file, &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other"]).ok();
    assert_eq!(in_image(&engine, "cat /name"), "other");
    let file = "FROM busybox\nMAINTAINER me\nWORKDIR x\n";
    run(file, &[]).ok();
    let strict =
        run(file, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=MaintainerDeprecated;error=true"]);
    assert!(
        strict.stderr.contains("lint violation found for rules: WorkdirRelativePath"),
        "{}",
        strict.stderr
    );
    let strict = run(&format!("# check=error=true\n{file}"), &[]);
    let expect = "lint violation found for rules: MaintainerDeprecated, WorkdirRelativePath";
    assert!(strict.code == 1 && strict.stderr.contains(expect), "{}", strict.stderr);
}
