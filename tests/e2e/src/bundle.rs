//! An OCI bundle with busybox, and `wharf runtime` to run it.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testkit::{Engine, Output, Scratch};

/// A bundle, with a state directory and a cgroup of its own.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
    cgroup: String,
    /// The document that [`Bundle::write`] writes.
    pub config: Value,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::missing_panics_doc, reason = "a failed set-up ends the test")]
#[expect(clippy::expect_used, reason = "a failed set-up ends the test")]
impl Bundle {
    /// Makes a bundle whose root has busybox, a few empty directories and the usual files.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let rootfs = scratch.join("rootfs");
        for directory in ["bin", "etc", "proc", "dev", "sys", "tmp", "root"] {
            std::fs::create_dir_all(rootfs.join(directory)).expect("make the root");
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("copy busybox (busybox-static)");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("run busybox");
        for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).expect("link an applet");
        }
        let file = |name: &str, text: &str| std::fs::write(rootfs.join(name), text).expect("write a file");
        file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/:/bin/sh\n");
        file("etc/group", "root:x:0:\nann:x:1000:\n");
        let name = scratch.path().file_name().expect("a name").to_string_lossy().into_owned();
        let cgroup = format!("/{name}/c");
        let config = document(&cgroup);
        Self { scratch, cgroup, config }
    }

    /// The directory of the bundle.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A path in the container's root.
    pub fn inside(&self, name: &str) -> PathBuf {
        self.scratch.join("rootfs").join(name)
    }

    /// A path beside the container's root.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The cgroup's path from the root of each hierarchy.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Writes the document.
    pub fn write(&self) {
        std::fs::write(self.scratch.join("config.json"), self.config.to_string()).expect("write config.json");
    }

    /// Sets what runs.
    pub fn arguments(&mut self, arguments: &[&str]) -> &mut Self {
        *self.at("/process/args") = json!(arguments);
        self
    }

    /// Sets a shell script to run.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.arguments(&["sh", "-c", script])
    }

    /// A place in the document, as in a JSON pointer.
    pub fn at(&mut self, pointer: &str) -> &mut Value {
        self.config.pointer_mut(pointer).expect("a place in the document")
    }

    /// Sets a field, which need not be there, of a place.
    pub fn set(&mut self, pointer: &str, field: &str, value: Value) -> &mut Self {
        self.at(pointer).as_object_mut().expect("an object").insert(field.to_owned(), value);
        self
    }

    /// Appends to a list.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.at(pointer).as_array_mut().expect("a list").push(value);
        self
    }

    /// Gives the container a user namespace of its own, whose root is user 100000 of the host, and the root's files to it.
    pub fn map_users(&mut self) -> &mut Self {
        self.push("/linux/namespaces", json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        self.set("/linux", "uidMappings", map.clone()).set("/linux", "gidMappings", map);
        let owned = Command::new("chown").args(["-hR", "100000:100000"]).arg(self.inside("")).status();
        assert!(owned.is_ok_and(|status| status.success()), "chown the root");
        self
    }

    /// The runtime's command line, with its state directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Engine::executable());
        command.arg("runtime").arg("--root").arg(self.scratch.join("state")).args(arguments);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// The same as a line for a shell.
    pub fn line(&self, arguments: &[&str]) -> String {
        let command = self.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")));
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// Runs a command to its end.
    pub fn runtime(&self, arguments: &[&str]) -> Output {
        output(self.command(arguments))
    }

    /// Writes the document and runs the container `c` to its end.
    pub fn run(&self) -> Output {
        self.write();
        self.runtime(&["run", "c"])
    }

    /// Writes the document and runs the container `c` beside the test, its output in a file.
    pub fn start(&self) {
        self.write();
        let log = std::fs::File::create(self.beside("log")).expect("make a log");
        let mut command = self.command(&["run", "--detach", "c"]);
        command.stdout(log.try_clone().expect("a second end")).stderr(log);
        let status = command.status().expect("run the executable");
        let said = std::fs::read_to_string(self.beside("log")).unwrap_or_default();
        assert!(status.success(), "{said}");
    }

    /// What the container that [`Bundle::start`] began has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.beside("log")).unwrap_or_default()
    }

    /// The number of the container's first process.
    pub fn pid(&self) -> u32 {
        let state: Value = serde_json::from_str(&self.runtime(&["state", "c"]).ok()).expect("a state");
        state.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()).expect("a number")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runtime(&["delete", "--force", "c"]);
        let name = self.cgroup.trim_start_matches('/').trim_end_matches("/c").to_owned();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let directories = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        for directory in directories {
            for group in [directory.join(&name).join("c"), directory.join(&name)] {
                let gone = !group.exists() || std::fs::remove_dir(&group).is_ok();
                assert!(gone || std::thread::panicking(), "{} is still there", group.display());
            }
        }
    }
}

/// Runs a command to its own end, whatever it leaves running, and collects what was said until then.
#[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "a failed set-up ends the test")]
pub fn output(mut command: Command) -> Output {
    let scratch = Scratch::new();
    // Files, as a pipe would end only with the last process that has it.
    let file = |name: &str| std::fs::File::create(scratch.join(name)).expect("make a file");
    let mut child = command.stdout(file("out")).stderr(file("err")).spawn().expect("run a program");
    let input = child.stdin.take(); // open for as long as the program runs
    let status = child.wait().expect("wait for a program");
    drop(input);
    let text = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(scratch.join(name)).expect("read a file")).into_owned()
    };
    Output { stdout: text("out"), stderr: text("err"), code: status.code().unwrap_or(-1) }
}

/// Runs a shell's line in a terminal of its own, as a user at a keyboard does who types nothing.
///
/// `script` is script(1), where and how it is to be run. Its input stays open: at the end of one it would type a character.
pub fn in_terminal(mut script: Command, line: &str) -> Output {
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]).stdin(Stdio::piped());
    output(script)
}

/// Says on standard error why a test does nothing here.
pub fn skipped(reason: &str) {
    drop(writeln!(std::io::stderr(), "skipped: {reason}"));
}

fn document(cgroup: &str) -> Value {
    let names = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ];
    let capabilities: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    let mount = |destination: &str, kind: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({ "destination": destination, "type": kind, "source": kind, "options": options })
    };
    let kinds = ["mount", "network", "uts", "pid", "ipc"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": ["true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,ro"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ],
        "annotations": { "a": "b" },
        "hooks": {},
        "linux": {
            "namespaces": kinds,
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
