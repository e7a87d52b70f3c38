//! The command line beside runc's: flags, documents and exit codes, compared with the runc that is installed.
//!
//! What differs on purpose is listed here and in docs/compat/runtime.md, with the reason.

use e2e::bundle::{Bundle, output, skipped};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{IoSliceMut, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::{Engine, Output};

const COMMANDS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

fn has_runc() -> bool {
    let there = Path::new("/usr/sbin/runc").exists();
    if !there {
        skipped("runc is not installed");
    }
    there
}

fn runc(arguments: &[&str]) -> Output {
    let mut command = Command::new("/usr/sbin/runc");
    command.args(arguments).stdin(Stdio::null());
    output(command)
}

fn ours(arguments: &[&str]) -> Output {
    let mut command = Command::new(Engine::executable());
    command.arg("runtime").args(arguments).stdin(Stdio::null());
    output(command)
}

/// The flags that a help text lists, with whether they take a value and their letters.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("   --"));
    let form = |line: &str| line.split("  ").next().unwrap_or_default().to_owned();
    lines.map(form).filter(|form| !form.starts_with("help") && !form.starts_with("version")).collect()
}

#[test]
fn every_command_has_a_help_with_runcs_flags() {
    for command in COMMANDS {
        let said = ours(&[command, "--help"]);
        assert!(said.code == 0 && said.stderr.is_empty(), "{said:?}");
        assert!(said.stdout.contains(&format!("wharf runtime {command} [command options]")), "{said:?}");
        assert_eq!(ours(&["help", command]).ok(), said.stdout);
        assert_eq!(ours(&[command, "-h"]).ok(), said.stdout);
    }
    if !has_runc() {
        return;
    }
    for command in COMMANDS {
        let (theirs, own) = (runc(&[command, "--help"]).ok(), ours(&[command, "--help"]).ok());
        let missing: Vec<_> = flags(&theirs).difference(&flags(&own)).cloned().collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
    }
    let missing: Vec<_> =
        flags(&runc(&["--help"]).ok()).difference(&flags(&ours(&["--help"]).ok())).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    let listed = |help: &str| -> BTreeSet<String> {
        let commands = help.lines().skip_while(|line| !line.starts_with("COMMANDS")).skip(1);
        let names =
            commands.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
        names.map(|name| name.trim_end_matches(',').to_owned()).filter(|name| name != "help").collect()
    };
    assert_eq!(listed(&ours(&["--help"]).ok()), listed(&runc(&["--help"]).ok()));
}

/// The paths of a document with the types of what is there; those in `open` have keys of their own making.
fn shape(value: &Value, path: &str, open: &[&str], found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(item, &format!("{path}[]"), open, found));
            "list"
        }
        Value::Object(fields) if open.contains(&path) => {
            fields.values().for_each(|field| shape(field, &format!("{path}.*"), open, found));
            "object"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| shape(field, &format!("{path}.{name}"), open, found));
            "object"
        }
    };
    found.insert(format!("{path}: {kind}"));
}

