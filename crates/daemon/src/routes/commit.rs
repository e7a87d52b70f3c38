//! Making an image of a container.

use super::{Services, blocking, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use api::IdResponse;
use api::container::Config;
use base::event::Type;
use engine::Engine;
use engine::images::Commit;
use http::{Method, StatusCode};
use oci::{ContainerDefaults, Reference};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![route(Method::POST, "/commit", |s, call| Box::pin(commit(Arc::clone(&s.engine), call)))]
}

async fn commit(engine: Arc<Engine>, mut call: Call) -> Answer {
    let asked: Option<Option<Value>> = call.json_or_nothing().await?;
    let id = blocking(move || make(&engine, &call, asked.flatten())).await?;
    Ok(body::json(StatusCode::CREATED, &IdResponse { id }))
}

fn make(engine: &Engine, call: &Call, asked: Option<Value>) -> Result<String, Failure> {
    let query = &call.query;
    let record = engine.containers.get(query.get("container"))?;
    let name = match (query.get("repo"), query.get("tag")) {
        ("", _) => None,
        (name, "") => Some(name.to_owned()),
        (name, tag) => Some(format!("{name}:{tag}")),
    };
    let reference = name.map(|name| Reference::parse_normalized(&name)).transpose();
    let reference = reference.map_err(|error| Failure::invalid(error.to_string()))?;
    let words = [&record.config.entrypoint, &record.config.cmd];
    let created_by: Vec<&str> = words.into_iter().flatten().flatten().map(String::as_str).collect();
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    let commit = Commit {
        parent: engine.store.images().get(&record.image.id)?,
        upper: engine.store.snapshots().of(&record.id).upper,
        config: defaults(&record.config, asked, &changes)?,
        changes,
        reference: reference.clone(),
        author: query.get("author").to_owned(),
        comment: query.get("comment").to_owned(),
        created_by: created_by.join(" "),
    };
    let make = || engine.images.commit(&commit);
    let made = if query.flag_or("pause", true) {
        engine.containers.held(&record.id.to_string(), make)
    } else {
        make()
    };
    let id = made?.to_string();
    let mut attributes: BTreeMap<String, String> = record.config.labels.clone().unwrap_or_default();
    attributes.extend([
        ("image".to_owned(), record.config.image.clone()),
        ("name".to_owned(), record.name.clone()),
        ("comment".to_owned(), commit.comment),
        ("imageID".to_owned(), id.clone()),
        ("imageRef".to_owned(), reference.map(|reference| reference.to_string()).unwrap_or_default()),
    ]);
    engine.events.now(Type::Container, "commit", &record.id.to_string(), attributes);
    Ok(id)
}

/// The defaults of the new image: the container's own, and what the client sent or changes on top (moby, `merge` of
/// daemon/commit.go).
fn defaults(config: &Config, asked: Option<Value>, changes: &[String]) -> Result<ContainerDefaults, Failure> {
    let invalid = |error: serde_json::Error| Failure::invalid(format!("invalid JSON: {error}"));
    let mut fields = serde_json::to_value(config).map_err(invalid)?;
    if let (Value::Object(fields), Some(Value::Object(asked))) = (&mut fields, asked) {
        for (key, value) in asked.into_iter().filter(|(_, value)| !is_empty(value)) {
            let merged = match (fields.remove(&key), value) {
                (Some(Value::Object(mut old)), Value::Object(new)) if key != "Healthcheck" => {
                    old.extend(new);
                    Value::Object(old)
                }
                (Some(Value::Array(old)), Value::Array(new)) if key == "Env" => Value::Array(env(new, old)),
                (_, value) => value,
            };
            fields.insert(key, merged);
        }
    }
    let mut defaults: ContainerDefaults = serde_json::from_value(fields).map_err(invalid)?;
    let sets = |instruction: &str| {
        let first = |change: &String| change.split_whitespace().next().map(str::to_ascii_uppercase);
        changes.iter().any(|change| first(change).as_deref() == Some(instruction))
    };
    // The arguments of one program are none of another.
    if sets("ENTRYPOINT") && !sets("CMD") {
        defaults.cmd = None;
    }
    // Host name, streams and so on are the container's alone.
    defaults.other.clear();
    Ok(defaults)
}

/// The client's variables, and those of the container that have other names.
fn env(mut new: Vec<Value>, old: Vec<Value>) -> Vec<Value> {
    let name = |value: &Value| value.as_str().and_then(|entry| entry.split('=').next()).map(str::to_owned);
    let names: Vec<_> = new.iter().map(name).collect();
    new.extend(old.into_iter().filter(|value| !names.contains(&name(value))));
    new
}

/// Says whether a value is what Go leaves unset.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_client_sends_wins_and_the_rest_stays() {
        let config: Config = serde_json::from_value(json!({
            "Hostname": "h", "Env": ["A=b", "C=d"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}
        }))
        .unwrap();
        let check = |asked: Value, changes: &[&str], expect: Value| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            let defaults = defaults(&config, Some(asked), &changes).unwrap();
            assert_eq!(serde_json::to_value(&defaults).unwrap(), expect);
        };
        check(
            json!({"Cmd": ["ls"], "Env": null, "User": ""}),
            &[],
            json!({"ExposedPorts": {"80/tcp": {}}, "Env": ["A=b", "C=d"], "Cmd": ["ls"], "Labels": {"a": "b"}}),
        );
        check(
            json!({"Env": ["A=x"], "Labels": {"c": "d"}}),
            &["entrypoint [\"x\"]"],
            json!({"ExposedPorts": {"80/tcp": {}}, "Env": ["A=x", "C=d"], "Labels": {"a": "b", "c": "d"}}),
        );
    }
}
