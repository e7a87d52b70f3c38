//! Building images: `POST /build` as the classic builder answers it, and `POST /build/prune`.
//!
//! Wharf's own command line sends the same request with another type of body ([`own`]), which has what a query cannot
//! carry: secrets, further contexts.

mod options;
mod own;
mod report;

use super::image::{download, parse_platform};
use super::progress::{self, Teller};
use super::{Services, blocking, now, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::container_list::until;
use api::Filters;
use api::progress::{ErrorDetail, Message};
use api::system::BuildPruneResponse;
use base::{Classify as _, Kind, Timestamp};
use engine::Engine;
use engine::builds::{BuildError, Cancel, Context, Limits, Named, Space};
use http::{Method, StatusCode};
use own::{Base, Missing, Own};
use report::Report;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// A longer list of a context is refused.
const MAX_LISTING: u64 = 1 << 30;
/// The most that is read behind the end of a context, in bytes.
const MAX_PADDING: u64 = 64 << 20;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::POST, "/build", |s, call| Box::pin(build(Arc::clone(&s.engine), call))),
        route(Method::POST, "/build/cancel", |s, call| Box::pin(cancel(Arc::clone(&s.engine), call))),
        route(Method::POST, "/build/context", |s, call| Box::pin(list(Arc::clone(&s.engine), call))),
        route(Method::GET, "/build/files", |s, call| {
            let engine = Arc::clone(&s.engine);
            Box::pin(async move {
                let platform = call.query.some("platform").map(parse_platform).transpose()?;
                download("application/x-tar", move |sink| {
                    let image = call.query.get("image");
                    engine.builds.files(image, platform.as_ref(), sink).map_err(Failure::from)
                })
                .await
            })
        }),
        route(Method::POST, "/build/prune", |s, call| Box::pin(prune(Arc::clone(&s.engine), call))),
    ]
}

/// Ends the build when the request ends.
struct Guard(Cancel);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn build(engine: Arc<Engine>, mut call: Call) -> Answer {
    let mut parsed = options::parse(&call)?;
    let reader = call.take_reader();
    let is_own = call.headers.get("content-type").is_some_and(|value| value == own::CONTENT_TYPE);
    progress::answer(move |teller: Teller| async move {
        let cancel = Cancel::default();
        let guard = Guard(cancel.clone());
        let named = (!parsed.id.is_empty()).then(|| engine.builds.name(&parsed.id, &cancel));
        let failed = teller.clone();
        let outcome = blocking(move || {
            let mut reader: Box<dyn Read> = Box::new(reader);
            let own = if is_own { Own::read(&mut reader)? } else { Own::default() };
            own.apply(&mut parsed.request)?;
            parsed.around.cache_push = own.cache_push()?;
            let report = Arc::new(Report::new(teller.clone(), parsed.quiet, own.events));
            let pulls = Arc::clone(&report);
            parsed.around.pulls = Arc::new(move |message| pulls.pull(message));
            let outcome = run(&engine, parsed, &own, &mut reader, &report, &cancel);
            report.flush(outcome.as_ref().err().is_some());
            outcome
        });
        let outcome = outcome.await;
        drop((guard, named));
        match outcome {
            // The code of a failed command goes beside its text.
            Err(Failure { kind: Kind::Internal, message }) if code_of(&message).is_some() => {
                let code = code_of(&message).unwrap_or(1);
                let detail = ErrorDetail { code, message: message.clone() };
                failed.tell(Message { error_detail: Some(detail), error: message, ..Message::default() });
                Ok(())
            }
            other => other,
        }
    })
    .await
}

/// Ends the build that was given this name by its client (`buildid`).
async fn cancel(engine: Arc<Engine>, call: Call) -> Answer {
    let id = call.query.some("id").ok_or_else(|| Failure::invalid("build ID not provided"))?;
    engine.builds.cancel(id);
    Ok(body::empty(StatusCode::OK))
}

/// Takes the list of a client's contexts and tells what is missing of them.
async fn list(engine: Arc<Engine>, mut call: Call) -> Answer {
    let reader = call.take_reader();
    let id =
        call.query.some("id").ok_or_else(|| Failure::invalid("a list of a context needs an id"))?.to_owned();
    let wanted = blocking(move || {
        let mut list = Vec::new();
        let read = reader.take(MAX_LISTING).read_to_end(&mut list);
        read.map_err(|error| Failure::invalid(format!("invalid list of a context: {error}")))?;
        Ok::<_, Failure>(engine.builds.offer(&id, &list)?)
    });
    let wanted = wanted.await?;
    Ok(body::ok(&Missing { id: wanted.id, missing: wanted.missing }))
}

/// The exit code in a failed command's text.
fn code_of(message: &str) -> Option<i64> {
    message.strip_prefix("The command '")?.rsplit_once("returned a non-zero code: ")?.1.parse().ok()
}

/// Reads what comes behind an archive's end: that the client has gone is only seen once all that it sent was read.
fn read_out(reader: &mut dyn Read) {
    // A client that is gone already is noticed all the same.
    std::io::copy(&mut reader.take(MAX_PADDING), &mut std::io::sink()).ok();
}

