//! Execs.

use super::container::terminal_size;
use super::streams::content_type;
use super::{Services, blocking, route};
use crate::http::router::Route;
use crate::http::serve::Handler;
use crate::http::{Answer, Call, Failure, body, hijack};
use api::IdResponse;
use api::exec::{Config, InspectResponse, ProcessConfig, StartConfig};
use api::stream::{self, Stream};
use engine::Engine;
use engine::container::{Exec, ExecState};
use http::{Method, StatusCode};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Handler<Services>>> {
    vec![
        route(Method::POST, "/containers/{name}/exec", |s, call| {
            Box::pin(create(Arc::clone(&s.engine), call))
        }),
        route(Method::GET, "/exec/{name}/json", |s, call| Box::pin(inspect(Arc::clone(&s.engine), call))),
        route(Method::POST, "/exec/{name}/resize", |s, call| Box::pin(resize(Arc::clone(&s.engine), call))),
        route(Method::POST, "/exec/{name}/start", |s, call| Box::pin(start(Arc::clone(&s.engine), call))),
    ]
}

async fn create(engine: Arc<Engine>, mut call: Call) -> Answer {
    let mut config: Config = call.json().await?;
    if !call.at_least(42) {
        // Sizes came later, and clients of before may have sent rubbish.
        config.console_size = None;
    }
    let id = blocking(move || engine.containers.create_exec(call.name(), config)).await?;
    Ok(body::json(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

async fn resize(engine: Arc<Engine>, call: Call) -> Answer {
    let (rows, columns) = terminal_size(&call)?;
    blocking(move || engine.containers.resize_exec(call.name(), rows, columns)).await?;
    Ok(body::empty(StatusCode::OK))
}

async fn inspect(engine: Arc<Engine>, call: Call) -> Answer {
    let exec = blocking(move || engine.containers.inspect_exec(call.name())).await?;
    Ok(body::ok(&view(&exec)))
}

fn view(exec: &Exec) -> InspectResponse {
    let config = &exec.config;
    let mut words = config.cmd.iter().flatten().cloned();
    let (running, exit_code, pid) = match exec.state() {
        ExecState::Created => (false, None, 0),
        // moby, ContainerExecStart: it counts as running from the moment its start is asked for.
        ExecState::Starting => (true, None, 0),
        ExecState::Running { pid } => (true, None, pid),
        ExecState::Ended { exit_code, pid } => (false, Some(exit_code), pid),
    };
    InspectResponse {
        id: exec.id.to_string(),
        running,
        exit_code,
        process_config: ProcessConfig {
            tty: config.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: Some(words.collect()),
            privileged: Some(config.privileged),
            user: config.user.clone(),
        },
        open_stdin: config.attach_stdin,
        open_stderr: config.attach_stderr,
        open_stdout: config.attach_stdout,
        can_remove: false,
        container_id: exec.container.to_string(),
        detach_keys: Some(String::new()),
        pid,
    }
}

async fn start(engine: Arc<Engine>, mut call: Call) -> Answer {
    let request: StartConfig = call.json().await?;
    let exec = engine.containers.check_exec(call.name())?;
    let size = request.console_size.filter(|_| call.at_least(42));
    if size.is_some() && !request.tty {
        return Err(Failure::invalid("console size is only supported for tty exec"));
    }
    let id = exec.id.to_string();
    if request.detach {
        blocking(move || engine.containers.start_exec(&id, size, None)).await?;
        return Ok(body::empty(StatusCode::OK));
    }
    let terminal = exec.config.tty;
    let kind = content_type(&call, terminal);
    let (response, hijacked) = hijack::hijack(&mut call, kind)
        .map_err(|error| Failure::new(base::Kind::Internal, format!("make a socket pair: {error}")))?;
    tokio::spawn(async move {
        let client = match hijacked.into_fd().await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "a client went away before its exec was started"),
        };
        // The head of the answer is sent, so a failure can only be told where output would have been.
        let spare = client.try_clone();
        if let Err(failure) = blocking(move || engine.containers.start_exec(&id, size, Some(client))).await {
            tracing::debug!(error = failure.message, "an exec could not be started");
            if let Ok(client) = spare {
                tell(client, &failure.message, terminal);
            }
        }
    });
    Ok(response)
}

/// Writes a message where the output would have been. The client is told only if it can take it at once.
fn tell(client: OwnedFd, message: &str, terminal: bool) {
    let line = format!("{message}\r\n");
    let bytes = if terminal { line.into_bytes() } else { stream::frame(Stream::Stdout, line.as_bytes()) };
    let mut client = std::os::unix::net::UnixStream::from(client);
    // The client may have gone.
    drop(client.write_all(&bytes));
}
