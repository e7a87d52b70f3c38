//! Which hosts serve a repository, and how far each is trusted.
//!
//! Pure. The rules are dockerd's: `docker.io` lives at `registry-1.docker.io`, its mirrors (`registry-mirrors`) come
//! first, as do those of any other registry; loopback and `insecure-registries` may speak plain HTTP or show any certificate; **everything else speaks
//! verified HTTPS or not at all** (CVE-2014-5277).

use crate::tls::HostFiles;
use crate::uri;
use http::{HeaderName, HeaderValue, Request};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Docker Hub's registry, which serves the domain `docker.io`.
const HUB: &str = "registry-1.docker.io";

/// A mirror of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Whose: `docker.io`, `quay.io`, `host:port`.
    pub registry: String,
    /// Its URL.
    pub url: String,
}

/// What a host needs that others do not (`hosts.toml`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Own {
    /// Certificates to believe and to show, besides those of `certs.d`.
    pub(crate) files: HostFiles,
    /// Headers of every request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The registry that it stands for, as mirrors of several are told (`?ns=`); empty for itself.
    pub(crate) namespace: String,
    /// Whether the endpoint's prefix stands for `/v2` as well.
    pub(crate) whole_path: bool,
    /// How long a connection may take.
    pub(crate) dial_timeout: Option<Duration>,
}

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
    /// Whether content is to be had by digest.
    pub(crate) pull: bool,
    /// Whether it says what tags name.
    pub(crate) resolve: bool,
    /// What it needs that others do not.
    pub(crate) own: Option<Arc<Own>>,
}

impl Endpoint {
    fn new(authority: &str, security: Security, origin: bool) -> Self {
        let authority = authority.to_owned();
        let prefix = String::new();
        Self { authority, prefix, security, origin, pull: true, resolve: true, own: None }
    }

    /// Says whether it may be asked for what has a digest, or else for what a tag names.
    pub(crate) fn serves(&self, by_digest: bool) -> bool {
        if by_digest { self.pull } else { self.resolve }
    }

    /// Returns the path and query for `path`, which begins with `/v2/`.
    pub(crate) fn path(&self, path: &str) -> String {
        let whole = self.own.as_deref().is_some_and(|own| own.whole_path);
        let rest = if whole { path.strip_prefix("/v2").unwrap_or(path) } else { path };
        let path = format!("{}{rest}", self.prefix);
        match self.own.as_deref().map_or("", |own| own.namespace.as_str()) {
            "" => path,
            namespace => uri::with_query(&path, "ns", namespace),
        }
    }

    /// Adds what the host needs to a request to it.
    pub(crate) fn prepare<B>(&self, request: &mut Request<B>) {
        let Some(own) = &self.own else { return };
        for (name, value) in &own.headers {
            request.headers_mut().append(name, value.clone());
        }
        request.extensions_mut().insert((self.security, Arc::clone(own)));
    }
}

/// How to talk to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// HTTPS with a certificate that verifies.
    Verified,
    /// HTTPS with any certificate; plain HTTP if the host does not speak TLS.
    Insecure,
    /// HTTPS with any certificate, and nothing else: `https://` with `skip_verify`.
    Unverified,
    /// Plain HTTP: the user wrote `http://` for a mirror.
    Plain,
}

/// Returns the endpoints of a reference's `domain`, in the order to try them.
pub(crate) fn endpoints(domain: &str, mirrors: &[Mirror], insecure: &[String]) -> Vec<Endpoint> {
    let own = mirrors.iter().filter(|mirror| mirror.registry == domain);
    let mut endpoints: Vec<Endpoint> = own.filter_map(|mirror| from_mirror(&mirror.url, insecure)).collect();
    let authority = authority(domain);
    endpoints.push(Endpoint::new(authority, security(authority, insecure), true));
    endpoints
}

/// Returns the `host[:port]` of the registry that serves `domain`.
pub(crate) fn authority(domain: &str) -> &str {
    if domain == "docker.io" { HUB } else { domain }
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
    Some(Endpoint { prefix, ..Endpoint::new(authority, security, false) })
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
    fn mirrors_serve_their_registry_and_never_as_origin() {
        let mirror = |registry: &str, url: &str| Mirror { registry: registry.into(), url: url.into() };
        let hub = ["https://m1.example/cache/", "http://m2:8080", "m3.example", "ftp://x", "https://"];
        let mut mirrors: Vec<Mirror> = hub.iter().map(|url| mirror("docker.io", url)).collect();
        mirrors.push(mirror("ghcr.io", "https://m4.example"));
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
        let other = endpoints("ghcr.io", &mirrors, &[]);
        assert_eq!((other.len(), other[0].authority.as_str()), (2, "m4.example"));
    }
}
