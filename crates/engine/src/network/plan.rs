//! From a request to a network's record: names, subnets, gateways. Pure.

use super::record::{Driver, GatewayMode, Network, Subnet};
use super::{driver, template};
use crate::error::{Error, Result};
use api::StringMap;
use api::network::{CreateRequest, IpamConfig};
use base::Kind;
use network::IpNet;
use network::ipam::{self, AddressPool};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a new network is planned against.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// Subnets of the other networks.
    pub(super) taken: &'a [IpNet],
    /// Destinations of the host's routes.
    pub(super) host_routes: &'a [IpNet],
    /// Where subnets are cut from.
    pub(super) pools: &'a [AddressPool],
    /// Options of networks that do not have them, by driver (`default-network-opts`).
    pub(super) options: &'a BTreeMap<String, BTreeMap<String, String>>,
}

/// Returns the record of the network that `request` asks for.
///
/// # Errors
///
/// Fails with Docker's text for a driver, a subnet or an address that cannot be.
pub(super) fn plan(
    request: &CreateRequest,
    id: String,
    created: i64,
    around: &Surroundings<'_>,
) -> Result<Network> {
    check_name(&request.name)?;
    let driver = driver_of(request)?;
    let ipam = request.ipam.clone().unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "error looking up ipam plugin {0}: plugin \"{0}\" not found",
            ipam.driver
        )));
    }
    let subnets = all_subnets(request, driver, ipam.config.as_deref().unwrap_or_default(), &id, around)?;
    let mut options = request.options.clone().unwrap_or_default();
    for (option, value) in around.options.get(driver.as_str()).into_iter().flatten() {
        options.entry(option.clone()).or_insert_with(|| value.clone());
    }
    driver::check(driver, &options)?;
    check_options(&options)?;
    check_modes(&options, request.internal)?;
    let loose = !driver.has_bridge() && options.get(driver::PARENT).is_none_or(|parent| parent.is_empty());
    let device = device(driver, &options, loose, &id.chars().take(12).collect::<String>())?;
    Ok(Network {
        id,
        name: request.name.clone(),
        driver,
        created,
        subnets,
        // Without a link of the host there is no way out.
        internal: request.internal || loose,
        attachable: request.attachable,
        ipv6: request.enable_ipv6.unwrap_or(false),
        options,
        labels: request.labels.clone().unwrap_or_default(),
        device,
        template: None,
        shared: false,
        config_from: template::source(request).unwrap_or_default().to_owned(),
    })
}

/// Checks a new network's name.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("network name is required"));
    }
    if name.contains(['/', ':']) || name.starts_with('-') {
        return Err(Error::invalid(format!("invalid network name {name:?}")));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::known(
            Kind::Forbidden,
            format!("operation is not permitted on predefined {name} network "),
        ));
    }
    Ok(())
}

