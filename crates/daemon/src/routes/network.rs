//! Networks.

use super::{Services, blocking, now, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::container_list::until;
use crate::views::network as view;
use api::network::{ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, PruneResponse};
use base::Kind;
use engine::Engine;
use engine::network::record::Network;
use http::{Method, StatusCode};
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/networks", |s, call| Box::pin(list(Arc::clone(&s.engine), call))),
        route(Method::POST, "/networks/create", |s, call| Box::pin(create(Arc::clone(&s.engine), call))),
        route(Method::POST, "/networks/prune", |s, call| Box::pin(prune(Arc::clone(&s.engine), call))),
        route(Method::GET, "/networks/{name}", |s, call| Box::pin(inspect(Arc::clone(&s.engine), call))),
        route(Method::DELETE, "/networks/{name}", |s, call| Box::pin(remove(Arc::clone(&s.engine), call))),
        route(Method::POST, "/networks/{name}/connect", |s, call| {
            Box::pin(connect(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/networks/{name}/disconnect", |s, call| {
            Box::pin(disconnect(Arc::clone(&s.engine), call))
        }),
    ]
}

/// Says whether a container, running or not, is on a network.
fn in_use(engine: &Engine, network: &Network) -> bool {
    engine.containers.list().iter().any(|container| {
        container.state.is_alive()
            && container
                .endpoints
                .iter()
                .any(|(name, endpoint)| endpoint.network_id == network.id || *name == network.name)
    })
}

async fn list(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let networks = view::select(engine.networks.list(), &filters, |network| in_use(&engine, network))?;
    Ok(body::ok(&networks.iter().map(|network| view::network(network, &[])).collect::<Vec<_>>()))
}

async fn inspect(engine: Arc<Engine>, call: Call) -> Answer {
    let network = engine.networks.get(call.name())?;
    let scope = call.query.get("scope");
    if !scope.is_empty() && scope != view::scope(&network) {
        return Err(Failure::new(Kind::NotFound, format!("network {} not found", call.name())));
    }
    Ok(body::ok(&view::network(&network, &engine.containers.list())))
}

async fn create(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: CreateRequest = call.json().await?;
    let id = blocking(move || engine.networks.create(&request)).await?;
    Ok(body::json(StatusCode::CREATED, &CreateResponse { id, warning: String::new() }))
}

async fn remove(engine: Arc<Engine>, call: Call) -> Answer {
    blocking(move || engine.networks.remove(call.name())).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

async fn connect(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: ConnectRequest = call.json().await?;
    blocking(move || {
        let settings = request.endpoint_config.unwrap_or_default();
        engine.containers.connect_network(&request.container, call.name(), settings)
    })
    .await?;
    Ok(body::empty(StatusCode::OK))
}

async fn disconnect(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: DisconnectRequest = call.json().await?;
    blocking(move || engine.containers.disconnect_network(&request.container, call.name(), request.force))
        .await?;
    Ok(body::empty(StatusCode::OK))
}

async fn prune(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    filters.validate(&["label", "label!", "until"]).map_err(|error| Failure::invalid(error.to_string()))?;
    let until = until(&filters, now())?;
    let deleted = blocking(move || {
        engine.networks.prune(|network| {
            until.is_none_or(|until| network.created < until.as_nanos())
                && filters.labels("label", &network.labels)
                && !(filters.contains("label!") && filters.labels("label!", &network.labels))
        })
    })
    .await?;
    let deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
    Ok(body::ok(&PruneResponse { networks_deleted: deleted }))
}
