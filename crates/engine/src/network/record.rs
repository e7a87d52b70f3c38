//! A network as it is stored (database bucket `networks`).

use crate::error::{Error, Result};
use api::StringMap;
use api::network::Ipam;
use base::Kind;
use network::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What makes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the host with address translation.
    Bridge,
    /// Devices of a link of the host, each with a hardware address of its own.
    Macvlan,
    /// Devices of a link of the host that share its hardware address.
    Ipvlan,
    /// A bridge with a tunnel to other hosts.
    Overlay,
    /// The host's own network namespace.
    Host,
    /// Nothing but loopback.
    Null,
}

impl Driver {
    /// Returns the API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Overlay => "overlay",
            Self::Host => "host",
            Self::Null => "null",
        }
    }

    /// Whether containers get an interface of their own.
    pub fn has_interfaces(self) -> bool {
        !matches!(self, Self::Host | Self::Null)
    }

    /// Whether the interfaces are ports of a bridge, to which ports can be published.
    pub fn has_bridge(self) -> bool {
        matches!(self, Self::Bridge | Self::Overlay)
    }
}

/// How containers of a bridge are reached from outside, and the outside from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// By published ports of the host; they appear with the host's address.
    #[default]
    Nat,
    /// The same, and by their own addresses, on any port.
    Unprotected,
    /// By their own addresses, on published ports; they appear with these.
    Routed,
    /// Not at all: even the host has no address there.
    Isolated,
}

impl GatewayMode {
    /// Reads Docker's word.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "nat" => Some(Self::Nat),
            "nat-unprotected" => Some(Self::Unprotected),
            "routed" => Some(Self::Routed),
            "isolated" => Some(Self::Isolated),
            _ => None,
        }
    }
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet.
    #[serde(with = "text")]
    pub subnet: IpNet,
    /// The part that addresses are chosen of.
    #[serde(with = "optional_text", default)]
    pub range: Option<IpNet>,
    /// The containers' gateway: the bridge's own address, but for a default gateway of the user's.
    pub gateway: IpAddr,
    /// Addresses that are not given out, by name.
    #[serde(default)]
    pub auxiliary: std::collections::BTreeMap<String, IpAddr>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties, as the API has them")]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// What makes it.
    pub driver: Driver,
    /// When it was created, in nanoseconds since the epoch.
    pub created: i64,
    /// Its subnets; none for `host` and `null`.
    pub subnets: Vec<Subnet>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Stored and shown; without meaning on one host.
    pub attachable: bool,
    /// Whether it has IPv6 subnets.
    pub ipv6: bool,
    /// Driver options.
    pub options: StringMap,
    /// The user's labels.
    pub labels: StringMap,
    /// The device that was made for it: the bridge, or the parent of a macvlan or ipvlan network if there was none. Empty
    /// without.
    pub device: String,
    /// What makes it a configuration that others are made of; then there is nothing of it in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Whether all hosts of a cluster have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// The name of the configuration it was made of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_from: String,
}

/// What a configuration says of the networks made of it, besides options, labels and IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Whether they have IPv4 subnets.
    pub ipv4: bool,
    /// Their subnets, as the user said.
    pub ipam: Ipam,
}

impl Network {
    /// Says whether it is one of `bridge`, `host` and `none`.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Checks whether it is one that containers can be on.
    ///
    /// # Errors
    ///
    /// It is forbidden on a configuration.
    pub fn check_endpoint(&self) -> Result<()> {
        match self.template {
            None => Ok(()),
            Some(_) => {
                Err(Error::known(Kind::Forbidden, "cannot create endpoint on configuration-only network"))
            }
        }
    }

    /// Returns the link of the host that a macvlan or ipvlan network is said to use.
    pub fn named_parent(&self) -> Option<&str> {
        if !matches!(self.driver, Driver::Macvlan | Driver::Ipvlan) {
            return None;
        }
        self.options.get(super::driver::PARENT).map(String::as_str).filter(|parent| !parent.is_empty())
    }

    /// Returns a boolean driver option, or `default`.
    pub(super) fn flag(&self, option: &str, default: bool) -> bool {
        self.options.get(option).map_or(default, |value| super::plan::switch(value).unwrap_or_default())
    }

    /// Whether traffic to outside gets the host's address.
    pub(super) fn masquerade(&self, ipv6: bool) -> bool {
        self.flag("com.docker.network.bridge.enable_ip_masquerade", true)
            && matches!(self.gateway_mode(ipv6), GatewayMode::Nat | GatewayMode::Unprotected)
    }

    /// How its containers are reached from outside, and the outside from them.
    pub(super) fn gateway_mode(&self, ipv6: bool) -> GatewayMode {
        let family = if ipv6 { 6 } else { 4 };
        let asked = self.options.get(&format!("com.docker.network.bridge.gateway_mode_ipv{family}"));
        asked.and_then(|text| GatewayMode::parse(text)).unwrap_or_default()
    }

    /// Whether containers on it may reach each other.
    pub(super) fn icc(&self) -> bool {
        self.flag("com.docker.network.bridge.enable_icc", true)
    }

    /// Maximum transmission unit in bytes.
    pub(super) fn mtu(&self, default: u32) -> u32 {
        let own = self.options.get("com.docker.network.driver.mtu").and_then(|mtu| mtu.parse().ok());
        own.filter(|mtu| *mtu > 0).unwrap_or(default)
    }

    /// The address ports are published on by default.
    pub(super) fn host_ip(&self) -> Option<IpAddr> {
        self.options
            .get("com.docker.network.bridge.host_binding_ipv4")
            .and_then(|address| address.parse().ok())
    }
}

mod text {
    use network::IpNet;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(net: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(net)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod optional_text {
    use network::IpNet;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde's `with` gives a reference to the field")]
    pub(super) fn serialize<S: Serializer>(net: &Option<IpNet>, serializer: S) -> Result<S::Ok, S::Error> {
        match net {
            Some(net) => serializer.collect_str(net),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
