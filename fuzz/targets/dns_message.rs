//! Questions and answers of the resolver.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| network::judge::dns(bytes));
