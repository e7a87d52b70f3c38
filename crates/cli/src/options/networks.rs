//! Networks: `--network` in both forms, and the flags that belong to the first one.

use crate::flags::Matches;
use crate::values;
use api::network::{EndpointIpamConfig, EndpointSettings};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The network mode and the endpoints asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Networks {
    pub(crate) mode: String,
    pub(crate) endpoints: BTreeMap<String, EndpointSettings>,
}

/// One value of `--network`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_options: api::StringMap,
    ipv4: String,
    ipv6: String,
    mac: String,
    link_local: Vec<String>,
    priority: i64,
}

pub(crate) fn check(text: &str) -> Result<(), String> {
    attachment(text).map(drop)
}

fn attachment(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !is_long_form(text) {
        text.clone_into(&mut attachment.target);
        return Ok(attachment);
    }
    for field in values::fields(text)? {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_owned();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.target = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ipv4 = value,
            "ip6" => attachment.ipv6 = value,
            "mac-address" => attachment.mac = value,
            "link-local-ip" => attachment.link_local.push(value),
            "driver-opt" => {
                let (name, value) =
                    value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                attachment.driver_options.insert(name.trim().to_lowercase(), value.trim().to_lowercase());
            }
            "gw-priority" => {
                attachment.priority = value.parse().map_err(|_no_number| {
                    format!("invalid gw-priority ({value}): value must be an integer")
                })?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        Err("network name/id is not specified".to_owned())
    } else {
        Ok(attachment)
    }
}

/// Docker takes for the long form what has `word=word` somewhere.
fn is_long_form(text: &str) -> bool {
    let word = |letter: char| letter == '_' || letter.is_ascii_alphanumeric();
    text.match_indices('=').any(|(index, _)| {
        let (before, after) =
            (text.get(..index).unwrap_or_default(), text.get(index + 1..).unwrap_or_default());
        before.ends_with(word) && after.starts_with(word)
    })
}

/// Says whether a network mode names a network that someone made.
fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// Reads `--network` and the flags for its first value.
pub(crate) fn networks(matches: &Matches) -> Result<Networks, String> {
    let mut texts: Vec<&String> = matches.list("network").iter().collect();
    texts.extend(matches.list("net"));
    let mut attachments = texts.iter().map(|text| attachment(text)).collect::<Result<Vec<_>, _>>()?;
    let named = attachments.len();
    if named == 0 {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    if let Some(first) = attachments.first_mut() {
        apply_flags(first, matches)?;
    }
    let mode = attachments.first().map(|first| first.target.clone()).unwrap_or_default();
    let mut endpoints = BTreeMap::new();
    for attachment in &attachments {
        let endpoint = endpoint(attachment)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!("network {} is specified multiple times", values::quote(&attachment.target)));
        }
        // One network without wishes: the mode says it all, and old engines understand that.
        if named == 1 && endpoint == EndpointSettings::default() {
            continue;
        }
        endpoints.insert(attachment.target.clone(), endpoint);
    }
    let user_defined = attachments.iter().filter(|attachment| is_user_defined(&attachment.target)).count();
    if attachments.len() > 1 && user_defined > 0 && user_defined < attachments.len() {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    Ok(Networks { mode, endpoints })
}

fn apply_flags(first: &mut Attachment, matches: &Matches) -> Result<(), String> {
    let conflict = |what: &str, ours: &str| {
        Err(format!("conflicting options: cannot specify both --{what} and per-network {ours}"))
    };
    let mut aliases = matches.list("network-alias").to_vec();
    aliases.extend_from_slice(matches.list("net-alias"));
    let links = matches.list("link");
    let (ip, ip6) = (matches.text("ip"), matches.text("ip6"));
    let (mac, link_local) = (matches.text("mac-address"), matches.list("link-local-ip"));
    if !aliases.is_empty() && !first.aliases.is_empty() {
        return conflict("network-alias", "alias");
    }
    if !ip.is_empty() && !first.ipv4.is_empty() {
        return conflict("ip", "IPv4 address");
    }
    if !ip6.is_empty() && !first.ipv6.is_empty() {
        return conflict("ip6", "IPv6 address");
    }
    if !mac.is_empty() && !first.mac.is_empty() {
        return conflict("mac-address", "MAC address");
    }
    if !link_local.is_empty() && !first.link_local.is_empty() {
        return conflict("link-local-ip", "link-local IP addresses");
    }
    if !aliases.is_empty() {
        first.aliases = aliases;
    }
    // On the default bridge a link is the container's, elsewhere the endpoint's.
    if is_user_defined(&first.target) && !links.is_empty() {
        first.links = links.to_vec();
    }
    for (flag, field) in [(ip, &mut first.ipv4), (ip6, &mut first.ipv6), (mac, &mut first.mac)] {
        if !flag.is_empty() {
            flag.clone_into(field);
        }
    }
    if !link_local.is_empty() {
        first.link_local = link_local.to_vec();
    }
    Ok(())
}

fn endpoint(attachment: &Attachment) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) {
        if !attachment.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        if !attachment.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    if !attachment.mac.is_empty() && !is_mac(&attachment.mac) {
        return Err(format!("{} is not a valid mac address", attachment.mac));
    }
    let addresses = EndpointIpamConfig {
        ipv4_address: attachment.ipv4.clone(),
        ipv6_address: attachment.ipv6.clone(),
        link_local_ips: attachment.link_local.clone(),
    };
    let some = |list: &[String]| Some(list.to_vec()).filter(|list| !list.is_empty());
    Ok(EndpointSettings {
        ipam_config: Some(addresses).filter(|addresses| *addresses != EndpointIpamConfig::default()),
        links: some(&attachment.links),
        aliases: some(&attachment.aliases),
        mac_address: attachment.mac.clone(),
        driver_opts: Some(attachment.driver_options.clone()).filter(|options| !options.is_empty()),
        gw_priority: attachment.priority,
        ..EndpointSettings::default()
    })
}

