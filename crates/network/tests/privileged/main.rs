//! What the kernel makes of our links, rules and sockets: tests that need root, each on a private host.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod endpoint;
mod firewall;
mod measure;
mod proxy;
mod support;
