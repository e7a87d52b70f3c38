//! The registry server: OCI distribution-spec 1.1 on a file system, configured as the well-known registry is.
//!
//! ```text
//! command line, config.yml, REGISTRY_… → Config         pure
//! socket → TLS → request → Route → auth → handler       serve
//!                                           └ Storage   blocking; what is acknowledged is on the disk
//! beside it: events to endpoints, health checks, metrics, old uploads, garbage, the pull-through cache's remote
//! ```
//!
//! It knows nothing of images beyond what manifests point to, and nothing of the engine: it is a role of its own.

mod auth;
mod command;
mod config;
mod error;
mod health;
pub mod judge;
mod metrics;
mod notify;
mod outward;
mod proxy;
mod route;
mod run;
mod serve;
mod storage;

use std::io::Write as _;
use std::process::ExitCode;

/// Carries out `wharf registry …`; `arguments` are those that follow.
pub fn main(arguments: &[String]) -> ExitCode {
    match command::run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // There is no other place to tell.
            drop(writeln!(std::io::stderr(), "wharf registry: {}", base::chain(&error)));
            ExitCode::FAILURE
        }
    }
}
