//! From a configuration to a served engine, until a signal ends it.

use crate::config::parse::Given;
use crate::config::reload::{Change, apply, diff};
use crate::config::{self, Config, Host, HostFacts, resolve};
use crate::http::listen::{self, Acceptor, Listener};
use crate::http::serve::Server;
use crate::instance::{self, PidFile};
use crate::journal::Volume;
use crate::metrics;
use crate::routes::{self, ReloadRequest, Services};
use crate::views::system::VERSION;
use base::event::Type;
use engine::{Defaults, Engine};
use http::HeaderValue;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// What a reload needs.
#[derive(Debug)]
pub struct Reload {
    /// The command line, which a reload cannot change.
    pub flags: Given,
    /// The host.
    pub facts: HostFacts,
    /// How much is logged.
    pub volume: Volume,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Another daemon is there, or the folders cannot be made.
    #[error(transparent)]
    Instance(#[from] instance::InstanceError),
    /// The engine cannot be opened.
    #[error("failed to start daemon")]
    Engine(#[source] engine::Error),
    /// A socket cannot be served.
    #[error("failed to load listeners")]
    Listen(#[from] listen::ListenError),
    /// The system gives no threads or signals.
    #[error("failed to start daemon: {operation}")]
    System {
        /// What was attempted.
        operation: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { operation, source }
}

/// How long work that is under way on blocking threads may take to end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Serves the engine until SIGTERM or SIGINT. Containers go on.
///
/// # Errors
///
/// What keeps it from starting.
pub fn run(config: Config, reload: Reload) -> Result<(), RunError> {
    engine::requirements::check().map_err(RunError::Engine)?;
    let (data, exec) = (&config.engine.data, &config.engine.exec);
    let lock = instance::lock(data.root(), &data.lock())?;
    instance::make_folder(exec.root(), 0o711)?;
    let pidfile = config.pidfile.as_deref().map(PidFile::write).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("wharf")
        .build()
        .map_err(system("make the runtime"))?;
    let outcome = {
        // The engine may spawn tasks when it opens.
        let _guard = runtime.enter();
        engine::assemble(config.engine.clone()).map_err(RunError::Engine)
    };
    let served = outcome.and_then(|engine| runtime.block_on(serve(engine, config, reload)));
    runtime.shutdown_timeout(LAST_WORK);
    drop(pidfile);
    drop(lock);
    served
}

async fn serve(engine: Engine, config: Config, reload: Reload) -> Result<(), RunError> {
    let listeners = listeners(&config).await?;
    let metrics = match &config.metrics {
        None => None,
        Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(system("serve metrics"))?),
    };
    let engine = Arc::new(engine);
    let (shown, showing) = watch::channel(Arc::new(config.clone()));
    let (asking, mut asked) = mpsc::channel::<ReloadRequest>(1);
    let software = format!("Wharf/{VERSION} (linux)");
    let server = Server {
        routes: routes::all(),
        services: Services {
            engine: Arc::clone(&engine),
            host: Arc::new(engine::system::host()),
            config: showing,
            reloads: asking,
        },
        software: HeaderValue::from_str(&software).unwrap_or(HeaderValue::from_static("Wharf")),
        experimental: config.engine.experimental,
        oldest: config.oldest_api,
    };
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    if let Some(metrics) = metrics {
        let (engine, host) = (Arc::clone(&engine), Arc::clone(&server.services.host));
        tokio::spawn(metrics::serve(metrics, engine, host, stopped.clone()));
    }
    let serving = tokio::spawn(server.run(listeners, stopped));
    let ready = config.ready_fd.map(listen::inherited).transpose().unwrap_or(None);
    let socket = std::env::var("NOTIFY_SOCKET").ok();
    if let Err(error) = instance::tell_ready(ready, socket.as_deref()) {
        tracing::warn!(%error, "nobody could be told that the daemon is ready");
    }
    tracing::info!(version = VERSION, "API listen");
    let mut current = config.clone();
    loop {
        let asker = tokio::select! {
            wanted = signals.next() => match wanted {
                Wanted::Stop => break,
                Wanted::Reload => None,
            },
            Some(asker) = asked.recv() => Some(asker),
        };
        let outcome = reloaded(&mut current, &reload, &engine);
        shown.send_replace(Arc::new(current.clone()));
        if let Some(asker) = asker {
            // Whoever asked may have gone.
            drop(asker.send(outcome));
        }
    }
    tracing::info!("stopping; containers go on");
    // Fails only if nobody serves any more.
    stop.send(true).ok();
    drop(serving.await);
    for host in &config.hosts {
        if let Host::Unix(path) = host {
            drop(std::fs::remove_file(path));
        }
    }
    Ok(())
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(system("listen to signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.hang_up.recv() => Wanted::Reload,
        }
    }
}

/// Opens every socket that the configuration names.
async fn listeners(config: &Config) -> Result<Vec<Listener>, listen::ListenError> {
    let acceptor: Option<Acceptor> = config.tls.as_ref().map(listen::acceptor).transpose()?;
    let mut passed = listen::passed(|name| std::env::var(name).ok());
    let mut all = Vec::new();
    for host in &config.hosts {
        match host {
            Host::Unix(path) => all.push(listen::unix(path, instance::group_id(&config.group)).await?),
            Host::Activated(name) => all.extend(listen::activated(name, std::mem::take(&mut passed))?),
            Host::Tcp { name, port } => {
                if acceptor.is_none() {
                    tracing::warn!(
                        host = name,
                        port,
                        "the API is served without TLS: whoever reaches it is root here"
                    );
                }
                all.extend(listen::tcp(name, *port, acceptor.as_ref()).await?);
            }
        }
    }
    Ok(all)
}

/// Reads daemon.json again and applies what can change; keeps the old configuration if the new one is wrong.
fn reloaded(current: &mut Config, reload: &Reload, engine: &Engine) -> Result<Vec<&'static str>, String> {
    let new = config::read(reload.flags.clone())
        .and_then(|given| resolve::resolve(&given, &reload.facts).map_err(config::ConfigError::Value));
    let new = match new {
        Ok(new) => new,
        Err(error) => {
            let error = base::chain(&error);
            tracing::error!(error, "daemon.json is not reloaded");
            return Err(error);
        }
    };
    let mut changed = Vec::new();
    for change in diff(current, &new) {
        tracing::info!(?change, "reloaded");
        changed.push(change.name());
        if let Change::LogLevel(level) = change {
            reload.volume.set(level);
        }
        apply(current, change);
    }
    // Even if nothing of it has changed: certificates may have.
    engine.reload_registries(&current.engine);
    if let Err(error) = engine.reload_archives(&current.engine) {
        tracing::error!(error = base::chain(&error), "layer-archives is not reloaded");
    }
    engine.containers.set_defaults(Defaults::of(&current.engine));
    engine.events.now(Type::Daemon, "reload", &engine.id, attributes(current));
    Ok(changed)
}

/// What the event tells: the options that a reload can change, in dockerd's names and forms.
fn attributes(config: &Config) -> BTreeMap<String, String> {
    let engine = &config.engine;
    let list = |items: &[String]| serde_json::to_string(items).unwrap_or_default();
    let mirrors: Vec<String> = engine.registry_mirrors.iter().map(|mirror| mirror.url.clone()).collect();
    let runtimes: BTreeMap<_, _> = engine
        .runtimes
        .iter()
        .map(|(name, runtime)| (name, serde_json::json!({ "path": runtime.path })))
        .collect();
    let pairs = [
        ("debug", engine.debug.to_string()),
        ("insecure-registries", list(&engine.insecure_registries)),
        ("default-shm-size", engine.shm_size.to_string()),
        ("default-stop-timeout", engine.stop_timeout.as_secs().to_string()),
        ("labels", list(&engine.labels)),
        ("max-concurrent-downloads", engine.max_concurrent_downloads.to_string()),
        ("max-concurrent-uploads", engine.max_concurrent_uploads.to_string()),
        ("max-download-attempts", engine.max_download_attempts.to_string()),
        ("registry-mirrors", list(&mirrors)),
        ("default-runtime", engine.default_runtime.clone()),
        ("runtimes", serde_json::to_string(&runtimes).unwrap_or_default()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
