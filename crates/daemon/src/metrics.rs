//! Metrics in the text format of Prometheus (`--metrics-addr`), named as dockerd names them.
//!
//! Served at `/metrics` on an address of their own, without TLS: they tell numbers, and take nothing.

use engine::Engine;
use engine::container::state::State;
use engine::system::HostInfo;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves metrics until `stop` says true.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    host: Arc<HostInfo>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (engine, host) = (Arc::clone(&engine), Arc::clone(&host));
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let response = answer(request.uri().path(), &engine, &host);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a reader of metrics went away");
            }
        });
    }
}

fn answer(path: &str, engine: &Engine, host: &HostInfo) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, text(engine, host)),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// How many containers are in which of the states that dockerd counts.
fn states<'a>(states: impl Iterator<Item = &'a State>) -> [(&'static str, usize); 3] {
    let (mut paused, mut running, mut stopped) = (0, 0, 0);
    for state in states {
        match state {
            State::Paused(_) => paused += 1,
            State::Running(_) | State::Restarting(_) => running += 1,
            _ => stopped += 1,
        }
    }
    [("paused", paused), ("running", running), ("stopped", stopped)]
}

fn text(engine: &Engine, host: &HostInfo) -> String {
    let containers = engine.containers.list();
    let info = [
        ("architecture", host.machine.as_str()),
        ("daemon_id", &engine.id),
        ("kernel", &host.kernel),
        ("os", &host.distribution),
        ("os_type", "linux"),
        ("os_version", &host.distribution_version),
        ("version", crate::views::system::VERSION),
    ];
    let info: Vec<String> = info.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count).to_string();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(String, String)]| {
        // Writing to memory does not fail.
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        for (labels, value) in values {
            writeln!(text, "{name}{labels} {value}").ok();
        }
    };
    let one = |value: String| vec![(String::new(), value)];
    let counts: Vec<(String, String)> = states(containers.iter().map(|container| &container.state))
        .iter()
        .map(|(state, count)| (format!("{{state={state:?}}}"), count.to_string()))
        .collect();
    family(
        "engine_daemon_container_states_containers",
        "gauge",
        "The count of containers in various states",
        &counts,
    );
    family(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        &one(host.processors.to_string()),
    );
    family(
        "engine_daemon_engine_info",
        "gauge",
        "The information related to the engine and the OS it is running on",
        &[(format!("{{{}}}", info.join(",")), "1".to_owned())],
    );
    family(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        &one(host.memory.to_string()),
    );
    family(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        &one(engine.events.listeners().to_string()),
    );
    family("process_open_fds", "gauge", "Number of open file descriptors.", &one(entries("/proc/self/fd")));
    family("process_threads", "gauge", "Number of threads.", &one(entries("/proc/self/task")));
    family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        &one(resident().to_string()),
    );
    text
}

/// Returns how much memory this process has, in bytes.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted() {
        let run = || engine::container::state::Run { pid: 1, started_at: 0 };
        let all = [State::Created(None), State::Running(run()), State::Paused(run()), State::Running(run())];
        assert_eq!(states(all.iter()), [("paused", 1), ("running", 2), ("stopped", 1)]);
        assert!(resident() > 0);
    }
}
