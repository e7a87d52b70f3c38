//! A build for one platform or several: each is a job of its own, and several make an index.
//!
//! The jobs run at the same time and share the cache, so what does not depend on the platform (a stage
//! `FROM --platform=$BUILDPLATFORM`) is made once; the other jobs wait for it and take it from there.

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::exchange::Exchange;
use crate::job::{Job, Shared, checked, epoch, unused};
use crate::request::{Annotation, Place, Request};
use crate::worker::{Cancel, Images, Progress, Worker};
use oci::{Descriptor, Digest, Platform};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

/// What came of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The image; of several platforms its index.
    pub image: Descriptor,
    /// The image of the cache that was to be given away: stored, not recorded.
    pub cache: Option<Descriptor>,
    /// Build arguments that nothing used.
    pub unused: Vec<String>,
}

/// Builds an image and records it under its names.
///
/// Blocks; stages are built on threads of their own. The caller holds a lease of the store.
///
/// # Errors
///
/// The first thing that goes wrong. What was finished stays in the cache.
pub fn build(
    request: &Request,
    cache: &Cache,
    worker: &dyn Worker,
    images: &dyn Images,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Built> {
    let file = checked(request)?;
    let exchange = Exchange::default();
    let epoch = epoch(request)?;
    let shared =
        Shared { request, file: &file, cache, worker, images, cancel, progress, exchange: &exchange, epoch };
    let jobs = jobs(&shared)?;
    let made = all(&jobs)?;
    let is_index = made.len() > 1 || request.index;
    let mut manifests = Vec::new();
    for (job, state) in jobs.iter().zip(&made) {
        let mut manifest = job.finish(state)?;
        if is_index {
            // What was asked for, whatever the last stage's base says of itself.
            manifest.platform = Some(job.platform());
            manifest.annotations = chosen(&request.annotations, Place::Descriptor, Some(&job.platform()));
        }
        manifests.push(manifest);
    }
    let image = match manifests.as_slice() {
        [one] if !is_index => one.clone(),
        _ => cache.store().put_index(manifests, chosen(&request.annotations, Place::Index, None))?,
    };
    cache.store().images().record(&image, &request.names)?;
    let own: BTreeSet<&Digest> = made.iter().flat_map(|state| &state.config.rootfs.diff_ids).collect();
    let cache_image = match (jobs.first(), made.first()) {
        (Some(job), Some(state)) => job.give(&state.config.platform(), &own)?,
        _ => None,
    };
    Ok(Built { image, cache: cache_image, unused: unused(request, &file) })
}

/// One job for each platform; without any for whatever the bases are.
fn jobs<'a>(shared: &'a Shared<'a>) -> Result<Vec<Job<'a>>> {
    let mut platforms: Vec<Option<Platform>> = Vec::new();
    for platform in &shared.request.platforms {
        if !platforms.iter().flatten().any(|known| known.matches(platform)) {
            platforms.push(Some(platform.clone()));
        }
    }
    if platforms.is_empty() {
        platforms.push(None);
    }
    let several = platforms.len() > 1;
    let mut jobs: Vec<Job<'a>> = Vec::new();
    for platform in platforms {
        jobs.push(Job::new(shared, platform, several)?);
    }
    let total = jobs.iter().map(Job::steps).sum();
    let mut steps = 0;
    for (index, job) in jobs.iter_mut().enumerate() {
        job.number(steps, index * shared.file.stages.len(), total);
        steps += job.steps();
    }
    Ok(jobs)
}

/// Carries out all jobs at once. The first failure ends the others, and is what is told.
fn all(jobs: &[Job<'_>]) -> Result<Vec<State>> {
    if let [job] = jobs {
        return Ok(vec![job.make()?]);
    }
    let outcomes: Vec<Result<State>> = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| {
                let work = move || std::panic::catch_unwind(AssertUnwindSafe(|| job.make()));
                let name = format!("build for {}", job.platform());
                std::thread::Builder::new().name(name).spawn_scoped(scope, work)
            })
            .collect();
        let outcome = |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| match thread {
            Ok(thread) => match thread.join() {
                Ok(Ok(made)) => made,
                Ok(Err(_panic)) | Err(_panic) => {
                    Err(Error::Invalid("the builder failed; see the daemon's log".to_owned()))
                }
            },
            Err(source) => Err(Error::File { operation: "start", path: "a thread".to_owned(), source }),
        };
        threads.into_iter().map(outcome).collect()
    });
    let mut made = Vec::new();
    let mut failed = None;
    for outcome in outcomes {
        match outcome {
            Ok(state) => made.push(state),
            // What came of the first failure says nothing.
            Err(error) if failed.as_ref().is_none_or(|first| matches!(first, Error::Cancelled)) => {
                failed = Some(error);
            }
            Err(_) => {}
        }
    }
    failed.map_or(Ok(made), Err)
}

/// The facts for one document; those for a platform belong to its own.
pub(crate) fn chosen(
    all: &[Annotation],
    place: Place,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fits = |annotation: &&Annotation| {
        annotation.place == place
            && annotation.platform.as_ref().is_none_or(|only| platform.is_some_and(|it| it.matches(only)))
    };
    all.iter().filter(fits).map(|annotation| (annotation.name.clone(), annotation.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_go_where_they_belong() {
        let platform = |text: &str| Platform::parse(text).unwrap();
        let annotation = |place, only: Option<&str>, name: &str| Annotation {
            place,
            platform: only.map(platform),
            name: name.to_owned(),
            value: String::new(),
        };
        let all = [
            annotation(Place::Manifest, None, "every"),
            annotation(Place::Manifest, Some("linux/arm64"), "arm"),
            annotation(Place::Index, None, "index"),
            annotation(Place::Descriptor, Some("linux/amd64"), "amd"),
        ];
        for (place, only, expect) in [
            (Place::Manifest, Some("linux/amd64"), &["every"][..]),
            (Place::Manifest, Some("linux/arm64/v8"), &["arm", "every"]),
            (Place::Index, None, &["index"]),
            (Place::Descriptor, Some("linux/amd64"), &["amd"]),
            (Place::Descriptor, Some("linux/arm64"), &[]),
        ] {
            let only = only.map(platform);
            let names: Vec<String> = chosen(&all, place, only.as_ref()).into_keys().collect();
            assert_eq!(names, expect, "{place:?} {only:?}");
        }
    }
}
