//! What the child does, one step after the other, as data.
//!
//! The parent lays the steps out and puts a failed one into words; [`crate::child`] carries them out.

use crate::hooks::Inside;
use crate::{Error, Problem};
use rustix::fd::{OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::thread::CpuSet;
use std::ffi::CString;
use sys::path::Create;
use sys::raw::MountAttributes;

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Begins a session of its own.
    Session,
    /// Enters a namespace.
    Join {
        /// The namespace, or a pidfd.
        namespace: OwnedFd,
        /// `CLONE_NEW*`.
        flags: i32,
        /// For messages.
        name: String,
    },
    /// Enters new namespaces.
    Unshare {
        /// `CLONE_NEW*`.
        flags: i32,
    },
    /// Waits until the parent has set the limits of its cgroups and written its user mappings.
    WaitAttached,
    /// Moves into its cgroups.
    EnterCgroups {
        /// The files to write "0" to.
        entrances: Vec<OwnedFd>,
    },
    /// Becomes root of its new user namespace.
    BecomeRoot,
    /// Cuts the copied mounts off from those of the host.
    Isolate {
        /// `MS_PRIVATE` or `MS_SLAVE`.
        propagation: u64,
    },
    /// Attaches the root file system over the present root, or where it is on the host.
    AttachRoot {
        /// Where it is on the host.
        at: Option<CString>,
    },
    /// Makes a procfs of its own that nobody can cover, for [`Step::Write`].
    PrivateProc,
    /// Makes a file system that belongs to the child's namespaces, and attaches it.
    Make {
        /// Its type.
        kind: CString,
        /// Its parameters.
        parameters: Vec<(CString, Option<CString>)>,
        /// Attributes of the mount.
        attributes: u32,
        /// Where.
        place: Place,
        /// Whether it is the container's `/proc`, left open for [`Step::Write`].
        keep: bool,
    },
    /// Attaches a mount that the parent has made.
    Attach {
        /// The mount.
        mount: OwnedFd,
        /// Where.
        place: Place,
    },
    /// Binds what the child sees of the host.
    Bind {
        /// What.
        source: CString,
        /// Whether with all that is mounted below.
        recursive: bool,
        /// Changes before it is attached, and whether of all below too.
        changes: Vec<(MountAttributes, bool)>,
        /// The user namespace of one of them, kept open.
        #[expect(dead_code, reason = "its number is in the changes")]
        namespace: Option<OwnedFd>,
        /// Where.
        place: Place,
    },
    /// Changes the attributes of what is mounted somewhere.
    Change {
        /// Where.
        path: CString,
        /// The change.
        attributes: MountAttributes,
    },
    /// Makes a directory, and those above it.
    Directory {
        /// Where.
        path: CString,
    },
    /// Makes a device node.
    Device {
        /// Directory.
        directory: CString,
        /// Name in it.
        name: CString,
        /// Type and permissions.
        mode: u32,
        /// Number.
        device: u64,
        /// Owner and group.
        owner: (u32, u32),
    },
    /// Makes a symbolic link.
    Link {
        /// Directory.
        directory: CString,
        /// Name in it.
        name: CString,
        /// What it says.
        target: CString,
    },
    /// Binds the terminal's slave to `/dev/console`.
    Console {
        /// The devpts mount.
        devpts: RawFd,
        /// The slave's name in it.
        number: CString,
    },
    /// Covers paths with nothing. What does not exist needs no cover.
    Mask {
        /// The paths.
        paths: Vec<CString>,
        /// An empty read-only directory.
        directory: OwnedFd,
        /// The host's null device.
        file: OwnedFd,
    },
    /// Makes a path read-only, with all below it.
    ReadOnly {
        /// The path.
        path: CString,
    },
    /// Makes the root read-only.
    RootReadOnly,
    /// Sets how mount events of the root travel.
    RootPropagation {
        /// `MS_*`.
        propagation: u64,
        /// Whether for all below too.
        recursive: bool,
    },
    /// Makes the container's root the root.
    SwitchRoot {
        /// By `pivot_root`, else by `chroot`.
        pivot: bool,
    },
    /// Writes a file of its own procfs.
    Write {
        /// The file, relative to `/proc`.
        file: CString,
        /// What to write.
        value: Vec<u8>,
    },
    /// Sets the host name.
    Hostname(Vec<u8>),
    /// Sets the NIS domain name.
    Domainname(Vec<u8>),
    /// Brings up the loopback device of a new network namespace.
    Loopback,
    /// Opens a terminal in the container and hands the master to the parent.
    Terminal {
        /// Rows and columns.
        size: Option<(u16, u16)>,
        /// Whether to bind it to `/dev/console`.
        console: bool,
    },
    /// Lets the runtime run its hooks.
    RuntimeHooks,
    /// Runs the container's hooks.
    Hooks(Inside),
    /// Makes sure that there is a program.
    LookUp,
    /// Keeps to these processors for now.
    Affinity(CpuSet),
}

