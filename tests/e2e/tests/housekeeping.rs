//! The flags of commands that look after containers, and the filters of lists, by what they do; both command lines.

use e2e::both;
use std::time::Duration;
use testkit::{Engine, until};

fn shown(engine: &Engine, template: &str, name: &str) -> String {
    engine.wharf(&["inspect", "-f", template, name]).line()
}

#[test]
fn commits_copies_and_exports() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("host");
    std::fs::create_dir_all(&folder).unwrap();
    let host = |name: &str| folder.join(name).display().to_string();
    engine
        .wharf(&[
            "run",
            "-d",
            "--name",
            "box",
            "busybox",
            "sh",
            "-c",
            "while echo tick >> /ticks; do sleep 0.01; done",
        ])
        .ok();
    let flags = [
        "--author",
        "A. N. Other",
        "--message",
        "kept",
        "--change",
        "ENV COMMITTED=yes",
        "--change",
        "USER alice",
    ];
    engine.wharf(&[&["commit"], &flags[..], &["box", "committed:1"]].concat()).ok();
    let template = "{{.Author}}/{{.Comment}}/{{.Config.User}}/{{join .Config.Env \" \"}}";
    let said = both(&engine, &["image", "inspect", "-f", template, "committed:1"]).line();
    assert!(said.starts_with("A. N. Other/kept/alice/") && said.ends_with("COMMITTED=yes"), "{said}");
    let events =
        ["events", "--since", "1h", "--until", "0s", "--filter", "container=box", "--format", "{{.Action}}"];
    assert!(
        engine.wharf(&events).ok().contains("pause\ncommit\nunpause\n")
            || engine.wharf(&events).ok().contains("pause\nunpause\ncommit\n")
    );
    engine.wharf(&["commit", "--pause=false", "box", "committed:2"]).ok();
    assert_eq!(engine.wharf(&events).ok().lines().filter(|line| *line == "pause").count(), 1);

    engine
        .wharf(&[
            "exec",
            "box",
            "sh",
            "-c",
            "echo text > /tmp/file; ln -s file /tmp/link; chown 1000:10 /tmp/file; chmod 640 /tmp/file",
        ])
        .ok();
    engine.wharf(&["cp", "box:/tmp/link", &host("as-link")]).ok();
    assert!(std::fs::symlink_metadata(host("as-link")).unwrap().is_symlink());
    engine.wharf(&["cp", "--follow-link", "box:/tmp/link", &host("as-file")]).ok();
    assert_eq!(std::fs::read_to_string(host("as-file")).unwrap(), "text\n");
    engine.wharf(&["cp", "--archive", "box:/tmp/file", &host("archived")]).ok();
    assert_eq!(engine.run("stat", &["-c", "%u:%g %a", &host("archived")]).line(), "1000:10 640");
    engine.wharf(&["export", "--output", &host("out.tar"), "box"]).ok();
    assert!(engine.run("tar", &["-tf", &host("out.tar")]).ok().contains("tmp/file\n"));
}

#[test]
fn stops_restarts_and_removals() {
    let engine = Engine::with_busybox();
    let script = "trap 'exit 5' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done";
    engine.wharf(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    let ups = |count: usize| {
        until("the script", Duration::from_secs(20), || {
            (engine.wharf(&["logs", "box"]).ok() == "up\n".repeat(count)).then_some(())
        });
    };
    ups(1);
    engine.wharf(&["restart", "--signal", "USR1", "--timeout", "20", "box"]).ok();
    ups(2);
    let died = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=die",
        "--format",
        "{{index .Actor.Attributes \"exitCode\"}}",
    ];
    assert_eq!(engine.wharf(&died).line(), "5", "the signal ended it");
    engine.wharf(&["restart", "--time", "0", "box"]).ok();
    ups(3);
    assert_eq!(engine.wharf(&died).line(), "5\n137");
    engine.wharf(&["stop", "--signal", "USR1", "--timeout", "20", "box"]).ok();
    assert_eq!(shown(&engine, "{{.State.ExitCode}}", "box"), "5");
    engine
        .wharf(&[
            "volume",
            "create",
            "--driver",
            "local",
            "--opt",
            "type=tmpfs",
            "--opt",
            "device=tmpfs",
            "--opt",
            "o=size=1m",
            "small",
        ])
        .ok();
    let size =
        ["run", "--rm", "-v", "small:/s", "busybox", "sh", "-c", "df -k /s | tail -1 | awk '{print $2}'"];
    assert_eq!(engine.wharf(&size).line(), "1024");
    engine.wharf(&["create", "--name", "with", "-v", "/anonymous", "-v", "small:/named", "busybox"]).ok();
    let volumes = |engine: &Engine| engine.wharf(&["volume", "ls", "-q"]).ok().lines().count();
    assert_eq!(volumes(&engine), 2);
    engine.wharf(&["rm", "--volumes", "with"]).ok();
    assert_eq!(engine.wharf(&["volume", "ls", "-q"]).line(), "small");
    assert_eq!(both(&engine, &["inspect", "--type", "volume", "-f", "{{.Name}}", "small"]).line(), "small");
    assert_eq!(both(&engine, &["inspect", "--type", "image", "box"]).code, 1);
    let verbose = engine.wharf(&["system", "df", "--verbose"]).ok();
    assert!(verbose.contains("small") && verbose.contains("box") && verbose.contains("busybox"), "{verbose}");
    engine.wharf(&["volume", "create"]).ok();
    engine.wharf(&["volume", "prune", "-f"]).ok();
    assert_eq!(volumes(&engine), 1, "a named one is kept");
    engine.wharf(&["volume", "prune", "-f", "--all"]).ok();
    assert_eq!(
        engine.wharf(&["volume", "ls", "-q"]).line(),
        "small",
        "one with options is nobody's to prune"
    );
    engine.wharf(&["volume", "rm", "small"]).ok();
    engine.wharf(&["volume", "create", "kept"]).ok();
    engine.wharf(&["system", "prune", "-f"]).ok();
    assert_eq!(engine.wharf(&["ps", "-aq"]).ok() + &engine.wharf(&["volume", "ls", "-q"]).ok(), "kept\n");
    assert!(engine.wharf(&["images", "-q"]).ok().lines().count() > 0, "a tagged image is kept");
    engine.wharf(&["system", "prune", "-f", "--all", "--volumes"]).ok();
    assert_eq!(engine.wharf(&["images", "-q"]).ok(), "");
}

