//! Archives as several generations of Docker make them, and broken ones.

use super::*;
use crate::Store;
use crate::layers::tests::{Archive, store as open};
use crate::tar::{Entry, Kind, Reader};
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, RootFs, media_type};
use std::io::Write as _;

fn layer(content: &str) -> Vec<u8> {
    Archive::new().file("content", content.as_bytes()).finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let host = Platform::host();
    let diff_ids = layers.iter().map(|layer| Digest::sha256_of(layer)).collect();
    let config = ImageConfig {
        architecture: host.architecture,
        os: host.os,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    serde_json::to_vec(&config).unwrap()
}

/// As `docker save` 20.10 orders it: layers, configuration, a link for a layer that is there already, the list last.
fn classic(layers: &[&[u8]], tags: &str) -> Vec<u8> {
    let config = config(layers);
    let hex = Digest::sha256_of(&config);
    let mut archive = Archive::new();
    let mut paths = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        archive = archive.directory(&format!("id{index}/")).file(&format!("id{index}/VERSION"), b"1.0");
        archive = archive.file(&format!("id{index}/json"), b"{}");
        let path = format!("id{index}/layer.tar");
        let earlier = layers[..index].iter().position(|other| other == layer);
        archive = match earlier {
            Some(earlier) => archive.link(&path, Kind::Symlink, &format!("../id{earlier}/layer.tar")),
            None => archive.file(&path, layer),
        };
        paths.push(format!("\"{path}\""));
    }
    let list = format!(
        "[{{\"Config\":\"{}.json\",\"RepoTags\":{tags},\"Layers\":[{}]}}]",
        hex.hex(),
        paths.join(",")
    );
    archive
        .file(&format!("{}.json", hex.hex()), &config)
        .file("manifest.json", list.as_bytes())
        .file("repositories", b"{}")
        .finish()
}

fn load_quietly(store: &Store, bytes: &[u8]) -> crate::Result<Vec<Loaded>> {
    load(store, &mut &*bytes, &mut |_| {})
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.names.iter().map(Reference::familiar).collect()
}

#[test]
fn what_docker_20_10_saves() {
    let (one, two) = (layer("one"), layer("two"));
    let archive = classic(&[&one, &two, &one], "[\"app:1\",\"quay.io/x/app:2\"]");
    let (_scratch, store) = open();
    let mut seen = 0;
    let loaded = load(&store, &mut &*gzip(&archive), &mut |progress| seen = progress.total).unwrap();
    assert_eq!(seen, two.len() as u64);
    assert_eq!(names(&loaded[0]), ["app:1", "quay.io/x/app:2"]);
    let image = store.images().find("app:1").unwrap();
    assert_eq!(image.diff_ids, [&one, &two, &one].map(|layer| Digest::sha256_of(layer)));
    assert_eq!(image.document.layers[0].media_type, media_type::OCI_LAYER);
    assert_eq!(image.unpacked_size, Some(9), "unpacked while it was read");
    // The same image, the same ID; and the other way round a name moves.
    let again = load_quietly(&store, &archive).unwrap();
    assert_eq!(again[0].target.digest, loaded[0].target.digest);
    let other = load_quietly(&store, &classic(&[&two], "[\"app:1\"]")).unwrap();
    assert_eq!(other[0].dangling, []);
    let third = load_quietly(&store, &classic(&[&one], "[\"app:1\"]")).unwrap();
    assert_eq!(third[0].dangling, [other[0].target.digest.clone()]);
}

#[test]
fn an_image_without_a_name_and_the_empty_layer() {
    let empty = Archive::new().finish();
    let (_scratch, store) = open();
    let loaded = load_quietly(&store, &classic(&[&empty], "null")).unwrap();
    assert!(loaded[0].names.is_empty());
    assert_eq!(store.images().get(&loaded[0].target.digest).unwrap().unpacked_size, Some(0));
}

