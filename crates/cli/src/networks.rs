//! Commands about networks.

use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::list::{Listing, choose, short_id};
use crate::options::{environment, networks as options};
use crate::program::{Cli, print_line, warn};
use crate::{filter, formats, localtime, values};
use api::StringMap;
use api::network::{
    ConfigReference, ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, EndpointIpamConfig,
    EndpointSettings, Ipam, IpamConfig, Network,
};
use base::Timestamp;
use client::path_segment;
use gotemplate::Object;

const fn map(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::Checked("map", environment::check_any), help).default("map[]")
}

const fn words(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, Kind::CommaList, help)
}

/// The flags of `network connect`.
pub(crate) const CONNECT_FLAGS: &[Flag] = &[
    words("alias", "Add network-scoped alias for the container"),
    words("driver-opt", "driver options for the network"),
    Flag::new(
        "gw-priority",
        Kind::Int,
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    text("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
    text("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
    Flag::new("link", Kind::Checked("list", options::check_link), "Add link to another container"),
    words("link-local-ip", "Add a link-local address for the container"),
];

/// The flags of `network create`.
pub(crate) const CREATE_FLAGS: &[Flag] = &[
    switch("attachable", "Enable manual container attachment"),
    map("aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
    text("config-from", "The network from which to copy the configuration"),
    switch("config-only", "Create a configuration only network"),
    text("driver", "Driver to manage the Network").short('d').default("bridge"),
    words("gateway", "IPv4 or IPv6 Gateway for the master subnet"),
    switch("ingress", "Create swarm routing-mesh network"),
    switch("internal", "Restrict external access to the network"),
    words("ip-range", "Allocate container ip from a sub-range"),
    text("ipam-driver", "IP Address Management Driver").default("default"),
    map("ipam-opt", "Set IPAM driver specific options"),
    switch("ipv4", "Enable or disable IPv4 address assignment").default("true"),
    switch("ipv6", "Enable or disable IPv6 address assignment"),
    Flag::new("label", Kind::Checked("list", environment::check_label), "Set metadata on a network"),
    map("opt", "Set driver specific options").short('o'),
    text("scope", "Control the network's scope"),
    words("subnet", "Subnet in CIDR format that represents a network segment"),
];

/// The flags of `network disconnect`.
pub(crate) const DISCONNECT_FLAGS: &[Flag] =
    &[switch("force", "Force the container to disconnect from a network").short('f')];

/// The flags of `network ls`.
pub(crate) const LS_FLAGS: &[Flag] = &[
    filter::flag("filter", "Provide filter values (e.g. \"driver=bridge\")").short('f'),
    formats::TABLE_FLAG,
    switch("no-trunc", "Do not truncate the output"),
    switch("quiet", "Only display network IDs").short('q'),
];

/// The flags of `network rm`.
pub(crate) const RM_FLAGS: &[Flag] =
    &[switch("force", "Do not error if the network does not exist").short('f')];

const LISTING: Listing = Listing {
    type_name: "*network.networkContext",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

/// `network ls`
pub(crate) fn ls(cli: &Cli, matches: &Matches) -> Result<()> {
    let filters = filter::encode(matches.list("filter"));
    let mut networks: Vec<Network> =
        cli.client()?.request("GET", "/networks").query_if_set("filters", filters).decode()?;
    networks.sort_by_cached_key(|network| natural(&network.name));
    let configured = &cli.config().networks_format;
    let format = choose(matches.text("format"), configured, matches.switch("quiet"), TABLE, "{{.ID}}");
    let full = matches.switch("no-trunc");
    LISTING.print(&format, networks.iter().map(|network| row(network, full)).collect())
}

/// Returns a key by which `n2` sorts before `n10`.
pub(crate) fn natural(text: &str) -> Vec<(bool, u64, String)> {
    let mut key = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|letter: char| letter.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        key.push((!digits, if digits { part.parse().unwrap_or(u64::MAX) } else { 0 }, part.to_owned()));
        rest = after;
    }
    key
}

fn row(network: &Network, full: bool) -> Object {
    let mut row = LISTING.row();
    row.push("ID", if full { network.id.as_str() } else { short_id(&network.id) });
    row.push("Name", network.name.as_str());
    row.push("Driver", network.driver.as_str());
    row.push("Scope", network.scope.as_str());
    row.push("IPv4", network.enable_ipv4.to_string());
    row.push("IPv6", network.enable_ipv6.to_string());
    row.push("Internal", network.internal.to_string());
    let labels = network.labels.clone().unwrap_or_default();
    row.push("Labels", formats::labels(&labels));
    row.push("CreatedAt", Timestamp::parse(&network.created).map(localtime::display).unwrap_or_default());
    row.method("Label", move |args| formats::label(&labels, args));
    row
}

/// `network create`
pub(crate) fn create(cli: &Cli, matches: &Matches) -> Result<()> {
    let request = create_request(matches)?;
    let created: CreateResponse =
        cli.client()?.request("POST", "/networks/create").json(&request).decode()?;
    if !created.warning.is_empty() {
        warn(&created.warning);
    }
    print_line(created.id);
    Ok(())
}

fn create_request(matches: &Matches) -> Result<CreateRequest> {
    let ipam = Ipam {
        driver: matches.text("ipam-driver").to_owned(),
        options: Some(values::map(matches.list("ipam-opt"))),
        config: Some(pools(matches)?),
    };
    let config_from =
        matches.given("config-from").map(|network| ConfigReference { network: network.to_owned() });
    Ok(CreateRequest {
        name: matches.arg(0).to_owned(),
        driver: matches.text("driver").to_owned(),
        scope: matches.text("scope").to_owned(),
        enable_ipv4: matches.changed("ipv4").then(|| matches.switch("ipv4")),
        enable_ipv6: matches.changed("ipv6").then(|| matches.switch("ipv6")),
        ipam: Some(ipam),
        internal: matches.switch("internal"),
        attachable: matches.switch("attachable"),
        ingress: matches.switch("ingress"),
        config_only: matches.switch("config-only"),
        config_from,
        options: Some(values::map(matches.list("opt"))),
        labels: Some(values::map(matches.list("label"))),
        check_duplicate: None,
    })
}

/// Puts ranges, gateways and auxiliary addresses to the subnets they lie in.
fn pools(matches: &Matches) -> Result<Vec<IpamConfig>> {
    let (subnets, ranges) = (matches.list("subnet"), matches.list("ip-range"));
    let (gateways, auxiliary) = (matches.list("gateway"), values::map(matches.list("aux-address")));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Error::message("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        let parsed =
            Subnet::parse(subnet).ok_or_else(|| Error::message(format!("invalid CIDR address: {subnet}")))?;
        for other in &pools {
            let overlaps = Subnet::parse(&other.subnet).is_some_and(|other| other.overlaps(&parsed));
            if overlaps {
                return Err(Error::message("multiple overlapping subnet configuration is not supported"));
            }
        }
        pools.push(IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() });
    }
    for range in ranges {
        let parsed =
            Subnet::parse(range).ok_or_else(|| Error::message(format!("invalid CIDR address: {range}")))?;
        let pool = pool_of(&mut pools, &parsed.address)
            .ok_or_else(|| Error::message(format!("no matching subnet for range {range}")))?;
        if !pool.ip_range.is_empty() {
            return Err(Error::message(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            )));
        }
        range.clone_into(&mut pool.ip_range);
    }
    for gateway in gateways {
        let address =
            gateway.parse().map_err(|_why| Error::message(format!("invalid gateway address: {gateway}")))?;
        let pool = pool_of(&mut pools, &address)
            .ok_or_else(|| Error::message(format!("no matching subnet for gateway {gateway}")))?;
        if !pool.gateway.is_empty() {
            return Err(Error::message(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            )));
        }
        gateway.clone_into(&mut pool.gateway);
    }
    for (name, address) in auxiliary {
        let parsed = address.parse().ok();
        let pool = parsed.and_then(|parsed| pool_of(&mut pools, &parsed));
        let pool =
            pool.ok_or_else(|| Error::message(format!("no matching subnet for aux-address {address}")))?;
        pool.auxiliary_addresses.insert(name, address);
    }
    Ok(pools)
}

fn pool_of<'a>(pools: &'a mut [IpamConfig], address: &std::net::IpAddr) -> Option<&'a mut IpamConfig> {
    pools.iter_mut().find(|pool| Subnet::parse(&pool.subnet).is_some_and(|subnet| subnet.contains(address)))
}

