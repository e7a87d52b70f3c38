//! The document's mounts as steps: sources opened here, targets found by the child.

use crate::options::{self, Options};
use crate::process::text;
use crate::step::{Place, Step};
use crate::{Error, Problem};
use cgroups::Cgroup;
use oci::runtime::Mount;
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::fs::FileType;
use std::path::Path;
use sys::mount::{ATTR_ATIME, ATTR_RDONLY, Propagation};
use sys::path::Create;
use sys::raw::MountAttributes;

/// The mounts of a container, in order.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// What to do, in the order of the document.
    pub(crate) steps: Vec<Step>,
    /// What to do when everything in the mounts has been made.
    pub(crate) later: Vec<Step>,
    /// The container's devpts: of the terminal.
    pub(crate) devpts: Option<RawFd>,
    /// Whether `/dev` is one of the host: nothing is made in it.
    pub(crate) foreign_dev: bool,
    /// Whether there is a procfs that is left open for [`Step::Write`].
    pub(crate) has_proc: bool,
}

/// What the mounts depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The container's cgroup, made already.
    pub(crate) cgroup: &'a Cgroup,
    /// Whether it has a cgroup namespace of its own.
    pub(crate) cgroup_namespace: bool,
}

/// Files of `/proc` that may be replaced: they only tell about resources (runc, *checkProcMount*).
const REPLACEABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
];

