//! Pulls from a registry of the tests' own into a real store.

use super::*;
use crate::images::progress::BlobState;
use base::paths::DataPaths;
use distribution::{Credentials, Settings};
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use registry::{Registry, Reply};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[path = "../../../distribution/tests/it/registry.rs"]
#[expect(dead_code, reason = "the client's own tests use the rest")]
pub(super) mod registry;

/// A data root that goes when it is dropped.
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("wharf-images-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn store(&self) -> Store {
        Store::open(&DataPaths::new(&self.0)).unwrap()
    }

    pub(super) fn images(&self) -> Images {
        Images::new(self.store(), Client::new(settings()), Events::default(), Limits::default())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn settings() -> Settings {
    Settings {
        first_delay: Duration::from_millis(1),
        stall: Duration::from_secs(5),
        certs_dirs: Vec::new(),
        attempts: 3,
        ..Settings::default()
    }
}

/// A ustar archive of regular files, all of root.
pub(super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000644\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        all.write_all(&header).unwrap();
        all.write_all(content).unwrap();
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all.resize(all.len() + 1024, 0);
    all
}

/// Bytes that differ by `seed`.
pub(super) fn noise(seed: u32, length: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(7).to_le_bytes())
        .take(length)
        .collect()
}

/// Puts an image of these layers under `repository:tag`; returns its manifest's descriptor and the layers'.
pub(super) fn publish(
    registry: &Registry,
    name: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> (Descriptor, Vec<Descriptor>) {
    publish_for(registry, name, tag, layers, &Platform::host())
}

fn publish_for(
    registry: &Registry,
    name: &str,
    tag: &str,
    layers: &[Vec<u8>],
    platform: &Platform,
) -> (Descriptor, Vec<Descriptor>) {
    let mut config = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = layers.iter().map(|layer| Digest::sha256_of(layer)).collect();
    config.config.labels.insert("test".into(), name.into());
    let config = serde_json::to_vec(&config).unwrap();
    registry.put_blob(&config);
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| Descriptor::new(media_type::OCI_LAYER, registry.put_blob(layer), layer.len() as u64))
        .collect();
    let mut manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers.clone());
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest(name, tag, media_type::OCI_MANIFEST, &bytes);
    (Descriptor::of(media_type::OCI_MANIFEST, &bytes), layers)
}

/// Three layers, the second of some size.
fn three() -> Vec<Vec<u8>> {
    vec![
        archive(&[("one", b"1"), ("dir/a", b"a")]),
        archive(&[("two", &noise(2, 3 << 20))]),
        archive(&[("three", &noise(3, 10_000))]),
    ]
}

pub(super) fn request(registry: &Registry, reference: &str) -> Pull {
    Pull {
        reference: Reference::parse_normalized(&format!("{}/{reference}", registry.host())).unwrap(),
        platform: None,
        credentials: Credentials::default(),
        verify: true,
    }
}

/// Collects what is told.
pub(super) fn recorder() -> (Progress, Arc<Mutex<Vec<Step>>>) {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    (Arc::new(move |step| told.lock().unwrap().push(step)), steps)
}

fn silent() -> Progress {
    Arc::new(|_| ())
}

