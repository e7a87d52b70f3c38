//! The document for another runtime: what our own is told beside it has to be in it. Pure.

use crate::supervise::Failure;
use oci::runtime::{Mount, NamespaceKind, Root, Spec, User};
use std::path::Path;

/// The version that every runtime takes; nothing later is used that one could not ignore.
const VERSION: &str = "1.0.2";

/// What the document does not know yet.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    /// Where the root is mounted.
    pub(super) rootfs: &'a Path,
    /// As whom the process runs, if not as the document says.
    pub(super) user: Option<User>,
    /// Where the network namespace is found, if one was made.
    pub(super) netns: Option<String>,
}

/// Returns `spec` as another runtime needs it.
///
/// # Errors
///
/// For a mount whose changes were to be seen on the host, as the root is mounted where the host does not look; for a part of a
/// volume, which another runtime would look up without our care; for an id-mapped one; and for a user namespace.
pub(super) fn rewrite(spec: &Spec, with: Rewrite<'_>) -> Result<Spec, Failure> {
    let mut spec = spec.clone();
    let shared = |option: &String| matches!(option.as_str(), "shared" | "rshared");
    if let Some(mount) = spec.mounts.iter().find(|mount| mount.options.iter().any(shared)) {
        let place = &mount.destination;
        return Err(Failure::invalid(format!("{place}: shared mounts need the built-in runtime")));
    }
    let part = |option: &String| option.starts_with("x-wharf.");
    if let Some(mount) = spec.mounts.iter().find(|mount| mount.options.iter().any(part)) {
        let place = &mount.destination;
        let what = "parts of volumes and other containers' memory need the built-in runtime";
        return Err(Failure::invalid(format!("{place}: {what}")));
    }
    if spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|one| one.kind == NamespaceKind::User) {
        // Files and volumes would have to be shown as the namespace's, which is asked of runtimes in different ways.
        return Err(Failure::invalid("user namespaces need the built-in runtime".to_owned()));
    }
    let mapped = |mount: &&Mount| !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if let Some(mount) = spec.mounts.iter().find(mapped) {
        // Some know of it and some pass it over in silence.
        let place = &mount.destination;
        return Err(Failure::invalid(format!("{place}: id-mapped mounts need the built-in runtime")));
    }
    let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
    spec.root = Some(Root { path: with.rootfs.display().to_string(), readonly });
    if let (Some(process), Some(user)) = (&mut spec.process, with.user) {
        process.user = User { umask: process.user.umask, ..user };
    }
    let linux = spec.linux.get_or_insert_default();
    for namespace in linux.namespaces.iter_mut().filter(|one| one.kind == NamespaceKind::Network) {
        if let Some(path) = &with.netns {
            namespace.path = Some(path.clone());
        }
    }
    // Runtimes let every node be made by themselves, and runc takes nothing back of such a rule.
    let devices = &mut linux.resources.get_or_insert_default().devices;
    devices.retain(|rule| !(rule.allow && rule.major.is_none() && rule.access.as_deref() == Some("m")));
    VERSION.clone_into(&mut spec.oci_version);
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{DeviceRule, Linux, Namespace, Process, Resources};

    #[test]
    fn what_was_beside_the_document_is_in_it() {
        let rule = |allow, major, access: &str| DeviceRule {
            allow,
            major,
            access: Some(access.to_owned()),
            ..DeviceRule::default()
        };
        let rules = vec![rule(false, None, "rwm"), rule(true, None, "m"), rule(false, Some(10), "rwm")];
        let linux = Linux {
            resources: Some(Resources { devices: rules.clone(), ..Resources::default() }),
            namespaces: vec![Namespace::new(NamespaceKind::Mount), Namespace::new(NamespaceKind::Network)],
            ..Linux::default()
        };
        let user = User { umask: Some(0o27), ..User::default() };
        let process = Process { user, ..Process::default() };
        let spec = Spec { linux: Some(linux), process: Some(process), ..Spec::default() };
        let with = |netns: Option<&str>| Rewrite {
            rootfs: Path::new("/b/rootfs"),
            user: Some(User { uid: 7, ..User::default() }),
            netns: netns.map(str::to_owned),
        };
        let made = rewrite(&spec, with(Some("/proc/1/fd/5"))).unwrap();
        assert_eq!(made.root.unwrap().path, "/b/rootfs");
        let linux = made.linux.unwrap();
        assert_eq!(linux.namespaces[0].path, None);
        assert_eq!(linux.namespaces[1].path.as_deref(), Some("/proc/1/fd/5"));
        assert_eq!(linux.resources.unwrap().devices, [rules[0].clone(), rules[2].clone()]);
        assert_eq!(made.oci_version, VERSION);
        let user = made.process.unwrap().user;
        assert_eq!((user.uid, user.umask), (7, Some(0o27)));
        let mount = Mount {
            destination: "/data".to_owned(),
            options: vec!["rbind".to_owned(), "rshared".to_owned()],
            ..Mount::default()
        };
        let refused = rewrite(&Spec { mounts: vec![mount], ..spec.clone() }, with(None)).unwrap_err();
        assert_eq!(refused.message, "/data: shared mounts need the built-in runtime");
        let part = Mount {
            destination: "/part".to_owned(),
            options: vec!["x-wharf.subpath=a".to_owned()],
            ..Mount::default()
        };
        let refused = rewrite(&Spec { mounts: vec![part], ..spec }, with(None)).unwrap_err();
        assert_eq!(
            refused.message,
            "/part: parts of volumes and other containers' memory need the built-in runtime"
        );
    }
}
