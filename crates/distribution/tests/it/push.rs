//! The push side.

use crate::registry::{Login, Registry, Reply};
use base::{Classify, Kind};
use bytes::Bytes;
use distribution::{Access, Client, Credentials, Error, Repository, Settings, Source};
use oci::{Descriptor, Digest, Reference, media_type};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn at(registry: &Registry, reference: &str, password: &str) -> Repository {
    let settings = Settings {
        first_delay: Duration::from_millis(1),
        stall: Duration::from_millis(500),
        certs_dirs: Vec::new(),
        ..Settings::default()
    };
    let reference = Reference::parse_normalized(&format!("{}/{reference}", registry.host())).unwrap();
    let username = if password.is_empty() { "" } else { "ann" };
    let credentials =
        Credentials { username: username.into(), password: password.into(), ..Credentials::default() };
    Client::new(settings).repository(&reference, &credentials, Access::Push)
}

fn source(bytes: &[u8]) -> Source {
    let bytes = bytes.to_vec();
    Arc::new(move |offset| {
        let mut cursor = std::io::Cursor::new(bytes.clone());
        cursor.set_position(offset);
        Ok(Box::new(cursor))
    })
}

async fn upload(repository: &Repository, bytes: &[u8]) -> Result<u64, Error> {
    let sent = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&sent);
    let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
    let progress = Arc::new(move |now| seen.store(now, Ordering::SeqCst));
    repository.upload(&descriptor, source(bytes), progress).await?;
    Ok(sent.load(Ordering::SeqCst))
}

#[tokio::test]
async fn blobs_and_manifests_arrive() {
    let bearer = Login::Bearer { user: "ann".into(), password: "pw".into(), anonymous: false };
    let basic = Login::Basic { user: "ann".into(), password: "pw".into() };
    for login in [Login::Open, basic, bearer] {
        let registry = Registry::start();
        registry.login(login);
        let repository = at(&registry, "app:v1", "pw");
        let bytes = vec![7; 1_000_000];
        let digest = Digest::sha256_of(&bytes);
        assert!(!repository.has_blob(&digest).await.unwrap());
        assert_eq!(upload(&repository, &bytes).await.unwrap(), 1_000_000);
        assert!(repository.has_blob(&digest).await.unwrap());
        assert!(registry.blob(&digest).is_some_and(|blob| blob == bytes));
        let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let put = repository
            .put_manifest("v1", media_type::OCI_MANIFEST, Bytes::from_static(manifest))
            .await
            .unwrap();
        assert_eq!(put, Descriptor::of(media_type::OCI_MANIFEST, manifest));
        assert!(repository.has_manifest(&put.digest).await.unwrap());
        assert_eq!(
            registry.manifest("app", "v1"),
            Some((media_type::OCI_MANIFEST.to_owned(), manifest.to_vec()))
        );
    }
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = Registry::start();
    assert_eq!(upload(&at(&registry, "app:v1", ""), b"").await.unwrap(), 0);
    assert_eq!(registry.blob(&Digest::sha256_of(b"")), Some(Vec::new()));
}

#[tokio::test]
async fn mounts_save_the_upload() {
    let registry = Registry::start();
    registry.login(Login::Bearer { user: "ann".into(), password: "pw".into(), anonymous: false });
    let digest = registry.put_blob(b"layer");
    let repository = at(&registry, "app:v1", "pw");
    assert!(repository.mount(&digest, "base").await.unwrap());
    assert!(!repository.mount(&Digest::sha256_of(b"other"), "base").await.unwrap());
    let asked: Vec<_> = registry.log().iter().filter(|request| request.path() == "/token").cloned().collect();
    assert!(asked.iter().any(|request| request.target.contains("repository%3Abase%3Apull")), "{asked:?}");
}

#[tokio::test]
async fn broken_uploads_start_again() {
    let registry = Registry::start();
    let tries = AtomicUsize::new(0);
    registry.fault(move |request| {
        let broken = request.method == "PUT" && tries.fetch_add(1, Ordering::SeqCst) < 2;
        broken.then(|| Reply::error(500, "UNKNOWN", "disk on fire"))
    });
    upload(&at(&registry, "app:v1", ""), &vec![1; 3 << 20]).await.unwrap();
    assert_eq!(registry.log().iter().filter(|request| request.method == "POST").count(), 3);
}

