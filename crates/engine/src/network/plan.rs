//! From a request to a network's record: names, subnets, gateways. Pure.

use super::record::{Driver, Network, Subnet};
use crate::error::{Error, Result};
use api::StringMap;
use api::network::{CreateRequest, IpamConfig};
use base::Kind;
use network::IpNet;
use network::ipam::{self, AddressPool};
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
    if request.name.trim().is_empty() {
        return Err(Error::invalid("network name is required"));
    }
    if request.name.contains(['/', ':']) || request.name.starts_with('-') {
        return Err(Error::invalid(format!("invalid network name {:?}", request.name)));
    }
    if matches!(request.name.as_str(), "bridge" | "host" | "none" | "default") {
        return Err(Error::known(
            Kind::Forbidden,
            format!("operation is not permitted on predefined {} network ", request.name),
        ));
    }
    let driver = match request.driver.as_str() {
        "" | "bridge" | "default" => Driver::Bridge,
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
    let ipam = request.ipam.clone().unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "error looking up ipam plugin {0}: plugin \"{0}\" not found",
            ipam.driver
        )));
    }
    let ipv6 = request.enable_ipv6.unwrap_or(false);
    let mut subnets = subnets(ipam.config.as_deref().unwrap_or_default(), around)?;
    if !subnets.iter().any(|subnet| !subnet.subnet.is_ipv6()) && request.enable_ipv4 != Some(false) {
        let chosen = ipam::choose_subnet(around.pools, around.taken, around.host_routes)
            .map_err(network::Error::from)?;
        subnets.insert(0, whole(chosen)?);
    }
    if ipv6 && !subnets.iter().any(|subnet| subnet.subnet.is_ipv6()) {
        let pool = [ipam::unique_local_pool(id.as_bytes())];
        let chosen =
            ipam::choose_subnet(&pool, around.taken, around.host_routes).map_err(network::Error::from)?;
        subnets.push(whole(chosen)?);
    }
    let options = request.options.clone().unwrap_or_default();
    let device = match options.get("com.docker.network.bridge.name") {
        Some(name) if !name.is_empty() && name.len() <= 15 => name.clone(),
        Some(name) if !name.is_empty() => {
            return Err(Error::invalid(format!("invalid bridge name {name:?}: at most 15 characters")));
        }
        _ => format!("br-{}", id.chars().take(12).collect::<String>()),
    };
    Ok(Network {
        id,
        name: request.name.clone(),
        driver,
        created,
        subnets,
        internal: request.internal,
        attachable: request.attachable,
        ipv6,
        options,
        labels: request.labels.clone().unwrap_or_default(),
        device,
    })
}

/// Returns one of `host` and `none`, which have nothing to plan.
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
    }
}

fn subnets(configs: &[IpamConfig], around: &Surroundings<'_>) -> Result<Vec<Subnet>> {
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
    Ok(Subnet { subnet: net.network(), range: None, gateway, auxiliary: std::collections::BTreeMap::new() })
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
        let around = Surroundings { taken: &taken, host_routes: &[], pools: &pools };
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
