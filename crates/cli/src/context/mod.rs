//! Commands about contexts: named engines, shared with Docker's own client.

mod archive;
pub(crate) mod store;

use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::list::{Listing, choose};
use crate::program::{Cli, print_line, warn};
use crate::{formats, inspect, values};
use api::StringMap;
use gotemplate::Object;
use serde_json::json;
use store::{DEFAULT, Endpoint, Files, Meta, TLS_FILES};

const DOCKER: Flag = Flag::new("docker", Kind::CommaList, "set the docker endpoint").default("[]");

/// The flags of `context create`.
pub(crate) const CREATE_FLAGS: &[Flag] = &[
    text("description", "Description of the context"),
    DOCKER,
    text("from", "create context from a named context"),
];
/// The flags of `context update`.
pub(crate) const UPDATE_FLAGS: &[Flag] = &[text("description", "Description of the context"), DOCKER];
/// The flags of `context ls`.
pub(crate) const LS_FLAGS: &[Flag] =
    &[formats::TABLE_FLAG, switch("quiet", "Only show context names").short('q')];
/// The flags of `context rm`.
pub(crate) const RM_FLAGS: &[Flag] = &[switch("force", "Force the removal of a context in use").short('f')];

const LISTING: Listing = Listing {
    type_name: "*formatter.clientContextContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
};

const TABLE: &str =
    "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";

/// Returns the default context as a document: what flags and the environment say.
fn default_context(cli: &Cli, description: &str) -> Meta {
    Meta::new(DEFAULT, description, Endpoint { host: cli.named_host(), skip_tls_verify: false })
}

/// `context create`
pub(crate) fn create(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    let store = cli.contexts()?;
    store::check_name(name)?;
    if store.has(name) {
        return Err(Error::message(format!("context {name:?} already exists")));
    }
    let options = values::map(matches.list("docker"));
    let from = match (matches.text("from"), options.get("from")) {
        ("", None) if options.is_empty() => cli.context_name()?,
        ("", None) => String::new(),
        ("", Some(from)) => from.clone(),
        (from, _) => from.to_owned(),
    };
    let meta = match from.as_str() {
        "" => Meta::new(name, "", Endpoint::default()),
        DEFAULT => default_context(cli, DEFAULT_DESCRIPTION),
        from => store.get(from)?,
    };
    let (endpoint, files) = match from.as_str() {
        from if from.is_empty() || options.keys().any(|key| key != "from") => given_endpoint(&options)?,
        DEFAULT => (meta.endpoint(), Vec::new()),
        from => (meta.endpoint(), store.tls_files(from)),
    };
    let description = matches.given("description").unwrap_or(&meta.metadata.description).to_owned();
    store.put(&Meta::new(name, &description, endpoint))?;
    store.put_tls(name, &files)?;
    print_line(name);
    warn(format!("Successfully created context {name:?}"));
    Ok(())
}

/// Reads `--docker`: the endpoint, and the TLS files it names.
fn given_endpoint(options: &StringMap) -> Result<(Endpoint, Files)> {
    let wrong = |why: String| Error::message(format!("unable to create docker endpoint config: {why}"));
    const KNOWN: [&str; 6] = ["from", "host", "ca", "cert", "key", "skip-tls-verify"];
    if let Some(key) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(wrong(format!("unrecognized config key: {key}")));
    }
    let skip_tls_verify = match options.get("skip-tls-verify") {
        None => false,
        Some(text) => values::boolean(text).map_err(|why| wrong(format!("skip-tls-verify: {why}")))?,
    };
    let mut files = Vec::new();
    for (key, name) in ["ca", "cert", "key"].into_iter().zip(TLS_FILES) {
        if let Some(path) = options.get(key).filter(|path| !path.is_empty()) {
            let content = std::fs::read(path)
                .map_err(|error| wrong(format!("open {path}: {}", crate::error::reason(&error))))?;
            files.push((name.to_owned(), content));
        }
    }
    let host = options.get("host").cloned().unwrap_or_default();
    client::Host::parse(&host, None)
        .map_err(|error| wrong(format!("invalid docker endpoint options: {error}")))?;
    Ok((Endpoint { host, skip_tls_verify }, files))
}

/// `context update`
pub(crate) fn update(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    let store = cli.contexts()?;
    if name == DEFAULT {
        return Err(Error::message("\"default\" is a reserved context name"));
    }
    let mut meta = store.get(name)?;
    if let Some(description) = matches.given("description") {
        description.clone_into(&mut meta.metadata.description);
    }
    let options = values::map(matches.list("docker"));
    if !options.is_empty() {
        let (endpoint, files) = given_endpoint(&options)?;
        meta.endpoints.insert("docker".to_owned(), endpoint);
        store.put_tls(name, &files)?;
    }
    store.put(&meta)?;
    print_line(name);
    warn(format!("Successfully updated context {name:?}"));
    Ok(())
}