#[tokio::test]
async fn an_image_comes_whole_and_is_told_in_dockers_words() {
    let (root, registry) = (Root::new(), Registry::start());
    let (manifest, layers) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    let (progress, steps) = recorder();
    let (_, mut events) = images.inner.events.subscribe();
    let id = images.pull(&request(&registry, "app:v1"), progress).await.unwrap();
    assert_eq!(id, manifest.digest);
    let name = format!("{}/app:v1", registry.host());
    let image = images.store().images().find(&name).unwrap();
    assert_eq!((image.id(), image.diff_ids.len()), (&manifest.digest, 3));
    let lower = images.store().layers().lower_dirs(&image.diff_ids).unwrap();
    assert_eq!(std::fs::read(lower[2].join("dir/a")).unwrap(), b"a");
    assert!(std::fs::read(lower[1].join("two")).unwrap() == noise(2, 3 << 20));
    assert!(layers.iter().all(|layer| images.store().blobs().size(&layer.digest) == Some(layer.size)));

    // The sizes of the layers are only for clients that ask for them.
    let plain = |step: &&Step| !matches!(step, Step::Layers(_));
    let lines: Vec<_> = steps.lock().unwrap().iter().filter(plain).map(Step::message).collect();
    let statuses: Vec<_> = lines.iter().map(|line| line.status.as_str()).collect();
    assert_eq!(
        statuses[..4],
        ["Pulling from app", "Pulling fs layer", "Pulling fs layer", "Pulling fs layer"]
    );
    assert_eq!(lines[0].id, "v1");
    assert_eq!(
        statuses[statuses.len() - 2..],
        [format!("Digest: {id}"), format!("Status: Downloaded newer image for {name}")]
    );
    for layer in &layers {
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line.id == layer.digest.short())
            .map(|line| line.status.as_str())
            .collect();
        let expected = ["Verifying Checksum", "Download complete", "Extracting", "Pull complete"];
        assert_eq!(own[own.len() - 4..], expected, "{own:?}");
    }
    let event = events.try_recv().unwrap();
    assert_eq!((event.action.as_str(), event.actor.as_str()), ("pull", name.as_str()));
    assert_eq!(event.attributes["name"], format!("{}/app", registry.host()));
    assert_eq!(event.attributes["test"], "app");
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let before = registry.log().len();
    let (progress, steps) = recorder();
    images.pull(&request(&registry, "app:v1"), progress).await.unwrap();
    assert_eq!(registry.log().len(), before + 1, "one question and no more");
    let last = steps.lock().unwrap().last().unwrap().message().status;
    assert_eq!(last, format!("Status: Image is up to date for {}/app:v1", registry.host()));
    // Another image on the same base.
    let mut more = three();
    more.push(archive(&[("four", b"4")]));
    publish(&registry, "app", "v2", &more);
    let (progress, steps) = recorder();
    images.pull(&request(&registry, "app:v2"), progress).await.unwrap();
    let exists = Step::Blob { digest: layers[1].digest.clone(), state: BlobState::Exists };
    assert!(steps.lock().unwrap().contains(&exists));
    assert_eq!(registry.count("GET", &format!("/blobs/{}", layers[1].digest)), 1);
}

