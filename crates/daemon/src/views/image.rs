//! What older versions of the API say of images, over the engine's present answers.
//!
//! The answers of images differ most between versions, so what is particular to an old one is added as JSON.

use api::ApiVersion;
use api::image::{InspectResponse, Summary};
use serde::Serialize;
use serde_json::{Value, json};

/// What lists call an image without a name, and a name without a digest, before 1.43.
const NONE: [&str; 2] = ["<none>:<none>", "<none>@<none>"];

/// Returns an entry of `GET /images/json`.
pub fn summary(mut answer: Summary, version: ApiVersion) -> Value {
    if version < ApiVersion::new(1, 48) {
        answer.descriptor = None;
    }
    if version < ApiVersion::new(1, 43) && answer.repo_tags.is_empty() {
        let [tag, digest] = NONE;
        answer.repo_tags.push(tag.to_owned());
        if answer.repo_digests.is_empty() {
            answer.repo_digests.push(digest.to_owned());
        }
    }
    let size = answer.size;
    with_virtual_size(&answer, size, version)
}

/// Before 1.44 the size had two names.
fn with_virtual_size<T: Serialize>(answer: &T, size: i64, version: ApiVersion) -> Value {
    let mut document = serde_json::to_value(answer).unwrap_or_default();
    if version < ApiVersion::new(1, 44)
        && let Value::Object(fields) = &mut document
    {
        fields.insert("VirtualSize".to_owned(), json!(size));
    }
    document
}

/// Returns the answer of `GET /images/{name}/json`.
pub fn inspect(mut answer: InspectResponse, version: ApiVersion) -> Value {
    if version < ApiVersion::new(1, 48) {
        answer.descriptor = None;
    }
    let size = answer.size;
    let mut document = with_virtual_size(&answer, size, version);
    if version < ApiVersion::new(1, 50)
        && let Some(own) = document.get_mut("Config")
    {
        // Before 1.50 with every field that a container's configuration has.
        let mut all = serde_json::to_value(api::container::Config::default()).unwrap_or_default();
        if let (Value::Object(all), Value::Object(own)) = (&mut all, own.take()) {
            all.extend(own);
        }
        *own = all;
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_before_have_names_for_nothing_and_two_sizes() {
        let image = Summary { size: 7, descriptor: Some(Default::default()), ..Summary::default() };
        let old = summary(image.clone(), ApiVersion::new(1, 42));
        assert_eq!(old["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(old["RepoDigests"], json!(["<none>@<none>"]));
        assert_eq!((&old["VirtualSize"], old.get("Descriptor")), (&json!(7), None));
        let new = summary(image, ApiVersion::MAX);
        assert_eq!(new["RepoTags"], json!([]));
        assert_eq!((new.get("VirtualSize"), new.get("Descriptor").is_some()), (None, true));
    }

    #[test]
    fn inspections_of_before_have_every_field() {
        let config: api::image::Config = serde_json::from_str(r#"{"Env":["A=b"]}"#).unwrap();
        let image = InspectResponse { config: Some(config), ..InspectResponse::default() };
        let old = inspect(image.clone(), ApiVersion::new(1, 49));
        assert_eq!((&old["Config"]["Env"], &old["Config"]["Hostname"]), (&json!(["A=b"]), &json!("")));
        assert_eq!(inspect(image, ApiVersion::MAX)["Config"], json!({"Env": ["A=b"]}));
    }
}
