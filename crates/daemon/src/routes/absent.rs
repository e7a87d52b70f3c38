//! What a daemon that is in no swarm, has no plugins, and speaks no `BuildKit` answers.

use super::{Services, route};
use crate::http::router::Route;
use crate::http::serve::{Handler, Pending};
use crate::http::{Call, Failure, body};
use base::Kind;
use http::{Method, StatusCode};

const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                             connect this node to swarm and try again.";

/// Everything that only a swarm manager can do.
const OF_MANAGERS: &[(Method, &str)] = &[
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::GET, "/nodes"),
    (Method::GET, "/nodes/{name}"),
    (Method::DELETE, "/nodes/{name}"),
    (Method::POST, "/nodes/{name}/update"),
    (Method::GET, "/services"),
    (Method::POST, "/services/create"),
    (Method::GET, "/services/{name}"),
    (Method::DELETE, "/services/{name}"),
    (Method::POST, "/services/{name}/update"),
    (Method::GET, "/services/{name}/logs"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/{name}"),
    (Method::GET, "/tasks/{name}/logs"),
    (Method::GET, "/secrets"),
    (Method::POST, "/secrets/create"),
    (Method::GET, "/secrets/{name}"),
    (Method::DELETE, "/secrets/{name}"),
    (Method::POST, "/secrets/{name}/update"),
    (Method::GET, "/configs"),
    (Method::POST, "/configs/create"),
    (Method::GET, "/configs/{name}"),
    (Method::DELETE, "/configs/{name}"),
    (Method::POST, "/configs/{name}/update"),
    // Only volumes of a cluster can be changed.
    (Method::PUT, "/volumes/{name}"),
];

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    let mut routes: Vec<_> = OF_MANAGERS
        .iter()
        .map(|(method, pattern)| route(method.clone(), pattern, |_, _| manager()))
        .collect();
    routes.extend([
        route(Method::POST, "/swarm/leave", |_, _| {
            refused(Kind::Unavailable, "This node is not part of a swarm")
        }),
        route(Method::POST, "/swarm/unlock", |_, _| {
            refused(Kind::Conflict, "This node is not part of a swarm")
        }),
        route(Method::POST, "/swarm/init", |_, _| refused(Kind::NotImplemented, NO_SWARM)),
        route(Method::POST, "/swarm/join", |_, _| refused(Kind::NotImplemented, NO_SWARM)),
        route(Method::POST, "/session", |_, _| refused(Kind::NotImplemented, NO_BUILDKIT)),
        route(Method::OPTIONS, "/{any...}", |_, _| Box::pin(async { Ok(body::empty(StatusCode::OK)) })),
        route(Method::GET, "/plugins/privileges", |_, _| refused(Kind::NotImplemented, NO_PLUGINS)),
        route(Method::POST, "/plugins/pull", |_, _| refused(Kind::NotImplemented, NO_PLUGINS)),
        route(Method::POST, "/plugins/create", |_, _| refused(Kind::NotImplemented, NO_PLUGINS)),
        route(Method::GET, "/plugins", |_, _| Box::pin(async { Ok(body::ok(&[(); 0])) })),
        route(Method::GET, "/plugins/{name...}/json", |_, call| no_plugin(&call)),
        route(Method::DELETE, "/plugins/{name...}", |_, call| no_plugin(&call)),
        route(Method::POST, "/plugins/{name...}/enable", |_, call| no_plugin(&call)),
        route(Method::POST, "/plugins/{name...}/disable", |_, call| no_plugin(&call)),
        route(Method::POST, "/plugins/{name...}/push", |_, call| no_plugin(&call)),
        route(Method::POST, "/plugins/{name...}/set", |_, call| no_plugin(&call)),
        route(Method::POST, "/plugins/{name...}/upgrade", |_, call| no_plugin(&call)),
    ]);
    routes
}

const NO_BUILDKIT: &str =
    "BuildKit's protocol is not spoken here; build with DOCKER_BUILDKIT=0, or with wharf build";
const NO_PLUGINS: &str = "plugins are not supported";
const NO_SWARM: &str = "swarm mode is not supported";

fn manager() -> Pending {
    refused(Kind::Unavailable, NOT_A_MANAGER)
}

fn refused(kind: Kind, message: &'static str) -> Pending {
    Box::pin(async move { Err(Failure::new(kind, message)) })
}

fn no_plugin(call: &Call) -> Pending {
    let message = format!("plugin {:?} not found", call.name());
    Box::pin(async move { Err(Failure::new(Kind::NotFound, message)) })
}
