//! Events to those who want to know (distribution project, *Notifications*).
//!
//! Each endpoint has a queue and a task of its own: events go out in their order, and again until they are taken.
//! The queue is bounded; what does not fit while an endpoint is away is lost, and that is logged.

use crate::config::Endpoint;
use crate::outward::Outward;
use crate::serve::call::Call;
use crate::storage::durable::random_id;
use base::Timestamp;
use http::{Request, header};
use oci::Digest;
use serde_json::{Value, json};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// How many events wait for an endpoint.
const QUEUE: usize = 4096;
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Mount,
    Delete,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// To what it happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) media_type: String,
    pub(crate) digest: Option<Digest>,
    pub(crate) size: u64,
    pub(crate) repository: String,
    pub(crate) from_repository: Option<String>,
    pub(crate) path: String,
    pub(crate) tag: String,
}

/// Tells all endpoints.
#[derive(Debug)]
pub(crate) struct Notifier {
    endpoints: Vec<(Endpoint, mpsc::Sender<Value>)>,
    source: Value,
}

impl Notifier {
    /// Starts a task for each endpoint; must be called within the runtime.
    pub(crate) fn new(endpoints: Vec<Endpoint>, outward: &Outward, address: &str) -> Self {
        let start = |endpoint: Endpoint| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(deliver(endpoint.clone(), outward.clone(), receiver));
            (endpoint, sender)
        };
        let source = json!({"addr": address, "instanceID": random_id()});
        Self { endpoints: endpoints.into_iter().map(start).collect(), source }
    }

    /// Puts an event into the queues.
    pub(crate) fn tell(&self, call: &Call, action: Action, target: &Target) {
        if self.endpoints.is_empty() {
            return;
        }
        let wanted = |endpoint: &Endpoint| {
            !endpoint.ignored_media_types.contains(&target.media_type)
                && !endpoint.ignored_actions.iter().any(|ignored| ignored == action.as_str())
        };
        let event = self.event(call, action, target);
        for (endpoint, sender) in self.endpoints.iter().filter(|(endpoint, _)| wanted(endpoint)) {
            if sender.try_send(event.clone()).is_err() {
                tracing::warn!(endpoint = endpoint.name, "an event is lost: the endpoint does not take them");
            }
        }
    }

    fn event(&self, call: &Call, action: Action, target: &Target) -> Value {
        let mut shown = json!({"repository": target.repository});
        if let Some(object) = shown.as_object_mut() {
            if let Some(digest) = &target.digest {
                object.insert("digest".to_owned(), digest.to_string().into());
            }
            if !target.media_type.is_empty() {
                object.insert("mediaType".to_owned(), target.media_type.clone().into());
                object.insert("size".to_owned(), target.size.into());
                object.insert("length".to_owned(), target.size.into());
            }
            if !target.path.is_empty() {
                object.insert("url".to_owned(), call.address(&target.path).into());
            }
            if !target.tag.is_empty() {
                object.insert("tag".to_owned(), target.tag.clone().into());
            }
            if let Some(from) = &target.from_repository {
                object.insert("fromRepository".to_owned(), from.clone().into());
            }
        }
        json!({
            "id": random_id(),
            "timestamp": Timestamp::from_system(SystemTime::now()).to_string(),
            "action": action.as_str(),
            "target": shown,
            "request": {
                "id": random_id(),
                "addr": call.peer,
                "host": call.header(&header::HOST).unwrap_or_default(),
                "method": call.parts.method.as_str(),
                "useragent": call.header(&header::USER_AGENT).unwrap_or_default(),
            },
            "actor": if call.user.is_empty() { json!({}) } else { json!({"name": call.user}) },
            "source": self.source,
        })
    }
}

/// Sends an endpoint's events, in their order, each until it is taken.
async fn deliver(endpoint: Endpoint, outward: Outward, mut events: mpsc::Receiver<Value>) {
    while let Some(event) = events.recv().await {
        let body = json!({"events": [event]}).to_string();
        let mut failed = 0;
        loop {
            match send(&endpoint, &outward, &body).await {
                Ok(()) => break,
                Err(problem) => {
                    failed += 1;
                    tracing::warn!(
                        endpoint = endpoint.name,
                        url = endpoint.url,
                        problem,
                        failed,
                        "an event is not taken"
                    );
                }
            }
            if failed >= endpoint.threshold {
                tokio::time::sleep(endpoint.backoff).await;
            }
        }
    }
}

async fn send(endpoint: &Endpoint, outward: &Outward, body: &str) -> Result<(), String> {
    let mut request = Request::post(&endpoint.url).header(header::CONTENT_TYPE, MEDIA_TYPE);
    for (name, value) in &endpoint.headers {
        request = request.header(name, value);
    }
    let request = request.body(body.to_owned().into()).map_err(|error| error.to_string())?;
    let status = outward.status(request, endpoint.timeout).await?;
    // As the well-known registry: redirects are success as well.
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("status {status}")) }
}
