//! What a container has in `/dev`: nodes, and links (runtime-spec config-linux.md, *Devices*, *Default Devices*).
//!
//! In a user namespace nodes cannot be made, and would not work: those of the host are bound instead.

use crate::Error;
use crate::mount::clean;
use crate::process::text;
use crate::step::{Place, Step, Taken};
use oci::runtime::{Device, Linux};
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use sys::path::Create;

/// What every container has in `/dev` (runtime-spec config-linux.md, *Default Devices*).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Lays out the default devices and those of the document; `mapped` says that there is a user namespace.
pub(crate) fn add(linux: &Linux, mapped: bool, steps: &mut Vec<Step>) -> Result<(), Error> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        if linux.devices.iter().any(|device| clean(&device.path) == path) {
            continue;
        }
        let number = rustix::fs::makedev(major, minor);
        if mapped {
            steps.push(bound(&path, FileType::CharacterDevice, number)?);
            continue;
        }
        steps.push(Step::Device {
            directory: c"/dev".to_owned(),
            name: text("device", name)?,
            mode: libc::S_IFCHR | 0o666,
            device: number,
            owner: (0, 0),
        });
    }
    linux.devices.iter().try_for_each(|one| {
        let step = device(one)?;
        steps.push(match step {
            Step::Device { mode, device, .. } if mapped && mode & libc::S_IFMT != libc::S_IFIFO => {
                bound(&clean(&one.path), FileType::from_raw_mode(mode), device)?
            }
            other => other,
        });
        Ok(())
    })
}

/// Binds the host's node at `path`, after making sure that it is the device that is meant.
fn bound(path: &str, kind: FileType, number: u64) -> Result<Step, Error> {
    let failed = |errno| Error::Mount {
        origin: path.to_owned(),
        destination: path.to_owned(),
        problem: crate::Problem::Errno(errno),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&node).map_err(failed)?;
    if FileType::from_raw_mode(status.st_mode) != kind || status.st_rdev != number {
        return Err(failed(Errno::NODEV));
    }
    let mount = sys::mount::bind_private(node.as_fd()).map_err(|error| failed(error.errno()))?;
    let place = Place {
        target: text("device", path)?,
        create: Create::File,
        ordinary: false,
        inside_proc: false,
        taken: Taken::default(),
        origin: path.to_owned(),
    };
    Ok(Step::Attach { mount, place })
}

fn device(device: &Device) -> Result<Step, Error> {
    let path = clean(&device.path);
    let wrong = || Error::Spec(format!("invalid device {:?}", device.path));
    let (directory, name) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => return Err(wrong()),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_range| wrong());
    let number = if kind == libc::S_IFIFO {
        0
    } else {
        rustix::fs::makedev(number(device.major)?, number(device.minor)?)
    };
    Ok(Step::Device {
        directory: text("device", if directory.is_empty() { "/" } else { directory })?,
        name: text("device", name)?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        device: number,
        owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
    })
}

/// Lays out the links that programs look for.
pub(crate) fn links(steps: &mut Vec<Step>) {
    let mut links = vec![
        (c"fd", c"/proc/self/fd"),
        (c"stdin", c"/proc/self/fd/0"),
        (c"stdout", c"/proc/self/fd/1"),
        (c"stderr", c"/proc/self/fd/2"),
        (c"ptmx", c"pts/ptmx"),
    ];
    if Path::new("/proc/kcore").exists() {
        links.push((c"core", c"/proc/kcore"));
    }
    steps.extend(links.into_iter().map(|(name, target)| Step::Link {
        directory: c"/dev".to_owned(),
        name: name.to_owned(),
        target: target.to_owned(),
    }));
}
