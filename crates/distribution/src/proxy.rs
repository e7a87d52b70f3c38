//! HTTP proxies on the way to registries, as dockerd's `proxies` and the usual environment variables name them.
//!
//! Every registry behind a proxy is reached through `CONNECT`, so a proxy never sees credentials or content of HTTPS.
//! Loopback is never proxied (as in Go's `httpproxy`).

use crate::endpoint;
use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

/// Which proxies to use; empty fields mean none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://`: `http://[USER:PASSWORD@]HOST:PORT`.
    pub http: String,
    /// For `https://`, in the same form.
    pub https: String,
    /// Hosts, domains, addresses and networks that are reached directly, separated by commas.
    pub no: String,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in capital or small letters; `variable` looks one up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either =
            |name: &str| variable(name).or_else(|| variable(&name.to_lowercase())).unwrap_or_default();
        Self { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), no: either("NO_PROXY") }
    }

    pub(crate) fn matcher(&self) -> Matcher {
        let (http, https, no) = (self.http.clone(), self.https.clone(), self.no.clone());
        Matcher::builder().http(http).https(https).no(no).build()
    }
}

/// Returns the proxy on the way to `url`.
pub(crate) fn on_the_way(matcher: &Matcher, url: &Uri) -> Option<Intercept> {
    let host = endpoint::host(url.host()?);
    let address: Option<std::net::IpAddr> = host.parse().ok();
    if host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback()) {
        return None;
    }
    matcher.intercept(url).filter(|proxy| proxy.uri().scheme_str() == Some("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_ways_have_a_proxy() {
        let variable = |name: &str| match name {
            "https_proxy" => Some("http://proxy.lan:3128".to_owned()),
            "NO_PROXY" => Some("direct.lan,.corp,10.0.0.0/8".to_owned()),
            _ => None,
        };
        let matcher = Proxies::from_variables(variable).matcher();
        for (url, proxied) in [
            ("https://registry-1.docker.io/v2/", true),
            ("http://plain.lan/v2/", false),
            ("https://direct.lan/v2/", false),
            ("https://a.corp/v2/", false),
            ("https://10.2.3.4:5000/v2/", false),
            ("https://11.2.3.4:5000/v2/", true),
            ("https://localhost:5000/", false),
            ("https://127.0.0.1/", false),
            ("https://[::1]:5000/", false),
        ] {
            assert_eq!(on_the_way(&matcher, &url.parse().unwrap()).is_some(), proxied, "{url}");
        }
        assert!(on_the_way(&Proxies::default().matcher(), &"https://a/".parse().unwrap()).is_none());
    }
}