impl Mounts {
    /// Opens the sources of `mounts` and lays out the steps.
    pub(crate) fn plan(mounts: &[Mount], context: Context<'_>) -> Result<Self, Error> {
        let mut plan = Self::default();
        // A namespace of its own is entered when the process is in its cgroup: as late as possible.
        let mut namespace_due = context.cgroup_namespace;
        for mount in mounts {
            if !mount.destination.starts_with('/') {
                let text = format!("mount destination {:?} is not absolute", mount.destination);
                return Err(Error::Spec(text));
            }
            if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
                return Err(Error::Unsupported("an id-mapped mount".to_owned()));
            }
            let options = options::parse(&mount.options);
            if mount.kind.as_deref().is_some_and(|kind| kind.starts_with("cgroup")) && namespace_due {
                namespace_due = false;
                plan.enter_cgroup_namespace(context)?;
            }
            plan.add(mount, &options, context)?;
        }
        if namespace_due {
            plan.enter_cgroup_namespace(context)?;
        }
        Ok(plan)
    }

    /// The root of the namespace is where the process is when it is made.
    fn enter_cgroup_namespace(&mut self, context: Context<'_>) -> Result<(), Error> {
        self.steps.push(Step::WaitAttached);
        self.steps.push(enter_cgroups(context.cgroup)?);
        self.steps.push(Step::Unshare { flags: libc::CLONE_NEWCGROUP });
        Ok(())
    }

    fn add(&mut self, mount: &Mount, options: &Options, context: Context<'_>) -> Result<(), Error> {
        let kind = mount.kind.as_deref().unwrap_or("none");
        if options.bind.is_some() || kind == "bind" {
            return self.add_bind(mount, options);
        }
        match kind {
            "proc" => {
                self.has_proc |= clean(&mount.destination) == "/proc";
                self.make(mount, kind, options)
            }
            "sysfs" | "mqueue" => self.make(mount, kind, options),
            "cgroup" | "cgroup2" => self.add_cgroup(mount, options, context),
            _ => self.add_file_system(mount, kind, options),
        }
    }

    fn place(mount: &Mount, create: Create) -> Result<Place, Error> {
        let kind = mount.kind.as_deref().unwrap_or_default();
        let destination = clean(&mount.destination);
        Ok(Place {
            target: text("mount destination", destination.as_str())?,
            create,
            ordinary: matches!(kind, "proc" | "sysfs"),
            inside_proc: kind == "proc" || REPLACEABLE.contains(&destination.as_str()),
            origin: mount
                .source
                .clone()
                .filter(|source| !source.is_empty())
                .unwrap_or_else(|| kind.to_owned()),
        })
    }

    /// A file system of the child's own namespaces.
    fn make(&mut self, mount: &Mount, kind: &str, options: &Options) -> Result<(), Error> {
        let parameters = options
            .parameters
            .iter()
            .map(|(key, value)| {
                let value = value.as_deref().map(|value| text("mount option", value)).transpose()?;
                Ok((text("mount option", key.as_str())?, value))
            })
            .collect::<Result<_, Error>>()?;
        self.steps.push(Step::Make {
            kind: text("mount type", kind)?,
            parameters,
            attributes: u32::try_from(options.set | options.set_all).unwrap_or(0),
            place: Self::place(mount, Create::Directory)?,
            keep: kind == "proc" && clean(&mount.destination) == "/proc",
        });
        Ok(())
    }

    /// A file system that needs nothing of the child's: made here.
    fn add_file_system(&mut self, mount: &Mount, kind: &str, options: &Options) -> Result<(), Error> {
        if options.copy_up {
            return Err(Error::Unsupported("mount option tmpcopyup".to_owned()));
        }
        let source = mount.source.as_deref().filter(|source| !source.is_empty());
        let mut parameters: Vec<(&str, Option<&str>)> = Vec::new();
        parameters.extend(source.map(|source| ("source", Some(source))));
        parameters.extend(options.parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        // What goes into it (mount points, devices) is made before it becomes read-only.
        let attributes = (options.set | options.set_all) & !ATTR_RDONLY;
        let failed = |error: sys::Error| mount_error(mount, &error);
        let made = sys::mount::new(kind, &parameters, attributes).map_err(failed)?;
        propagate(&made, options).map_err(failed)?;
        if kind == "devpts" && clean(&mount.destination) == "/dev/pts" {
            self.devpts = Some(made.as_raw_fd());
        }
        let place = Self::place(mount, Create::Directory)?;
        if (options.set | options.set_all) & ATTR_RDONLY != 0 {
            self.later.push(read_only(&place)?);
        }
        self.steps.push(Step::Attach { mount: made, place });
        Ok(())
    }

    fn add_bind(&mut self, mount: &Mount, options: &Options) -> Result<(), Error> {
        let source = mount.source.as_deref().unwrap_or_default();
        let failed = |error: sys::Error| mount_error(mount, &error);
        let bound = sys::mount::bind(Path::new(source), options.bind.unwrap_or(false)).map_err(failed)?;
        change(&bound, options.set, options.clear, false).map_err(failed)?;
        change(&bound, options.set_all, options.clear_all, true).map_err(failed)?;
        propagate(&bound, options).map_err(failed)?;
        let create = match sys::path::file_type(bound.as_fd()).map_err(failed)? {
            FileType::Directory => Create::Directory,
            _ => Create::File,
        };
        self.foreign_dev |= clean(&mount.destination) == "/dev";
        self.steps.push(Step::Attach { mount: bound, place: Self::place(mount, create)? });
        Ok(())
    }

    /// The container's own cgroups (version 1: a directory for each hierarchy).
    fn add_cgroup(&mut self, mount: &Mount, options: &Options, context: Context<'_>) -> Result<(), Error> {
        let attributes = options.set | options.set_all;
        let places = context.cgroup.places();
        if let [([], _, directory)] = places.as_slice() {
            if context.cgroup_namespace {
                let plain = Options { set: attributes, ..Options::default() };
                return self.make(mount, "cgroup2", &plain);
            }
            return self.bind_cgroup(mount, directory, &mount.destination, attributes);
        }
        let top = Mount { kind: Some("tmpfs".to_owned()), source: None, ..mount.clone() };
        let parameters = vec![("mode".to_owned(), Some("755".to_owned()))];
        self.add_file_system(&top, "tmpfs", &Options { set: attributes, parameters, ..Options::default() })?;
        let base = clean(&mount.destination);
        for (controllers, _, directory) in places {
            let names: Vec<&str> = controllers.iter().map(|name| name.trim_start_matches("name=")).collect();
            let joined = names.join(",");
            let destination = format!("{}/{joined}", base.trim_end_matches('/'));
            if context.cgroup_namespace {
                self.make_cgroup(mount, controllers, &destination, attributes)?;
            } else {
                self.bind_cgroup(mount, directory, &destination, attributes)?;
            }
            for name in names.iter().filter(|name| **name != joined) {
                self.steps.push(Step::Link {
                    directory: text("mount destination", base.as_str())?,
                    name: text("cgroup controller", *name)?,
                    target: text("cgroup controller", joined.as_str())?,
                });
            }
        }
        Ok(())
    }

    fn bind_cgroup(&mut self, mount: &Mount, from: &Path, to: &str, attributes: u64) -> Result<(), Error> {
        let failed = |error: sys::Error| mount_error(mount, &error);
        let bound = sys::mount::bind(from, false).map_err(failed)?;
        change(&bound, attributes, 0, false).map_err(failed)?;
        let private = Options { propagation: vec![(Propagation::Private, false)], ..Options::default() };
        propagate(&bound, &private).map_err(failed)?;
        let there = Mount { destination: to.to_owned(), ..mount.clone() };
        self.steps.push(Step::Attach { mount: bound, place: Self::place(&there, Create::Directory)? });
        Ok(())
    }

    fn make_cgroup(
        &mut self,
        mount: &Mount,
        controllers: &[String],
        to: &str,
        attributes: u64,
    ) -> Result<(), Error> {
        let mut parameters = Vec::new();
        for controller in controllers {
            match controller.strip_prefix("name=") {
                Some(name) => {
                    parameters.push(("none".to_owned(), None));
                    parameters.push(("name".to_owned(), Some(name.to_owned())));
                }
                None => parameters.push((controller.clone(), None)),
            }
        }
        let there = Mount { destination: to.to_owned(), kind: Some("cgroup".to_owned()), ..mount.clone() };
        self.make(&there, "cgroup", &Options { set: attributes, parameters, ..Options::default() })
    }
}

