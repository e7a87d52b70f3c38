//! Contexts, and engines reached over TLS and ssh.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]

use e2e::CommandLine;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::{Engine, Output};

/// Runs a command with a configuration of its own and no engine named.
fn run(engine: &Engine, line: CommandLine, config: &Path, arguments: &[&str]) -> Output {
    let program = match line {
        CommandLine::Wharf => Engine::executable().display().to_string(),
        CommandLine::Docker => "docker".to_owned(),
    };
    let mut command = engine.namespaces().command(&program);
    command.args(arguments).env_remove("DOCKER_HOST").env("DOCKER_CONFIG", config);
    command.env("PATH", path(engine)).stdin(Stdio::null());
    let output = command.output().expect("run a command");
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn path(engine: &Engine) -> String {
    format!("{}/bin:{}", engine.folder().display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn commands_do_what_dockers_do() {
    let engine = Engine::start();
    let host = engine.host();
    let lines = e2e::command_lines();
    let check = |arguments: &[&str]| {
        let outputs: Vec<Output> = lines
            .iter()
            .map(|line| {
                let config = engine.folder().join(format!("config-{line:?}"));
                let output = run(&engine, *line, &config, arguments);
                let shown = config.display().to_string();
                // The default sockets differ, and with them the widths of columns.
                let plain = |text: String| {
                    let text =
                        text.replace(&shown, "CONFIG").replace("/run/wharf.sock", "/var/run/docker.sock");
                    text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
                };
                Output { stdout: plain(output.stdout), stderr: plain(output.stderr), code: output.code }
            })
            .collect();
        if let [ours, theirs] = outputs.as_slice() {
            assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}: {} {}", ours.stderr, theirs.stderr);
            assert_eq!((&ours.stderr, ours.code), (&theirs.stderr, theirs.code), "{arguments:?}");
        }
        outputs.into_iter().next().expect("our own")
    };
    let docker = format!("host={host}");
    check(&["context", "create", "here", "--description", "the one", "--docker", &docker]);
    check(&["context", "create", "here", "--docker", &docker]);
    check(&["context", "create", "copy", "--from", "here"]);
    check(&["context", "create", "bare"]);
    for bad in
        [["a b", "host=unix:///x"], ["default", "host=unix:///x"], ["x1", "hst=1"], ["x2", "ca=/nosuch"]]
    {
        check(&["context", "create", bad[0], "--docker", bad[1]]);
    }
    check(&["context", "ls"]);
    check(&["context", "ls", "-q"]);
    check(&["context", "ls", "--format", "json"]);
    check(&["context", "inspect", "here"]);
    check(&["context", "inspect", "nosuch"]);
    check(&["context", "inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}}", "here"]);
    check(&["context", "show"]);
    check(&["context", "use", "nosuch"]);
    check(&["context", "use", "here"]);
    check(&["context", "ls"]);
    assert_eq!(check(&["version", "-f", "{{.Server.Os}}"]).line(), "linux");
    check(&["context", "rm", "here"]);
    check(&["context", "rm", "nosuch", "copy"]);
    check(&["context", "update", "bare", "--description", "new", "--docker", &docker]);
    assert_eq!(check(&["--context", "bare", "version", "-f", "{{.Server.Os}}"]).line(), "linux");
    check(&["--context", "bare", "-H", &host, "ps"]);
    check(&["--context", "nosuch", "ps"]);
    check(&["context", "rm", "-f", "here"]);
    check(&["context", "show"]);
    check(&["context", "use", "default"]);
    check(&["context", "inspect"]);
    // What one writes the other reads.
    for (from, to) in [(CommandLine::Wharf, CommandLine::Docker), (CommandLine::Docker, CommandLine::Wharf)] {
        let (source, target) = (format!("config-{from:?}"), format!("config-{to:?}"));
        if !lines.contains(&from) || !lines.contains(&to) {
            continue;
        }
        let file = engine.folder().join(format!("{from:?}.tar")).display().to_string();
        let name = format!("from-{from:?}");
        run(&engine, from, &engine.folder().join(source), &["context", "export", "bare", &file]).ok();
        let target = engine.folder().join(target);
        run(&engine, to, &target, &["context", "import", &name, &file]).ok();
        let shown =
            run(&engine, to, &target, &["context", "inspect", "-f", "{{.Endpoints.docker.Host}}", &name]);
        assert_eq!(shown.line(), host);
    }
}

#[test]
fn through_ssh() {
    let engine = Engine::with_busybox();
    let bin = engine.folder().join("bin");
    std::fs::create_dir(&bin).expect("make a folder");
    let script = |name: &str, text: String| {
        let path = bin.join(name);
        std::fs::write(&path, text).expect("write a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
    };
    let log = engine.folder().join("ssh.log").display().to_string();
    // The way over there: what follows `--` and the host is the command.
    script(
        "ssh",
        format!(
            "#!/bin/sh\necho \"$*\" >> {log}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nDOCKER_HOST={} exec \"$@\"\n",
            engine.host()
        ),
    );
    script("docker", format!("#!/bin/sh\nexec {} \"$@\"\n", Engine::executable().display()));
    let config = engine.folder().join("config-ssh");
    let wharf = |arguments: &[&str]| run(&engine, CommandLine::Wharf, &config, arguments);
    assert_eq!(wharf(&["-H", "ssh://me@there:2222", "run", "--rm", "busybox", "echo", "hi"]).line(), "hi");
    let said = std::fs::read_to_string(&log).expect("the log");
    assert!(
        said.starts_with("-o ConnectTimeout=30 -T -l me -p 2222 -- there docker system dial-stdio\n"),
        "{said}"
    );
    let mut child = Command::new("nsenter");
    child.args(["-t", &engine.namespaces().pid().to_string(), "--net", "--mount", "--"]);
    child.arg(Engine::executable()).args(["-H", "ssh://there", "run", "-i", "--rm", "busybox", "cat"]);
    child
        .env("PATH", path(&engine))
        .env("DOCKER_CONFIG", &config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = child.spawn().expect("run");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"typed\n").expect("type");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\n");
    let refused = wharf(&["-H", "ssh://me:secret@there", "ps"]);
    assert!(refused.stderr.contains("unable to parse docker host"), "{}", refused.stderr);
}

#[test]
fn with_tls_and_certificates_of_clients() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("tls");
    std::fs::create_dir(&folder).expect("make a folder");
    if e2e::certificates(&folder).is_none() {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: TLS needs openssl\n")));
        return;
    }
    let file = |name: &str| folder.join(name).display().to_string();
    let mut second = engine.namespaces().command(&Engine::executable().display().to_string());
    let other = engine.folder().join("other");
    second.args(["daemon", "--data-root", &other.join("data").display().to_string()]);
    second.args(["--exec-root", &other.join("exec").display().to_string(), "--pidfile", ""]);
    second.args(["--bridge", "none", "--cgroup-parent", &format!("{}/other", engine.cgroup_parent())]);
    second.args(["-H", "tcp://127.0.0.1:23760", "-H", &format!("unix://{}", other.join("sock").display())]);
    second.args(["--tlsverify", "--tlscacert", &file("ca.pem"), "--tlscert", &file("server.pem")]);
    second.args(["--tlskey", &file("server-key.pem")]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut second = second.spawn().expect("start another daemon");
    testkit::until("the other daemon", std::time::Duration::from_secs(20), || {
        std::os::unix::net::UnixStream::connect(other.join("sock")).ok().map(drop)
    });
    let config = engine.folder().join("config-tls");
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client-key.pem"));
    let host = ["-H", "tcp://127.0.0.1:23760"];
    let verified = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let asked = ["version", "-f", "{{.Server.Os}}"];
    for line in e2e::command_lines() {
        let ask = |flags: &[&str]| run(&engine, line, &config, &[host.as_slice(), flags, &asked].concat());
        assert_eq!(ask(&verified).line(), "linux", "{line:?}");
        assert_ne!(ask(&["--tlsverify", "--tlscacert", &ca]).code, 0, "{line:?} without a certificate");
        assert_eq!(
            ask(&["--tls", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key]).line(),
            "linux",
            "{line:?}"
        );
        assert_ne!(ask(&[]).code, 0, "{line:?} in the clear");
    }
    // A context keeps the files, and a hijacked connection goes both ways.
    let docker = format!("host=tcp://127.0.0.1:23760,ca={ca},cert={cert},key={key}");
    run(&engine, CommandLine::Wharf, &config, &["context", "create", "far", "--docker", &docker]).ok();
    let archive = engine.folder().join("busybox.tar").display().to_string();
    let far =
        |arguments: &[&str]| run(&engine, CommandLine::Wharf, &config, &[&["-c", "far"], arguments].concat());
    far(&["load", "-q", "-i", &archive]).ok();
    assert_eq!(
        far(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "cat; echo done"]).line(),
        "done"
    );
    let big = far(&["run", "--rm", "--network", "none", "busybox", "head", "-c", "3000000", "/dev/zero"]);
    assert_eq!(big.stdout.len(), 3_000_000);
    drop(Command::new("kill").arg(second.id().to_string()).status());
    second.wait().expect("wait for the other daemon");
}
