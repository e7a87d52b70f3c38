//! Headers of registries: challenges, links, ranges and locations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        distribution::judge::header(text);
    }
});
