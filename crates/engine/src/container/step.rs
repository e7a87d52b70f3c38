//! A command of a build: a container that is in no list.
//!
//! It has a supervisor, a network and a control group as any other, but no record: when the daemon dies the build is over,
//! and the next daemon ends what it finds of it.

use super::handle::SUPERVISOR_END;
use super::owners::Surroundings as Namespaces;
use super::record::{Container, Endpoint, ImageUse, LogChoice, MountKind, MountPoint};
use super::state::State;
use super::{Containers, now, spec};
use crate::error::{Error, Result};
use crate::network::Attach;
use crate::network::record::Network;
use api::container::Config;
use api::host_config::{DeviceRequest, HostConfig};
use api::network::EndpointSettings;
use api::stream;
use base::{ContainerId, Kind, Rollback};
use builder::{Cancel, MountSource, Process, Ran, Stream};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use supervisor::protocol as say;
use supervisor::{Connection, EventStream, StartError};

const SIGKILL: i32 = 9;
/// What commands see as the host's name: the same in each build, so that it makes no difference. `BuildKit`'s.
const HOSTNAME: &str = "buildkitsandbox";
/// A frame of output is at most so long.
const MAX_FRAME: usize = 1 << 20;

/// What all commands of a build have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Limits, extra hosts, memory for `/dev/shm`, security options.
    pub(crate) host: HostConfig,
}

