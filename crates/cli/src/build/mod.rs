//! `build`, and `builder prune`.
//!
//! The context is filtered by its `.dockerignore` and listed; what the daemon does not have of it is packed while it is sent. What a query cannot carry (secrets, further
//! contexts) goes before it in the same body, which the daemon's `routes/build/own.rs` describes.

mod annotation;
mod cache;
mod call;
mod check;
mod context;
mod layout;
mod listing;
mod platform;
mod result;
mod show;

use crate::containers::create::proxies;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, list, switch, text};
use crate::options::{environment, limits};
use crate::program::{Cli, print, print_line};
use crate::units;
use api::Filters;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use context::Main;
use layout::Layout;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

/// The flags of `build`.
pub(crate) const FLAGS: &[Flag] = &[
    list("add-host", "Add a custom host-to-IP mapping (format: \"host:ip\")"),
    list(
        "allow",
        "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\", \"device=NAME\")",
    ),
    list(
        "annotation",
        "Add annotation to the image (format: \"[manifest[PLATFORM]:|index:|manifest-descriptor:]key=value\")",
    ),
    list("attest", "Attestation parameters (format: \"type=sbom,disabled=true\"; none is made)"),
    list("build-arg", "Set build-time variables"),
    list("build-context", "Additional build contexts (e.g., name=path)"),
    text("builder", "Override the configured builder instance"),
    list("cache-from", "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")"),
    list("cache-to", "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")"),
    text("call", "Set method for evaluating build (\"check\", \"outline\", \"targets\")").default("build"),
    text("cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build"),
    switch("check", "Shorthand for \"--call=check\""),
    Flag::new("cpu-period", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag::new("cpu-quota", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag::new("cpu-shares", Kind::Int, "CPU shares (relative weight)").short('c'),
    text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    // What the classic builder and buildx take, and what is always so here: nothing of a step but its layer stays, and of
    // the context only what has changed travels.
    switch("compress", "Compress the build context"),
    switch("disable-content-trust", "Skip image verification").default("true"),
    switch("force-rm", "Always remove intermediate containers"),
    switch("rm", "Remove intermediate containers after a successful build").default("true"),
    text("isolation", "Container isolation technology"),
    switch("explain", "Say for each step that is not cached what has changed"),
    text("file", "Name of the Dockerfile (Default is \"PATH/Dockerfile\")").short('f'),
    text("iidfile", "Write the image ID to a file"),
    Flag::new("label", Kind::Checked("list", environment::check_label), "Set metadata for an image"),
    Flag::new("memory", Kind::Bytes, "Memory limit").short('m'),
    Flag::new(
        "memory-swap",
        Kind::SwapBytes,
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    text("metadata-file", "Write build result metadata to a file"),
    text("network", "Set the networking mode for the RUN instructions during build").default("default"),
    switch("load", "Shorthand for \"--output=type=docker\""),
    switch("no-cache", "Do not use cache when building the image"),
    list("no-cache-filter", "Do not cache specified stages"),
    list("output", "Output destination (format: \"type=local,dest=path\")").short('o'),
    list("platform", "Set target platform for build"),
    text("progress", "Set type of progress output (\"auto\", \"plain\", \"tty\", \"rawjson\", \"quiet\")")
        .default("auto"),
    text("provenance", "Shorthand for \"--attest=type=provenance\""),
    switch("pull", "Always attempt to pull a newer version of the image"),
    switch("push", "Shorthand for \"--output=type=registry\""),
    switch("quiet", "Suppress the build output and print image ID on success").short('q'),
    text("sbom", "Shorthand for \"--attest=type=sbom\""),
    list("secret", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
    list("security-opt", "Security options"),
    Flag::new("shm-size", Kind::Bytes, "Size of \"/dev/shm\""),
    switch("squash", "Squash newly built layers into a single new layer"),
    list("ssh", "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")"),
    list("tag", "Name and optionally a tag in the \"name:tag\" format").short('t'),
    text("target", "Set the target build stage to build"),
    Flag::new("ulimit", Kind::Checked("ulimit", limits::check_ulimit), "Ulimit options").default("[]"),
];

/// The flags of `builder prune`.
pub(crate) const PRUNE_FLAGS: &[Flag] = &[
    switch("all", "Remove all unused build cache, not just dangling ones").short('a'),
    crate::filter::flag("filter", "Provide filter values (e.g. \"until=24h\")"),
    switch("force", "Do not prompt for confirmation").short('f'),
    Flag::new("keep-storage", Kind::Bytes, "Amount of disk space to keep for cache"),
    Flag::new("max-used-space", Kind::Bytes, "Maximum amount of disk space allowed to keep for cache"),
    Flag::new("min-free-space", Kind::Bytes, "Target amount of free disk space after pruning"),
    Flag::new("reserved-space", Kind::Bytes, "Amount of disk space always allowed to keep for cache"),
];

/// What goes before the context.
#[derive(Serialize, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, by name")]
struct Document {
    events: bool,
    /// The archive is the context itself, and not what holds it.
    whole: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile_url: Option<String>,
    secrets: BTreeMap<String, String>,
    agents: BTreeMap<String, PathBuf>,
    folders: Vec<String>,
    images: BTreeMap<String, String>,
    /// URLs by name of context.
    remotes: BTreeMap<String, String>,
    no_cache_filter: Vec<String>,
    allow: Vec<String>,
    explain: bool,
    /// The name of the list that the archive completes.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<String>,
    platforms: Vec<String>,
    annotations: Vec<annotation::Annotation>,
    cache_from: Vec<cache::Source>,
    cache_inline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_to: Option<cache::Target>,
}

impl Document {
    /// Reads `--build-context`; returns the folders among them, in the order of their numbers, and the image layouts by name.
    fn further(&mut self, texts: &[String]) -> Result<(Vec<PathBuf>, BTreeMap<String, Layout>)> {
        let (mut folders, mut layouts) = (Vec::new(), BTreeMap::new());
        for text in texts {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Error::message(format!("invalid context value: {text}, expected key=value"))
            })?;
            if let Some(image) = value.strip_prefix("docker-image://") {
                self.images.insert(name.to_owned(), image.to_owned());
            } else if let Some(layout) = value.strip_prefix("oci-layout://") {
                layouts.insert(name.to_owned(), Layout::parse(layout));
            } else if context::is_remote(value) {
                self.remotes.insert(name.to_owned(), value.to_owned());
            } else if let Some((kind, _)) = value.split_once("://") {
                return Err(Error::message(format!("unsupported context source {kind} for {name}")));
            } else if let Some(stage) = value.strip_prefix("target:") {
                // What files for bake have; a stage needs none to be named.
                let text =
                    format!("unsupported context source target for {name}: name the stage {stage} itself");
                return Err(Error::message(text));
            } else {
                self.folders.push(name.to_owned());
                folders.push(PathBuf::from(value));
            }
        }
        Ok((folders, layouts))
    }
}

/// `build`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let given = context::Given::new(matches.arg(0), matches.text("file"))?;
    call::check_builder(matches.text("builder"), &cli.context_name()?)?;
    let asked = call::parse(matches)?;
    if asked.0 != call::Call::Build {
        return call::answer(asked, &given, matches.text("target"), &arguments(cli, matches)?);
    }
    call::check_claims(matches)?;
    let isolation = matches.text("isolation");
    if !matches!(isolation, "" | "default") {
        return Err(Error::message(format!(
            "invalid isolation ({isolation}): linux only supports 'default'"
        )));
    }
    let targets = platform::Targets::parse(matches)?;
    let outputs = result::Outputs::parse(matches, &targets)?;
    let caches = cache::Caches::parse(matches)?;
    let mut document = Document {
        events: true,
        whole: matches!(given.main, Main::Archive(_)),
        dockerfile: given.dockerfile.clone(),
        dockerfile_url: given.dockerfile_url.clone(),
        secrets: secrets(matches)?,
        agents: agents(matches)?,
        no_cache_filter: matches.list("no-cache-filter").to_vec(),
        allow: matches.list("allow").to_vec(),
        explain: matches.switch("explain"),
        annotations: annotation::parse(
            &[matches.list("annotation"), outputs.annotations.as_slice()].concat(),
            targets.is_index,
        )?,
        platforms: targets.platforms.clone(),
        cache_from: caches.sources.clone(),
        cache_inline: caches.inline,
        cache_to: caches.target.clone(),
        ..Document::default()
    };
    let (folders, layouts) = document.further(matches.list("build-context"))?;
    if document.whole && !(folders.is_empty() && caches.folders.is_empty()) {
        let text = "--build-context and --cache-from with folders need a context that is a folder, too";
        return Err(Error::message(text));
    }
    let trees = listing::trees(&given, &folders, &caches.folders)?;
    let mut files = listing::list(&trees)?;
    if !files.is_empty() {
        let (id, missing) = listing::offer(cli, &trees, files)?;
        document.listed = Some(id);
        files = missing;
    }
    let mut loaded = Vec::new();
    for (number, (name, layout)) in layouts.into_iter().enumerate() {
        let image = layout.load(cli, number)?;
        document.images.insert(name, image.name.clone());
        loaded.push(image);
    }
    let text = serde_json::to_vec(&document).map_err(|error| Error::message(error.to_string()))?;
    let mut head = (text.len() as u64).to_be_bytes().to_vec();
    head.extend(text);
    let mut show = show::Show::new(matches)?;
    let remote = match &given.main {
        Main::Remote(url) => url.clone(),
        _ => String::new(),
    };
    let dockerfile = given.dockerfile_name.clone();
    let made = context::send(&given, &files, |archive| {
        let mut body = head.as_slice().chain(archive);
        let request = query(cli, matches, &outputs.names, &remote, &dockerfile)?;
        let response = request.stream(&mut body, context::CONTENT_TYPE).send()?;
        show.follow(response)
    });
    drop(loaded);
    let made = made?;
    caches.finish(cli, &made.cache)?;
    outputs.finish(cli, matches, &made.image)?;
    if matches.switch("quiet") || matches.text("progress") == "quiet" {
        print_line(&made.image);
    }
    Ok(())
}

/// Makes the request, but for its body.
fn query<'a>(
    cli: &'a Cli,
    matches: &Matches,
    names: &[String],
    remote: &str,
    dockerfile: &str,
) -> Result<client::Request<'a>> {
    let mut request = cli
        .client()?
        .request("POST", "/build")
        .query_if_set("remote", remote)
        .query_if_set("dockerfile", dockerfile)
        .query("rm", "1")
        .flag("nocache", matches.switch("no-cache"))
        .flag("pull", matches.switch("pull"))
        .flag("squash", matches.switch("squash"))
        .query_if_set("target", matches.text("target"))
        .query_if_set("cgroupparent", matches.text("cgroup-parent"))
        .query_if_set("cpusetcpus", matches.text("cpuset-cpus"))
        .query_if_set("cpusetmems", matches.text("cpuset-mems"));
    if matches.text("network") != "default" {
        request = request.query_if_set("networkmode", matches.text("network"));
    }
    for (name, key) in [("cpu-period", "cpuperiod"), ("cpu-quota", "cpuquota"), ("cpu-shares", "cpushares")] {
        if matches.int(name) != 0 {
            request = request.query(key, matches.int(name).to_string());
        }
    }
    for (name, key) in [("memory", "memory"), ("memory-swap", "memswap"), ("shm-size", "shmsize")] {
        if matches.bytes(name) != 0 {
            request = request.query(key, matches.bytes(name).to_string());
        }
    }
    for name in names {
        request = request.query("t", name);
    }
    for host in matches.list("add-host") {
        request = request.query("extrahosts", host);
    }
    let arguments = arguments(cli, matches)?;
    if !arguments.is_empty() {
        request = request.query("buildargs", json(&arguments));
    }
    let labels = environment::labels(&[], matches.list("label"))?;
    if !labels.is_empty() {
        request = request.query("labels", json(&labels));
    }
    let limits = limits::ulimits(matches.list("ulimit"));
    if !limits.is_empty() {
        request = request.query("ulimits", json(&limits));
    }
    if !matches.list("security-opt").is_empty() {
        request = request.query("securityopt", json(&matches.list("security-opt")));
    }
    Ok(request.header("X-Registry-Config", &cli.config().all_auth_header()))
}

