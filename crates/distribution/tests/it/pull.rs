//! The pull side against a registry that behaves, and one that does not.

use crate::registry::{Login, Registry, Reply};
use base::{Classify, Kind};
use distribution::{Access, Client, Credentials, Error, Mirror, Repository, Settings};
use oci::{Descriptor, Digest, Reference, media_type};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn settings() -> Settings {
    Settings {
        first_delay: Duration::from_millis(1),
        stall: Duration::from_millis(500),
        certs_dirs: Vec::new(),
        ..Settings::default()
    }
}

fn at(registry: &Registry, reference: &str, credentials: &Credentials) -> Repository {
    let reference = Reference::parse_normalized(&format!("{}/{reference}", registry.host())).unwrap();
    Client::new(settings()).repository(&reference, credentials, Access::Pull)
}

fn user(password: &str) -> Credentials {
    Credentials { username: "ann".into(), password: password.into(), ..Credentials::default() }
}

/// 3 MiB that do not repeat soon.
fn content() -> Vec<u8> {
    (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn manifest_of(layer: &Descriptor) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    serde_json::to_vec(&oci::Manifest::new(config, vec![layer.clone()])).unwrap()
}

/// A registry with repository `app:v1` of one layer.
fn with_app() -> (Registry, Descriptor, Vec<u8>) {
    let registry = Registry::start();
    let bytes = content();
    let layer = Descriptor::new(media_type::OCI_LAYER, registry.put_blob(&bytes), bytes.len() as u64);
    registry.put_manifest("app", "v1", media_type::OCI_MANIFEST, &manifest_of(&layer));
    (registry, layer, bytes)
}

async fn read(repository: &Repository, layer: &Descriptor, offset: u64) -> Result<Vec<u8>, Error> {
    let mut blob = repository.blob(layer, offset);
    let mut all = Vec::new();
    while let Some(chunk) = blob.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(blob.offset(), layer.size);
    Ok(all)
}

#[tokio::test]
async fn manifests_and_blobs_come_as_they_are() {
    let (registry, layer, bytes) = with_app();
    let repository = at(&registry, "app:v1", &Credentials::default());
    let fetched = repository.resolve().await.unwrap();
    assert_eq!(fetched.bytes, manifest_of(&layer));
    assert_eq!(fetched.descriptor, Descriptor::of(media_type::OCI_MANIFEST, &fetched.bytes));
    assert_eq!(repository.head().await.unwrap(), Some(fetched.descriptor.clone()));
    assert_eq!(repository.manifest(&fetched.descriptor).await.unwrap().bytes, fetched.bytes);
    let by_digest = at(&registry, &format!("app@{}", fetched.descriptor.digest), &Credentials::default());
    assert_eq!(by_digest.resolve().await.unwrap().bytes, fetched.bytes);
    assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
    assert!(read(&repository, &layer, 1_000_000).await.unwrap() == bytes[1_000_000..]);
    assert_eq!(repository.tags().await.unwrap(), ["v1"]);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_dockers_words() {
    let (registry, layer, _) = with_app();
    let host = registry.host();
    let error = at(&registry, "app:v2", &Credentials::default()).resolve().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/app:v2 not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.kind(), Kind::NotFound);
    let missing = Descriptor::new(media_type::OCI_LAYER, Digest::sha256_of(b"?"), 1);
    let repository = at(&registry, "app:v1", &Credentials::default());
    let error = read(&repository, &missing, 0).await.unwrap_err();
    assert_eq!(error.to_string(), "blob unknown: blob unknown to registry");
    registry.fault(|_| Some(Reply::error(403, "DENIED", "requested access to the resource is denied")));
    let error = repository.resolve().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "pull access denied for {host}/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        )
    );
    assert_eq!(error.kind(), Kind::NotFound);
    drop(registry);
    let error = read(&repository, &layer, 0).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().ends_with(&format!("dial tcp {host}: connect: connection refused")), "{error}");
}

#[tokio::test]
async fn a_name_without_address_is_unavailable() {
    let reference = Reference::parse_normalized("no-such-host.invalid/app:v1").unwrap();
    let error =
        Client::new(settings()).repository(&reference, &Credentials::default(), Access::Pull).resolve().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(
        error.to_string(),
        "Get \"https://no-such-host.invalid/v2/app/manifests/v1\": dial tcp: lookup no-such-host.invalid: no such host"
    );
}

