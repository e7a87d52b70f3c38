//! `checkpoint`, `restore`: a container's processes into files and back, by CRIU.
//!
//! The program `criu` of the distribution does it ([`rpc`]); what it is told is decided by pure functions here. Mounts of the
//! host's are told by their place ([`foreign`]), so that the same sources are mounted again; pipes that were standard streams
//! are replaced by those of `restore`, and the masters of terminals are made anew and handed over. `descriptors.json` in the
//! image has the streams, as runc writes it.
//!
//! Not there, and refused: hooks that run beside the program before it starts (it runs already), and `--no-pivot` (the root is
//! changed by CRIU).

mod foreign;
mod restore;
mod rpc;

pub use restore::{Restore, restore_here};

use super::arguments::{Flag, Parsed};
use super::record::Record;
use super::{Failure, Globals, control};
use foreign::external;
use oci::runtime::Status;
pub(super) use restore::restore;
use rpc::{Action, Criu, Given, Message, option};
use rustix::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

pub(super) const CHECKPOINT_FLAGS: &[Flag] = &[
    Flag::value("image-path", "directory of the image (default: \"checkpoint\")"),
    Flag::value("work-path", "directory of logs and work files (default: that of the image)"),
    Flag::value("parent-path", "the image of a pre-dump before, relative to this one"),
    Flag::switch("leave-running", "let the container run on"),
    Flag::switch("tcp-established", "take TCP connections along"),
    Flag::switch("ext-unix-sk", "allow unix sockets to the outside"),
    Flag::switch("shell-job", "allow a session begun outside"),
    Flag::switch("lazy-pages", "memory is fetched when it is used"),
    Flag::value("status-fd", "descriptor that criu writes a NUL to when it can be asked for pages"),
    Flag::value("page-server", "where memory is sent to, as ADDRESS:PORT"),
    Flag::switch("file-locks", "take file locks along"),
    Flag::switch("pre-dump", "memory only; the container runs on"),
    Flag::value("manage-cgroups-mode", "soft, full, strict or ignore (default: \"soft\")"),
    Flag::value("empty-ns", "a namespace that is made but not filled: network"),
    Flag::switch("auto-dedup", "drop pages of an earlier image that are there again"),
    Flag::switch("link-remap", "give removed files that are still open a name for the time being"),
];

pub(super) const RESTORE_FLAGS: &[Flag] = &[
    Flag::value("image-path", "directory of the image (default: \"checkpoint\")"),
    Flag::value("work-path", "directory of logs and work files (default: that of the image)"),
    Flag::switch("tcp-established", "take TCP connections along"),
    Flag::switch("ext-unix-sk", "allow unix sockets to the outside"),
    Flag::switch("shell-job", "allow a session begun outside"),
    Flag::switch("lazy-pages", "memory is fetched when it is used"),
    Flag::switch("file-locks", "take file locks along"),
    Flag::value("manage-cgroups-mode", "soft, full, strict or ignore (default: \"soft\")"),
    Flag::value("bundle", "directory of the bundle (default: the present one)").short('b'),
    Flag::switch("detach", "do not wait for the end of the process").short('d'),
    Flag::value("console-socket", "unix socket that is sent the master of the terminal"),
    Flag::value("pid-file", "file to write the number of the process to"),
    // Nothing to turn off: this runtime is never a subreaper.
    Flag::switch("no-subreaper", "accepted for compatibility: this runtime is never a subreaper"),
    Flag::switch("no-pivot", "change the root without pivot_root, as a root on a ramdisk needs it"),
    Flag::value("empty-ns", "a namespace that is made but not filled: network"),
    Flag::switch("auto-dedup", "drop pages of an earlier image that are there again"),
    Flag::switch("link-remap", "give removed files that are still open a name for the time being"),
    Flag::value("lsm-profile", "profile of a security module to restore with, as TYPE:NAME"),
    Flag::value("lsm-mount-context", "context of the mounts to restore with"),
];

