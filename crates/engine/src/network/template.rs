//! Networks that are nothing but a configuration (`--config-only`), and requests for networks of one (`--config-from`).
//!
//! Pure. Docker's rules: a configuration says what a network is made of, not who may use it, and a network that is made of
//! one says nothing of its own of that.

use super::plan::{self, Surroundings};
use super::record::{Driver, Network, Template};
use crate::error::{Error, Result};
use api::network::CreateRequest;
use base::Kind;

/// Checks what a request says of configurations.
///
/// # Errors
///
/// Fails with Docker's text for what does not go together.
pub(super) fn check(request: &CreateRequest) -> Result<()> {
    let forbidden = |text: &str| Err(Error::known(Kind::Forbidden, text.to_owned()));
    let operator = request.ingress || request.internal || request.attachable || request.scope == "swarm";
    if request.config_only && operator {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        );
    }
    if source(request).is_none() {
        return Ok(());
    }
    if request.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let ipam = request.ipam.as_ref();
    let own = request.enable_ipv6.unwrap_or(false)
        || request.enable_ipv4 == Some(false)
        || request.labels.as_ref().is_some_and(|labels| !labels.is_empty())
        || ipam.is_some_and(|ipam| {
            !matches!(ipam.driver.as_str(), "" | "default")
                || ipam.config.as_ref().is_some_and(|config| !config.is_empty())
                || ipam.options.as_ref().is_some_and(|options| !options.is_empty())
        });
    if own {
        return forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        );
    }
    if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
        return forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// Returns the name of the configuration that a network is to be made of.
pub(super) fn source(request: &CreateRequest) -> Option<&str> {
    request.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty())
}

/// Returns the record of a configuration.
///
/// # Errors
///
/// Fails for a name, a subnet or an address that cannot be.
pub(super) fn record(
    request: &CreateRequest,
    id: String,
    created: i64,
    around: &Surroundings<'_>,
) -> Result<Network> {
    plan::check_name(&request.name)?;
    let ipam = request.ipam.clone().unwrap_or_default();
    // Others may have them by the time it is used.
    plan::subnets(
        Driver::Bridge,
        ipam.config.as_deref().unwrap_or_default(),
        &Surroundings { taken: &[], ..*around },
    )?;
    Ok(Network {
        ipv6: request.enable_ipv6.unwrap_or(false),
        options: request.options.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
        template: Some(Template { ipv4: request.enable_ipv4.unwrap_or(true), ipam }),
        ..plan::builtin(&request.name, Driver::Null, id, created)
    })
}

/// Returns `request` with what the configuration `network` says.
pub(super) fn applied(request: &CreateRequest, network: &Network, template: &Template) -> CreateRequest {
    CreateRequest {
        enable_ipv4: Some(template.ipv4),
        enable_ipv6: Some(network.ipv6),
        ipam: Some(template.ipam.clone()),
        options: Some(network.options.clone()),
        labels: Some(network.labels.clone()),
        ..request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::network::{ConfigReference, Ipam, IpamConfig};
    use std::collections::BTreeMap;

    fn request(change: impl FnOnce(&mut CreateRequest)) -> CreateRequest {
        let mut request = CreateRequest { name: "net".to_owned(), ..CreateRequest::default() };
        change(&mut request);
        request
    }

    fn ipam(subnet: &str) -> Option<Ipam> {
        let config = IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() };
        Some(Ipam { config: Some(vec![config]), ..Ipam::default() })
    }

    #[test]
    fn what_does_not_go_together() {
        let from = || Some(ConfigReference { network: "cfg".to_owned() });
        let some = || Some([("a".to_owned(), "b".to_owned())].into());
        let check = |change: &dyn Fn(&mut CreateRequest), words: &str| {
            let error = check(&request(|request| change(request))).map_err(|error| error.to_string());
            assert!(error.as_ref().err().map_or(words.is_empty(), |text| text.contains(words)), "{error:?}");
        };
        check(&|request| request.config_only = true, "");
        check(&|request| request.config_from = from(), "");
        check(&|request| (request.config_only, request.internal) = (true, true), "ingress | internal");
        check(&|request| (request.config_only, request.attachable) = (true, true), "ingress | internal");
        check(&|request| (request.config_only, request.config_from) = (true, from()), "depend on another");
        check(&|request| (request.config_from, request.labels) = (from(), some()), "user specified");
        check(
            &|request| (request.config_from, request.ipam) = (from(), ipam("10.0.0.0/8")),
            "user specified",
        );
        check(&|request| (request.config_from, request.enable_ipv6) = (from(), Some(true)), "user specified");
        check(&|request| (request.config_from, request.options) = (from(), some()), "driver options");
        check(&|request| (request.config_from, request.internal) = (from(), true), "");
    }

    #[test]
    fn a_network_is_what_its_configuration_says() {
        let options = BTreeMap::new();
        let taken = ["10.1.0.0/16".parse().unwrap()];
        let around = Surroundings { taken: &taken, host_routes: &[], pools: &[], options: &options };
        let record = |request: &CreateRequest| record(request, "ab".repeat(32), 1, &around);
        let template = record(&request(|request| {
            request.ipam = ipam("10.1.0.0/24");
            request.options = Some([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())].into());
        }))
        .unwrap();
        assert_eq!((template.driver, template.subnets.len()), (Driver::Null, 0));
        let wish = request(|request| request.internal = true);
        let applied = applied(&wish, &template, template.template.as_ref().unwrap());
        assert_eq!((applied.ipam, applied.internal), (ipam("10.1.0.0/24"), true));
        assert!(record(&request(|request| request.ipam = ipam("10.1.0.0/33"))).is_err());
        assert!(record(&request(|request| request.name = "bridge".to_owned())).is_err());
    }
}
