//! Overlays as detached mounts (overlayfs.rst).
//!
//! Kernels since 6.7 take the layers one by one. Older ones want one list, and their fsconfig(2) takes 255 bytes at most, so
//! the layers are named by short paths of descriptors there; a longer list goes through mount(2), which takes a page.

use crate::identity;
use crate::mount::{self, ATTR_RDONLY, failure};
use crate::namespace::{self, Namespace};
use crate::raw::MountAttributes;
use crate::{Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use std::ffi::CString;
use std::path::Path;

/// The longest value that fsconfig(2) takes.
const LONGEST_VALUE: usize = 255;

/// What an overlay is made of.
struct Plan<'a> {
    /// Topmost first.
    lower: &'a [&'a Path],
    /// Upper and work directory.
    upper: Option<(&'a Path, &'a Path)>,
    volatile: bool,
}

/// The options of an [overlay](Plan), with descriptors for paths.
struct Named {
    options: Vec<(&'static str, String)>,
    _held: Vec<OwnedFd>,
}

/// Makes a detached overlay of `lower` (topmost first), writable in `upper` with `work` beside it.
///
/// `volatile` leaves out every sync: after a crash of the machine the upper directory is not to be used, and a second
/// mount is refused until `work/incompat/volatile` is removed ([`clear_volatile`]).
///
/// # Errors
///
/// As [`mount::new`]; `NOENT` if a directory is missing.
pub fn overlay(lower: &[&Path], upper: &Path, work: &Path, volatile: bool) -> Result<OwnedFd> {
    Plan { lower, upper: Some((upper, work)), volatile }.mount()
}

/// Whose the files of an overlay are shown to be.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// A user namespace: identifier N in it stands for the N on the layers' file system (`mount_setattr(2)`).
    pub users: BorrowedFd<'a>,
    /// What root in it is outside: who the kernel's own entries (whiteouts, work directories) are made by.
    pub root: (u32, u32),
}

/// As [`overlay`], with all owners shown as `owners` says; on the layers' file system they stay as they are.
///
/// # Errors
///
/// As [`overlay`]; `INVAL` if the layers' file system or the kernel (before 5.19) does not map owners.
pub fn overlay_owned(
    lower: &[&Path],
    upper: &Path,
    work: &Path,
    volatile: bool,
    owners: Owners<'_>,
) -> Result<OwnedFd> {
    // The kernel wants both of these on one mount.
    let folder = upper.parent().filter(|folder| work.starts_with(folder)).unwrap_or(upper);
    owned(lower.iter().copied().chain([folder]), owners, || {
        Plan { lower, upper: Some((upper, work)), volatile }.mount()
    })
}

/// As [`overlay_view`], with all owners shown as `owners` says.
///
/// # Errors
///
/// As [`overlay_owned`].
pub fn overlay_view_owned(lower: &[&Path], owners: Owners<'_>) -> Result<OwnedFd> {
    owned(lower.iter().copied(), owners, || overlay_view(lower))
}

/// Has `make` find the directories with their owners mapped: in a mount namespace that is gone afterwards, where each has a
/// mapped mount of itself over it. An overlay keeps private copies of the mounts that its layers are on.
fn owned<'a>(
    directories: impl Iterator<Item = &'a Path> + Send,
    owners: Owners<'_>,
    make: impl FnOnce() -> Result<OwnedFd> + Send,
) -> Result<OwnedFd> {
    let attributes = MountAttributes {
        set: mount::ATTR_IDMAP,
        userns_fd: u64::from(owners.users.as_raw_fd().unsigned_abs()),
        ..MountAttributes::default()
    };
    namespace::fresh(&[Namespace::Mount], || {
        mount::isolate()?;
        for directory in directories {
            let mapped = mount::bind(directory, false)?;
            mount::set_attributes(mapped.as_fd(), &attributes, false)?;
            mount::attach_at(mapped.as_fd(), directory)?;
        }
        // The overlay does by itself what its maker may do, as its maker.
        identity::make_files_as(owners.root)?;
        make()
    })?
}