/// What only one of the two has.
fn differences(theirs: &Value, own: &Value, open: &[&str]) -> [Vec<String>; 2] {
    let [mut one, mut other] = [BTreeSet::new(), BTreeSet::new()];
    shape(theirs, "", open, &mut one);
    shape(own, "", open, &mut other);
    [one.difference(&other).cloned().collect(), other.difference(&one).cloned().collect()]
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[test]
fn documents_have_runcs_keys_and_types() {
    if !has_runc() {
        return;
    }
    // runc 1.1 reads no later version.
    let mut bundle = Bundle::new();
    *bundle.at("/ociVersion") = json!("1.0.2");
    bundle.set("/linux", "resources", json!({ "pids": { "limit": 50 } }));
    bundle.script("dd if=/dev/zero of=/tmp/x bs=1M count=8; exec sleep 1000").start();
    let root = bundle.beside("runc").display().to_string();
    let theirs = |arguments: &[&str]| runc(&[&["--root", &root], arguments].concat());
    let own = |arguments: &[&str]| bundle.runtime(arguments);
    // Beside it another of runc's, with a cgroup of its own.
    let second = Bundle::new();
    let mut config = bundle.config.clone();
    config["linux"]["cgroupsPath"] = json!(second.cgroup());
    config["root"]["path"] = json!(bundle.inside(""));
    std::fs::write(second.path().join("config.json"), config.to_string()).expect("write config.json");
    let place = second.path().display().to_string();
    let log = Stdio::from(std::fs::File::create(second.beside("log")).expect("make a log"));
    let mut command = Command::new("/usr/sbin/runc");
    command.args(["--root", &root, "run", "--detach", "--bundle", &place, "c"]).stdin(Stdio::null());
    assert!(command.stdout(log).stderr(Stdio::null()).status().is_ok_and(|status| status.success()));
    let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let [missing, further] = differences(
            &parsed(&theirs(&["events", "--stats", "c"]).ok()),
            &parsed(&own(&["events", "--stats", "c"]).ok()),
            &[".data.memory.raw", ".data.hugetlb"],
        );
        // What is 0 is left out: how much that is differs from one to the other.
        let missing: Vec<_> = missing.iter().filter(|one| !one.contains(".throttling.")).collect();
        let further: Vec<_> = further.iter().filter(|one| !one.contains(".throttling.")).collect();
        let idle = |one: &&&String| {
            [".data.memory.cache", ".data.blkio", "percpu", ".memory.kernelTCP", ".max"]
                .iter()
                .any(|part| one.contains(part))
        };
        assert!(
            missing.iter().all(|one| idle(&one)) && further.iter().all(|one| idle(&one)),
            "{missing:?} {further:?}"
        );
        for line in [&["state", "c"][..], &["list", "--format", "json"], &["ps", "--format", "json", "c"]] {
            let both = (parsed(&theirs(line).ok()), parsed(&own(line).ok()));
            assert_eq!(differences(&both.0, &both.1, &[]), [Vec::<String>::new(), Vec::new()], "{line:?}");
        }
        assert_eq!(
            parsed(&theirs(&["list", "-f", "json"]).ok())[0]["owner"],
            parsed(&own(&["list", "-f", "json"]).ok())[0]["owner"]
        );
        for line in [&["list"][..], &["ps", "c"]] {
            let title = |text: String| -> Vec<String> {
                text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
            };
            assert_eq!(title(theirs(line).ok()), title(own(line).ok()), "{line:?}");
        }
    }));
    theirs(&["delete", "--force", "c"]).ok();
    if let Err(panic) = compared {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn features_are_runcs_and_more() {
    if !has_runc() {
        return;
    }
    let (theirs, own) = (parsed(&runc(&["features"]).ok()), parsed(&ours(&["features"]).ok()));
    let lists = |value: &Value, pointer: &str| -> BTreeSet<String> {
        let list = value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for (pointer, but) in [
        ("/hooks", &[][..]),
        // Options of some file systems, which are told them.
        ("/mountOptions", &["acl", "noacl"]),
        ("/linux/namespaces", &[]),
        ("/linux/capabilities", &[]),
        ("/linux/seccomp/actions", &[]),
        ("/linux/seccomp/operators", &[]),
        // There is no table of the calls of these: a profile's entries for them have nothing to say on this machine.
        ("/linux/seccomp/archs", &["MIPS", "PPC", "S390", "RISCV", "PARISC", "LOONGARCH", "M68K", "SH"]),
    ] {
        let missing: Vec<_> = lists(&theirs, pointer).difference(&lists(&own, pointer)).cloned().collect();
        let known =
            |one: &&String| but.iter().any(|but| one.trim_start_matches("SCMP_ARCH_").starts_with(but));
        assert!(missing.iter().all(|one| known(&one)), "{pointer}: {missing:?}");
    }
    let [missing, _] = differences(&theirs, &own, &[".annotations"]);
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn exit_codes_are_runcs() {
    let bundle = Bundle::new();
    bundle.write();
    let root = bundle.beside("runc").display().to_string();
    let lines: [&[&str]; 17] = [
        &["nosuch"],
        &["state"],
        &["state", "nosuch"],
        &["state", "one", "two"],
        &["start", "nosuch"],
        &["kill", "nosuch"],
        &["kill", "nosuch", "TERM", "more"],
        &["delete", "nosuch"],
        &["delete", "--force", "nosuch"],
        &["pause", "nosuch"],
        &["resume", "nosuch"],
        &["exec", "nosuch", "true"],
        &["exec", "--nosuch", "c", "true"],
        &["update", "nosuch"],
        &["events", "nosuch"],
        &["create", "--bundle", "/nonexistent", "c"],
        &["list", "more"],
    ];
    let codes = lines.map(|line| bundle.runtime(line).code);
    assert_eq!(codes, [3, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 255, 1, 1, 1, 1, 1]);
    if has_runc() {
        let theirs = lines.map(|line| runc(&[&["--root", &root], line].concat()).code);
        assert_eq!(codes, theirs);
    }
}

#[test]
fn a_process_can_begin_in_a_cgroup_below() {
    let mut bundle = Bundle::new();
    bundle.arguments(&["sleep", "1000"]).start();
    let pids = Path::new("/sys/fs/cgroup/pids");
    if !pids.is_dir() {
        skipped("there is no hierarchy for pids of version 1");
        return;
    }
    let below = pids.join(bundle.cgroup().trim_start_matches('/')).join("below");
    std::fs::create_dir(&below).expect("make a cgroup");
    let script = "cat /proc/self/cgroup";
    let said = bundle.runtime(&["exec", "--cgroup", "pids:below", "c", "sh", "-c", script]).ok();
    let groups: Vec<_> = said.lines().filter(|line| line.ends_with("/below")).collect();
    assert!(groups.len() == 1 && groups[0].contains(":pids:"), "{said}");
    for (part, reason) in [
        ("pids:nosuch", "is not there"),
        ("pids:../x", "is no path below the container's cgroup"),
        ("nosuch:below", "names a controller that is not mounted"),
    ] {
        let said = bundle.runtime(&["exec", "--cgroup", part, "c", "true"]);
        let expect = format!("runc exec failed: cgroup {part:?} {reason}\n");
        assert_eq!((said.code, said.stderr.as_str()), (255, expect.as_str()));
    }
}

#[test]
fn bursts_and_idleness_are_updated() {
    let mut bundle = Bundle::new();
    bundle.arguments(&["sleep", "1000"]).start();
    let group = Path::new("/sys/fs/cgroup/cpu").join(bundle.cgroup().trim_start_matches('/'));
    let read = |file: &str| std::fs::read_to_string(group.join(file)).map(|text| text.trim().to_owned());
    for (flags, file, expect) in [
        (
            &["--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-burst", "20000"][..],
            "cpu.cfs_burst_us",
            "20000",
        ),
        (&["--cpu-idle", "1"], "cpu.idle", "1"),
        (&["--cpu-idle", "0"], "cpu.idle", "0"),
    ] {
        if read(file).is_err() {
            skipped(&format!("the kernel has no {file}"));
            continue;
        }
        bundle.runtime(&[&["update"], flags, &["c"]].concat()).ok();
        assert_eq!(read(file).expect("read a limit"), expect, "{file}");
    }
    let said = bundle.runtime(&["update", "--cpu-idle", "x", "c"]);
    assert_eq!(said.stderr, "runc update failed: invalid value for cpu-idle: \"x\"\n");
}

#[test]
fn a_pidfd_is_handed_over() {
    let mut bundle = Bundle::new();
    bundle.arguments(&["sleep", "1000"]).write();
    let socket = bundle.beside("pidfd");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("listen");
    let handed = || {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let (mut stream, _) = listener.accept().expect("accept");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 16];
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::empty())
            .expect("receive");
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        drop(stream.read(&mut name));
        let fd = fd.expect("a descriptor");
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).expect("read fdinfo");
        info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a process").trim().to_owned()
    };
    let path = socket.display().to_string();
    bundle.runtime(&["create", "--pidfd-socket", &path, "c"]).ok();
    assert_eq!(handed(), bundle.pid().to_string());
    bundle.runtime(&["start", "c"]).ok();
    let pid_file = bundle.beside("pid");
    let pid_path = pid_file.display().to_string();
    bundle
        .runtime(&[
            "exec",
            "--detach",
            "--pidfd-socket",
            &path,
            "--pid-file",
            &pid_path,
            "c",
            "sleep",
            "1000",
        ])
        .ok();
    assert_eq!(handed(), std::fs::read_to_string(pid_file).expect("read a number"));
}
