//! Requests to the builder: the URL of a context, a flag of `RUN`, and the list of a context's files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| builder::judge::request(bytes));
