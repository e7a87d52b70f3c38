//! `stats`: samples of what a container uses, one or one a second.

use super::{Services, blocking, now, route};
use crate::http::body::{self, Writer};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure};
use crate::views::stats as view;
use engine::Engine;
use engine::container::{Container, Sample};
use http::Method;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![route(Method::GET, "/containers/{name}/stats", |s, call| {
        Box::pin(stats(Arc::clone(&s.engine), call))
    })]
}

/// The time between two samples, as dockerd has it.
const INTERVAL: Duration = Duration::from_secs(1);

async fn stats(engine: Arc<Engine>, call: Call) -> Answer {
    let stream = call.query.flag_or("stream", true);
    let one_shot = call.query.flag("one-shot");
    if stream && one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    let (record, first) = sample(&engine, call.name()).await?;
    // dockerd answers at once, and with zeros, for a container that does not run.
    if !stream && (one_shot || first.time.is_none()) {
        return Ok(body::ok(&view::stats(&record, &first, None, now())));
    }
    let name = record.id.to_string();
    if !stream {
        // Rates need two samples.
        tokio::time::sleep(INTERVAL).await;
        let (record, second) = sample(&engine, &name).await?;
        return Ok(body::ok(&view::stats(&record, &second, Some(&first), now())));
    }
    let (writer, response) = body::streamed("application/json");
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&engine, &name, record, first, &writer) => {}
            () = writer.gone() => {}
        }
    });
    Ok(response)
}

async fn sample(engine: &Arc<Engine>, name: &str) -> Result<(Arc<Container>, Sample), Failure> {
    let (engine, name) = (Arc::clone(engine), name.to_owned());
    blocking(move || {
        Ok::<_, engine::Error>((engine.containers.get(&name)?, engine.containers.sample(&name)?))
    })
    .await
}

/// Writes a sample each second until the container is gone.
async fn follow(engine: &Arc<Engine>, name: &str, record: Arc<Container>, first: Sample, writer: &Writer) {
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut document = view::stats(&record, &first, None, now());
    let mut before = first;
    loop {
        if writer.write(body::line(&document, b"\n")).await.is_err() {
            return;
        }
        ticks.tick().await;
        let Ok((record, next)) = sample(engine, name).await else { return };
        document = view::stats(&record, &next, Some(&before), now());
        before = next;
    }
}
