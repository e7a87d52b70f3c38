//! Documents and references with some bytes changed: whatever comes of them, nothing panics, and what was understood is
//! written so that it is understood again.

use crate::{Document, ImageConfig, Index, Manifest, Platform, Reference, media_type};

const ROUNDS: usize = 20_000;

/// Numbers that follow from a seed.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end.max(1)
    }
}

/// Changes some bytes of one of `seeds`; `words` are put in at times.
fn mutated(seeds: &[&str], words: &[&str], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = seeds[noise.below(seeds.len())].as_bytes().to_vec();
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len() + 1);
        match noise.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + noise.below(10)).min(bytes.len()))),
            2 => {
                let piece: Vec<u8> = bytes[at..].iter().take(noise.below(60)).copied().collect();
                drop(bytes.splice(at..at, piece));
            }
            3 => drop(bytes.splice(at..at, words[noise.below(words.len())].bytes())),
            _ => bytes.insert(at, u8::try_from(noise.below(256)).unwrap()),
        }
    }
    bytes
}

/// The seed: that of the environment variable `SEED`, which a failure prints.
fn noise() -> Noise {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("SEED={seed}");
    Noise(seed)
}

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
    let mut noise = noise();
    for round in 0..ROUNDS {
        let bytes = mutated(&[&manifest, &index, config], &words, &mut noise);
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
    let mut noise = noise();
    for _ in 0..ROUNDS {
        let bytes = mutated(&seeds, &words, &mut noise);
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
