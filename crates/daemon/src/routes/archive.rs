//! Copying files out of and into containers.

use super::{Services, blocking, route};
use crate::http::body::{self, Body};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure};
use base::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::Engine;
use engine::container::{Extract, PathStat};
use http::{HeaderValue, Method, Response, StatusCode};
use std::io::Write as _;
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::HEAD, "/containers/{name}/archive", |s, call| {
            Box::pin(head(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/containers/{name}/archive", |s, call| {
            Box::pin(get(Arc::clone(&s.engine), call))
        }),
        route(Method::PUT, "/containers/{name}/archive", |s, call| {
            Box::pin(put(Arc::clone(&s.engine), call))
        }),
    ]
}

fn with_stat(mut response: Response<Body>, stat: &PathStat) -> Answer {
    let shown = api::container::PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: stat.mode,
        mtime: stat.modified.to_string(),
        link_target: stat.link_target.clone(),
    };
    let failed = |error: String| Failure::new(Kind::Internal, error);
    let text = serde_json::to_vec(&shown).map_err(|error| failed(error.to_string()))?;
    let value = HeaderValue::from_str(&STANDARD.encode(text)).map_err(|error| failed(error.to_string()))?;
    response.headers_mut().insert("x-docker-container-path-stat", value);
    Ok(response)
}

/// The path of the query, which must be there.
fn path(call: &Call) -> Result<String, Failure> {
    match call.query.some("path") {
        Some(path) => Ok(path.to_owned()),
        None => Err(Failure::invalid("bad parameter: 'path' cannot be empty")),
    }
}

async fn head(engine: Arc<Engine>, call: Call) -> Answer {
    let path = path(&call)?;
    let stat = blocking(move || engine.containers.stat_path(call.name(), &path)).await?;
    with_stat(body::empty(StatusCode::OK), &stat)
}

async fn get(engine: Arc<Engine>, call: Call) -> Answer {
    let path = path(&call)?;
    let (writer, response) = body::streamed("application/x-tar");
    let (begun, begin) = oneshot::channel();
    let breaker = writer.clone();
    let working = tokio::task::spawn_blocking(move || {
        let mut sink = std::io::BufWriter::with_capacity(64 << 10, writer);
        let begin = |stat| {
            // Nobody waits if the client has gone.
            begun.send(stat).ok();
        };
        engine.containers.read_archive(call.name(), &path, begin, &mut sink)?;
        sink.flush().map_err(|error| Failure::new(Kind::Cancelled, error.to_string()))
    });
    let failed = |error: tokio::task::JoinError| Failure::new(Kind::Internal, error.to_string());
    let Ok(stat) = begin.await else {
        working.await.map_err(failed)??;
        return Err(Failure::new(Kind::Internal, "the archive did not begin"));
    };
    tokio::spawn(async move {
        if let Err(failure) = working.await.map_err(failed).flatten() {
            tracing::warn!(error = failure.message, "an archive broke off");
            breaker.break_off(failure.message);
        }
    });
    with_stat(response, &stat)
}

async fn put(engine: Arc<Engine>, mut call: Call) -> Answer {
    let path = path(&call)?;
    let options = Extract {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        copy_owner: call.query.flag("copyUIDGID"),
        owner: call.query.get("chown").to_owned(),
    };
    let mut reader = call.take_reader();
    blocking(move || engine.containers.write_archive(call.name(), &path, &options, &mut reader)).await?;
    Ok(body::empty(StatusCode::OK))
}