/// Says whether a text is a MAC address of six bytes.
pub(crate) fn is_mac(text: &str) -> bool {
    let text = text.trim();
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    [':', '-'].into_iter().any(|separator| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.into_iter().all(byte)
    })
}

/// `name:address` or `name=address`; `host-gateway` stands for the host.
pub(crate) fn check_extra_host(text: &str) -> Result<(), String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or(("", ""));
    if name.is_empty() {
        return Err(format!("bad format for add-host: {}", values::quote(text)));
    }
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if bare == "host-gateway" || bare.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("invalid IP address in add-host: {}", values::quote(address)))
    }
}

/// Returns an extra host as the engine takes it: `name:address`.
pub(crate) fn extra_host(text: &str) -> String {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    format!("{name}:{bare}")
}

pub(crate) fn check_ip(text: &str) -> Result<(), String> {
    text.trim()
        .parse::<IpAddr>()
        .map(drop)
        .map_err(|_why| format!("IP address is not correctly formatted: {text}"))
}

/// A domain, or `.` for none.
pub(crate) fn check_dns_search(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
    };
    let trimmed = text.trim();
    let domain = trimmed.strip_suffix('.').unwrap_or(trimmed);
    if trimmed == "." || (trimmed.len() <= 255 && domain.split('.').all(label)) {
        Ok(())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// `container[:alias]`
pub(crate) fn check_link(text: &str) -> Result<(), String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_owned()),
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::flags::{CREATE, LIMITS};

    fn check_networks(line: &str, expect: Result<&str, &str>) {
        let words = line.split_whitespace().map(str::to_owned);
        let matches = Matches::parse(&[CREATE, LIMITS], words, false).unwrap();
        let shown = networks(&matches).map(|networks| {
            let endpoints = networks.endpoints.iter().map(|(name, endpoint)| {
                let ip = endpoint
                    .ipam_config
                    .as_ref()
                    .map(|config| config.ipv4_address.clone())
                    .unwrap_or_default();
                format!(
                    "{name}({}|{ip}|{})",
                    endpoint.aliases.clone().unwrap_or_default().join(","),
                    endpoint.mac_address
                )
            });
            format!("{} {}", networks.mode, endpoints.collect::<Vec<_>>().join(" "))
        });
        assert_eq!(shown.as_deref().map(str::trim_end).map_err(String::as_str), expect, "{line}");
    }

    #[test]
    fn both_forms() {
        check_networks("", Ok("default default(||)"));
        check_networks("--network host", Ok("host"));
        check_networks("--network n1 --network-alias a --ip 1.2.3.4", Ok("n1 n1(a|1.2.3.4|)"));
        check_networks("--network n1 --network name=n2,alias=q,ip=1.2.3.4", Ok("n1 n1(||) n2(q|1.2.3.4|)"));
        check_networks(
            "--network-alias a",
            Err("network-scoped aliases are only supported for user-defined networks"),
        );
        check_networks("--network n --network n", Err("network \"n\" is specified multiple times"));
        check_networks(
            "--network n --network host",
            Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes"),
        );
        check_networks(
            "--network name=n,alias=a --network-alias b",
            Err("conflicting options: cannot specify both --network-alias and per-network alias"),
        );
    }

    #[test]
    fn extra_hosts() {
        assert_eq!(check_extra_host("a:1.2.3.4"), Ok(()));
        assert_eq!(check_extra_host("a=[::1]"), Ok(()));
        assert_eq!(extra_host("a=[::1]"), "a:::1");
        assert_eq!(check_extra_host("a:host-gateway"), Ok(()));
        assert_eq!(check_extra_host("a"), Err("bad format for add-host: \"a\"".to_owned()));
        assert_eq!(check_extra_host("a:b"), Err("invalid IP address in add-host: \"b\"".to_owned()));
        assert!(is_mac("92:d0:c6:0a:29:33") && !is_mac("92:d0"));
    }
}
