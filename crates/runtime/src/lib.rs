//! Runs containers: a runtime-spec document becomes a process in its namespaces.
//!
//! [`create`] prepares everything that can fail while nobody waits for it (mount sources as descriptors, the user, the
//! seccomp program, the environment), clones the init, and returns when it stands ready before its program;
//! [`Created::start`] lets it go on. [`exec`] puts a further process into a running container.
//!
//! What the child does is a list of `Step`s that the parent has laid out: between clone and exec the child only
//! makes bare system calls on them and reports `(step, errno)` when one fails, which the parent puts into words.
//! Mount sources are descriptors made in the parent's mount namespace; targets are resolved beneath the container's root.
//!
//! It does not know images, networks or logs; the network namespace comes as a path.
//!
//! runtime-spec 1.2: config.md, config-linux.md, runtime.md, runtime-linux.md.
#![expect(unsafe_code, reason = "the child between clone and exec; every block says why it is sound")]

#[cfg(test)]
extern crate self as runtime;

mod bind;
mod channel;
mod child;
pub mod command;
mod copy_up;
mod create;
mod devices;
mod error;
mod exec;
mod fault;
mod finish;
mod hooks;
mod inspect;
mod listener;
#[doc(hidden)]
pub mod measure;
mod mount;
mod net_devices;
pub mod options;
mod prepare;
mod process;
mod seccomp;
mod step;
mod sysctl;
mod user;
mod validate;

pub use create::{Created, Init, create};
pub use error::{Error, Problem};
pub use exec::{Join, Joined, exec};
pub use seccomp::default_seccomp;
pub use user::{ImageUser, resolve_user};

use oci::runtime::{IdMap, Spec, State, Status};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A directory of the host.
    Path(PathBuf),
    /// Layers, mounted for this run.
    Overlay(Overlay),
}

/// Layers mounted as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// Read-only directories, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// The kernel's work directory, on the file system of `upper`.
    pub work: PathBuf,
    /// Whether changes need not survive a crash of the host (no sync at the end).
    pub volatile: bool,
    /// As whose the files are shown; `None`: as they are. The directories keep the owners that the container sees.
    pub owners: Option<IdMap>,
}

/// What the process has as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// These.
    Streams {
        /// 0
        stdin: OwnedFd,
        /// 1
        stdout: OwnedFd,
        /// 2
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's own devpts; the master is given to the caller.
    Terminal,
}

/// How the container gets its root.
#[derive(Debug)]
pub enum RootSwitch {
    /// From a copy of the present mount namespace, by `pivot_root(2)`.
    Pivot,
    /// From a copy of this mount namespace, which has an empty root (`sys::namespace::empty_mount_namespace`): nothing of
    /// the host is there to be unmounted, which would wait for an RCU grace period.
    ///
    /// It is for who stays and looks after the container: the init is killed when the thread that made it ends
    /// (`PR_SET_PDEATHSIG`), so that none runs on unseen.
    Empty(OwnedFd),
}

/// A container to make.
#[derive(Debug)]
pub struct Launch {
    /// What to run and in what surroundings. `root.path` counts only for [`RootSwitch`]-independent messages: the root is
    /// `rootfs`; `root.readonly` does count. Namespaces with a path are joined.
    pub spec: Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Descriptors of the init.
    pub stdio: Stdio,
    /// How it gets its root.
    pub root_switch: RootSwitch,
    /// As whom, in Docker's words, looked up in the container's own files; overrides `spec.process.user`.
    pub user: Option<ImageUser>,
    /// Whether to make the working directory if it is missing.
    pub create_cwd: bool,
    /// The cgroup's path from the root of each hierarchy; otherwise `spec.linux.cgroupsPath`.
    pub cgroup: Option<String>,
    /// Whether the cgroup is a scope of systemd's, and its path of the form `SLICE:PREFIX:NAME`.
    pub systemd: bool,
    /// What hooks and the listener of a seccomp filter are told; a document that has some is refused without it.
    pub identity: Option<Identity>,
}

/// What a container is called, and where its bundle is (runtime-spec runtime.md, *State*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The container's identifier.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
}

impl Identity {
    fn state(&self, spec: &Spec, status: Status, pid: Option<i32>) -> State {
        State {
            oci_version: oci::runtime::VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: spec.annotations.clone(),
        }
    }
}

/// Runs the `poststop` hooks of a container made by [`create`] that has ended and whose cgroup is deleted. One that fails
/// changes nothing any more (runtime-spec runtime.md, *Lifecycle*).
pub fn ended(spec: &Spec, identity: &Identity) {
    if let Some(hooks) = &spec.hooks {
        hooks::run(&hooks.poststop, &identity.state(spec, Status::Stopped, None)).ok();
    }
}

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
