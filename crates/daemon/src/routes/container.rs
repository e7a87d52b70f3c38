//! Containers: everything but their streams.

use super::image::download;
use super::{Services, blocking, now, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::container::{self as view, Context, Size};
use crate::views::container_list::{self, Wanted};
use api::ApiVersion;
use api::container::{
    Config, CreateRequest, CreateResponse, PruneResponse, UpdateRequest, UpdateResponse, WaitError,
    WaitResponse,
};
use base::Kind;
use engine::Engine;
use engine::container::{CheckpointName, Container, ImageChoice, RemoveOptions, WaitCondition};
use http::{Method, StatusCode};
use oci::ImageConfig;
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/containers/json", |s, call| Box::pin(list(Arc::clone(&s.engine), call))),
        route(Method::POST, "/containers/create", |s, call| Box::pin(create(Arc::clone(&s.engine), call))),
        route(Method::POST, "/containers/prune", |s, call| Box::pin(prune(Arc::clone(&s.engine), call))),
        route(Method::GET, "/containers/{name...}/json", |s, call| {
            Box::pin(inspect(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/start", |s, call| {
            Box::pin(start(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/stop", |s, call| Box::pin(stop(Arc::clone(&s.engine), call))),
        route(Method::POST, "/containers/{name}/restart", |s, call| {
            Box::pin(restart(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/recreate", |s, call| {
            Box::pin(recreate(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/kill", |s, call| Box::pin(kill(Arc::clone(&s.engine), call))),
        route(Method::POST, "/containers/{name}/pause", |s, call| {
            let engine = Arc::clone(&s.engine);
            Box::pin(done(move || engine.containers.pause(call.name())))
        }),
        route(Method::POST, "/containers/{name}/unpause", |s, call| {
            let engine = Arc::clone(&s.engine);
            Box::pin(done(move || engine.containers.unpause(call.name())))
        }),
        route(Method::POST, "/containers/{name}/rename", |s, call| {
            let engine = Arc::clone(&s.engine);
            Box::pin(done(move || engine.containers.rename(call.name(), call.query.get("name"))))
        }),
        route(Method::POST, "/containers/{name}/resize", |s, call| {
            Box::pin(resize(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/update", |s, call| {
            Box::pin(update(Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/containers/{name}/wait", |s, call| Box::pin(wait(Arc::clone(&s.engine), call))),
        route(Method::GET, "/containers/{name}/changes", |s, call| {
            Box::pin(changes(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/containers/{name}/top", |s, call| Box::pin(top(Arc::clone(&s.engine), call))),
        route(Method::GET, "/containers/{name}/export", |s, call| {
            let engine = Arc::clone(&s.engine);
            Box::pin(download("application/x-tar", move |sink| {
                engine.containers.export(call.name(), sink).map_err(Failure::from)
            }))
        }),
        route(Method::DELETE, "/containers/{name...}", |s, call| {
            Box::pin(remove(Arc::clone(&s.engine), call))
        }),
    ]
}

/// Does what has no answer but success: `204 No Content`.
async fn done(work: impl FnOnce() -> engine::Result<()> + Send + 'static) -> Answer {
    blocking(work).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

async fn list(engine: Arc<Engine>, call: Call) -> Answer {
    let limit = call.query.number("limit")?.unwrap_or(0);
    let wanted = Wanted {
        all: call.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        filters: call.filters()?,
    };
    let (sized, version) = (call.query.flag("size"), call.version);
    let entries = blocking(move || summaries(&engine, &wanted, sized, version)).await?;
    Ok(body::ok(&entries))
}

/// Returns the entries of a list.
pub(super) fn summaries(
    engine: &Engine,
    wanted: &Wanted,
    sized: bool,
    version: ApiVersion,
) -> Result<Vec<api::container::Summary>, Failure> {
    let ancestor = |name: &str| engine.store.images().find_id(name).into_iter().collect();
    let records = container_list::select(engine.containers.list(), wanted, ancestor)?;
    let (now, mut names) = (now(), engine.containers.link_names());
    let entry = |record: &Arc<Container>| {
        let context = Context {
            data: &engine.settings.data,
            version,
            execs: Vec::new(),
            size: sized.then(|| size(engine, record)),
            links: names.remove(&record.id).unwrap_or_default(),
        };
        view::summary(record, shown_image(engine, record), now, &context)
    };
    Ok(records.iter().map(entry).collect())
}

/// The reference a container was made of, as long as it still means the same image.
fn shown_image(engine: &Engine, record: &Container) -> String {
    match engine.store.images().find_id(&record.image.reference) {
        Ok(id) if id == record.image.id => record.image.reference.clone(),
        _ => record.image.id.to_string(),
    }
}

fn size(engine: &Engine, record: &Container) -> Size {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let writable = number(engine.containers.writable_size(record));
    let image = engine.store.images().get(&record.image.id).map_or(0, |image| number(image.size()));
    Size { writable, total: writable.saturating_add(image) }
}

async fn inspect(engine: Arc<Engine>, call: Call) -> Answer {
    let answer = blocking(move || {
        let record = engine.containers.get(call.name())?;
        let context = Context {
            data: &engine.settings.data,
            version: call.version,
            execs: engine.containers.execs_of(&record.id).iter().map(ToString::to_string).collect(),
            size: call.query.flag("size").then(|| size(&engine, &record)),
            links: engine.containers.shown_links(&record),
        };
        Ok::<_, Failure>(view::inspect(&record, &context))
    });
    Ok(body::ok(&answer.await?))
}

async fn create(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: Option<CreateRequest> = call.json_or_nothing().await?;
    let Some(mut request) = request else {
        return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
    };
    if request.config == Config::default() {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    adapt(&mut request, call.version);
    let (id, warnings) = blocking(move || {
        let name = &request.config.image;
        let image = match call.query.some("platform").filter(|_| call.at_least(41)) {
            None => engine.store.images().find(name)?,
            Some(platform) => {
                let platform = super::image::parse_platform(platform)?;
                engine.store.images().find_for(name, &platform)?
            }
        };
        let image = ImageChoice { id: image.id().clone(), config: ImageConfig::clone(&image.config) };
        engine.containers.create(call.query.some("name"), request, &image).map_err(Failure::from)
    })
    .await?;
    Ok(body::json(StatusCode::CREATED, &CreateResponse { id: id.to_string(), warnings }))
}

/// What older versions meant by what they did not say (moby, *postContainersCreate*).
fn adapt(request: &mut CreateRequest, version: ApiVersion) {
    let host = &mut request.host_config;
    if version < ApiVersion::new(1, 40) && host.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host.ipc_mode);
    }
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        host.resources.pids_limit = None;
    }
}

async fn start(engine: Arc<Engine>, call: Call) -> Answer {
    use hyper::body::Body as _;
    // Seven bytes and less were sent by clients that meant nothing by them ("{}", "null").
    if call.body.size_hint().lower() > 7 {
        return Err(Failure::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    done(move || {
        let folder = call.query.some("checkpoint-dir").unwrap_or_default();
        let checkpoint = call.query.some("checkpoint").map(|name| CheckpointName { name, folder });
        engine.containers.start(call.name(), checkpoint)
    })
    .await
}

async fn stop(engine: Arc<Engine>, call: Call) -> Answer {
    let timeout = call.query.number("t")?;
    done(move || engine.containers.stop(call.name(), signal(&call), timeout)).await
}

async fn restart(engine: Arc<Engine>, call: Call) -> Answer {
    let timeout = call.query.number("t")?;
    done(move || engine.containers.restart(call.name(), signal(&call), timeout)).await
}

/// Answers `POST /containers/{name}/recreate`, which only Wharf has, as it answers the creation.
async fn recreate(engine: Arc<Engine>, call: Call) -> Answer {
    let timeout = call.query.number("t")?;
    let made = blocking(move || engine.containers.recreate(call.name(), call.query.some("image"), timeout));
    let (id, warnings) = made.await?;
    Ok(body::json(StatusCode::CREATED, &CreateResponse { id: id.to_string(), warnings }))
}

/// The signal of stop and restart, since 1.42.
fn signal(call: &Call) -> Option<&str> {
    call.query.some("signal").filter(|_| call.at_least(42))
}

async fn kill(engine: Arc<Engine>, call: Call) -> Answer {
    done(move || engine.containers.kill(call.name(), call.query.get("signal"))).await
}

/// Reads `h` and `w`.
pub(super) fn terminal_size(call: &Call) -> Result<(u16, u16), Failure> {
    let size = |name: &str| {
        let text = call.query.get(name);
        let number = text
            .parse::<u32>()
            .map_err(|_not| Failure::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        Ok::<_, Failure>(u16::try_from(number).unwrap_or(u16::MAX))
    };
    Ok((size("h")?, size("w")?))
}

async fn resize(engine: Arc<Engine>, call: Call) -> Answer {
    let (rows, columns) = terminal_size(&call)?;
    blocking(move || engine.containers.resize(call.name(), rows, columns)).await?;
    Ok(body::empty(StatusCode::OK))
}

async fn update(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: UpdateRequest = call.json().await?;
    let warnings = blocking(move || engine.containers.update(call.name(), &request)).await?;
    Ok(body::ok(&UpdateResponse { warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) }))
}

async fn top(engine: Arc<Engine>, call: Call) -> Answer {
    let table = blocking(move || {
        let arguments = call.query.some("ps_args").unwrap_or("-ef");
        engine.containers.top(call.name(), arguments)
    });
    Ok(body::ok(&table.await?))
}

async fn changes(engine: Arc<Engine>, call: Call) -> Answer {
    Ok(body::ok(&blocking(move || engine.containers.changes(call.name())).await?))
}

async fn remove(engine: Arc<Engine>, call: Call) -> Answer {
    if call.query.flag("link") {
        return done(move || engine.containers.remove_link(call.name())).await;
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    done(move || engine.containers.remove(call.name(), options)).await
}

async fn prune(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    filters.validate(&["label", "label!", "until"]).map_err(|error| Failure::invalid(error.to_string()))?;
    let until = container_list::until(&filters, now())?;
    let (deleted, reclaimed) = blocking(move || {
        engine.containers.prune(|container| {
            let none = api::StringMap::new();
            let labels = container.config.labels.as_ref().unwrap_or(&none);
            until.is_none_or(|until| container.created < until.as_nanos())
                && filters.labels("label", labels)
                && !(filters.contains("label!") && filters.labels("label!", labels))
        })
    })
    .await?;
    let deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
    Ok(body::ok(&PruneResponse { containers_deleted: deleted, space_reclaimed: reclaimed }))
}

/// Answers at once that the container exists, and at its end how it ended.
///
/// Clients rely on the first: once they have the head of the answer, no exit can be missed.
async fn wait(engine: Arc<Engine>, call: Call) -> Answer {
    let condition = match call.query.get("condition") {
        _ if !call.at_least(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Failure::new(Kind::InvalidArgument, format!("invalid condition: {other:?}"))),
    };
    let waiter = engine.containers.wait(call.name(), condition)?;
    let (writer, response) = body::streamed("application/json");
    tokio::spawn(async move {
        tokio::select! {
            waited = waiter.wait() => {
                // dockerd forgets the error of a start that failed when the container is removed.
                let error = waited.error.filter(|_| condition != WaitCondition::Removed);
                let error = error.map(|message| WaitError { message });
                let answer = WaitResponse { error, status_code: i64::from(waited.code) };
                // The client may have gone meanwhile.
                writer.write(body::line(&answer, b"\n")).await.ok();
            }
            () = writer.gone() => {}
        }
    });
    Ok(response)
}
