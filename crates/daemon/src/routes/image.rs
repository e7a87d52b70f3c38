//! Images.

use super::progress::{self, Teller};
use super::{Services, blocking, now, route};
use crate::config::Config;
use crate::http::body::Writer;
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body};
use crate::views::container_list::until;
use crate::views::image as view;
use api::progress::Message;
use base::Kind;
use distribution::Credentials;
use engine::Engine;
use engine::images::{Images, Import, Pull, Push, Repair, Step};
use http::{Method, StatusCode};
use oci::{Platform, Reference};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often the progress of a download is told.
const TOLD_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::GET, "/images/json", |s, call| {
            Box::pin(list(s.engine.images.clone(), Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/images/create", |s, call| Box::pin(create(s.engine.images.clone(), call))),
        route(Method::GET, "/images/search", |s, call| {
            Box::pin(search(s.engine.images.clone(), registries(&s.config.borrow()), call))
        }),
        route(Method::POST, "/images/load", |s, call| Box::pin(load(s.engine.images.clone(), call))),
        route(Method::GET, "/images/get", |s, call| {
            let names = call.query.all("names").map(str::to_owned).collect();
            Box::pin(save(s.engine.images.clone(), names, call))
        }),
        route(Method::POST, "/system/check", |s, call| {
            Box::pin(check(s.engine.images.clone(), Arc::clone(&s.engine), call))
        }),
        route(Method::POST, "/images/prune", |s, call| {
            Box::pin(prune(s.engine.images.clone(), Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/images/{name...}/json", |s, call| {
            Box::pin(inspect(s.engine.images.clone(), Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/images/{name...}/history", |s, call| {
            Box::pin(history(s.engine.images.clone(), call))
        }),
        route(Method::GET, "/images/{name...}/get", |s, call| {
            let names = vec![call.name().to_owned()];
            Box::pin(save(s.engine.images.clone(), names, call))
        }),
        route(Method::POST, "/images/{name...}/tag", |s, call| Box::pin(tag(s.engine.images.clone(), call))),
        route(Method::POST, "/images/{name...}/push", |s, call| {
            Box::pin(push(s.engine.images.clone(), call))
        }),
        route(Method::GET, "/distribution/{name...}/json", |s, call| {
            Box::pin(distribution(s.engine.images.clone(), call))
        }),
        route(Method::DELETE, "/images/{name...}", |s, call| {
            Box::pin(remove(s.engine.images.clone(), Arc::clone(&s.engine), call))
        }),
    ]
}

/// Reads the platform of the query, which the endpoint has since 1.`since`.
fn platform(call: &Call, since: u16) -> Result<Option<Platform>, Failure> {
    let text = call.query.some("platform").filter(|_| call.at_least(since));
    text.map(parse_platform).transpose()
}

/// Reads a platform: JSON, as the newer endpoints have it, or `os/architecture/variant`.
pub(super) fn parse_platform(text: &str) -> Result<Platform, Failure> {
    if text.starts_with('{') {
        serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("failed to parse platform: {error}")))
    } else {
        Platform::parse(text).map_err(|error| Failure::invalid(error.to_string()))
    }
}

async fn list(images: Images, engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let until = until(&filters, now())?;
    let shared = call.query.flag("shared-size");
    let manifests = call.query.flag("manifests") && call.at_least(47);
    let summaries = blocking(move || {
        let mut summaries = images.summaries(&filters, until, shared)?;
        if manifests {
            let users = engine.containers.image_users();
            for summary in &mut summaries {
                summary.manifests = images.manifests(&images.find(&summary.id, None)?, &users)?;
            }
        }
        Ok::<_, Failure>(summaries)
    })
    .await?;
    let entries: Vec<_> = summaries.into_iter().map(|entry| view::summary(entry, call.version)).collect();
    Ok(body::ok(&entries))
}

async fn inspect(images: Images, engine: Arc<Engine>, call: Call) -> Answer {
    let (platform, version) = (platform(&call, 49)?, call.version);
    let manifests = call.query.flag("manifests") && call.at_least(48);
    if manifests && platform.is_some() {
        return Err(Failure::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let answer = blocking(move || {
        let mut answer = images.inspect(call.name(), platform.as_ref())?;
        if manifests {
            let users = engine.containers.image_users();
            answer.manifests = images.manifests(&images.find(call.name(), None)?, &users)?;
        }
        Ok::<_, Failure>(answer)
    })
    .await?;
    Ok(body::ok(&view::inspect(answer, version)))
}

async fn history(images: Images, call: Call) -> Answer {
    let platform = platform(&call, 48)?;
    Ok(body::ok(&blocking(move || images.history(call.name(), platform.as_ref())).await?))
}

async fn tag(images: Images, call: Call) -> Answer {
    let name = reference(call.query.get("repo"), call.query.get("tag"))?;
    blocking(move || images.tag(call.name(), &name)).await?;
    Ok(body::empty(StatusCode::CREATED))
}

async fn remove(images: Images, engine: Arc<Engine>, call: Call) -> Answer {
    let force = call.query.flag("force");
    let platforms = call.query.all("platforms").filter(|_| call.at_least(50)).map(parse_platform);
    let platforms = platforms.collect::<Result<Vec<_>, _>>()?;
    let answer = blocking(move || {
        let users = engine.containers.image_users();
        if platforms.is_empty() {
            images.remove(call.name(), force, &users)
        } else {
            images.remove_platforms(call.name(), &platforms, force, &users)
        }
    });
    Ok(body::ok(&answer.await?))
}

async fn prune(images: Images, engine: Arc<Engine>, call: Call) -> Answer {
    let filters = call.filters()?;
    let until = until(&filters, now())?;
    let answer = blocking(move || images.prune(&filters, until, &engine.containers.image_users()));
    Ok(body::ok(&answer.await?))
}

/// Answers `POST /system/check`, which only Wharf has: whether everything that is kept is as it should be.
async fn check(images: Images, engine: Arc<Engine>, call: Call) -> Answer {
    let repair =
        if call.query.flag("repair") { Some(Repair { credentials: all_credentials(&call)? }) } else { None };
    let users = engine.containers.image_users();
    progress::answer(move |teller: Teller| async move {
        let told = teller.clone();
        let line =
            move |text: String| told.tell(Message { stream: format!("{text}\n"), ..Message::default() });
        match images.check(repair, users, Arc::new(line)).await? {
            0 => {
                teller.tell(Message { stream: "No problems found\n".to_owned(), ..Message::default() });
                Ok(())
            }
            1 => Err(Failure::new(Kind::Internal, "1 problem was found")),
            left => Err(Failure::new(Kind::Internal, format!("{left} problems were found"))),
        }
    })
    .await
}

/// Reads the credentials that the client sends along.
pub(super) fn credentials(call: &Call) -> Result<Credentials, Failure> {
    let header = call.headers.get("x-registry-auth").map_or("", |value| value.to_str().unwrap_or_default());
    let parsed = Credentials::from_header(header);
    parsed.map(|(credentials, _server)| credentials).map_err(|error| Failure::invalid(error.to_string()))
}

/// Reads `X-Registry-Config`: base 64 of credentials by registry.
pub(super) fn all_credentials(call: &Call) -> Result<BTreeMap<String, Credentials>, Failure> {
    use base64::Engine as _;
    let header =
        call.headers.get("x-registry-config").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let header = header.trim().trim_end_matches('=');
    if header.is_empty() {
        return Ok(BTreeMap::new());
    }
    let invalid = || Failure::invalid("invalid X-Registry-Config header");
    let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header);
    let bytes = url_safe
        .or_else(|_standard| base64::engine::general_purpose::STANDARD_NO_PAD.decode(header))
        .map_err(|_broken| invalid())?;
    let all: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|_broken| invalid())?;
    let mut credentials = BTreeMap::new();
    for (registry, value) in all {
        let (parsed, _server) = Credentials::from_json(value.to_string().as_bytes())
            .map_err(|error| Failure::invalid(error.to_string()))?;
        credentials.insert(registry, parsed);
    }
    Ok(credentials)
}

/// Says whether the registry has to show a good certificate; `tlsVerify` is podman's name for it.
pub(super) fn verify(call: &Call) -> bool {
    call.query.flag_or("tlsVerify", true)
}

/// Answers `POST /images/create`: a pull.
async fn create(images: Images, call: Call) -> Answer {
    if call.query.get("fromImage").is_empty() {
        return import(images, call).await;
    }
    let pull = Pull {
        reference: reference(call.query.get("fromImage"), call.query.get("tag"))?,
        platform: platform(&call, 32)?,
        credentials: credentials(&call)?,
        verify: verify(&call),
    };
    // Docker's clients do not expect them.
    let sizes = call.query.flag("sizes");
    progress::answer(move |teller: Teller| async move {
        let tell = move |step: Step| {
            if sizes || !matches!(step, Step::Layers(_)) {
                teller.tell(step.message());
            }
        };
        images.pull(&pull, Arc::new(tell)).await?;
        Ok(())
    })
    .await
}

/// Answers `POST /images/{name}/push`.
async fn push(images: Images, call: Call) -> Answer {
    let push = Push {
        reference: reference(call.name(), call.query.get("tag"))?,
        platform: platform(&call, 46)?,
        credentials: credentials(&call)?,
        verify: verify(&call),
    };
    progress::answer(move |teller: Teller| async move {
        let told = teller.clone();
        let steps = Arc::new(move |step: Step| {
            let pushed = match &step {
                Step::Pushed { tag, digest, size } => {
                    Some(serde_json::json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size }))
                }
                _ => None,
            };
            told.tell(step.message());
            if pushed.is_some() {
                told.tell(Message {
                    aux: pushed,
                    progress_detail: Some(Default::default()),
                    ..Message::default()
                });
            }
        });
        Ok(images.push(&push, steps).await?)
    })
    .await
}

/// Answers `GET /distribution/{name}/json`: what a registry has.
async fn distribution(images: Images, call: Call) -> Answer {
    let reference = reference(call.name(), "")?.with_default_tag();
    Ok(body::ok(&images.inspect_remote(&reference, &credentials(&call)?).await?))
}

/// The registries that are searched beside Docker Hub: mirrors, and those that are named as insecure.
fn registries(config: &Config) -> Vec<String> {
    let mirrors = config.engine.registry_mirrors.iter();
    let mirrors = mirrors.filter_map(|mirror| mirror.url.split_once("://")?.1.split('/').next());
    // Networks of addresses name no registry.
    let insecure = config.engine.insecure_registries.iter().map(String::as_str);
    let mut hosts = Vec::new();
    for host in mirrors.chain(insecure.filter(|host| !host.contains('/'))) {
        if !host.is_empty() && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

/// Answers `GET /images/search`.
async fn search(images: Images, registries: Vec<String>, call: Call) -> Answer {
    let limit = match call.query.some("limit") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_ignored| {
            Failure::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
        })?),
    };
    let filters = call.filters()?;
    let credentials = credentials(&call)?;
    let found = images.search(call.query.get("term"), limit, &filters, &registries, &credentials).await?;
    Ok(body::ok(&found))
}

