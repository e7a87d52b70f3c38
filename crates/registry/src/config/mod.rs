//! What the server is told to do: the well-known registry's `config.yml`, for the keys that mean something here.
//!
//! Defaults are that registry's. A key that Wharf does not know is reported in the log and otherwise ignored, as
//! there; a storage driver or feature that it does not have is an error, since ignoring it would lose data or access
//! control.

pub(crate) mod tree;

use crate::error::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;
use tree::Section;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The `log` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// The lowest level that is printed.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: Format,
    /// Whether each request is logged.
    pub(crate) access: bool,
}

/// The `storage` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    /// `filesystem.rootdirectory`.
    pub(crate) root: PathBuf,
    /// `delete.enabled`.
    pub(crate) delete: bool,
    /// `maintenance.readonly.enabled`.
    pub(crate) read_only: bool,
    /// `maintenance.uploadpurging`.
    pub(crate) purge: Option<Purge>,
    /// `maintenance.garbagecollection`, which only Wharf has.
    pub(crate) collect: Option<Collect>,
    /// Whether an index may name manifests that are not here (`validation.manifests.indexes.platforms: none`).
    pub(crate) sparse: bool,
    /// The largest manifest in bytes; distribution-spec asks for at least 4 MiB.
    pub(crate) manifest_limit: u64,
}

/// When unfinished uploads are thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purge {
    /// How old they have to be.
    pub(crate) age: Duration,
    /// How often they are looked for.
    pub(crate) interval: Duration,
    /// Whether they are only reported.
    pub(crate) dry_run: bool,
}

/// When content that nothing refers to is deleted while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collect {
    /// How often.
    pub(crate) interval: Duration,
    /// How long content stays after it was last asked for.
    pub(crate) grace: Duration,
    /// Whether manifests that have no tag go as well.
    pub(crate) untagged: bool,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Everybody everything.
    None,
    /// Who has a name and password in a file may do everything.
    Htpasswd {
        /// What browsers show.
        realm: String,
        /// The file, with bcrypt hashes.
        path: PathBuf,
    },
    /// Who has a token signed by someone trusted may do what it says.
    Token(Box<Token>),
}

/// The `auth.token` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Where clients get tokens.
    pub(crate) realm: String,
    /// Who this registry is to the token server.
    pub(crate) service: String,
    /// Who issues tokens.
    pub(crate) issuer: String,
    /// Certificates that vouch for signatures.
    pub(crate) roots: Option<PathBuf>,
    /// Keys that sign, as a JSON Web Key Set.
    pub(crate) jwks: Option<PathBuf>,
    /// Whether the realm is this server's own `/auth/token`.
    pub(crate) auto_redirect: bool,
}

/// The `http` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    /// Where to listen: `HOST:PORT`, or a path if `unix`.
    pub(crate) address: String,
    /// Whether the address is a unix socket.
    pub(crate) unix: bool,
    /// A path before all others, without a slash at its end.
    pub(crate) prefix: String,
    /// How clients see the server, for absolute addresses.
    pub(crate) host: String,
    /// Whether addresses in answers leave out the server.
    pub(crate) relative_urls: bool,
    /// How long answers under way may take when the server stops.
    pub(crate) drain: Duration,
    /// Headers of every answer.
    pub(crate) headers: Vec<(String, String)>,
    /// TLS, if it is spoken.
    pub(crate) tls: Option<Tls>,
    /// Whether HTTP/2 is left out.
    pub(crate) http1_only: bool,
    /// Where metrics and health are served.
    pub(crate) debug: Option<String>,
    /// The path of the metrics there, if they are on.
    pub(crate) metrics: Option<String>,
}

/// The `http.tls` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The certificate and those that lead to its root.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Authorities that clients' certificates must come from; none asks for none.
    pub(crate) clients: Vec<PathBuf>,
    /// Whether TLS 1.2 is refused.
    pub(crate) only_1_3: bool,
}

