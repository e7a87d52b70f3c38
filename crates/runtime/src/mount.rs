//! The document's mounts as steps: sources opened here, targets found by the child.

use crate::bind::{self, Bind};
use crate::options::{self, Options};
use crate::process::text;
use crate::step::{Place, Step, Taken};
use crate::{Error, Problem};
use cgroups::Cgroup;
use oci::runtime::{IdMap, IdMapping, Mount};
use rustix::fd::{AsFd, AsRawFd, RawFd};
use std::ffi::CString;
use std::path::Path;
use sys::mount::ATTR_RDONLY;
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
    /// Whether the child makes the container's devpts.
    pub(crate) late_devpts: bool,
    /// Whether `/dev` is one of the host: nothing is made in it.
    pub(crate) foreign_dev: bool,
    /// Whether there is a procfs that is left open for [`Step::Write`].
    pub(crate) has_proc: bool,
}

/// A user namespace that the container does not share with its maker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped<'a> {
    /// How its users are mapped; empty if it is joined.
    pub(crate) uids: &'a [IdMapping],
    /// How its groups are mapped; empty if it is joined.
    pub(crate) gids: &'a [IdMapping],
}

/// What the mounts depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The container's cgroup, made already.
    pub(crate) cgroup: &'a Cgroup,
    /// Whether it has a cgroup namespace of its own.
    pub(crate) cgroup_namespace: bool,
    /// Its user namespace.
    pub(crate) mapped: Option<Mapped<'a>>,
    /// Whether the child sees the host's mounts, and so makes all by itself, in the order of the document.
    pub(crate) by_child: bool,
    /// `SELinux` label of the mounts, where the host has `SELinux`.
    pub(crate) label: Option<&'a str>,
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
            return self.add_bind(mount, options, context);
        }
        match kind {
            "proc" => {
                self.has_proc |= clean(&mount.destination) == "/proc";
                self.make(mount, kind, options)
            }
            "sysfs" => self.make(mount, kind, options),
            "mqueue" => self.make(mount, kind, &labelled(options, context)),
            "cgroup" | "cgroup2" => self.add_cgroup(mount, options, context),
            _ => self.add_other(mount, kind, &labelled(options, context), context),
        }
    }

    fn add_other(
        &mut self,
        mount: &Mount,
        kind: &str,
        options: &Options,
        context: Context<'_>,
    ) -> Result<(), Error> {
        // What is made in the container's user namespace belongs to its root.
        let owned = !mount.uid_mappings.is_empty();
        if (context.mapped.is_some() || context.by_child) && !owned {
            self.late_devpts |= kind == "devpts" && clean(&mount.destination) == "/dev/pts";
            self.make_writable(mount, kind, options)
        } else {
            self.add_file_system(mount, kind, options)
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
            taken: Taken::default(),
            origin: mount
                .source
                .clone()
                .filter(|source| !source.is_empty())
                .unwrap_or_else(|| kind.to_owned()),
        })
    }

    /// As [`Mounts::place`], of a file system that may take over what was there (runc: a tmpfs without a mode of its own has
    /// the permissions of the directory).
    fn place_over(mount: &Mount, kind: &str, options: &Options) -> Result<Place, Error> {
        let own_mode = options.parameters.iter().any(|(key, _)| key == "mode");
        let is_tmpfs = kind == "tmpfs";
        let place = Self::place(mount, Create::Directory)?;
        let taken = Taken { mode: is_tmpfs && !own_mode, content: is_tmpfs && options.copy_up };
        Ok(Place { taken, ..place })
    }

    /// A file system made in the child that it fills before it becomes read-only.
    fn make_writable(&mut self, mount: &Mount, kind: &str, options: &Options) -> Result<(), Error> {
        let read_only = (options.set | options.set_all) & ATTR_RDONLY != 0;
        let writable = Options {
            set: options.set & !ATTR_RDONLY,
            set_all: options.set_all & !ATTR_RDONLY,
            ..options.clone()
        };
        self.make(mount, kind, &writable)?;
        let Some(Step::Make { place, .. }) = self.steps.last_mut() else { return Ok(()) };
        *place = Self::place_over(mount, kind, options)?;
        let path = text("mount destination", place.target.to_bytes())?;
        if read_only {
            self.later.push(read_only_again(path.clone()));
        }
        for (propagation, _) in &options.propagation {
            let attributes =
                MountAttributes { propagation: propagation.flag(), ..MountAttributes::default() };
            self.steps.push(Step::Change { path: path.clone(), attributes });
        }
        Ok(())
    }

    /// A file system of the child's own namespaces.
    fn make(&mut self, mount: &Mount, kind: &str, options: &Options) -> Result<(), Error> {
        let source = mount.source.as_deref().filter(|source| !source.is_empty()).unwrap_or(kind);
        let source = Ok((c"source".to_owned(), Some(text("mount source", source)?)));
        let further = options.parameters.iter().map(|(key, value)| {
            let value = value.as_deref().map(|value| text("mount option", value)).transpose()?;
            Ok((text("mount option", key.as_str())?, value))
        });
        let parameters = std::iter::once(source).chain(further).collect::<Result<_, Error>>()?;
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
        let source = mount.source.as_deref().filter(|source| !source.is_empty());
        let mut parameters: Vec<(&str, Option<&str>)> = Vec::new();
        parameters.push(("source", Some(source.unwrap_or(kind))));
        parameters.extend(options.parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        // What goes into it (mount points, devices) is made before it becomes read-only.
        let attributes = (options.set | options.set_all) & !ATTR_RDONLY;
        let failed = |error: sys::Error| mount_error(mount, &error);
        let made = match layers(kind, &parameters) {
            Some(layers) if !mount.uid_mappings.is_empty() => {
                let map = IdMap { uids: mount.uid_mappings.clone(), gids: mount.gid_mappings.clone() };
                bind::with_owners(&map, |owners| sys::mount::overlay_view_owned(&layers, owners))
            }
            Some(layers) => sys::mount::overlay_view(&layers),
            None => sys::mount::new(kind, &parameters, attributes),
        };
        let made = made.map_err(failed)?;
        for (attributes, recursive) in bind::propagation(options) {
            sys::mount::set_attributes(made.as_fd(), &attributes, recursive).map_err(failed)?;
        }
        if kind == "devpts" && clean(&mount.destination) == "/dev/pts" {
            self.devpts = Some(made.as_raw_fd());
        }
        let place = Self::place_over(mount, kind, options)?;
        if (options.set | options.set_all) & ATTR_RDONLY != 0 {
            self.later.push(read_only_again(text("mount destination", place.target.to_bytes())?));
        }
        self.steps.push(Step::Attach { mount: made, place });
        Ok(())
    }

    fn add_bind(&mut self, mount: &Mount, options: &Options, context: Context<'_>) -> Result<(), Error> {
        self.foreign_dev |= clean(&mount.destination) == "/dev";
        let bind = Bind::plan(mount, options, context)?;
        // A child in a user namespace may not be allowed to get at the source.
        let by_child = context.by_child && context.mapped.is_none();
        self.steps.push(bind.step(mount, by_child, |create| Self::place(mount, create))?);
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
            return self.bind_cgroup(mount, (directory, &mount.destination), attributes, context);
        }
        let top = Mount { kind: Some("tmpfs".to_owned()), source: None, ..mount.clone() };
        let parameters = vec![("mode".to_owned(), Some("755".to_owned()))];
        let plain = Options { set: attributes, parameters, ..Options::default() };
        self.add_other(&top, "tmpfs", &plain, context)?;
        let base = clean(&mount.destination);
        for (controllers, _, directory) in places {
            let names: Vec<&str> = controllers.iter().map(|name| name.trim_start_matches("name=")).collect();
            let joined = names.join(",");
            let destination = format!("{}/{joined}", base.trim_end_matches('/'));
            if context.cgroup_namespace {
                self.make_cgroup(mount, controllers, &destination, attributes)?;
            } else {
                self.bind_cgroup(mount, (directory, &destination), attributes, context)?;
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

    fn bind_cgroup(
        &mut self,
        mount: &Mount,
        (from, to): (&Path, &str),
        attributes: u64,
        context: Context<'_>,
    ) -> Result<(), Error> {
        let there = Mount { destination: to.to_owned(), ..mount.clone() };
        let by_child = context.by_child && context.mapped.is_none();
        let bind = Bind::simple(from, attributes);
        self.steps.push(bind.step(mount, by_child, |create| Self::place(&there, create))?);
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

/// The layers of an overlay without an upper directory: kernels before 6.7 want them in another form.
fn layers<'a>(kind: &str, parameters: &[(&str, Option<&'a str>)]) -> Option<Vec<&'a Path>> {
    let layers = parameters.iter().filter(|(key, _)| *key != "source");
    let layers = layers.map(|(key, value)| value.filter(|_| *key == "lowerdir+").map(Path::new));
    layers.collect::<Option<Vec<_>>>().filter(|layers| kind == "overlay" && !layers.is_empty())
}

/// Returns the step that moves the child into its cgroups, or waits until it is moved.
pub(crate) fn enter_cgroups(cgroup: &Cgroup) -> Result<Step, Error> {
    if cgroup.is_entered_by_manager() {
        return Ok(Step::WaitAttached);
    }
    Ok(Step::EnterCgroups { entrances: cgroup.entrances().map_err(Error::Cgroup)? })
}

fn read_only_again(path: CString) -> Step {
    Step::Change { path, attributes: MountAttributes { set: ATTR_RDONLY, ..MountAttributes::default() } }
}

/// The options with the label that `SELinux` gives to what has none of its own.
fn labelled(options: &Options, context: Context<'_>) -> Options {
    let mut labelled = options.clone();
    let named = |(key, _): &(String, Option<String>)| key.ends_with("context");
    if let Some(label) = context.label.filter(|_| !options.parameters.iter().any(named)) {
        labelled.parameters.push(("context".to_owned(), Some(label.to_owned())));
    }
    labelled
}

pub(crate) fn mount_error(mount: &Mount, error: &sys::Error) -> Error {
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