#[tokio::test]
async fn an_index_gives_the_platform_and_keeps_its_own_digest() {
    let (root, registry) = (Root::new(), Registry::start());
    let other = Platform::new("linux", "s390x", None);
    let (mut here, _) = publish(&registry, "app", "", &three()[..1]);
    let (mut there, _) = publish_for(&registry, "app", "", &three()[2..], &other);
    here.platform = Some(Platform::host());
    there.platform = Some(other.clone());
    let mut index = Index::new(vec![there, here]);
    index.media_type = Some(media_type::OCI_INDEX.to_owned());
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = registry.put_manifest("app", "v1", media_type::OCI_INDEX, &bytes);
    let images = root.images();
    assert_eq!(images.pull(&request(&registry, "app:v1"), silent()).await.unwrap(), digest);
    let image = images.store().images().get(&digest).unwrap();
    assert_eq!((image.platform.architecture, image.diff_ids.len()), (Platform::host().architecture, 1));
    // The other platform of the same index, later.
    let pull = Pull { platform: Some(other.clone()), ..request(&registry, "app:v1") };
    assert_eq!(images.pull(&pull, silent()).await.unwrap(), digest);
    assert_eq!(images.store().images().platforms(&digest).unwrap().len(), 2);
    let arm = Platform::new("linux", "riscv64", None);
    let error = images
        .pull(&Pull { platform: Some(arm), ..request(&registry, "app:v1") }, silent())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/riscv64 in the manifest list entries");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn documents_that_lead_nowhere_are_refused() {
    let (root, registry) = (Root::new(), Registry::start());
    let images = root.images();
    let put = |tag: &str, entries: Vec<Descriptor>| {
        let mut index = Index::new(entries);
        // Otherwise equal ones differ.
        index.annotations.insert("tag".into(), tag.into());
        let bytes = serde_json::to_vec(&index).unwrap();
        registry.put_manifest("app", tag, media_type::OCI_INDEX, &bytes);
        Descriptor::of(media_type::OCI_INDEX, &bytes)
    };
    // Deeper than anybody nests, and wider than anybody searches.
    let (image, _) = publish(&registry, "app", "", &three()[..1]);
    let mut deep = image;
    for level in 0..8 {
        deep = put(&format!("deep-{level}"), vec![deep]);
    }
    let many = (0..200).map(|number| put(&format!("empty-{number}"), Vec::new())).collect();
    put("wide", many);
    for tag in ["deep-7", "wide"] {
        let before = registry.log().len();
        let error = images.pull(&request(&registry, &format!("app:{tag}")), silent()).await.unwrap_err();
        assert!(error.to_string().ends_with("is nested too deeply"), "{error}");
        assert!(registry.log().len() - before < 80, "{}", registry.log().len());
    }
    // What is no image.
    let config = registry.put_blob(b"{}");
    let config = |kind: &str| Descriptor::new(kind, config.clone(), 2);
    let odd = Descriptor::new("application/x-odd", registry.put_blob(b"odd"), 3);
    for (tag, manifest, why) in [
        (
            "chart",
            Manifest::new(config("application/vnd.cncf.helm.config.v1+json"), Vec::new()),
            "(unknown) when fetching",
        ),
        (
            "odd",
            Manifest::new(config(media_type::OCI_CONFIG), vec![odd]),
            "unsupported media type \"application/x-odd\"",
        ),
    ] {
        let bytes = serde_json::to_vec(&manifest).unwrap();
        registry.put_manifest("app", tag, media_type::OCI_MANIFEST, &bytes);
        let error = images.pull(&request(&registry, &format!("app:{tag}")), silent()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(images.store().images().ids(), []);
}

#[tokio::test]
async fn the_wrong_platform_is_refused_only_if_one_was_asked_for() {
    let (root, registry) = (Root::new(), Registry::start());
    let other = Platform::new("linux", "s390x", None);
    publish_for(&registry, "app", "v1", &three()[..1], &other);
    let images = root.images();
    let pull = Pull { platform: Some(Platform::host()), ..request(&registry, "app:v1") };
    let error = images.pull(&pull, silent()).await.unwrap_err();
    assert!(error.to_string().contains("does not match the specified platform"), "{error}");
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
}

#[tokio::test]
async fn wrong_bytes_are_never_visible() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    let bad = layers[1].clone();
    let mut bytes = three()[1].clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let path = format!("/v2/app/blobs/{}", bad.digest);
    registry.fault(move |request| (request.path() == path).then(|| Reply::new(200, bytes.clone())));
    let images = root.images();
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("wrong diff ID") || text.contains("verification failed"), "{text}");
    assert!(images.store().images().ids().is_empty());
    assert!(!images.store().blobs().contains(&bad.digest));
    assert!(images.store().layers().get(&Digest::sha256_of(&three()[1])).unwrap().is_none());
    // Nothing of it spoils the next pull.
    registry.fault(|_| None);
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_lies_about_its_layers_is_found_out() {
    let (root, registry) = (Root::new(), Registry::start());
    let layer = three().remove(0);
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let publish = |config: &ImageConfig| {
        let bytes = serde_json::to_vec(config).unwrap();
        registry.put_blob(&bytes);
        let layer = Descriptor::new(media_type::OCI_LAYER, registry.put_blob(&layer), layer.len() as u64);
        let manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &bytes), vec![layer]);
        registry.put_manifest("app", "v1", media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    };
    publish(&config);
    let images = root.images();
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    assert_eq!(error.to_string(), "manifest has 1 layers, but its configuration has 0");
    config.rootfs.diff_ids = vec![Digest::sha256_of(b"other")];
    publish(&config);
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to register layer: wrong diff ID"), "{error}");
    assert!(images.store().layers().list().unwrap().is_empty());
}

