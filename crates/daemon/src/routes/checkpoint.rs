//! Checkpoints of containers.

use super::{Services, blocking, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use api::checkpoint::{CreateRequest, Summary};
use engine::Engine;
use engine::container::CheckpointName;
use http::{Method, StatusCode};
use std::sync::Arc;

const ALL: &str = "/containers/{name}/checkpoints";
const ONE: &str = "/containers/{name}/checkpoints/{checkpoint}";

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, ALL, |s, call| Box::pin(list(Arc::clone(&s.engine), call))),
        route(Method::POST, ALL, |s, call| Box::pin(create(Arc::clone(&s.engine), call))),
        route(Method::DELETE, ONE, |s, call| Box::pin(remove(Arc::clone(&s.engine), call))),
    ]
}

async fn list(engine: Arc<Engine>, call: Call) -> Answer {
    let names = blocking(move || {
        let folder = call.query.some("dir").unwrap_or_default();
        engine.containers.checkpoints(call.name(), folder).map_err(Failure::from)
    });
    let summaries: Vec<Summary> = names.await?.into_iter().map(|name| Summary { name }).collect();
    Ok(body::ok(&summaries))
}

async fn create(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: CreateRequest = call.json().await?;
    let made = blocking(move || {
        let wanted = CheckpointName { name: &request.name, folder: &request.folder };
        engine.containers.checkpoint(call.name(), wanted, !request.exit).map_err(Failure::from)
    });
    made.await?;
    Ok(body::empty(StatusCode::CREATED))
}

async fn remove(engine: Arc<Engine>, call: Call) -> Answer {
    let removed = blocking(move || {
        let folder = call.query.some("dir").unwrap_or_default();
        let wanted = CheckpointName { name: call.parameter("checkpoint"), folder };
        engine.containers.remove_checkpoint(call.name(), wanted).map_err(Failure::from)
    });
    removed.await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}