/// `address/bits`
struct Subnet {
    address: std::net::IpAddr,
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (std::net::IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, bits })
    }

    /// Returns the bits that make the subnet, at the top of a wide number.
    fn prefix(address: &std::net::IpAddr, bits: u32) -> (bool, u128) {
        let wide = match address {
            std::net::IpAddr::V4(v4) => u128::from(u32::from(*v4)) << 96,
            std::net::IpAddr::V6(v6) => u128::from(*v6),
        };
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits.min(128)) };
        (address.is_ipv4(), wide & mask)
    }

    fn contains(&self, address: &std::net::IpAddr) -> bool {
        Self::prefix(&self.address, self.bits) == Self::prefix(address, self.bits)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let bits = self.bits.min(other.bits);
        Self::prefix(&self.address, bits) == Self::prefix(&other.address, bits)
    }
}

/// `network connect`
pub(crate) fn connect(cli: &Cli, matches: &Matches) -> Result<()> {
    let mut driver_options = StringMap::new();
    for option in matches.list("driver-opt") {
        let (name, value) = option
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::message("invalid key/value pair format in driver options"))?;
        driver_options.insert(name.to_owned(), value.to_owned());
    }
    let addresses = EndpointIpamConfig {
        ipv4_address: matches.text("ip").to_owned(),
        ipv6_address: matches.text("ip6").to_owned(),
        link_local_ips: matches.list("link-local-ip").to_vec(),
    };
    let some = |name: &str| Some(matches.list(name).to_vec()).filter(|list| !list.is_empty());
    let endpoint = EndpointSettings {
        ipam_config: Some(addresses).filter(|addresses| *addresses != EndpointIpamConfig::default()),
        links: some("link"),
        aliases: some("alias"),
        driver_opts: Some(driver_options),
        gw_priority: matches.int("gw-priority"),
        ..EndpointSettings::default()
    };
    let request = ConnectRequest { container: matches.arg(1).to_owned(), endpoint_config: Some(endpoint) };
    let path = format!("/networks/{}/connect", path_segment(matches.arg(0)));
    Ok(cli.client()?.request("POST", path).json(&request).done()?)
}

