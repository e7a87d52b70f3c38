//! Manifests, indexes, configurations, references and platforms: what is understood is written so that it is understood again.
#![no_main]

use oci::{Document, ImageConfig, Platform, Reference, media_type};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for kind in [media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, ""] {
        drop(Document::parse(kind, bytes));
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let text = serde_json::to_vec(&config).expect("a configuration is written");
        serde_json::from_slice::<ImageConfig>(&text).expect("and read again");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse_normalized(text) {
        assert_eq!(Reference::parse_normalized(&reference.to_string()), Ok(reference));
    }
    drop(Platform::parse(text));
});
