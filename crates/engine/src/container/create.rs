//! Creating a container: validate, place, record.

use super::handle::{self, Handle};
use super::record::{Container, Endpoint, ImageUse, LogChoice, MountKind, MountPoint};
use super::state::State;
use super::{Containers, intent, mounts, names, now, spec};
use crate::error::{Error, Result};
use crate::events::random_id;
use crate::settings::{BUILT_IN_RUNTIMES, OciRuntime};
use api::container::CreateRequest;
use api::host_config::HostConfig;
use base::id::is_restricted_name;
use base::{ContainerId, Kind, Rollback};
use std::collections::BTreeMap;
use std::path::Path;
use store::Durability;

/// The image that a container is made of.
#[derive(Debug, Clone)]
pub struct ImageChoice {
    /// The image's identifier: the digest of its manifest or index.
    pub id: oci::Digest,
    /// The configuration of the platform that was chosen.
    pub config: oci::ImageConfig,
}

/// Lets places that would get anonymous volumes have those of `keep` instead: destination to name.
fn keep_volumes(mounts: &mut [mounts::Planned], keep: &BTreeMap<String, String>) {
    let nameless = |planned: &&mut mounts::Planned| planned.point.anonymous && planned.point.name.is_empty();
    for planned in mounts.iter_mut().filter(nameless) {
        if let Some(volume) = keep.get(&planned.point.destination) {
            planned.point.name.clone_from(volume);
            planned.copy = false;
        }
    }
}

/// Which container to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) id: ContainerId,
    /// `None` for a name that is made up.
    pub(super) name: Option<&'a str>,
    /// Volumes for those places that would get anonymous ones: destination to name.
    pub(super) keep: &'a BTreeMap<String, String>,
}

impl Containers {
    /// Creates a container. Returns its identifier and warnings.
    ///
    /// # Errors
    ///
    /// Fails with Docker's text if the name is taken or something asked for cannot be; nothing is left then.
    pub fn create(
        &self,
        name: Option<&str>,
        request: CreateRequest,
        image: &ImageChoice,
    ) -> Result<(ContainerId, Vec<String>)> {
        let id = self.new_id();
        let warnings = self.make(Making { id, name, keep: &BTreeMap::new() }, request, image)?;
        Ok((id, warnings))
    }

    /// As [`Containers::create`], with the choices made. Returns warnings.
    pub(super) fn make(
        &self,
        making: Making<'_>,
        request: CreateRequest,
        image: &ImageChoice,
    ) -> Result<Vec<String>> {
        let Making { id, name, keep } = making;
        let original = handle::request(&id, &request)?;
        let CreateRequest { mut config, host_config: mut host, networking_config } = request;
        intent::check_shared(&config, &host)?;
        intent::merge(&mut config, &image.config.config);
        let warnings = intent::check(&config, &host, &self.host.capacity)?;
        let parent = host.resources.cgroup_parent.as_str();
        if self.settings.systemd_cgroups && !parent.is_empty() && !cgroups::systemd::is_slice(parent) {
            return Err(Error::invalid(
                "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
            ));
        }
        if config.network_disabled {
            "none".clone_into(&mut host.network_mode);
        }
        self.default_host(&mut host);
        self.check_owners(&host)?;
        self.runtime(&host.runtime)?;
        let log = self.log_choice(&host)?;
        super::ports::wishes(&config, &host)?;
        let links = self.take_links(&mut host)?;
        let endpoints =
            self.endpoints(&config, &host, networking_config.endpoints_config.unwrap_or_default())?;
        let mut mounts = self.plan_mounts(&config, &host)?;
        keep_volumes(&mut mounts, keep);
        if config.hostname.is_empty() {
            config.hostname = self.default_hostname(&host, &id);
        }
        let mut rollback = Rollback::new();
        let name = self.reserve_name(name, id)?;
        let reserved = name.clone();
        rollback.push("give the name back", move || self.table().release(&reserved, &id));
        let snapshot = self.store.snapshots().create(&id)?;
        rollback.push("remove the folders", || {
            if let Err(error) = self.remove_folders(&id) {
                tracing::warn!(container = %id, error = %base::chain(&error), "removing the folders of a failed creation");
            }
        });
        self.bound_layer(&snapshot, &host.storage_opt)?;
        let made = self.make_volumes(&id, mounts, image)?;
        rollback.push("release the volumes", {
            let anonymous: Vec<String> =
                made.iter().filter(|point| point.anonymous).map(|point| point.name.clone()).collect();
            move || {
                self.volumes.release(&id.to_string());
                for volume in anonymous {
                    drop(self.volumes.remove(&volume, true));
                }
            }
        });
        let container = Container {
            id,
            name: name.clone(),
            created: now().as_nanos(),
            image: image_use(&config.image, image),
            config,
            host,
            state: State::Created(None),
            restart_count: 0,
            stopped_by_user: false,
            endpoints,
            ports: Vec::new(),
            mounts: made,
            log,
            links,
            health: None,
        };
        super::logs::origin(&container)?;
        // The spec is made at each start; making it here refuses now what could never start.
        spec::spec(&container, &self.facts(&container, &[])?)?;
        let durability = if container.host.auto_remove { Durability::Relaxed } else { Durability::Durable };
        handle::store_new(self.store.database(), &container, original, durability)?;
        rollback.disarm();
        self.tell(&container, "create", &[]);
        self.table().insert(Handle::new(container));
        Ok(warnings)
    }

