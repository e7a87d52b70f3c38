//! Records, names, platforms, collection, and what a crash leaves.

use crate::layers::tests::{Archive, store};
use crate::*;
use base::paths::DataPaths;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, RootFs, media_type};

fn reference(text: &str) -> Reference {
    Reference::parse_normalized(text).unwrap()
}

/// Stores an image of one layer with one file; the layer is not unpacked.
fn add(store: &Store, platform: &str, content: &str) -> Descriptor {
    let platform = Platform::parse(platform).unwrap();
    let layer = Archive::new().file("content", content.as_bytes()).finish();
    let config = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        rootfs: RootFs { diff_ids: vec![Digest::sha256_of(&layer)], ..RootFs::default() },
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = Manifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER, &layer)],
    );
    let manifest = serde_json::to_vec(&manifest).unwrap();
    for bytes in [&layer, &config, &manifest] {
        store.blobs().put(bytes).unwrap();
    }
    Descriptor { platform: Some(platform), ..Descriptor::of(media_type::OCI_MANIFEST, &manifest) }
}

#[test]
fn names_ids_and_prefixes() {
    let (_scratch, store) = store();
    let images = store.images();
    let (one, two) = (add(&store, "linux/amd64", "one"), add(&store, "linux/amd64", "two"));
    assert_eq!(images.tag(&reference("app"), &one).unwrap(), None);
    assert_eq!(images.tag(&reference("quay.io/x/app:1"), &one).unwrap(), None);
    assert_eq!(images.tag(&reference("app:latest"), &two).unwrap(), Some(one.digest.clone()));
    let id = |text: &str| images.find_id(text).map_err(|error| error.to_string());
    assert_eq!(id("app"), Ok(two.digest.clone()));
    assert_eq!(id("docker.io/library/app:latest"), Ok(two.digest.clone()));
    assert_eq!(id("quay.io/x/app:1"), Ok(one.digest.clone()));
    assert_eq!(id(&one.digest.to_string()), Ok(one.digest.clone()));
    assert_eq!(id(one.digest.hex()), Ok(one.digest.clone()));
    assert_eq!(id(one.digest.short()), Ok(one.digest.clone()));
    assert_eq!(id(&format!("sha256:{}", one.digest.short())), Ok(one.digest.clone()));
    assert_eq!(id(&format!("quay.io/x/app@{}", one.digest)), Ok(one.digest.clone()));
    let image = images.get(&one.digest).unwrap();
    assert_eq!(id(&image.config_digest.to_string()), Ok(one.digest.clone()));
    assert_eq!(
        id(&format!("quay.io/y/app@{}", one.digest)),
        Err(format!("No such image: quay.io/y/app@{}", one.digest))
    );
    assert_eq!(id("nosuch"), Err("No such image: nosuch:latest".into()));
    assert_eq!(
        id("App"),
        Err("invalid reference format: repository name (library/App) must be lowercase".into())
    );
    assert_eq!(id(&"0".repeat(64)), Err(format!("No such image: {}", "0".repeat(64))));
    assert_eq!(image.names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["quay.io/x/app:1"]);
    assert_eq!(image.repo_digests, [reference(&format!("quay.io/x/app@{}", one.digest))]);
    assert!(images.untag(&reference("quay.io/x/app:1")).unwrap());
    assert!(!images.untag(&reference("quay.io/x/app:1")).unwrap());
    assert!(images.get(&one.digest).unwrap().names.is_empty(), "dangling, but there");
    assert!(images.remove(&one.digest).unwrap());
    assert_eq!(images.list().unwrap().len(), 1);
}

#[test]
fn records_survive_and_content_is_marked_safe() {
    let (scratch, store) = store();
    let target = add(&store, "linux/amd64", "x");
    store.images().tag(&reference("app:1"), &target).unwrap();
    let image = store.images().find("app:1").unwrap();
    assert_eq!(image.unpacked_size, None);
    store.images().unpack(&image).unwrap();
    // The layer was not there when the image was recorded, so it is not safe yet.
    let orphan = store.blobs().put(b"never recorded").unwrap();
    store.database().put(META, BOOT, b"another boot", Durability::Durable).unwrap();
    drop(store);
    let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
    let image = store.images().find("app:1").unwrap();
    assert_eq!(store.layers().get(&image.diff_ids[0]).unwrap(), None, "unpacked but never synced");
    assert!(!store.blobs().contains(&orphan));
    let lower = store.images().unpack(&image).unwrap();
    assert_eq!(std::fs::read(lower[0].join("content")).unwrap(), b"x");
    assert_eq!(store.images().find("app:1").unwrap().unpacked_size, Some(1));
    // In the same boot nothing is distrusted.
    let orphan = store.blobs().put(b"never recorded").unwrap();
    drop(store);
    let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
    assert!(store.blobs().contains(&orphan));
}

