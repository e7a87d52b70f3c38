//! `hosts.toml`: which hosts serve a registry, in containerd's format (containerd, *docs/hosts.md*).
//!
//! The file lies in `certs.d/REGISTRY/`, or in `certs.d/_default/` for all registries without one. It is read whenever a
//! registry is used, so that a change needs no reload. A key that is not known is an error, as is a file that cannot be
//! read: going past a mirror or a certificate in silence would be worse than not going at all.

use crate::endpoint::{self, Endpoint, Own, Security};
use crate::repository::Access;
use crate::tls::HostFiles;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

/// What a file says, in its order: hosts are tried in the order they are written in.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    server: Option<String>,
    host: Hosts,
    capabilities: Option<Vec<String>>,
    ca: List,
    client: Client,
    skip_verify: bool,
    override_path: bool,
    dial_timeout: Option<String>,
    header: Headers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: List,
    client: Client,
    skip_verify: bool,
    override_path: bool,
    dial_timeout: Option<String>,
    header: Headers,
}

/// A table whose order counts.
#[derive(Debug, Default)]
struct Hosts(Vec<(String, Host)>);

#[derive(Debug, Default)]
struct Headers(Vec<(String, List)>);

struct Ordered<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Ordered<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Ordered(std::marker::PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Ordered(std::marker::PhantomData)).map(Self)
    }
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum List {
    One(String),
    Many(Vec<String>),
}

impl Default for List {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl List {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }
}

/// Certificates to be shown: files that have the key as well, or pairs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl Default for Client {
    fn default() -> Self {
        Self::Files(Vec::new())
    }
}

/// A file that cannot be used, and why.
#[derive(Debug, Clone)]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) problem: String,
}

/// Returns the endpoints that the file for `domain` says, the server's last; `None` without a file.
///
/// # Errors
///
/// That there is one and it cannot be used.
pub(crate) fn endpoints(
    directories: &[PathBuf],
    domain: &str,
    insecure: &[String],
    access: Access,
) -> Result<Option<Vec<Endpoint>>, Unusable> {
    if domain.contains('/') || domain.starts_with('.') {
        return Ok(None);
    }
    for folder in [domain, DEFAULT] {
        for directory in directories {
            let path = directory.join(folder).join(FILE);
            let unusable = |problem: String| Unusable { path: path.clone(), problem };
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unusable(error.to_string())),
            };
            let folder = directory.join(folder);
            return read(&text, &folder, domain, insecure, access).map(Some).map_err(unusable);
        }
    }
    Ok(None)
}

fn read(
    text: &str,
    folder: &Path,
    domain: &str,
    insecure: &[String],
    access: Access,
) -> Result<Vec<Endpoint>, String> {
    let document: Document = basic_toml::from_str(text).map_err(|error| error.to_string())?;
    let Document {
        server,
        host: Hosts(hosts),
        capabilities,
        ca,
        client,
        skip_verify,
        override_path,
        dial_timeout,
        header,
    } = document;
    let own = Host { capabilities, ca, client, skip_verify, override_path, dial_timeout, header };
    let server = server.unwrap_or_else(|| endpoint::authority(domain).to_owned());
    let mut endpoints = Vec::new();
    let given = hosts.iter().map(|(url, host)| (url.as_str(), host)).chain([(server.as_str(), &own)]);
    for (url, host) in given {
        endpoints.extend(host.endpoint(url, folder, domain, insecure, access)?);
    }
    if access == Access::Push {
        // Uploads go to one host, the first that takes them.
        endpoints.truncate(1);
    }
    if endpoints.is_empty() { Err("no host is left for this".to_owned()) } else { Ok(endpoints) }
}

impl Host {
    /// Returns the endpoint, if the host serves for `access`.
    fn endpoint(
        &self,
        url: &str,
        folder: &Path,
        domain: &str,
        insecure: &[String],
        access: Access,
    ) -> Result<Option<Endpoint>, String> {
        let (scheme, rest) = url.split_once("://").map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(format!("{url:?} names no host"));
        }
        let can = |what: &str| {
            self.capabilities.as_ref().is_none_or(|capabilities| capabilities.iter().any(|one| one == what))
        };
        let known = ["pull", "resolve", "push", "referrers"];
        if let Some(odd) =
            self.capabilities.iter().flatten().find(|capability| !known.contains(&capability.as_str()))
        {
            return Err(format!("unknown capability {odd:?}"));
        }
        let (pull, resolve) = match access {
            Access::Pull => (can("pull"), can("resolve")),
            Access::Push => (can("push"), can("push")),
        };
        if !pull && !resolve {
            return Ok(None);
        }
        let listed = endpoint::security(authority, insecure) == Security::Insecure;
        let security = match scheme {
            Some("http") => Security::Plain,
            Some("https") if self.skip_verify || listed => Security::Unverified,
            Some("https") => Security::Verified,
            None if self.skip_verify => Security::Insecure,
            None => endpoint::security(authority, insecure),
            Some(other) => return Err(format!("unknown scheme {other:?} of {url:?}")),
        };
        let origin = authority == endpoint::authority(domain);
        let path = path.trim_matches('/');
        // The path of the API ends in /v2 unless it is said to be another one.
        let path = if self.override_path { path } else { path.strip_suffix("v2").unwrap_or(path) };
        let prefix = path.trim_end_matches('/');
        let own = Own {
            files: self.files(folder),
            headers: self.headers()?,
            namespace: if origin { String::new() } else { domain.to_owned() },
            whole_path: self.override_path,
            dial_timeout: self.dial_timeout.as_deref().map(duration).transpose()?,
        };
        Ok(Some(Endpoint {
            authority: authority.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            security,
            origin,
            pull,
            resolve,
            own: Some(Arc::new(own)),
        }))
    }

    fn files(&self, folder: &Path) -> HostFiles {
        let path = |name: &str| folder.join(name);
        let pairs = match &self.client {
            Client::One(file) => vec![(path(file), path(file))],
            Client::Files(files) => files.iter().map(|file| (path(file), path(file))).collect(),
            Client::Pairs(pairs) => {
                let pair = |pair: &Vec<String>| {
                    let certificate = pair.first()?;
                    let key = pair.get(1).filter(|key| !key.is_empty()).unwrap_or(certificate);
                    Some((path(certificate), path(key)))
                };
                pairs.iter().filter_map(pair).collect()
            }
        };
        HostFiles::new(self.ca.iter().map(path).collect(), pairs)
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers = Vec::new();
        for (name, values) in &self.header.0 {
            for value in values.iter() {
                let wrong = || format!("{name:?} with {value:?} is no header");
                let pair = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value));
                let (Ok(name), Ok(mut value)) = pair else { return Err(wrong()) };
                value.set_sensitive(true);
                headers.push((name, value));
            }
        }
        Ok(headers)
    }
}

