//! The same Dockerfiles through ours and through `BuildKit`, which alone has today's front end: what it made and what we made is equal
//! entry by entry, but for what docs/compat.md explains. Left out, and said to be, where `cargo xtask peers` could not make it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed set-up ends the test")]

use e2e::bundle::skipped;
use e2e::made::{Made, add_config, add_tree, context, different};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use testkit::web::Reply;
use testkit::{BuildKit, Engine, Namespaces, Scratch, Web};

/// A construct: its name, the Dockerfile after `FROM busybox`.
const CASES: &[(&str, &str)] = &[
    ("heredoc-run", "RUN <<EOF\necho one > /made\necho $HOME >> /made\nEOF"),
    ("heredoc-script", "RUN <<EOF\n#!/bin/busybox sh\necho $0 | wc -c > /made\nEOF"),
    ("heredoc-stdin", "RUN cat > /made <<EOF\nsome $PATH\nEOF\nRUN cat > /raw <<'EOF'\nsome $PATH\nEOF"),
    ("heredoc-tabs", "RUN cat > /made <<-EOF\n\t\tin\n\tout\n\tEOF"),
    ("heredoc-copy", "ARG W=who\nCOPY <<one <<\"two\" /docs/\n$W \"q\" 'q' \\$W\none\n$W \"q\"\ntwo"),
    ("heredoc-mode", "COPY --chmod=755 --chown=3:4 <<EOF /run.sh\n#!/bin/sh\nEOF"),
    ("link", "RUN mkdir -p /a && ln -s /a /b\nCOPY --link d /c/\nCOPY --link f /a/f"),
    ("link-owner", "COPY --link --chown=5:6 --chmod=600 d /new/deep/"),
    ("parents", "COPY --parents d/sub/b f /x/"),
    ("parents-pivot", "COPY --parents ./d/./sub/b /x/"),
    ("parents-pattern", "COPY --parents d/**/b d/*.o /x/"),
    ("exclude", "COPY --exclude=*.o --exclude=sub d /x/"),
    ("exclude-back", "COPY --exclude=** --exclude=!d/a . /x/"),
    ("add-exclude", "ADD --exclude=**/*.o . /x/"),
    ("chmod-symbolic", "COPY --chmod=u=rwX,go=rX d /x/"),
    ("secret", "RUN --mount=type=secret,id=key cat /run/secrets/key | wc -c > /made"),
    (
        "secret-mode",
        "RUN --mount=type=secret,id=key,target=/tmp/k,mode=0440,uid=7,gid=8 stat -c '%a %u %g' /tmp/k > /made",
    ),
    ("secret-variable", "RUN --mount=type=secret,id=key,env=KEY echo ${#KEY} > /made"),
    ("secret-none", "RUN --mount=type=secret,id=none ls /run/secrets > /made 2>&1 || true"),
    (
        "ssh",
        "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /made && stat -c '%a %u' $SSH_AUTH_SOCK >> /made",
    ),
    (
        "tmpfs",
        "RUN --mount=type=tmpfs,target=/tmp/t,size=1048576 touch /tmp/t/x && df -m /tmp/t | tail -1 | awk '{print $2}' > /made",
    ),
    (
        "cache",
        "RUN --mount=type=cache,target=/c,mode=0750,uid=3,gid=4 stat -c '%a %u %g' /c > /made; echo x > /c/x\nRUN --mount=type=cache,target=/c ls /c > /more",
    ),
    (
        "cache-from",
        "FROM busybox AS s\nRUN mkdir /src && echo x > /src/x\nFROM busybox\nRUN --mount=type=cache,from=s,source=/src,target=/c,id=filled cat /c/x > /made",
    ),
    ("bind", "RUN --mount=type=bind,source=d,target=/mnt,rw cat /mnt/a > /made && echo y > /mnt/new"),
    (
        "bind-read-only",
        "RUN --mount=target=/ctx sh -c 'echo x > /ctx/x 2>/dev/null; echo $?' > /made; ls /ctx >> /made",
    ),
    ("network", "RUN --network=none ls /sys/class/net > /made"),
    (
        "shell-expansion",
        "ENV V=alpha.tar.gz\nENV A=${V%.gz} B=${V%%.*} C=${V#*.} D=${V##*.} E=${V/a/o} F=${V//a/o} G=${N:-d} H=${V:+s}",
    ),
    (
        "arg-platform",
        "ARG TARGETARCH\nARG TARGETOS\nARG TARGETPLATFORM\nRUN echo $TARGETOS $TARGETARCH $TARGETPLATFORM > /made",
    ),
    ("add-url", "ADD http://WEB/file /got\nADD --chmod=640 --chown=3 http://WEB/file /dir/"),
    (
        "add-checksum",
        "ADD --checksum=sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73 http://WEB/file /got",
    ),
    ("add-unpack", "ADD --unpack=false a.tar /x/\nADD --unpack a.tar /y/"),
    ("healthcheck", "HEALTHCHECK --start-interval=2s --start-period=1m CMD true"),
    ("volume", "VOLUME /v\nRUN mkdir -p /v/in && echo x > /v/x"),
    ("labels", "LABEL a=1 b=\"two words\"\nLABEL a=3"),
    ("workdir", "WORKDIR /one/two\nWORKDIR three\nRUN pwd > made"),
    ("user", "USER alice:wheel\nRUN id > /tmp/made\nCOPY f /tmp/f"),
    ("onbuild", "ONBUILD COPY f /x\nONBUILD RUN true"),
    ("expose", "EXPOSE 80 443/tcp 53/udp 8000-8002"),
    ("cmd-entry", "CMD echo a\nENTRYPOINT [\"x\"]\nSTOPSIGNAL 9\nSHELL [\"/bin/sh\",\"-ec\"]"),
    ("copy-self", "COPY . /all/\nCOPY d/l /linked\nCOPY d/l /folder/"),
    ("copy-over", "RUN mkdir /x && echo old > /x/a && ln -s /x /y\nCOPY d /y/"),
    ("copy-into-empty", "WORKDIR /app\nCOPY . ."),
    (
        "copy-stage-owner",
        "RUN mkdir -p /o/p && echo x > /o/p/q && chown -R 7:8 /o && chmod 4711 /o/p/q\nFROM busybox\nCOPY --from=0 /o /new\nCOPY --from=0 --chown=1 /o /other",
    ),
];

