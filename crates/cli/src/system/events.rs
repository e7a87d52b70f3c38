//! `events`

use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, text};
use crate::inspect::typed;
use crate::moments::query_time;
use crate::program::{Cli, print_line};
use crate::{filter, formats, localtime};
use api::events::Message;
use base::Timestamp;
use gotemplate::{Template, docker_functions};
use std::io::{BufRead, BufReader};

/// The flags of `events`.
pub(crate) const FLAGS: &[Flag] = &[
    filter::flag("filter", "Filter output based on conditions provided").short('f'),
    Flag { short: None, ..formats::INSPECT_FLAG },
    text("since", "Show all events created since timestamp"),
    text("until", "Stream events until this timestamp"),
];

/// `events`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let template =
        match matches.text("format") {
            "" => None,
            format => {
                let source = if format == "json" { "{{json .}}" } else { format };
                let parsed = Template::parse("", source, docker_functions());
                Some(parsed.map_err(|error| Error::Usage {
                    text: format!("Error parsing format: {error}"),
                    code: 64,
                })?)
            }
        };
    let response = cli
        .client()?
        .request("GET", "/events")
        .query_if_set("since", query_time(matches.text("since"))?)
        .query_if_set("until", query_time(matches.text("until"))?)
        .query_if_set("filters", filter::encode(matches.list("filter")))
        .send()?;
    for line in BufReader::new(response).lines() {
        let line = line.map_err(Error::file("read", "events"))?;
        if line.trim().is_empty() {
            continue;
        }
        match &template {
            None => {
                let event: Message =
                    api::decode(line.as_bytes()).map_err(|error| Error::message(error.to_string()))?;
                print_line(shown(&event));
            }
            Some(template) => {
                let document =
                    serde_json::from_str(&line).map_err(|error| Error::message(error.to_string()))?;
                let text = template.execute(&typed::EVENT.value(&document));
                print_line(text.map_err(|error| Error::message(error.to_string()))?);
            }
        }
    }
    Ok(())
}

fn shown(event: &Message) -> String {
    let time = match event.time_nano {
        0 => event.time.saturating_mul(1_000_000_000),
        nanos => nanos,
    };
    let mut text = localtime::rfc3339_nano_fixed(Timestamp::from_nanos(time));
    text.push_str(&format!(" {} {} {}", event.kind, event.action, event.actor.id));
    if !event.actor.attributes.is_empty() {
        let attributes = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}"));
        text.push_str(&format!(" ({})", attributes.collect::<Vec<_>>().join(", ")));
    }
    text
}
