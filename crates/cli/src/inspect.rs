//! `inspect` of every kind of object.
//!
//! Without a format the engine's own document is shown, indented. A template sees it first as Go's client would, with
//! Go's names and zero values ([`typed`]), and if that fails as the plain document, where a missing key is an error.

pub(crate) mod typed;

use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::formats;
use crate::images::list::platform_json;
use crate::program::{Cli, print, print_line, warn};
use client::path_segment;
use gotemplate::{Template, Value, docker_functions};
use typed::Type;

/// The flags of commands that only format.
pub(crate) const FORMAT_FLAGS: &[Flag] = &[formats::INSPECT_FLAG];
/// The flags of `container inspect`.
pub(crate) const CONTAINER_FLAGS: &[Flag] =
    &[formats::INSPECT_FLAG, switch("size", "Display total file sizes").short('s')];
/// The flags of `image inspect`.
pub(crate) const IMAGE_FLAGS: &[Flag] = &[
    formats::INSPECT_FLAG,
    text(
        "platform",
        "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];
/// The flags of `network inspect`.
pub(crate) const NETWORK_FLAGS: &[Flag] =
    &[formats::INSPECT_FLAG, switch("verbose", "Verbose output for diagnostics").short('v')];
/// The flags of `inspect`.
pub(crate) const ANY_FLAGS: &[Flag] = &[
    formats::INSPECT_FLAG,
    switch("size", "Display total file sizes if the type is container").short('s'),
    text("type", "Only inspect objects of the given type"),
];

/// A kind of object that can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    const ALL: [(&'static str, Self); 4] = [
        ("container", Self::Container),
        ("image", Self::Image),
        ("network", Self::Network),
        ("volume", Self::Volume),
    ];

    fn shape(self) -> &'static Type {
        match self {
            Self::Container => &typed::CONTAINER,
            Self::Image => &typed::IMAGE,
            Self::Network => &typed::NETWORK,
            Self::Volume => &typed::VOLUME,
        }
    }

    fn fetch(self, cli: &Cli, name: &str, matches: &Matches) -> Result<Vec<u8>> {
        let name = path_segment(name);
        let client = cli.client()?;
        let request = match self {
            Self::Container => {
                client.request("GET", format!("/containers/{name}/json")).flag("size", matches.switch("size"))
            }
            Self::Image => client
                .request("GET", format!("/images/{name}/json"))
                .query_if_set("platform", platform_json(matches.text("platform"))?),
            Self::Network => {
                client.request("GET", format!("/networks/{name}")).flag("verbose", matches.switch("verbose"))
            }
            Self::Volume => client.request("GET", format!("/volumes/{name}")),
        };
        Ok(request.bytes()?)
    }
}

/// `container inspect`
pub(crate) fn container(cli: &Cli, matches: &Matches) -> Result<()> {
    show(matches, |name| Ok((Kind::Container.fetch(cli, name, matches)?, Kind::Container)))
}

/// `image inspect`
pub(crate) fn image(cli: &Cli, matches: &Matches) -> Result<()> {
    // What is no platform is refused before anything is looked for.
    platform_json(matches.text("platform"))?;
    show(matches, |name| Ok((Kind::Image.fetch(cli, name, matches)?, Kind::Image)))
}

/// `network inspect`
pub(crate) fn network(cli: &Cli, matches: &Matches) -> Result<()> {
    show(matches, |name| Ok((Kind::Network.fetch(cli, name, matches)?, Kind::Network)))
}

/// `volume inspect`
pub(crate) fn volume(cli: &Cli, matches: &Matches) -> Result<()> {
    show(matches, |name| Ok((Kind::Volume.fetch(cli, name, matches)?, Kind::Volume)))
}

