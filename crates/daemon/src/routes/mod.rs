//! Every route of the API, by resource. A handler gets the services it needs and a [`Call`], and turns what the
//! engine says into an answer; it decides nothing itself.

mod absent;
mod archive;
mod build;
mod checkpoint;
mod commit;
mod container;
mod debug;
mod exec;
mod image;
mod manifest;
mod network;
mod progress;
mod stats;
mod streams;
mod system;
mod volume;

use crate::config::Config;
use crate::http::Failure;
use crate::http::router::Route;
use crate::http::serve::Handler;
use api::ApiVersion;
use base::{Kind, Timestamp};
use engine::Engine;
use engine::system::HostInfo;
use http::Method;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot, watch};

/// What handlers work with.
#[derive(Debug)]
pub(crate) struct Services {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The host.
    pub host: Arc<HostInfo>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Takes requests to read the configuration again.
    pub reloads: mpsc::Sender<ReloadRequest>,
}

/// Is told what a reload changed, or why there was none.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Vec<&'static str>, String>>;

/// Runs what may block on a thread that may.
///
/// It goes on to its end even if the client goes away meanwhile: half an operation is worse than one too many.
///
/// # Errors
///
/// What `work` returns, or that it panicked.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Send + 'static,
    Failure: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(error) => Err(Failure::new(Kind::Internal, format!("the request failed: {error}"))),
    }
}

/// What time it is.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

fn route(method: Method, pattern: &'static str, handler: Handler<Services>) -> Route<Handler<Services>> {
    Route { method, pattern, since: ApiVersion::MIN, handler }
}

/// Returns every route.
pub(crate) fn all() -> Vec<Route<Handler<Services>>> {
    let mut all = Vec::new();
    all.extend(system::routes());
    // Before the names of containers, which may have slashes.
    all.extend(checkpoint::routes());
    all.extend(container::routes());
    all.extend(streams::routes());
    all.extend(archive::routes());
    all.extend(build::routes());
    all.extend(commit::routes());
    all.extend(stats::routes());
    all.extend(exec::routes());
    all.extend(image::routes());
    all.extend(manifest::routes());
    all.extend(network::routes());
    all.extend(volume::routes());
    all.extend(debug::routes());
    all.extend(absent::routes());
    all
}
