//! Blobs that were dropped come back bit for bit, or are not dropped.

use crate::layers::tests::{Archive, store};
use crate::tar::{Entry, Kind};
use crate::{Error, Keep, Problem, Store};
use oci::{Compression, Descriptor, Digest, ImageConfig};
use std::io::{Read as _, Write as _};

fn text(length: usize) -> Vec<u8> {
    (0..length).flat_map(|number| format!("{number:x} ").into_bytes()).take(length).collect()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// An archive with all that is special about archives.
fn archive() -> Vec<u8> {
    Archive::new()
        .directory("d")
        .file("d/large", &text(300_000))
        .file("d/twice", &text(9_000))
        .file("d/twice", b"the later one counts")
        .file("d/gone", &text(7_000))
        .file("d/.wh.other", b"")
        .link("d/hard", Kind::HardLink, "d/large")
        .link("d/soft", Kind::Symlink, "/d")
        .file("d/soft/through", &text(5_000))
        .entry(Entry { name: "n".repeat(200).into_bytes(), ..Entry::default() }, &text(6_000))
        .directory("d/gone")
        .finish()
}

/// Records an image with one layer and unpacks that.
fn image(store: &Store, blob: &[u8], plain: &[u8]) -> (Digest, Digest, Digest) {
    let digest = store.blobs().put(blob).unwrap();
    let diff_id = Digest::sha256_of(plain);
    store.layers().unpack(&mut &*blob, &diff_id).unwrap();
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids.push(diff_id.clone());
    let media_type = Compression::sniff(blob).oci_layer();
    let layer = Descriptor::new(media_type, digest.clone(), blob.len() as u64);
    let id = store.add_image(&config, vec![layer], &[]).unwrap().digest;
    (id, digest, diff_id)
}

fn read(store: &Store, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.blobs().open(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn archives_are_made_again_bit_for_bit() {
    let plain = archive();
    for blob in [plain.clone(), gzip(&plain)] {
        let (_scratch, store) = store();
        let (id, digest, diff_id) = image(&store, &blob, &plain);
        assert_eq!(store.slim().unwrap(), 1);
        assert!(!store.blobs().is_whole(&digest));
        assert_eq!(store.blobs().size(&digest), Some(blob.len() as u64));
        assert!(store.blobs().stored(&digest) < blob.len() as u64 / 2);
        assert!(read(&store, &digest) == blob);
        assert_eq!(store.blobs().list().unwrap().iter().filter(|other| **other == digest).count(), 1);
        assert_eq!(store.slim().unwrap(), 0, "once is enough");
        assert_eq!(store.collect(&Keep::default()).unwrap().blobs, []);
        assert_eq!(store.check(|_| ()).unwrap(), []);
        // The layer is what the blob is made of now.
        let layer = store.layers().get(&diff_id).unwrap().unwrap();
        std::fs::write(layer.path.join("d/large"), b"damaged").unwrap();
        assert!(matches!(store.blobs().open(&digest), Err(Error::WrongDigest { .. })));
        let problems = store.check(|_| ()).unwrap();
        assert!(matches!(problems.as_slice(), [Problem::Layer { .. }, Problem::Blob { .. }]), "{problems:?}");
        store.repair(&problems).unwrap();
        assert!(!store.blobs().contains(&digest));
        store.images().remove(&id).unwrap();
        store.collect(&Keep::default()).unwrap();
        assert_eq!(store.blobs().list().unwrap(), []);
    }
}

#[test]
fn what_cannot_be_made_again_is_kept_and_remembered() {
    let plain = archive();
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    // Twice in the archive, once in the layer, and too large to be kept beside it.
    let replaced = Archive::new().file("f", &text(1_100_000)).file("f", &[7; 1_100_000]).finish();
    for (blob, plain) in [(&zstd, &plain), (&replaced, &replaced)] {
        let (scratch, store) = store();
        let (_, digest, _) = image(&store, blob, plain);
        assert_eq!(store.slim().unwrap(), 0);
        assert!(store.blobs().is_whole(&digest));
        let why = store.database().scan(crate::slim::KEPT).unwrap();
        assert_eq!(why.len(), 1, "{why:?}");
        assert_eq!(store.slim().unwrap(), 0);
        drop(store);
        assert_eq!(std::fs::read_dir(scratch.path().join("data/recipes/sha256")).unwrap().count(), 0);
    }
}

#[test]
fn the_thread_does_it_once_asked() {
    let (_scratch, store) = store();
    let plain = archive();
    let (_, before, _) = image(&store, &plain, &plain);
    store.set_archives(crate::Archives::Rebuild).unwrap();
    let plain = Archive::new().file("other", &text(50_000)).finish();
    let blob = gzip(&plain);
    let (_, after, _) = image(&store, &blob, &plain);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while [&before, &after].iter().any(|digest| store.blobs().is_whole(digest)) {
        assert!(std::time::Instant::now() < deadline, "nothing happens");
        std::thread::yield_now();
    }
    assert!(read(&store, &after) == blob);
    store.set_archives(crate::Archives::Keep).unwrap();
    assert!(store.blobs().contains(&before));
}
