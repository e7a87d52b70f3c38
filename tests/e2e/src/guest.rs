//! Linux guests with a disk of their own, which may lose their power at any moment.
//!
//! `WHARF_GUEST` names a program that runs a command in such a guest, which sees this machine's files and writes only to the
//! disk at `/disk`: `PROGRAM [-t SECONDS] [-d DISK] [-K SECONDS] -- COMMAND…`, where `-K` is when the power is cut.

use crate::bundle::{output, skipped};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{Engine, Scratch};

/// Starts a daemon whose data is in `$DATA`, or else on the disk, and defines `wharf`.
pub const DAEMON: &str = r#"
    echo {} > /run/none.json
    wharf() { "$WHARF" -H unix:///run/w.sock "$@"; }
    "$WHARF" daemon --data-root "${DATA:-/disk/data}" --exec-root /run/w --pidfile /run/w.pid -H unix:///run/w.sock \
        --config-file /run/none.json --bridge none --iptables=false > /run/daemon.log 2>&1 &
    until wharf version > /run/version 2>&1; do sleep 0.1; done
"#;

/// Runs a script in a guest with a disk, for two minutes at most; `None` if there is no guest. Returns what it said.
///
/// # Panics
///
/// Fails the test if the script fails.
pub fn in_guest(disk: &Path, flags: &[&str], script: &str, arguments: &[&str]) -> Option<String> {
    let disk = disk.display().to_string();
    run(&[&["-t", "120", "-d", &disk], flags].concat(), script, arguments)
}

/// Runs a script in a guest as `flags` describe it; `None` if there is none. Returns what it said.
///
/// # Panics
///
/// Fails the test if the script fails.
pub fn run(flags: &[&str], script: &str, arguments: &[&str]) -> Option<String> {
    let Some(guest) = std::env::var_os("WHARF_GUEST") else {
        skipped("WHARF_GUEST names no program that runs a command in a Linux guest");
        return None;
    };
    let mut command = Command::new(guest);
    command.args(flags).args(["--", "sh", "-c", script, "sh"]).args(arguments);
    command.env("WHARF", Engine::executable()).env("VM_ENV", "WHARF");
    let said = output(command);
    if said.code == 125 {
        skipped(&format!("the guest cannot be had: {}", said.stderr));
        return None;
    }
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    Some(said.stdout)
}

/// Makes a disk with an empty file system.
///
/// # Panics
///
/// Fails the test if it cannot be made.
pub fn disk(files: &Scratch) -> PathBuf {
    let disk = files.join("disk");
    let sized = std::fs::File::create(&disk).and_then(|file| file.set_len(512 << 20));
    let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk).status();
    assert!(sized.is_ok() && made.is_ok_and(|status| status.success()), "a disk cannot be made");
    disk
}