/// Checks what the bridge driver reads of its options (libnetwork, `networkConfiguration.fromLabels`).
fn check_options(options: &StringMap) -> Result<()> {
    let wrong = |option: &str, value: &str, why: &str| {
        Err(Error::invalid(format!("failed to parse {option} value: {value} ({why})")))
    };
    for option in ["com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade"] {
        if let Some(value) = options.get(option)
            && switch(value).is_none()
        {
            return wrong(option, value, &format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
        }
    }
    let option = "com.docker.network.driver.mtu";
    match options.get(option).map(|value| (value, value.parse::<i64>())) {
        Some((value, Err(_not))) => {
            return wrong(option, value, &format!("strconv.Atoi: parsing {value:?}: invalid syntax"));
        }
        Some((value, Ok(mtu))) if !(0..=65_535).contains(&mtu) => {
            return wrong(option, value, "must be between 0 and 65535");
        }
        Some(_) | None => {}
    }
    let option = "com.docker.network.bridge.host_binding_ipv4";
    match options.get(option) {
        Some(value) if value.parse::<IpAddr>().is_err() => wrong(option, value, "nil ip"),
        Some(_) | None => Ok(()),
    }
}

/// Reads a boolean the way Go does (strconv, `ParseBool`).
pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Checks gateway modes.
fn check_modes(options: &StringMap, internal: bool) -> Result<()> {
    for family in [4, 6] {
        let option = format!("com.docker.network.bridge.gateway_mode_ipv{family}");
        let Some(text) = options.get(&option) else { continue };
        match GatewayMode::parse(text) {
            None => return Err(Error::invalid(format!("unknown gateway mode {text}"))),
            Some(GatewayMode::Isolated) if !internal => {
                return Err(Error::invalid(
                    "gateway mode 'isolated' can only be used for an internal network",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Returns the driver, if there is such a one and it can do what is asked for.
fn driver_of(request: &CreateRequest) -> Result<Driver> {
    let driver = match request.driver.as_str() {
        "" | "bridge" | "default" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan,
        "overlay" => Driver::Overlay,
        "host" => {
            return Err(Error::known(Kind::Forbidden, "only one instance of \"host\" network is allowed"));
        }
        "null" => {
            return Err(Error::known(Kind::Forbidden, "only one instance of \"null\" network is allowed"));
        }
        other => {
            return Err(Error::not_found(format!(
                "error looking up network plugin {other}: plugin \"{other}\" not found"
            )));
        }
    };
    if request.ingress {
        return Err(Error::known(
            Kind::Unavailable,
            "This node is not a swarm manager: there is no routing mesh",
        ));
    }
    Ok(driver)
}

/// Returns the subnets that were asked for, and one of each family that is wanted without.
fn all_subnets(
    request: &CreateRequest,
    driver: Driver,
    configs: &[IpamConfig],
    id: &str,
    around: &Surroundings<'_>,
) -> Result<Vec<Subnet>> {
    let ipv6 = request.enable_ipv6.unwrap_or(false);
    let mut subnets = subnets(driver, configs, around)?;
    let ipv4 = request.enable_ipv4.unwrap_or(true);
    if !ipv4 && !ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    subnets.retain(|subnet| ipv4 || subnet.subnet.is_ipv6());
    let pools = |ipv6: bool| -> Vec<AddressPool> {
        around.pools.iter().filter(|pool| pool.base.is_ipv6() == ipv6).copied().collect()
    };
    if !subnets.iter().any(|subnet| !subnet.subnet.is_ipv6()) && ipv4 {
        let chosen = ipam::choose_subnet(&pools(false), around.taken, around.host_routes)
            .map_err(network::Error::from)?;
        subnets.insert(0, whole(chosen)?);
    }
    if ipv6 && !subnets.iter().any(|subnet| subnet.subnet.is_ipv6()) {
        let mut pools = pools(true);
        if pools.is_empty() {
            pools.push(ipam::unique_local_pool(id.as_bytes()));
        }
        let chosen =
            ipam::choose_subnet(&pools, around.taken, around.host_routes).map_err(network::Error::from)?;
        subnets.push(whole(chosen)?);
    }
    Ok(subnets)
}

/// Returns the name of the device that is to be made; empty where the host has it.
fn device(driver: Driver, options: &StringMap, loose: bool, id: &str) -> Result<String> {
    if !driver.has_bridge() {
        return Ok(if loose { format!("dm-{id}") } else { String::new() });
    }
    match options.get("com.docker.network.bridge.name").map_or("", String::as_str) {
        "" => Ok(format!("br-{id}")),
        name if name.len() <= 15 => Ok(name.to_owned()),
        name => Err(Error::invalid(format!("invalid bridge name {name:?}: at most 15 characters"))),
    }
}

/// Returns a network that has nothing to plan: `host`, `none`, or a configuration.
pub(super) fn builtin(name: &str, driver: Driver, id: String, created: i64) -> Network {
    Network {
        id,
        name: name.to_owned(),
        driver,
        created,
        subnets: Vec::new(),
        internal: false,
        attachable: false,
        ipv6: false,
        options: StringMap::new(),
        labels: StringMap::new(),
        device: String::new(),
        template: None,
        shared: false,
        config_from: String::new(),
    }
}

pub(super) fn subnets(
    driver: Driver,
    configs: &[IpamConfig],
    around: &Surroundings<'_>,
) -> Result<Vec<Subnet>> {
    let mut found: Vec<Subnet> = Vec::new();
    for config in configs {
        if config.subnet.is_empty() {
            if config.gateway.is_empty() && config.ip_range.is_empty() {
                continue;
            }
            return Err(Error::invalid("invalid network config:\nno matching subnet for gateway or range"));
        }
        let net: IpNet = config.subnet.parse().map_err(|_error| {
            Error::invalid(format!(
                "invalid network config:\ninvalid subnet {}: invalid CIDR block notation",
                config.subnet
            ))
        })?;
        let own: Vec<IpNet> = found.iter().map(|subnet| subnet.subnet).collect();
        ipam::check_subnet(net, around.taken)
            .and_then(|()| ipam::check_subnet(net, &own))
            .map_err(network::Error::from)?;
        let inside = |what: &str, text: &str| -> Result<IpAddr> {
            let address: IpAddr = text.parse().map_err(|_error| {
                Error::invalid(format!("invalid network config:\ninvalid {what} {text}: invalid address"))
            })?;
            if net.contains(address) {
                return Ok(address);
            }
            Err(Error::invalid(format!(
                "invalid network config:\ninvalid {what} {text}: parent subnet {} doesn't contain this address",
                net.network()
            )))
        };
        let range = match config.ip_range.as_str() {
            "" => None,
            text => {
                let range: IpNet = text.parse().map_err(|_error| {
                    Error::invalid(format!(
                        "invalid network config:\ninvalid ip-range {text}: invalid CIDR block notation"
                    ))
                })?;
                if !net.contains_net(range) {
                    return Err(Error::invalid(format!(
                        "invalid network config:\ninvalid ip-range {text}: parent subnet {} doesn't contain this range",
                        net.network()
                    )));
                }
                Some(range.network())
            }
        };
        let mut subnet = whole(net.network())?;
        if !config.gateway.is_empty() {
            subnet.gateway = inside("gateway", &config.gateway)?;
        } else if let (Driver::Overlay, Some(range)) = (driver, range) {
            // Every host has an address of its own on the common subnet: the first of its part.
            subnet.gateway = whole(range)?.gateway;
        }
        subnet.range = range;
        for (name, text) in &config.auxiliary_addresses {
            subnet.auxiliary.insert(name.clone(), inside("auxiliary address", text)?);
        }
        found.push(subnet);
    }
    Ok(found)
}

/// Returns `net` with its first usable address as the gateway.
pub(super) fn whole(net: IpNet) -> Result<Subnet> {
    // A pool with nothing taken gives its lowest address first.
    let mut pool = ipam::Pool::new(net, None, None, &[]).map_err(network::Error::from)?;
    let gateway = pool.allocate(None).map_err(network::Error::from)?;
    Ok(Subnet { subnet: net.network(), range: None, gateway, auxiliary: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::network::Ipam;

    fn request(subnet: &str, gateway: &str) -> CreateRequest {
        let config =
            IpamConfig { subnet: subnet.to_owned(), gateway: gateway.to_owned(), ..IpamConfig::default() };
        CreateRequest {
            name: "net".to_owned(),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            ..CreateRequest::default()
        }
    }

    fn planned(request: &CreateRequest) -> Result<Network> {
        let taken = ["172.17.0.0/16".parse().unwrap()];
        let pools = ipam::default_pools();
        let options = BTreeMap::new();
        let around = Surroundings { taken: &taken, host_routes: &[], pools: &pools, options: &options };
        plan(request, "ab".repeat(32), 1, &around)
    }

    #[test]
    fn subnets_are_chosen_or_checked() {
        let network = planned(&CreateRequest { name: "net".to_owned(), ..CreateRequest::default() }).unwrap();
        assert_eq!(network.subnets[0].subnet.to_string(), "172.18.0.0/16");
        assert_eq!(network.subnets[0].gateway.to_string(), "172.18.0.1");
        assert_eq!(network.device, "br-abababababab");
        let network = planned(&request("10.1.0.0/24", "10.1.0.254")).unwrap();
        assert_eq!(network.subnets[0].gateway.to_string(), "10.1.0.254");
        assert!(planned(&request("172.17.5.0/24", "")).unwrap_err().to_string().contains("overlaps"));
        assert!(planned(&request("10.1.0.0/24", "10.2.0.1")).is_err());
        assert!(planned(&request("10.1.0.0", "")).is_err());
    }
}
