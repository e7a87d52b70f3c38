//! Cgroups of a service manager: a container is a scope of systemd's, which makes, limits and removes its cgroup.
//!
//! Who writes below a cgroup that systemd looks after needs it to be handed over (`Delegate`); and what systemd is not told it
//! may undo at its next reload. So a scope is started with a process that holds it open and with the properties that stand for
//! the limits; then the cgroup is used as any other. It is spoken to over its own socket, or over a message bus.
//!
//! systemd's <https://systemd.io/CGROUP_DELEGATION/> and org.freedesktop.systemd1(5); what runc's `--systemd-cgroup` does.

mod annotations;
mod bus;
mod managed;
mod message;
mod properties;

pub use message::Value;
pub use properties::{Facts, Property, properties};

use crate::{Error, Hierarchy};
use bus::{Bus, malformed};
use message::Writer;
use oci::runtime::Resources;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which manager looks after a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// The host's.
    System,
    /// That of a user, whose runtime directory (`$XDG_RUNTIME_DIR`) this is.
    User(PathBuf),
}

/// A scope and the slice it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    instance: Instance,
    unit: String,
    slice: String,
    /// What else the manager is told of it.
    further: Vec<(String, Value)>,
}

impl Scope {
    /// Reads `SLICE:PREFIX:NAME`, the form of `linux.cgroupsPath` for systemd; an empty text names the container `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Scope`].
    pub fn parse(text: &str, id: &str, instance: Instance) -> Result<Self, Error> {
        let wrong = |reason: &'static str| Error::Scope { text: text.to_owned(), reason };
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match parts.as_slice() {
            [""] => ("", "wharf", id),
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => return Err(wrong("is not of the form \"slice:prefix:name\" for systemd cgroups")),
        };
        let slice = match (slice, &instance) {
            ("", Instance::System) => "system.slice",
            ("", Instance::User(_)) => "user.slice",
            (slice, _) => slice,
        };
        expand(slice).ok_or_else(|| wrong("does not begin with the name of a slice"))?;
        if name.is_empty() || name.contains('/') || prefix.contains('/') {
            return Err(wrong("has no name that a unit can have"));
        }
        let dash = if prefix.is_empty() { "" } else { "-" };
        Ok(Self {
            instance,
            unit: format!("{prefix}{dash}{name}.scope"),
            slice: slice.to_owned(),
            further: Vec::new(),
        })
    }

    /// Adds the properties that `annotations` ask for: `org.systemd.property.NAME`.
    ///
    /// # Errors
    ///
    /// [`Error::Annotation`].
    pub fn with_annotations(self, annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        Ok(Self { further: annotations::properties(annotations)?, ..self })
    }

    /// Returns the unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Says whether a user's own manager looks after it.
    pub fn is_users(&self) -> bool {
        matches!(self.instance, Instance::User(_))
    }

    /// Returns the cgroup's path from the root of each hierarchy. Only a user's manager has to be asked for its own place.
    ///
    /// # Errors
    ///
    /// [`Error::NoManager`], [`Error::Connect`], [`Error::Exchange`], [`Error::Refused`].
    pub fn path(&self) -> Result<String, Error> {
        let below = format!("{}/{}", expand(&self.slice).unwrap_or_default(), self.unit);
        match &self.instance {
            Instance::System => Ok(below),
            Instance::User(_) => Ok(format!("{}{below}", self.connect()?.property("ControlGroup")?)),
        }
    }

    fn connect(&self) -> Result<Bus, Error> {
        match &self.instance {
            Instance::System => {
                check()?;
                Bus::connect(Path::new("/run/systemd/private"), Path::new("/run/dbus/system_bus_socket"))
            }
            Instance::User(runtime) => Bus::connect(&runtime.join("systemd/private"), &runtime.join("bus")),
        }
    }

