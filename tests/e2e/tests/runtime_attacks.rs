//! `wharf runtime` under attack: each test attempts what has once worked against an engine of this kind.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use e2e::bundle::{Bundle, in_terminal};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A directory of the host that nothing may touch.
fn outside(bundle: &Bundle) -> std::path::PathBuf {
    let path = bundle.beside("outside");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("secret"), "secret").unwrap();
    path
}

fn untouched(path: &std::path::Path) {
    let names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"], "something was made outside");
    assert_eq!(std::fs::read_to_string(path.join("secret")).unwrap(), "secret");
}

#[test]
fn no_descriptor_leads_out() {
    // CVE-2015-3627, CVE-2024-21626: a descriptor of the host as working directory, or left in the process.
    let mut bundle = Bundle::new();
    bundle
        .script("for f in /proc/$$/fd/*; do readlink $f; done | grep -v -E '^/proc/|pipe:|/out|/err|/null'");
    assert_eq!(bundle.run().stdout, "");
    bundle.arguments(&["sleep", "100"]).start();
    for number in 0..16 {
        for path in
            [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}"), "/proc/self/cwd/..".into()]
        {
            let said = bundle.runtime(&["exec", "--cwd", &path, "c", "cat", "config.json", "../config.json"]);
            assert!(said.code != 0 && !said.stdout.contains("ociVersion"), "{path}: {said:?}");
        }
    }
    bundle.runtime(&["delete", "--force", "c"]);
    for number in 0..16 {
        *bundle.at("/process/cwd") = json!(format!("/proc/self/fd/{number}"));
        let said = bundle.arguments(&["cat", "config.json", "../config.json"]).run();
        assert!(said.code != 0 && !said.stdout.contains("ociVersion"), "{number}: {said:?}");
    }
}

#[test]
fn the_executable_of_the_runtime_cannot_be_written() {
    // CVE-2019-5736: a process of the container opens what another one shows as its program, the runtime's own, and writes
    // it as soon as nobody runs it.
    let mut bundle = Bundle::new();
    let executable = testkit::Engine::executable();
    let before = std::fs::read(&executable).unwrap();
    bundle.arguments(&["/proc/self/exe", "features"]);
    bundle.run();
    // A subshell, since a failed `exec` ends the shell.
    let watch = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in /bin/busybox|'') continue;; esac; \
                 ( exec 9<$p/exe; echo opened; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.01; echo x > /proc/self/fd/9 && echo written; done ) \
                 2>/dev/null; done; done";
    bundle.script(watch).start();
    for _ in 0..20 {
        bundle.runtime(&["exec", "c", "true"]).ok();
        bundle.runtime(&["exec", "c", "/proc/self/exe", "features"]);
    }
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    assert!(!bundle.log().contains("written"), "{}", bundle.log());
    assert_eq!(std::fs::read(&executable).unwrap(), before);
}