#[test]
fn saving_and_loading_keeps_every_digest() {
    let (_scratch, store) = open();
    let (host, foreign) = (layer("host"), gzip(&layer("foreign")));
    let mut entries = Vec::new();
    for (bytes, media, platform) in [
        (&host, media_type::OCI_LAYER, Platform::host()),
        (&foreign, media_type::OCI_LAYER_GZIP, Platform::parse("linux/s390x").unwrap()),
    ] {
        let plain = if media == media_type::OCI_LAYER { bytes.clone() } else { layer("foreign") };
        let mut config: ImageConfig = serde_json::from_slice(&config(&[&plain])).unwrap();
        config.architecture.clone_from(&platform.architecture);
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Manifest::new(
            Descriptor::of(media_type::OCI_CONFIG, &config),
            vec![Descriptor::of(media, bytes)],
        );
        let manifest = serde_json::to_vec(&manifest).unwrap();
        for bytes in [bytes, &config, &manifest] {
            store.blobs().put(bytes).unwrap();
        }
        entries.push(Descriptor {
            platform: Some(platform),
            ..Descriptor::of(media_type::OCI_MANIFEST, &manifest)
        });
    }
    let index = serde_json::to_vec(&Index::new(entries)).unwrap();
    store.blobs().put(&index).unwrap();
    let target = Descriptor::of(media_type::OCI_INDEX, &index);
    let reference = |text: &str| Reference::parse_normalized(text).unwrap();
    store.images().record(&target, &[reference("multi:1"), reference("multi:2")]).unwrap();
    let hello = store.ensure_hello().unwrap();
    let mut archive = Vec::new();
    let texts = ["multi".to_owned(), hello.id().short().to_owned()];
    let saved = save(&store, &texts, None, &mut archive).unwrap();
    assert_eq!(saved.len(), 2);
    let mut again = Vec::new();
    save(&store, &texts, None, &mut again).unwrap();
    assert!(again == archive, "equal images give equal bytes");

    let (_other, second) = open();
    let loaded = load_quietly(&second, &zstd::encode_all(&*archive, 1).unwrap()).unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(second.images().find("multi:2").unwrap().target, target);
    assert_eq!(second.images().platforms(&target.digest).unwrap().len(), 2);
    assert!(second.images().find(hello.id().hex()).unwrap().names.is_empty(), "saved by its ID");
    assert!(save(&store, &["nosuch".to_owned()], None, &mut Vec::new()).is_err());

    // One platform alone is a smaller archive with that manifest.
    let mut single = Vec::new();
    let platform = Platform::parse("linux/s390x").unwrap();
    save(&store, &["multi:1".to_owned()], Some(&platform), &mut single).unwrap();
    let (_third, third) = open();
    let loaded = load_quietly(&third, &single).unwrap();
    assert_eq!(loaded[0].target.platform, Some(platform));
    assert_eq!(names(&loaded[0]), ["multi:1"]);
}

#[test]
fn an_engine_that_reads_only_the_list_can_load_what_is_saved() {
    let (_scratch, store) = open();
    store.ensure_hello().unwrap();
    let mut archive = Vec::new();
    save(&store, &["hello-world".to_owned()], None, &mut archive).unwrap();
    // The same archive without what only newer engines read.
    let mut reader = Reader::new(archive.as_slice());
    let mut old = Archive::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        while let piece @ [_, ..] = reader.data().unwrap() {
            let length = piece.len();
            data.extend_from_slice(piece);
            reader.consume(length);
        }
        if !matches!(entry.name.as_slice(), b"index.json" | b"oci-layout") {
            old = old.entry(entry, &data);
        }
    }
    let (_other, second) = open();
    let loaded = load_quietly(&second, &old.finish()).unwrap();
    assert_eq!(names(&loaded[0]), ["hello-world:latest"]);
    let hello = store.ensure_hello().unwrap();
    assert_eq!(second.images().find("hello-world").unwrap().config_digest, hello.config_digest);
}

#[test]
fn a_layer_that_is_wrong_ends_the_load_wherever_it_is() {
    let sound: Vec<Vec<u8>> =
        (0..6_u8).map(|number| Archive::new().file("content", &vec![number; 600_000]).finish()).collect();
    let all: Vec<&[u8]> = sound.iter().map(Vec::as_slice).collect();
    let evil = Archive::new().file("content", &vec![7; 600_000]).file("../evil", b"").finish();
    let damaged = gzip(&sound[0])[..600].to_vec();
    let (scratch, store) = open();
    let refused = |bytes: &[u8]| {
        load_quietly(&store, bytes).unwrap_err();
        assert_eq!(store.images().ids(), []);
        store.collect(&crate::Keep::default()).unwrap();
        let left =
            |folder: &str| std::fs::read_dir(scratch.path().join("data").join(folder)).unwrap().count();
        assert_eq!((left("tmp/ingest"), left("blobs/sha256"), left("layers")), (0, 0, 0));
    };
    for place in 0..all.len() {
        for wrong in [&evil, &damaged] {
            let mut layers = all.clone();
            layers[place] = wrong;
            refused(&classic(&layers, "[\"x:1\"]"));
        }
        let whole = classic(&all, "[\"x:1\"]");
        refused(&whole[..place * 600_000 + 300_000]);
    }
    assert_eq!(load_quietly(&store, &classic(&all, "[\"x:1\"]")).unwrap().len(), 1);
}