/// Makes a detached, read-only overlay without an upper directory. One layer is bound, since an overlay needs two.
///
/// # Errors
///
/// As [`overlay`].
pub fn overlay_view(lower: &[&Path]) -> Result<OwnedFd> {
    if let [single] = lower {
        let mount = mount::bind(single, false)?;
        let read_only = MountAttributes { set: ATTR_RDONLY, ..Default::default() };
        mount::set_attributes(mount.as_fd(), &read_only, false)?;
        return Ok(mount);
    }
    Plan { lower, upper: None, volatile: false }.mount()
}

impl Plan<'_> {
    fn mount(&self) -> Result<OwnedFd> {
        match self.layer_by_layer() {
            // Before 6.7 `lowerdir+` is unknown, which some kernels say at once and some at the end.
            Err(error) if error.errno() == Errno::INVAL => self.by_descriptors(),
            outcome => outcome,
        }
    }

    fn layer_by_layer(&self) -> Result<OwnedFd> {
        let context = open()?;
        let set = |key: &str, value: &Path| {
            rustix::mount::fsconfig_set_string(&context, key, value)
                .map_err(|errno| failure(&context, "overlay", &format!("{key}={}", value.display()), errno))
        };
        self.lower.iter().try_for_each(|layer| set("lowerdir+", layer))?;
        if let Some((upper, work)) = self.upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
        }
        self.finish(&context)
    }

    fn by_descriptors(&self) -> Result<OwnedFd> {
        let named = self.named()?;
        if named.options.iter().any(|(_, value)| value.len() > LONGEST_VALUE) {
            return self.by_page();
        }
        let context = open()?;
        for (key, value) in &named.options {
            rustix::mount::fsconfig_set_string(&context, *key, value.as_str())
                .map_err(|errno| failure(&context, "overlay", &format!("{key}={value}"), errno))?;
        }
        self.finish(&context)
    }

    /// Mounts with all options in one page, in a mount namespace that is gone afterwards.
    fn by_page(&self) -> Result<OwnedFd> {
        // Any directory serves as the place.
        let place = self.lower.first().copied().unwrap_or(Path::new("/"));
        let failed =
            |errno| Error::new("mount", format_args!("overlay with {} layers", self.lower.len()), errno);
        namespace::fresh(&[Namespace::Mount], || {
            mount::isolate()?;
            // Opened here: the kernel takes no layer of another namespace. `self` is the process, whose descriptors the
            // thread shares.
            let named = self.named()?;
            let options: Vec<String> = named
                .options
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .chain(self.volatile.then(|| "volatile".to_owned()))
                .collect();
            let options =
                CString::new(options.join(",")).map_err(|_nul| Error::Nul { what: "overlay options" })?;
            rustix::mount::mount(c"overlay", place, c"overlay", MountFlags::empty(), options.as_c_str())
                .map_err(failed)?;
            mount::bind(place, false)
        })?
    }

    /// Opens every directory and names it by its descriptor.
    fn named(&self) -> Result<Named> {
        let mut held = Vec::new();
        let mut name = |path: &Path| -> Result<String> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::at("open", path))?;
            let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
            held.push(fd);
            Ok(name)
        };
        let lower: Vec<String> = self.lower.iter().map(|path| name(path)).collect::<Result<_>>()?;
        let mut options = vec![("lowerdir", lower.join(":"))];
        if let Some((upper, work)) = self.upper {
            options.extend([("upperdir", name(upper)?), ("workdir", name(work)?)]);
        }
        Ok(Named { options, _held: held })
    }

    fn finish(&self, context: &OwnedFd) -> Result<OwnedFd> {
        // What the first column of /proc/mounts says.
        rustix::mount::fsconfig_set_string(context, "source", "overlay")
            .map_err(|errno| failure(context, "overlay", "source=overlay", errno))?;
        if self.volatile {
            rustix::mount::fsconfig_set_flag(context, "volatile")
                .map_err(|errno| failure(context, "overlay", "volatile", errno))?;
        }
        let create = format!("create with {} layers", self.lower.len());
        rustix::mount::fsconfig_create(context)
            .map_err(|errno| failure(context, "overlay", &create, errno))?;
        rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(Error::on("fsmount", "overlay"))
    }
}

fn open() -> Result<OwnedFd> {
    rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Error::on("fsopen", "overlay"))
}