/// Takes the context in and builds.
fn run(
    engine: &Engine,
    parsed: options::Parsed,
    own: &Own,
    reader: &mut dyn Read,
    report: &Arc<Report>,
    cancel: &Cancel,
) -> Result<(), Failure> {
    let options::Parsed { mut request, around, dockerfile, remote, .. } = parsed;
    let builds = &engine.builds;
    let (base, context) = match &own.listed {
        Some(id) => {
            let base = Base::Kept(builds.receive(id, reader).map_err(worded)?);
            let context = own.context(&base);
            (base, context)
        }
        None => {
            let folder = builds.context()?;
            if remote.is_empty() || remote == "client-session" {
                builds.unpack_context(&folder, reader).map_err(worded)?;
                let base = Base::Unpacked(folder);
                let context = own.context(&base);
                (base, context)
            } else {
                let fetched = builds.fetch_context(&remote, &folder, keep_git(&request.arguments))?;
                let context = Context { folder: fetched, known: None };
                (Base::Unpacked(folder), context)
            }
        }
    };
    read_out(reader);
    own.contexts(&base, &mut request);
    // They are there until the build has ended.
    let mut fetched = Vec::new();
    for (name, url) in &own.remotes {
        let folder = builds.context()?;
        let context = builds.fetch_context(url, &folder, keep_git(&request.arguments))?;
        request.contexts.insert(name.clone(), Named::Folder(Context { folder: context, known: None }));
        fetched.push(folder);
    }
    request.dockerfile = match (&own.dockerfile, &own.dockerfile_url) {
        (Some(text), _) => text.clone(),
        (None, Some(url)) => builds.fetch_dockerfile(url, &builds.context()?)?,
        (None, None) => {
            let name =
                if remote.is_empty() { dockerfile.as_str() } else { dockerfile.trim_start_matches("./") };
            builds.dockerfile(&context.folder, name).map_err(worded)?
        }
    };
    request.context = Some(context);
    let built = builds.build(&request, around, &**report, cancel).map_err(worded)?;
    drop((base, fetched));
    report.flush(false);
    if !built.unused.is_empty() {
        report.line(&format!(
            "[Warning] One or more build-args [{}] were not consumed\n",
            built.unused.join(" ")
        ));
    }
    if let Some(cache) = &built.cache {
        report.cache(&cache.digest);
    }
    report.built(&built.image.digest, &request.names);
    Ok(())
}

/// Whether contexts of git repositories keep their `.git`, as `BuildKit`'s argument has it.
fn keep_git(arguments: &BTreeMap<String, Option<String>>) -> bool {
    options::is_on(arguments, "BUILDKIT_CONTEXT_KEEP_GIT_DIR")
}

/// A failed build as the client is told it.
fn worded(error: BuildError) -> Failure {
    match error {
        BuildError::Cancelled => Failure::new(Kind::Internal, "context canceled"),
        error => Failure::new(error.kind(), base::chain(&error)),
    }
}

async fn prune(engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let until = last_use(&filters)?;
    let space = |name: &str| -> Result<Option<Space>, Failure> {
        let bytes = call.query.number(name)?.unwrap_or(0);
        Ok(u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).map(Space::Bytes))
    };
    let kept = space("keep-storage")?;
    // What is called `reserved-space` since 1.48, as the others came then.
    let limits = match call.at_least(48) {
        true => Limits {
            reserved: space("reserved-space")?.or(kept),
            max_used: space("max-used-space")?,
            min_free: space("min-free-space")?,
        },
        false => Limits { reserved: kept, ..Limits::default() },
    };
    let all = call.query.flag("all");
    let pruned =
        blocking(move || engine.builds.prune(&filters, until, limits, all).map(|pruned| (engine, pruned)))
            .await?;
    let (engine, pruned) = pruned;
    let reclaimed = BTreeMap::from([("reclaimed".to_owned(), pruned.bytes.to_string())]);
    engine.events.now(base::event::Type::Builder, "prune", "", reclaimed);
    let answer = BuildPruneResponse {
        caches_deleted: (!pruned.ids.is_empty()).then_some(pruned.ids),
        space_reclaimed: pruned.bytes,
    };
    Ok(body::ok(&answer))
}

/// The time of `until`, or of `unused-for`, which is an age.
fn last_use(filters: &Filters) -> Result<Option<Timestamp>, Failure> {
    let mut ages = filters.get("unused-for");
    let Some(text) = ages.next() else { return until(filters, now()) };
    if ages.next().is_some() || filters.contains("until") {
        return Err(Failure::invalid("more than one until filter specified"));
    }
    let age = crate::time::point(text, now());
    age.map(Some).ok_or_else(|| Failure::invalid(format!("invalid unused-for filter: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_command_is_found() {
        let text = "The command '/bin/sh -c returned a non-zero code: 1; exit 7' returned a non-zero code: 7";
        assert_eq!(code_of(text), Some(7));
        assert_eq!(code_of("COPY failed: returned a non-zero code: 7"), None);
    }
}