    /// An identifier whose first twelve digits are no number, since they become the host name.
    pub(super) fn new_id(&self) -> ContainerId {
        loop {
            let id = random_id();
            if !id.short().bytes().all(|digit| digit.is_ascii_digit()) && self.handle(&id).is_none() {
                return id;
            }
        }
    }

    /// The host's name where the container shares the host's, another container's where it shares that one's network.
    fn default_hostname(&self, host: &HostConfig, id: &ContainerId) -> String {
        if host.network_mode == "host" || host.uts_mode == "host" {
            return rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        let other = host.network_mode.strip_prefix("container:").and_then(|name| self.get(name).ok());
        other.map_or_else(|| id.short(), |other| other.config.hostname.clone())
    }

    fn reserve_name(&self, wanted: Option<&str>, id: ContainerId) -> Result<String> {
        if let Some(wanted) = wanted.filter(|name| !name.is_empty()) {
            let name = wanted.strip_prefix('/').unwrap_or(wanted);
            check_name(name)?;
            self.table().reserve(name, id)?;
            return Ok(name.to_owned());
        }
        let seed = id.to_string();
        for attempt in 0..6_u32 {
            let start = usize::try_from(attempt).unwrap_or(0) * 8;
            let digits = seed.get(start..start + 16).unwrap_or_default();
            let name = names::generate(u64::from_str_radix(digits, 16).unwrap_or(0), attempt);
            if self.table().reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.short();
        self.table().reserve(&name, id)?;
        Ok(name)
    }

    /// Fills in what dockerd shows for what was not said.
    pub(super) fn default_host(&self, host: &mut HostConfig) {
        let defaults = self.defaults();
        if matches!(host.network_mode.as_str(), "" | "default") {
            let default = if self.settings.bridge.name.is_some() { "bridge" } else { "none" };
            default.clone_into(&mut host.network_mode);
        }
        if host.runtime.is_empty() {
            host.runtime.clone_from(&defaults.default_runtime);
        }
        if host.restart_policy.name.is_empty() {
            "no".clone_into(&mut host.restart_policy.name);
        }
        if host.ipc_mode.is_empty() {
            let shareable = defaults.shareable_ipc;
            (if shareable { "shareable" } else { "private" }).clone_into(&mut host.ipc_mode);
        }
        if host.cgroupns_mode.is_empty() {
            let dockerds = self.host.unified && !host.privileged;
            let private = defaults.private_cgroupns.unwrap_or(dockerds);
            (if private { "private" } else { "host" }).clone_into(&mut host.cgroupns_mode);
        }
        if host.shm_size == 0 {
            host.shm_size = i64::try_from(defaults.shm_size).unwrap_or(i64::MAX);
        }
        if host.resources.memory > 0 && host.resources.memory_swap == 0 {
            host.resources.memory_swap = host.resources.memory.saturating_mul(2);
        }
        if !host.privileged {
            host.masked_paths.get_or_insert_with(|| spec::masked(self.host.thermal()));
            host.readonly_paths.get_or_insert_with(spec::read_only);
        }
        // What shares the host's processes has no label of its own (moby, `generateSecurityOpt`).
        let shares = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
        let options = host.security_opt.iter().flatten();
        if shares && !{ options }.any(|option| option.split('=').next() == Some("label")) {
            host.security_opt.get_or_insert_default().push("label=disable".to_owned());
        }
        if host.log_config.driver.is_empty() {
            host.log_config.driver.clone_from(&self.settings.log.driver);
        }
    }

    /// Returns the program that is the runtime `name`; `None` for the built-in one.
    ///
    /// # Errors
    ///
    /// `unknown or invalid runtime name: X`.
    pub(super) fn runtime(&self, name: &str) -> Result<Option<supervisor::protocol::ForeignRuntime>> {
        if let Some(OciRuntime { path, arguments }) = self.defaults().runtimes.get(name) {
            return Ok(Some(supervisor::protocol::ForeignRuntime {
                path: path.into(),
                arguments: arguments
                    .iter()
                    .cloned()
                    .chain(self.settings.systemd_cgroups.then(|| "--systemd-cgroup".to_owned()))
                    .collect(),
                root: self.settings.exec.runtime(name),
            }));
        }
        // A record from before runtimes could be chosen has no name.
        if name.is_empty() || BUILT_IN_RUNTIMES.contains(&name) {
            return Ok(None);
        }
        Err(Error::invalid(format!("unknown or invalid runtime name: {name}")))
    }

    fn log_choice(&self, host: &HostConfig) -> Result<LogChoice> {
        let driver = host.log_config.driver.clone();
        let mut options = host.log_config.config.clone().unwrap_or_default();
        if driver == self.settings.log.driver && options.is_empty() {
            options.clone_from(&self.settings.log.options);
        }
        ::logs::validate(&driver, &options).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(LogChoice { driver, options })
    }

    /// Returns the networks a container begins with.
    fn endpoints(
        &self,
        config: &api::container::Config,
        host: &HostConfig,
        asked: BTreeMap<String, api::network::EndpointSettings>,
    ) -> Result<BTreeMap<String, Endpoint>> {
        let mode = host.network_mode.as_str();
        if mode.starts_with("container:") {
            return Ok(BTreeMap::new());
        }
        let mut wanted = asked;
        if !wanted.contains_key(mode) {
            let by_id = self.networks.get(mode).ok().map(|network| network.name.clone());
            let has = by_id.as_ref().is_some_and(|name| wanted.contains_key(name));
            if !has {
                wanted.insert(mode.to_owned(), api::network::EndpointSettings::default());
            }
        }
        let mut endpoints = BTreeMap::new();
        for (name, mut settings) in wanted {
            let key = if matches!(name.as_str(), "default" | "") { "bridge".to_owned() } else { name };
            // dockerd looks the network up at the start, so that a container can be created before it.
            let network = self.networks.get(&key).ok();
            let name = network.as_ref().map_or(key, |network| network.name.clone());
            if settings.mac_address.is_empty() {
                settings.mac_address.clone_from(&config.mac_address);
            }
            let network_id = network.map_or_else(String::new, |network| network.id.clone());
            endpoints.insert(name, Endpoint { settings, network_id, ..Endpoint::default() });
        }
        Ok(endpoints)
    }

    fn plan_mounts(
        &self,
        config: &api::container::Config,
        host: &HostConfig,
    ) -> Result<Vec<mounts::Planned>> {
        let mut from = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let (name, mode) = text.split_once(':').unwrap_or((text, ""));
            let read_only = match mode {
                "" | "rw" | "z" | "Z" => None,
                "ro" => Some(true),
                mode => return Err(Error::invalid(format!("invalid mode: {mode}"))),
            };
            from.push((self.get(name)?.mounts.clone(), read_only));
        }
        mounts::plan(&mounts::Asked {
            binds: host.binds.as_deref().unwrap_or_default(),
            driver: &host.volume_driver,
            mounts: &host.mounts,
            tmpfs: &host.tmpfs,
            volumes: config.volumes.iter().flatten().map(|(path, _)| path.as_str()).collect(),
            from,
        })
    }

    /// Creates volumes and missing folders, and fills new volumes with what the image has there.
    fn make_volumes(
        &self,
        id: &ContainerId,
        planned: Vec<mounts::Planned>,
        image: &ImageChoice,
    ) -> Result<Vec<MountPoint>> {
        let mut points = Vec::new();
        for mounts::Planned { mut point, volume, create_source, copy } in planned {
            match point.kind {
                MountKind::Tmpfs => {}
                MountKind::Image => {
                    let found = self.store.images().find(&point.source)?;
                    let choice = ImageChoice {
                        id: found.id().clone(),
                        config: oci::ImageConfig::clone(&found.config),
                    };
                    point.image = Some(image_use(&point.source, &choice));
                    self.view(&point)?;
                }
                MountKind::Bind => {
                    let source = Path::new(&point.source);
                    if !source.exists() {
                        if !create_source {
                            return Err(Error::invalid(format!(
                                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                                point.source
                            )));
                        }
                        std::fs::create_dir_all(source).map_err(|error| {
                            Error::known(
                                Kind::Internal,
                                format!(
                                    "error while creating mount source path '{}': mkdir {0}: {error}",
                                    point.source
                                ),
                            )
                        })?;
                    }
                }
                MountKind::Volume => {
                    let request = api::volume::CreateRequest { name: point.name.clone(), ..volume };
                    // Not as what is missing: clients would take that for the image and pull it.
                    let refused = |error: Error| match base::Classify::kind(&error) {
                        Kind::NotFound => Error::invalid(error.to_string()),
                        _ => error,
                    };
                    let (volume, _new) =
                        self.volumes.create_for(&request, Some(&id.to_string())).map_err(refused)?;
                    volume.name.clone_into(&mut point.name);
                    let data = self.volumes.data(&volume.name);
                    self.volumes.hold(&id.to_string(), [volume.name.as_str()]);
                    let _there = self.volumes.visit([volume.name.as_str()])?;
                    if copy {
                        let (layers, place) = (&image.config.rootfs.diff_ids, Path::new(&point.destination));
                        self.volumes.fill(&volume.name, |data| {
                            super::files::fill_volume(&self.store, layers, place, data)
                        })?;
                    }
                    if !point.subpath.is_empty() {
                        check_subpath(&data, &point.subpath)?;
                    }
                    point.source = data.display().to_string();
                }
            }
            points.push(point);
        }
        Ok(points)
    }
}

/// Refuses a part of a volume that is not there or lies outside. It is looked up again whenever it is mounted.
fn check_subpath(data: &Path, part: &str) -> Result<()> {
    use std::os::fd::AsFd as _;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let found = sys::path::open_directory(data)
        .and_then(|folder| sys::path::open_beneath(folder.as_fd(), Path::new(part), flags));
    found.map(drop).map_err(|error| {
        let reason = sys::message(error.errno());
        Error::invalid(format!("cannot access path {}: {reason}", data.join(part).display()))
    })
}

fn image_use(reference: &str, image: &ImageChoice) -> ImageUse {
    ImageUse {
        reference: reference.to_owned(),
        id: image.id.clone(),
        layers: image.config.rootfs.diff_ids.clone(),
        platform: format!("{}/{}", image.config.os, image.config.architecture),
    }
}

/// Checks a name that a user chose.
///
/// # Errors
///
/// Docker's text for a name that is not allowed.
pub(super) fn check_name(name: &str) -> Result<()> {
    if is_restricted_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}
