//! The listener of a seccomp filter, given to the program that waits for it (runtime-spec config-linux.md, *The Container
//! Process State*).

use crate::Error;
use oci::runtime::{Seccomp, State};
use rustix::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Who gets a listener, and what is said with it.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    path: PathBuf,
    metadata: Option<String>,
    state: State,
}

impl Agent {
    /// Returns who gets the listener of `profile`; `None` if it has none.
    pub(crate) fn of(profile: Option<&Seccomp>, state: Option<&State>) -> Option<Self> {
        let profile = profile.filter(|profile| crate::seccomp::notifies(profile))?;
        Some(Self {
            path: profile.listener_path.as_deref()?.into(),
            metadata: profile.listener_metadata.clone(),
            state: state?.clone(),
        })
    }

    /// The same, with another state to tell.
    pub(crate) fn about(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// Takes descriptor `number` of the process and sends it on; `pid` is what the process is called here.
    pub(crate) fn give(&self, process: BorrowedFd<'_>, pid: i32, number: u32) -> Result<(), Error> {
        let failed = Error::system("give away the seccomp listener");
        let number = i32::try_from(number).unwrap_or(-1);
        let listener = sys::pidfd::get_fd(process, number).map_err(failed)?;
        let mut state = self.state.clone();
        if state.pid.is_none() {
            state.pid = Some(pid);
        }
        let message = self.message(&state, pid);
        self.send(message.to_string().as_bytes(), listener.as_fd())
    }

    fn message(&self, state: &State, pid: i32) -> serde_json::Value {
        let mut message = serde_json::json!({
            "ociVersion": oci::runtime::VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": state,
        });
        if let (Some(metadata), Some(fields)) = (&self.metadata, message.as_object_mut()) {
            fields.insert("metadata".to_owned(), metadata.clone().into());
        }
        message
    }

    fn send(&self, message: &[u8], listener: BorrowedFd<'_>) -> Result<(), Error> {
        let failed = Error::system("give away the seccomp listener");
        let path: &Path = &self.path;
        let socket = sys::socket::connect_stream(path);
        socket
            .and_then(|socket| sys::socket::send_with_fds(socket.as_fd(), message, &[listener]))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{Action, Syscall};

    #[test]
    fn the_message_is_as_the_specification_has_it() {
        let mut profile = Seccomp {
            default_action: Action::Allow,
            listener_path: Some("/run/agent".into()),
            listener_metadata: Some("about".into()),
            ..Seccomp::default()
        };
        let state = State { id: "c".into(), ..State::default() };
        assert!(Agent::of(Some(&profile), Some(&state)).is_none());
        let rule = Syscall { names: vec!["mkdir".into()], action: Action::Notify, ..Syscall::default() };
        profile.syscalls.push(rule);
        let agent = Agent::of(Some(&profile), Some(&state)).unwrap();
        let message = agent.message(&state, 7);
        assert_eq!(message["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!((&message["pid"], &message["metadata"]), (&7.into(), &"about".into()));
        assert_eq!(message["state"]["id"], "c");
    }
}
