//! `/debug`: what dockerd's Go runtime tells of itself, as far as there is something to tell.

use super::{Services, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Failure, body};
use base::Kind;
use http::{Method, StatusCode};
use serde_json::json;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/debug/vars", |_, _| Box::pin(async { Ok(body::ok(&variables())) })),
        route(Method::GET, "/debug/pprof/cmdline", |_, _| {
            let text = std::env::args().collect::<Vec<_>>().join("\0");
            Box::pin(async move { Ok(body::full(StatusCode::OK, "text/plain; charset=utf-8", text)) })
        }),
        route(Method::GET, "/debug/pprof/{name...}", |_, _| {
            Box::pin(async {
                Err(Failure::new(Kind::NotImplemented, "this is no Go program: it has no profiles"))
            })
        }),
    ]
}

/// The command line, and memory under the name that Go's has.
fn variables() -> serde_json::Value {
    json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "memstats": { "Sys": crate::metrics::resident() },
    })
}