/// Returns the step that moves the child into its cgroups.
pub(crate) fn enter_cgroups(cgroup: &Cgroup) -> Result<Step, Error> {
    Ok(Step::EnterCgroups { entrances: cgroup.entrances().map_err(Error::Cgroup)? })
}

fn read_only(place: &Place) -> Result<Step, Error> {
    let path = text("mount destination", place.target.to_bytes())?;
    Ok(Step::Change { path, attributes: MountAttributes { set: ATTR_RDONLY, ..MountAttributes::default() } })
}

fn change(mount: &OwnedFd, set: u64, clear: u64, recursive: bool) -> Result<(), sys::Error> {
    // The access-time setting is one value: its bits are cleared together whenever it is set.
    let clear = if set & ATTR_ATIME == 0 { clear } else { clear | ATTR_ATIME };
    if set | clear == 0 {
        return Ok(());
    }
    let attributes = MountAttributes { set, clear, ..MountAttributes::default() };
    sys::mount::set_attributes(mount.as_fd(), &attributes, recursive)
}

/// Sets how events travel; a mount of which nothing is said is cut off from the host.
fn propagate(mount: &OwnedFd, options: &Options) -> Result<(), sys::Error> {
    let default = [(Propagation::Private, true)];
    let wanted = if options.propagation.is_empty() { &default[..] } else { &options.propagation };
    for (propagation, recursive) in wanted {
        let attributes = MountAttributes { propagation: propagation.flag(), ..MountAttributes::default() };
        sys::mount::set_attributes(mount.as_fd(), &attributes, *recursive)?;
    }
    Ok(())
}

fn mount_error(mount: &Mount, error: &sys::Error) -> Error {
    let kind = mount.kind.as_deref().unwrap_or_default();
    Error::Mount {
        origin: mount.source.clone().unwrap_or_else(|| kind.to_owned()),
        destination: mount.destination.clone(),
        problem: Problem::Errno(error.errno()),
    }
}

/// Returns an absolute path without `.`, `..` and doubled slashes, as Go's *Clean*.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_lexically() {
        for (path, expect) in [
            ("/a/b", "/a/b"),
            ("//a/./b/", "/a/b"),
            ("/a/../../b", "/b"),
            ("/", "/"),
            ("/proc/../proc", "/proc"),
        ] {
            assert_eq!(clean(path), expect, "{path}");
        }
    }
}