/// The folder of the image unless it is named, in the present one.
const IMAGE: &str = "checkpoint";
/// The standard streams, in the image.
const DESCRIPTORS: &str = "descriptors.json";

pub(super) fn checkpoint(globals: &Globals, flags: &Parsed) -> Result<ExitCode, Failure> {
    let directory = globals.container(flags)?;
    let record = Record::load(&directory)?;
    match record.status(&directory) {
        Status::Running | Status::Paused => {}
        status => {
            return Err(format!("container cannot be checkpointed in {status:?} state")
                .to_lowercase()
                .into());
        }
    }
    check_user()?;
    let criu = find(globals, flags)?;
    std::fs::create_dir_all(&criu.image)
        .map_err(|error| format!("make {}: {error}", criu.image.display()))?;
    let pre_dump = flags.has("pre-dump");
    let mut options = shared_options(flags)?;
    options.number(option::PID, record.pid).text(option::ROOT, &record.rootfs);
    dump_options(&mut options, flags)?;
    if let Some(freezer) = record.cgroup()?.directory("freezer") {
        options.text(option::FREEZER, freezer);
    }
    if !pre_dump {
        for one in external(&record)? {
            options.text(option::EXTERNAL, one);
        }
        std::fs::write(criu.image.join(DESCRIPTORS), serde_json::to_vec(&streams(record.pid)?)?)?;
    }
    let mut told = flags.value("status-fd").map(status_descriptor).transpose()?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let given = Given { streams: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], descriptors: &[] };
    let action = if pre_dump { Action::PreDump } else { Action::Dump };
    criu.ask(action, options, &given, &mut |notice| {
        if let ("status-ready", Some(told)) = (notice.step.as_str(), told.take()) {
            rustix::io::write(&told, &[0]).map_err(|error| format!("status-fd: {error}"))?;
        }
        Ok(())
    })?;
    if !pre_dump && !flags.has("leave-running") {
        control::destroy(&record, &directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it is told that pages can be asked for: a descriptor of ours.
fn status_descriptor(number: &str) -> Result<OwnedFd, Failure> {
    let wrong = |error: &dyn std::error::Error| format!("invalid status-fd {number}: {error}");
    let parsed: i32 = number.parse().map_err(|error| wrong(&error))?;
    let opened = std::fs::File::options().write(true).open(format!("/proc/self/fd/{parsed}"));
    Ok(opened.map_err(|error| wrong(&error))?.into())
}

/// Refuses those whom CRIU does not serve.
fn check_user() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("checkpoint and restore need root: criu fills namespaces that belong to the host".into());
    }
    Ok(())
}

/// Finds the program, and the folders that a command names.
fn find(globals: &Globals, flags: &Parsed) -> Result<Criu, Failure> {
    let program = Criu::program(globals.criu.as_deref());
    let image = std::path::absolute(flags.value("image-path").unwrap_or(IMAGE))?;
    let work = match flags.value("work-path") {
        Some(work) => std::path::absolute(work)?,
        None => image.clone(),
    };
    std::fs::create_dir_all(&work).map_err(|error| format!("make {}: {error}", work.display()))?;
    Ok(Criu { program: program?, image, work })
}

/// What dump and restore are told alike.
fn shared_options(flags: &Parsed) -> Result<Message, Failure> {
    let mut options = Message::default();
    for (name, field) in [
        ("tcp-established", option::TCP_ESTABLISHED),
        ("ext-unix-sk", option::EXTERNAL_SOCKETS),
        ("shell-job", option::SHELL_JOB),
        ("file-locks", option::FILE_LOCKS),
        ("lazy-pages", option::LAZY_PAGES),
        ("auto-dedup", option::AUTO_DEDUP),
        ("link-remap", option::LINK_REMAP),
    ] {
        if flags.has(name) {
            options.set(field);
        }
    }
    // `criu_cg_mode`.
    let mode = match flags.value("manage-cgroups-mode").unwrap_or("soft") {
        "ignore" => 0,
        "soft" => 3,
        "full" => 4,
        "strict" => 5,
        other => return Err(format!("invalid manage-cgroups-mode: {other}").into()),
    };
    options.number(option::CGROUPS_MODE, mode);
    match flags.value("empty-ns") {
        None => {}
        Some("network") => {
            options.number(option::EMPTY_NAMESPACES, libc::CLONE_NEWNET);
        }
        Some(other) => return Err(format!("namespace {other} is not supported").into()),
    }
    Ok(options)
}

