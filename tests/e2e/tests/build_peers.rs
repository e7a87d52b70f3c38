//! The same Dockerfiles, one per construct, through ours, through dockerd's classic builder (Debian's 20.10) and through buildah:
//! the resulting trees and configurations are equal, but for what docs/compat.md explains.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code: a failed set-up ends the test")]

use e2e::made::{Made, add_config, add_tree, context, different, ours};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use testkit::{Engine, Scratch};

/// A construct: its name, the Dockerfile after `FROM busybox`, flags.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "env",
        "ENV a=1 b=\"x y\" c=$a d='q $a' e=z\\ z\nENV old value with  spaces\nENV p=${a:-d}${none:-d}${a:+s}",
        &[],
    ),
    (
        "label",
        "LABEL a=b \"c d\"=\"e f\" multi=\"line1 \\\nline2\"\nLABEL old style value\nLABEL v=$HOME",
        &[],
    ),
    ("expose", "EXPOSE 80 443/tcp 53/udp 8000-8002", &[]),
    ("volume", "VOLUME /v1 /v2\nVOLUME [\"/v3 x\"]", &[]),
    ("user", "USER alice\nRUN id > /tmp/id", &[]),
    ("user-number", "USER 1000:99\nRUN id -u > /tmp/id; id -g >> /tmp/id", &[]),
    ("workdir", "WORKDIR /a/b\nWORKDIR c\nENV X=/q\nWORKDIR $X/r\nRUN pwd > /tmp/pwd", &[]),
    ("cmd-shell", "CMD echo hi there", &[]),
    ("cmd-exec", "CMD [\"echo\",\"hi\"]", &[]),
    ("entrypoint", "CMD [\"a\"]\nENTRYPOINT [\"/bin/echo\",\"x\"]", &[]),
    ("entrypoint-resets-cmd", "ENTRYPOINT /bin/echo x", &[]),
    ("entrypoint-cleared", "ENTRYPOINT [\"x\"]\nENTRYPOINT []", &[]),
    ("shell", "SHELL [\"/bin/sh\",\"-ec\"]\nRUN echo hi > /tmp/x\nCMD foo", &[]),
    (
        "health",
        "HEALTHCHECK --interval=5s --timeout=3s --retries=2 --start-period=1m CMD wget -q x || exit 1",
        &[],
    ),
    ("health-none", "HEALTHCHECK CMD [\"a\",\"b\"]\nHEALTHCHECK NONE", &[]),
    ("stop-signal", "STOPSIGNAL SIGINT", &[]),
    ("maintainer", "MAINTAINER Me <me@x>", &[]),
    ("onbuild", "ONBUILD RUN echo x > /tmp/x\nONBUILD COPY . /x", &[]),
    (
        "arg",
        "ARG A=1\nARG B\nARG C=$A-c\nRUN echo $A $B $C > /tmp/args\nENV E=$C",
        &["--build-arg", "B=given"],
    ),
    ("run-exec", "RUN [\"/bin/sh\",\"-c\",\"echo hi > /tmp/x\"]", &[]),
    (
        "run-deletes",
        "RUN echo a > /tmp/a && mkdir -p /tmp/d/e && echo b > /tmp/d/e/f\nRUN rm -r /tmp/d /bin/vi",
        &[],
    ),
    ("run-replaces-folder", "RUN mkdir /d && touch /d/old\nRUN rm -r /d && mkdir /d && touch /d/new", &[]),
    (
        "run-modes",
        "RUN umask 077; mkdir /tmp/m; echo x > /tmp/m/f; chmod 4755 /tmp/m/f; ln -s f /tmp/m/l; ln /tmp/m/f /tmp/m/h; mkfifo /tmp/m/p; chown 5:6 /tmp/m",
        &[],
    ),
    ("run-nothing", "RUN true", &[]),
    ("copy-file", "COPY f /x", &[]),
    ("copy-into-new-folder", "COPY f /x/", &[]),
    ("copy-into-folder", "COPY f /tmp", &[]),
    ("copy-folder", "COPY d /x", &[]),
    ("copy-folder-slash", "COPY d/ /x/y/", &[]),
    ("copy-all", "COPY . /x/", &[]),
    ("copy-pattern", "COPY d/*.o f /x/", &[]),
    ("copy-json", "COPY [\"f\",\"d/a\",\"/x y/\"]", &[]),
    ("copy-over", "RUN mkdir -p /x/d && echo old > /x/a && ln -s /x /y\nCOPY d /y/", &[]),
    ("copy-over-link", "RUN echo old > /t && ln -s /t /s\nCOPY f /s", &[]),
    ("copy-keeps-folder", "RUN mkdir -m 700 /x\nCOPY d /x", &[]),
    ("copy-owner", "COPY --chown=1000:99 d /y\nCOPY --chown=alice f /z", &[]),
    ("copy-owner-number", "COPY --chown=12 f /z", &[]),
    ("copy-relative", "WORKDIR /w\nCOPY f .\nCOPY d ./e/", &[]),
    ("copy-as-user", "USER alice\nCOPY f /x", &[]),
    ("copy-variables", "ENV s=d t=/out\nCOPY $s/a ${t}/", &[]),
    ("add-file", "ADD f d /x/", &[]),
    ("add-archive", "ADD a.tar /x/", &[]),
    ("comments", "# c\nRUN echo 1 > /tmp/a && \\\n# inner\n   echo 2 > /tmp/b # tail", &[]),
    (
        "stages",
        "RUN mkdir -p /o/p && echo x > /o/p/q && chown -R 7:8 /o\nFROM busybox\nCOPY --from=0 /o /new\nCOPY --from=0 /o/p/q /f",
        &[],
    ),
    ("from-image", "COPY --from=busybox /etc/passwd /p", &[]),
    ("target", "ENV A=1\nFROM busybox AS two\nENV B=2\nFROM two\nENV C=3", &["--target", "two"]),
];