#[test]
fn links_in_the_image_do_not_lead_mounts_out() {
    // CVE-2015-3629, CVE-2021-30465, CVE-2023-27561, CVE-2023-28642, CVE-2019-19921
    let mut bundle = Bundle::new();
    let host = outside(&bundle);
    symlink(&host, bundle.inside("absolute")).unwrap();
    symlink("../outside", bundle.inside("relative")).unwrap();
    for destination in ["/absolute/x", "/relative/y", "/absolute/deep/er"] {
        bundle.push("/mounts", json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" }));
    }
    bundle.script("true").run();
    untouched(&host);
    for (name, target) in [("proc", "/tmp"), ("sys", "/tmp")] {
        let mut bundle = Bundle::new();
        std::fs::remove_dir(bundle.inside(name)).unwrap();
        symlink(target, bundle.inside(name)).unwrap();
        let said = bundle.script("true").run();
        assert!(said.code == 1 && said.stderr.contains(&format!("at \"/{name}\"")), "{said:?}");
    }
    // Volumes cannot cover the kernel's answers, nor put something among them.
    for destination in ["/proc/self", "/proc/sys/kernel", "/proc/1/attr"] {
        let mut bundle = Bundle::new();
        let options = json!(["bind"]);
        bundle.push(
            "/mounts",
            json!({ "destination": destination, "type": "bind", "source": "/etc", "options": options }),
        );
        let said = bundle.script("true").run();
        assert!(
            said.stderr.contains("cannot be mounted because it is inside /proc"),
            "{destination}: {said:?}"
        );
    }
}

/// Exchanges two names again and again while `work` runs.
fn exchanging<T>(one: &std::path::Path, other: &std::path::Path, work: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    let spare = one.with_extension("spare");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for (from, to) in [(one, &*spare), (other, one), (&*spare, other)] {
                    std::fs::rename(from, to).ok();
                }
            }
        });
        let result = work();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn races_of_mount_targets_do_not_lead_out() {
    // CVE-2021-30465, CVE-2024-45310: while the mounts are made a directory becomes a link to the host and back.
    let mut bundle = Bundle::new();
    let host = outside(&bundle);
    std::fs::create_dir_all(bundle.inside("swap/a")).unwrap();
    symlink(&host, bundle.inside("swapped")).unwrap();
    for number in 0..10 {
        let destination = format!("/swap/a/{number}/x");
        bundle.push("/mounts", json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" }));
        let file = format!("/swap/file{number}");
        bundle.push(
            "/mounts",
            json!({ "destination": file, "type": "bind", "source": "/etc/hostname", "options": ["bind"] }),
        );
    }
    bundle.arguments(&["true"]).write();
    exchanging(&bundle.inside("swap"), &bundle.inside("swapped"), || {
        for _ in 0..40 {
            bundle.runtime(&["run", "c"]);
        }
    });
    untouched(&host);
}

#[test]
fn races_of_dev_do_not_lead_out() {
    // CVE-2025-31133, CVE-2025-52565: /dev/null and /dev/console become links while they are made and covered.
    let mut bundle = Bundle::new();
    let host = outside(&bundle);
    bundle.at("/mounts").as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    std::fs::create_dir_all(bundle.inside("link")).unwrap();
    for name in ["null", "console", "ptmx", "fd", "zero"] {
        symlink(host.join("secret"), bundle.inside("link").join(name)).unwrap();
    }
    bundle
        .set("/process", "terminal", json!(true))
        .script("cat /dev/null; echo x > /dev/null; cat /proc/keys");
    bundle.write();
    let line = bundle.line(&["run", "c"]);
    exchanging(&bundle.inside("dev"), &bundle.inside("link"), || {
        for _ in 0..20 {
            let mut script = std::process::Command::new("script");
            script.current_dir(bundle.path());
            let said = in_terminal(script, &line);
            assert!(!said.stdout.contains("secret"), "{said:?}");
        }
    });
    untouched(&host);
}

#[test]
fn writes_to_proc_go_to_proc() {
    // CVE-2025-52881: a mount over what is written, through a volume that is shared.
    let mut bundle = Bundle::new();
    bundle.set("/linux", "sysctl", json!({ "net.ipv4.ip_default_ttl": "77" }));
    let trap = bundle.beside("trap");
    std::fs::create_dir_all(trap.join("net/ipv4")).unwrap();
    std::fs::write(trap.join("net/ipv4/ip_default_ttl"), "").unwrap();
    let options = json!(["rbind"]);
    bundle.push(
        "/mounts",
        json!({ "destination": "/proc/sys", "type": "bind", "source": trap, "options": options }),
    );
    let said = bundle.script("true").run();
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(std::fs::read_to_string(trap.join("net/ipv4/ip_default_ttl")).unwrap(), "");
    // And values do not smuggle in others (CVE-2022-0811).
    for key in [
        "net.ipv4/../../kernel.panic",
        "net.ipv4.x\nkernel.panic",
        "net/../kernel/panic",
        "kernel.core_pattern",
    ] {
        let mut bundle = Bundle::new();
        let said = bundle.set("/linux", "sysctl", json!({ key: "1" })).script("true").run();
        assert!(said.code == 1 && said.stderr.contains("linux.sysctl"), "{key}: {said:?}");
    }
}

#[test]
fn capabilities_and_groups_are_not_inherited() {
    // CVE-2022-24769, CVE-2022-29162, CVE-2022-36109
    let mut bundle = Bundle::new();
    bundle.arguments(&["sleep", "100"]).start();
    let script = "grep -E 'CapInh|CapAmb|Groups' /proc/self/status | tr -d '\\t '";
    let expect = "Groups:\nCapInh:0000000000000000\nCapAmb:0000000000000000\n";
    assert_eq!(bundle.runtime(&["exec", "c", "sh", "-c", script]).ok(), expect);
    assert_eq!(
        bundle
            .runtime(&["exec", "--cap", "CAP_SYS_PTRACE", "c", "grep", "CapInh", "/proc/self/status"])
            .line(),
        "CapInh:\t0000000000000000"
    );
    bundle.runtime(&["delete", "--force", "c"]).ok();
    assert_eq!(bundle.script(script).run().ok(), expect);
}

/// Joins ten processes that have the container's capabilities already, but not yet its program: that is long in the looking for.
fn join_slowly(bundle: &Bundle) {
    for hop in 0..30 {
        let target = if hop == 0 { "etc".to_owned() } else { format!("hop{}", hop - 1) };
        symlink(target, bundle.inside(&format!("hop{hop}"))).unwrap();
    }
    let path = format!("PATH={}/bin", "/hop29:".repeat(15_000));
    for _ in 0..10 {
        bundle.runtime(&["exec", "--env", &path, "c", "true"]).ok();
    }
}

#[test]
fn a_joining_process_cannot_be_looked_into() {
    // CVE-2016-9962: the container's root opens the memory and the descriptors of what joins it (the kernel asks the same
    // question at `ptrace(2)`); what has executed its program is its own.
    // (With CAP_SYS_PTRACE and without a user namespace the kernel lets it: such a container is the host's root.)
    let mut bundle = Bundle::new();
    let watch = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
                 for f in $p/fd/*; do l=$(readlink $f) || continue; case $l in *state*|*rootfs*|*config.json*) echo leak $l;; esac; done; \
                 ( exec 9<$p/mem && case $(readlink $p/exe) in /bin/busybox|'') ;; *) echo leak memory;; esac ) 2>/dev/null; \
                 cat $p/root/config.json $p/cwd/config.json 2>/dev/null; done; done";
    bundle.script(watch).start();
    join_slowly(&bundle);
    assert!(!bundle.log().contains("leak") && !bundle.log().contains("ociVersion"), "{}", bundle.log());
}

/// Traces whatever appears and looks into it, and says so if it is still the joining process: its program, on a mount of its own,
/// is called `/`. 101 is ptrace(2), 0x4206 `PTRACE_SEIZE`, which does not stop it.
const TRACER: &str = r#"
$| = 1;
my (%seized, %told);
while (1) {
    opendir(my $all, "/proc") or die;
    for my $pid (grep { /^\d+$/ && $_ != 1 && $_ != $$ } readdir $all) {
        if (open(my $maps, "<", "/proc/$pid/maps")) {
            my @lines = <$maps>;
            print "leak maps\n" if grep { m{ /$|wharf|memfd} } @lines;
        }
        if (open(my $memory, "<", "/proc/$pid/mem")) {
            my $exe = readlink("/proc/$pid/exe") // "";
            print "leak memory\n" if $exe =~ m{^/$|wharf|memfd};
        }
        next if $seized{$pid};
        if (syscall(101, 0x4206, $pid + 0, 0, 0) == 0) {
            $seized{$pid} = 1;
            my $exe = readlink("/proc/$pid/exe") // "";
            print "leak ptrace\n" if $exe =~ m{^/$|wharf|memfd};
            print "seized\n" unless $told{seized}++;
        }
    }
    while ((my $pid = waitpid(-1, 0x40000001)) > 0) {
        delete $seized{$pid};
    }
}
"#;

#[test]
fn a_joining_process_cannot_be_traced() {
    // CVE-2016-9962, by what it was shown with: ptrace(2), by the container's root, of what has its user and, just before its
    // program, its capabilities.
    let mut bundle = Bundle::new();
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, bundle.inside(link)).unwrap();
    }
    let options = json!(["rbind", "ro"]);
    bundle.push(
        "/mounts",
        json!({ "destination": "/usr", "type": "bind", "source": "/usr", "options": options }),
    );
    std::fs::write(bundle.inside("tracer"), TRACER).unwrap();
    bundle.arguments(&["/usr/bin/perl", "/tracer"]).start();
    // It can trace: a process of the container's own.
    bundle.runtime(&["exec", "--detach", "c", "sleep", "1000"]).ok();
    let restricted =
        std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope != "0\n");
    if restricted {
        e2e::bundle::skipped("the host lets only parents trace (yama)");
        return;
    }
    testkit::until("the tracer", Duration::from_secs(20), || bundle.log().contains("seized").then_some(()));
    join_slowly(&bundle);
    assert_eq!(bundle.log(), "seized\n");
}

#[test]
fn devices_that_are_not_given_cannot_be_opened() {
    let mut bundle = Bundle::new();
    let kernel_log = "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem; \
                      echo a > /sys/fs/cgroup/devices/devices.allow; mount -t cgroup -o devices x /tmp; echo end";
    let said = bundle.script(kernel_log).run();
    assert_eq!(said.stdout, "end\n");
    assert_eq!(said.stderr.matches("Operation not permitted").count(), 2, "{said:?}");
    // CVE-2022-0492: a user namespace of the container's own does not help; the release agent stays the host's.
    let agent = "unshare -UrmC sh -c 'mount -t cgroup -o rdma x /tmp && echo x > /tmp/release_agent'; \
                 echo x > /sys/fs/cgroup/memory/release_agent; echo end";
    let said = bundle.script(agent).run();
    let refused = said.stderr.contains("Read-only") || said.stderr.contains("nonexistent");
    assert!(said.stdout == "end\n" && refused, "{said:?}");
}

#[test]
fn a_numeric_user_is_a_number() {
    // CVE-2016-3697
    let mut bundle = Bundle::new();
    std::fs::write(bundle.inside("etc/passwd"), "1000:x:0:0:trap:/:/bin/sh\n").unwrap();
    *bundle.at("/process/user/uid") = json!(1000);
    assert_eq!(bundle.script("id -u").run().ok(), "1000\n");
    bundle.arguments(&["sleep", "100"]).start();
    assert_eq!(bundle.runtime(&["exec", "--user", "1000", "c", "id", "-u"]).ok(), "1000\n");
}

#[test]
fn large_documents_do_not_overflow() {
    // CVE-2021-43784
    let mut bundle = Bundle::new();
    for number in 0..300 {
        let destination = format!("/tmp/{}/{number}", "x".repeat(200));
        bundle.push(
            "/mounts",
            json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["size=8k"] }),
        );
    }
    assert_eq!(bundle.script("grep -c size=8k /proc/mounts").run().ok(), "300\n");
    let mut bundle = Bundle::new();
    let long = format!("/{}", "y/".repeat(5000));
    bundle.push("/mounts", json!({ "destination": long, "type": "tmpfs", "source": "tmpfs" }));
    let said = bundle.script("true").run();
    assert!(said.code == 1 && said.stderr.contains("file name too long"), "{}", said.stderr.len());
    testkit::until("nothing is left", Duration::from_secs(5), || {
        bundle.runtime(&["list", "-q"]).ok().is_empty().then_some(())
    });
}