#[test]
fn lists_are_filtered() {
    let engine = Engine::with_busybox();
    let make = |name: &str, flags: &[&str], command: &[&str]| {
        engine.wharf(&[&["run", "-d", "--name", name], flags, &["busybox"], command].concat()).ok();
    };
    engine.wharf(&["network", "create", "--label", "kind=net", "lan"]).ok();
    engine.wharf(&["volume", "create", "--label", "kind=vol", "data"]).ok();
    make(
        "first",
        &["--label", "tier=web", "--label", "bare", "-v", "data:/data", "--expose", "7070"],
        &["sleep", "1000"],
    );
    make("second", &["--network", "lan", "-p", "127.0.0.1:8077:80"], &["sleep", "1000"]);
    make("third", &["--health-cmd", "true", "--health-interval", "100ms"], &["sleep", "1000"]);
    make("ended", &[], &["sh", "-c", "exit 3"]);
    engine.wharf(&["wait", "ended"]).ok();
    engine.wharf(&["pause", "first"]).ok();
    until("health", Duration::from_secs(20), || {
        (shown(&engine, "{{.State.Health.Status}}", "third") == "healthy").then_some(())
    });
    let id = shown(&engine, "{{.Id}}", "second");
    let id = format!("id={}", id.get(..20).unwrap());
    for (filters, expect) in [
        (&["name=ir"][..], "third first"),
        (&["name=^/first$"], "first"),
        (&["name=first", "name=ended"], "ended first"),
        (&[id.as_str()], "second"),
        (&["label=tier"], "first"),
        (&["label=tier=web", "label=bare"], "first"),
        (&["label=tier=db"], ""),
        (&["status=paused"], "first"),
        (&["status=exited"], "ended"),
        (&["status=running"], "third second"),
        (&["exited=3"], "ended"),
        (&["exited=0"], ""),
        (&["ancestor=busybox", "before=third"], "second first"),
        (&["since=second"], "ended third"),
        (&["volume=data"], "first"),
        (&["volume=/data"], "first"),
        (&["network=lan"], "second"),
        (&["publish=8077"], "second"),
        (&["publish=80"], ""),
        (&["expose=7000-7100/tcp"], "first"),
        (&["health=healthy"], "third"),
        (&["health=none"], "ended second first"),
        (&["is-task=false"], "ended third second first"),
        (&["is-task=true"], ""),
    ] {
        let mut arguments = vec!["ps", "-a", "--format", "{{.Names}}"];
        arguments.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        assert_eq!(
            both(&engine, &arguments).ok().lines().collect::<Vec<_>>().join(" "),
            expect,
            "{filters:?}"
        );
    }
    for (filter, words) in [
        ("status=nosuch", "invalid filter 'status=nosuch'"),
        ("nosuch=1", "invalid filter 'nosuch'"),
        ("before=nobody", "No such container: nobody"),
        ("exited=x", "x"),
        ("health=well", "well"),
    ] {
        let refused = both(&engine, &["ps", "-a", "--filter", filter]);
        assert!(refused.code == 1 && refused.stderr.contains(words), "{filter}: {}", refused.stderr);
    }
    let networks = |filter: &str| {
        both(&engine, &["network", "ls", "--format", "{{.Name}}", "--filter", filter]).ok().replace('\n', " ")
    };
    assert_eq!(networks("label=kind=net"), "lan ");
    assert_eq!(networks("type=custom"), "lan ");
    assert_eq!(networks("driver=null"), "none ");
    assert_eq!(networks("scope=swarm"), "");
    assert_eq!(networks("dangling=true"), "");
    assert_eq!(networks("name=os"), "host ");
    let volumes = |filter: &str| both(&engine, &["volume", "ls", "-q", "--filter", filter]).line();
    assert_eq!(volumes("label=kind=vol"), "data");
    assert_eq!(volumes("dangling=true"), "");
    assert_eq!(volumes("driver=local"), "data");
    assert_eq!(volumes("name=at"), "data");
}