#[test]
fn an_index_shows_as_the_platform_that_fits() {
    let (_scratch, store) = store();
    let (amd64, arm) = (add(&store, "linux/amd64", "amd64"), add(&store, "linux/arm64", "arm64"));
    let mut absent = Descriptor::of(media_type::OCI_MANIFEST, b"not downloaded");
    absent.platform = Some(Platform::parse("linux/s390x").unwrap());
    let index = serde_json::to_vec(&Index::new(vec![absent, arm.clone(), amd64.clone()])).unwrap();
    store.blobs().put(&index).unwrap();
    let target = Descriptor::of(media_type::OCI_INDEX, &index);
    store.images().tag(&reference("multi"), &target).unwrap();
    let platform = |text: &str| Platform::parse(text).unwrap();
    let find = |text: &str| {
        let found = store.images().find_for("multi", &platform(text));
        found.map(|image| image.manifest.digest).map_err(|error| error.to_string())
    };
    assert_eq!(find("linux/amd64"), Ok(amd64.digest.clone()));
    assert_eq!(find("linux/arm64/v8"), Ok(arm.digest));
    let missing =
        "image with reference multi was found but does not provide the specified platform (linux/s390x)";
    assert_eq!(find("linux/s390x"), Err(missing.into()));
    assert_eq!(store.images().platforms(&target.digest).unwrap().len(), 2);
    let image = store.images().find("multi").unwrap();
    assert_eq!(image.id(), &target.digest);
    assert_eq!(image.platform, Platform::host());
    // Only what is reachable stays.
    let collected = store.collect(&Keep::default()).unwrap();
    assert_eq!((collected.blobs.len(), collected.layers.len()), (0, 0));
}

#[test]
fn collection_spares_images_leases_and_what_is_kept() {
    let (_scratch, store) = store();
    let (kept, gone) = (add(&store, "linux/amd64", "kept"), add(&store, "linux/amd64", "gone"));
    store.images().tag(&reference("kept"), &kept).unwrap();
    store.images().tag(&reference("gone"), &gone).unwrap();
    let gone_image = store.images().find("gone").unwrap();
    store.images().unpack(&gone_image).unwrap();
    store.images().remove(&gone.digest).unwrap();
    let lease = store.lease();
    let pulled = store.blobs().put(b"being pulled").unwrap();
    let keep = Keep { layers: gone_image.diff_ids.clone(), ..Keep::default() };
    let collected = store.collect(&keep).unwrap();
    assert_eq!(collected.blobs.len(), 3, "manifest, configuration and layer of the image that is gone");
    assert_eq!(collected.layers, []);
    assert!(store.blobs().contains(&pulled));
    drop(lease);
    let collected = store.collect(&Keep::default()).unwrap();
    assert_eq!(collected.blobs, [pulled]);
    assert_eq!(collected.layers, gone_image.diff_ids);
    assert_eq!(store.images().list().unwrap().len(), 1);
    store.wait_for_deletion();
    assert_eq!(std::fs::read_dir(store.paths().tmp()).unwrap().count(), 1);
}

#[test]
fn downloads_resume_and_are_checked() {
    use std::io::Write;
    let (scratch, store) = store();
    let content = vec![7; 1 << 20];
    let digest = Digest::sha256_of(&content);
    let mut ingest = store.blobs().ingest("key").unwrap();
    ingest.write_all(&content[..600_000]).unwrap();
    assert!(matches!(store.blobs().ingest("key"), Err(Error::Busy(_))));
    drop(ingest);
    drop(store);
    let store = Store::open(&DataPaths::new(scratch.path().join("data"))).unwrap();
    let mut ingest = store.blobs().ingest("key").unwrap();
    assert_eq!(ingest.written(), 600_000);
    ingest.write_all(&content[600_000..]).unwrap();
    ingest.commit(&digest, Some(1 << 20)).unwrap();
    assert_eq!(store.blobs().read(&digest, 1 << 20).unwrap(), content);
    assert!(matches!(store.blobs().read(&digest, 10), Err(Error::TooLarge { .. })));
    let mut ingest = store.blobs().ingest("key").unwrap();
    assert_eq!(ingest.written(), 0);
    ingest.write_all(b"wrong").unwrap();
    assert!(matches!(ingest.commit(&Digest::sha256_of(b"right"), Some(5)), Err(Error::WrongDigest { .. })));
    let mut ingest = store.blobs().ingest("key").unwrap();
    assert_eq!(ingest.written(), 0, "what is wrong is not resumed");
    ingest.write_all(b"rig").unwrap();
    assert!(matches!(ingest.commit(&Digest::sha256_of(b"right"), Some(5)), Err(Error::WrongSize { .. })));
    assert_eq!(store.blobs().ingest("key").unwrap().written(), 3, "what is too short is");
    assert_eq!(store.collect_downloads(std::time::Duration::ZERO).unwrap(), 3);
}

#[test]
fn damaged_content_is_noticed() {
    let (_scratch, store) = store();
    let target = add(&store, "linux/amd64", "x");
    store.images().tag(&reference("app"), &target).unwrap();
    let path = store.blobs().path(&target.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    store.images().forget_parsed();
    assert!(matches!(store.images().find("app"), Err(Error::WrongDigest { .. })));
    assert!(store.images().list().unwrap().is_empty());
    assert_eq!(store.images().ids(), [target.digest]);
}
