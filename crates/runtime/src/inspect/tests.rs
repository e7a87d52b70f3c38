//! Documents against a root with links, and what is said of them.

use super::*;
use oci::runtime::{Hook, Hooks, Linux, Namespace, NamespaceKind, Process};
use std::os::unix::fs::{PermissionsExt, symlink};

struct Root {
    path: PathBuf,
}

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wharf-inspect-{name}-{}", std::process::id()));
        for directory in ["usr/bin", "etc", "opt"] {
            std::fs::create_dir_all(path.join(directory)).unwrap();
        }
        symlink("usr/bin", path.join("bin")).unwrap();
        symlink("/opt/missing", path.join("usr/bin/dangling")).unwrap();
        symlink("../../../etc", path.join("up")).unwrap();
        symlink("turn", path.join("turn")).unwrap();
        for (file, mode) in [("usr/bin/sh", 0o755), ("etc/data", 0o644)] {
            std::fs::write(path.join(file), "").unwrap();
            std::fs::set_permissions(path.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { path }
    }

    fn inspect(&self, spec: &Spec) -> String {
        let root = sys::path::open_directory(&self.path).unwrap();
        inspect(spec, root.as_fd()).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok();
    }
}

fn mount(kind: &str, source: &str, destination: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        ..Mount::default()
    }
}

fn spec(program: &str, mounts: &[Mount]) -> Spec {
    let process = Process {
        args: vec![program.to_owned()],
        env: vec!["PATH=/sbin:/bin".to_owned()],
        cwd: "/etc".to_owned(),
        ..Process::default()
    };
    Spec { process: Some(process), mounts: mounts.to_vec(), ..Spec::default() }
}

#[test]
fn a_program_is_missed_unless_a_mount_may_bring_it() {
    let root = Root::new("program");
    let not_found = "exec: \"nosuch\": executable file not found in $PATH";
    for (program, mounts, expect) in [
        ("sh", &[][..], "fine"),
        ("/bin/sh", &[], "fine"),
        ("../usr/bin/sh", &[], "fine"),
        ("nosuch", &[], not_found),
        ("data", &[], "exec: \"data\": executable file not found in $PATH"),
        ("./data", &[], "exec: \"./data\": permission denied"),
        ("/up/data", &[], "exec: \"/up/data\": permission denied"),
        ("/etc", &[], "exec: \"/etc\": is a directory"),
        ("/etc/data/x", &[], "exec: \"/etc/data/x\": stat /etc/data/x: not a directory"),
        ("/bin/dangling", &[], "exec: \"/bin/dangling\": stat /bin/dangling: no such file or directory"),
        ("/turn", &[], "fine"),
        ("nosuch", &[mount("tmpfs", "tmpfs", "/etc")], not_found),
        ("nosuch", &[mount("bind", "/tmp", "/usr")], "fine"),
        ("nosuch", &[mount("bind", "/tmp", "/bin")], "fine"),
        ("/usr/bin/nosuch", &[mount("bind", "/tmp", "/bin")], "fine"),
        ("/bin/dangling", &[mount("bind", "/tmp", "/opt")], "fine"),
        ("/up/nosuch", &[mount("tmpfs", "tmpfs", "/etc")], "fine"),
        ("nosuch", &[mount("tmpfs", "tmpfs", "/dev"), mount("tmpfs", "tmpfs", "/dev/shm")], not_found),
        // Where a link in a bind leads is not known.
        ("nosuch", &[mount("bind", "/tmp", "/opt"), mount("tmpfs", "tmpfs", "/opt/x")], "fine"),
    ] {
        assert_eq!(root.inspect(&spec(program, mounts)), expect, "{program} {mounts:?}");
    }
    let hook = Hook { path: "/bin/true".into(), ..Hook::default() };
    let hooks = Some(Hooks { create_container: vec![hook], ..Hooks::default() });
    assert_eq!(root.inspect(&Spec { hooks, ..spec("nosuch", &[]) }), "fine");
}

#[test]
fn mounts_that_cannot_be_are_refused() {
    let root = Root::new("mounts");
    let wrong_type = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                      specified host path exists and is the expected type";
    let failed = |source: &str, destination: &str, problem: &str| {
        format!("error mounting {source:?} to rootfs at {destination:?}: {problem}")
    };
    for (mounts, expect) in [
        (vec![mount("bind", "/tmp", "/new/place")], "fine".to_owned()),
        (vec![mount("bind", "/nosuch", "/x")], failed("/nosuch", "/x", "no such file or directory")),
        (vec![mount("bind", "/tmp", "/etc/data")], failed("/tmp", "/etc/data", wrong_type)),
        (vec![mount("bind", "/proc/version", "/etc")], failed("/proc/version", "/etc", wrong_type)),
        (vec![mount("tmpfs", "tmpfs", "/etc/data/x")], failed("tmpfs", "/etc/data/x", "not a directory")),
        (
            vec![mount("tmpfs", "tmpfs", "/turn/x")],
            failed("tmpfs", "/turn/x", "too many levels of symbolic links"),
        ),
        (vec![mount("tmpfs", "tmpfs", "/up/x")], "fine".to_owned()),
        (vec![mount("proc", "proc", "/bin")], failed("proc", "/bin", "too many levels of symbolic links")),
        (
            vec![mount("sysfs", "sysfs", "/up/s")],
            failed("sysfs", "/up/s", "too many levels of symbolic links"),
        ),
        // What an earlier one covers is not what is there.
        (vec![mount("tmpfs", "tmpfs", "/etc"), mount("bind", "/tmp", "/up/data")], "fine".to_owned()),
    ] {
        assert_eq!(root.inspect(&spec("sh", &mounts)), expect, "{mounts:?}");
    }
}

#[test]
fn a_missing_namespace_has_its_place_named() {
    let root = Root::new("namespaces");
    let namespace = Namespace { kind: NamespaceKind::Ipc, path: Some("/nosuch".to_owned()) };
    let linux = Some(Linux { namespaces: vec![namespace], ..Linux::default() });
    let said = root.inspect(&Spec { linux, ..spec("sh", &[]) });
    assert_eq!(said, "linux.namespaces[0].path: open /nosuch: no such file or directory");
}
