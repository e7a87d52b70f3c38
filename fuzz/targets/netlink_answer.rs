//! Answers of the kernel about links, addresses, routes, flows and rules.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| network::judge::netlink(bytes));