/// Removes the mark that a volatile overlay left in its work directory. None there is fine.
///
/// # Errors
///
/// Those of unlink and rmdir(2).
pub fn clear_volatile(work: &Path) -> Result<()> {
    let mark = work.join("work/incompat/volatile");
    for (name, flags) in [("dirty", AtFlags::empty()), ("", AtFlags::REMOVEDIR)] {
        let path = if name.is_empty() { mark.clone() } else { mark.join(name) };
        match rustix::fs::unlinkat(CWD, &path, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(Error::new("unlink", path.display(), errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "root: overlay mounts"]
    fn owners_are_mapped_on_the_way() {
        use std::os::unix::fs::{MetadataExt, chown};
        let folder = std::env::temp_dir().join(format!("wharf-sys-owners-{}", std::process::id()));
        let layers: Vec<_> = (0..3).map(|number| folder.join(format!("layer{number}"))).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer).unwrap();
        }
        let (upper, work) = (folder.join("c/upper"), folder.join("c/work"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        for (name, owner) in [("roots", 0), ("users", 1000), ("gone", 0), ("strangers", 70_000)] {
            std::fs::write(layers[2].join(name), "").unwrap();
            chown(layers[2].join(name), Some(owner), Some(owner)).unwrap();
        }
        let map = "0 100000 65536\n";
        let users = namespace::user(map, map).unwrap();
        let owners = Owners { users: users.as_fd(), root: (100_000, 100_000) };
        let lower: Vec<&Path> = layers.iter().map(std::path::PathBuf::as_path).collect();
        let mount = overlay_owned(&lower, &upper, &work, false, owners).unwrap();
        let owner = |name: &str| {
            let status = rustix::fs::statat(&mount, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            (status.st_uid, status.st_gid)
        };
        assert_eq!(owner("roots"), (100_000, 100_000));
        assert_eq!(owner("users"), (101_000, 101_000));
        assert_eq!(owner("strangers"), (65_534, 65_534));
        identity::making_files_as((100_000, 100_000), || {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            rustix::fs::openat(&mount, "new", flags, Mode::RWXU).unwrap();
            rustix::fs::openat(&mount, "users", OFlags::WRONLY, Mode::empty()).unwrap();
            rustix::fs::unlinkat(&mount, "gone", AtFlags::empty()).unwrap();
        })
        .unwrap();
        assert_eq!(owner("new"), (100_000, 100_000));
        let below = |name: &str| std::fs::symlink_metadata(upper.join(name)).unwrap();
        assert_eq!((below("new").uid(), below("users").uid(), below("gone").uid()), (0, 1000, 0));
        assert_eq!(below("gone").rdev(), 0);
        drop(mount);
        let view = overlay_view_owned(&lower, owners).unwrap();
        let status = rustix::fs::statat(&view, "users", AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(status.st_uid, 101_000);
        drop(view);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[ignore = "root: overlay mounts"]
    fn older_kernels_get_their_lists() {
        let folder = std::env::temp_dir().join(format!("wharf-sys-overlays-{}", std::process::id()));
        let layers: Vec<_> = (0..40).map(|number| folder.join(format!("layer{number}"))).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer).unwrap();
            std::fs::write(layer.join("which"), layer.display().to_string()).unwrap();
        }
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        for count in [2, 40] {
            std::fs::create_dir_all(&upper).unwrap();
            std::fs::create_dir_all(&work).unwrap();
            let lower: Vec<&Path> = layers[..count].iter().map(std::path::PathBuf::as_path).collect();
            let plan = Plan { lower: &lower, upper: Some((&upper, &work)), volatile: true };
            let mount = plan.by_descriptors().unwrap();
            let which = rustix::fs::openat(&mount, "which", OFlags::RDWR, Mode::empty()).unwrap();
            assert_eq!(
                crate::path::read_fd_to_end(which.as_fd(), 1000).unwrap(),
                layers[0].display().to_string().into_bytes()
            );
            assert!(upper.join("which").exists(), "written to the upper directory");
            drop((mount, which));
            std::fs::remove_dir_all(&upper).unwrap();
            std::fs::remove_dir_all(&work).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