/// One of `notifications.endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its name in logs.
    pub(crate) name: String,
    /// Where events go.
    pub(crate) url: String,
    /// Headers of each request.
    pub(crate) headers: Vec<(String, String)>,
    /// How long a request may take.
    pub(crate) timeout: Duration,
    /// How many failures in a row are tried again at once.
    pub(crate) threshold: u64,
    /// How long to wait after them.
    pub(crate) backoff: Duration,
    /// Events about these media types are left out.
    pub(crate) ignored_media_types: Vec<String>,
    /// Events of these actions are left out.
    pub(crate) ignored_actions: Vec<String>,
}

/// The `proxy` section: a pull-through cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// `host[:port]` of the remote registry; `docker.io` for Docker Hub.
    pub(crate) remote: String,
    /// Whether it speaks plain HTTP.
    pub(crate) plain: bool,
    /// A user there.
    pub(crate) username: String,
    /// The user's password.
    pub(crate) password: String,
    /// How long content stays; `None` for ever.
    pub(crate) ttl: Option<Duration>,
}

/// The `health` section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Health {
    /// Each thing looked at.
    pub(crate) checks: Vec<Check>,
}

/// One thing that is looked at again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its name in answers.
    pub(crate) name: String,
    /// What is looked at.
    pub(crate) what: Probe,
    /// How often.
    pub(crate) interval: Duration,
    /// How many failures in a row make it unhealthy.
    pub(crate) threshold: u64,
    /// How long one look may take.
    pub(crate) timeout: Duration,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Whether the storage can be read.
    Storage,
    /// A file whose presence means "unhealthy".
    File(PathBuf),
    /// An address that must accept connections.
    Tcp(String),
    /// A URL that must answer with a status.
    Http {
        /// The URL.
        uri: String,
        /// The status.
        status: u16,
        /// Headers of the request.
        headers: Vec<(String, String)>,
    },
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `log`
    pub(crate) log: Log,
    /// `storage`
    pub(crate) storage: Storage,
    /// `auth`
    pub(crate) auth: Auth,
    /// `http`
    pub(crate) http: Http,
    /// `notifications.endpoints`
    pub(crate) endpoints: Vec<Endpoint>,
    /// `proxy`
    pub(crate) proxy: Option<Proxy>,
    /// `health`
    pub(crate) health: Health,
    /// `catalog.maxentries`: the longest page of repositories.
    pub(crate) catalog_page: usize,
    /// Keys that nobody knows.
    pub(crate) unknown: Vec<String>,
}

impl Config {
    /// Reads a configuration file's text, with `REGISTRY_…` variables laid over it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the key that is wrong.
    pub(crate) fn read(text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut root = Section::root(tree::read(text, variables)?);
        let mut unknown = Vec::new();
        match root.text("version")?.as_deref() {
            Some("0.1") => {}
            Some(other) => return Err(root.wrong("version", format!("unsupported version {other}"))),
            None => return Err(root.wrong("version", "missing; it is 0.1")),
        }
        let log = log(&mut root, &mut unknown)?;
        let mut storage = storage(root.section("storage")?, &mut unknown)?;
        storage.sparse = sparse(root.section("validation")?, &mut unknown)?;
        let auth = auth(root.section("auth")?, &mut unknown)?;
        let http = http(root.section("http")?, &mut unknown)?;
        let mut notifications = root.section("notifications")?;
        let endpoints = notifications
            .sections("endpoints")?
            .into_iter()
            .map(|section| endpoint(section, &mut unknown))
            .collect::<Result<Vec<_>>>()?;
        notifications.ignore(&["events"]);
        notifications.finish(&mut unknown);
        let proxy = proxy(root.section("proxy")?, &mut unknown)?;
        let health = health(root.section("health")?, &mut unknown)?;
        let mut catalog = root.section("catalog")?;
        let catalog_page = catalog.number("maxentries")?.unwrap_or(1000).max(1);
        catalog.finish(&mut unknown);
        if root.section("middleware")?.present() {
            return Err(root.wrong("middleware", "there are none"));
        }
        // Caches of descriptors and of Redis: a file's metadata is as near.
        root.ignore(&["redis", "reporting", "compatibility", "policy"]);
        root.finish(&mut unknown);
        Ok(Self {
            log,
            storage,
            auth,
            http,
            endpoints: endpoints.into_iter().flatten().collect(),
            proxy,
            health,
            catalog_page: usize::try_from(catalog_page).unwrap_or(usize::MAX),
            unknown,
        })
    }
}

