//! What the end-to-end tests stand on: private namespaces, an engine under test, tiny images, a registry.
//!
//! Everything a test starts lives in a network and a mount namespace of its own, below one scratch folder, and is
//! ended and looked for when the test drops it. Test code: a failure to set up is a panic with the reason.
#![expect(clippy::expect_used, reason = "test code: a failed set-up ends the test")]
#![expect(clippy::missing_panics_doc, reason = "every function here panics when the machine cannot do it")]

mod engine;
pub mod image;
mod namespaces;
mod registry;
mod scratch;

pub use engine::{Engine, Output};
pub use namespaces::Namespaces;
pub use registry::Registry;
pub use scratch::Scratch;

use std::time::{Duration, Instant};

/// Polls `probe` until it gives a value, and panics after `limit` saying `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
