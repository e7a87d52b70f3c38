//! Attaching clients to a container's streams. The hijacked connection itself goes to the supervisor.

use super::Containers;
use super::handle::{Arrival, Handle};
use super::state::State;
use crate::error::{Error, Result};
use base::ContainerId;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use supervisor::protocol::{AttachOptions, Reply, Request};

/// What a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the API's attach call, by name")]
pub struct AttachRequest<'a> {
    /// Whether what it sends is standard input.
    pub stdin: bool,
    /// Whether it gets standard output.
    pub stdout: bool,
    /// Whether it gets standard error.
    pub stderr: bool,
    /// Whether it gets what comes from now on.
    pub stream: bool,
    /// Whether output comes without frames though the container has no terminal.
    pub raw: bool,
    /// The keys that detach it, as `ctrl-p,ctrl-q`; `None` means these.
    pub detach_keys: Option<&'a str>,
}

/// A client that may attach, checked before its connection is hijacked.
#[derive(Debug)]
pub struct Attachment {
    handle: Arc<Handle>,
    options: AttachOptions,
    stream: bool,
    /// Holds up a start until the connection is there; none if the container runs.
    arrival: Option<Arrival>,
    /// Whether the container has a terminal: the stream is then raw, otherwise framed.
    pub terminal: bool,
}

impl Attachment {
    /// Returns the container's identifier.
    pub fn container(&self) -> ContainerId {
        self.handle.id
    }
}

/// The bytes of `ctrl-p,ctrl-q`.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// Parses detach keys: single characters or `ctrl-X` with X one of `a`–`z`, `@`, `[`, `\`, `]`, `^`, `_`.
///
/// # Errors
///
/// Docker's text for anything else.
pub(super) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DEFAULT_KEYS.to_vec()) };
    text.split(',')
        .map(|key| {
            let wrong = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
            match (key.strip_prefix("ctrl-").map(str::as_bytes), key.as_bytes()) {
                (Some([letter @ b'a'..=b'z']), _) => Ok(letter - b'a' + 1),
                (Some([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(sign - b'@'),
                (None, [byte]) => Ok(*byte),
                _ => Err(wrong()),
            }
        })
        .collect()
}

impl Containers {
    /// Checks whether a client may attach.
    ///
    /// # Errors
    ///
    /// Fails for a container that is paused or restarting, and for keys that cannot be read.
    pub fn attach(&self, name: &str, request: AttachRequest<'_>) -> Result<Attachment> {
        let handle = self.find(name)?;
        let container = handle.get();
        match &container.state {
            State::Paused(_) => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            State::Restarting(_) => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let terminal = container.config.tty;
        let options = AttachOptions {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            multiplexed: !terminal && !request.raw,
            detach_keys: detach_keys(request.detach_keys)?,
        };
        let arrival = (request.stream && container.state.run().is_none()).then(|| handle.announce());
        Ok(Attachment { handle, options, stream: request.stream, arrival, terminal })
    }

    /// Gives the connection of a client to the container's streams, now or when it starts.
    ///
    /// A container that has ended and is not started closes the connection at once.
    ///
    /// # Errors
    ///
    /// Fails if the supervisor cannot be reached.
    pub fn connect(&self, attachment: Attachment, client: OwnedFd) -> Result<()> {
        let Attachment { handle, options, stream, arrival, .. } = attachment;
        if !stream {
            return Ok(());
        }
        self.tell(&handle.get(), "attach", &[]);
        let container = handle.get();
        if container.state.run().is_none() {
            // A start that is under way waits for `arrival`, so what is put here is taken along.
            if !matches!(container.state, State::Removing(_) | State::Dead(_)) {
                handle.live().waiting.push((options, client));
            }
            drop(arrival);
            return Ok(());
        }
        match self.supervisor(&handle)?.call(&Request::Attach(options), &[client.as_fd()])? {
            Reply::Error { kind, message } => Err(Error::known(kind, message)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_or_refused() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,x,ctrl-[")).unwrap(), [1, b'x', 27]);
        assert!(detach_keys(Some("ctrl-1")).is_err());
    }
}
