//! What a pull or push tells while it goes on, and Docker's words for it.
//!
//! Whoever started the operation gives a function that takes these; it must not block.

use api::progress::Message;
use oci::Digest;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Takes the progress of an operation.
pub type Progress = Arc<dyn Fn(Step) + Send + Sync>;

/// How often the number of bytes of one blob is told at most; dockerd's interval.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// One thing that happened in a pull or push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The registry was found to have the image.
    Pulling {
        /// Tag or digest.
        tag: String,
        /// The repository within its registry.
        repository: String,
    },
    /// The push begins.
    Pushing {
        /// The familiar name with its registry.
        repository: String,
    },
    /// What a pull is about, before its layers are looked at one by one.
    Layers(Vec<(Digest, u64)>),
    /// Something about one layer or other blob.
    Blob {
        /// The blob.
        digest: Digest,
        /// What.
        state: BlobState,
    },
    /// The digest of what was pulled.
    Digest(Digest),
    /// The end of a pull.
    Pulled {
        /// The familiar reference.
        reference: String,
        /// Whether it was here before, exactly so.
        up_to_date: bool,
    },
    /// Only one platform of an index was here, and is what was pushed.
    Partial {
        /// Its manifest.
        digest: Digest,
    },
    /// The end of a push.
    Pushed {
        /// The tag.
        tag: String,
        /// The manifest or index that it names now.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobState {
    /// It will be fetched.
    Queued,
    /// It waits for its turn.
    Waiting,
    /// It is here already.
    Exists,
    /// Bytes of it have come.
    Downloading {
        /// How many.
        current: u64,
        /// Of how many.
        total: u64,
    },
    /// All bytes are here.
    Verifying,
    /// The digest is right.
    Downloaded,
    /// It is being unpacked.
    Extracting {
        /// How many of its (compressed) bytes.
        current: u64,
        /// Of how many.
        total: u64,
    },
    /// It is unpacked.
    Complete,
    /// It will be uploaded.
    Preparing,
    /// Bytes of it were sent.
    Pushing {
        /// How many.
        current: u64,
        /// Of how many.
        total: u64,
    },
    /// The registry has it.
    Pushed,
    /// The registry had it before.
    ExistsThere,
    /// The registry took it over from another repository.
    Mounted {
        /// The repository within the registry.
        from: String,
    },
}

impl Step {
    /// Returns the step as the API's progress messages say it.
    pub fn message(&self) -> Message {
        match self {
            Self::Pulling { tag, repository } => Message::status(tag, format!("Pulling from {repository}")),
            Self::Pushing { repository } => {
                Message::status("", format!("The push refers to repository [{repository}]"))
            }
            Self::Layers(layers) => {
                let sizes = layers.iter().map(|(digest, size)| (digest.short().to_owned(), (*size).into()));
                let sizes: serde_json::Map<String, serde_json::Value> = sizes.collect();
                Message { aux: Some(serde_json::json!({ "Layers": sizes })), ..Message::default() }
            }
            Self::Blob { digest, state } => state.message(digest.short()),
            Self::Digest(digest) => Message::status("", format!("Digest: {digest}")),
            Self::Pulled { reference, up_to_date: true } => {
                Message::status("", format!("Status: Image is up to date for {reference}"))
            }
            Self::Pulled { reference, up_to_date: false } => {
                Message::status("", format!("Status: Downloaded newer image for {reference}"))
            }
            Self::Partial { digest } => {
                let text = "Not all multiplatform-content is present and only the available single-platform image was pushed";
                Message::status("", format!("{text}: {digest}"))
            }
            Self::Pushed { tag, digest, size } => {
                Message::status("", format!("{tag}: digest: {digest} size: {size}"))
            }
        }
    }
}

impl BlobState {
    fn message(&self, id: &str) -> Message {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (word, current, total) = match *self {
            Self::Queued => ("Pulling fs layer", 0, 0),
            Self::Waiting => ("Waiting", 0, 0),
            Self::Exists => ("Already exists", 0, 0),
            Self::Downloading { current, total } => ("Downloading", current, total),
            Self::Verifying => ("Verifying Checksum", 0, 0),
            Self::Downloaded => ("Download complete", 0, 0),
            Self::Extracting { current, total } => ("Extracting", current, total),
            Self::Complete => ("Pull complete", 0, 0),
            Self::Preparing => ("Preparing", 0, 0),
            Self::Pushing { current, total } => ("Pushing", current, total),
            Self::Pushed => ("Pushed", 0, 0),
            Self::ExistsThere => ("Layer already exists", 0, 0),
            Self::Mounted { ref from } => return Message::progress(id, format!("Mounted from {from}"), 0, 0),
        };
        Message::progress(id, word, signed(current), signed(total))
    }
}

/// Tells the states of one blob, counts of bytes no more often than [`INTERVAL`].
pub(super) struct Teller {
    progress: Progress,
    digest: Digest,
    last: Mutex<Option<Instant>>,
}

impl Teller {
    pub(super) fn new(progress: Progress, digest: Digest) -> Self {
        Self { progress, digest, last: Mutex::new(None) }
    }

    /// Tells `state`.
    pub(super) fn tell(&self, state: BlobState) {
        (self.progress)(Step::Blob { digest: self.digest.clone(), state });
    }

    /// Tells `state` unless another count was told just now.
    pub(super) fn count(&self, state: BlobState) {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
                return;
            }
            *last = Some(now);
        }
        self.tell(state);
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("digest", &self.digest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_as_dockers() {
        let digest = Digest::sha256_of(b"");
        let blob = |state| Step::Blob { digest: digest.clone(), state };
        for (step, json) in [
            (
                Step::Pulling { tag: "latest".into(), repository: "library/alpine".into() },
                r#"{"status":"Pulling from library/alpine","id":"latest"}"#,
            ),
            (
                blob(BlobState::Queued),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"e3b0c44298fc"}"#,
            ),
            (
                blob(BlobState::Downloading { current: 5, total: 10 }),
                r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"e3b0c44298fc"}"#,
            ),
            (
                Step::Pulled { reference: "alpine:latest".into(), up_to_date: false },
                r#"{"status":"Status: Downloaded newer image for alpine:latest"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&step.message()).unwrap(), json);
        }
    }

    #[test]
    fn counts_are_thinned_out() {
        let told = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&told);
        let teller = Teller::new(Arc::new(move |_| *counted.lock().unwrap() += 1), Digest::sha256_of(b""));
        for current in 0..100 {
            teller.count(BlobState::Downloading { current, total: 100 });
        }
        assert!(*told.lock().unwrap() < 50);
    }
}
