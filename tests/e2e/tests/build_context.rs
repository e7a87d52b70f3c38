//! Build contexts: what of them travels, and those from elsewhere (archives and repositories by URL), with ssh agents.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed set-up ends the test")]

use e2e::building::{build, context, in_image, text};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::web::{Reply, Web};
use testkit::{Engine, Scratch};

/// A socket that passes everything on to the engine's, and counts what goes there.
fn counting(engine: &Engine, folder: &Scratch) -> (String, Arc<AtomicU64>) {
    let path = folder.join("counting.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let there = engine.host().trim_start_matches("unix://").to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let engine = UnixStream::connect(&there).unwrap();
            let back = (engine.try_clone().unwrap(), client.try_clone().unwrap());
            let count = Arc::clone(&count);
            std::thread::spawn(move || pass(client, engine, &count));
            std::thread::spawn(move || pass(back.0, back.1, &AtomicU64::new(0)));
        }
    });
    (format!("unix://{}", text(&path)), sent)
}

fn pass(mut from: UnixStream, mut to: UnixStream, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

const SHOW: &str = "cd /all && find . | LC_ALL=C sort | grep -v -e ocker -e skip | while read f; do test -f $f && ! test -L $f && echo \"$f $(stat -c %a $f) $(head -c 9 $f)\" || echo \"$f $(readlink $f)\"; done";

fn shown(folder: &Path) -> String {
    let script = SHOW.replace("/all", &text(folder));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn only_what_has_changed_travels() {
    let engine = Engine::with_busybox();
    let sockets = Scratch::new();
    let (host, sent) = counting(&engine, &sockets);
    let context = context(&[
        ("Dockerfile", "FROM busybox\nCOPY . /all/\n"),
        ("d/small", "small"),
        ("gone/x", "x"),
        (".dockerignore", "Dockerfile\n.dockerignore\n*.skip\n"),
        ("not.skip", "not"),
        ("turns/into", "a file"),
    ]);
    let big: Vec<u8> = (0..4_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    std::fs::write(context.join("big"), &big).unwrap();
    symlink("d/small", context.join("link")).unwrap();
    let built = |what: &str| {
        sent.store(0, Ordering::SeqCst);
        let mut command = engine.wharf_command();
        command.args(["-H", &host, "build", "-q", "-t", "built"]).arg(context.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        let expect = shown(context.path());
        assert_eq!(in_image(&engine, SHOW), expect, "{what}");
        (sent.load(Ordering::SeqCst), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (all, first) = built("all of it");
    assert!(all > 4_000_000, "{all} bytes");
    // What is as new as the list of it is sent once more.
    built("what may have changed meanwhile");
    let (none, again) = built("nothing new");
    assert!(none < 20_000, "{none} bytes");
    assert_eq!(again, first);
    std::fs::write(context.join("d/small"), "other").unwrap();
    std::fs::write(context.join("d/new"), "new").unwrap();
    std::fs::remove_dir_all(context.join("gone")).unwrap();
    std::fs::remove_dir_all(context.join("turns")).unwrap();
    std::fs::write(context.join("turns"), "now a file").unwrap();
    std::fs::remove_file(context.join("link")).unwrap();
    symlink("d/new", context.join("link")).unwrap();
    let (few, changed) = built("some changes");
    assert!(few < 20_000, "{few} bytes");
    assert_ne!(changed, first);
    std::fs::set_permissions(context.join("d/new"), std::fs::Permissions::from_mode(0o700)).unwrap();
    built("another mode");
    // What stays here is in the cache's list, and goes with it; the next build sends all again.
    engine.wharf(&["builder", "prune", "-af", "--filter", "type=source.local"]).ok();
    let (all, _) = built("all of it again");
    assert!(all > 4_000_000, "{all} bytes");
}

#[test]
fn builds_of_one_context_at_the_same_time() {
    let engine = Engine::with_busybox();
    let context =
        context(&[("Dockerfile", "FROM busybox\nCOPY . /all/\nRUN cat /all/f > /read\n"), ("f", "1")]);
    build(&engine, &context, &[]).ok();
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|number| {
                let (engine, context) = (&engine, &context);
                let tag = format!("many:{number}");
                scope.spawn(move || build(engine, context, &["--no-cache", "-t", &tag]).ok())
            })
            .collect();
        for build in builds {
            build.join().unwrap();
        }
    });
    assert_eq!(in_image(&engine, "cat /read"), "1");
}

/// An archive of a context.
fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn contexts_and_files_by_url() {
    let engine = Engine::with_busybox();
    let archive = packed(&[("Dockerfile", "FROM busybox\nCOPY f /f\n"), ("f", "from an archive")]);
    let _web = Web::start(engine.namespaces(), move |request| match request.path.as_str() {
        "/context.tar" => Reply::ok("application/x-tar", archive.clone()),
        "/Dockerfile" => Reply::ok("text/plain", "FROM busybox\nRUN echo alone > /f\n"),
        "/copying" => Reply::ok("text/plain", "FROM busybox\nCOPY f /f\n"),
        "/file" => Reply::ok("text/plain", "content"),
        _ => Reply::status(404),
    });
    let url = |path: &str| format!("http://{}/{path}", Web::HOST);
    let from = |place: &str, flags: &[&str]| {
        engine.wharf(&[&["build", "--progress", "plain", "-t", "built"], flags, &[place]].concat())
    };
    from(&url("context.tar"), &[]).ok();
    assert_eq!(in_image(&engine, "cat /f"), "from an archive");
    from(&url("Dockerfile"), &[]).ok();
    assert_eq!(in_image(&engine, "cat /f"), "alone");
    // The Dockerfile alone is elsewhere, or a further context.
    let here = context(&[("f", "from here")]);
    let folder = text(here.path());
    let file = from(&folder, &["-f", &url("copying")]);
    assert_eq!(file.code, 0, "{}", file.stderr);
    assert_eq!(in_image(&engine, "cat /f"), "from here");
    let more = format!("more={}", url("context.tar"));
    let file = context(&[("Dockerfile", "FROM busybox\nCOPY --from=more f /f\n")]);
    build(&engine, &file, &["--build-context", &more]).ok();
    assert_eq!(in_image(&engine, "cat /f"), "from an archive");
    let unknown = build(&engine, &file, &["--build-context", "more=input://x"]);
    assert!(unknown.stderr.contains("unsupported context source input for more"), "{}", unknown.stderr);
    let missing = from(&url("nothing"), &[]);
    assert!(missing.stderr.contains("404"), "{}", missing.stderr);
    let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    let add = |flags: &str, path: &str| {
        let file = format!("FROM busybox\nADD {flags} {} /got\n", url(path));
        build(&engine, &context(&[("Dockerfile", &file)]), &[])
    };
    add(&format!("--checksum=sha256:{sum}"), "file").ok();
    assert_eq!(in_image(&engine, "cat /got; stat -c ' %a' /got"), "content 600");
    for (flags, path, expect) in [
        (format!("--checksum=sha256:{}", sum.replace("ed70", "0000")), "file", "digest mismatch of http://"),
        ("--checksum=sha256:abc".to_owned(), "file", "abc"),
        (String::new(), "nothing", "404"),
    ] {
        let output = add(&flags, path);
        assert!(output.code != 0 && output.stderr.contains(expect), "{flags} {path}: {}", output.stderr);
        assert!(output.stderr.contains("2 | ADD"), "{}", output.stderr);
    }
}

/// Runs git as somebody.
fn git(folder: &Path, line: &str) -> String {
    let mut command = std::process::Command::new("git");
    command.current_dir(folder).args([
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
    ]);
    let output = command.args(line.split(' ')).env("HOME", "/nonexistent").output().unwrap();
    assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Gives a repository a branch with a part that is a repository of its own.
fn with_part(served: &Scratch, repository: &Path) {
    let part = served.join("part.git");
    std::fs::create_dir_all(&part).unwrap();
    git(&part, "init -q");
    std::fs::write(part.join("p"), "part").unwrap();
    git(&part, "add .");
    git(&part, "commit -q -m part");
    let parts = git(&part, "rev-parse HEAD");
    git(repository, "checkout -q -b parts");
    let write = |name: &str, text: &str| std::fs::write(repository.join(name), text).unwrap();
    write(".gitmodules", "[submodule \"part\"]\n\tpath = part\n\turl = git://127.0.0.1/part.git\n");
    write(
        "Dockerfile",
        "FROM busybox\nCOPY . /all\nRUN cd /all && ls -d .git part/p > /f 2>/dev/null || true\n",
    );
    git(repository, "add .");
    git(repository, &format!("update-index --add --cacheinfo 160000,{parts},part"));
    git(repository, "commit -q -m parts");
    git(repository, "checkout -q -f main");
}

#[test]
fn contexts_and_files_of_repositories() {
    if !Path::new("/usr/lib/git-core/git-daemon").exists() {
        eprintln!("skipped: git is not installed");
        return;
    }
    let engine = Engine::with_busybox();
    let served = Scratch::new();
    let repository = served.join("app.git");
    std::fs::create_dir_all(repository.join("sub")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(repository.join(name), text).unwrap();
    git(&repository, "init -q");
    write("Dockerfile", "FROM busybox\nCOPY f /f\n");
    write("sub/Dockerfile", "FROM busybox\nCOPY g /f\n");
    write("f", "one");
    write("sub/g", "below");
    git(&repository, "add .");
    git(&repository, "commit -q -m first");
    git(&repository, "tag v1");
    let first = git(&repository, "rev-parse HEAD");
    with_part(&served, &repository);
    write("f", "two");
    git(&repository, "commit -q -a -m second");
    let second = git(&repository, "rev-parse HEAD");
    let base = format!("--base-path={}", text(served.path()));
    let mut server = engine.command("git");
    server.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &base, &text(served.path())]);
    let mut server = server.stderr(std::process::Stdio::null()).spawn().unwrap();
    testkit::until("git to answer", std::time::Duration::from_secs(20), || {
        let asked = engine.command("git").args(["ls-remote", "git://127.0.0.1/app.git"]).output().unwrap();
        asked.status.success().then_some(())
    });
    let url = "git://127.0.0.1/app.git";
    let v1 = format!("{url}#v1");
    let commit = format!("{url}#{first}");
    let below = format!("{url}#main:sub");
    let query = format!("{url}?tag=v1&subdir=sub&commit={}", first.split_at(12).0);
    for (place, expect) in
        [(url, "two"), (&v1, "one"), (&commit, "one"), (&below, "below"), (&query, "below")]
    {
        engine.wharf(&["build", "-q", "-t", "built", place]).ok();
        assert_eq!(in_image(&engine, "cat /f; test ! -e /.git"), expect, "{place}");
    }
    for (query, expect) in [
        ("", "part/p"),
        ("&submodules=false", ""),
        ("&submodules=true&keep-git-dir=1", ".git\npart/p"),
        ("&keep-git-dir&submodules=0", ".git"),
    ] {
        engine.wharf(&["build", "-q", "-t", "built", &format!("{url}?branch=parts{query}")]).ok();
        assert_eq!(in_image(&engine, "cat /f"), expect, "{query}");
    }
    for (place, expect) in [
        (format!("{url}#nothing"), "git fetch"),
        (format!("{url}#main:../none"), "the repository has no folder"),
        (format!("{url}?commit={second}&tag=v1"), "the commit of"),
    ] {
        let output = engine.wharf(&["build", "-t", "no", &place]);
        assert!(output.code != 0 && output.stderr.contains(expect), "{place}: {}", output.stderr);
    }
    let add =
        |line: &str| build(&engine, &context(&[("Dockerfile", &format!("FROM busybox\n{line}\n"))]), &[]);
    add(&format!("ADD --keep-git-dir=true --checksum={second} {url} /app")).ok();
    assert_eq!(in_image(&engine, "cat /app/f /app/.git/HEAD"), format!("two{second}"));
    add(&format!("ADD {url}#v1:sub /app")).ok();
    assert_eq!(in_image(&engine, "ls -a /app | tail -n +3; cat /app/g"), "Dockerfile\ng\nbelow");
    let again = add(&format!("ADD {url}#v1:sub /app"));
    assert!(again.stderr.contains(" CACHED"), "{}", again.stderr);
    let wrong = add(&format!("ADD --checksum={first} {url} /app"));
    assert!(wrong.stderr.contains(&format!("is {second}, not {first}")), "{}", wrong.stderr);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn contexts_of_every_kind_are_bases() {
    let engine = Engine::with_busybox();
    let archive = packed(&[("bin/f", "from an archive")]);
    let _web = Web::start(engine.namespaces(), move |request| match request.path.as_str() {
        "/context.tar" => Reply::ok("application/x-tar", archive.clone()),
        _ => Reply::status(404),
    });
    let layout = Scratch::new();
    let digest = testkit::image::write_busybox_layout(layout.path());
    let tree =
        context(&[("f", "from a folder"), ("left-out", ""), (".dockerignore", "left-out\n.dockerignore\n")]);
    let own =
        context(&[("Dockerfile", "FROM base AS one\nRUN true\nFROM scratch\nCOPY --from=base / /all/\n")]);
    let at = text(layout.path());
    let shown = |flags: &[&str], target: &str| {
        let out = Scratch::new();
        let folder = text(&out.join("files"));
        build(&engine, &own, &[flags, &["--target", target, "-o", &folder]].concat()).ok();
        let top = if target == "0" { out.join("files") } else { out.join("files/all") };
        let mut names: Vec<String> = std::fs::read_dir(top)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !matches!(name.as_str(), "dev" | "proc" | "sys" | "etc"))
            .collect();
        names.sort();
        names.join(" ")
    };
    std::fs::write(own.join("Dockerfile"), "FROM base\nENV A=1\nFROM scratch\nCOPY --from=base / /all/\n")
        .unwrap();
    let image = "bin home root tmp var";
    for (value, expect) in [
        (text(tree.path()), "f"),
        (format!("http://{}/context.tar", Web::HOST), "bin"),
        ("docker-image://busybox".to_owned(), image),
        (format!("oci-layout://{at}"), image),
        (format!("oci-layout://{at}:latest"), image),
        (format!("oci-layout://{at}@{digest}"), image),
    ] {
        let flag = format!("base={value}");
        for target in ["0", ""] {
            assert_eq!(shown(&["--build-context", &flag], target), expect, "{value} {target:?}");
        }
    }
    // What was loaded for it has gone.
    assert!(
        !engine.wharf(&["images", "-a", "--format", "{{.Repository}}"]).ok().contains("wharf-build-context")
    );
    for (value, expect) in [
        (format!("oci-layout://{at}:v9"), "has no image v9"),
        ("oci-layout:///nothing".to_owned(), "index.json"),
        ("target:one".to_owned(), "unsupported context source target for base"),
    ] {
        let output = build(&engine, &own, &["--build-context", &format!("base={value}")]);
        assert!(output.code != 0 && output.stderr.contains(expect), "{value}: {}", output.stderr);
    }
}

#[test]
fn an_agent_is_there_for_one_command() {
    let engine = Engine::with_busybox();
    let agent = Scratch::new();
    let socket = text(&agent.join("agent"));
    let _listener = UnixListener::bind(&socket).unwrap();
    let file = "FROM busybox\nRUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /where\nUSER alice\nRUN --mount=type=ssh,id=other,target=/agent,mode=0640,uid=1000,gid=99 stat -c '%a %u:%g' /agent > /tmp/agent\nUSER root\nRUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /agent && test ! -e /run/buildkit\n";
    let context = context(&[("Dockerfile", file)]);
    let flags = ["--ssh", &format!("default={socket}"), "--ssh", &format!("other={socket}")];
    build(&engine, &context, &flags).ok();
    assert_eq!(in_image(&engine, "cat /tmp/agent"), "640 1000:99");
    assert_eq!(
        in_image(&engine, "cat /where; ls -d /run /agent 2>/dev/null; true"),
        "/run/buildkit/ssh_agent.0"
    );
    let history = engine.wharf(&["history", "--no-trunc", "built"]).ok();
    assert!(!history.contains(&socket), "{history}");
    let without = build(&engine, &context, &["--no-cache"]);
    assert!(without.stderr.contains("unset ssh forward key default"), "{}", without.stderr);
}
