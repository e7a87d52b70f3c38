//! URLs: joining a `Location` to where it came from (RFC 3986 §5.2, what servers send of it), query encoding.

use http::Uri;

/// Returns the URL that `location` names, seen from `base`; `None` if that is not an HTTP URL.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if let Some(query) = location.strip_prefix('?') {
        format!("{scheme}://{authority}{}?{query}", base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    text.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

/// Adds `name=value` to the query of `url`.
pub(crate) fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={}", encode(value))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Says whether both have the same scheme, host and port.
pub(crate) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16().or_else(|| match uri.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        })
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// Returns the URL without its query, which may hold signatures: fit for messages and logs.
pub(crate) fn without_query(uri: &Uri) -> String {
    let text = uri.to_string();
    text.split_once('?').map(|(head, _)| head.to_owned()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_locations() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        for (location, expected) in [
            ("http://cdn/x?sig=1#frag", Some("http://cdn/x?sig=1")),
            ("//cdn/x", Some("https://cdn/x")),
            ("/v2/b", Some("https://r.example:5000/v2/b")),
            ("uuid?state=2", Some("https://r.example:5000/v2/a/blobs/uploads/uuid?state=2")),
            ("?y=2", Some("https://r.example:5000/v2/a/blobs/uploads/?y=2")),
            ("http:///x", None),
            ("https://a b/", None),
        ] {
            assert_eq!(join(&base, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn origins_compare_by_scheme_host_and_port() {
        for (one, other, same) in [
            ("https://a/x", "https://A:443/y", true),
            ("https://a/x", "http://a/x", false),
            ("http://a:80/", "http://a/", true),
            ("http://a:81/", "http://a/", false),
            ("https://a/", "https://a.b/", false),
        ] {
            assert_eq!(same_origin(&one.parse().unwrap(), &other.parse().unwrap()), same, "{one} {other}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            with_query("https://a/t", "scope", "repository:a/b:pull,push"),
            "https://a/t?scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert_eq!(with_query("https://a/t?x=1", "service", "é"), "https://a/t?x=1&service=%C3%A9");
        assert_eq!(without_query(&"https://a/t?x=1".parse().unwrap()), "https://a/t");
    }
}
