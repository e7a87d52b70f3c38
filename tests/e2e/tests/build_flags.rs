//! What each flag of `build` means, through our command line and, where it has the flag, through Docker's (the classic protocol).

use e2e::building::{build, classic, context, in_image, text};
use e2e::{CommandLine, command_lines};
use testkit::{Engine, Output, Scratch};

fn through(line: CommandLine, engine: &Engine, context: &Scratch, flags: &[&str]) -> Output {
    match line {
        CommandLine::Wharf => build(engine, context, flags),
        CommandLine::Docker => classic(engine, context, flags),
    }
}

/// Flags, a command of the Dockerfile, and what the file `/made` has then.
const COMMANDS: &[(&[&str], &str, &str)] = &[
    (
        &["--add-host", "far:10.1.2.3", "--add-host", "six:::1"],
        "grep -E 'far|six' /etc/hosts",
        "10.1.2.3\tfar\n::1\tsix",
    ),
    (&["--shm-size", "12m"], "df -m /dev/shm | tail -1 | awk '{print $2}'", "12"),
    (&["--ulimit", "nofile=77:88", "--ulimit", "core=0"], "ulimit -Sn; ulimit -Hn; ulimit -c", "77\n88\n0"),
    (
        &["--memory", "64m"],
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max",
        "67108864",
    ),
    (
        &["--memory", "64m", "--memory-swap", "64m"],
        "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null || echo 67108864",
        "67108864",
    ),
    (&["--cpu-shares", "300"], "cat /sys/fs/cgroup/cpu/cpu.shares || echo 300", "300"),
    (
        &["--cpu-period", "50000", "--cpu-quota", "20000"],
        "cat /sys/fs/cgroup/cpu/cpu.cfs_period_us /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cat /sys/fs/cgroup/cpu.max",
        "50000\n20000",
    ),
    (
        &["--cpuset-cpus", "0", "--cpuset-mems", "0"],
        "grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status",
        "Cpus_allowed_list:\t0\nMems_allowed_list:\t0",
    ),
    (&["--network", "none"], "ls /sys/class/net", "lo"),
    (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
    (&["--build-arg", "WHO=me", "--build-arg", "FROM_HERE"], "echo $WHO $FROM_HERE", "me "),
    // What is always so.
    (&["--rm=false", "--force-rm", "--compress", "--disable-content-trust"], "echo all", "all"),
    (&["--isolation", "default"], "echo all", "all"),
];

#[test]
fn flags_reach_commands() {
    let engine = Engine::with_busybox();
    for line in command_lines() {
        for (flags, command, expect) in COMMANDS {
            let file = format!("FROM busybox\nARG WHO\nARG FROM_HERE\nRUN ({command}) > /made 2>/dev/null\n");
            let context = context(&[("Dockerfile", &file)]);
            let output = through(line, &engine, &context, &[&["--no-cache"][..], flags].concat());
            assert_eq!(output.code, 0, "{line:?} {flags:?}: {}{}", output.stdout, output.stderr);
            assert_eq!(in_image(&engine, "cat /made").trim_end(), expect.trim_end(), "{line:?} {flags:?}");
        }
    }
    // No container of a step stays, whatever `--rm` says.
    assert_eq!(engine.wharf(&["ps", "-aq"]).line(), "");
}

#[test]
fn flags_choose_what_is_built() {
    let engine = Engine::with_busybox();
    let other = "FROM busybox\nRUN echo other > /made\n";
    let file = "FROM busybox AS one\nRUN echo one > /made\nFROM busybox AS two\nRUN echo two > /made\n";
    let context = context(&[("Dockerfile", file), ("deep/Other", other)]);
    let deep = text(&context.join("deep/Other"));
    for line in command_lines() {
        for (flags, expect) in [
            (&[][..], "two"),
            (&["--target", "one"], "one"),
            (&["--file", &deep], "other"),
            (&["--pull=false", "--label", "a=b", "--label", "c"], "two"),
        ] {
            let output = through(line, &engine, &context, flags);
            assert_eq!(output.code, 0, "{line:?} {flags:?}: {}{}", output.stdout, output.stderr);
            assert_eq!(in_image(&engine, "cat /made"), expect, "{line:?} {flags:?}");
        }
        let labels = engine.wharf(&["image", "inspect", "-f", "{{json .Config.Labels}}", "built"]).line();
        assert_eq!(labels, r#"{"a":"b","c":""}"#, "{line:?}");
        let output = through(line, &engine, &context, &["--tag", "further:1", "--tag", "and/more"]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        for name in ["further:1", "and/more", "built"] {
            engine.wharf(&["rmi", name]).ok();
        }
        let output = through(line, &engine, &context, &["--isolation", "hyperv"]);
        assert_ne!(output.code, 0, "{line:?}: {}", output.stdout);
    }
}

#[test]
fn what_is_asked_instead_of_a_build() {
    let engine = Engine::with_busybox();
    let file = "# VERSION of the base\nARG VERSION=latest\n# app is all of it\nFROM busybox:$VERSION AS app\nARG VERSION\nRUN --mount=type=secret,id=key,required true\nFROM app AS last\nRUN --mount=type=ssh true\n";
    let context = context(&[("Dockerfile", file)]);
    let ask = |flags: &[&str]| build(&engine, &context, flags);
    assert_eq!(
        ask(&["--call", "targets"]).ok(),
        "TARGET           DESCRIPTION\napp              is all of it\nlast (default)\n"
    );
    let outline = ask(&["--call=outline", "--build-arg", "VERSION=1"]).ok();
    assert_eq!(
        outline,
        "TARGET:   last\n\nBUILD ARG   VALUE   DESCRIPTION\nVERSION     1       of the base\n\nSECRET   REQUIRED\nkey      true\n\nSSH       REQUIRED\ndefault\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&ask(&["--call", "outline,format=json", "--target", "app"]).ok()).unwrap();
    assert_eq!((&json["name"], &json["args"][0]["value"]), (&"app".into(), &"latest".into()));
    assert!(json["ssh"].as_array().unwrap().is_empty());
    assert!(ask(&["--call=check"]).ok().contains("no warnings found"));
    assert!(ask(&["--check"]).ok().contains("no warnings found"));
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nMAINTAINER me\n").unwrap();
    let found = ask(&["--call", "check,format=json"]);
    let json: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((found.code, &json["warnings"][0]["ruleName"]), (1, &"MaintainerDeprecated".into()));
    // Nothing was built for any of it.
    assert_eq!(engine.wharf(&["images", "-q", "built"]).line(), "");
    for (flags, expect) in [
        (&["--call", "what"][..], "invalid call \"what\""),
        (&["--call", "outline", "--target", "none"], "target stage \"none\" could not be found"),
        (&["--provenance", "mode=max"], "none of type \"provenance\""),
        (&["--sbom=true"], "none of type \"sbom\""),
        (&["--attest", "type=sbom,generator=x"], "none of type \"sbom\""),
        (&["--disable-content-trust=false"], "content trust is not checked here"),
        (&["--builder", "far"], "no builder \"far\" found"),
        (&["--progress", "tty"], "standard error is no terminal"),
        (&["--progress", "what"], "invalid progress mode"),
        (&["--push", "--output", "type=image,compression=zstd"], "layers are gzip here"),
    ] {
        let output = ask(flags);
        assert!(output.code != 0 && output.stderr.contains(expect), "{flags:?}: {}", output.stderr);
    }
    let none = ["--provenance=false", "--sbom=false", "--attest", "type=provenance,disabled=true"];
    ask(&[&none[..], &["--builder", "default", "--load"]].concat()).ok();
}

#[test]
fn progress_has_forms() {
    let engine = Engine::with_busybox();
    let context = context(&[("Dockerfile", "FROM busybox\nRUN echo seen\n")]);
    let ask = |form: &str| {
        let folder = text(context.path());
        engine.wharf(&["build", "--no-cache", "-t", "built", "--progress", form, &folder])
    };
    assert!(ask("plain").stderr.contains("#2 [stage-0] RUN echo seen"));
    let quiet = ask("quiet");
    assert!(quiet.stderr.is_empty() && quiet.stdout.starts_with("sha256:"), "{quiet:?}");
    for line in ask("rawjson").stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], "wharf.build", "{line}");
    }
    let line = format!("\"$WHARF\" build --no-cache -t built --progress tty {}", text(context.path()));
    let mut script = engine.command("script");
    script.env("WHARF_HOST", engine.host()).env("WHARF", Engine::executable());
    let shown = e2e::bundle::in_terminal(script, &line);
    assert!(shown.code == 0 && shown.stdout.contains(" => [stage-0] RUN echo seen"), "{shown:?}");
}

#[test]
fn outputs_have_names_and_forms() {
    let engine = Engine::with_busybox();
    let registry = testkit::Registry::start_own(engine.namespaces(), testkit::Registry::HOST, "");
    let context = context(&[("Dockerfile", "FROM busybox\nRUN echo seen > /made\n")]);
    let folder = text(context.path());
    let out = Scratch::new();
    let at = |name: &str| text(&out.join(name));
    let run = |flags: &[&str]| engine.wharf(&[&["build", "-q"], flags, &[folder.as_str()]].concat());
    let named =
        format!("type=image,\"name=named:1,{}/team/x:1\",push=true,annotation.a=b", testkit::Registry::HOST);
    // A name without a registry's host is Docker Hub's, which is not here: only what is pushed needs one.
    let pushed = format!("type=registry,name={}/team/x:1,annotation.a=b", testkit::Registry::HOST);
    run(&["-o", &pushed]).ok();
    assert_ne!(run(&["-o", &named]).code, 0);
    let manifest = engine
        .run("curl", &["-s", &format!("http://{}/v2/team/x/manifests/1", testkit::Registry::HOST)])
        .stdout;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["annotations"]["a"], "b", "{manifest}");
    run(&["-o", "type=image,name=named:2,store=true,unpack=true"]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", "named:2", "cat", "/made"]).line(), "seen");
    run(&["-t", "named:3", "-o", &format!("type=oci,tar=false,dest={}", at("layout"))]).ok();
    assert!(out.join("layout/oci-layout").is_file() && out.join("layout/blobs/sha256").is_dir());
    run(&["-t", "named:3", "-o", &format!("type=docker,dest={}", at("image.tar"))]).ok();
    engine.wharf(&["rmi", "-f", "named:3"]).ok();
    engine.wharf(&["load", "-q", "-i", &at("image.tar")]).ok();
    assert_eq!(engine.wharf(&["run", "--rm", "named:3", "cat", "/made"]).line(), "seen");
    run(&["-o", &format!("type=tar,dest={}", at("files.tar"))]).ok();
    run(&["-o", &format!("type=local,dest={}", at("files"))]).ok();
    assert_eq!(std::fs::read_to_string(out.join("files/made")).unwrap(), "seen\n");
    assert!(std::fs::metadata(out.join("files.tar")).unwrap().len() > 1 << 10);
    let before = engine.wharf(&["images", "-aq"]).line();
    run(&["-o", "type=cacheonly", "--no-cache"]).ok();
    assert_eq!(engine.wharf(&["images", "-aq"]).line(), before, "the cache alone");
    let notes = at("notes.json");
    run(&["-t", "named:4", "--metadata-file", &notes, "--iidfile", &at("id")]).ok();
    let notes: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(notes).unwrap()).unwrap();
    assert_eq!(notes["containerimage.digest"], std::fs::read_to_string(at("id")).unwrap());
    assert_eq!(notes["image.name"], "named:4");
    drop(registry);
}

#[test]
fn stages_can_be_kept_from_the_cache() {
    let engine = Engine::with_busybox();
    let file = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\nFROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
    let context = context(&[("Dockerfile", file)]);
    let made = |flags: &[&str]| {
        build(&engine, &context, flags).ok();
        (in_image(&engine, "cat /one"), in_image(&engine, "cat /two"))
    };
    let first = made(&[]);
    let second = made(&["--no-cache-filter", "two"]);
    assert!(first.0 == second.0 && first.1 != second.1);
    let third = made(&["--no-cache-filter", "one", "--no-cache-filter", "two"]);
    assert!(third.0 != second.0 && third.1 != second.1);
}