/// A document as text.
fn json(value: &impl Serialize) -> String {
    // Our documents have text keys only: this cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// `--build-arg`: one without a value takes it from the environment. The proxies of the user's configuration are
/// arguments, too.
fn arguments(cli: &Cli, matches: &Matches) -> Result<BTreeMap<String, Option<String>>> {
    let mut arguments = BTreeMap::new();
    for text in matches.list("build-arg") {
        match text.split_once('=') {
            Some((name, value)) => drop(arguments.insert(name.to_owned(), Some(value.to_owned()))),
            None => drop(arguments.insert(text.clone(), std::env::var(text).ok())),
        }
    }
    for (name, value) in proxies(cli)? {
        arguments.entry(name).or_insert(Some(value));
    }
    Ok(arguments)
}

/// `--secret id=NAME[,src=FILE][,env=VARIABLE]`
fn secrets(matches: &Matches) -> Result<BTreeMap<String, String>> {
    let mut secrets = BTreeMap::new();
    for text in matches.list("secret") {
        let (mut id, mut source, mut variable) = ("", None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("id", value)) => id = value,
                Some(("src" | "source", value)) => source = Some(value),
                Some(("env", value)) => variable = Some(value),
                Some(("type", "file" | "env")) => {}
                _ => return Err(Error::message(format!("unexpected key '{field}' in '{text}'"))),
            }
        }
        let id = if id.is_empty() { source.unwrap_or_default() } else { id };
        if id.is_empty() {
            return Err(Error::message(format!("secret missing 'id': {text}")));
        }
        let from_environment = |name: &str| std::env::var_os(name);
        let bytes = match (source, variable) {
            (Some(path), _) => std::fs::read(path).map_err(Error::file("open", path))?,
            (None, Some(name)) => from_environment(name)
                .ok_or_else(|| Error::message(format!("the variable {name} of secret {id} is not set")))?
                .into_encoded_bytes(),
            (None, None) => match from_environment(id) {
                Some(value) => value.into_encoded_bytes(),
                None => std::fs::read(id).map_err(Error::file("open", id))?,
            },
        };
        secrets.insert(id.to_owned(), STANDARD.encode(bytes));
    }
    Ok(secrets)
}