#[tokio::test]
async fn a_truncated_layer_fails_and_a_resumed_one_succeeds() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    let path = format!("/v2/app/blobs/{}", layers[1].digest);
    let bytes = three()[1].clone();
    let broken = path.clone();
    // Every try gets half a MiB from the beginning, whatever it asks for.
    registry.fault(move |request| {
        if request.path() != broken {
            return None;
        }
        if request.header("range").is_empty() {
            return Some(Reply::new(200, bytes.clone()).cut(512 * 1024));
        }
        Some(Reply::error(500, "UNKNOWN", "out of order"))
    });
    let images = root.images();
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    assert_eq!(error.to_string(), "unknown: out of order");
    assert!(images.store().images().ids().is_empty());
    drop(images);
    // The next process goes on where this one stopped.
    registry.fault(|_| None);
    let images = root.images();
    // Unlike those of a process that has ended, the first one's threads may still be at work.
    let pull = request(&registry, "app:v1");
    while let Err(error) = images.pull(&pull, silent()).await {
        assert!(matches!(error, Error::Store(store::Error::Busy(_))), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let resumed = registry.log().into_iter().rfind(|request| request.path() == path).unwrap();
    let start: u64 =
        resumed.header("range").trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap();
    assert!(start > 0 && start <= 512 * 1024, "{start}");
}

#[tokio::test]
async fn a_damaged_beginning_starts_again() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    let mut ingest = images.store().blobs().ingest(&layers[1].digest.to_string()).unwrap();
    ingest.write_all(&noise(99, 100_000)).unwrap();
    drop(ingest);
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    assert_eq!(registry.count("GET", &format!("/blobs/{}", layers[1].digest)), 2);
}

#[tokio::test]
async fn refusals_are_dockers() {
    let (root, registry) = (Root::new(), Registry::start());
    let images = root.images();
    let host = registry.host();
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/app:v1 not found: manifest unknown: manifest unknown")
    );
    registry.login(registry::Login::Bearer { user: "ann".into(), password: "pw".into(), anonymous: false });
    let error = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("pull access denied for {host}/app, repository does not exist"))
    );
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn concurrent_pulls_fetch_once() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    publish(&registry, "app", "v2", &three()[..2]);
    let images = root.images();
    let pulls = ["app:v1", "app:v2", "app:v1", "app:v2"].map(|name| {
        let (images, pull) = (images.clone(), request(&registry, name));
        tokio::spawn(async move { images.pull(&pull, silent()).await })
    });
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    for layer in layers {
        assert_eq!(registry.count("GET", &format!("/blobs/{}", layer.digest)), 1);
    }
}

#[tokio::test]
async fn a_cancelled_pull_leaves_nothing_visible_and_lets_the_next_go_on() {
    let (root, registry) = (Root::new(), Registry::start());
    let (_, layers) = publish(&registry, "app", "v1", &three());
    let bytes = three()[1].clone();
    let path = format!("/v2/app/blobs/{}", layers[1].digest);
    let slow = path.clone();
    registry.fault(move |request| {
        let first = request.path() == slow && request.header("range").is_empty();
        first.then(|| Reply { pace: Duration::from_millis(50), ..Reply::new(200, bytes.clone()) })
    });
    let images = root.images();
    let pull = request(&registry, "app:v1");
    let outcome = tokio::time::timeout(Duration::from_millis(500), images.pull(&pull, silent())).await;
    assert!(outcome.is_err());
    assert!(images.store().images().ids().is_empty());
    assert!(!images.store().blobs().contains(&layers[1].digest));
    images.pull(&pull, silent()).await.unwrap();
    assert!(
        registry.log().iter().any(|request| request.path() == path && !request.header("range").is_empty())
    );
}

