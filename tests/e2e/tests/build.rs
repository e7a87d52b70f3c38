//! `build`: what instructions make, the cache, faults; with our own command line and Docker's (the classic protocol).

use e2e::building::{build, classic, context, in_image, text};
use e2e::command_lines;
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::{Engine, Scratch};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

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
fn what_is_wrong_has_a_place() {
    let engine = Engine::with_busybox();
    for (file, code, expect) in [
        (
            "FROM busybox\n  RUNN x\n",
            1,
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n2:3\n2 |   RUNN x\n  |   ^",
        ),
        (
            "FROM busybox\nCOPY nope /x\n",
            1,
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist\n2 | COPY nope /x",
        ),
        (
            "FROM busybox\nRUN echo last words; exit 7\n",
            7,
            "The command '/bin/sh -c echo last words; exit 7' returned a non-zero code: 7",
        ),
        ("FROM busybox AS a\nCOPY --from=a /x /y\n", 1, "circular dependency detected on stage: a"),
        ("FROM busybox\nCOPY --from=5 /x /y\n", 1, "invalid stage index 5"),
        (
            "FROM busybox\nRUN --mount=type=secret,id=k,required true\n",
            1,
            "secret k: not found\n2 | RUN --mount=type=secret,id=k,required true",
        ),
        ("FROM busybox\nENV a=\"${b:?needed}\"\n", 1, "b: needed\n2 | ENV a=\"${b:?needed}\""),
        ("FROM busybox\nCOPY --chown=nobodyknows Dockerfile /x\n", 1, "can't find uid for user nobodyknows"),
        ("FROM busybox\nRUN --security=insecure true\n", 1, "security.insecure is not allowed"),
        (
            "FROM busybox\nADD --checksum=sha256:00 http://127.0.0.1:1/x /x\n",
            1,
            "failed to download remote url http://127.0.0.1:1/x",
        ),
        ("FROM no.such.host.invalid/image\n", 1, "no.such.host.invalid"),
    ] {
        let output = build(&engine, &context(&[("Dockerfile", file)]), &[]);
        assert!(output.stderr.contains(expect), "{file}: {}", output.stderr);
        assert_eq!(output.code, code, "{file}");
    }
    let output = build(&engine, &context(&[("Dockerfile", "FROM busybox AS web\n")]), &["--target", "wbe"]);
    assert!(
        output.stderr.contains("target stage \"wbe\" could not be found (did you mean web?)"),
        "{}",
        output.stderr
    );
    let failing = context(&[("Dockerfile", "FROM busybox\nRUN exit 3\n")]);
    assert_eq!(classic(&engine, &failing, &[]).code, 3, "the code of the command is the client's");
}

/// Says whether any file below a folder holds these bytes.
fn holds(folder: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            if let Some(found) = holds(&path, needle) {
                return Some(found);
            }
        } else if metadata.is_file()
            && std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
        {
            return Some(path);
        }
    }
    None
}

#[test]
fn secrets_stay_nowhere() {
    let engine = Engine::with_busybox();
    let secret = "tr0ub4dor-and-3-dragons";
    let file = "FROM busybox\nRUN --mount=type=secret,id=k,mode=0440,uid=1000 stat -c '%a %u' /run/secrets/k > /seen && wc -c < /run/secrets/k >> /seen\nRUN --mount=type=secret,id=k,env=KEY test ${#KEY} = 23\nRUN test ! -e /run/secrets && test -z \"$KEY\"\n";
    let context = context(&[("Dockerfile", file)]);
    let keys = Scratch::new();
    std::fs::write(keys.join("key"), secret).unwrap();
    let flag = format!("id=k,src={}", text(&keys.join("key")));
    let output = build(&engine, &context, &["--secret", &flag]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(in_image(&engine, "cat /seen"), "440 1000\n23");
    // Another value is no other build.
    std::fs::write(keys.join("key"), "another value").unwrap();
    let again = build(&engine, &context, &["--secret", &flag]);
    assert_eq!(again.stderr.matches(" CACHED").count(), 3, "{}", again.stderr);
    assert_eq!(holds(engine.folder(), secret.as_bytes()), None, "data, logs, sockets' folders");
    assert!(!engine.wharf(&["history", "--no-trunc", "built"]).ok().contains(secret));
}

#[test]
fn a_build_ends_with_its_client() {
    let engine = Engine::with_busybox();
    let context = context(&[("Dockerfile", "FROM busybox\nRUN touch /first\nRUN echo begun; sleep 1234\n")]);
    let mut client = engine.wharf_command();
    client.args(["build", "--progress", "plain"]).arg(context.path());
    let mut client = client.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let sleeping = || engine.run("pgrep", &["-fx", "sleep 1234"]).stdout.lines().count() > 0;
    until("the command to run", sleeping);
    client.kill().unwrap();
    client.wait().unwrap();
    until("the command to end", || !sleeping());
    let work = engine.folder().join("data/build/work");
    until("the folders to go", || std::fs::read_dir(&work).unwrap().next().is_none());
    until("the control group to go", || engine.cgroups().is_empty());
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "");
}