    /// Starts the scope with the process `pid` in it and the limits `resources`. A failed unit of the name is cleared away.
    ///
    /// # Errors
    ///
    /// As [`Scope::path`]; [`Error::Job`] if it is not started.
    pub fn start(&self, pid: i32, resources: &Resources, hierarchy: &Hierarchy) -> Result<(), Error> {
        let mut bus = self.connect()?;
        let facts = facts(&mut bus, hierarchy.is_unified())?;
        let mut told: Vec<Property> = vec![
            ("Description", Value::Text(format!("container {}", self.unit.trim_end_matches(".scope")))),
            ("Slice", Value::Text(self.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("PIDs", Value::Numbers(vec![pid.unsigned_abs()])),
            ("DefaultDependencies", Value::Bool(false)),
        ];
        let input = if facts.unified { "IOAccounting" } else { "BlockIOAccounting" };
        let counted = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", input];
        told.extend(counted.map(|name| (name, Value::Bool(true))));
        told.extend(properties(resources, &facts));
        // The last of a name counts.
        let further = self.further.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let told: Vec<(&str, Value)> = told.into_iter().chain(further).collect();
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("replace");
        body.properties(&told);
        body.no_units();
        let signature = "ssa(sv)a(sa(sv))";
        let reply = match bus.manager("StartTransientUnit", signature, &body) {
            Err(Error::Refused { name, .. }) if name == "org.freedesktop.systemd1.UnitExists" => {
                // One that has failed is remembered until somebody takes note.
                self.reset(&mut bus)?;
                bus.manager("StartTransientUnit", signature, &body)?
            }
            other => other?,
        };
        let job = reply.reader().text().ok_or_else(|| malformed("StartTransientUnit"))?;
        match bus.wait(&job)?.as_str() {
            "done" => Ok(()),
            other => {
                self.reset(&mut bus).ok();
                Err(Error::Job { unit: self.unit.clone(), result: other.to_owned() })
            }
        }
    }

    /// Changes the limits of the running scope; until the host ends, as all of the scope.
    ///
    /// # Errors
    ///
    /// As [`Scope::path`].
    pub fn update(&self, resources: &Resources, unified: bool) -> Result<(), Error> {
        let mut bus = self.connect()?;
        let facts = facts(&mut bus, unified)?;
        let told = properties(resources, &facts);
        if told.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.text(&self.unit);
        body.value(&Value::Bool(true));
        body.properties(&told);
        bus.manager("SetUnitProperties", "sba(sv)", &body).map(drop)
    }

    /// Has a process of this user's moved into the scope, where the user may not do that by itself.
    ///
    /// # Errors
    ///
    /// As [`Scope::path`].
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("");
        body.value(&Value::Numbers(vec![pid.unsigned_abs()]));
        self.connect()?.manager("AttachProcessesToUnit", "ssau", &body).map(drop)
    }

    /// Stops the scope, which ends all processes in it and removes its cgroup. One that is gone is stopped.
    ///
    /// # Errors
    ///
    /// As [`Scope::path`].
    pub fn stop(&self) -> Result<(), Error> {
        let mut bus = self.connect()?;
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("replace");
        match bus.manager("StopUnit", "ss", &body) {
            Ok(reply) => {
                let job = reply.reader().text().ok_or_else(|| malformed("StopUnit"))?;
                bus.wait(&job)?;
            }
            Err(Error::Refused { name, .. }) if name == NO_UNIT => return Ok(()),
            Err(error) => return Err(error),
        }
        self.reset(&mut bus)
    }

    fn reset(&self, bus: &mut Bus) -> Result<(), Error> {
        let mut body = Writer::default();
        body.text(&self.unit);
        match bus.manager("ResetFailedUnit", "s", &body) {
            Err(Error::Refused { name, .. }) if name == NO_UNIT => Ok(()),
            other => other.map(drop),
        }
    }
}

fn facts(bus: &mut Bus, unified: bool) -> Result<Facts, Error> {
    let version = bus.property("Version")?;
    let devices = sys::path::read_to_end(Path::new("/proc/devices")).unwrap_or_default();
    let devices = String::from_utf8_lossy(&devices).into_owned();
    Ok(Facts { unified, version: number(&version), devices })
}

const NO_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Returns the first number in a version (`252.38-1~deb12u1`, `v240-5`).
fn number(version: &str) -> u32 {
    let digits = version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Checks that systemd runs here (`sd_booted(3)`).
///
/// # Errors
///
/// [`Error::NoManager`].
pub fn check() -> Result<(), Error> {
    if Path::new("/run/systemd/system").is_dir() { Ok(()) } else { Err(Error::NoManager) }
}

/// Says whether `name` is the name of a slice.
pub fn is_slice(name: &str) -> bool {
    expand(name).is_some()
}

/// Returns the path of a slice: `a-b.slice` is inside `a.slice` (systemd.slice(5)).
fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    let mut whole = String::new();
    for part in stem.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        if !whole.is_empty() {
            whole.push('-');
        }
        whole.push_str(part);
        path.push('/');
        path.push_str(&whole);
        path.push_str(".slice");
    }
    Some(path)
}

#[cfg(test)]
mod tests;
