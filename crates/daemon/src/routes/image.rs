//! Images.

use super::{Services, blocking, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::image as view;
use api::ApiVersion;
use engine::Engine;
use engine::container::Container;
use http::Method;
use oci::{Digest, Platform};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::Image;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/images/{name...}/json", |s, call| {
            Box::pin(inspect(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/images/{name...}/history", |s, call| {
            Box::pin(history(Arc::clone(&s.engine), call))
        }),
    ]
}

/// Returns the entries of a list, with how many containers are made of each.
pub(super) fn summaries(
    engine: &Engine,
    images: &[Image],
    containers: &[Arc<Container>],
    version: ApiVersion,
) -> Vec<Value> {
    let shared = shared_sizes(engine, images);
    let entry = |(image, shared): (&Image, u64)| {
        let users = containers.iter().filter(|container| container.image.id == *image.id()).count();
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        view::summary(image, i64::try_from(users).unwrap_or(i64::MAX), number(shared), version)
    };
    images.iter().zip(shared).map(entry).collect()
}

/// The bytes of each image's layers that another image has as well.
fn shared_sizes(engine: &Engine, images: &[Image]) -> Vec<u64> {
    let mut uses: BTreeMap<&Digest, usize> = BTreeMap::new();
    for image in images {
        let own: BTreeSet<&Digest> = image.diff_ids.iter().collect();
        for layer in own {
            *uses.entry(layer).or_default() += 1;
        }
    }
    let shared = |image: &Image| {
        let own: BTreeSet<&Digest> = image.diff_ids.iter().collect();
        let layers = own.into_iter().filter(|layer| uses.get(layer).is_some_and(|uses| *uses > 1));
        layers.map(|layer| layer_size(engine, layer)).sum()
    };
    images.iter().map(shared).collect()
}

fn layer_size(engine: &Engine, layer: &Digest) -> u64 {
    engine.store.layers().get(layer).ok().flatten().map_or(0, |layer| layer.size)
}

/// The bytes of all layers of all images, each once.
pub(super) fn layers_size(engine: &Engine, images: &[Image]) -> u64 {
    let layers: BTreeSet<&Digest> = images.iter().flat_map(|image| &image.diff_ids).collect();
    layers.into_iter().map(|layer| layer_size(engine, layer)).sum()
}

/// Finds the image that the path names, as the platform that the query names.
fn find(engine: &Engine, call: &Call, since: u16) -> Result<Image, Failure> {
    match call.query.some("platform").filter(|_| call.at_least(since)) {
        None => Ok(engine.store.images().find(call.name())?),
        Some(text) => Ok(engine.store.images().find_for(call.name(), &platform(text)?)?),
    }
}

/// Reads a platform: JSON as the newer clients send it, or `os/architecture/variant`.
fn platform(text: &str) -> Result<Platform, Failure> {
    if text.starts_with('{') {
        serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("failed to parse platform: {error}")))
    } else {
        Platform::parse(text).map_err(|error| Failure::invalid(error.to_string()))
    }
}

async fn inspect(engine: Arc<Engine>, call: Call) -> Answer {
    let answer = blocking(move || Ok::<_, Failure>(view::inspect(&find(&engine, &call, 49)?, call.version)));
    Ok(body::ok(&answer.await?))
}

async fn history(engine: Arc<Engine>, call: Call) -> Answer {
    let answer = blocking(move || {
        let image = find(&engine, &call, 48)?;
        let sizes: Vec<u64> = image.diff_ids.iter().map(|layer| layer_size(&engine, layer)).collect();
        Ok::<_, Failure>(view::history(&image, &sizes))
    });
    Ok(body::ok(&answer.await?))
}
