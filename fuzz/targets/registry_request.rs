//! Requests to the registry server: path, content type and manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::judge::request(bytes));