fn log(root: &mut Section, unknown: &mut Vec<String>) -> Result<Log> {
    let old = root.text("loglevel")?;
    let mut section = root.section("log")?;
    let level = section.text("level")?.or(old).unwrap_or_else(|| "info".to_owned());
    let level = match level.as_str() {
        "error" | "warn" | "info" | "debug" | "trace" => level,
        "fatal" | "panic" => "error".to_owned(),
        "warning" => "warn".to_owned(),
        other => return Err(section.wrong("level", format!("{other:?} is no level"))),
    };
    let format = match section.text("formatter")?.as_deref() {
        None | Some("text") => Format::Text,
        Some("json" | "logstash") => Format::Json,
        Some(other) => return Err(section.wrong("formatter", format!("{other:?} is no formatter"))),
    };
    let mut access = section.section("accesslog")?;
    let on = !access.flag("disabled")?;
    access.finish(unknown);
    if section.value("hooks").is_some() {
        return Err(section.wrong("hooks", "there are none; read the log, or use notifications"));
    }
    section.ignore(&["fields", "reportcaller"]);
    section.finish(unknown);
    Ok(Log { level, format, access: on })
}

fn storage(mut section: Section, unknown: &mut Vec<String>) -> Result<Storage> {
    for driver in ["s3", "s3aws", "gcs", "azure", "swift", "oss", "inmemory"] {
        if section.value(driver).is_some() {
            return Err(section.wrong(driver, "this storage driver is not here; use filesystem"));
        }
    }
    let mut files = section.section("filesystem")?;
    let root = files.text("rootdirectory")?.unwrap_or_else(|| "/var/lib/registry".to_owned());
    files.ignore(&["maxthreads"]);
    files.finish(unknown);
    let mut delete = section.section("delete")?;
    let deletes = delete.flag("enabled")?;
    delete.finish(unknown);
    let mut maintenance = section.section("maintenance")?;
    let mut readonly = maintenance.section("readonly")?;
    let read_only = readonly.flag("enabled")?;
    readonly.finish(unknown);
    let mut purging = maintenance.section("uploadpurging")?;
    let on = purging.text("enabled")?.is_none_or(|text| text == "true");
    let purge = Purge {
        age: purging.duration("age")?.unwrap_or(7 * DAY),
        interval: purging.duration("interval")?.unwrap_or(DAY),
        dry_run: purging.flag("dryrun")?,
    };
    purging.finish(unknown);
    let mut collecting = maintenance.section("garbagecollection")?;
    let collects = collecting.flag("enabled")?;
    let collect = Collect {
        interval: collecting.duration("interval")?.unwrap_or(DAY),
        grace: collecting.duration("grace")?.unwrap_or(Duration::from_secs(3600)),
        untagged: collecting.flag("deleteuntagged")?,
    };
    collecting.finish(unknown);
    maintenance.finish(unknown);
    section.ignore(&["cache", "redirect", "tag"]);
    section.finish(unknown);
    Ok(Storage {
        root: PathBuf::from(root),
        delete: deletes,
        read_only,
        purge: on.then_some(purge),
        collect: collects.then_some(collect),
        sparse: false,
        manifest_limit: 4 << 20,
    })
}