/// `inspect`
pub(crate) fn any(cli: &Cli, matches: &Matches) -> Result<()> {
    let wanted = matches.text("type");
    let kinds: Vec<Kind> = Kind::ALL
        .iter()
        .filter(|(name, _)| wanted.is_empty() || *name == wanted)
        .map(|(_, kind)| *kind)
        .collect();
    if kinds.is_empty() || (matches.changed("type") && wanted.is_empty()) {
        return Err(Error::message(match wanted {
            "" => "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"".to_owned(),
            wanted => format!("unknown type: {wanted:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""),
        }));
    }
    if let [kind] = *kinds.as_slice() {
        return show(matches, |name| Ok((kind.fetch(cli, name, matches)?, kind)));
    }
    show(matches, |name| {
        for kind in &kinds {
            match kind.fetch(cli, name, matches) {
                Err(Error::Client(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(document) => return Ok((document, *kind)),
            }
        }
        Err(Error::message(format!("Error: No such object: {name}")))
    })
}

/// Fetches each name's document and shows what was found before telling what was not.
fn show(matches: &Matches, fetch: impl Fn(&str) -> Result<(Vec<u8>, Kind)>) -> Result<()> {
    present(matches, &matches.args, |name| fetch(name).map(|(document, kind)| (document, Some(kind.shape()))))
}

/// Shows documents that are not the engine's; templates see them as they are.
pub(crate) fn documents(
    matches: &Matches,
    names: &[String],
    fetch: impl Fn(&str) -> Result<serde_json::Value>,
) -> Result<()> {
    // As Go's encoder writes.
    let escaped =
        |value: serde_json::Value| value.to_string().replace('<', "\\u003c").replace('>', "\\u003e");
    present(matches, names, |name| fetch(name).map(|value| (escaped(value).into_bytes(), None)))
}

/// Fetches each name's document, and the type that templates see it as.
fn present(
    matches: &Matches,
    names: &[String],
    fetch: impl Fn(&str) -> Result<(Vec<u8>, Option<&'static Type>)>,
) -> Result<()> {
    let format = matches.text("format");
    let template =
        match format {
            "" | "json" => None,
            format => Some(Template::parse("", format, docker_functions()).map_err(|error| {
                Error::Usage { text: format!("template parsing error: {error}"), code: 64 }
            })?),
        };
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match fetch(name) {
            Ok(found) => documents.push(found),
            Err(error) => errors.push(error.to_string()),
        }
    }
    match &template {
        None => {
            let list = join(documents.iter().map(|(document, _)| document.as_slice()));
            print_line(if format == "json" { compact(&list) } else { indent(&list) });
        }
        Some(template) => {
            let mut text = String::new();
            for (document, shape) in &documents {
                match execute(template, document, *shape) {
                    Ok(shown) => text.push_str(&(shown + "\n")),
                    Err(error) => {
                        errors.push(error.to_string());
                        break;
                    }
                }
            }
            print(if text.is_empty() { "\n" } else { &text });
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    warn(errors.join("\n"));
    Err(Error::Exit(1))
}

fn parsing(error: &gotemplate::Error) -> Error {
    Error::message(format!("template parsing error: {error}"))
}

fn execute(template: &Template, document: &[u8], shape: Option<&Type>) -> Result<String> {
    let json: serde_json::Value = serde_json::from_slice(document)
        .map_err(|error| Error::message(format!("unable to read inspect data: {error}")))?;
    if let Some(Ok(text)) = shape.map(|shape| template.execute(&shape.value(&json))) {
        return Ok(text);
    }
    template.execute_strict(&Value::from(&json)).map_err(|error| parsing(&error))
}

/// Makes a list of documents.
fn join<'a>(documents: impl Iterator<Item = &'a [u8]>) -> String {
    let documents: Vec<_> =
        documents.map(|document| String::from_utf8_lossy(document.trim_ascii())).collect();
    format!("[{}]", documents.join(","))
}

/// Takes white space between the parts of a document away.
fn compact(json: &str) -> String {
    respace(json, None)
}

/// Indents a document by four spaces, as Go's `json.Indent`: what is within it stays as it is.
pub(crate) fn indent(json: &str) -> String {
    respace(json, Some("    "))
}

/// Writes a document again with other white space between its parts: `step` indents, `None` leaves it all out.
pub(crate) fn respace(json: &str, step: Option<&str>) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut opened = false;
    let line = |text: &mut String, depth: usize| {
        if let Some(step) = step {
            text.push('\n');
            text.push_str(&step.repeat(depth));
        }
    };
    for letter in json.chars() {
        if quoted {
            text.push(letter);
            quoted = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
            continue;
        }
        if letter.is_ascii_whitespace() {
            continue;
        }
        if opened && !matches!(letter, ']' | '}') {
            line(&mut text, depth);
        }
        match letter {
            '{' | '[' => {
                depth += 1;
                text.push(letter);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !opened {
                    line(&mut text, depth);
                }
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                line(&mut text, depth);
            }
            ':' => text.push_str(if step.is_some() { ": " } else { ":" }),
            '"' => {
                quoted = true;
                text.push(letter);
            }
            letter => text.push(letter),
        }
        opened = matches!(letter, '{' | '[');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_indented_and_nothing_else() {
        let json = r#"[{"a":[],"b":{ },"c":[1,"x,\"{"],"d":"<"}]"#;
        assert_eq!(
            indent(json),
            "[\n    {\n        \"a\": [],\n        \"b\": {},\n        \"c\": [\n            1,\n            \"x,\\\"{\"\n        ],\n        \"d\": \"<\"\n    }\n]"
        );
        assert_eq!(compact(" [ { \"a\" : 1 } ] "), "[{\"a\":1}]");
        assert_eq!(indent("[]"), "[]");
    }

    #[test]
    fn templates_see_gos_names_and_zero_values() {
        let document = br#"{"Id":"1","State":{"Status":"running","Pid":5},"HostConfig":{"NanoCpus":5,"Binds":null},"Config":{"Labels":null,"Cmd":["a"]},"Name":"/n"}"#;
        let check = |source: &str, expect: &str| {
            let template = Template::parse("", source, docker_functions()).unwrap();
            let shown = execute(&template, document, Some(&typed::CONTAINER))
                .unwrap_or_else(|error| error.to_string());
            assert_eq!(shown, expect, "{source}");
        };
        check("{{.ID}}", "1");
        check("{{.Id}}", "1");
        check("{{json .State}}", r#"{"Status":"running","Pid":5}"#);
        check("{{.State.Health}}", "<nil>");
        check(
            "{{.HostConfig.NanoCPUs}} {{.HostConfig.Binds}} {{.Config.Labels}} {{.Config.Cmd}}",
            "5 [] map[] [a]",
        );
        check("{{if .Config.Healthcheck}}x{{end}}{{.Config.StopSignal}}", "");
        check(
            "{{.Nope}}",
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        );
    }
}