#[tokio::test]
async fn broken_transfers_go_on_where_they_broke() {
    for ranges in [true, false] {
        let (registry, layer, bytes) = with_app();
        if !ranges {
            registry.without_ranges();
        }
        let served = bytes.clone();
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        registry.fault(move |request| {
            if !request.path().contains("/blobs/") {
                return None;
            }
            let start = request
                .header("range")
                .trim_start_matches("bytes=")
                .split('-')
                .next()
                .unwrap()
                .parse()
                .unwrap_or(0);
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Some(Reply::new(200, served.clone()).cut(1_000_000)),
                1 => Some(Reply::error(503, "UNAVAILABLE", "later")),
                2 => Some(Reply { announced: Some(served.len()), ..Reply::new(200, "").cut(0) }),
                3 if ranges => {
                    let total = served.len();
                    let range = format!("bytes {start}-{}/{total}", total - 1);
                    Some(Reply::new(206, &served[start..]).header("content-range", range).cut(1_500_000))
                }
                _ => None,
            }
        });
        let repository = at(&registry, "app:v1", &Credentials::default());
        assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
        assert_eq!(tries.load(Ordering::SeqCst), if ranges { 5 } else { 4 });
    }
}

#[tokio::test]
async fn silence_is_a_failure_like_any_other() {
    let (registry, layer, bytes) = with_app();
    let first = AtomicUsize::new(0);
    registry.fault(move |request| {
        let slow = request.path().contains("/blobs/") && first.fetch_add(1, Ordering::SeqCst) == 0;
        slow.then(|| Reply { delay: Duration::from_secs(2), ..Reply::new(200, "") })
    });
    let repository = at(&registry, "app:v1", &Credentials::default());
    assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
    registry.fault(|_| Some(Reply { delay: Duration::from_secs(2), ..Reply::new(200, "") }));
    let once = Client::new(Settings { attempts: 1, ..settings() });
    let error = once
        .repository(repository.reference(), &Credentials::default(), Access::Pull)
        .resolve()
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("timeout: nothing received for 500ms"), "{error}");
}

#[tokio::test]
async fn sizes_that_do_not_fit_are_refused() {
    let (registry, layer, bytes) = with_app();
    let repository = at(&registry, "app:v1", &Credentials::default());
    for (size, text) in [(layer.size - 1, "another size"), (layer.size + 1, "another size")] {
        let wrong = Descriptor { size, ..layer.clone() };
        let error = read(&repository, &wrong, 0).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    // Chunked answers announce nothing.
    let served = bytes.clone();
    registry.fault(move |request| {
        if !request.path().contains("/blobs/") {
            return None;
        }
        let mut body = format!("{:x}\r\n", served.len()).into_bytes();
        body.extend_from_slice(&served);
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        Some(Reply::new(200, body).header("transfer-encoding", "chunked"))
    });
    assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
    let shorter = Descriptor { size: layer.size - 1, ..layer.clone() };
    assert!(read(&repository, &shorter, 0).await.unwrap_err().to_string().contains("more bytes"));
    let longer = Descriptor { size: layer.size + 1, ..layer.clone() };
    assert!(read(&repository, &longer, 0).await.is_err());
    registry.fault(|_| Some(Reply::new(206, "abc").header("content-range", "bytes 0-2/3")));
    assert!(read(&repository, &layer, 7).await.unwrap_err().to_string().contains("another range"));
}

#[tokio::test]
async fn manifests_must_be_what_they_are_called() {
    let (registry, layer, _) = with_app();
    let digest = Digest::sha256_of(b"something else");
    let manifest = manifest_of(&layer);
    let served = manifest.clone();
    registry.fault(move |_| {
        Some(Reply::new(200, served.clone()).header("content-type", media_type::OCI_MANIFEST))
    });
    let error = at(&registry, &format!("app@{digest}"), &Credentials::default()).resolve().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "manifest verification failed for digest {digest}: content has digest {}",
            Digest::sha256_of(&manifest)
        )
    );
    let check = async |body: Vec<u8>, media_type: &'static str, text: &str| {
        registry.fault(move |_| Some(Reply::new(200, body.clone()).header("content-type", media_type)));
        let error = at(&registry, "app:v1", &Credentials::default()).resolve().await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    check(manifest.clone(), media_type::OCI_INDEX, "invalid answer").await;
    check(b"<html>".to_vec(), "text/html", "invalid answer").await;
    check(
        br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(),
        media_type::DOCKER_MANIFEST_V1,
        "unsupported manifest",
    )
    .await;
    check(vec![b' '; (4 << 20) + 1], media_type::OCI_MANIFEST, "larger than 4194304 bytes").await;
    // Old registries say "text/plain".
    let served = manifest.clone();
    registry.fault(move |_| {
        Some(Reply::new(200, served.clone()).header("content-type", "text/plain; charset=utf-8"))
    });
    let fetched = at(&registry, "app:v1", &Credentials::default()).resolve().await.unwrap();
    assert_eq!(fetched.descriptor.media_type, media_type::OCI_MANIFEST);
}