/// What differs from the classic builder on purpose: the construct and the entry (docs/compat.md, *Building*).
const DIFFERENCES: &[(&str, &str)] = &[];

/// What the classic builder has not and buildah has.
const NEWER: &[(&str, &str, &[&str])] = &[
    ("copy-mode", "COPY --chmod=640 d /x/\nADD --chmod=600 f /y", &[]),
    ("mount-tmpfs", "RUN --mount=type=tmpfs,target=/t touch /t/x && ls /t > /made", &[]),
    ("mount-bind", "RUN --mount=type=bind,source=d,target=/tmp/in cat /tmp/in/a /tmp/in/sub/b > /made", &[]),
    (
        "mount-stage",
        "RUN echo one > /one\nFROM busybox\nRUN --mount=type=bind,from=0,source=/one,target=/tmp/one cat /tmp/one > /made",
        &[],
    ),
    (
        "mount-cache",
        "RUN --mount=type=cache,target=/tmp/cache echo x > /tmp/cache/x && ls /tmp/cache > /made",
        &[],
    ),
];

/// Debian's dockerd in the engine's namespaces.
struct Peer {
    child: Child,
    host: String,
}

impl Peer {
    /// Starts it; `None` if it is not installed.
    fn start(engine: &Engine, scratch: &Scratch) -> Option<Self> {
        let found = engine.run("sh", &["-c", "command -v dockerd && command -v containerd"]);
        if found.stdout.lines().count() < 2 {
            return None;
        }
        let at = |name: &str| scratch.join(name).display().to_string();
        let host = format!("unix://{}", at("peer.sock"));
        let log = std::fs::File::create(scratch.join("peer.log")).unwrap();
        // The host's own daemon.json is nothing to compare with.
        std::fs::write(scratch.join("peer.json"), "{}").unwrap();
        let mut command = engine.command("dockerd");
        command
            .args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "-H", &host])
            .args([
                "--data-root",
                &at("peer-data"),
                "--exec-root",
                &at("peer-exec"),
                "--pidfile",
                &at("peer.pid"),
            ])
            .args(["--cgroup-parent", &engine.cgroup_parent(), "--config-file", &at("peer.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut peer = Self { child: command.spawn().unwrap(), host };
        let begun = Instant::now();
        while engine
            .command("docker")
            .args(["-H", &peer.host, "version"])
            .output()
            .is_ok_and(|output| !output.status.success())
        {
            let ended = peer.child.try_wait().unwrap();
            let log = std::fs::read_to_string(scratch.join("peer.log")).unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(60),
                "dockerd does not answer: {log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(std::process::Command::new("kill").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

/// Runs Docker's command line against one of the two and returns standard output.
fn docker(engine: &Engine, host: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = engine.command("docker");
    let output = command.env("DOCKER_BUILDKIT", "0").args(["-H", host]).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{host} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output.stdout
}

/// Builds through Docker's command line.
fn made(engine: &Engine, host: &str, context: &Path, flags: &[&str]) -> Made {
    let folder = context.display().to_string();
    docker(
        engine,
        host,
        &[&["build", "--network", "none", "-t", "made"], flags, &[folder.as_str()]].concat(),
    );
    let id = String::from_utf8(docker(engine, host, &["create", "--network", "none", "made", "x"])).unwrap();
    let tree = docker(engine, host, &["export", id.trim()]);
    docker(engine, host, &["rm", "-v", id.trim()]);
    let mut all = Made::new();
    add_tree(&mut all, &tree);
    let inspected = docker(engine, host, &["image", "inspect", "made"]);
    let inspected: Value = serde_json::from_slice(&inspected).unwrap();
    add_config(&mut all, &inspected[0]["Config"], &inspected[0]["Author"]);
    all
}

/// buildah in the engine's namespaces, with a store of its own.
struct Buildah<'a> {
    engine: &'a Engine,
    scratch: &'a Scratch,
}

impl Buildah<'_> {
    fn run(&self, words: &[&str]) -> Vec<u8> {
        let at = |name: &str| self.scratch.join(name).display().to_string();
        let mut command = self.engine.command("buildah");
        command.args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "overlay"]);
        let command = command.env("TMPDIR", self.scratch.path()).env_remove("DOCKER_CONFIG");
        let output = command.args(words).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "buildah {words:?}: {}{told}",
            String::from_utf8_lossy(&output.stdout)
        );
        output.stdout
    }

    fn made(&self, context: &Path, flags: &[&str]) -> Made {
        let folder = context.display().to_string();
        let tree = self.scratch.join("made.tar");
        let output = format!("type=tar,dest={}", tree.display());
        // Processes in a changed root: of the other kinds crun refuses to run beside version 1 control groups.
        let command = [
            "bud",
            "--isolation",
            "chroot",
            "--pull-never",
            "--format",
            "docker",
            "-t",
            "made",
            "-o",
            &output,
        ];
        self.run(&[&command[..], flags, &[folder.as_str()]].concat());
        let mut all = Made::new();
        add_tree(&mut all, &std::fs::read(&tree).unwrap());
        let mut inspected: Value =
            serde_json::from_slice(&self.run(&["inspect", "--type", "image", "made"])).unwrap();
        // A label of its own.
        if let Some(labels) = inspected["Docker"]["config"]["Labels"].as_object_mut() {
            labels.remove("io.buildah.version");
        }
        let docker = &inspected["Docker"];
        add_config(&mut all, &docker["config"], &docker["author"]);
        all
    }
}

