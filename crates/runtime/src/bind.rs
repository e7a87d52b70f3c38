//! Binds: what of the host is shown in a container, and how.
//!
//! One is opened by the parent, whose mounts the child may not see and whose directories it may not enter; or, when the child
//! has a copy of the parent's mounts, by the child itself, in the order of the document: newer kernels list mounts in the
//! order in which they were made.

use crate::Error;
use crate::mount::{Context, mount_error};
use crate::options::Options;
use crate::process::text;
use crate::step::{Place, Step};
use oci::runtime::{IdMap, Mount, map_lines};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FileType, OFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mount::{ATTR_ATIME, Propagation};
use sys::namespace::Namespace;
use sys::path::Create;
use sys::raw::MountAttributes;

/// A bind to make.
#[derive(Debug)]
pub(crate) struct Bind {
    source: PathBuf,
    /// A part of the source, found beneath it and held here.
    part: Option<OwnedFd>,
    /// The mount namespace of the source.
    place: Option<OwnedFd>,
    recursive: bool,
    changes: Vec<(MountAttributes, bool)>,
    /// The user namespace of one of the changes.
    namespace: Option<OwnedFd>,
}

impl Bind {
    /// Lays out a bind of the document.
    pub(crate) fn plan(mount: &Mount, options: &Options, context: Context<'_>) -> Result<Self, Error> {
        let namespace = mapping(mount, options, context)?;
        let mut changes = Vec::new();
        if let Some(namespace) = &namespace {
            let attributes = MountAttributes {
                set: sys::mount::ATTR_IDMAP,
                userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
                ..MountAttributes::default()
            };
            changes.push((attributes, options.id_mapped.unwrap_or(false)));
        }
        changes.extend(change(options.set, options.clear).map(|one| (one, false)));
        changes.extend(change(options.set_all, options.clear_all).map(|one| (one, true)));
        changes.extend(propagation(options));
        let source = PathBuf::from(mount.source.as_deref().unwrap_or_default());
        let part = options.subpath.as_deref().map(|part| find_part(&source, part)).transpose();
        let part = part.map_err(|error| mount_error(mount, &error))?;
        let place =
            options.namespace.as_deref().map(|path| sys::namespace::open(Path::new(path))).transpose();
        let place = place.map_err(|error| mount_error(mount, &error))?;
        Ok(Self { source, part, place, recursive: options.bind.unwrap_or(false), changes, namespace })
    }

    /// Lays out a bind of a directory, with these attributes, cut off from the host.
    pub(crate) fn simple(source: &Path, attributes: u64) -> Self {
        let mut changes: Vec<_> = change(attributes, 0).map(|one| (one, false)).into_iter().collect();
        changes.extend(propagation(&Options::default()));
        Self {
            source: source.to_owned(),
            part: None,
            place: None,
            recursive: false,
            changes,
            namespace: None,
        }
    }

    /// What is made where it goes, if nothing is there.
    fn create(&self) -> Result<Create, sys::Error> {
        let status = match &self.part {
            Some(part) => rustix::fs::fstat(part),
            None => rustix::fs::stat(&self.source),
        };
        let status = status.map_err(sys::Error::at("stat", &self.source))?;
        Ok(match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Create::Directory,
            _ => Create::File,
        })
    }

    /// Returns the step that attaches it; `place` is asked for what to make.
    pub(crate) fn step(
        self,
        mount: &Mount,
        by_child: bool,
        place: impl FnOnce(Create) -> Result<Place, Error>,
    ) -> Result<Step, Error> {
        let failed = |error: sys::Error| mount_error(mount, &error);
        let place = place(self.create().map_err(failed)?)?;
        // What was found beneath the source is not looked up again.
        if by_child && self.part.is_none() && self.place.is_none() {
            let source = text("mount source", self.source.as_os_str().as_bytes())?;
            let Self { recursive, changes, namespace, .. } = self;
            return Ok(Step::Bind { source, recursive, changes, namespace, place });
        }
        let bound = match (&self.part, &self.place) {
            (Some(part), _) => sys::mount::bind_fd(part.as_fd(), self.recursive),
            (None, Some(place)) => bind_within(place, &self.source, self.recursive),
            (None, None) => sys::mount::bind(&self.source, self.recursive),
        };
        let bound = bound.map_err(failed)?;
        for (attributes, recursive) in &self.changes {
            sys::mount::set_attributes(bound.as_fd(), attributes, *recursive).map_err(failed)?;
        }
        Ok(Step::Attach { mount: bound, place })
    }
}

/// Binds what is mounted in another namespace: the kernel copies a mount only for who is where it is.
fn bind_within(place: &OwnedFd, source: &Path, recursive: bool) -> sys::Result<OwnedFd> {
    // Found before: the path is one of this namespace.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found =
        rustix::fs::open(source, flags, rustix::fs::Mode::empty()).map_err(sys::Error::at("open", source))?;
    sys::namespace::within(place.as_fd(), Namespace::Mount, || sys::mount::bind_fd(found.as_fd(), recursive))?
}

fn find_part(source: &Path, part: &str) -> Result<OwnedFd, sys::Error> {
    let folder = sys::path::open_directory(source)?;
    sys::path::open_beneath(folder.as_fd(), Path::new(part), OFlags::PATH | OFlags::CLOEXEC)
}

fn change(set: u64, clear: u64) -> Option<MountAttributes> {
    // The access-time setting is one value: its bits are cleared together whenever it is set.
    let clear = if set & ATTR_ATIME == 0 { clear } else { clear | ATTR_ATIME };
    (set | clear != 0).then(|| MountAttributes { set, clear, ..MountAttributes::default() })
}

/// How events travel; a mount of which nothing is said is cut off from the host.
pub(crate) fn propagation(options: &Options) -> impl Iterator<Item = (MountAttributes, bool)> + '_ {
    const DEFAULT: &[(Propagation, bool)] = &[(Propagation::Private, true)];
    let wanted = if options.propagation.is_empty() { DEFAULT } else { &options.propagation };
    wanted.iter().map(|(propagation, recursive)| {
        let attributes = MountAttributes { propagation: propagation.flag(), ..MountAttributes::default() };
        (attributes, *recursive)
    })
}

/// Makes the user namespace that maps the owners as the document says, or as the container's does (config.md,
/// *POSIX-platform Mounts*; `mount_setattr(2)`, `MOUNT_ATTR_IDMAP`).
fn mapping(mount: &Mount, options: &Options, context: Context<'_>) -> Result<Option<OwnedFd>, Error> {
    let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if !own && options.id_mapped.is_none() {
        return Ok(None);
    }
    let (uids, gids) = match (own, context.mapped) {
        (true, _) => (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice()),
        (false, Some(mapped)) if !mapped.uids.is_empty() => (mapped.uids, mapped.gids),
        (false, _) => {
            let text = "an id-mapped mount needs mappings: its own or those of a new user namespace";
            return Err(Error::Spec(format!("{}: {text}", mount.destination)));
        }
    };
    let namespace = sys::namespace::user(&map_lines(uids), &map_lines(gids));
    namespace.map(Some).map_err(|error| mount_error(mount, &error))
}

/// Makes a mount whose owners are mapped.
pub(crate) fn with_owners(
    map: &IdMap,
    make: impl FnOnce(sys::mount::Owners<'_>) -> sys::Result<OwnedFd>,
) -> sys::Result<OwnedFd> {
    let users = sys::namespace::user(&map_lines(&map.uids), &map_lines(&map.gids))?;
    let root = map.outside((0, 0)).unwrap_or_default();
    make(sys::mount::Owners { users: users.as_fd(), root })
}
