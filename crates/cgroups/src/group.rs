//! One cgroup: made, limited, watched and removed, in every hierarchy at once.

use crate::statistics::{self, Statistics, text};
use crate::systemd::Scope;
use crate::{Error, Hierarchy, Setting, device, v1, v2};
use oci::runtime::Resources;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod below;

/// How long freezing may take: a task deep in the kernel cannot be stopped at once.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How long removing a busy cgroup is tried again: its last processes are being reaped.
const DELETE_LIMIT: Duration = Duration::from_secs(2);

/// A cgroup with the same path in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: String,
    places: Places,
    /// What it is to the service manager that looks after it.
    pub(crate) scope: Option<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Places {
    V1(Vec<Place>),
    V2 { root: PathBuf, directory: PathBuf },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    controllers: Vec<String>,
    root: PathBuf,
    directory: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup `path` in every hierarchy, with what is missing above it. One that exists is taken as it is.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPath`], [`Error::Create`].
    pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<Self, Error> {
        let group = Self::at(hierarchy, path)?;
        match &group.places {
            Places::V1(places) => {
                for place in places {
                    if place.controllers.iter().any(|name| name == "cpuset") {
                        create_cpuset(place)?;
                    } else {
                        make_directory(&place.directory)?;
                    }
                }
            }
            Places::V2 { root, directory } => {
                make_directory(directory)?;
                delegate(root, directory);
            }
        }
        Ok(group)
    }

    /// Returns the cgroup `path`, which somebody has made.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPath`].
    pub fn open(hierarchy: &Hierarchy, path: &str) -> Result<Self, Error> {
        Self::at(hierarchy, path)
    }

    /// Returns no cgroup at all, for who may not make any: nothing is limited, and asking for a limit is an error.
    pub fn none() -> Self {
        Self { path: String::new(), places: Places::V1(Vec::new()), scope: None }
    }

    fn at(hierarchy: &Hierarchy, path: &str) -> Result<Self, Error> {
        let relative = relative(path)?;
        let places = match hierarchy {
            Hierarchy::V1 { mounts } => Places::V1(
                mounts
                    .iter()
                    .map(|mount| Place {
                        controllers: mount.controllers.clone(),
                        root: mount.point.clone(),
                        directory: mount.point.join(&relative),
                    })
                    .collect(),
            ),
            Hierarchy::V2 { root } => Places::V2 { root: root.clone(), directory: root.join(&relative) },
        };
        Ok(Self { path: format!("/{}", relative.display()), places, scope: None })
    }

    /// Returns the path from the root of each hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Says whether it is of version 2.
    pub(crate) fn is_unified(&self) -> bool {
        matches!(self.places, Places::V2 { .. })
    }

    /// Says whether the cgroup is there.
    pub fn exists(&self) -> bool {
        self.directories().any(Path::exists)
    }

    /// Returns the directory of `controller` (`cpu`, `name=systemd`); with version 2 always the same.
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        match &self.places {
            Places::V1(places) => places
                .iter()
                .find(|place| place.controllers.iter().any(|name| name == controller))
                .map(|place| place.directory.as_path()),
            Places::V2 { directory, .. } => Some(directory),
        }
    }

    /// Returns the hierarchies with the cgroup's directory in each: controllers, root, directory. Empty controllers: version 2.
    pub fn places(&self) -> Vec<(&[String], &Path, &Path)> {
        match &self.places {
            Places::V1(places) => places
                .iter()
                .map(|place| (place.controllers.as_slice(), place.root.as_path(), place.directory.as_path()))
                .collect(),
            Places::V2 { root, directory } => vec![(&[], root.as_path(), directory.as_path())],
        }
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let (many, one) = match &self.places {
            Places::V1(places) => (Some(places.iter().map(|place| place.directory.as_path())), None),
            Places::V2 { directory, .. } => (None, Some(directory.as_path())),
        };
        many.into_iter().flatten().chain(one)
    }

    /// Opens the version 2 directory, to begin a process in (`CLONE_INTO_CGROUP`); `None` with version 1, and where only the
    /// manager can put processes in.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn descriptor(&self) -> Result<Option<OwnedFd>, Error> {
        match &self.places {
            Places::V1(_) => Ok(None),
            Places::V2 { .. } if self.is_entered_by_manager() => Ok(None),
            Places::V2 { directory, .. } => sys::path::open_directory(directory)
                .map(Some)
                .map_err(|source| Error::Read { path: directory.clone(), source }),
        }
    }

    /// Puts the limits of `resources` in force; what it does not name stays. Also on a living cgroup.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a limit this host cannot keep, [`Error::Write`] for one it refuses.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        match &self.places {
            Places::V1(_) => {
                if let Some(file) = resources.unified.keys().next() {
                    return Err(Error::Unsupported { controller: "unified".to_owned(), file: file.clone() });
                }
                if let Some(memory) = &resources.memory {
                    let present = self
                        .directory("memory")
                        .map(|directory| statistics::number(&directory.join("memory.memsw.limit_in_bytes")));
                    for setting in v1::memory(memory, present.filter(|present| *present > 0)) {
                        self.write(&setting).map_err(|error| self.explain_memory(error, memory.limit))?;
                    }
                }
                self.apply_v1(&v1::settings(resources))
            }
            Places::V2 { directory, .. } => {
                if !resources.devices.is_empty() {
                    set_device_program(directory, resources)?;
                }
                let mut has_bfq = false;
                for setting in v2::settings(resources)? {
                    if setting.file == "io.bfq.weight" {
                        has_bfq = directory.join("io.bfq.weight").exists();
                    }
                    if setting.file == "io.weight" && has_bfq {
                        continue;
                    }
                    self.write(&setting)?;
                }
                Ok(())
            }
        }
    }

    fn apply_v1(&self, settings: &[Setting]) -> Result<(), Error> {
        let mut period_later = None;
        for setting in settings {
            match self.write(setting) {
                // A shorter period with the old quota may exceed the parent's share: it is set after the quota then.
                Err(Error::Write { source, .. })
                    if setting.file == "cpu.cfs_period_us" && source.errno() == Errno::INVAL =>
                {
                    period_later = Some(setting);
                }
                Err(Error::Write { source, path, .. })
                    if setting.file == "blkio.weight" && source.errno() == Errno::NOENT =>
                {
                    // BFQ renames the file.
                    let value = setting.value.clone();
                    let bfq = path.with_file_name("blkio.bfq.weight");
                    sys::path::write_value(None, &bfq, value.as_bytes()).map_err(|source| Error::Write {
                        path: bfq,
                        value,
                        source,
                    })?;
                }
                other => other?,
            }
        }
        period_later.map_or(Ok(()), |setting| self.write(setting))
    }

    fn write(&self, setting: &Setting) -> Result<(), Error> {
        let Some(directory) = self.directory(setting.controller) else {
            if !setting.required {
                return Ok(());
            }
            let (controller, file) = (setting.controller.to_owned(), setting.file.clone());
            return Err(Error::Unsupported { controller, file });
        };
        let path = directory.join(&setting.file);
        match sys::path::write_value(None, &path, setting.value.as_bytes()) {
            Err(error) if error.errno() == Errno::NOENT && !setting.required => Ok(()),
            Err(source) => Err(Error::Write { path, value: setting.value.clone(), source }),
            Ok(()) => Ok(()),
        }
    }

    fn explain_memory(&self, error: Error, limit: Option<i64>) -> Error {
        let busy = matches!(&error, Error::Write { source, .. } if source.errno() == Errno::BUSY);
        match (busy, limit, self.directory("memory")) {
            (true, Some(limit), Some(directory)) => Error::MemoryInUse {
                limit,
                usage: statistics::number(&directory.join("memory.usage_in_bytes")),
                peak: statistics::number(&directory.join("memory.max_usage_in_bytes")),
            },
            _ => error,
        }
    }

    /// Moves a process with all its threads into the cgroup.
    ///
    /// With version 1 the first write after an idle time waits for an RCU grace period (milliseconds).
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        if let Some(scope) = self.scope.as_ref().filter(|scope| scope.is_users()) {
            return scope.attach(pid);
        }
        let value = pid.to_string();
        for directory in self.directories() {
            let path = directory.join("cgroup.procs");
            sys::path::write_value(None, &path, value.as_bytes()).map_err(|source| Error::Write {
                path,
                value: value.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Opens what a process writes "0" to in order to move itself in: version 1's `tasks`; nothing with version 2.
    ///
    /// A thread that moves only itself needs no lock on whole processes, and so waits for no grace period (kernel ≥ 5.6,
    /// "cgroup: Optimize single thread migration"), unlike [`Cgroup::attach`]. Only right for a process of one thread.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn entrances(&self) -> Result<Vec<OwnedFd>, Error> {
        let Places::V1(places) = &self.places else { return Ok(Vec::new()) };
        let open = |place: &Place| {
            let path = place.directory.join("tasks");
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
                Error::Read { source: sys::Error::new("open", path.display(), errno), path: path.clone() }
            })
        };
        places.iter().map(open).collect()
    }

    /// The directory to list processes of: one that only this program uses.
    fn listed(&self) -> Option<&Path> {
        match &self.places {
            Places::V1(_) => {
                let preferred = ["pids", "freezer", "devices", "memory"];
                preferred.iter().find_map(|name| self.directory(name)).or_else(|| self.directories().next())
            }
            Places::V2 { directory, .. } => Some(directory),
        }
    }

    /// Returns the processes of the cgroup and of all below it, as numbered here.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; a cgroup that is gone has none.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        if let Some(directory) = self.listed() {
            collect_processes(directory, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Stops all processes where they are; returns when they have stopped.
    ///
    /// # Errors
    ///
    /// [`Error::Freezer`] if that takes too long; the cgroup is thawed then.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true).inspect_err(|_| {
            // A half-frozen cgroup is worse than a running one; the first error is the one to tell.
            self.set_frozen(false).ok();
        })
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], [`Error::Freezer`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Says whether the cgroup is frozen by [`Cgroup::freeze`].
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        match &self.places {
            Places::V1(_) => match self.directory("freezer") {
                Some(directory) => Ok(text(&directory.join("freezer.state"))?.trim() == "FROZEN"),
                None => Ok(false),
            },
            Places::V2 { directory, .. } => Ok(text(&directory.join("cgroup.freeze"))?.trim() == "1"),
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let unsupported =
            || Error::Unsupported { controller: "freezer".to_owned(), file: "freezer.state".to_owned() };
        let directory = self.directory("freezer").ok_or_else(unsupported)?;
        let (file, value, watched, wanted) = match (&self.places, frozen) {
            (Places::V1(_), true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (Places::V1(_), false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
            (Places::V2 { .. }, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (Places::V2 { .. }, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
        };
        let path = directory.join(file);
        let deadline = Instant::now() + FREEZE_LIMIT;
        let mut pause = Duration::from_micros(50);
        loop {
            // Version 1 looks again at processes that were forking only when it is written again.
            sys::path::write_value(None, &path, value.as_bytes()).map_err(|source| Error::Write {
                path: path.clone(),
                value: value.to_owned(),
                source,
            })?;
            if text(&directory.join(watched))?.lines().any(|line| line.trim() == wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Freezer(directory.to_owned()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Kills every process in the cgroup and below it, frozen ones too. Does not wait until they are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Write`].
    pub fn kill(&self) -> Result<(), Error> {
        if let Places::V2 { directory, .. } = &self.places {
            let path = directory.join("cgroup.kill");
            match sys::path::write_value(None, &path, b"1") {
                Ok(()) => return Ok(()),
                // Before 5.14 there is no such file.
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(source) => return Err(Error::Write { path, value: "1".to_owned(), source }),
            }
        }
        // Those that fork while the list is read are found in the next round.
        for _ in 0..16 {
            let processes = self.processes()?;
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                if let Ok(process) = sys::pidfd::open(pid) {
                    // One that has just ended is what is wanted.
                    sys::pidfd::kill(process.as_fd()).ok();
                }
            }
            if self.is_frozen().unwrap_or(false) {
                self.thaw()?;
            }
        }
        Ok(())
    }

    /// Returns what the cgroup has used.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the cgroup is gone.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        match &self.places {
            Places::V1(_) => {
                if let Some(path) = self.listed().filter(|path| !path.exists()) {
                    let source = sys::Error::new("open", path.display(), Errno::NOENT);
                    return Err(Error::Read { path: path.to_owned(), source });
                }
                Ok(statistics::v1(|controller| self.directory(controller)))
            }
            Places::V2 { directory, .. } => {
                text(&directory.join("cgroup.procs"))?;
                Ok(statistics::v2(directory))
            }
        }
    }

    /// Returns how many processes were killed because memory ran out; 0 if nobody counts.
    pub fn oom_kills(&self) -> u64 {
        let file = match &self.places {
            Places::V1(_) => "memory.oom_control",
            Places::V2 { .. } => "memory.events",
        };
        let table = self.directory("memory").map(|directory| statistics::table(&directory.join(file)));
        table.and_then(|table| table.get("oom_kill").copied()).unwrap_or(0)
    }

    /// Removes the cgroup with all below it, and the scope that it is. What is gone already is fine; what is busy is tried
    /// again for a while.
    ///
    /// # Errors
    ///
    /// [`Error::Delete`] if a process stays in it; as [`Scope::stop`]. All hierarchies are tried in any case.
    pub fn delete(&self) -> Result<(), Error> {
        let mut first = self.scope.as_ref().and_then(|scope| scope.stop().err());
        let deadline = Instant::now() + DELETE_LIMIT;
        for directory in self.directories() {
            if let Err(error) = remove(directory, deadline) {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

fn relative(path: &str) -> Result<PathBuf, Error> {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Error::InvalidPath(path.to_owned())),
        }
    }
    // The root itself belongs to the host.
    if clean.as_os_str().is_empty() || path.contains(['\0', '\n']) {
        return Err(Error::InvalidPath(path.to_owned()));
    }
    Ok(clean)
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let failed = |errno| Error::Create {
        path: path.to_owned(),
        source: sys::Error::new("mkdir", path.display(), errno),
    };
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => match path.parent() {
            Some(parent) => {
                make_directory(parent)?;
                match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => Ok(()),
                    Err(errno) => Err(failed(errno)),
                }
            }
            None => Err(failed(Errno::NOENT)),
        },
        Err(errno) => Err(failed(errno)),
    }
}

/// Makes the levels one by one: a new cpuset has no processors and no memory until it is told.
fn create_cpuset(place: &Place) -> Result<(), Error> {
    let below = place.directory.strip_prefix(&place.root).unwrap_or(Path::new(""));
    let mut parent = place.root.clone();
    for name in below {
        let child = parent.join(name);
        make_directory(&child)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = child.join(file);
            if text(&own)?.trim().is_empty() {
                let inherited = text(&parent.join(file))?;
                sys::path::write_value(None, &own, inherited.trim().as_bytes())
                    .map_err(|source| Error::Write { path: own, value: inherited, source })?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Turns on every controller for the levels above `directory`. One that cannot be is missed where its files are used.
fn delegate(root: &Path, directory: &Path) {
    let Ok(below) = directory.strip_prefix(root) else { return };
    let mut level = root.to_owned();
    for name in below {
        let available = text(&level.join("cgroup.controllers")).unwrap_or_default();
        let enabled = text(&level.join("cgroup.subtree_control")).unwrap_or_default();
        let enabled: Vec<&str> = enabled.split_whitespace().collect();
        for controller in available.split_whitespace().filter(|controller| !enabled.contains(controller)) {
            let value = format!("+{controller}");
            sys::path::write_value(None, &level.join("cgroup.subtree_control"), value.as_bytes()).ok();
        }
        level.push(name);
    }
}

fn set_device_program(directory: &Path, resources: &Resources) -> Result<(), Error> {
    let failed = |source| Error::Devices { path: directory.to_owned(), source };
    let program = sys::bpf::load_device_program(&device::program(&resources.devices)).map_err(failed)?;
    let group =
        rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(sys::Error::new("open", directory.display(), errno)))?;
    sys::bpf::replace_device_program(group.as_fd(), program.as_fd()).map_err(failed)
}

fn open_listing(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(listing) => Ok(Some(listing)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => {
            Err(Error::Read { path: path.to_owned(), source: sys::Error::new("open", path.display(), errno) })
        }
    }
}

fn children(listing: BorrowedFd<'_>, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |errno| Error::Read {
        path: path.to_owned(),
        source: sys::Error::new("getdents", path.display(), errno),
    };
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(listing).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == rustix::fs::FileType::Directory && name != b"." && name != b".." {
            found.push(path.join(String::from_utf8_lossy(name).as_ref()));
        }
    }
    Ok(found)
}

fn collect_processes(directory: &Path, found: &mut Vec<i32>) -> Result<(), Error> {
    let Some(listing) = open_listing(directory)? else { return Ok(()) };
    match text(&directory.join("cgroup.procs")) {
        Ok(list) => found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(Error::Read { source, .. })
            if matches!(source.errno(), Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    for child in children(listing.as_fd(), directory)? {
        collect_processes(&child, found)?;
    }
    Ok(())
}

fn remove(directory: &Path, deadline: Instant) -> Result<(), Error> {
    let mut pause = Duration::from_micros(200);
    loop {
        match rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {
                // Either somebody made cgroups below (a container may), or the last processes are not reaped yet.
                if let Some(listing) = open_listing(directory)? {
                    for child in children(listing.as_fd(), directory)? {
                        remove(&child, deadline)?;
                    }
                }
                if Instant::now() > deadline {
                    return Err(failed_removal(directory, Errno::BUSY));
                }
                match rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => return Ok(()),
                    Err(_) => std::thread::sleep(pause),
                }
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(errno) => return Err(failed_removal(directory, errno)),
        }
    }
}

fn failed_removal(directory: &Path, errno: Errno) -> Error {
    Error::Delete { path: directory.to_owned(), source: sys::Error::new("rmdir", directory.display(), errno) }
}