fn names(list: &[&str]) -> Vec<Reference> {
    list.iter().map(|name| Reference::parse_normalized(name).unwrap()).collect()
}

#[tokio::test]
async fn names_come_and_go_and_content_with_the_last() {
    let (root, registry) = (Root::new(), Registry::start());
    let (manifest, layers) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let (_, mut events) = images.events().subscribe();
    let host = registry.host();
    let full = format!("{host}/app:v1");
    images.tag(&full, &names(&["mine"])[0]).unwrap();
    assert_eq!(images.find("mine", None).unwrap().names, names(&[&full, "mine:latest"]));
    let image = images.find(manifest.digest.short(), None).unwrap();
    assert_eq!(images.history("mine", None).unwrap().len(), 0);
    assert_eq!(images.inspect("mine", None).unwrap().repo_tags, [full.as_str(), "mine:latest"]);

    let container = base::ContainerId::from_bytes([1; 32]);
    let user =
        |running| User { container, image: image.id().clone(), running, layers: image.diff_ids.clone() };
    let show = |items: Vec<api::image::DeleteItem>| -> Vec<String> {
        items.into_iter().map(|item| item.untagged + &item.deleted).collect()
    };
    let done = images.remove("mine", false, &[user(true)]).unwrap();
    assert_eq!(show(done), ["mine:latest", &format!("mine@{}", manifest.digest)]);
    let error = images.remove(&full, false, &[user(true)]).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("conflict: unable to remove repository reference \"{full}\""))
    );
    assert_eq!(error.kind(), Kind::Conflict);
    // Forced away under a stopped container: what the container stands on stays.
    let done = images.remove(&full, true, &[user(false)]).unwrap();
    assert_eq!(
        show(done),
        [full.clone(), format!("{host}/app@{}", manifest.digest), manifest.digest.to_string()]
    );
    assert!(images.store().layers().get(&image.diff_ids[0]).unwrap().is_some());
    assert!(!images.store().blobs().contains(&layers[0].digest));
    assert_eq!(images.find(&full, None).unwrap_err().to_string(), format!("No such image: {full}"));
    let pruned = images.prune(&api::filters::Filters::default(), None, &[]).unwrap();
    assert!(pruned.space_reclaimed > 3 << 20);
    assert!(images.store().layers().list().unwrap().is_empty());
    let told: Vec<_> =
        std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.action.clone()).collect();
    assert_eq!(told, ["tag", "untag", "untag", "delete", "prune"]);
}

