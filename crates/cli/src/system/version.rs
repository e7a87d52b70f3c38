//! `version`

use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::inspect::typed;
use crate::program::{Cli, print, print_line};
use api::ApiVersion;
use api::system::Version;
use gotemplate::{Template, docker_functions};
use serde_json::{Value, json};

/// `version`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let format = match matches.text("format") {
        "json" => "{{json .}}",
        format => format,
    };
    let template =
        match format {
            "" => None,
            format => Some(Template::parse("version", format, docker_functions()).map_err(|error| {
                Error::Usage { text: format!("template parsing error: {error}"), code: 64 }
            })?),
        };
    let server = match cli.client() {
        Ok(client) => client.request("GET", "/version").bytes().map_err(Error::from),
        Err(error) => Err(error),
    };
    let version = cli.client().and_then(|client| Ok(client.version()?)).unwrap_or(ApiVersion::MAX);
    if let Some(template) = template {
        let answer: Option<Value> = server.as_ref().ok().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let document = json!({ "Client": client_version(version), "Server": answer });
        let text = template.execute(&typed::VERSION.value(&document));
        // A template that fails has an empty line for output.
        print_line(text.as_deref().unwrap_or_default());
        text.map_err(|error| Error::message(error.to_string()))?;
        return server.map(drop);
    }
    print(client_text(version));
    let server: Version = api::decode(&server?).map_err(|error| Error::message(error.to_string()))?;
    print(format!("\n{}", server_text(&server)));
    Ok(())
}

fn client_version(version: ApiVersion) -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": version.to_string(),
        "DefaultAPIVersion": ApiVersion::MAX.to_string(),
        "Os": "linux",
        "Arch": architecture(),
        "Context": "default",
    })
}

/// Returns the architecture by Go's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn client_text(version: ApiVersion) -> String {
    let shown = if version == ApiVersion::MAX {
        version.to_string()
    } else {
        format!("{version} (downgraded from {})", ApiVersion::MAX)
    };
    format!(
        "Client:\n Version:           {}\n API version:       {shown}\n OS/Arch:           linux/{}\n Context:           default\n",
        env!("CARGO_PKG_VERSION"),
        architecture()
    )
}

fn server_text(server: &Version) -> String {
    let engine = server.components.iter().find(|component| component.name == "Engine");
    let detail = |name: &str, flat: &str| {
        engine.and_then(|engine| engine.details.get(name)).cloned().unwrap_or_else(|| flat.to_owned())
    };
    let api = detail("ApiVersion", &server.api_version);
    let oldest = detail("MinAPIVersion", &server.min_api_version);
    let mut lines = vec![
        ("Version", engine.map_or(&server.version, |engine| &engine.version).clone()),
        ("API version", format!("{api} (minimum version {oldest})")),
        ("Go version", detail("GoVersion", &server.go_version)),
        ("Git commit", detail("GitCommit", &server.git_commit)),
        ("Built", built(&detail("BuildTime", &server.build_time))),
        ("OS/Arch", format!("{}/{}", detail("Os", &server.os), detail("Arch", &server.arch))),
        ("Experimental", detail("Experimental", "false")),
    ];
    // An engine that is not written in Go has no such version.
    lines.retain(|(name, value)| *name != "Go version" || !value.is_empty());
    let line = |name: &str, value: &str| format!("  {:<18}{value}\n", format!("{name}:"));
    let mut text = format!("Server: {}", server.platform.name).trim_end().to_owned();
    text.push_str("\n Engine:\n");
    lines.iter().for_each(|(name, value)| text.push_str(&line(name, value)));
    for component in server.components.iter().filter(|component| component.name != "Engine") {
        text.push_str(&format!(" {}:\n", component.name));
        text.push_str(&line("Version", &component.version));
        component.details.iter().for_each(|(name, value)| text.push_str(&line(name, value)));
    }
    text
}

/// Shows a build time the way C's `ctime` does; the Engine component has it so already.
fn built(time: &str) -> String {
    base::Timestamp::parse(time).map_or_else(|| time.to_owned(), crate::localtime::ansic)
}