#[tokio::test]
async fn passwords_and_tokens_open_the_door() {
    let bearer = Login::Bearer { user: "ann".into(), password: "s3cret".into(), anonymous: false };
    let basic = Login::Basic { user: "ann".into(), password: "s3cret".into() };
    let refresh = Credentials { identity_token: "s3cret".into(), ..Credentials::default() };
    for (login, credentials) in
        [(basic, user("s3cret")), (bearer.clone(), user("s3cret")), (bearer.clone(), refresh)]
    {
        let (registry, layer, bytes) = with_app();
        registry.login(login);
        let repository = at(&registry, "app:v1", &credentials);
        repository.resolve().await.unwrap();
        assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
        // One 401, one token, and no more: blobs use what the manifest learnt.
        let refused =
            registry.log().iter().filter(|request| request.header("authorization").is_empty()).count();
        assert!(refused <= 2, "{:?}", registry.log());
        assert!(registry.log().iter().filter(|request| request.path() == "/token").count() <= 1);
    }
    let (registry, ..) = with_app();
    registry.login(bearer);
    let host = registry.host();
    let error = at(&registry, "app:v1", &Credentials::default()).resolve().await.unwrap_err();
    let denied =
        format!("pull access denied for {host}/app, repository does not exist or may require 'docker login'");
    assert!(error.to_string().starts_with(&denied), "{error}");
    let error = at(&registry, "app:v1", &user("wrong")).resolve().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().ends_with("/token\": unauthorized: incorrect username or password"), "{error}");
    assert!(registry.log().len() < 12, "a challenge is answered a limited number of times");
}

#[tokio::test]
async fn too_many_requests_are_spread_out() {
    let (registry, ..) = with_app();
    let tries = AtomicUsize::new(0);
    registry.fault(move |_| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| Reply::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", "1"))
    });
    let began = std::time::Instant::now();
    at(&registry, "app:v1", &Credentials::default()).resolve().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    registry.fault(|_| Some(Reply::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", "3600")));
    let error = at(&registry, "app:v1", &Credentials::default()).resolve().await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: slow down");
}

/// Refused for ever, with a password, with tokens that are good for nothing, and by a server that is out of order.
#[tokio::test]
async fn what_is_always_refused_is_given_up() {
    let basic = Login::Basic { user: "ann".into(), password: "s3cret".into() };
    let bearer = Login::Bearer { user: "ann".into(), password: "s3cret".into(), anonymous: true };
    for login in [basic, bearer] {
        for credentials in [Credentials::default(), user("s3cret")] {
            let (registry, layer, _) = with_app();
            registry.login(login.clone());
            let host = registry.host();
            let challenge = match login {
                Login::Bearer { .. } => format!("Bearer realm=\"http://{host}/token\",service=\"test\""),
                _ => "Basic realm=\"x\"".to_owned(),
            };
            registry.fault(move |request| {
                let again = Reply::error(401, "UNAUTHORIZED", "again").header("www-authenticate", &challenge);
                (request.path() != "/token").then_some(again)
            });
            let repository = at(&registry, "app:v1", &credentials);
            assert!(repository.resolve().await.is_err());
            assert!(read(&repository, &layer, 0).await.is_err());
            assert!(registry.log().len() < 16, "{:?}", registry.log());
        }
    }
    let (registry, layer, _) = with_app();
    registry.fault(|_| Some(Reply::error(502, "UNKNOWN", "bad gateway")));
    let repository = at(&registry, "app:v1", &Credentials::default());
    assert_eq!(repository.resolve().await.unwrap_err().kind(), Kind::Unavailable);
    assert!(read(&repository, &layer, 0).await.is_err());
    assert!(registry.log().len() < 24, "{}", registry.log().len());
}

#[tokio::test]
async fn credentials_do_not_follow_redirects() {
    let (registry, layer, bytes) = with_app();
    registry.login(Login::Basic { user: "ann".into(), password: "s3cret".into() });
    let other = Registry::start_at("127.0.0.2:0");
    let served = bytes.clone();
    other.fault(move |_| Some(Reply::new(200, served.clone())));
    let target = other.host();
    registry.fault(move |request| {
        let known = request.path().contains("/blobs/") && !request.header("authorization").is_empty();
        known.then(|| Reply::new(307, "").header("location", format!("http://{target}/x?signature=1")))
    });
    let repository = at(&registry, "app:v1", &user("s3cret"));
    assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
    let seen = other.log();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), "");
    // A challenge from there is not answered either.
    other.fault(|_| {
        Some(Reply::error(401, "UNAUTHORIZED", "give").header("www-authenticate", "Basic realm=\"x\""))
    });
    assert!(read(&repository, &layer, 0).await.is_err());
    assert!(other.log().iter().all(|request| request.header("authorization").is_empty()));
}

