//! Which hosts serve a repository, and how far each is trusted.
//!
//! Pure. The rules are dockerd's: `docker.io` lives at `registry-1.docker.io`, its mirrors (`registry-mirrors`) come
//! first; loopback and `insecure-registries` may speak plain HTTP or show any certificate; **everything else speaks
//! verified HTTPS or not at all** (CVE-2014-5277).

use std::net::IpAddr;

/// Docker Hub's registry, which serves the domain `docker.io`.
const HUB: &str = "registry-1.docker.io";

/// One host that may serve a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host[:port]`.
    pub(crate) authority: String,
    /// A path before `/v2/`: empty, or that of a mirror, without a trailing slash.
    pub(crate) prefix: String,
    /// How to talk to it.
    pub(crate) security: Security,
    /// Whether this is the registry that the reference names: only that one may see the user's credentials.
    pub(crate) origin: bool,
}

/// How to talk to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// HTTPS with a certificate that verifies.
    Verified,
    /// HTTPS with any certificate; plain HTTP if the host does not speak TLS.
    Insecure,
    /// Plain HTTP: the user wrote `http://` for a mirror.
    Plain,
}

/// Returns the endpoints of a reference's `domain`, in the order to try them.
pub(crate) fn endpoints(domain: &str, mirrors: &[String], insecure: &[String]) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    if domain == "docker.io" {
        endpoints.extend(mirrors.iter().filter_map(|mirror| from_mirror(mirror, insecure)));
    }
    let authority = if domain == "docker.io" { HUB } else { domain };
    endpoints.push(Endpoint {
        authority: authority.to_owned(),
        prefix: String::new(),
        security: security(authority, insecure),
        origin: true,
    });
    endpoints
}

fn from_mirror(mirror: &str, insecure: &[String]) -> Option<Endpoint> {
    let (plain, rest) = match mirror.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        Some(_) => return None,
        None => (false, mirror),
    };
    let (authority, prefix) = match rest.split_once('/') {
        Some((authority, prefix)) => (authority, prefix.trim_matches('/')),
        None => (rest, ""),
    };
    if authority.is_empty() {
        return None;
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    let security = if plain { Security::Plain } else { security(authority, insecure) };
    Some(Endpoint { authority: authority.to_owned(), prefix, security, origin: false })
}

/// Returns how far `authority` (`host[:port]`) is trusted.
///
/// Names are not looked up, unlike dockerd, which asks the DNS whether a name leads to a loopback address: whoever
/// answers that question could switch verification off.
pub(crate) fn security(authority: &str, insecure: &[String]) -> Security {
    let host = host(authority);
    let address: Option<IpAddr> = host.parse().ok();
    let loopback =
        host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
    let listed = insecure.iter().any(|entry| {
        entry.eq_ignore_ascii_case(authority)
            || entry.eq_ignore_ascii_case(host)
            || address.is_some_and(|address| in_network(address, entry))
    });
    if loopback || listed { Security::Insecure } else { Security::Verified }
}

/// Returns the host of `host[:port]`, without the brackets of an IPv6 address.
pub(crate) fn host(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Says whether `address` lies in `network` (`address/prefix`).
fn in_network(address: IpAddr, network: &str) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            u32::from(address) & mask == u32::from(base) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            u128::from(address) & mask == u128::from(base) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn only_loopback_and_listed_hosts_are_insecure() {
        use Security::{Insecure, Verified};
        let insecure = strings(&["reg.lan:5000", "bare.lan", "10.1.0.0/16", "fd00::/8", "0.0.0.0/33"]);
        for (authority, expected) in [
            ("localhost:5000", Insecure),
            ("LOCALHOST", Insecure),
            ("127.0.0.1:5000", Insecure),
            ("127.8.9.1", Insecure),
            ("[::1]:5000", Insecure),
            ("reg.lan:5000", Insecure),
            ("reg.lan", Verified),
            ("reg.lan:5001", Verified),
            ("bare.lan", Insecure),
            ("bare.lan:443", Insecure),
            ("10.1.255.1:5000", Insecure),
            ("10.2.0.1:5000", Verified),
            ("[fd12::1]:5000", Insecure),
            ("[fe80::1]", Verified),
            ("registry-1.docker.io", Verified),
            ("localhost.example.com", Verified),
            ("127.0.0.1.example.com", Verified),
        ] {
            assert_eq!(security(authority, &insecure), expected, "{authority}");
        }
        assert_eq!(security("203.0.113.9", &strings(&["0.0.0.0/0"])), Insecure);
    }

    #[test]
    fn mirrors_serve_the_hub_only_and_never_as_origin() {
        let mirrors =
            strings(&["https://m1.example/cache/", "http://m2:8080", "m3.example", "ftp://x", "https://"]);
        let hub = endpoints("docker.io", &mirrors, &[]);
        let summary: Vec<_> =
            hub.iter().map(|e| (e.authority.as_str(), e.prefix.as_str(), e.security, e.origin)).collect();
        assert_eq!(
            summary,
            [
                ("m1.example", "/cache", Security::Verified, false),
                ("m2:8080", "", Security::Plain, false),
                ("m3.example", "", Security::Verified, false),
                (HUB, "", Security::Verified, true),
            ]
        );
        assert_eq!(endpoints("quay.io", &mirrors, &[]).len(), 1);
    }
}