/// `--ssh default`, `--ssh NAME=SOCKET`: the agent must be on the engine's host.
fn agents(matches: &Matches) -> Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for text in matches.list("ssh") {
        let (id, path) = match text.split_once('=') {
            Some((id, path)) => (id, PathBuf::from(path)),
            None => {
                let socket = std::env::var_os("SSH_AUTH_SOCK").ok_or_else(|| {
                    Error::message(format!(
                        "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set, or name one for {text}"
                    ))
                })?;
                (text.as_str(), PathBuf::from(socket))
            }
        };
        let path = std::fs::canonicalize(&path).map_err(Error::file("find", path.display().to_string()))?;
        let is_socket = std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket());
        if !is_socket {
            let text =
                format!("{} is no agent's socket: add a key to an agent (ssh-add) first", path.display());
            return Err(Error::message(text));
        }
        agents.insert(id.to_owned(), path);
    }
    Ok(agents)
}

/// `builder prune`
pub(crate) fn prune(cli: &Cli, matches: &Matches) -> Result<()> {
    let all = matches.switch("all");
    if !matches.switch("force") {
        let what = if all { "all build cache" } else { "all dangling build cache" };
        print(format!("WARNING! This will remove {what}. Are you sure you want to continue? [y/N] "));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_err() || !answer.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
    }
    let filters: Filters = crate::filter::parse(matches.list("filter"));
    let mut request = cli
        .client()?
        .request("POST", "/build/prune")
        .flag("all", all)
        .query_if_set("filters", filters.encode());
    for name in ["keep-storage", "max-used-space", "min-free-space", "reserved-space"] {
        if matches.bytes(name) > 0 {
            request = request.query(name, matches.bytes(name).to_string());
        }
    }
    let answer: api::system::BuildPruneResponse = request.decode()?;
    let deleted = answer.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print(format!("Deleted build cache objects:\n{}\n\n", deleted.join("\n")));
    }
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let bytes = answer.space_reclaimed as f64;
    print_line(format!("Total reclaimed space: {}", units::human_size(bytes)));
    Ok(())
}