impl Containers {
    /// Runs a command of a build to its end.
    ///
    /// # Errors
    ///
    /// Docker's text if it cannot be started; [`Kind::Cancelled`] once `cancel` says so.
    pub(crate) fn run_step(
        self: &Arc<Self>,
        process: &Process,
        around: &Surroundings,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran> {
        let mut container = self.step_record(process, around);
        self.check_owners(&container.host)?;
        let id = container.id;
        let exec_dir = self.settings.exec.container(&id);
        let mut rollback = Rollback::new();
        drop(self.store.snapshots().create(&id)?);
        rollback.push("remove the folders", || {
            if let Err(error) = self.store.snapshots().remove(&id) {
                tracing::warn!(container = %id, error = %base::chain(&error), "removing the folders of a build's command");
            }
        });
        std::fs::create_dir_all(&exec_dir).map_err(Error::file("create", &exec_dir))?;
        rollback.push("remove the run's folder", || drop(std::fs::remove_dir_all(&exec_dir)));
        let (connection, theirs) = Connection::pair()?;
        self.zygote.supervise(theirs, &format!("wharf: build {}", id.short()))?;
        let Namespaces { users, network: netns } = self.surroundings(&container)?;
        let member = match &netns {
            Some(netns) => self.step_network(&mut container, netns.as_fd())?,
            None => None,
        };
        let addresses: Vec<IpAddr> = member.iter().flat_map(|(_, addresses)| addresses.clone()).collect();
        rollback.push("give the address back", move || {
            if let Some((network, _)) = member {
                self.networks.release(&network.id, &id.to_string());
            }
        });
        self.write_files(&container, &addresses, &[])?;
        if !self.named_networks(&container).is_empty() {
            connection.done(
                &say::Request::Resolve(Box::new(self.resolver(&container, &mut BTreeMap::new())?)),
                &[],
            )?;
        }
        let mut launch = self.step_launch(&container, process)?;
        (launch.netns, launch.users) = (netns.is_some(), users.is_some());
        let (ours, client) = sys::socket::stream_pair().map_err(|error| {
            Error::known(Kind::Internal, format!("make a pair of sockets: {}", base::chain(&error)))
        })?;
        let mut descriptors: Vec<BorrowedFd<'_>> =
            netns.iter().chain(&users).map(|held| held.as_fd()).collect();
        descriptors.push(client.as_fd());
        let started = connection.launch(Box::new(launch), &descriptors).map_err(|error| match error {
            StartError::Failed { message, exit_code, kind: _ } => Error::Start { exit_code, message },
            StartError::Other(error) => error.into(),
        });
        let (_started, events) = started?;
        drop(descriptors);
        drop(client);
        let socket = self.settings.exec.supervisor_socket(&id);
        let watch = cancel.on_cancel(move || kill(&socket));
        let ran = attend(ours, &events, output);
        drop(watch);
        if !supervisor::tidied_up_within(&exec_dir, SUPERVISOR_END) {
            tracing::warn!(container = %id, "the supervisor of an ended command does not tidy up");
        }
        // What is to be undone after a failure is to be undone after success.
        drop(rollback);
        self.remove_cgroup(&container);
        if cancel.is_told() {
            return Err(Error::known(Kind::Cancelled, "the build was cancelled"));
        }
        ran
    }

    fn step_record(&self, process: &Process, around: &Surroundings) -> Container {
        let id = crate::events::random_id();
        let mut host = around.host.clone();
        host.network_mode.clone_from(&process.network);
        if process.privileged {
            host.privileged = true;
            "host".clone_into(&mut host.userns_mode);
        }
        if !process.devices.is_empty() {
            let request = DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(process.devices.clone()),
                ..DeviceRequest::default()
            };
            host.resources.device_requests = Some(vec![request]);
        }
        self.default_host(&mut host);
        host.network_mode = match host.network_mode.as_str() {
            "" | "default" => "bridge".to_owned(),
            _ => host.network_mode,
        };
        let mode = host.network_mode.clone();
        let own = !matches!(mode.as_str(), "none" | "host") && !mode.starts_with("container:");
        let mut endpoints = BTreeMap::new();
        if own {
            let name = self.networks.get(&mode).map_or(mode, |network| network.name.clone());
            endpoints.insert(name, Endpoint::default());
        }
        Container {
            id,
            name: format!("build-{}", id.short()),
            created: now().as_nanos(),
            image: ImageUse {
                reference: String::new(),
                id: oci::Digest::sha256_of(b""),
                layers: Vec::new(),
                platform: String::new(),
            },
            config: Config {
                hostname: if process.hostname.is_empty() { HOSTNAME } else { &process.hostname }.to_owned(),
                env: Some(process.env.clone()),
                cmd: Some(process.args.clone()),
                user: process.user.clone(),
                working_dir: process.directory.clone(),
                ..Config::default()
            },
            host,
            state: State::Created(None),
            restart_count: 0,
            stopped_by_user: false,
            endpoints,
            ports: Vec::new(),
            mounts: process.mounts.iter().map(mount_point).collect(),
            log: LogChoice { driver: "none".to_owned(), options: BTreeMap::new() },
            links: Vec::new(),
            health: None,
        }
    }

    /// Gives the command an address on its network.
    fn step_network(
        &self,
        container: &mut Container,
        netns: BorrowedFd<'_>,
    ) -> Result<Option<(Arc<Network>, Vec<IpAddr>)>> {
        if container.host.network_mode.starts_with("container:") {
            return Ok(None);
        }
        let network = match container.endpoints.keys().next() {
            Some(name) => Some(self.networks.get(name)?).filter(|network| network.driver.has_interfaces()),
            None => None,
        };
        let Some(network) = network else {
            ::network::netns::set_loopback_up(netns)?;
            return Ok(None);
        };
        let settings = EndpointSettings::default();
        let id = container.id.to_string();
        let wish = Attach {
            container: &id,
            name: &container.name,
            names: vec![container.name.clone()],
            settings: &settings,
            netns,
            device: "eth0",
            default_route: !network.internal,
        };
        let member = self.networks.attach(&network, &wish)?;
        if let Some(endpoint) = container.endpoints.get_mut(&network.name) {
            super::start::fill(endpoint, &network, &member, "eth0");
        }
        let addresses = member.ipv4.iter().chain(&member.ipv6).map(|net| net.address()).collect();
        Ok(Some((network, addresses)))
    }