#[tokio::test]
async fn redirects_end() {
    let (registry, layer, _) = with_app();
    registry.fault(|_| Some(Reply::new(302, "").header("location", "/v2/again")));
    let repository = at(&registry, "app:v1", &Credentials::default());
    let error = read(&repository, &layer, 0).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert!(registry.log().len() <= 12);
}

#[tokio::test]
async fn mirrors_come_first_and_the_origin_is_the_last_resort() {
    let mirror = Registry::start();
    let bytes = content();
    let layer = Descriptor::new(media_type::OCI_LAYER, mirror.put_blob(&bytes), bytes.len() as u64);
    mirror.put_manifest("library/app", "v1", media_type::OCI_MANIFEST, &manifest_of(&layer));
    let empty = Registry::start();
    let reference = Reference::parse_normalized("app:v1").unwrap();
    let urls = [format!("http://{}", empty.host()), format!("http://{}/", mirror.host())];
    let mirrors = urls.map(|url| Mirror { registry: "docker.io".to_owned(), url }).to_vec();
    let client = Client::new(Settings { mirrors, ..settings() });
    let repository = client.repository(&reference, &user("s3cret"), Access::Pull);
    repository.resolve().await.unwrap();
    assert!(read(&repository, &layer, 0).await.unwrap() == bytes);
    assert_eq!(empty.log().len(), 1, "blobs are fetched where the manifest was");
    let all = [mirror.log(), empty.log()].concat();
    assert!(
        all.iter().all(|request| request.header("authorization").is_empty()),
        "mirrors see no credentials"
    );
}

#[tokio::test]
async fn a_dropped_transfer_ends() {
    let (registry, layer, bytes) = with_app();
    registry.fault(move |request| {
        request
            .path()
            .contains("/blobs/")
            .then(|| Reply { pace: Duration::from_millis(20), ..Reply::new(200, bytes.clone()) })
    });
    let repository = at(&registry, "app:v1", &Credentials::default());
    let outcome = tokio::time::timeout(Duration::from_millis(100), read(&repository, &layer, 0)).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn registries_behind_a_proxy_are_tunnelled_to() {
    let proxy = Registry::start();
    proxy.fault(|_| Some(Reply::new(403, "")));
    let proxies = distribution::Proxies {
        https: format!("http://ann:pw@{}", proxy.host()),
        no: "direct.invalid".into(),
        ..distribution::Proxies::default()
    };
    let client = Client::new(Settings { proxies, ..settings() });
    for (host, asked) in [("registry.invalid", 1), ("direct.invalid", 1)] {
        let reference = Reference::parse_normalized(&format!("{host}/app:v1")).unwrap();
        let error = client.repository(&reference, &user("s3cret"), Access::Pull).resolve().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert_eq!(proxy.log().len(), asked);
    }
    let request = proxy.log().remove(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", "registry.invalid:443"));
    assert_eq!(request.header("proxy-authorization"), "Basic YW5uOnB3");
    assert_eq!(request.header("authorization"), "");
}