/// Reads a time as Go writes it, with one unit.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let read = |(unit, milliseconds): (&str, u64)| {
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
    };
    units.into_iter().find_map(read).ok_or_else(|| format!("{text:?} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the endpoints of a file for `r.example`.
    fn check(text: &str, access: Access, expected: Result<&[&str], &str>) {
        let shown = read(text, Path::new("/d"), "r.example", &["10.0.0.0/8".to_owned()], access).map(|all| {
            let show = |one: &Endpoint| {
                let Own { files, headers, namespace, whole_path, .. } = one.own.as_deref().unwrap();
                let flags = [(one.origin, 'o'), (one.pull, 'p'), (one.resolve, 'r'), (*whole_path, 'w')];
                let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
                let (files, headers) = (files.count(), headers.len());
                let (host, prefix) = (&one.authority, &one.prefix);
                format!("{host}{prefix} {:?} {flags} {files} {headers} {namespace}", one.security)
            };
            all.iter().map(|one| show(one).trim_end().to_owned()).collect::<Vec<_>>()
        });
        let expected = expected.map(|lines| lines.iter().map(|&line| line.to_owned()).collect());
        assert_eq!(shown, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn hosts_come_in_order_and_the_server_last() {
        let text = r#"
            server = "https://r.example"
            [host."https://z.example/some/v2"]
              capabilities = ["pull"]
              ca = ["one.pem", "/abs/two.pem"]
              client = [["c.pem", "k.pem"], ["both.pem", ""]]
            [host."http://a.example:5000"]
              capabilities = ["pull", "resolve"]
              [host."http://a.example:5000".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://m.example/all/of/it"]
              override_path = true
              skip_verify = true
              dial_timeout = "3s"
        "#;
        let pulls = [
            "z.example/some Verified p 4 0 r.example",
            "a.example:5000 Plain pr 0 3 r.example",
            "m.example/all/of/it Unverified prw 0 0 r.example",
            "r.example Verified opr 0 0",
        ];
        check(text, Access::Pull, Ok(&pulls));
        check(text, Access::Push, Ok(&["m.example/all/of/it Unverified prw 0 0 r.example"]));
    }

    #[test]
    fn hosts_without_a_scheme_are_trusted_as_elsewhere() {
        check("", Access::Pull, Ok(&["r.example Verified opr 0 0"]));
        check("skip_verify = true", Access::Pull, Ok(&["r.example Insecure opr 0 0"]));
        let text = "server = \"10.1.2.3:5000\"\ncapabilities = [\"resolve\"]";
        check(text, Access::Pull, Ok(&["10.1.2.3:5000 Insecure r 0 0 r.example"]));
        check(text, Access::Push, Err("no host is left for this"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        check("server = \"ftp://x\"", Access::Pull, Err("unknown scheme \"ftp\" of \"ftp://x\""));
        check("server = \"https:///v2\"", Access::Pull, Err("\"https:///v2\" names no host"));
        check("capabilities = [\"fly\"]", Access::Pull, Err("unknown capability \"fly\""));
        check("dial_timeout = \"soon\"", Access::Pull, Err("\"soon\" is no time"));
        check("header = {\"a b\" = \"c\"}", Access::Pull, Err("\"a b\" with \"c\" is no header"));
        for text in ["nonsense = 1", "server = 1", "[host.x]\ncolour = 1", "server"] {
            assert!(read(text, Path::new("/d"), "r.example", &[], Access::Pull).is_err(), "{text}");
        }
    }

    #[test]
    fn the_registrys_own_file_comes_before_the_default() {
        let folder = std::env::temp_dir().join(format!("wharf-hosts-{}", std::process::id()));
        for (name, text) in [("one:5000", "server = \"http://own\""), ("_default", "server = \"http://all\"")]
        {
            std::fs::create_dir_all(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join(FILE), text).unwrap();
        }
        let directories = [folder.join("none"), folder.clone()];
        let first = |domain: &str| {
            let found = endpoints(&directories, domain, &[], Access::Pull).unwrap();
            found.map(|all| all[0].authority.clone())
        };
        assert_eq!(first("one:5000").as_deref(), Some("own"));
        assert_eq!(first("two").as_deref(), Some("all"));
        assert_eq!(first("../one:5000"), None);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