/// Puts a name and a tag or digest together.
pub(super) fn reference(name: &str, tag: &str) -> Result<Reference, Failure> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    Reference::parse_normalized(&text).map_err(|error| Failure::invalid(error.to_string()))
}

/// Answers `POST /images/load`: an archive of images.
async fn load(images: Images, mut call: Call) -> Answer {
    let mut reader = call.take_reader();
    let quiet = call.query.flag("quiet");
    let platform = platform(&call, 48)?;
    progress::answer(move |teller: Teller| async move {
        let mut tell = move |message| teller.tell(message);
        blocking(move || images.load(&mut reader, quiet, platform.as_ref(), &mut tell)).await?;
        Ok(())
    })
    .await
}

/// Answers `POST /images/create?fromSrc=-`: the archive of a root file system.
async fn import(images: Images, mut call: Call) -> Answer {
    let repository = call.query.some("repo");
    let import = Import {
        reference: repository.map(|name| reference(name, call.query.get("tag"))).transpose()?,
        platform: platform(&call, 32)?,
        changes: call.query.all("changes").map(str::to_owned).collect(),
        message: call.query.get("message").to_owned(),
    };
    let source = call.query.get("fromSrc").to_owned();
    let mut reader = call.take_reader();
    progress::answer(move |teller: Teller| async move {
        let id = if source == "-" {
            blocking(move || images.import(&mut reader, &import)).await?
        } else {
            let address = if source.contains("://") { source } else { format!("http://{source}") };
            teller.tell(Message::status("", format!("Downloading from {address}")));
            let told = teller.clone();
            let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            let last = std::sync::Mutex::new(std::time::Instant::now());
            let progress = move |current: u64, total: u64| {
                let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if current == total || last.elapsed() >= TOLD_EVERY {
                    *last = std::time::Instant::now();
                    told.tell(Message::progress("", "Importing", signed(current), signed(total)));
                }
            };
            let service = images.clone();
            images.fetch_into(&address, progress, move |reader| service.import(reader, &import)).await?
        };
        teller.tell(Message::status("", id.to_string()));
        Ok(())
    })
    .await
}

