//! An image on inspection, in lists, and its history.
//!
//! Answers of images differ most between versions, so what is particular to an old one is added to the present
//! document as JSON.

use super::container::DRIVER;
use api::ApiVersion;
use api::image::{Descriptor, DriverData, HistoryItem, InspectResponse, Metadata, Platform, RootFs, Summary};
use base::Timestamp;
use serde_json::{Value, json};
use store::Image;

/// What lists call an image or digest without a name, before 1.43.
const NONE: [&str; 2] = ["<none>:<none>", "<none>@<none>"];

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn tags(image: &Image) -> Vec<String> {
    image.names.iter().map(oci::Reference::familiar).collect()
}

fn digests(image: &Image) -> Vec<String> {
    image.repo_digests.iter().map(oci::Reference::familiar).collect()
}

fn descriptor(image: &Image) -> Descriptor {
    let target = &image.target;
    Descriptor {
        media_type: target.media_type.clone(),
        digest: target.digest.to_string(),
        size: number(target.size),
        annotations: target.annotations.clone(),
        platform: target.platform.as_ref().map(|platform| Platform {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Answers one entry of `GET /images/json`. `containers` is how many are made of it, −1 if nobody counted.
pub fn summary(image: &Image, containers: i64, shared: i64, version: ApiVersion) -> Value {
    let mut answer = Summary {
        containers,
        created: image.created.map_or(0, Timestamp::as_secs),
        id: image.id().to_string(),
        labels: Some(image.config.config.labels.clone()).filter(|labels| !labels.is_empty()),
        parent_id: String::new(),
        descriptor: (version >= ApiVersion::new(1, 48)).then(|| descriptor(image)),
        manifests: Vec::new(),
        repo_digests: digests(image),
        repo_tags: tags(image),
        shared_size: shared,
        size: number(image.size()),
    };
    if version < ApiVersion::new(1, 43) && answer.repo_tags.is_empty() {
        let [tag, digest] = NONE;
        answer.repo_tags.push(tag.to_owned());
        if answer.repo_digests.is_empty() {
            answer.repo_digests.push(digest.to_owned());
        }
    }
    with_old_fields(&answer, version, json!({ "VirtualSize": answer.size }))
}

/// Turns an answer into JSON, with `old` fields if the client speaks a version before 1.44.
fn with_old_fields<T: serde::Serialize>(answer: &T, version: ApiVersion, old: Value) -> Value {
    let mut document = serde_json::to_value(answer).unwrap_or_default();
    if version < ApiVersion::new(1, 44)
        && let (Value::Object(fields), Value::Object(old)) = (&mut document, old)
    {
        fields.extend(old);
    }
    document
}

/// Answers `GET /images/{name}/json`.
pub fn inspect(image: &Image, version: ApiVersion) -> Value {
    let config = &image.config;
    let text = |name: &str| config.other.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let answer = InspectResponse {
        id: image.id().to_string(),
        repo_tags: tags(image),
        repo_digests: digests(image),
        parent: String::new(),
        comment: config.history.last().map_or_else(String::new, |step| step.comment.clone()),
        created: image.created.map(|time| time.to_string()).unwrap_or_default(),
        docker_version: text("docker_version"),
        author: config.author.clone().unwrap_or_default(),
        config: None,
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: number(image.size()),
        graph_driver: DriverData { data: None, name: DRIVER.to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: image.tagged.to_string() },
        descriptor: (version >= ApiVersion::new(1, 48)).then(|| descriptor(image)),
        manifests: Vec::new(),
    };
    let mut document = with_old_fields(&answer, version, json!({ "VirtualSize": answer.size }));
    if let Value::Object(fields) = &mut document {
        let defaults = serde_json::to_value(&config.config).unwrap_or_default();
        fields.insert("Config".to_owned(), defaults_of(defaults, version));
    }
    document
}

/// The defaults of containers; before 1.50 with every field a container's configuration has.
fn defaults_of(defaults: Value, version: ApiVersion) -> Value {
    if version >= ApiVersion::new(1, 50) {
        return defaults;
    }
    let mut all = serde_json::to_value(api::container::Config::default()).unwrap_or_default();
    if let (Value::Object(all), Value::Object(own)) = (&mut all, defaults) {
        all.extend(own);
    }
    all
}

/// Answers `GET /images/{name}/history`. `sizes` are those of the layers, base first.
pub fn history(image: &Image, sizes: &[u64]) -> Vec<HistoryItem> {
    let mut sizes = sizes.iter();
    let mut steps: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().and_then(Timestamp::parse).map_or(0, Timestamp::as_secs),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: if step.empty_layer { 0 } else { sizes.next().map_or(0, |size| number(*size)) },
            tags: None,
        })
        .collect();
    if let Some(last) = steps.last_mut() {
        last.id = image.id().to_string();
        last.tags = Some(tags(image)).filter(|tags| !tags.is_empty());
    }
    steps.reverse();
    steps
}
