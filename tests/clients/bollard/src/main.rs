//! Walks through the Engine API with bollard: an image from a registry, containers with their streams, a network and a
//! volume. The first thing that is not as it should be ends it. Usage: `client-bollard IMAGE`, where `DOCKER_HOST` is
//! the engine's address.

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, EndpointSettings, EventMessage, HostConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, VolumeCreateOptions,
};
use bollard::query_parameters::*;
use futures_util::{Stream, StreamExt as _};
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let image = std::env::args().nth(1).ok_or("no image was named")?;
    let host = std::env::var("DOCKER_HOST")?;
    let path = host.strip_prefix("unix://").ok_or("no unix socket")?;
    let engine = Docker::connect_with_unix(path, 60, bollard::API_DEFAULT_VERSION)?.negotiate_version().await?;
    tokio::time::timeout(Duration::from_secs(60), walk(&engine, &image)).await??;
    Ok(())
}

async fn walk(engine: &Docker, image: &str) -> Done {
    assert_eq!(engine.ping().await?, "OK");
    assert_eq!(engine.version().await?.os.as_deref(), Some("linux"));
    assert_eq!(engine.info().await?.containers, Some(0));
    pull(engine, image).await?;
    let mut events = pin!(events(engine));
    life(engine, image, &mut events).await?;
    streams(engine, image).await?;
    networks(engine, image).await?;
    volumes(engine, image).await?;
    errors(engine, image).await;
    let pruned = engine.prune_containers(None::<PruneContainersOptions>).await?;
    assert_eq!(pruned.containers_deleted.map(|ids| ids.len()), Some(2));
    let force = RemoveImageOptionsBuilder::new().force(true).build();
    engine.remove_image(image, Some(force), None).await?;
    let left = engine.df(None::<DataUsageOptions>).await?;
    assert_eq!(left.containers.map_or(0, |list| list.len()), 0);
    Ok(())
}

fn events(engine: &Docker) -> impl Stream<Item = Result<EventMessage, Error>> {
    let filters = HashMap::from([("label", vec!["walk=bollard"]), ("type", vec!["container"])]);
    engine.events(Some(EventsOptionsBuilder::new().filters(&filters).build()))
}

async fn pull(engine: &Docker, image: &str) -> Done {
    let (name, tag) = image.rsplit_once(':').ok_or("no tag")?;
    let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    let mut lines = pin!(engine.create_image(Some(options), None, None));
    while let Some(line) = lines.next().await {
        assert_eq!(line?.error_detail, None);
    }
    let found = engine.inspect_image(image).await?;
    assert!(found.repo_tags.unwrap_or_default().contains(&image.to_owned()));
    Ok(())
}

fn body(image: &str, command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        labels: Some(HashMap::from([("walk".to_owned(), "bollard".to_owned())])),
        ..Default::default()
    }
}

async fn create(engine: &Docker, name: &str, body: ContainerCreateBody) -> Done<String> {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    Ok(engine.create_container(Some(options), body).await?.id)
}

async fn start(engine: &Docker, id: &str) -> Done {
    Ok(engine.start_container(id, None::<StartContainerOptions>).await?)
}

/// Waits for the end. bollard makes an error of every code but zero.
async fn code(engine: &Docker, id: &str) -> Done<i64> {
    match pin!(engine.wait_container(id, None::<WaitContainerOptions>)).next().await {
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(answer) => Ok(answer?.status_code),
        None => Err("the wait ended without an answer".into()),
    }
}

