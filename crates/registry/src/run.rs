//! The server from its start to its end, and the work it does beside answering.

use crate::auth::Gate;
use crate::config::{Config, Format};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::outward::Outward;
use crate::proxy::Proxy;
use crate::serve::App;
use crate::serve::body::blocking;
use crate::serve::listen::{Debugging, Listener, Registry, Speech, serve, speech};
use crate::storage::Storage;
use crate::storage::collect::Options;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long work on blocking threads may take to end.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// What keeps the server from starting.
pub(crate) fn run(config: Config) -> Result<()> {
    let storage = Storage::open(&config.storage.root, config.storage.read_only)?;
    storage.sweep()?;
    let gate = Gate::new(&config.auth)?;
    let speech = speech(&config.http)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("registry").build().map_err(
            |source| Error::Io { operation: "start threads of", path: PathBuf::from("registry"), source },
        )?;
    let outcome = runtime.block_on(serving(config, Arc::new(storage), Arc::new(gate), speech));
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

async fn serving(config: Config, storage: Arc<Storage>, gate: Arc<Gate>, speech: Speech) -> Result<()> {
    let listener = Listener::open(&config.http.address, config.http.unix).await?;
    let debug = match &config.http.debug {
        Some(address) => Some(Listener::open(address, false).await?),
        None => None,
    };
    let shown = listener.shown(&config.http.address);
    let outward = Outward::new();
    let metrics = Arc::new(Metrics::default());
    let app = Arc::new(App {
        notify: Notifier::new(config.endpoints.clone(), &outward, &shown),
        health: Health::start(config.health.checks.clone(), &storage, &outward),
        proxy: config.proxy.as_ref().map(|proxy| Proxy::new(proxy, Arc::clone(&metrics))),
        gate,
        metrics,
        storage: Arc::clone(&storage),
        config,
    });
    chores(&app);
    let (stop, stopped) = watch::channel(false);
    let drain = app.config.http.drain;
    let mut serving =
        vec![tokio::spawn(serve(listener, Registry(Arc::clone(&app)), speech, stopped.clone(), drain))];
    if let Some(listener) = debug {
        let plain = serve(listener, Debugging(Arc::clone(&app)), Speech::default(), stopped, Duration::ZERO);
        serving.push(tokio::spawn(plain));
    }
    tracing::info!(address = shown, tls = app.config.http.tls.is_some(), "listening");
    terminated().await?;
    tracing::info!("stopping; requests under way may end");
    stop.send_replace(true);
    for work in serving {
        drop(work.await);
    }
    Ok(())
}

async fn terminated() -> Result<()> {
    let listen = |kind| {
        let failed = |source| Error::Io { operation: "listen to", path: PathBuf::from("signals"), source };
        signal(kind).map_err(failed)
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts what is done again and again.
fn chores(app: &Arc<App>) {
    let config = &app.config.storage;
    if config.read_only {
        return;
    }
    if let Some(purge) = config.purge {
        let storage = Arc::clone(&app.storage);
        again(purge.interval, "purge uploads", move || {
            for folder in storage.purge_uploads(purge.age, purge.dry_run)? {
                tracing::info!(upload = %folder.display(), dry_run = purge.dry_run, "an old upload is thrown away");
            }
            Ok(())
        });
    }
    if let Some(collect) = config.collect {
        let storage = Arc::clone(&app.storage);
        again(collect.interval, "collect garbage", move || {
            let options = Options { grace: collect.grace, untagged: collect.untagged, dry_run: false };
            let collected = storage.collect(options)?;
            tracing::info!(
                blobs = collected.blobs.len(),
                untagged = collected.untagged.len(),
                bytes = collected.bytes,
                "garbage is collected"
            );
            Ok(())
        });
    }
    if let Some(ttl) = app.config.proxy.as_ref().and_then(|proxy| proxy.ttl) {
        let storage = Arc::clone(&app.storage);
        again((ttl / 8).max(Duration::from_secs(1)), "expire the cache", move || {
            if storage.expire(ttl)? > 0 {
                storage.collect(Options { grace: Duration::from_secs(60), ..Options::default() })?;
            }
            Ok(())
        });
    }
}

fn again(interval: Duration, what: &'static str, act: impl Fn() -> Result<()> + Send + Sync + 'static) {
    let act = Arc::new(act);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let act = Arc::clone(&act);
            if let Err(error) = blocking(move || act()).await {
                tracing::error!(what, error = base::chain(&error), "a chore failed");
            }
        }
    });
}

/// Begins to log as configured.
pub(crate) fn log(config: &Config) {
    let level = config.log.level.parse().unwrap_or(tracing::level_filters::LevelFilter::INFO);
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(false);
    // Only the first logger of a process counts.
    match config.log.format {
        Format::Text => drop(builder.try_init()),
        Format::Json => drop(builder.json().try_init()),
    }
    for key in &config.unknown {
        tracing::warn!(key, "this key of the configuration is unknown here");
    }
}