fn sparse(mut section: Section, unknown: &mut Vec<String>) -> Result<bool> {
    let mut manifests = section.section("manifests")?;
    let mut indexes = manifests.section("indexes")?;
    let sparse = match indexes.text("platforms")?.as_deref() {
        None | Some("all") => false,
        Some("none") => true,
        Some(other) => return Err(indexes.wrong("platforms", format!("{other:?} is neither all nor none"))),
    };
    indexes.finish(unknown);
    if manifests.section("urls")?.present() {
        return Err(manifests.wrong("urls", "addresses of foreign layers are not looked at"));
    }
    manifests.finish(unknown);
    section.ignore(&["disabled", "enabled"]);
    section.finish(unknown);
    Ok(sparse)
}

fn auth(mut section: Section, unknown: &mut Vec<String>) -> Result<Auth> {
    let mut found = Vec::new();
    let mut htpasswd = section.section("htpasswd")?;
    if htpasswd.present() {
        let path = htpasswd.text("path")?.ok_or_else(|| htpasswd.wrong("path", "missing"))?;
        let realm = htpasswd.text("realm")?.ok_or_else(|| htpasswd.wrong("realm", "missing"))?;
        found.push(Auth::Htpasswd { realm, path: PathBuf::from(path) });
    }
    htpasswd.finish(unknown);
    let mut token = section.section("token")?;
    if token.present() {
        let mut needed = |key: &str| {
            token.text(key)?.ok_or_else(|| Error::Config {
                key: format!("auth.token.{key}"),
                problem: "missing".to_owned(),
            })
        };
        let (realm, service, issuer) = (needed("realm")?, needed("service")?, needed("issuer")?);
        let roots = token.text("rootcertbundle")?.map(PathBuf::from);
        let jwks = token.text("jwks")?.map(PathBuf::from);
        let auto_redirect = token.flag("autoredirect")?;
        token.ignore(&["signingalgorithms"]);
        if roots.is_none() && jwks.is_none() {
            return Err(token.wrong("rootcertbundle", "missing, and so is jwks: nothing could be trusted"));
        }
        found.push(Auth::Token(Box::new(Token { realm, service, issuer, roots, jwks, auto_redirect })));
    }
    token.finish(unknown);
    if let Some(other) = section.keys().first() {
        // Not to know how access is controlled must not open the door.
        return Err(section.wrong(other, "this kind of access control is not here"));
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Ok(Auth::None),
        (Some(auth), None) => Ok(auth),
        _ => Err(section.wrong("htpasswd", "there may be only one kind of access control")),
    }
}

fn http(mut section: Section, unknown: &mut Vec<String>) -> Result<Http> {
    let unix = match section.text("net")?.as_deref() {
        None | Some("" | "tcp") => false,
        Some("unix") => true,
        Some(other) => return Err(section.wrong("net", format!("{other:?} is neither tcp nor unix"))),
    };
    let address = section.text("addr")?.unwrap_or_default();
    let address = if address.is_empty() { ":5000".to_owned() } else { address };
    let prefix = section.text("prefix")?.unwrap_or_default().trim_end_matches('/').to_owned();
    let mut tls = section.section("tls")?;
    if tls.section("letsencrypt")?.text("email")?.is_some() {
        return Err(tls.wrong("letsencrypt", "certificates are not fetched; give certificate and key"));
    }
    let only_1_3 = match tls.text("minimumtls")?.as_deref() {
        None | Some("tls1.0" | "tls1.1" | "tls1.2") => false,
        Some("tls1.3") => true,
        Some(other) => return Err(tls.wrong("minimumtls", format!("{other:?} is no version"))),
    };
    let clients = tls.texts("clientcas")?.into_iter().map(PathBuf::from).collect();
    let files = (tls.text("certificate")?, tls.text("key")?);
    tls.ignore(&["ciphersuites", "clientauth"]);
    let pair = match files {
        (Some(certificate), Some(key)) => {
            Some(Tls { certificate: certificate.into(), key: key.into(), clients, only_1_3 })
        }
        (None, None) => None,
        _ => return Err(tls.wrong("certificate", "certificate and key go together")),
    };
    tls.finish(unknown);
    let mut http2 = section.section("http2")?;
    let http1_only = http2.flag("disabled")?;
    http2.finish(unknown);
    let mut debug = section.section("debug")?;
    let debug_address = debug.text("addr")?;
    let mut prometheus = debug.section("prometheus")?;
    let metrics = prometheus.flag("enabled")?;
    let path = prometheus.text("path")?.unwrap_or_else(|| "/metrics".to_owned());
    prometheus.finish(unknown);
    debug.finish(unknown);
    let http = Http {
        address,
        unix,
        prefix,
        host: section.text("host")?.unwrap_or_default().trim_end_matches('/').to_owned(),
        relative_urls: section.flag("relativeurls")?,
        drain: section.duration("draintimeout")?.unwrap_or(Duration::from_secs(60)),
        headers: section.headers("headers")?,
        tls: pair,
        http1_only,
        debug: debug_address,
        metrics: metrics.then_some(path),
    };
    // The secret signs the state of uploads where clients carry it; here the server keeps it.
    section.ignore(&["secret", "h2c"]);
    section.finish(unknown);
    Ok(http)
}

