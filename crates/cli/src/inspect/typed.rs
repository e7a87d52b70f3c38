//! The engine's documents as Go's client types them: names that differ from JSON's, fields left out when empty, and
//! which objects are structs and which are maps.

use gotemplate::{Field, Object, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A struct of Go's client.
#[derive(Debug)]
pub(crate) struct Type {
    name: &'static str,
    /// Fields whose name in Go is not the one in JSON: `(JSON, Go)`.
    renamed: &'static [(&'static str, &'static str)],
    /// Fields that are left out of JSON when zero, and what they are then.
    omitted: &'static [(&'static str, Zero)],
    /// What fields hold, unless it is a simple value, a list of such, or a map of such.
    fields: &'static [(&'static str, Shape)],
}

#[derive(Debug, Clone, Copy)]
enum Zero {
    Nil,
    List,
    Map,
    Text,
    Number,
    False,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Struct(&'static Type),
    List(&'static Type),
    Map(&'static Type),
    /// A map of lists.
    MapOfLists(&'static Type),
}

/// Fields that are pointers: `null` is nil and not an empty list.
const POINTERS: &[&str] = &[
    "Health",
    "Healthcheck",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
    "Init",
    "IPAMConfig",
    "SizeRw",
    "SizeRootFs",
    "UsageData",
    "ClusterVolume",
    "RegistryConfig",
    "ExitCode",
    "Config",
    "RemoteManagers",
];

/// Fields that are maps: `null` is a nil map.
const MAPS: &[&str] = &[
    "Labels",
    "Options",
    "DriverOpts",
    "Volumes",
    "Data",
    "ExposedPorts",
    "PortBindings",
    "Ports",
    "Networks",
    "Containers",
    "Status",
    "Sysctls",
    "Tmpfs",
    "StorageOpt",
    "Annotations",
    "Runtimes",
    "IndexConfigs",
];

const fn plain(name: &'static str) -> Type {
    Type { name, renamed: &[], omitted: &[], fields: &[] }
}

static STATE: Type = Type {
    omitted: &[("Health", Zero::Nil)],
    fields: &[("Health", Shape::Struct(&HEALTH))],
    ..plain("*container.State")
};
static HEALTH: Type = Type { fields: &[("Log", Shape::List(&HEALTH_RESULT))], ..plain("*container.Health") };
static HEALTH_RESULT: Type = plain("*container.HealthcheckResult");
static PORT_BINDING: Type = Type { renamed: &[("HostIp", "HostIP")], ..plain("nat.PortBinding") };
static LOG_CONFIG: Type = plain("container.LogConfig");
static RESTART_POLICY: Type = plain("container.RestartPolicy");
static DEVICE: Type = plain("container.DeviceMapping");
static DEVICE_REQUEST: Type = plain("container.DeviceRequest");
static ULIMIT: Type = plain("*container.Ulimit");
static THROTTLE: Type = plain("*blkiodev.ThrottleDevice");
static MOUNT: Type = Type {
    omitted: &[
        ("Type", Zero::Text),
        ("Source", Zero::Text),
        ("Target", Zero::Text),
        ("ReadOnly", Zero::False),
        ("Consistency", Zero::Text),
        ("BindOptions", Zero::Nil),
        ("VolumeOptions", Zero::Nil),
        ("ImageOptions", Zero::Nil),
        ("TmpfsOptions", Zero::Nil),
        ("ClusterOptions", Zero::Nil),
    ],
    fields: &[
        ("BindOptions", Shape::Struct(&BIND_OPTIONS)),
        ("VolumeOptions", Shape::Struct(&VOLUME_OPTIONS)),
        ("TmpfsOptions", Shape::Struct(&TMPFS_OPTIONS)),
    ],
    ..plain("mount.Mount")
};
static BIND_OPTIONS: Type = Type {
    omitted: &[("Propagation", Zero::Text), ("NonRecursive", Zero::False), ("CreateMountpoint", Zero::False)],
    ..plain("*mount.BindOptions")
};
static VOLUME_OPTIONS: Type = Type {
    omitted: &[
        ("NoCopy", Zero::False),
        ("Labels", Zero::Map),
        ("Subpath", Zero::Text),
        ("DriverConfig", Zero::Nil),
    ],
    ..plain("*mount.VolumeOptions")
};
static TMPFS_OPTIONS: Type = Type {
    omitted: &[("SizeBytes", Zero::Number), ("Mode", Zero::Number), ("Options", Zero::List)],
    ..plain("*mount.TmpfsOptions")
};
static HOST_CONFIG: Type = Type {
    name: "*container.HostConfig",
    renamed: &[
        ("CpuShares", "CPUShares"),
        ("NanoCpus", "NanoCPUs"),
        ("CpuPeriod", "CPUPeriod"),
        ("CpuQuota", "CPUQuota"),
        ("CpuRealtimePeriod", "CPURealtimePeriod"),
        ("CpuRealtimeRuntime", "CPURealtimeRuntime"),
        ("CpuCount", "CPUCount"),
        ("CpuPercent", "CPUPercent"),
        ("Dns", "DNS"),
        ("DnsOptions", "DNSOptions"),
        ("DnsSearch", "DNSSearch"),
    ],
    omitted: &[
        ("Annotations", Zero::Map),
        ("StorageOpt", Zero::Map),
        ("Tmpfs", Zero::Map),
        ("Sysctls", Zero::Map),
        ("Runtime", Zero::Text),
        ("Mounts", Zero::List),
        ("Init", Zero::Nil),
        ("KernelMemory", Zero::Number),
        ("KernelMemoryTCP", Zero::Number),
    ],
    fields: &[
        ("LogConfig", Shape::Struct(&LOG_CONFIG)),
        ("RestartPolicy", Shape::Struct(&RESTART_POLICY)),
        ("PortBindings", Shape::MapOfLists(&PORT_BINDING)),
        ("Devices", Shape::List(&DEVICE)),
        ("DeviceRequests", Shape::List(&DEVICE_REQUEST)),
        ("Ulimits", Shape::List(&ULIMIT)),
        ("Mounts", Shape::List(&MOUNT)),
        ("BlkioDeviceReadBps", Shape::List(&THROTTLE)),
        ("BlkioDeviceWriteBps", Shape::List(&THROTTLE)),
        ("BlkioDeviceReadIOps", Shape::List(&THROTTLE)),
        ("BlkioDeviceWriteIOps", Shape::List(&THROTTLE)),
        ("BlkioWeightDevice", Shape::List(&THROTTLE)),
    ],
};
static HEALTH_CONFIG: Type = Type {
    omitted: &[
        ("Test", Zero::List),
        ("Interval", Zero::Number),
        ("Timeout", Zero::Number),
        ("StartPeriod", Zero::Number),
        ("StartInterval", Zero::Number),
        ("Retries", Zero::Number),
    ],
    ..plain("*v1.HealthcheckConfig")
};
static CONFIG: Type = Type {
    omitted: &[
        ("ExposedPorts", Zero::Map),
        ("Healthcheck", Zero::Nil),
        ("ArgsEscaped", Zero::False),
        ("NetworkDisabled", Zero::False),
        ("MacAddress", Zero::Text),
        ("StopSignal", Zero::Text),
        ("StopTimeout", Zero::Nil),
        ("Shell", Zero::List),
        ("OnBuild", Zero::List),
    ],
    fields: &[("Healthcheck", Shape::Struct(&HEALTH_CONFIG))],
    ..plain("*container.Config")
};
static ENDPOINT: Type =
    Type { fields: &[("IPAMConfig", Shape::Struct(&ENDPOINT_IPAM))], ..plain("*network.EndpointSettings") };
static ENDPOINT_IPAM: Type = Type {
    omitted: &[("IPv4Address", Zero::Text), ("IPv6Address", Zero::Text), ("LinkLocalIPs", Zero::List)],
    ..plain("*network.EndpointIPAMConfig")
};
static NETWORK_SETTINGS: Type = Type {
    fields: &[("Ports", Shape::MapOfLists(&PORT_BINDING)), ("Networks", Shape::Map(&ENDPOINT))],
    ..plain("*container.NetworkSettings")
};
static MOUNT_POINT: Type = Type {
    omitted: &[("Type", Zero::Text), ("Name", Zero::Text), ("Driver", Zero::Text)],
    ..plain("container.MountPoint")
};
static DRIVER_DATA: Type = plain("storage.DriverData");
static DESCRIPTOR: Type = Type {
    renamed: &[
        ("mediaType", "MediaType"),
        ("digest", "Digest"),
        ("size", "Size"),
        ("urls", "URLs"),
        ("annotations", "Annotations"),
        ("platform", "Platform"),
        ("artifactType", "ArtifactType"),
    ],
    omitted: &[
        ("URLs", Zero::List),
        ("Annotations", Zero::Map),
        ("Platform", Zero::Nil),
        ("ArtifactType", Zero::Text),
    ],
    ..plain("*v1.Descriptor")
};

/// A container.
pub(crate) static CONTAINER: Type = Type {
    renamed: &[("Id", "ID")],
    omitted: &[("SizeRw", Zero::Nil), ("SizeRootFs", Zero::Nil), ("ImageManifestDescriptor", Zero::Nil)],
    fields: &[
        ("State", Shape::Struct(&STATE)),
        ("HostConfig", Shape::Struct(&HOST_CONFIG)),
        ("GraphDriver", Shape::Struct(&DRIVER_DATA)),
        ("Mounts", Shape::List(&MOUNT_POINT)),
        ("Config", Shape::Struct(&CONFIG)),
        ("NetworkSettings", Shape::Struct(&NETWORK_SETTINGS)),
        ("ImageManifestDescriptor", Shape::Struct(&DESCRIPTOR)),
    ],
    ..plain("*container.InspectResponse")
};

static IMAGE_CONFIG: Type = Type {
    omitted: &[
        ("User", Zero::Text),
        ("ExposedPorts", Zero::Map),
        ("Env", Zero::List),
        ("Entrypoint", Zero::List),
        ("Cmd", Zero::List),
        ("Volumes", Zero::Map),
        ("WorkingDir", Zero::Text),
        ("Labels", Zero::Map),
        ("StopSignal", Zero::Text),
        ("ArgsEscaped", Zero::False),
        ("Healthcheck", Zero::Nil),
        ("OnBuild", Zero::List),
        ("Shell", Zero::List),
    ],
    fields: &[("Healthcheck", Shape::Struct(&HEALTH_CONFIG))],
    ..plain("*v1.DockerOCIImageConfig")
};
static ROOT_FS: Type = Type { omitted: &[("Layers", Zero::List)], ..plain("image.RootFS") };
static METADATA: Type = plain("image.Metadata");

/// An image.
pub(crate) static IMAGE: Type = Type {
    renamed: &[("Id", "ID")],
    omitted: &[
        ("Created", Zero::Text),
        ("Variant", Zero::Text),
        ("OsVersion", Zero::Text),
        ("VirtualSize", Zero::Number),
        ("Descriptor", Zero::Nil),
        ("Manifests", Zero::List),
    ],
    fields: &[
        ("Config", Shape::Struct(&IMAGE_CONFIG)),
        ("GraphDriver", Shape::Struct(&DRIVER_DATA)),
        ("RootFS", Shape::Struct(&ROOT_FS)),
        ("Metadata", Shape::Struct(&METADATA)),
        ("Descriptor", Shape::Struct(&DESCRIPTOR)),
    ],
    ..plain("*image.InspectResponse")
};

static IPAM: Type = Type { fields: &[("Config", Shape::List(&IPAM_CONFIG))], ..plain("network.IPAM") };
static IPAM_CONFIG: Type = Type {
    renamed: &[("AuxiliaryAddresses", "AuxAddress")],
    omitted: &[
        ("Subnet", Zero::Text),
        ("IPRange", Zero::Text),
        ("Gateway", Zero::Text),
        ("AuxAddress", Zero::Map),
    ],
    ..plain("network.IPAMConfig")
};
static CONFIG_REFERENCE: Type = plain("network.ConfigReference");
static ENDPOINT_RESOURCE: Type = plain("network.EndpointResource");

/// A network.
pub(crate) static NETWORK: Type = Type {
    renamed: &[("Id", "ID")],
    omitted: &[("Peers", Zero::List), ("Services", Zero::Map)],
    fields: &[
        ("IPAM", Shape::Struct(&IPAM)),
        ("ConfigFrom", Shape::Struct(&CONFIG_REFERENCE)),
        ("Containers", Shape::Map(&ENDPOINT_RESOURCE)),
    ],
    ..plain("network.Inspect")
};

static USAGE: Type = plain("*volume.UsageData");

/// A volume.
pub(crate) static VOLUME: Type = Type {
    omitted: &[
        ("ClusterVolume", Zero::Nil),
        ("CreatedAt", Zero::Text),
        ("Status", Zero::Map),
        ("UsageData", Zero::Nil),
    ],
    fields: &[("UsageData", Shape::Struct(&USAGE))],
    ..plain("*volume.Volume")
};

static PLUGINS: Type = plain("system.PluginsInfo");
static COMMIT: Type = Type { omitted: &[("Expected", Zero::Text)], ..plain("system.Commit") };
static SWARM: Type = plain("swarm.Info");
static INDEX: Type = plain("*registry.IndexInfo");
static REGISTRY: Type =
    Type { fields: &[("IndexConfigs", Shape::Map(&INDEX))], ..plain("*registry.ServiceConfig") };
static RUNTIME: Type = Type {
    renamed: &[("path", "Path"), ("runtimeArgs", "Args"), ("status", "Status")],
    omitted: &[("Path", Zero::Text), ("Args", Zero::List), ("Status", Zero::Map)],
    ..plain("system.RuntimeWithStatus")
};
static POOL: Type = plain("system.NetworkAddressPool");
static CLIENT_INFO: Type = plain("clientInfo");

/// What `info` shows: the engine's answer and the client's part.
pub(crate) static INFO: Type = Type {
    renamed: &[
        ("CpuCfsPeriod", "CPUCfsPeriod"),
        ("CpuCfsQuota", "CPUCfsQuota"),
        ("BridgeNfIp6tables", "BridgeNfIP6tables"),
        ("HttpProxy", "HTTPProxy"),
        ("HttpsProxy", "HTTPSProxy"),
    ],
    omitted: &[
        ("CgroupVersion", Zero::Text),
        ("ProductLicense", Zero::Text),
        ("DefaultAddressPools", Zero::List),
        ("FirewallBackend", Zero::Nil),
        ("DiscoveredDevices", Zero::List),
        ("Containerd", Zero::Nil),
        ("KernelMemory", Zero::False),
        ("KernelMemoryTCP", Zero::False),
        ("ServerErrors", Zero::List),
    ],
    fields: &[
        ("Plugins", Shape::Struct(&PLUGINS)),
        ("RegistryConfig", Shape::Struct(&REGISTRY)),
        ("Runtimes", Shape::Map(&RUNTIME)),
        ("Swarm", Shape::Struct(&SWARM)),
        ("ContainerdCommit", Shape::Struct(&COMMIT)),
        ("RuncCommit", Shape::Struct(&COMMIT)),
        ("InitCommit", Shape::Struct(&COMMIT)),
        ("DefaultAddressPools", Shape::List(&POOL)),
        ("ClientInfo", Shape::Struct(&CLIENT_INFO)),
    ],
    ..plain("system.dockerInfo")
};

static PLATFORM: Type = plain("system.PlatformInfo");
static COMPONENT: Type = Type { omitted: &[("Details", Zero::Map)], ..plain("system.ComponentVersion") };
static SERVER: Type = Type {
    renamed: &[("ApiVersion", "APIVersion")],
    omitted: &[
        ("Components", Zero::List),
        ("MinAPIVersion", Zero::Text),
        ("KernelVersion", Zero::Text),
        ("Experimental", Zero::False),
        ("BuildTime", Zero::Text),
    ],
    fields: &[("Platform", Shape::Struct(&PLATFORM)), ("Components", Shape::List(&COMPONENT))],
    ..plain("*system.serverVersion")
};
static CLIENT: Type = Type {
    renamed: &[("ApiVersion", "APIVersion")],
    omitted: &[("Platform", Zero::Nil)],
    fields: &[("Platform", Shape::Struct(&PLATFORM))],
    ..plain("system.clientVersion")
};

/// What `version` shows.
pub(crate) static VERSION: Type = Type {
    fields: &[("Client", Shape::Struct(&CLIENT)), ("Server", Shape::Struct(&SERVER))],
    ..plain("system.versionInfo")
};

static ACTOR: Type = plain("events.Actor");

/// An event.
pub(crate) static EVENT: Type = Type {
    renamed: &[
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ],
    omitted: &[("Status", Zero::Text), ("ID", Zero::Text), ("From", Zero::Text), ("Scope", Zero::Text)],
    fields: &[("Actor", Shape::Struct(&ACTOR))],
    ..plain("*events.Message")
};

impl Type {
    /// Turns a document into the value a template sees.
    pub(crate) fn value(&self, json: &Json) -> Value {
        let Json::Object(entries) = json else { return Value::from(json) };
        let mut object = Object::new(self.name);
        for (key, json) in entries {
            let go = self.renamed.iter().find(|(name, _)| name == key).map_or(key.as_str(), |(_, go)| go);
            let shape = self.fields.iter().find(|(name, _)| name == key).map(|(_, shape)| *shape);
            let value = shaped(shape, key, json);
            object.fields.push(Field { name: go.to_owned(), json: Some(key.clone()), value, omitted: false });
        }
        for (go, zero) in self.omitted {
            if object.get(go).is_none() {
                object.fields.push(Field {
                    name: (*go).to_owned(),
                    json: None,
                    value: zero.value(),
                    omitted: true,
                });
            }
        }
        Value::Object(Arc::new(object))
    }
}

impl Zero {
    fn value(self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::List => Value::List(None),
            Self::Map => Value::Map(None),
            Self::Text => Value::from(""),
            Self::Number => Value::Int(0),
            Self::False => Value::Bool(false),
        }
    }
}

fn shaped(shape: Option<Shape>, key: &str, json: &Json) -> Value {
    let list = |element: &'static Type, json: &Json| match json {
        Json::Array(items) => Value::list(items.iter().map(|item| element.value(item))),
        _ => Value::List(None),
    };
    match (shape, json) {
        (None, Json::Null) if POINTERS.contains(&key) => Value::Nil,
        (None, Json::Null) if MAPS.contains(&key) => Value::Map(None),
        (None, Json::Null) => Value::List(None),
        (None, json) => Value::from(json),
        (Some(Shape::Struct(_)), Json::Null) => Value::Nil,
        (Some(Shape::Struct(shape)), json) => shape.value(json),
        (Some(Shape::List(element)), json) => list(element, json),
        (Some(Shape::Map(element)), Json::Object(entries)) => {
            Value::map(entries.iter().map(|(key, json)| (key.clone(), element.value(json))))
        }
        (Some(Shape::MapOfLists(element)), Json::Object(entries)) => {
            let entries: BTreeMap<String, Value> =
                entries.iter().map(|(key, json)| (key.clone(), list(element, json))).collect();
            Value::Map(Some(Arc::new(entries)))
        }
        (Some(Shape::Map(_) | Shape::MapOfLists(_)), _) => Value::Map(None),
    }
}