    fn step_launch(&self, container: &Container, process: &Process) -> Result<say::Launch> {
        let mut facts = self.facts(container, &[])?;
        // Nothing is to be seen of an init in a build.
        facts.init = false;
        // What a build mounts is its own.
        facts.owned = container.mounts.iter().map(|point| point.destination.clone()).collect();
        let overlay = say::Overlay {
            lower: process.lower.iter().cloned().chain([self.settings.data.init()]).collect(),
            upper: process.upper.clone(),
            work: process.work.clone(),
            volatile: true,
            owners: facts.owners.clone(),
        };
        let user = process.user.clone();
        Ok(say::Launch {
            restore: None,
            systemd: self.settings.systemd_cgroups,
            runtime: None,
            id: container.id,
            spec: spec::spec(container, &facts)?,
            rootfs: say::Rootfs::Overlay(overlay),
            user: Some(say::ImageUser { user, groups: Vec::new() }),
            create_cwd: true,
            netns: false,
            users: false,
            open_stdin: false,
            stdin_once: false,
            attach: vec![say::AttachOptions {
                stdout: true,
                stderr: true,
                multiplexed: true,
                ..say::AttachOptions::default()
            }],
            log: say::LogConfig { driver: "none".to_owned(), ..say::LogConfig::default() },
            restart: say::RestartPolicy::default(),
            restart_count: 0,
            exec_dir: self.settings.exec.container(&container.id),
            ports: Vec::new(),
            stop_signal: None,
            health: None,
        })
    }
}

fn mount_point(mount: &builder::ProcessMount) -> MountPoint {
    let (kind, source, options) = match &mount.source {
        MountSource::Path(path) => (MountKind::Bind, path.display().to_string(), Vec::new()),
        MountSource::Memory(size) => {
            let size = size.map(|size| format!("size={size}"));
            (MountKind::Tmpfs, String::new(), size.into_iter().chain(["exec".to_owned()]).collect())
        }
    };
    MountPoint {
        kind,
        name: String::new(),
        source,
        destination: mount.target.clone(),
        mode: String::new(),
        writable: mount.writable,
        propagation: "rprivate".to_owned(),
        options,
        anonymous: false,
        subpath: String::new(),
        image: None,
    }
}

/// Passes output on until the command has ended.
fn attend(ours: OwnedFd, events: &EventStream, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Ran> {
    let mut socket = File::from(ours);
    let mut header = [0; stream::HEADER];
    let mut payload = Vec::new();
    // The stream ends with the command, or with a supervisor that was killed.
    while socket.read_exact(&mut header).is_ok() {
        let Some((kind, length)) = stream::parse_header(header) else { break };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            break;
        }
        payload.resize(length, 0);
        if socket.read_exact(&mut payload).is_err() {
            break;
        }
        match kind {
            stream::Stream::Stderr => output(Stream::Error, &payload),
            _ => output(Stream::Output, &payload),
        }
    }
    drop(socket);
    loop {
        match events.next()? {
            Some(say::Event::Exited(record)) => {
                return Ok(Ran { code: record.exit_code, out_of_memory: record.oom_killed });
            }
            Some(_) => {}
            None => return Err(Error::known(Kind::Internal, "the supervisor of the command was killed")),
        }
    }
}

fn kill(socket: &Path) {
    let stop = say::Request::Stop { signal: SIGKILL, timeout_ms: Some(0) };
    match Connection::connect(socket).and_then(|connection| connection.call(&stop, &[])) {
        Ok(_) | Err(supervisor::Error::Closed { .. }) => {}
        Err(error) => tracing::debug!(error = %base::chain(&error), "ending a build's command"),
    }
}

/// Ends a command that outlived its build, whose run had this folder.
pub(super) fn end_stray(folder: &Path) {
    let id = folder.file_name().and_then(|name| name.to_str()).and_then(|name| ContainerId::parse(name).ok());
    let socket = folder.join("supervisor.sock");
    if id.is_some() && socket.exists() {
        kill(&socket);
    }
}