/// `network disconnect`
pub(crate) fn disconnect(cli: &Cli, matches: &Matches) -> Result<()> {
    let request = DisconnectRequest { container: matches.arg(1).to_owned(), force: matches.switch("force") };
    let path = format!("/networks/{}/disconnect", path_segment(matches.arg(0)));
    Ok(cli.client()?.request("POST", path).json(&request).done()?)
}

/// `network rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    let force = matches.switch("force");
    let removed = each(&matches.args, |name| {
        let removed = cli.client()?.request("DELETE", format!("/networks/{}", path_segment(name))).done();
        match removed {
            Err(error) if force && error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Some(name.to_owned())),
        }
    });
    // Docker's client says this, too.
    removed.inspect_err(|_told| warn("exit status 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<&str, &str>) {
        let words = line.split_whitespace().map(str::to_owned);
        let matches = Matches::parse(&[CREATE_FLAGS], words, true).unwrap();
        let shown = pools(&matches)
            .map(|pools| serde_json::to_string(&pools).unwrap())
            .map_err(|error| error.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expect, "{line}");
    }

    #[test]
    fn pools_get_what_lies_in_them() {
        check("n", Ok("[]"));
        check(
            "--subnet 10.0.0.0/24,fd00::/64 --gateway fd00::1 --gateway 10.0.0.1 --ip-range 10.0.0.128/25 --aux-address a=10.0.0.5 n",
            Ok(
                r#"[{"Subnet":"10.0.0.0/24","IPRange":"10.0.0.128/25","Gateway":"10.0.0.1","AuxiliaryAddresses":{"a":"10.0.0.5"}},{"Subnet":"fd00::/64","Gateway":"fd00::1"}]"#,
            ),
        );
        check("--gateway 1.2.3.4 n", Err("every ip-range or gateway must have a corresponding subnet"));
        check("--subnet 10.0.0.0/24 --gateway 1.2.3.4 n", Err("no matching subnet for gateway 1.2.3.4"));
        check(
            "--subnet 10.0.0.0/8 --subnet 10.1.0.0/16 n",
            Err("multiple overlapping subnet configuration is not supported"),
        );
    }

    #[test]
    fn names_are_sorted_as_people_count() {
        let mut names = ["n10", "n2", "a", "n1"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["a", "n1", "n2", "n10"]);
    }
}
