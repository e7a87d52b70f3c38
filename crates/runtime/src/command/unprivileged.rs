//! Containers of a user without privileges.
//!
//! This process enters the container's user namespace by itself, with the ids that the document maps: its own alone, or with
//! newuidmap(1) and newgidmap(1) those that the host grants in `/etc/subuid` and `/etc/subgid`. From there on it is root over
//! a mount namespace of its own, and the container is made as it would be by root; only device nodes are bound rather than
//! made, and cgroups are used as far as they are delegated (version 2).

use super::Failure;
use crate::prepare::Unprivileged;
use cgroups::{Cgroup, Hierarchy, Manager};
use oci::runtime::{IdMapping, NamespaceKind, Spec};
use rustix::process::{Gid, Uid};
use std::path::{Path, PathBuf};
use sys::pidfd::Exit;
use sys::raw::Cloned;

/// Says whether the caller has privileges of its own.
pub(super) fn is_needed() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Where state is kept unless `--root` says otherwise.
pub(super) fn default_root() -> Option<PathBuf> {
    is_needed().then(runtime_directory)?.map(|directory| directory.join("wharf/runtime"))
}

/// The directory of the caller's own sockets.
pub(super) fn runtime_directory() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Enters the user namespace that `spec` asks for, which then asks for none.
///
/// # Errors
///
/// If it asks for none, or for ids that the host does not grant.
pub(super) fn enter(spec: &mut Spec) -> Result<(), Failure> {
    let linux = spec.linux.get_or_insert_default();
    let new = |one: &oci::runtime::Namespace| one.kind == NamespaceKind::User && one.path.is_none();
    if !linux.namespaces.iter().any(new) {
        return Err("without privileges a container needs a user namespace of its own".into());
    }
    linux.namespaces.retain(|one| !new(one));
    let (uids, gids) = (std::mem::take(&mut linux.uid_mappings), std::mem::take(&mut linux.gid_mappings));
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if is_own(&uids, own.0) && is_own(&gids, own.1) {
        sys::namespace::unshare(&[sys::namespace::Namespace::User])?;
        let write = |file: &str, text: &str| {
            sys::path::write_value(None, Path::new(&format!("/proc/self/{file}")), text.as_bytes())
        };
        // Without this a group that denies something could be dropped (user_namespaces(7)).
        write("setgroups", "deny")?;
        write("uid_map", &oci::runtime::map_lines(&uids))?;
        write("gid_map", &oci::runtime::map_lines(&gids))?;
    } else {
        enter_granted(&uids, &gids)?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    sys::namespace::unshare(&[sys::namespace::Namespace::Mount])?;
    Ok(())
}

/// Says whether a map has the caller's own id alone.
fn is_own(map: &[IdMapping], own: u32) -> bool {
    matches!(map, [one] if one.host_id == own && one.size == 1)
}

/// Enters a new user namespace whose maps a second process lets the host's programs write, from outside.
fn enter_granted(uids: &[IdMapping], gids: &[IdMapping]) -> Result<(), Failure> {
    let (ready, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let pid = std::process::id();
    // SAFETY: this process has one thread, so nothing is locked in the child.
    match unsafe { sys::raw::fork() }? {
        Cloned::Child => {
            drop(go);
            let told = rustix::io::read(&ready, &mut [0_u8; 1]) == Ok(1);
            let mapped = told && map("newuidmap", pid, uids) && map("newgidmap", pid, gids);
            sys::raw::exit_now(i32::from(!mapped))
        }
        Cloned::Parent { pidfd, .. } => {
            drop(ready);
            sys::namespace::unshare(&[sys::namespace::Namespace::User])?;
            rustix::io::write(&go, b"x")?;
            match sys::pidfd::wait(rustix::fd::AsFd::as_fd(&pidfd))? {
                Exit::Code(0) => Ok(()),
                _ => {
                    Err("newuidmap and newgidmap (package uidmap) do not grant the ids of the document"
                        .into())
                }
            }
        }
    }
}

fn map(program: &str, pid: u32, map: &[IdMapping]) -> bool {
    let found = ["/usr/bin", "/bin", "/usr/local/bin"].map(|directory| Path::new(directory).join(program));
    let Some(path) = found.iter().find(|path| path.exists()) else { return false };
    let mut command = sys::process::Command::new(path);
    command.inherit_environment().argument(pid.to_string());
    for one in map {
        for number in [one.container_id, one.host_id, one.size] {
            command.argument(number.to_string());
        }
    }
    command.run().is_ok_and(|exit| exit == Exit::Code(0))
}

/// Makes the container's cgroup beside the caller's own, where that is delegated; otherwise there is none.
pub(super) fn cgroup(id: &str) -> Result<Cgroup, Failure> {
    let Ok(hierarchy @ Hierarchy::V2 { .. }) = Manager::detect() else { return Ok(Cgroup::none()) };
    let text = sys::path::read_to_end(Path::new("/proc/self/cgroup"))?;
    let text = String::from_utf8_lossy(&text);
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let parent = Path::new(own).parent().unwrap_or(Path::new("/"));
    let path = parent.join(id).display().to_string();
    Ok(Cgroup::create(&hierarchy, &path).unwrap_or_else(|_not_delegated| Cgroup::none()))
}

/// What this process is after [`enter`].
pub(super) fn maker() -> Unprivileged {
    let denied = |text: Vec<u8>| !text.starts_with(b"allow");
    Unprivileged { fixed_groups: sys::path::read_to_end(Path::new("/proc/self/setgroups")).is_ok_and(denied) }
}