#[test]
fn a_daemon_killed_in_mid_build_leaves_a_cache_that_is_right() {
    let mut engine = Engine::with_busybox();
    let file =
        "FROM busybox\nRUN echo kept > /kept\nRUN --mount=type=tmpfs,target=/t test -e /go || sleep 4321\n";
    let context = context(&[("Dockerfile", file)]);
    let mut client = engine.wharf_command();
    client.args(["build", "--progress", "plain"]).arg(context.path());
    let mut client = client.stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the command to run", || !engine.run("pgrep", &["-fx", "sleep 4321"]).stdout.is_empty());
    engine.kill_daemon();
    client.wait().unwrap();
    engine.start_daemon();
    until("the command to end", || engine.run("pgrep", &["-fx", "sleep 4321"]).stdout.is_empty());
    let work = engine.folder().join("data/build/work");
    until("the folders to go", || std::fs::read_dir(&work).unwrap().next().is_none());
    std::fs::write(context.join("Dockerfile"), file.replace("sleep 4321", "true")).unwrap();
    let again = build(&engine, &context, &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stderr.matches(" CACHED").count(), 1, "{}", again.stderr);
    assert_eq!(in_image(&engine, "cat /kept"), "kept");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let engine = Engine::on_small_disk(24);
    engine.load_busybox("busybox:latest");
    let big = context(&[("Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n")]);
    let output = build(&engine, &big, &[]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("No space left on device"), "{}", output.stderr);
    let small = context(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    until("the space to be free again", || build(&engine, &small, &[]).code == 0);
    assert_eq!(in_image(&engine, "cat /x"), "x");
}

/// CVE-2024-23652, CVE-2024-23653, CVE-2024-23651 and their like.
#[test]
fn nothing_leads_out_of_a_build() {
    let engine = Engine::with_busybox();
    let outside = Scratch::new();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let there = text(outside.path());
    let attack = |name: &str, file: &str| {
        let context = context(&[("Dockerfile", file), ("evil", "evil")]);
        std::os::unix::fs::symlink(&there, context.join("link")).unwrap();
        let output = build(&engine, &context, &["--no-cache"]);
        assert_eq!(std::fs::read_to_string(outside.join("precious")).unwrap(), "precious", "{name}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{name}: {}", output.stderr);
        output
    };
    // The mount point becomes a link while the command runs; cleaning up must not follow it.
    let link = format!("ln -s {there} /made");
    attack(
        "mount point",
        &format!(
            "FROM busybox\nRUN --mount=type=tmpfs,target=/made/point rm -rf /made 2>/dev/null; mv /made /away; {link}; true\nRUN ls /made/ 2>/dev/null; true\n"
        ),
    );
    // Links in the image, in the context and in stages lead to somewhere inside.
    attack(
        "copy to a link",
        &format!(
            "FROM busybox\nRUN {link}\nCOPY evil /made/precious\nCOPY evil /made/new\nWORKDIR /made/folder\n"
        ),
    );
    let through = attack("copy from a link", "FROM busybox\nCOPY link/precious /stolen\n");
    assert_ne!(through.code, 0, "the context's link leads out");
    attack(
        "bind a link",
        "FROM busybox\nRUN --mount=type=bind,source=link,target=/m,rw rm -rf /m/precious; touch /m/new\n",
    );
    attack(
        "mount on a link",
        &format!(
            "FROM busybox\nRUN {link}\nRUN --mount=type=cache,target=/made/c touch /made/c/x /made/new; true\n"
        ),
    );
    attack(
        "link in a cache",
        &format!(
            "FROM busybox\nRUN --mount=type=cache,id=c,target=/c ln -s {there} /c/link\nRUN --mount=type=cache,id=c,target=/c rm -rf /c/link/precious; touch /c/link/new; true\n"
        ),
    );
    // Every way to ask for more than a container may.
    for flag in ["--security=insecure", "--network=host"] {
        let output = attack(flag, &format!("FROM busybox\nRUN {flag} true\n"));
        assert!(output.stderr.contains("is not allowed"), "{}", output.stderr);
    }
    let trigger = attack("trigger", "FROM busybox AS b\nONBUILD RUN --security=insecure true\nFROM b\n");
    assert!(trigger.stderr.contains("security.insecure is not allowed"), "{}", trigger.stderr);
    let capabilities = context(&[(
        "Dockerfile",
        "FROM busybox\nRUN grep CapEff /proc/self/status > /caps; mount -t tmpfs x /tmp 2>/dev/null && exit 9; exit 0\n",
    )]);
    assert_eq!(build(&engine, &capabilities, &[]).code, 0);
    assert_eq!(in_image(&engine, "cat /caps"), "CapEff:\t00000000a80425fb");
}

#[test]
fn results_go_elsewhere_too() {
    let engine = Engine::with_busybox();
    let context = context(&[("Dockerfile", "FROM scratch\nCOPY f /dir/f\n"), ("f", "content")]);
    let out = Scratch::new();
    let folder = text(&out.join("files"));
    build(&engine, &context, &["-o", &folder]).ok();
    assert_eq!(std::fs::read_to_string(out.join("files/dir/f")).unwrap(), "content");
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
fn another_platform_needs_an_emulator_for_its_commands_alone() {
    let engine = Engine::start();
    let archive = engine.folder().join("foreign.tar");
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    // ET_EXEC, EM_S390: of no machine that this runs on, and nobody emulates it here.
    program[5] = 2;
    program[16..20].copy_from_slice(&[0, 2, 0, 22]);
    let layer = testkit::image::layer(&[testkit::image::Entry::File("bin/sh", 0o755, &program)]);
    let config = serde_json::json!({});
    testkit::image::write_archive_for(&archive, &["foreign:1"], &[layer], &config, "s390x");
    engine.wharf(&["load", "-q", "-i", &text(&archive)]).ok();
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