#[test]
fn trees_and_configurations_are_dockers() {
    let engine = Engine::with_busybox();
    let scratch = Scratch::new();
    let Some(peer) = Peer::start(&engine, &scratch) else {
        eprintln!("skipped: dockerd and containerd (package docker.io) are not installed");
        return;
    };
    let base = engine.folder().join("busybox.tar").display().to_string();
    docker(&engine, &peer.host, &["load", "-q", "-i", &base]);
    let mut all = Vec::new();
    for (name, file, flags) in CASES {
        let context = context(&format!("FROM busybox\n{file}\n"));
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| made(&engine, &peer.host, context.path(), flags));
            (made(&engine, &engine.host(), context.path(), flags), theirs.join().unwrap())
        });
        let known = |key: &str| DIFFERENCES.contains(&(name, key));
        all.extend(different(name, &ours, &theirs, &known));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// What differs from buildah on purpose: constructs (all of those that begin so) and the beginning of the entry.
const FROM_BUILDAH: &[(&str, &str)] = &[
    // The places of what it mounts stay.
    ("", "run"),
    ("mount-", "tmp/"),
    // A link that a file is copied to is replaced, not followed.
    ("copy-over-link", "s"),
    ("copy-over-link", "t"),
    // A range of ports stays one entry.
    ("expose", "config ExposedPorts"),
    // The folders of volumes are made.
    ("volume", "v"),
    // SHELL is not used for CMD.
    ("shell", "config Cmd"),
    // Only working directories in which something runs are made.
    ("workdir", "a"),
];

#[test]
fn trees_and_configurations_are_buildahs() {
    let engine = Engine::with_busybox();
    let scratch = Scratch::new();
    if engine.run("sh", &["-c", "command -v buildah"]).code != 0 {
        eprintln!("skipped: buildah (package buildah) is not installed");
        return;
    }
    let buildah = Buildah { engine: &engine, scratch: &scratch };
    let base = format!("docker-archive:{}", engine.folder().join("busybox.tar").display());
    buildah.run(&["pull", &base]);
    let mut all = Vec::new();
    for (name, file, flags) in CASES.iter().chain(NEWER) {
        let context = context(&format!("FROM busybox\n{file}\n"));
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| buildah.made(context.path(), flags));
            (ours(&engine, context.path(), flags), theirs.join().unwrap())
        });
        let known =
            |key: &str| FROM_BUILDAH.iter().any(|(of, entry)| name.starts_with(of) && key.starts_with(entry));
        all.extend(different(name, &ours, &theirs, &known));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
