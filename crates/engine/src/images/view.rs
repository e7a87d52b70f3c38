//! Images as the Engine API shows them. Pure.

use api::image::{
    AttestationData, Config, Descriptor, DriverData, HistoryItem, ImageData, ImageDataSize, InspectResponse,
    ManifestSize, ManifestSummary, Metadata, Platform, RootFs, Summary,
};
use base::Timestamp;
use oci::ContainerDefaults;
use store::Image;

/// Says which manifest an attestation is about (`BuildKit`, *attestation storage*).
const ATTESTATION_SUBJECT: &str = "vnd.docker.reference.digest";

/// Returns one image of `GET /images/json`.
pub fn summary(image: &Image) -> Summary {
    Summary {
        // Not counted, not computed.
        containers: -1,
        shared_size: -1,
        created: image.created.map_or(0, Timestamp::as_secs),
        id: image.id().to_string(),
        labels: Some(image.config.config.labels.clone()).filter(|labels| !labels.is_empty()),
        parent_id: String::new(),
        descriptor: Some(descriptor(&image.target)),
        manifests: Vec::new(),
        repo_digests: image.repo_digests.iter().map(oci::Reference::familiar).collect(),
        repo_tags: image.names.iter().map(oci::Reference::familiar).collect(),
        size: signed(image.size()),
    }
}

/// Returns the answer to `GET /images/{name}/json`.
pub fn inspect(image: &Image) -> InspectResponse {
    let config = &image.config;
    InspectResponse {
        id: image.id().to_string(),
        repo_tags: image.names.iter().map(oci::Reference::familiar).collect(),
        repo_digests: image.repo_digests.iter().map(oci::Reference::familiar).collect(),
        parent: String::new(),
        comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: String::new(),
        author: config.author.clone().unwrap_or_default(),
        config: Some(defaults(&config.config)),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: signed(image.size()),
        graph_driver: DriverData { data: None, name: "overlayfs".to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: image.tagged.to_string() },
        descriptor: Some(descriptor(&image.target)),
        manifests: Vec::new(),
    }
}

/// Returns the answer to `GET /images/{name}/history`; `sizes` are those of the layers, base first.
pub fn history(image: &Image, sizes: &[u64]) -> Vec<HistoryItem> {
    let mut sizes = sizes.iter().copied();
    let mut items: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().and_then(Timestamp::parse).map_or(0, Timestamp::as_secs),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: if step.empty_layer { 0 } else { signed(sizes.next().unwrap_or(0)) },
            tags: None,
        })
        .collect();
    items.reverse();
    if let Some(top) = items.first_mut() {
        top.id = image.id().to_string();
        top.tags = Some(image.names.iter().map(oci::Reference::familiar).collect::<Vec<_>>())
            .filter(|tags| !tags.is_empty());
    }
    items
}

/// Returns one manifest of an index: `found` is the image it describes, if its content is here.
pub(super) fn manifest(
    entry: &oci::Descriptor,
    found: Option<&Image>,
    available: bool,
    containers: Vec<String>,
) -> ManifestSummary {
    let subject = entry.annotations.get(ATTESTATION_SUBJECT).filter(|_| entry.is_attestation());
    let unpacked = found.and_then(|image| image.unpacked_size).unwrap_or(0);
    let content = found.map_or(if available { entry.size } else { 0 }, |image| image.content_size);
    let platform = found.map(|image| &image.platform).or(entry.platform.as_ref());
    let image_data = platform.filter(|_| subject.is_none()).map(|shown| ImageData {
        platform: platform_view(shown),
        containers,
        size: ImageDataSize { unpacked: signed(unpacked) },
    });
    let kind = match (&subject, &image_data) {
        (Some(_), _) => "attestation",
        (None, Some(_)) => "image",
        (None, None) => "unknown",
    };
    ManifestSummary {
        id: entry.digest.to_string(),
        descriptor: descriptor(entry),
        available,
        size: ManifestSize { content: signed(content), total: signed(content.saturating_add(unpacked)) },
        kind: kind.to_owned(),
        image_data,
        attestation_data: subject.map(|subject| AttestationData { subject: subject.clone() }),
    }
}

/// Returns a pointer to content.
pub fn descriptor(descriptor: &oci::Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: signed(descriptor.size),
        urls: descriptor.urls.clone(),
        annotations: descriptor.annotations.clone(),
        data: descriptor.data.clone().unwrap_or_default(),
        platform: descriptor.platform.as_ref().map(platform_view),
        artifact_type: descriptor.artifact_type.clone().unwrap_or_default(),
    }
}

/// Returns a platform.
pub fn platform_view(platform: &oci::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        os_features: platform.os_features.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
    }
}

fn defaults(config: &ContainerDefaults) -> Config {
    let empty = |names: &std::collections::BTreeSet<String>| {
        names.iter().map(|name| (name.clone(), api::Empty::default())).collect()
    };
    Config {
        user: config.user.clone(),
        exposed_ports: empty(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: empty(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|check| api::container::HealthConfig {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
            on_failure: String::new(),
        }),
        on_build: config.on_build.clone().unwrap_or_default(),
        shell: config.shell.clone(),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::{Digest, History, ImageConfig, Manifest, Reference, media_type};
    use std::sync::Arc;

    #[test]
    fn history_counts_layers_and_names_only_the_top() {
        let target = oci::Descriptor::of(media_type::OCI_MANIFEST, b"target");
        let step = |created_by: &str, empty_layer| History {
            created: Some("2024-01-01T00:00:00Z".into()),
            created_by: created_by.into(),
            empty_layer,
            ..History::default()
        };
        let history_of = vec![step("base", false), step("env", true), step("top", false)];
        let image = Image {
            manifest: target.clone(),
            document: Arc::new(Manifest::new(target.clone(), Vec::new())),
            platform: oci::Platform::host(),
            config: Arc::new(ImageConfig { history: history_of, ..ImageConfig::default() }),
            config_digest: Digest::sha256_of(b"config"),
            diff_ids: Vec::new(),
            names: vec![Reference::parse_normalized("a:1").unwrap()],
            repo_digests: Vec::new(),
            content_size: 0,
            unpacked_size: None,
            created: None,
            tagged: Timestamp::ZERO,
            target,
        };
        let items = history(&image, &[10, 20]);
        let shown: Vec<_> =
            items.iter().map(|item| (item.created_by.as_str(), item.size, item.id.len() > 20)).collect();
        assert_eq!(shown, [("top", 20, true), ("env", 0, false), ("base", 10, false)]);
        assert_eq!(items[0].tags, Some(vec!["a:1".to_owned()]));
        assert_eq!(items[2].created, 1_704_067_200);
    }
}
