//! Events as clients see them, and which of them a client asked for.

use crate::http::Failure;
use api::Filters;
use api::events::{Actor, Message};
use base::event::{Event, Type};

/// The keys of the filters of `GET /events`.
const KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Returns the API's document.
pub fn message(event: &Event) -> Message {
    // The older form, which clients still read, exists for containers and images only.
    let legacy = matches!(event.object, Type::Container | Type::Image);
    let legacy = |text: &str| if legacy { text.to_owned() } else { String::new() };
    let from = match event.object {
        Type::Container => event.attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    Message {
        status: legacy(&event.action),
        id: legacy(&event.actor),
        from,
        kind: event.object.as_str().to_owned(),
        action: event.action.clone(),
        actor: Actor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.time.as_secs(),
        time_nano: event.time.as_nanos(),
    }
}

/// Refuses filters that do not exist.
///
/// # Errors
///
/// An invalid argument that names the key.
pub fn validate(filters: &Filters) -> Result<(), Failure> {
    filters.validate(KEYS).map_err(|error| Failure::invalid(error.to_string()))
}

/// Says whether an event is among those asked for (moby, *events.Filter*).
pub fn fits(event: &Event, filters: &Filters) -> bool {
    // Actions with a detail (`exec_start: sh`) are meant by their first word, too.
    let detailed = |action: &str| matches!(action, "health_status" | "exec_create" | "exec_start");
    let action = if filters.get("event").any(detailed) {
        filters.prefix("event", &event.action)
    } else {
        filters.exact("event", &event.action)
    };
    let name = event.attributes.get("name").map_or("", String::as_str);
    let named = |key: &str| filters.prefix(key, &event.actor) || filters.prefix(key, name);
    action
        && filters.exact("type", event.object.as_str())
        && filters.exact("scope", "local")
        && ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"]
            .into_iter()
            .all(named)
        && fits_image(event, filters)
        && filters.labels("label", &event.attributes)
}

fn fits_image(event: &Event, filters: &Filters) -> bool {
    let attribute = if event.object == Type::Image { "name" } else { "image" };
    let name = event.attributes.get(attribute).map_or("", String::as_str);
    [event.actor.as_str(), name]
        .into_iter()
        .any(|text| filters.exact("image", text) || filters.exact("image", without_tag(text)))
}

fn without_tag(text: &str) -> &str {
    match text.rsplit_once(':') {
        // A slash after the colon makes it a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;
    use std::collections::BTreeMap;

    fn event(object: Type, action: &str, actor: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let time = Timestamp::from_nanos(1_500_000_000);
        let attributes: BTreeMap<_, _> = attributes.collect();
        Event { object, action: action.to_owned(), actor: actor.to_owned(), attributes, time }
    }

    #[test]
    fn a_containers_event_has_both_forms() {
        let event = event(Type::Container, "start", "abc", &[("image", "nginx"), ("name", "web")]);
        assert_eq!(
            serde_json::to_string(&message(&event)).unwrap(),
            r#"{"status":"start","id":"abc","from":"nginx","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"nginx","name":"web"}},"scope":"local","time":1,"timeNano":1500000000}"#
        );
    }

    #[test]
    fn filters_are_dockerds() {
        let container = event(
            Type::Container,
            "exec_start: sh",
            "abcdef",
            &[("image", "nginx:1"), ("name", "web"), ("k", "v")],
        );
        for (filters, expect) in [
            ("", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"event":["exec_start"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["web","x"]}"#, true),
            (r#"{"container":["x"]}"#, false),
            (r#"{"image":["nginx"]}"#, true),
            (r#"{"image":["nginx:1"]}"#, true),
            (r#"{"image":["nginx:2"]}"#, false),
            (r#"{"label":["k=v"]}"#, true),
            (r#"{"label":["k=w"]}"#, false),
            (r#"{"volume":["data"]}"#, false),
        ] {
            assert_eq!(fits(&container, &Filters::parse(filters).unwrap()), expect, "{filters}");
        }
        assert!(validate(&Filters::parse(r#"{"x":["y"]}"#).unwrap()).is_err());
    }
}