async fn life(
    engine: &Docker,
    image: &str,
    events: &mut (impl Stream<Item = Result<EventMessage, Error>> + Unpin),
) -> Done {
    let id = create(engine, "b-life", body(image, &["sh", "-c", "echo out; echo err >&2; exit 7"])).await?;
    // The stream of events begins with the first poll, so the rest is done beside it.
    let work = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        start(engine, &id).await?;
        assert_eq!(code(engine, &id).await?, 7);
        Done::Ok(())
    };
    let told = async {
        let mut actions = Vec::new();
        while actions.last().map(String::as_str) != Some("die") {
            actions.extend(events.next().await.ok_or("the events ended")??.action);
        }
        Done::Ok(actions)
    };
    let (worked, told) = futures_util::future::join(work, told).await;
    worked?;
    assert_eq!(told?, ["start", "die"]);
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let mut lines = pin!(engine.logs(&id, Some(options)));
    let mut said = Vec::new();
    while let Some(line) = lines.next().await {
        said.push(line?);
    }
    said.sort_by_key(|line| matches!(line, LogOutput::StdErr { .. }));
    assert!(matches!(&said[0], LogOutput::StdOut { message } if message == "out\n"), "{said:?}");
    assert!(matches!(&said[1], LogOutput::StdErr { message } if message == "err\n"), "{said:?}");
    let state = engine.inspect_container(&id, None::<InspectContainerOptions>).await?.state.ok_or("no state")?;
    assert_eq!((state.running, state.exit_code), (Some(false), Some(7)));
    engine.rename_container(&id, RenameContainerOptionsBuilder::new().name("b-renamed").build()).await?;
    let filters = HashMap::from([("name", vec!["b-renamed"])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = engine.list_containers(Some(options)).await?;
    assert_eq!(listed[0].names.as_deref(), Some(&["/b-renamed".to_owned()][..]));
    Ok(engine.remove_container("b-renamed", None::<RemoveContainerOptions>).await?)
}

async fn text(mut stream: impl Stream<Item = Result<LogOutput, Error>> + Unpin) -> Done<String> {
    let mut said = String::new();
    while let Some(part) = stream.next().await {
        said.push_str(&part?.to_string());
    }
    Ok(said)
}

async fn streams(engine: &Docker, image: &str) -> Done {
    let with_input = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..body(image, &["cat"])
    };
    let id = create(engine, "b-cat", with_input).await?;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).build();
    let mut attached = engine.attach_container(&id, Some(options)).await?;
    start(engine, &id).await?;
    attached.input.write_all(b"through and back\n").await?;
    exec(engine, &id).await?;
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = pin!(engine.stats(&id, Some(options))).next().await.ok_or("no statistics")??;
    assert_eq!(stats.pids_stats.and_then(|pids| pids.current), Some(1));
    let top = engine.top_processes(&id, None::<TopOptions>).await?;
    assert_eq!(top.processes.map(|list| list.len()), Some(1));
    let update = bollard::models::ContainerUpdateBody { pids_limit: Some(50), ..Default::default() };
    engine.update_container(&id, update).await?;
    engine.pause_container(&id).await?;
    engine.unpause_container(&id).await?;
    let options = DownloadFromContainerOptionsBuilder::new().path("/bin/cat").build();
    let mut archive = pin!(engine.download_from_container(&id, Some(options)));
    assert!(archive.next().await.ok_or("no archive")??.starts_with(b"cat\0"));
    while let Some(part) = archive.next().await {
        part?;
    }
    attached.input.shutdown().await?;
    assert_eq!(text(attached.output).await?, "through and back\n");
    assert_eq!(code(engine, &id).await?, 0);
    Ok(())
}

async fn exec(engine: &Docker, id: &str) -> Done {
    let options = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", "tty; exit 3"]),
        attach_stdout: Some(true),
        tty: Some(true),
        ..Default::default()
    };
    let made = engine.create_exec(id, options).await?;
    let StartExecResults::Attached { output, .. } = engine.start_exec(&made.id, None).await? else {
        return Err("the exec is detached".into());
    };
    assert_eq!(text(output).await?, "/dev/pts/0\r\n");
    assert_eq!(engine.inspect_exec(&made.id).await?.exit_code, Some(3));
    Ok(())
}

async fn networks(engine: &Docker, image: &str) -> Done {
    let network = NetworkCreateRequest { name: "b-net".to_owned(), ..Default::default() };
    engine.create_network(network).await?;
    let id = create(engine, "b-member", body(image, &["sleep", "1000"])).await?;
    let endpoint = EndpointSettings { aliases: Some(vec!["alias".to_owned()]), ..Default::default() };
    let request = NetworkConnectRequest { container: Some(id.clone()), endpoint_config: Some(endpoint) };
    engine.connect_network("b-net", request).await?;
    start(engine, &id).await?;
    let found = engine.inspect_network("b-net", None::<InspectNetworkOptions>).await?;
    assert!(found.containers.unwrap_or_default().contains_key(&id));
    let request = NetworkDisconnectRequest { container: Some(id.clone()), force: Some(true) };
    engine.disconnect_network("b-net", request).await?;
    engine.remove_network("b-net").await?;
    engine.stop_container(&id, Some(StopContainerOptionsBuilder::new().t(0).build())).await?;
    Ok(())
}

async fn volumes(engine: &Docker, image: &str) -> Done {
    let options = VolumeCreateOptions { name: Some("b-data".to_owned()), ..Default::default() };
    assert_eq!(engine.create_volume(options).await?.driver, "local");
    for (name, script) in [("b-writes", "echo kept > /data/file"), ("b-reads", "grep -q kept /data/file")] {
        let host = HostConfig { binds: Some(vec!["b-data:/data".to_owned()]), ..Default::default() };
        let with_volume = ContainerCreateBody { host_config: Some(host), ..body(image, &["sh", "-c", script]) };
        let id = create(engine, name, with_volume).await?;
        start(engine, &id).await?;
        assert_eq!(code(engine, &id).await?, 0, "{script}");
        engine.remove_container(&id, None::<RemoveContainerOptions>).await?;
    }
    Ok(engine.remove_volume("b-data", None::<RemoveVolumeOptions>).await?)
}

async fn errors(engine: &Docker, image: &str) {
    let status = |error: Box<dyn std::error::Error>| match error.downcast_ref::<Error>() {
        Some(Error::DockerResponseServerError { status_code, .. }) => *status_code,
        _ => panic!("{error}"),
    };
    for (name, expect) in [("b-cat", 409), ("bad/name", 400)] {
        let answer = create(engine, name, body(image, &["true"])).await;
        assert_eq!(answer.map_err(status), Err(expect), "{name}");
    }
    let answer = create(engine, "b-none", body("127.0.0.1:5000/none:1", &["true"])).await;
    assert_eq!(answer.map_err(status), Err(404));
}
