//! Volumes.

use super::{Services, blocking, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::volume as view;
use api::Filters;
use api::volume::{CreateRequest, ListResponse, PruneResponse, UsageData};
use engine::Engine;
use engine::volume::Volume;
use http::{Method, StatusCode};
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/volumes", |s, call| Box::pin(list(Arc::clone(&s.engine), call))),
        route(Method::POST, "/volumes/create", |s, call| Box::pin(create(Arc::clone(&s.engine), call))),
        route(Method::POST, "/volumes/prune", |s, call| Box::pin(prune(Arc::clone(&s.engine), call))),
        route(Method::GET, "/volumes/{name}", |s, call| Box::pin(inspect(Arc::clone(&s.engine), call))),
        route(Method::DELETE, "/volumes/{name}", |s, call| Box::pin(remove(Arc::clone(&s.engine), call))),
    ]
}

/// Returns the API's document, with how big a volume is and how many containers refer to it.
pub(super) fn with_usage(engine: &Engine, volume: &Arc<Volume>) -> api::volume::Volume {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let size = number(engine.volumes.usage(&volume.name));
    let ref_count = engine.volumes.users(&volume.name).len();
    let usage = UsageData { ref_count: i64::try_from(ref_count).unwrap_or(i64::MAX), size };
    api::volume::Volume { usage_data: Some(usage), ..view::volume(&engine.volumes.view(volume)) }
}

async fn list(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let answer = blocking(move || {
        let (views, warnings) = engine.volumes.views();
        let in_use = |volume: &Volume| !engine.volumes.users(&volume.name).is_empty();
        let volumes = view::select(views, &filters, in_use)?.iter().map(view::volume).collect();
        let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
        Ok::<_, Failure>(ListResponse { volumes: Some(volumes), warnings })
    });
    Ok(body::ok(&answer.await?))
}

async fn inspect(engine: Arc<Engine>, call: Call) -> Answer {
    let volume = blocking(move || Ok::<_, Failure>(view::volume(&engine.volumes.inspect(call.name())?)));
    Ok(body::ok(&volume.await?))
}

async fn create(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: CreateRequest = call.json().await?;
    let answer = blocking(move || {
        let (volume, _new) = engine.volumes.create(&request)?;
        Ok::<_, Failure>(view::volume(&engine.volumes.view(&volume)))
    });
    Ok(body::json(StatusCode::CREATED, &answer.await?))
}

async fn remove(engine: Arc<Engine>, call: Call) -> Answer {
    blocking(move || engine.volumes.remove(call.name(), call.query.flag("force"))).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

async fn prune(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let invalid = |error: api::filters::InvalidFilter| Failure::invalid(error.to_string());
    filters.validate(&["all", "label", "label!"]).map_err(invalid)?;
    // Before 1.42 volumes with names were pruned as well.
    let all = filters.boolean("all").map_err(invalid)?.unwrap_or(!call.at_least(42));
    let (deleted, reclaimed) = blocking(move || {
        let wanted = |volume: &Volume| (all || volume.is_anonymous()) && labelled(&filters, volume);
        engine.volumes.prune(wanted)
    })
    .await?;
    let deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
    Ok(body::ok(&PruneResponse { volumes_deleted: deleted, space_reclaimed: reclaimed }))
}

fn labelled(filters: &Filters, volume: &Volume) -> bool {
    filters.labels("label", &volume.labels)
        && !(filters.contains("label!") && filters.labels("label!", &volume.labels))
}