/// Where a mount goes.
#[derive(Debug)]
pub(crate) struct Place {
    /// Path from the container's root.
    pub(crate) target: CString,
    /// What is made there if nothing is.
    pub(crate) create: Create,
    /// Whether the way there must not lead through links (procfs and sysfs: CVE-2019-19921).
    pub(crate) ordinary: bool,
    /// Whether it may be inside a procfs.
    pub(crate) inside_proc: bool,
    /// What the mount takes over.
    pub(crate) taken: Taken,
    /// What is mounted, for messages.
    pub(crate) origin: String,
}

/// What a mount takes over of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// Its permissions.
    pub(crate) mode: bool,
    /// Its content.
    pub(crate) content: bool,
}

/// Part number of a failed attach: the target is inside `/proc`.
pub(crate) const PART_INSIDE_PROC: u32 = 1;
/// Part number of a failed attach: joining mount and target.
pub(crate) const PART_MOVE: u32 = 2;
/// Part number of a failed attach: copying what was there.
pub(crate) const PART_COPY: u32 = 3;

impl Step {
    /// Puts a failure of this step into words.
    pub(crate) fn failure(&self, part: u32, errno: Errno) -> Error {
        match self {
            Self::Make { place, .. } | Self::Attach { place, .. } | Self::Bind { place, .. } => {
                let problem = match (part, errno) {
                    (PART_INSIDE_PROC, _) => Problem::InsideProc,
                    (PART_MOVE, Errno::NOTDIR) => Problem::WrongType,
                    _ => Problem::Errno(errno),
                };
                let destination = place.target.to_string_lossy().into_owned();
                Error::Mount { origin: place.origin.clone(), destination, problem }
            }
            Self::Hooks(hooks) => Error::Hook {
                path: hooks.path(part),
                problem: match errno {
                    Errno::TIMEDOUT => "hook ran past specified timeout".to_owned(),
                    Errno::CHILD => "it did not end with exit status 0".to_owned(),
                    errno => sys::message(errno),
                },
            },
            other => Error::Init { what: other.describe(part), errno },
        }
    }

    fn describe(&self, part: u32) -> String {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Self::Session => "setsid".to_owned(),
            Self::Join { name, .. } => format!("setns {name}"),
            Self::Unshare { .. } => "unshare namespaces".to_owned(),
            Self::WaitAttached => "wait for the cgroup".to_owned(),
            Self::EnterCgroups { .. } => "enter the cgroups".to_owned(),
            Self::BecomeRoot => "become root of the user namespace".to_owned(),
            Self::Isolate { .. } => "make the mount tree private".to_owned(),
            Self::AttachRoot { .. } => "attach the rootfs".to_owned(),
            Self::PrivateProc => "mount a private proc".to_owned(),
            Self::Make { place, .. } | Self::Attach { place, .. } | Self::Bind { place, .. } => {
                format!("mount {}", text(&place.target))
            }
            Self::Change { path, .. } => format!("remount {}", text(path)),
            Self::Directory { path } => format!("mkdir {}", text(path)),
            Self::Device { directory, name, .. } => format!("mknod {}/{}", text(directory), text(name)),
            Self::Link { directory, name, .. } => format!("symlink {}/{}", text(directory), text(name)),
            Self::Console { .. } => "mount /dev/console".to_owned(),
            Self::Mask { paths, .. } => {
                let path = usize::try_from(part).ok().and_then(|index| paths.get(index));
                format!("can't mask path {:?}", path.map(text).unwrap_or_default())
            }
            Self::ReadOnly { path } => format!("make {:?} read-only", text(path)),
            Self::RootReadOnly => "set rootfs as read-only".to_owned(),
            Self::RootPropagation { .. } => "set the rootfs propagation".to_owned(),
            Self::SwitchRoot { pivot: true } => "pivot_root".to_owned(),
            Self::SwitchRoot { pivot: false } => "chroot into the rootfs".to_owned(),
            Self::Write { file, value } => {
                format!("write {:?} to /proc/{}", String::from_utf8_lossy(value), text(file))
            }
            Self::Hostname(_) => "sethostname".to_owned(),
            Self::Domainname(_) => "setdomainname".to_owned(),
            Self::Loopback => "bring up the loopback device".to_owned(),
            Self::Terminal { .. } => "open a terminal in the container".to_owned(),
            Self::RuntimeHooks => "wait for the hooks".to_owned(),
            Self::Hooks(hooks) => format!("run hook {}", hooks.path(part)),
            Self::LookUp => "find the program".to_owned(),
            Self::Affinity(_) => "set the processors".to_owned(),
        }
    }
}