/// What differs on purpose (docs/compat.md, *Building*): constructs (all that begin so), and the beginning of the entry.
const DIFFERENCES: &[(&str, &str)] = &[
    // `--chmod` is the mode of what is copied, not of the folders above it.
    ("link-owner", "new"),
    ("add-url", "dir"),
    // A cache is what its name says, whoever owns it.
    ("cache", "more"),
];

/// The file that URLs have.
const FILE: &str = "content";

/// The layers of an image in an OCI archive, put on one another, and its configuration.
fn unpacked(archive: &Path) -> Made {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap().trim_start_matches("sha256:");
        files[&format!("blobs/sha256/{digest}")].as_slice()
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let mut manifest = json(blob(&json(&files["index.json"])["manifests"][0]["digest"]));
    while manifest["manifests"].is_array() {
        manifest = json(blob(&manifest["manifests"][0]["digest"]));
    }
    let mut all = Made::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let mut bytes = Vec::new();
        let blob = blob(&layer["digest"]);
        if blob.starts_with(&[0x1f, 0x8b]) {
            flate2::read::GzDecoder::new(blob).read_to_end(&mut bytes).unwrap();
        } else {
            bytes.extend_from_slice(blob);
        }
        let mut upper = Made::new();
        add_tree(&mut upper, &bytes);
        for (name, line) in upper {
            let (folder, last) =
                name.rsplit_once('/').map_or(("", name.as_str()), |(folder, last)| (folder, last));
            let below = |path: &str| {
                format!("{}{path}", if folder.is_empty() { String::new() } else { format!("{folder}/") })
            };
            match last.strip_prefix(".wh.") {
                Some(".wh..opq") => all.retain(|other, _| !other.starts_with(&below(""))),
                Some(gone) => {
                    let gone = below(gone);
                    all.retain(|other, _| *other != gone && !other.starts_with(&format!("{gone}/")));
                }
                None => drop(all.insert(name, line)),
            }
        }
    }
    let config = json(blob(&manifest["config"]["digest"]));
    add_config(&mut all, &config["config"], &config["author"]);
    all
}

/// What both are given.
struct Inputs {
    key: String,
    agent: String,
}

fn ours(engine: &Engine, context: &Path, inputs: &Inputs) -> Made {
    let archive = engine.folder().join("made.tar");
    let context = context.display().to_string();
    let output = format!("type=oci,dest={}", archive.display());
    let secret = format!("id=key,src={}", inputs.key);
    let agent = format!("default={}", inputs.agent);
    let words =
        ["build", "--progress", "plain", "-t", "made", "-o", &output, "--secret", &secret, "--ssh", &agent];
    engine.wharf(&[&words[..], &[context.as_str()]].concat()).ok();
    unpacked(&archive)
}

fn theirs(kit: &BuildKit, context: &Path, inputs: &Inputs) -> Made {
    let archive = kit.scratch().join("made.tar");
    let mut words = kit.words(context);
    for (flag, value) in [
        ("--output", format!("type=oci,dest={}", archive.display())),
        ("--secret", format!("id=key,src={}", inputs.key)),
        ("--ssh", format!("default={}", inputs.agent)),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = kit.command(&words).stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    unpacked(&archive)
}

#[test]
fn trees_and_configurations_are_buildkits() {
    let Some(kit) = BuildKit::start(Namespaces::new(), Scratch::new()) else {
        return skipped("buildkitd and buildctl could not be had from Go's module proxy");
    };
    let engine = Engine::with_busybox();
    let serve = |namespaces: &Namespaces| {
        Web::start(namespaces, |request| match request.path.as_str() {
            "/file" => Reply::ok("text/plain", FILE),
            _ => Reply::status(404),
        })
    };
    let _web = (serve(engine.namespaces()), serve(kit.namespaces()));
    let inputs = Scratch::new();
    let given = Inputs {
        key: inputs.join("key").display().to_string(),
        agent: inputs.join("agent").display().to_string(),
    };
    std::fs::write(&given.key, "secret").unwrap();
    let _agent = std::os::unix::net::UnixListener::bind(&given.agent).unwrap();
    let mut all = Vec::new();
    for (name, file) in CASES {
        let context = context(&format!("FROM busybox\n{}\n", file.replace("WEB", Web::HOST)));
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| theirs(&kit, context.path(), &given));
            (ours(&engine, context.path(), &given), theirs.join().unwrap())
        });
        let known =
            |key: &str| DIFFERENCES.iter().any(|(of, entry)| name.starts_with(of) && key.starts_with(entry));
        all.extend(different(name, &ours, &theirs, &known));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
