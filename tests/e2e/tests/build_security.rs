//! What a build must not do: lead out of it, get more than it is given, keep secrets. The builder's rows of the list of
//! attacks are named at the tests.

use e2e::building::{build, context, in_image, text};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use testkit::random::{Random, number};
use testkit::{Engine, Scratch};

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

/// The bytes of a key in an agent, and those that the agent answers with, are nowhere after a build that used it.
#[test]
fn keys_of_agents_stay_nowhere() {
    let keys = Scratch::new();
    let (key, socket) = (text(&keys.join("key")), text(&keys.join("agent")));
    let engine = Engine::with_busybox();
    if engine.run("sh", &["-c", "command -v ssh-keygen && command -v ssh-agent && command -v ssh-add"]).code
        != 0
    {
        return e2e::bundle::skipped("openssh-client is not installed");
    }
    engine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "whose", "-f", &key]).ok();
    let mut agent = engine
        .command("ssh-agent")
        .args(["-D", "-a", &socket])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    testkit::until("the agent", std::time::Duration::from_secs(20), || {
        let mut command = engine.command("ssh-add");
        command.env("SSH_AUTH_SOCK", &socket).args(["-q", &key]).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(())
    });
    // The tool of the host, with what it is linked with, asks the agent from within a command.
    let tools = Scratch::new();
    let script = format!(
        "cp -L $(command -v ssh-add) $(ldd $(command -v ssh-add) | grep -o '/[^ ]*') {}",
        text(tools.path())
    );
    engine.run("sh", &["-c", &script]).ok();
    let file = "FROM busybox\nRUN --mount=type=ssh --mount=from=tools,target=/t LD_LIBRARY_PATH=/t /t/ld-linux* /t/ssh-add -l | cut -d' ' -f1,3 > /seen\nRUN --mount=type=ssh,required true\n";
    let context = context(&[("Dockerfile", file)]);
    let flags = [
        "--ssh".to_owned(),
        format!("default={socket}"),
        "--build-context".to_owned(),
        format!("tools={}", text(tools.path())),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = build(&engine, &context, &flags);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(in_image(&engine, "cat /seen"), "256 whose");
    let private = std::fs::read_to_string(&key).unwrap();
    let public = std::fs::read_to_string(format!("{key}.pub")).unwrap();
    let mut needles: Vec<&str> = private.lines().filter(|line| !line.starts_with('-')).collect();
    needles.extend(public.split(' ').nth(1));
    let history = engine.wharf(&["history", "--no-trunc", "built"]).ok();
    for needle in needles {
        assert_eq!(holds(engine.folder(), needle.as_bytes()), None, "data, logs, sockets' folders");
        assert!(!history.contains(needle) && !output.stderr.contains(needle));
    }
    // In binary, too: the private part is the last 64 bytes of what an agent keeps of such a key.
    let mut command = engine.command("sh");
    command.args(["-c", &format!("grep -v -- - {key} | base64 -d")]);
    let bytes = command.output().unwrap().stdout;
    let begin = bytes.windows(4).rposition(|part| part == [0, 0, 0, 64]).unwrap() + 4;
    assert_eq!(holds(engine.folder(), &bytes[begin..begin + 32]), None);
    assert!(!history.contains(&socket));
    // A key itself is no agent.
    let refused = build(&engine, &context, &["--ssh", &format!("default={key}")]);
    assert!(refused.code != 0 && refused.stderr.contains("is no agent's socket"), "{}", refused.stderr);
    agent.kill().unwrap();
    agent.wait().unwrap();
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

/// CVE-2024-23651: two builds use a cache mount at once, and one swaps a folder of it for a link while the other has something
/// mounted there.
#[test]
fn a_swapped_link_in_a_shared_cache_mount_leads_nowhere() {
    let engine = Engine::with_busybox();
    let outside = Scratch::new();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let there = text(outside.path());
    let mount = "--mount=type=cache,id=race,target=/c";
    let swapping = format!(
        "FROM busybox\nRUN {mount} cd /c; for i in $(seq 3000); do mkdir -p sub; rm -rf sub; ln -s {there} sub; rm -f sub; test -e /c/stop && break; done; true\n"
    );
    let swapping = context(&[("Dockerfile", &swapping)]);
    let racing = format!(
        "FROM busybox\nRUN {mount} --mount=type=tmpfs,target=/c/sub/deep touch /c/sub/deep/new /c/sub/new; true\nRUN {mount} --mount=type=bind,target=/c/sub cp /c/sub/evil /c/sub/deep; true\n"
    );
    let racing = context(&[("Dockerfile", &racing), ("evil", "evil")]);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| build(&engine, &swapping, &["--no-cache"]));
        for _ in 0..8 {
            // A mount that fails because its place is gone at that moment is right.
            drop(build(&engine, &racing, &["--no-cache"]));
        }
        let stop = context(&[("Dockerfile", &format!("FROM busybox\nRUN {mount} touch /c/stop\n"))]);
        build(&engine, &stop, &["--no-cache"]).ok();
        assert_eq!(swapper.join().unwrap().code, 0);
    });
    assert_eq!(std::fs::read_to_string(outside.join("precious")).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// CVE-2019-13139: what is named in a URL becomes no option of git or ssh.
#[test]
fn urls_of_repositories_smuggle_no_options() {
    let engine = Engine::with_busybox();
    let place = Scratch::new();
    let mark = text(&place.join("mark"));
    for url in [
        format!("git@--upload-pack=touch {mark}:x.git"),
        format!("git://127.0.0.1:1/x.git#--upload-pack=touch {mark}"),
        format!("ssh://-oProxyCommand=touch {mark}/x.git"),
        format!("ssh://127.0.0.1:1/--upload-pack=touch {mark}.git"),
        format!("https://127.0.0.1:1/x.git?ref=--upload-pack=touch {mark}"),
        format!("https://127.0.0.1:1/x.git?branch=$(touch {mark})"),
        format!("git@127.0.0.1:x.git#main:--config=core.sshCommand=touch {mark}"),
    ] {
        let output = engine.wharf(&["build", "-t", "no", &url]);
        assert_ne!(output.code, 0, "{url}");
        let quoted = url.replace(' ', "\\ ");
        let add = context(&[("Dockerfile", &format!("FROM busybox\nADD {quoted} /x/\n"))]);
        assert_ne!(build(&engine, &add, &[]).code, 0, "{url}");
        assert!(!place.join("mark").exists(), "{url}: {}", output.stderr);
    }
}

/// CVE-2024-23653: every way to ask for a privileged command that was not allowed.
#[test]
fn privileges_are_given_by_the_one_who_builds_alone() {
    let engine = Engine::with_busybox();
    let refused = "security.insecure is not allowed";
    for file in [
        "FROM busybox\nRUN --security=insecure true\n",
        "FROM busybox AS b\nONBUILD RUN --security=insecure true\nFROM b\n",
        "FROM busybox\nRUN --security=insecure <<E\ntrue\nE\n",
        "FROM busybox AS a\nRUN --security=insecure true\nFROM busybox\nCOPY --from=a / /x\n",
    ] {
        let context = context(&[("Dockerfile", file)]);
        for output in [build(&engine, &context, &[]), e2e::building::classic(&engine, &context, &[])] {
            let told = format!("{}{}", output.stdout, output.stderr);
            assert!(output.code != 0 && told.contains(refused), "{file}: {told}");
        }
        assert_ne!(build(&engine, &context, &["--allow", "network.host"]).code, 0);
    }
    let allowed = context(&[(
        "Dockerfile",
        "FROM busybox\nRUN --security=insecure mount -t tmpfs x /tmp && touch /tmp/x\n",
    )]);
    assert_eq!(build(&engine, &allowed, &["--allow", "security.insecure"]).code, 0);
}

/// Parameters of the builder's requests.
const PARAMETERS: [&str; 24] = [
    "dockerfile",
    "t",
    "remote",
    "q",
    "nocache",
    "cachefrom",
    "pull",
    "memory",
    "memswap",
    "cpushares",
    "cpusetcpus",
    "buildargs",
    "shmsize",
    "squash",
    "labels",
    "networkmode",
    "platform",
    "target",
    "outputs",
    "ulimits",
    "securityopt",
    "extrahosts",
    "buildid",
    "id",
];

/// What they are given.
const VALUES: [&str; 16] = [
    "",
    "0",
    "-1",
    "99999999999999999999",
    "null",
    "[]",
    "{}",
    "{\"a\":null}",
    "[\"x\"]",
    "{\"a\":1}",
    "x:y@z",
    "../../x",
    "%00",
    "linux/amd64",
    "[{\"Name\":\"nofile\",\"Soft\":-2}]",
    "container:none",
];

/// CVE-2024-23650: requests that no client sends; replayable as those of `api_fuzz`.
#[test]
fn no_request_ends_the_daemon() {
    let engine = Engine::with_busybox();
    let mut random = Random::of_environment();
    let rounds = number("WHARF_ROUNDS").unwrap_or(250);
    let folder = context(&[("Dockerfile", "FROM busybox\nCOPY f /f\n"), ("f", "f")]);
    let archive = folder.join("context.tar");
    engine.run("tar", &["-cf", &text(&archive), "-C", &text(folder.path()), "Dockerfile", "f"]).ok();
    let archive = std::fs::read(archive).unwrap();
    let document = br#"{"events":true,"dockerfile":"FROM scratch\nCOPY f /\n","secrets":{"k":"aGk="},"folders":["x"],"platforms":["linux/arm64"],"annotations":[{"place":"index","name":"a","value":"b"}],"cache_from":[{"folder":0}],"listed":"x"}"#;
    let own = [&(document.len() as u64).to_be_bytes()[..], document, &archive].concat();
    let list = br#"[{"path":"context","mode":16877,"time":7,"stamp":""},{"path":"context/a","mode":33188,"time":7,"stamp":"1"}]"#;
    let socket = engine.host().trim_start_matches("unix://").to_owned();
    for round in 0..rounds {
        let kinds: [(&str, &[u8], &str); 5] = [
            ("/build", &archive, "application/x-tar"),
            ("/build", &own, "application/vnd.wharf.build.v1"),
            ("/build/context", list, "application/json"),
            ("/build/cancel", b"", "application/json"),
            ("/build/prune", b"", "application/json"),
        ];
        let (path, seed, kind) = *random.one(&kinds);
        let body = random
            .changed(&[seed], &["\0", "../", "ustar", "\"", "{", "18446744073709551615", "FROM", "RUN"]);
        let mut query: Vec<String> = Vec::new();
        for _ in 0..random.below(4) {
            let (name, value): (&&str, &&str) = (random.one(&PARAMETERS), random.one(&VALUES));
            query.push(format!("{name}={}", encode(value)));
        }
        let head = format!(
            "POST {path}?{} HTTP/1.1\r\nHost: d\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            query.join("&"),
            body.len()
        );
        let mut stream = UnixStream::connect(&socket).unwrap();
        // The answer may come, and the connection end, before all is sent.
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        let status: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        assert!((200..502).contains(&status), "round {round}: {head}{answer}");
        assert!(
            !answer.contains("the builder failed") && !answer.contains("panicked"),
            "round {round}: {head}{answer}"
        );
    }
    assert!(!engine.daemon_log().contains("panicked"), "{}", engine.daemon_log());
    build(&engine, &folder, &[]).ok();
    assert_eq!(in_image(&engine, "cat /f"), "f");
}

/// Writes a value as a query has it.
fn encode(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
