//! Other engines on `wharf runtime`: containerd, dockerd above it, and podman.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

use e2e::bundle::{in_terminal, output, skipped};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::{Engine, Namespaces, Output, Scratch, image, until};

/// An engine in namespaces of its own, with our executable as its runtime.
struct Other {
    namespaces: Namespaces,
    scratch: Scratch,
    daemon: Option<Child>,
}

fn installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|path| path.join(program).exists())
}

impl Other {
    /// Starts `line` (a shell's, with `@` for the scratch folder) and waits for the socket `socket`.
    fn start(line: &str, socket: &str) -> Self {
        let (namespaces, scratch) = (Namespaces::new(), Scratch::new());
        symlink(Engine::executable(), scratch.join("wharf-runtime")).expect("link the runtime");
        image::write_busybox(&scratch.join("busybox.tar"), "busybox:latest");
        let line = line.replace('@', &scratch.path().display().to_string());
        let log = std::fs::File::create(scratch.join("log")).expect("make a log");
        // A /run of its own, so that it meets no other engine of this machine.
        let script = format!("mount -t tmpfs run /run && exec {line}");
        let mut command = namespaces.command("sh");
        command.args(["-c", &script]).stdin(Stdio::null());
        let daemon =
            command.stdout(log.try_clone().expect("a second end")).stderr(log).spawn().expect("start it");
        let other = Self { namespaces, scratch, daemon: Some(daemon) };
        let path = other.scratch.join(socket);
        until("the engine's socket", Duration::from_secs(60), || path.exists().then_some(()));
        other
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Prepares a program, which gets a minute.
    fn command(&self, program: &str) -> Command {
        let mut command = self.namespaces.command("timeout");
        command.args(["-k", "1", "60", program]).stdin(Stdio::null());
        command.env("DOCKER_HOST", format!("unix://{}", self.path("docker.sock").display()));
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(arguments);
        output(command)
    }

    /// Runs it with a terminal.
    fn run_in_terminal(&self, line: &str) -> Output {
        in_terminal(self.command("script"), line)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let ended = Command::new("kill").arg(daemon.id().to_string()).status();
        assert!(ended.is_ok() && daemon.wait().is_ok() || std::thread::panicking(), "end the engine");
        if std::thread::panicking() {
            eprint(&std::fs::read_to_string(self.path("log")).unwrap_or_default());
        }
    }
}

fn eprint(text: &str) {
    use std::io::Write;
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[test]
fn containerd() {
    if !installed("containerd") || !installed("ctr") || !installed("containerd-shim-runc-v2") {
        return skipped("containerd is not installed");
    }
    let engine =
        Other::start("containerd --root @/root --state @/state --address @/sock --log-level warn", "sock");
    let (socket, runtime) =
        (engine.path("sock").display().to_string(), engine.path("wharf-runtime").display().to_string());
    let ctr = |arguments: &[&str]| engine.run("ctr", &[&["--address", &socket], arguments].concat());
    ctr(&["image", "import", &engine.path("busybox.tar").display().to_string()]).ok();
    let image = "docker.io/library/busybox:latest";
    let parent = format!("/wharf-test-containerd-{}", std::process::id());
    let run = |flags: &[&str], name: &str, command: &[&str]| {
        let group = format!("{parent}/{name}");
        ctr(&[&["run", "--runc-binary", &runtime, "--cgroup", &group], flags, &[image, name], command]
            .concat())
    };
    assert_eq!(run(&["--rm"], "one", &["echo", "hello"]).ok(), "hello\n");
    assert_eq!(run(&["--rm"], "two", &["sh", "-c", "exit 7"]).code, 7);
    let said = run(&["--rm"], "three", &["nosuch"]);
    assert!(said.code != 0 && said.stderr.contains("executable file not found in $PATH"), "{said:?}");
    run(&["--detach", "--memory-limit", "67108864"], "four", &["sleep", "1000"]).ok();
    assert_eq!(ctr(&["task", "exec", "--exec-id", "e", "four", "echo", "joined"]).ok(), "joined\n");
    assert!(ctr(&["task", "metrics", "four"]).ok().contains("memory"));
    ctr(&["task", "pause", "four"]).ok();
    assert!(ctr(&["task", "list"]).ok().contains("PAUSED"));
    ctr(&["task", "resume", "four"]).ok();
    ctr(&["task", "kill", "--signal", "KILL", "four"]).ok();
    until("its end", Duration::from_secs(20), || {
        ctr(&["task", "list"]).ok().contains("STOPPED").then_some(())
    });
    ctr(&["task", "rm", "four"]);
    ctr(&["container", "rm", "four"]).ok();
    let line = format!(
        "ctr --address {socket} run --rm --tty --cgroup {parent}/five --runc-binary {runtime} {image} five tty"
    );
    assert!(engine.run_in_terminal(&line).ok().contains("/dev/pts/0"));
    drop(engine);
    no_groups(&parent);
}

#[test]
fn dockerd() {
    if !installed("dockerd") || !installed("docker") {
        return skipped("dockerd is not installed");
    }
    let parent = format!("/wharf-test-dockerd-{}", std::process::id());
    let line = format!(
        "dockerd --iptables=false --ip6tables=false --bridge=none --data-root @/data --exec-root @/exec \
         --host unix://@/docker.sock --pidfile @/pid --cgroup-parent {parent} \
         --add-runtime wharf=@/wharf-runtime --default-runtime wharf"
    );
    let engine = Other::start(&line, "docker.sock");
    let docker = |arguments: &[&str]| engine.run("docker", arguments);
    until("dockerd", Duration::from_secs(60), || (docker(&["version"]).code == 0).then_some(()));
    docker(&["load", "--input", &engine.path("busybox.tar").display().to_string()]).ok();
    let run = |flags: &[&str], command: &[&str]| {
        docker(&[&["run", "--network", "none"], flags, &["busybox"], command].concat())
    };
    assert_eq!(run(&["--rm"], &["echo", "hello"]).ok(), "hello\n");
    assert_eq!(run(&["--rm"], &["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["--rm"], &["nosuch"]).code, 127);
    assert_eq!(run(&["--rm"], &["/etc"]).code, 126);
    let limits =
        ["--rm", "--memory", "64m", "--pids-limit", "20", "--cpus", "0.5", "--read-only", "--tmpfs", "/t"];
    let script =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; touch /x 2>/dev/null || touch /t/y && echo t";
    assert_eq!(run(&limits, &["sh", "-c", script]).ok(), "67108864\nt\n");
    run(&["--detach", "--name", "lasting"], &["sleep", "1000"]).ok();
    assert_eq!(docker(&["exec", "--user", "1000", "lasting", "id", "-u"]).ok(), "1000\n");
    assert!(engine.run_in_terminal("docker exec -t lasting tty").ok().contains("/dev/pts/0"));
    assert!(
        engine.run_in_terminal("docker run --rm -t --network none busybox tty").ok().contains("/dev/pts/0")
    );
    docker(&["pause", "lasting"]).ok();
    assert!(docker(&["ps"]).ok().contains("(Paused)"));
    docker(&["unpause", "lasting"]).ok();
    docker(&["update", "--memory", "50m", "--memory-swap", "50m", "lasting"]).ok();
    assert!(docker(&["stats", "--no-stream", "lasting"]).ok().contains("50MiB"));
    assert!(docker(&["top", "lasting"]).ok().contains("sleep 1000"));
    docker(&["kill", "lasting"]).ok();
    assert_eq!(docker(&["wait", "lasting"]).ok(), "137\n");
    docker(&["rm", "lasting"]).ok();
    drop(engine);
    no_groups(&parent);
}

/// Podman, which has no daemon.
struct Podman {
    namespaces: Namespaces,
    scratch: Scratch,
    /// Its command line, but for the command.
    line: String,
}

impl Podman {
    fn new() -> Self {
        let (namespaces, scratch) = (Namespaces::new(), Scratch::new());
        symlink(Engine::executable(), scratch.join("wharf-runtime")).expect("link the runtime");
        image::write_busybox(&scratch.join("busybox.tar"), "docker.io/library/busybox:latest");
        // It wants higher limits than not every root may set.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(scratch.join("containers.conf"), limits).expect("write podman's configuration");
        let line = "podman --root @/root --runroot @/run --storage-driver vfs --cgroup-manager cgroupfs \
                    --events-backend file --runtime @/wharf-runtime"
            .replace('@', &scratch.path().display().to_string());
        Self { namespaces, scratch, line }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.namespaces.command("timeout");
        command.args(["-k", "1", "60", program]).stdin(Stdio::null());
        command.env("CONTAINERS_CONF", self.scratch.join("containers.conf"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("sh");
        command.arg("-c").arg(format!("exec {} \"$@\"", self.line)).arg("podman").args(arguments);
        output(command)
    }
}

#[test]
fn podman() {
    if !installed("podman") || !installed("conmon") {
        return skipped("podman is not installed");
    }
    let engine = Podman::new();
    let podman = |arguments: &[&str]| engine.run(arguments);
    let parent = format!("/wharf-test-podman-{}", std::process::id());
    podman(&["load", "--input", &engine.scratch.join("busybox.tar").display().to_string()]).ok();
    let run = |flags: &[&str], command: &[&str]| {
        let base = ["run", "--network", "none", "--cgroup-parent", &parent];
        podman(&[&base, flags, &["busybox"], command].concat())
    };
    assert_eq!(run(&["--rm"], &["echo", "hello"]).ok(), "hello\n");
    assert_eq!(run(&["--rm"], &["sh", "-c", "exit 7"]).code, 7);
    let said = run(&["--rm"], &["nosuch"]);
    assert!(said.code == 127 && said.stderr.contains("executable file not found in $PATH"), "{said:?}");
    let limits = ["--detach", "--name", "lasting", "--memory", "64m", "--pids-limit", "20"];
    run(&limits, &["sleep", "1000"]).ok();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max";
    assert_eq!(podman(&["exec", "lasting", "sh", "-c", script]).ok(), "67108864\n20\n");
    assert_eq!(podman(&["exec", "--user", "1000", "lasting", "id", "-u"]).ok(), "1000\n");
    assert_eq!(podman(&["exec", "lasting", "sh", "-c", "exit 5"]).code, 5);
    podman(&["pause", "lasting"]).ok();
    assert!(podman(&["ps", "--all"]).ok().contains("Paused"));
    podman(&["unpause", "lasting"]).ok();
    assert!(podman(&["stats", "--no-stream", "lasting"]).ok().contains("67.11MB"));
    assert!(podman(&["top", "lasting"]).ok().contains("sleep 1000"));
    let seen =
        |arguments: &str| in_terminal(engine.command("script"), &format!("{} {arguments}", engine.line));
    assert!(seen("exec -t lasting tty").ok().contains("/dev/pts/0"));
    let line = format!("run --rm -t --network none --cgroup-parent {parent} busybox tty");
    assert!(seen(&line).ok().contains("/dev/pts/0"));
    podman(&["kill", "lasting"]).ok();
    assert_eq!(podman(&["wait", "lasting"]).ok(), "137\n");
    podman(&["rm", "lasting"]).ok();
    no_groups(&parent);
}

/// Looks for what an engine's parent group still has.
fn no_groups(parent: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("list the hierarchies").flatten() {
        let group = hierarchy.path().join(parent.trim_start_matches('/'));
        assert!(!group.exists() || removed(&group), "{} is still there", group.display());
    }
}

/// Removes the parent, which is the engine's to keep, as is podman's group for conmon; what else is below was ours to remove.
fn removed(group: &Path) -> bool {
    drop(std::fs::remove_dir(group.join("conmon")));
    std::fs::remove_dir(group).is_ok()
}
