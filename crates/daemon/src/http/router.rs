//! Which handler answers a method and a path.
//!
//! Patterns are made of literal segments, `{name}` for one segment and at most one `{name...}` for one segment or
//! more: names of images have slashes. The first fitting route wins.

use api::ApiVersion;
use http::Method;

/// A method and a pattern with what answers them.
#[derive(Debug, Clone)]
pub struct Route<H> {
    /// The method.
    pub method: Method,
    /// The pattern.
    pub pattern: &'static str,
    /// The first version that has it.
    pub since: ApiVersion,
    /// What answers.
    pub handler: H,
}

/// The parts of a path that a pattern named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// Returns the part named `name`; empty if the pattern has none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// Finds the route of a request. `path` is decoded and without version prefix.
pub fn find<'a, H>(
    routes: &'a [Route<H>],
    method: &Method,
    version: ApiVersion,
    path: &str,
) -> Option<(&'a Route<H>, Parameters)> {
    routes
        .iter()
        .filter(|route| route.method == *method && version >= route.since)
        .find_map(|route| Some((route, fit(route.pattern, path)?)))
}

fn fit(pattern: &'static str, path: &str) -> Option<Parameters> {
    let mut parameters = Parameters::default();
    let mut wanted = pattern.strip_prefix('/')?.split('/');
    let mut have: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    // A slash at the end means nothing.
    if have.len() > 1 && have.last().is_some_and(|last| last.is_empty()) {
        have.pop();
    }
    let mut have = have.as_slice();
    while let Some(segment) = wanted.next() {
        let Some(name) = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) else {
            let (first, rest) = have.split_first()?;
            if *first != segment {
                return None;
            }
            have = rest;
            continue;
        };
        let (name, taken) = match name.strip_suffix("...") {
            Some(name) => (name, have.len().checked_sub(wanted.clone().count())?),
            None => (name, 1),
        };
        let (value, rest) = have.split_at_checked(taken)?;
        let value = value.join("/");
        if value.is_empty() {
            return None;
        }
        parameters.0.push((name, value));
        have = rest;
    }
    have.is_empty().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_literals_segments_and_the_rest() {
        for (pattern, path, expect) in [
            ("/_ping", "/_ping", Some("")),
            ("/_ping", "/_ping/", Some("")),
            ("/_ping", "/ping", None),
            ("/containers/{name}/json", "/containers/web/json", Some("web")),
            ("/containers/{name}/json", "/containers//json", None),
            ("/containers/{name}/json", "/containers/a/b/json", None),
            ("/images/{name...}/json", "/images/ghcr.io/a/b:1/json", Some("ghcr.io/a/b:1")),
            ("/images/{name...}/json", "/images/json", None),
            ("/images/{name...}/json", "/images/json/json", Some("json")),
            ("/images/{name...}", "/images/a/json", Some("a/json")),
            ("/images/{name...}", "/images/", None),
        ] {
            let found = fit(pattern, path).map(|parameters| parameters.get("name").to_owned());
            assert_eq!(found.as_deref(), expect, "{pattern} {path}");
        }
    }

    #[test]
    fn method_and_version_count() {
        let route = |method, since, handler| Route { method, pattern: "/a", since, handler };
        let routes = [route(Method::GET, ApiVersion::new(1, 30), 1), route(Method::POST, ApiVersion::MIN, 2)];
        let handler =
            |method: Method, version| find(&routes, &method, version, "/a").map(|(route, _)| route.handler);
        assert_eq!(handler(Method::GET, ApiVersion::new(1, 30)), Some(1));
        assert_eq!(handler(Method::GET, ApiVersion::new(1, 29)), None);
        assert_eq!(handler(Method::POST, ApiVersion::MIN), Some(2));
        assert_eq!(handler(Method::HEAD, ApiVersion::MAX), None);
    }
}
