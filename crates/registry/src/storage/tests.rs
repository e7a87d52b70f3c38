//! Tests of the storage on a folder of their own.

use super::collect::Options;
use super::manifest::Manifest;
use super::*;
use oci::Algorithm;
use serde_json::{Value, json};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("wharf-registry-{}", durable::random_id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn storage(&self) -> Storage {
        Storage::open(&self.0, false).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn push(storage: &Storage, name: &str, bytes: &[u8]) -> Digest {
    let (_, mut session) = storage.begin(name, Algorithm::Sha256).unwrap();
    session.write(bytes).unwrap();
    let digest = Digest::sha256_of(bytes);
    assert_eq!(storage.finish(name, session, &digest).unwrap(), bytes.len() as u64);
    digest
}

fn image(config: &Digest, layers: &[Digest], subject: Option<&Digest>) -> Vec<u8> {
    let descriptor = |digest: &Digest| json!({"mediaType": "m/x", "size": 1, "digest": digest.to_string()});
    let mut document = json!({
        "schemaVersion": 2, "config": descriptor(config), "layers": layers.iter().map(descriptor).collect::<Value>(),
    });
    if let Some(subject) = subject {
        document["subject"] = descriptor(subject);
    }
    document.to_string().into_bytes()
}

fn put(storage: &Storage, name: &str, bytes: &[u8], tags: &[&str]) -> Digest {
    let digest = Digest::sha256_of(bytes);
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    storage.put_manifest(name, &digest, bytes, &Manifest::parse("", bytes).unwrap(), &tags).unwrap();
    digest
}

#[test]
fn blobs_belong_to_repositories() {
    let folder = Folder::new();
    let storage = folder.storage();
    let digest = push(&storage, "a/b", b"hello");
    assert_eq!(storage.stat("a/b", &digest).unwrap(), Some(5));
    assert_eq!(storage.stat("other", &digest).unwrap(), None);
    assert!(storage.open_blob("other", &digest).unwrap().is_none());
    assert_eq!(storage.mount("other", Some("a"), &digest).unwrap(), None);
    assert_eq!(storage.mount("other", Some("a/b"), &digest).unwrap(), Some(5));
    assert_eq!(storage.stat("other", &digest).unwrap(), Some(5));
    assert!(storage.unlink_blob("a/b", &digest).unwrap());
    assert!(!storage.unlink_blob("a/b", &digest).unwrap());
    assert_eq!(storage.stat("a/b", &digest).unwrap(), None);
    assert_eq!(storage.repositories().unwrap(), ["a/b", "other"]);
    assert!(!folder.0.join("docker/registry/v2/repositories/a/b/_uploads").read_dir().unwrap().any(|_| true));
}

#[test]
fn uploads_go_on_after_a_restart() {
    let folder = Folder::new();
    let (id, mut session) = folder.storage().begin("a", Algorithm::Sha256).unwrap();
    session.write(b"hel").unwrap();
    drop(session);
    let storage = folder.storage();
    let mut session = storage.session("a", &id).unwrap();
    assert_eq!(session.written(), 3);
    assert!(storage.session("a", &id).is_err(), "one at a time");
    session.write(b"lo").unwrap();
    drop(session);
    let session = storage.session("a", &id).unwrap();
    assert_eq!(storage.finish("a", session, &Digest::sha256_of(b"hello")).unwrap(), 5);
    for unknown in [id.as_str(), "..", "", "a/b"] {
        assert!(storage.session("a", unknown).is_err(), "{unknown}");
    }
}

#[test]
fn wrong_digests_are_refused_and_any_algorithm_is_taken() {
    let folder = Folder::new();
    let storage = folder.storage();
    let (id, mut session) = storage.begin("a", Algorithm::Sha256).unwrap();
    session.write(b"x").unwrap();
    let wrong = storage.finish("a", session, &Digest::sha256_of(b"y")).unwrap_err();
    assert!(matches!(wrong, Error::Refused(Refusal { code: Code::DigestInvalid, .. })), "{wrong}");
    assert!(storage.session("a", &id).is_err(), "thrown away");
    for begun in [Algorithm::Sha256, Algorithm::Sha512] {
        let (_, mut session) = storage.begin("a", begun).unwrap();
        session.write(b"x").unwrap();
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"x");
        let digest = hasher.finish();
        storage.finish("a", session, &digest).unwrap();
        assert_eq!(storage.stat("a", &digest).unwrap(), Some(1));
    }
}

#[test]
fn manifests_tags_and_referrers() {
    let folder = Folder::new();
    let storage = folder.storage();
    let config = push(&storage, "a", b"{}");
    let bytes = image(&config, &[], None);
    let digest = put(&storage, "a", &bytes, &["one", "two"]);
    let elsewhere = storage.put_manifest("b", &digest, &bytes, &Manifest::parse("", &bytes).unwrap(), &[]);
    assert!(matches!(elsewhere, Err(Error::Refused(Refusal { code: Code::ManifestBlobUnknown, .. }))));
    assert_eq!(storage.tag("a", "two").unwrap(), Some(digest.clone()));
    assert_eq!(storage.tags("a").unwrap().unwrap(), ["one", "two"]);
    assert_eq!(storage.tags("none").unwrap(), None);
    assert_eq!(storage.manifest("a", &digest).unwrap().unwrap().bytes, bytes);
    let signature = put(&storage, "a", &image(&config, &[], Some(&digest)), &[]);
    let found = storage.referrers("a", &digest).unwrap();
    assert_eq!(found.iter().map(|found| &found.digest).collect::<Vec<_>>(), [&signature]);
    assert!(storage.delete_manifest("a", &signature).unwrap());
    assert!(storage.referrers("a", &digest).unwrap().is_empty());
    assert!(storage.delete_tag("a", "one").unwrap() && !storage.delete_tag("a", "one").unwrap());
    assert!(storage.delete_manifest("a", &digest).unwrap());
    assert_eq!(storage.tags("a").unwrap().unwrap(), [""; 0]);
    assert!(!storage.delete_manifest("a", &digest).unwrap());
}

#[test]
fn what_is_damaged_is_not_given_out() {
    let folder = Folder::new();
    let storage = folder.storage();
    let config = push(&storage, "a", b"{}");
    let digest = put(&storage, "a", &image(&config, &[], None), &["t"]);
    assert_eq!(storage.damaged().unwrap(), []);
    std::fs::write(storage.blob_path(&digest), b"{}").unwrap();
    assert!(matches!(storage.manifest("a", &digest), Err(Error::Damaged(_))));
    assert_eq!(storage.damaged().unwrap(), std::slice::from_ref(&digest));
    assert!(storage.delete_manifest("a", &digest).unwrap());
}

#[test]
fn garbage_goes_and_nothing_else() {
    let folder = Folder::new();
    let storage = folder.storage();
    let (config, layer, lost) =
        (push(&storage, "a", b"{}"), push(&storage, "a", b"layer"), push(&storage, "b/c", b"lost"));
    let tagged = put(&storage, "a", &image(&config, &[layer], None), &["t"]);
    let untagged = put(&storage, "a", &image(&config, &[], None), &[]);
    let signature = put(&storage, "a", &image(&config, &[], Some(&tagged)), &[]);
    let all = Options { grace: Duration::ZERO, untagged: true, dry_run: false };
    // Nothing is old enough.
    assert_eq!(storage.collect(Options { grace: Duration::from_secs(60), ..all }).unwrap().blobs, []);
    assert_eq!(storage.manifest("a", &untagged).unwrap().map(|_| ()), None, "its link goes at once");
    std::thread::sleep(Duration::from_millis(100));
    let plan = storage.collect(Options { dry_run: true, ..all }).unwrap();
    let mut expected = vec![lost.clone(), untagged.clone()];
    expected.sort();
    let mut found = plan.blobs;
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(storage.stat("b/c", &lost).unwrap(), Some(4), "a dry run deletes nothing");
    // It was young when somebody asked, so it was not touched again.
    assert_eq!(storage.collect(all).unwrap().blobs.len(), 2);
    assert_eq!(storage.stat("b/c", &lost).unwrap(), None);
    assert_eq!(storage.layers("b/c").unwrap(), []);
    assert!(storage.manifest("a", &signature).unwrap().is_some());
    assert_eq!(storage.collect(all).unwrap().marked, 4);
}

#[test]
fn a_reference_added_meanwhile_keeps_its_content() {
    let folder = Folder::new();
    let storage = folder.storage();
    let config = push(&storage, "a", b"{}");
    std::thread::sleep(Duration::from_millis(100));
    let before = SystemTime::now() - Duration::from_millis(50);
    // Between mark and sweep somebody pushes a manifest.
    put(&storage, "a", &image(&config, &[], None), &["t"]);
    assert_eq!(storage.sweep_one(&config, before).unwrap(), None);
    assert_eq!(storage.stat("a", &config).unwrap(), Some(2));
}

#[test]
fn old_uploads_are_purged() {
    let folder = Folder::new();
    let storage = folder.storage();
    let (_, busy) = storage.begin("a/b", Algorithm::Sha256).unwrap();
    let (id, idle) = storage.begin("a/b", Algorithm::Sha256).unwrap();
    drop(idle);
    assert_eq!(storage.purge_uploads(Duration::from_secs(60), false).unwrap().len(), 0);
    assert_eq!(storage.purge_uploads(Duration::ZERO, true).unwrap().len(), 1);
    assert_eq!(storage.purge_uploads(Duration::ZERO, false).unwrap().len(), 1);
    assert!(storage.session("a/b", &id).is_err());
    storage.cancel(busy).unwrap();
}

#[test]
fn another_registry_s_folder_is_understood() {
    let folder = Folder::new();
    let base = folder.0.join("docker/registry/v2");
    let bytes = b"content";
    let digest = Digest::sha256_of(bytes);
    let blob = base.join(format!("blobs/sha256/{}/{}", digest.hex().get(..2).unwrap(), digest.hex()));
    std::fs::create_dir_all(&blob).unwrap();
    std::fs::write(blob.join("data"), bytes).unwrap();
    let link = base.join(format!("repositories/x/y/_layers/sha256/{}", digest.hex()));
    std::fs::create_dir_all(&link).unwrap();
    std::fs::write(link.join("link"), digest.to_string()).unwrap();
    let storage = folder.storage();
    assert_eq!(storage.stat("x/y", &digest).unwrap(), Some(7));
    let reader = Storage::open(&folder.0, true).unwrap();
    assert!(reader.open_blob("x/y", &digest).unwrap().is_some());
}
