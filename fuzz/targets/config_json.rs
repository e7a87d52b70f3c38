//! A runtime's config.json: taken, or refused with its place.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    runtime::measure::judge(bytes);
});