#[test]
fn what_is_no_archive_of_images() {
    let one = layer("one");
    let check = |bytes: &[u8], expect: &str| {
        let (_scratch, store) = open();
        let error = load_quietly(&store, bytes).expect_err(expect);
        assert_eq!(base::chain(&error), expect);
        assert!(store.images().ids().is_empty());
    };
    let file = |name: &str, data: &[u8]| Archive::new().file(name, data).finish();
    check(b"", "invalid archive: it has neither manifest.json nor index.json");
    check(b"junk", "invalid archive: unexpected end of the archive");
    check(&one, "invalid archive: it has neither manifest.json nor index.json");
    check(
        &file("manifest.json", b"{}"),
        "invalid manifest.json in the archive: invalid type: map, expected a sequence at line 1 column 0",
    );
    check(
        &file("manifest.json", b"[{\"Config\":\"../../../etc/passwd\"}]"),
        "unpack layer: entry \"../../../etc/passwd\": climbs out of the layer",
    );
    check(&file("manifest.json", b"[{\"Config\":\"x\"}]"), "invalid archive: x is not in it");
    check(&file("index.json", b"{\"manifests\":[]}"), "invalid archive: its index names no image");
    check(
        &file(&format!("blobs/sha256/{}", "0".repeat(64)), b"{}"),
        &format!("wrong digest: expected sha256:{}, got {}", "0".repeat(64), Digest::sha256_of(b"{}")),
    );
    check(
        &file(&format!("blobs/sha256/{}", "0".repeat(64)), &one),
        &format!("wrong digest: expected sha256:{}, got {}", "0".repeat(64), Digest::sha256_of(&one)),
    );
    let looped = Archive::new()
        .link("a", Kind::Symlink, "b")
        .link("b", Kind::Symlink, "a")
        .file("manifest.json", b"[{\"Config\":\"a\"}]");
    check(&looped.finish(), "invalid archive: a is not in it");
    let mut wrong = classic(&[&one], "[\"x:1\"]");
    let position = wrong.windows(7).position(|window| window == b"content").unwrap();
    // The content of the layer, not its headers.
    let body = position + 512;
    assert_eq!(&wrong[body..body + 3], b"one");
    wrong[body] = b'X';
    let mut changed = one.clone();
    changed[512] = b'X';
    check(
        &wrong,
        &format!(
            "wrong diff ID of the layer: expected {}, got {}",
            Digest::sha256_of(&one),
            Digest::sha256_of(&changed)
        ),
    );
    let full = classic(&[&one], "[\"x:1\"]");
    check(&full[..full.len() / 3], "invalid archive: unexpected end of the archive");
    check(
        &classic(&[&one], "[\"UPPER:1\"]"),
        "invalid reference format: repository name (library/UPPER) must be lowercase",
    );
}

#[test]
fn importing_a_root_file_system() {
    let (_scratch, store) = open();
    let rootfs = layer("root");
    let options = ImportOptions {
        reference: Some(Reference::parse_normalized("imported:1").unwrap()),
        message: "from a test".into(),
        created: "2026-01-01T00:00:00Z".into(),
        ..ImportOptions::default()
    };
    for bytes in [rootfs.clone(), gzip(&rootfs)] {
        let target = import(&store, &mut &*bytes, &options).unwrap();
        let image = store.images().find("imported:1").unwrap();
        assert_eq!(image.target, target);
        assert_eq!(image.diff_ids, [Digest::sha256_of(&rootfs)]);
        assert_eq!(image.config.history[0].comment, "from a test");
        let lower = store.images().unpack(&image).unwrap();
        assert_eq!(std::fs::read(lower[0].join("content")).unwrap(), b"root");
    }
    assert!(import(&store, &mut &b"junk"[..], &options).is_err());
    assert_eq!(std::fs::read_dir(store.paths().tmp().join("ingest")).unwrap().count(), 0);
}

#[test]
fn entries_that_are_no_files_do_not_matter() {
    let one = layer("one");
    let mut bytes = Archive::new()
        .entry(Entry { name: b"fifo".to_vec(), kind: Kind::Fifo, ..Entry::default() }, b"")
        .finish();
    bytes.truncate(512);
    bytes.extend(classic(&[&one], "[\"x:1\"]"));
    let (_scratch, store) = open();
    assert_eq!(names(&load_quietly(&store, &bytes).unwrap()[0]), ["x:1"]);
}
