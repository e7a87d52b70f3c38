//! A network on inspection and in lists, and which of them a list means.

use crate::http::Failure;
use api::Filters;
use api::network::{self as answer, ConfigReference, EndpointResource, Ipam, IpamConfig};
use base::Timestamp;
use engine::container::record::Container;
use engine::container::state::State;
use engine::network::record::Network;
use std::sync::Arc;

const KEYS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Returns the API's document. `attached` are the containers that inspection shows; lists show none.
pub fn network(record: &Network, attached: &[Arc<Container>]) -> answer::Network {
    let subnets = record.subnets.iter().map(|subnet| IpamConfig {
        subnet: subnet.subnet.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.to_string(),
        auxiliary_addresses: subnet
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    });
    let own = Ipam {
        driver: "default".to_owned(),
        options: None,
        config: (!record.subnets.is_empty()).then(|| subnets.collect()),
    };
    let has_ipv4 = record.subnets.is_empty() || record.subnets.iter().any(|subnet| !subnet.subnet.is_ipv6());
    answer::Network {
        name: record.name.clone(),
        id: record.id.clone(),
        created: Timestamp::from_nanos(record.created).to_string(),
        scope: scope(record).to_owned(),
        driver: record.driver.as_str().to_owned(),
        enable_ipv4: record.template.as_ref().map_or(has_ipv4, |template| template.ipv4),
        enable_ipv6: record.ipv6,
        ipam: record.template.as_ref().map_or(own, |template| template.ipam.clone()),
        internal: record.internal,
        attachable: record.attachable,
        config_from: ConfigReference { network: record.config_from.clone() },
        config_only: record.template.is_some(),
        containers: attached.iter().filter_map(|container| resource(record, container)).collect(),
        options: Some(record.options.clone()),
        labels: Some(record.labels.clone()),
        ..Default::default()
    }
}

/// Returns how far a network is known: Docker's word.
pub fn scope(record: &Network) -> &'static str {
    if record.shared { "global" } else { "local" }
}

fn resource(network: &Network, container: &Container) -> Option<(String, EndpointResource)> {
    if !matches!(container.state, State::Running(_) | State::Paused(_)) {
        return None;
    }
    let endpoint = container.endpoints.values().find(|endpoint| endpoint.network_id == network.id)?;
    let address = |address: &str, prefix: u8| {
        if address.is_empty() { String::new() } else { format!("{address}/{prefix}") }
    };
    Some((
        container.id.to_string(),
        EndpointResource {
            name: container.name.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            mac_address: endpoint.mac.clone(),
            ipv4_address: address(&endpoint.address, endpoint.prefix_len),
            ipv6_address: address(&endpoint.address6, endpoint.prefix_len6),
        },
    ))
}

/// Returns the networks that filters mean. `in_use` says whether a container is attached.
///
/// # Errors
///
/// An invalid argument for filters that do not exist or make no sense.
pub fn select(
    records: Vec<Arc<Network>>,
    filters: &Filters,
    in_use: impl Fn(&Network) -> bool,
) -> Result<Vec<Arc<Network>>, Failure> {
    let invalid = |error: api::filters::InvalidFilter| Failure::invalid(error.to_string());
    filters.validate(KEYS).map_err(invalid)?;
    let dangling = filters.boolean("dangling").map_err(invalid)?;
    if let Some(kind) = filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
        return Err(Failure::invalid(format!("invalid filter: 'type'='{kind}'")));
    }
    let fits = |record: &Arc<Network>| {
        filters.exact("driver", record.driver.as_str())
            && filters.substring("name", &record.name)
            && filters.prefix("id", &record.id)
            && filters.exact("scope", scope(record))
            && filters.exact("type", if record.is_predefined() { "builtin" } else { "custom" })
            && filters.labels("label", &record.labels)
            && dangling.is_none_or(|dangling| dangling == (!record.is_predefined() && !in_use(record)))
    };
    Ok(records.into_iter().filter(fits).collect())
}

#[cfg(test)]
mod tests {
    use super::super::container::tests::{record, up};
    use super::*;
    use engine::network::record::{Driver, Subnet};

    fn bridge() -> Network {
        Network {
            id: "f".repeat(64),
            name: "bridge".to_owned(),
            driver: Driver::Bridge,
            created: 0,
            subnets: vec![Subnet {
                subnet: "172.17.0.0/16".parse().unwrap(),
                range: None,
                gateway: "172.17.0.1".parse().unwrap(),
                auxiliary: Default::default(),
            }],
            internal: false,
            attachable: false,
            ipv6: false,
            options: Default::default(),
            labels: Default::default(),
            device: "docker0".to_owned(),
            template: None,
            shared: false,
            config_from: String::new(),
        }
    }

    #[test]
    fn inspection_shows_subnets_and_who_is_attached() {
        let mut container = record(up());
        if let Some(endpoint) = container.endpoints.get_mut("bridge") {
            endpoint.network_id = "f".repeat(64);
        }
        let answer = network(&bridge(), &[Arc::new(container)]);
        let config = serde_json::to_string(&answer.ipam.config).unwrap();
        assert_eq!(config, r#"[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]"#);
        let attached = answer.containers.values().next().unwrap();
        assert_eq!((attached.name.as_str(), attached.ipv4_address.as_str()), ("web", "172.17.0.2/16"));
        assert!(network(&bridge(), &[]).containers.is_empty());
    }

    #[test]
    fn filters_are_dockerds() {
        let custom = Network { id: "a".repeat(64), name: "mine".to_owned(), ..bridge() };
        let records = vec![Arc::new(bridge()), Arc::new(custom)];
        let names = |filters: &str| {
            let filters = Filters::parse(filters).unwrap();
            let found = select(records.clone(), &filters, |_| false).map_err(|failure| failure.message);
            found.map(|found| found.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join(" "))
        };
        for (filters, expect) in [
            ("", "bridge mine"),
            (r#"{"name":["in"]}"#, "mine"),
            (r#"{"id":["ff"]}"#, "bridge"),
            (r#"{"type":["custom"]}"#, "mine"),
            (r#"{"dangling":["true"]}"#, "mine"),
            (r#"{"driver":["host"]}"#, ""),
            (r#"{"scope":["swarm"]}"#, ""),
        ] {
            assert_eq!(names(filters).as_deref(), Ok(expect), "{filters}");
        }
        assert_eq!(names(r#"{"type":["x"]}"#).unwrap_err(), "invalid filter: 'type'='x'");
        assert_eq!(names(r#"{"x":["x"]}"#).unwrap_err(), "invalid filter 'x'");
    }
}
