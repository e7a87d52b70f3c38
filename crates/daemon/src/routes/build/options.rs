//! The query of `POST /build` (Engine API, `ImageBuild`).

use crate::http::{Call, Failure};
use crate::routes::image::parse_platform;
use api::host_config::{HostConfig, Ulimit};
use api::progress::Message;
use base::Kind;
use engine::builds::{Around, CacheFrom, Request};
use oci::Reference;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request's parameters.
pub(super) struct Parsed {
    pub(super) request: Request,
    pub(super) around: Around,
    /// The Dockerfile's name in the context.
    pub(super) dockerfile: String,
    /// The URL of a context that is not sent.
    pub(super) remote: String,
    /// What the client calls the build; empty for nothing.
    pub(super) id: String,
    /// Whether only the result is told.
    pub(super) quiet: bool,
}

/// Reads the parameters.
///
/// # Errors
///
/// What is wrong with one of them, in dockerd's words.
pub(super) fn parse(call: &Call) -> Result<Parsed, Failure> {
    let query = &call.query;
    if query.get("version") == "2" {
        let text =
            "BuildKit's protocol is not spoken here; build with DOCKER_BUILDKIT=0, or with wharf build";
        return Err(Failure::new(Kind::NotImplemented, text));
    }
    let mut names = Vec::new();
    for name in query.all("t").filter(|name| !name.is_empty()) {
        let reference = Reference::parse_normalized(name).map_err(|error| {
            Failure::invalid(format!("invalid argument {name:?} for \"-t, --tag\" flag: {error}"))
        })?;
        if reference.digest().is_some() {
            return Err(Failure::invalid("build tag cannot contain a digest"));
        }
        names.push(reference.with_default_tag());
    }
    if !matches!(query.get("isolation"), "" | "default") {
        return Err(Failure::invalid(format!("unsupported isolation: {:?}", query.get("isolation"))));
    }
    // Older clients mean nothing by either.
    let platform = query.some("platform").filter(|_| call.at_least(32)).map(parse_platform).transpose()?;
    if call.at_least(40) && query.some("outputs").is_some() {
        return Err(Failure::invalid("outputs need BuildKit's protocol, or wharf build"));
    }
    let arguments: BTreeMap<String, Option<String>> = json(call, "buildargs")?;
    let request = Request {
        target: query.get("target").to_owned(),
        index: is_on(&arguments, "BUILDKIT_MULTI_PLATFORM"),
        cache_inline: is_on(&arguments, "BUILDKIT_INLINE_CACHE"),
        arguments,
        labels: json(call, "labels")?,
        no_cache: query.flag("nocache"),
        network: query.get("networkmode").to_owned(),
        platforms: platform.into_iter().collect(),
        squash: query.flag("squash"),
        cache_from: json::<Vec<String>>(call, "cachefrom")?.into_iter().map(CacheFrom::Image).collect(),
        names,
        // What a client may do with containers it may do with builds.
        allow_host_network: true,
        ..Request::default()
    };
    let around = Around {
        host: host(call)?,
        pull: query.flag("pull"),
        cache_push: Vec::new(),
        credentials: crate::routes::image::all_credentials(call)?,
        pulls: Arc::new(|_message: Message| {}),
    };
    Ok(Parsed {
        request,
        around,
        dockerfile: query.get("dockerfile").to_owned(),
        remote: query.get("remote").to_owned(),
        id: query.get("buildid").to_owned(),
        quiet: query.flag("q"),
    })
}

/// Says whether one of the arguments that are switches of the builder is on.
pub(super) fn is_on(arguments: &BTreeMap<String, Option<String>>, name: &str) -> bool {
    arguments.get(name).is_some_and(|value| matches!(value.as_deref(), Some("1" | "true")))
}

fn json<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<T, Failure> {
    match call.query.some(name) {
        None | Some("null") => Ok(T::default()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("error reading build arg {name}: {error}"))),
    }
}

fn host(call: &Call) -> Result<HostConfig, Failure> {
    let query = &call.query;
    let number = |name: &str| -> Result<i64, Failure> { Ok(query.number(name)?.unwrap_or(0)) };
    let mut host = HostConfig { shm_size: number("shmsize")?, ..HostConfig::default() };
    let hosts: Vec<String> = query
        .all("extrahosts")
        .flat_map(|text| text.split(','))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    host.extra_hosts = (!hosts.is_empty()).then_some(hosts);
    // A list, or as Docker's client has it: one by one. dockerd refuses them, since only Windows has any there.
    let security: Vec<String> = match query.some("securityopt").filter(|text| *text != "null") {
        Some(text) if !text.starts_with('[') => query.all("securityopt").map(str::to_owned).collect(),
        _ => json(call, "securityopt")?,
    };
    host.security_opt = (!security.is_empty()).then_some(security);
    let resources = &mut host.resources;
    resources.memory = number("memory")?;
    resources.memory_swap = number("memswap")?;
    resources.cpu_shares = number("cpushares")?;
    resources.cpu_period = number("cpuperiod")?;
    resources.cpu_quota = number("cpuquota")?;
    query.get("cpusetcpus").clone_into(&mut resources.cpuset_cpus);
    query.get("cpusetmems").clone_into(&mut resources.cpuset_mems);
    query.get("cgroupparent").clone_into(&mut resources.cgroup_parent);
    let limits: Vec<Ulimit> = json(call, "ulimits")?;
    resources.ulimits = (!limits.is_empty()).then_some(limits);
    Ok(host)
}