/// Two connections break in the middle; no byte that had arrived goes a second time.
#[tokio::test]
async fn broken_uploads_go_on_where_they_broke() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
    for login in [Login::Open, Login::Bearer { user: "ann".into(), password: "pw".into(), anonymous: false }]
    {
        let registry = Registry::start();
        registry.login(login);
        registry.break_uploads(&[1_000_000, 500_000]);
        upload(&at(&registry, "app:v1", "pw"), &bytes).await.unwrap();
        assert!(registry.blob(&Digest::sha256_of(&bytes)).is_some_and(|blob| blob == bytes));
        let log = registry.log();
        let ranges: Vec<_> = log
            .iter()
            .filter(|request| request.method == "PATCH")
            .map(|request| request.header("content-range"))
            .collect();
        assert_eq!(ranges, ["1000000-2999999", "1500000-2999999"]);
        let begun = log.iter().filter(|request| request.method == "POST" && request.path() != "/token");
        assert!(begun.count() <= 2, "only a challenge begins it twice");
        let last = log.iter().rfind(|request| request.method == "PUT").unwrap();
        assert!(last.body.is_empty());
    }
}

/// A registry that forgets unfinished uploads gets them from the beginning.
#[tokio::test]
async fn lost_uploads_start_again() {
    let registry = Registry::start();
    registry.break_uploads(&[1_000_000]);
    registry.fault(|request| {
        let asked = request.method == "GET" && request.path().contains("/uploads/");
        asked.then(|| Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"))
    });
    upload(&at(&registry, "app:v1", ""), &vec![1; 2_000_000]).await.unwrap();
    assert_eq!(registry.log().iter().filter(|request| request.method == "POST").count(), 2);
}

#[tokio::test]
async fn refusals_are_the_registrys() {
    let registry = Registry::start();
    registry.fault(|_| Some(Reply::error(403, "DENIED", "requested access to the resource is denied")));
    let error = upload(&at(&registry, "app:v1", ""), b"x").await.unwrap_err();
    assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
    assert_eq!(error.kind(), Kind::Forbidden);
    let registry = Registry::start();
    registry.login(Login::Basic { user: "ann".into(), password: "pw".into() });
    let error = upload(&at(&registry, "app:v1", ""), b"x").await.unwrap_err();
    assert!(error.to_string().ends_with("\": no basic auth credentials"), "{error}");
    let repository = at(&registry, "app:v1", "pw");
    let wrong =
        Descriptor { digest: Digest::sha256_of(b"other"), ..Descriptor::of(media_type::OCI_LAYER, b"x") };
    let error = repository.upload(&wrong, source(b"x"), Arc::new(|_| ())).await.unwrap_err();
    assert_eq!(error.to_string(), "digest invalid: provided digest did not match uploaded content");
}

#[tokio::test]
async fn a_source_that_fails_is_the_error() {
    let registry = Registry::start();
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let source: Source = Arc::new(move |_| {
        *counted.lock().unwrap() += 1;
        Err(std::io::Error::other("gone"))
    });
    let descriptor = Descriptor::of(media_type::OCI_LAYER, b"x");
    let error = at(&registry, "app:v1", "").upload(&descriptor, source, Arc::new(|_| ())).await.unwrap_err();
    assert_eq!(base::chain(&error), "read content to upload: gone");
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[tokio::test]
async fn logins_are_checked() {
    let client = Client::new(Settings { certs_dirs: Vec::new(), ..Settings::default() });
    let user = |password: &str| Credentials {
        username: "ann".into(),
        password: password.into(),
        ..Credentials::default()
    };
    let registry = Registry::start();
    registry.login(Login::Basic { user: "ann".into(), password: "pw".into() });
    let url = format!("http://{}", registry.host());
    client.login(&url, &user("pw")).await.unwrap();
    let error = client.login(&url, &user("no")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("login attempt to {url}/v2/ failed with status: 401 Unauthorized"));
    assert_eq!(error.kind(), Kind::Unauthorized);
    registry.login(Login::Bearer { user: "ann".into(), password: "pw".into(), anonymous: false });
    client.login(&url, &user("pw")).await.unwrap();
    let error = client.login(&url, &user("no")).await.unwrap_err();
    assert!(error.to_string().ends_with("unauthorized: incorrect username or password"), "{error}");
}