#[tokio::test]
async fn prunes_take_what_nobody_uses() {
    let (root, registry) = (Root::new(), Registry::start());
    publish(&registry, "app", "v1", &three()[..1]);
    publish(&registry, "app", "v2", &three()[..2]);
    let images = root.images();
    let one = images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let two = images.pull(&request(&registry, "app:v2"), silent()).await.unwrap();
    let filters = |text: &str| api::filters::Filters::parse(text).unwrap();
    assert_eq!(images.prune(&filters(""), None, &[]).unwrap().images_deleted, None);
    // The tag moves: the first image dangles.
    publish(&registry, "app", "v1", &three()[2..]);
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let listed = images.list(&filters(r#"{"dangling":["true"]}"#), None).unwrap();
    assert_eq!(listed.iter().map(|image| image.id().clone()).collect::<Vec<_>>(), std::slice::from_ref(&one));
    let pruned = images.prune(&filters(""), None, &[]).unwrap().images_deleted.unwrap();
    assert_eq!(pruned.iter().map(|item| item.deleted.clone()).collect::<Vec<_>>(), [one.to_string()]);
    let container = base::ContainerId::from_bytes([1; 32]);
    let user = User { container, image: two.clone(), running: false, layers: Vec::new() };
    images.prune(&filters(r#"{"dangling":["false"]}"#), None, &[user]).unwrap();
    assert_eq!(images.store().images().ids(), [two]);
    let error = images.prune(&filters(r#"{"nonsense":["x"]}"#), None, &[]).unwrap_err();
    assert_eq!(error.to_string(), "invalid filter 'nonsense'");
}

#[tokio::test]
async fn hello_needs_no_network() {
    let root = Root::new();
    let images = root.images();
    let pull = Pull {
        reference: names(&["hello-world"])[0].clone(),
        platform: None,
        credentials: Credentials::default(),
        verify: true,
    };
    for status in ["Downloaded newer image", "Image is up to date"] {
        let (progress, steps) = recorder();
        let id = images.pull(&pull, progress).await.unwrap();
        assert_eq!(images.find("hello-world", None).unwrap().id(), &id);
        let last = steps.lock().unwrap().last().unwrap().message().status;
        assert_eq!(last, format!("Status: {status} for hello-world:latest"));
    }
}

#[tokio::test]
async fn what_was_pulled_can_be_pushed_elsewhere() {
    let (root, registry) = (Root::new(), Registry::start());
    let (manifest, layers) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let other = Registry::start();
    let host = other.host();
    let name = names(&[&format!("{host}/copy:v2")]).remove(0);
    let push =
        Push { reference: name.clone(), platform: None, credentials: Credentials::default(), verify: true };
    let error = images.push(&push, silent()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("tag does not exist: {host}/copy:v2"));
    images.tag(&format!("{}/app:v1", registry.host()), &name).unwrap();
    let (progress, steps) = recorder();
    images.push(&push, progress).await.unwrap();
    assert_eq!(Digest::sha256_of(&other.manifest("copy", "v2").unwrap().1), manifest.digest);
    assert!(layers.iter().all(|layer| other.blob(&layer.digest).is_some()));
    let lines: Vec<_> = steps.lock().unwrap().iter().map(Step::message).collect();
    assert_eq!(lines[0].status, format!("The push refers to repository [{host}/copy]"));
    assert_eq!(lines.iter().filter(|line| line.status == "Pushed").count(), 3);
    let last = lines.last().unwrap();
    assert_eq!(last.status, format!("v2: digest: {} size: {}", manifest.digest, manifest.size));

    // Again, and into another repository of the same registry.
    let (progress, steps) = recorder();
    images.push(&push, progress).await.unwrap();
    let count = |steps: &Mutex<Vec<Step>>, word: &str| {
        steps.lock().unwrap().iter().filter(|step| step.message().status == word).count()
    };
    assert_eq!(count(&steps, "Layer already exists"), 3);
    let name = names(&[&format!("{host}/third:v1")]).remove(0);
    images.tag(&format!("{host}/copy:v2"), &name).unwrap();
    other.fault(|request| {
        let asked = request.method == "HEAD" && request.path().starts_with("/v2/third/blobs/");
        asked.then(|| Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"))
    });
    let (progress, steps) = recorder();
    let all = Push { reference: name.without_tag(), ..push };
    images.push(&all, progress).await.unwrap();
    assert_eq!(count(&steps, "Mounted from copy"), 3);
    assert!(other.manifest("third", "v1").is_some());
}

#[tokio::test]
async fn an_incomplete_index_is_pushed_as_its_platform() {
    let (root, registry) = (Root::new(), Registry::start());
    let (mut here, _) = publish(&registry, "app", "", &three()[..1]);
    let (mut there, _) =
        publish_for(&registry, "app", "", &three()[2..], &Platform::new("linux", "s390x", None));
    here.platform = Some(Platform::host());
    there.platform = Some(Platform::new("linux", "s390x", None));
    let index = serde_json::to_vec(&Index::new(vec![here.clone(), there])).unwrap();
    let digest = registry.put_manifest("app", "v1", media_type::OCI_INDEX, &index);
    let images = root.images();
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let other = Registry::start();
    let name = names(&[&format!("{}/copy:v1", other.host())]).remove(0);
    images.tag(&format!("{}/app:v1", registry.host()), &name).unwrap();
    let push = Push { reference: name, platform: None, credentials: Credentials::default(), verify: true };
    images.push(&push, silent()).await.unwrap();
    assert_eq!(Digest::sha256_of(&other.manifest("copy", "v1").unwrap().1), here.digest);
    // With the other platform here too, the index goes whole.
    let pull = Pull { platform: Some(Platform::new("linux", "s390x", None)), ..request(&registry, "app:v1") };
    images.pull(&pull, silent()).await.unwrap();
    images.push(&push, silent()).await.unwrap();
    assert_eq!(Digest::sha256_of(&other.manifest("copy", "v1").unwrap().1), digest);
    let shown = images.inspect_remote(&push.reference, &Credentials::default()).await.unwrap();
    assert_eq!((shown.descriptor.digest, shown.platforms.len()), (digest.to_string(), 2));
}

#[tokio::test]
async fn images_go_out_and_come_in() {
    let (root, registry) = (Root::new(), Registry::start());
    let (manifest, _) = publish(&registry, "app", "v1", &three());
    let images = root.images();
    images.pull(&request(&registry, "app:v1"), silent()).await.unwrap();
    let full = format!("{}/app:v1", registry.host());
    let mut saved = Vec::new();
    images.save(std::slice::from_ref(&full), None, &mut saved).unwrap();

    let other = Root::new();
    let images = other.images();
    let (_, mut events) = images.events().subscribe();
    let mut lines = Vec::new();
    images.load(&mut saved.as_slice(), false, None, &mut |line| lines.push(line)).unwrap();
    assert_eq!(lines.last().unwrap().stream, format!("Loaded image: {full}\n"));
    assert!(lines.iter().any(|line| line.status == "Loading layer"));
    assert_eq!(images.find(&full, None).unwrap().id(), &manifest.digest);
    assert_eq!(events.try_recv().unwrap().action, "load");

    let rootfs = archive(&[("bin/tool", b"#!")]);
    let import = Import {
        reference: Some(names(&["base"]).remove(0)),
        changes: vec!["CMD [\"/bin/tool\"]".into()],
        ..Import::default()
    };
    let id = images.import(&mut rootfs.as_slice(), &import).unwrap();
    let base = images.find("base:latest", None).unwrap();
    assert_eq!((base.id(), base.config.config.cmd.clone()), (&id, Some(vec!["/bin/tool".to_owned()])));

    let upper = other.0.join("upper");
    std::fs::create_dir_all(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/new"), b"new").unwrap();
    let commit = Commit {
        parent: base.clone(),
        upper,
        config: base.config.config.clone(),
        changes: vec!["ENV A=1".into()],
        reference: Some(names(&["mine:2"]).remove(0)),
        author: "Ann".into(),
        comment: "why".into(),
        created_by: "sh".into(),
    };
    let id = images.commit(&commit).unwrap();
    let made = images.find("mine:2", None).unwrap();
    assert_eq!((made.id(), made.diff_ids.len()), (&id, 2));
    assert_eq!(made.config.config.env, ["A=1"]);
    let lower = images.store().layers().lower_dirs(&made.diff_ids).unwrap();
    assert_eq!(std::fs::read(lower[0].join("etc/new")).unwrap(), b"new");
    let top = images.history("mine:2", None).unwrap().remove(0);
    assert_eq!((top.comment.as_str(), top.created_by.as_str()), ("why", "sh"));
}

#[tokio::test]
async fn a_name_alone_means_all_tags() {
    let (root, registry) = (Root::new(), Registry::start());
    publish(&registry, "app", "v1", &three()[..1]);
    publish(&registry, "app", "v2", &three()[..2]);
    let images = root.images();
    let (progress, steps) = recorder();
    images.pull(&request(&registry, "app"), progress).await.unwrap();
    assert_eq!(images.store().images().ids().len(), 2);
    let lines: Vec<_> = steps.lock().unwrap().iter().map(|step| step.message().status).collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("Digest: ")).count(), 2);
    let ends: Vec<_> = lines.iter().filter(|line| line.starts_with("Status: ")).collect();
    assert_eq!(ends, [&format!("Status: Downloaded newer image for {}/app", registry.host())]);
}
