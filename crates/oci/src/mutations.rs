//! Documents and references with some bytes changed: whatever comes of them, nothing panics, and what was understood is
//! written so that it is understood again.

use crate::{Document, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use testkit::Random;

const ROUNDS: usize = 20_000;

#[test]
fn documents() {
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let descriptor = |kind: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":7,"annotations":{{"a":"b"}}}}"#)
    };
    let layer = descriptor(media_type::OCI_LAYER);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{layer},{layer}],"subject":{layer}}}"#,
        media_type::OCI_MANIFEST,
        descriptor(media_type::OCI_CONFIG)
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media_type::OCI_INDEX,
        descriptor(media_type::OCI_MANIFEST)
            .replace("\"size\"", r#""platform":{"os":"linux","architecture":"arm"},"size""#)
    );
    let config = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{"Env":["A=b"],"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}},"Volumes":null,"Healthcheck":{"Test":["NONE"],"Interval":5}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"x","empty_layer":true}]}"#;
    let words = [
        "null",
        "{}",
        "[",
        "]",
        "}",
        "\"\"",
        "-1",
        "1e999",
        "18446744073709551616",
        "\\u0000",
        DIGEST,
        "sha512:",
        ",",
    ];
    let mut random = Random::of_environment();
    for round in 0..ROUNDS {
        let bytes = random.changed(&[manifest.as_bytes(), index.as_bytes(), config.as_bytes()], &words);
        for announced in [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, ""] {
            if let Ok(document) = Document::parse(announced, &bytes) {
                let again = match &document {
                    Document::Manifest(manifest) => {
                        let text = serde_json::to_vec(manifest).unwrap();
                        serde_json::from_slice::<Manifest>(&text).is_ok_and(|again| again == **manifest)
                    }
                    Document::Index(index) => {
                        let chosen = index.choose(&Platform::host());
                        assert!(chosen.is_none_or(|one| index.manifests.contains(one)));
                        let text = serde_json::to_vec(index).unwrap();
                        serde_json::from_slice::<Index>(&text).is_ok_and(|again| again == **index)
                    }
                };
                assert!(again, "round {round}: {:?}", String::from_utf8_lossy(&bytes));
            }
        }
        if let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes) {
            let text = serde_json::to_vec(&config).unwrap();
            assert!(serde_json::from_slice::<ImageConfig>(&text).is_ok(), "round {round}");
        }
    }
}

#[test]
fn references_and_platforms() {
    let seeds = [
        "busybox",
        "registry.example:5000/some/deep/name:tag-1.2_3",
        "[::1]:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "docker.io/library/a__b:v1",
        "localhost/x",
        "linux/arm/v7",
    ];
    let words = ["/", ":", "@", "sha256:", "..", "//", "index.docker.io", "A", "-", "é", "\0", ":0", "%2f"];
    let mut random = Random::of_environment();
    for _ in 0..ROUNDS {
        let bytes = random.changed(&seeds.map(str::as_bytes), &words);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(reference) = Reference::parse_normalized(&text) {
            let shown = reference.to_string();
            assert_eq!(Reference::parse_normalized(&shown).as_ref(), Ok(&reference), "{text:?}");
            // Docker's short form of `docker.io/host.example/name` means something else, to Docker as well.
            let first = reference.path().split('/').next().unwrap_or_default();
            if !first.contains(['.', ':']) && first != "localhost" {
                let familiar = reference.familiar();
                assert_eq!(Reference::parse_normalized(&familiar).as_ref(), Ok(&reference), "{text:?}");
            }
            // Names become paths.
            assert!(!reference.path().split('/').any(|part| matches!(part, "" | "." | "..")), "{text:?}");
        }
        if let Ok(platform) = Platform::parse(&text) {
            assert_eq!(platform.normalised(), platform.normalised().normalised(), "{text:?}");
        }
    }
}
