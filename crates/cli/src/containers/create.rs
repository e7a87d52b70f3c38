//! `create`, and the part of `run` up to the existing container.

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::images::pull;
use crate::options;
use crate::program::{Cli, print_line, warn};
use api::ApiVersion;
use api::container::{CreateRequest, CreateResponse};
use oci::Reference;
use std::fs;
use std::io::Write;

/// `create`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let hinted = |error: Error| Error::Hinted { command: "create", text: error.to_string(), code: 125 };
    check_pull_policy(matches).map_err(hinted)?;
    let mut request = options::container::request(matches, proxies(cli)?).map_err(hinted)?;
    let id = create(cli, matches, &mut request)?;
    print_line(id);
    Ok(())
}

/// Returns the proxies that containers of this engine get.
pub(crate) fn proxies(cli: &Cli) -> Result<Vec<(String, String)>> {
    let config = cli.config();
    if config.proxies.is_empty() {
        return Ok(Vec::new());
    }
    Ok(config.proxy_environment(&cli.client()?.host().to_string()))
}

/// Creates the container, pulling its image if that is wanted, and returns its ID.
pub(crate) fn create(cli: &Cli, matches: &Matches, request: &mut CreateRequest) -> Result<String> {
    let policy = matches.text("pull");
    adapt(request, cli.client()?.version()?);
    let cidfile = IdFile::open(&request.host_config.container_id_file)?;
    let image = &request.config.image;
    // An ID is no reference: then there is nothing that could be pulled.
    let reference = match Reference::parse_normalized(image) {
        Ok(reference) => Some(reference.with_default_tag()),
        Err(_) if is_id(image) => None,
        Err(error) => return Err(Error::message(error.to_string())),
    };
    let platform = platform(matches);
    let quiet = matches.switch("quiet");
    let pull_image = |reference: &Reference| pull::for_create(cli, reference, &platform, quiet);
    if let (Some(reference), "always") = (&reference, policy) {
        pull_image(reference)?;
    }
    let response = match (post(cli, matches.text("name"), &platform, request), &reference) {
        (Err(error), Some(reference)) if is_missing_image(&error) && matches!(policy, "missing" | "") => {
            if !quiet {
                warn(format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull_image(reference)?;
            post(cli, matches.text("name"), &platform, request)?
        }
        (result, _) => result?,
    };
    for warning in &response.warnings {
        warn(format!("WARNING: {warning}"));
    }
    cidfile.write(&response.id)?;
    Ok(response.id)
}

/// Leaves out what this version of the API has elsewhere, or has no longer.
fn adapt(request: &mut CreateRequest, version: ApiVersion) {
    if version >= ApiVersion::new(1, 42) {
        request.host_config.resources.kernel_memory = 0;
    }
    if version >= ApiVersion::new(1, 44) {
        request.config.mac_address.clear();
    }
}

/// `--pull`
pub(crate) fn check_pull_policy(matches: &Matches) -> Result<()> {
    match matches.text("pull") {
        "always" | "missing" | "never" | "" => Ok(()),
        policy => Err(Error::message(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// Returns the platform asked for; empty for the engine's own.
fn platform(matches: &Matches) -> String {
    let from_environment = || std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    matches.given("platform").map_or_else(from_environment, str::to_owned)
}

fn post(
    cli: &Cli,
    name: &str,
    platform: &str,
    request: &CreateRequest,
) -> Result<CreateResponse, client::Error> {
    let client = cli.client().map_err(|error| match error {
        Error::Client(error) => error,
        other => client::Error::Daemon { status: 0, message: other.to_string() },
    })?;
    let post = client.request("POST", "/containers/create").query_if_set("name", name);
    post.query_if_set("platform", platform).json(request).decode()
}

pub(super) fn is_missing_image(error: &client::Error) -> bool {
    error.is_not_found() && error.message().to_lowercase().contains("no such image")
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// The file of `--cidfile`, which must not exist before and is removed again if there is nothing to write.
struct IdFile {
    path: String,
    file: Option<fs::File>,
}

impl IdFile {
    fn open(path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self { path: String::new(), file: None });
        }
        if fs::metadata(path).is_ok() {
            return Err(Error::message(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = fs::File::create(path).map_err(|error| {
            Error::message(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::error::reason(&error)
            ))
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    fn write(mut self, id: &str) -> Result<()> {
        match self.file.take() {
            None => Ok(()),
            Some(mut file) => file.write_all(id.as_bytes()).map_err(Error::file("write", self.path.clone())),
        }
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Nothing was created: the empty file would only be in the way.
            drop(fs::remove_file(&self.path));
        }
    }
}