/// `context ls`
pub(crate) fn ls(cli: &Cli, matches: &Matches) -> Result<()> {
    let current = cli.context_name()?;
    let mut all = cli.contexts()?.list();
    all.push(default_context(cli, DEFAULT_DESCRIPTION));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let rows = all.iter().map(|meta| row(meta, &current)).collect();
    let format = choose(matches.text("format"), "", matches.switch("quiet"), TABLE, "{{.Name}}");
    LISTING.print(&format, rows)?;
    if std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        warn(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(())
}

fn row(meta: &Meta, current: &str) -> Object {
    let mut row = LISTING.row();
    row.push("Name", meta.name.as_str());
    row.push("Current", meta.name == current);
    row.push("Description", meta.metadata.description.as_str());
    row.push("DockerEndpoint", meta.endpoint().host);
    row.push("Error", "");
    row
}

/// `context show`
pub(crate) fn show(cli: &Cli, _matches: &Matches) -> Result<()> {
    print_line(cli.context_name()?);
    Ok(())
}

/// `context use`
pub(crate) fn use_it(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    if name != DEFAULT {
        store::check_name(name)?;
        cli.contexts()?.get(name)?;
    }
    cli.set_current_context(name)?;
    print_line(name);
    warn(format!("Current context is now {name:?}"));
    if name != DEFAULT && std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        warn(format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset DOCKER_HOST environment variable."
        ));
    }
    Ok(())
}

/// `context rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    let store = cli.contexts()?;
    let current = cli.context_name()?;
    let force = matches.switch("force");
    let mut refused = Vec::new();
    for name in &matches.args {
        let outcome = if name == DEFAULT {
            Err("context \"default\" cannot be removed".to_owned())
        } else if !store.has(name) && !force {
            Err(format!("context {name:?} does not exist"))
        } else if *name == current && !force {
            Err(format!("context {name:?} is in use, set -f flag to force remove"))
        } else {
            Ok(())
        };
        match outcome {
            Ok(()) => {
                if *name == current {
                    cli.set_current_context(DEFAULT)?;
                }
                store.remove(name)?;
                print_line(name);
            }
            Err(why) => refused.push(why),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Error::message(refused.join("\n"))) }
}

/// `context inspect`
pub(crate) fn inspect(cli: &Cli, matches: &Matches) -> Result<()> {
    let current = cli.context_name()?;
    let names = if matches.args.is_empty() { vec![current] } else { matches.args.clone() };
    let store = cli.contexts()?;
    inspect::documents(matches, &names, |name| {
        let in_memory = name == DEFAULT;
        let meta = if in_memory { default_context(cli, "") } else { store.get(name)? };
        let files: Vec<String> = store.tls_files(name).into_iter().map(|(file, _)| file).collect();
        let material = if files.is_empty() || in_memory { json!({}) } else { json!({ "docker": files }) };
        let place = |folder: std::path::PathBuf| {
            if in_memory { "<IN MEMORY>".to_owned() } else { folder.display().to_string() }
        };
        Ok(json!({
            "Name": meta.name,
            "Metadata": meta.metadata,
            "Endpoints": meta.endpoints,
            "TLSMaterial": material,
            "Storage": {
                "MetadataPath": place(store.meta_folder(name)),
                "TLSPath": place(store.tls_folder(name)),
            },
        }))
    })
}

/// `context export`
pub(crate) fn export(cli: &Cli, matches: &Matches) -> Result<()> {
    let name = matches.arg(0);
    let store = cli.contexts()?;
    let meta = if name == DEFAULT { default_context(cli, DEFAULT_DESCRIPTION) } else { store.get(name)? };
    let archive = archive::pack(&meta, &store.tls_files(name))?;
    let target = match matches.arg(1) {
        "" => format!("{name}.dockercontext"),
        target => target.to_owned(),
    };
    if target == "-" {
        crate::program::print_bytes(&archive);
        return Ok(());
    }
    let file = std::fs::File::options().write(true).create_new(true).open(&target);
    let mut file = file.map_err(Error::file("open", target.as_str()))?;
    std::io::Write::write_all(&mut file, &archive).map_err(Error::file("write", target.as_str()))?;
    warn(format!("Written file {target:?}"));
    Ok(())
}

/// `context import`
pub(crate) fn import(cli: &Cli, matches: &Matches) -> Result<()> {
    let (name, source) = (matches.arg(0), matches.arg(1));
    let store = cli.contexts()?;
    store::check_name(name)?;
    if store.has(name) {
        return Err(Error::message(format!("context {name:?} already exists")));
    }
    let mut bytes = Vec::new();
    if source == "-" {
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)
            .map_err(Error::file("read", "standard input"))?;
    } else {
        bytes = std::fs::read(source).map_err(Error::file("open", source))?;
    }
    let (meta, files) = archive::unpack(&bytes)?;
    store.put(&Meta { name: name.to_owned(), ..meta })?;
    store.put_tls(name, &files)?;
    print_line(name);
    warn(format!("Successfully imported context {name:?}"));
    Ok(())
}