fn endpoint(mut section: Section, unknown: &mut Vec<String>) -> Result<Option<Endpoint>> {
    let disabled = section.flag("disabled")?;
    let mut ignore = section.section("ignore")?;
    let mut ignored_media_types = ignore.texts("mediatypes")?;
    let ignored_actions = ignore.texts("actions")?;
    ignore.finish(unknown);
    ignored_media_types.extend(section.texts("ignoredmediatypes")?);
    let endpoint = Endpoint {
        name: section.text("name")?.unwrap_or_default(),
        url: section.text("url")?.ok_or_else(|| section.wrong("url", "missing"))?,
        headers: section.headers("headers")?,
        timeout: section.duration("timeout")?.unwrap_or(Duration::from_secs(1)),
        threshold: section.number("threshold")?.unwrap_or(10),
        backoff: section.duration("backoff")?.unwrap_or(Duration::from_secs(1)),
        ignored_media_types,
        ignored_actions,
    };
    section.finish(unknown);
    Ok((!disabled).then_some(endpoint))
}

fn proxy(mut section: Section, unknown: &mut Vec<String>) -> Result<Option<Proxy>> {
    let Some(url) = section.text("remoteurl")?.filter(|url| !url.is_empty()) else {
        section.finish(unknown);
        return Ok(None);
    };
    let (plain, host) = match url.split_once("://") {
        Some(("http", host)) => (true, host),
        Some(("https", host)) => (false, host),
        Some(_) => return Err(section.wrong("remoteurl", "neither http nor https")),
        None => (false, url.as_str()),
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains('/') {
        return Err(section.wrong("remoteurl", "must be a host without a path"));
    }
    let remote = match host {
        "registry-1.docker.io" | "index.docker.io" => "docker.io",
        host => host,
    };
    let ttl = match section.text("ttl")?.as_deref() {
        None => Some(7 * DAY),
        Some("0" | "0s") => None,
        Some(text) => {
            let mut again = Section::root([("ttl".to_owned(), text.into())].into_iter().collect());
            again.duration("ttl")?
        }
    };
    let proxy = Proxy {
        remote: remote.to_owned(),
        plain,
        username: section.text("username")?.unwrap_or_default(),
        password: section.text("password")?.unwrap_or_default(),
        ttl,
    };
    section.finish(unknown);
    Ok(Some(proxy))
}

fn health(mut section: Section, unknown: &mut Vec<String>) -> Result<Health> {
    let mut checks = Vec::new();
    let mut driver = section.section("storagedriver")?;
    if driver.flag("enabled")? {
        checks.push(check(&mut driver, "storagedriver_filesystem".to_owned(), Probe::Storage)?);
    }
    driver.finish(unknown);
    for mut entry in section.sections("file")? {
        let path = entry.text("file")?.ok_or_else(|| entry.wrong("file", "missing"))?;
        checks.push(check(&mut entry, path.clone(), Probe::File(path.into()))?);
        entry.finish(unknown);
    }
    for mut entry in section.sections("tcp")? {
        let address = entry.text("addr")?.ok_or_else(|| entry.wrong("addr", "missing"))?;
        checks.push(check(&mut entry, address.clone(), Probe::Tcp(address))?);
        entry.finish(unknown);
    }
    for mut entry in section.sections("http")? {
        let uri = entry.text("uri")?.ok_or_else(|| entry.wrong("uri", "missing"))?;
        let status = entry.number("statuscode")?.unwrap_or(200);
        let status = u16::try_from(status).map_err(|_ignored| entry.wrong("statuscode", "not a status"))?;
        let headers = entry.headers("headers")?;
        checks.push(check(&mut entry, uri.clone(), Probe::Http { uri, status, headers })?);
        entry.finish(unknown);
    }
    section.finish(unknown);
    Ok(Health { checks })
}

fn check(section: &mut Section, name: String, what: Probe) -> Result<Check> {
    Ok(Check {
        name,
        what,
        interval: section.duration("interval")?.unwrap_or(Duration::from_secs(10)),
        threshold: section
            .number("threshold")?
            .unwrap_or(if section.keys().is_empty() { 1 } else { 3 })
            .max(1),
        timeout: section.duration("timeout")?.unwrap_or(Duration::from_secs(5)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The well-known registry's example for a private registry, as guides have it.
    const GUIDE: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

    fn read(text: &str) -> Result<Config> {
        Config::read(text, std::iter::empty())
    }

    #[test]
    fn the_guide_s_example() {
        let config = read(GUIDE).unwrap();
        assert_eq!(config.http.address, ":5000");
        assert_eq!(config.http.headers, [("X-Content-Type-Options".to_owned(), "nosniff".to_owned())]);
        assert_eq!(config.health.checks.len(), 1);
        assert_eq!(config.auth, Auth::None);
        assert_eq!(config.unknown, Vec::<String>::new());
        assert!(!config.storage.delete && config.storage.purge.is_some() && config.storage.collect.is_none());
    }

    #[test]
    fn variables_of_the_guides() {
        let variables = [
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/certs/domain.crt"),
            ("REGISTRY_HTTP_TLS_KEY", "/certs/domain.key"),
            ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
        ];
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::read(GUIDE, variables).unwrap();
        let expected = Auth::Htpasswd { realm: "Registry Realm".to_owned(), path: "/auth/htpasswd".into() };
        assert_eq!(config.auth, expected);
        assert_eq!(config.http.tls.unwrap().key, PathBuf::from("/certs/domain.key"));
        assert_eq!(config.proxy.unwrap().remote, "docker.io");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (text, expected) in [
            ("{}", "version: missing; it is 0.1"),
            ("version: 0.2", "version: unsupported version 0.2"),
            (
                "version: 0.1\nstorage: {s3: {bucket: b}}",
                "storage.s3: this storage driver is not here; use filesystem",
            ),
            (
                "version: 0.1\nauth: {silly: {realm: r}}",
                "auth.silly: this kind of access control is not here",
            ),
            ("version: 0.1\nhttp: {tls: {key: k}}", "http.tls.certificate: certificate and key go together"),
            ("version: 0.1\nlog: {level: loud}", "log.level: \"loud\" is no level"),
            ("version: 0.1\nproxy: {remoteurl: ftp://x}", "proxy.remoteurl: neither http nor https"),
        ] {
            let found = read(text).unwrap_err().to_string();
            assert_eq!(found, format!("configuration: {expected}"), "{text}");
        }
        let unknown = read("version: 0.1\nstorag: 1\nhttp: {adr: x}").unwrap().unknown;
        assert_eq!(unknown, ["http.adr", "storag"]);
    }
}