fn dump_options(options: &mut Message, flags: &Parsed) -> Result<(), Failure> {
    if flags.has("leave-running") {
        options.set(option::LEAVE_RUNNING);
    }
    if flags.has("pre-dump") || flags.value("parent-path").is_some() {
        options.set(option::TRACK_MEMORY);
    }
    if let Some(parent) = flags.value("parent-path") {
        if Path::new(parent).is_absolute() {
            return Err("--parent-path must be relative to the image path".into());
        }
        options.text(option::PARENT_IMAGES, parent);
    }
    if let Some(server) = flags.value("page-server") {
        let (address, port) = server
            .rsplit_once(':')
            .filter(|(address, _)| !address.is_empty())
            .and_then(|(address, port)| Some((address, port.parse::<u16>().ok()?)))
            .ok_or("Use --page-server ADDRESS:PORT to specify page server")?;
        let mut place = Message::default();
        options.message(option::PAGE_SERVER, place.text(1, address).number(2, port));
    }
    Ok(())
}

/// What descriptors 0, 1 and 2 of a process are.
fn streams(pid: i32) -> Result<Vec<String>, Failure> {
    let stream = |number: i32| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        match target {
            Ok(target) => Ok(target.display().to_string()),
            // Closed by the program.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    };
    (0..3).map(stream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::arguments;

    fn parsed(flags: &[Flag], words: &[&str]) -> Parsed {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments::parse(&words, flags).unwrap()
    }

    /// The fields that `flags` make, shown.
    fn told(words: &[&str]) -> Result<String, String> {
        let flags = parsed(CHECKPOINT_FLAGS, words);
        let options = shared_options(&flags).and_then(|mut options| {
            dump_options(&mut options, &flags)?;
            Ok(options)
        });
        let options = options.map_err(|error| error.to_string())?;
        let shown = rpc::Fields(options.bytes()).map(|(field, value)| match value {
            rpc::Value::Number(number) => format!("{field}={number}"),
            rpc::Value::Bytes(bytes) => format!("{field}={}", bytes.escape_ascii()),
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn flags_become_crius() {
        for (words, expect) in [
            (&["c"][..], Ok("34=3")),
            (&["--tcp-established", "--shell-job", "--ext-unix-sk", "c"], Ok("5=1 4=1 7=1 34=3")),
            (
                &["--file-locks", "--lazy-pages", "--auto-dedup", "--link-remap"],
                Ok("8=1 48=1 16=1 18=1 34=3"),
            ),
            (&["--empty-ns", "network", "--manage-cgroups-mode=full"], Ok("34=4 38=1073741824")),
            (&["--manage-cgroups-mode=ignore"], Ok("34=0")),
            (&["--manage-cgroups-mode=strict", "--leave-running"], Ok("34=5 3=1")),
            (&["--pre-dump"], Ok("34=3 15=1")),
            (&["--parent-path", "../a"], Ok("34=3 15=1 14=../a")),
            (&["--parent-path", "/a"], Err("--parent-path must be relative to the image path")),
            (&["--page-server", "::1:80"], Ok("34=3 11=\\n\\x03::1\\x10P")),
            (&["--page-server", "host"], Err("Use --page-server ADDRESS:PORT to specify page server")),
            (&["--empty-ns", "pid"], Err("namespace pid is not supported")),
            (&["--manage-cgroups-mode", "x"], Err("invalid manage-cgroups-mode: x")),
        ] {
            let expect = expect.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(told(words), expect, "{words:?}");
        }
    }
}
