//! The engine itself: ping, version, info, events, credentials, disk usage.

use super::{ReloadRequest, Services, blocking, container, now, route, volume};
use crate::http::body::{self, Writer};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure};
use crate::views::container_list::Wanted;
use crate::views::event::{self, fits, message};
use crate::views::system::{self, Counts};
use api::Filters;
use api::registry::AuthResponse;
use api::system::DiskUsage;

use base::event::Event;
use bytes::Bytes;
use distribution::Credentials;
use engine::Engine;
use engine::images::Images;
use http::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/_ping", |_, _| Box::pin(async { Ok(ping("OK")) })),
        route(Method::HEAD, "/_ping", |_, _| Box::pin(async { Ok(ping("")) })),
        route(Method::GET, "/version", |services, _| {
            let config = services.config.borrow();
            let answer =
                body::ok(&system::version(&services.host, config.engine.experimental, config.oldest_api));
            Box::pin(async move { Ok(answer) })
        }),
        route(Method::GET, "/info", |services, _| {
            let answer = info(services);
            Box::pin(async move { answer })
        }),
        route(Method::GET, "/system/df", |services, call| {
            Box::pin(disk_usage(Arc::clone(&services.engine), call))
        }),
        route(Method::POST, "/system/reload", |services, _| Box::pin(reload(services.reloads.clone()))),
        route(Method::POST, "/auth", |services, call| Box::pin(login(services.engine.images.clone(), call))),
        route(Method::GET, "/events", |services, call| {
            let events = services.engine.events.clone();
            Box::pin(async move { follow(&events, &call) })
        }),
    ]
}

/// Answers `POST /system/reload`, which only Wharf has: daemon.json is read again, as by SIGHUP, and the outcome told.
async fn reload(requests: mpsc::Sender<ReloadRequest>) -> Answer {
    let (asker, told) = oneshot::channel();
    let gone = || Failure::new(base::Kind::Unavailable, "the daemon is stopping");
    requests.send(asker).await.map_err(|_stopping| gone())?;
    match told.await.map_err(|_stopping| gone())? {
        Ok(changed) => Ok(body::ok(&serde_json::json!({ "Changed": changed }))),
        Err(why) => Err(Failure::invalid(why)),
    }
}

fn ping(text: &'static str) -> http::Response<body::Body> {
    let mut response =
        body::full(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    let headers = response.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn info(services: &Services) -> Answer {
    let engine = &services.engine;
    let config = Arc::clone(&services.config.borrow());
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let counts = Counts {
        containers: engine.containers.list(),
        images: engine.store.images().list()?.len(),
        devices: engine.containers.named_devices(),
        listeners: engine.events.listeners(),
        descriptors: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
    };
    Ok(body::ok(&system::info(&config.engine, &services.host, &counts, &engine.id, now())))
}

/// Answers `POST /auth`: whether a registry takes these credentials.
async fn login(images: Images, mut call: Call) -> Answer {
    let document: serde_json::Value = call.json().await?;
    let (credentials, server) = Credentials::from_json(document.to_string().as_bytes())
        .map_err(|error| Failure::invalid(error.to_string()))?;
    let token = images.login(&server, &credentials, super::image::verify(&call)).await?;
    let identity_token = token.unwrap_or_default();
    Ok(body::ok(&AuthResponse { identity_token, status: "Login Succeeded".to_owned() }))
}

/// Answers `GET /system/df`: what images, containers and volumes take.
async fn disk_usage(engine: Arc<Engine>, call: Call) -> Answer {
    let known = ["build-cache", "container", "image", "volume"];
    if let Some(kind) = call.query.all("type").find(|kind| !known.contains(kind)) {
        return Err(Failure::invalid(format!("unknown object type: {kind}")));
    }
    let answer = blocking(move || {
        let wanted =
            |kind: &str| !call.query.has("type") || call.query.all("type").any(|asked| asked == kind);
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut usage = DiskUsage {
            build_cache: wanted("build-cache").then(|| engine.builds.list()),
            ..DiskUsage::default()
        };
        if wanted("image") {
            let footprint = engine.images.footprint()?;
            usage.layers_size = number(footprint.total);
            let containers = engine.containers.list();
            let mut summaries = engine.images.summaries(&Filters::default(), None, false)?;
            for summary in &mut summaries {
                // All that an image takes, its archives too, so that the parts make the whole.
                let taken = footprint.images.iter().find(|(id, _)| id.to_string() == summary.id);
                if let Some((_, (size, shared))) = taken {
                    (summary.size, summary.shared_size) = (number(*size), number(*shared));
                }
                let users =
                    containers.iter().filter(|container| container.image.id.to_string() == summary.id);
                summary.containers = i64::try_from(users.count()).unwrap_or(i64::MAX);
            }
            usage.images = Some(summaries);
        }
        if wanted("container") {
            let everything = Wanted { all: true, ..Wanted::default() };
            usage.containers = Some(container::summaries(&engine, &everything, true, call.version)?);
        }
        if wanted("volume") {
            let volumes = engine.volumes.list();
            usage.volumes = Some(volumes.iter().map(|volume| volume::with_usage(&engine, volume)).collect());
        }
        Ok::<_, Failure>(usage)
    });
    Ok(body::ok(&answer.await?))
}

/// Answers `GET /events`: the remembered past if it is asked for, then what happens, until `until`.
fn follow(events: &engine::Events, call: &Call) -> Answer {
    let filters = call.filters()?;
    event::validate(&filters)?;
    let now = now();
    let time = |name: &str| match call.query.some(name) {
        None => Ok(None),
        Some(text) => crate::time::point(text, now)
            .map(Some)
            .ok_or_else(|| Failure::invalid(format!("failed to parse value as time or duration: {text:?}"))),
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            since.as_secs(),
            until.as_secs()
        )));
    }
    let (past, stream) = events.subscribe();
    let (writer, response) = body::streamed("application/json");
    tokio::spawn(async move {
        let wanted = |event: &Event| {
            since.is_some_and(|since| event.time >= since) && until.is_none_or(|until| event.time <= until)
        };
        for event in past.iter().filter(|event| wanted(event) && fits(event, &filters)) {
            if write(&writer, event).await.is_err() {
                return;
            }
        }
        let left = until.map(|until| until.since(now));
        // A client whose time is up or who is gone.
        tokio::select! {
            () = pass(stream, &writer, &filters) => {}
            () = writer.gone() => {}
            () = expire(left) => {}
        }
    });
    Ok(response)
}

async fn write(writer: &Writer, event: &Event) -> Result<(), body::Gone> {
    writer.write(body::line(&message(event), b"\n")).await
}

async fn pass(mut stream: broadcast::Receiver<Arc<Event>>, writer: &Writer, filters: &Filters) {
    loop {
        match stream.recv().await {
            Ok(event) if fits(&event, filters) => {
                if write(writer, &event).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "a listener was too slow for the events");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn expire(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