/// A sink that tells when the first byte is written: from then on a failure cannot have a status of its own.
struct Announcing {
    writer: Writer,
    begun: Option<oneshot::Sender<()>>,
}

impl Write for Announcing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(begun) = self.begun.take() {
            // Nobody waits if the client has gone.
            begun.send(()).ok();
        }
        Write::write(&mut self.writer, bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Answers with what `work` writes; a failure before its first byte is an answer of its own.
pub(super) async fn download(
    content_type: &'static str,
    work: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Failure> + Send + 'static,
) -> Answer {
    let (writer, response) = body::streamed(content_type);
    let (begun, begin) = oneshot::channel();
    let breaker = writer.clone();
    let working = tokio::task::spawn_blocking(move || {
        let mut sink = std::io::BufWriter::with_capacity(64 << 10, Announcing { writer, begun: Some(begun) });
        work(&mut sink)?;
        sink.flush().map_err(|error| Failure::new(Kind::Cancelled, error.to_string()))
    });
    let failed = |error: tokio::task::JoinError| Failure::new(Kind::Internal, error.to_string());
    if begin.await.is_err() {
        working.await.map_err(failed)??;
        return Ok(response);
    }
    tokio::spawn(async move {
        if let Err(failure) = working.await.map_err(failed).flatten() {
            tracing::warn!(error = failure.message, "an answer broke off");
            breaker.break_off(failure.message);
        }
    });
    Ok(response)
}

/// Answers `GET /images/get` and `GET /images/{name}/get`: an archive of images.
async fn save(images: Images, names: Vec<String>, call: Call) -> Answer {
    let platform = platform(&call, 48)?;
    download("application/x-tar", move |sink| {
        images.save(&names, platform.as_ref(), sink).map_err(Failure::from)
    })
    .await
}
