//! Removing containers: the record goes first, what it leaves on disk follows.

use super::handle::{self, Handle, WaitCondition, Waiter};
use super::state::{Change, State, next};
use super::{Containers, control, start};
use crate::error::{Error, Result};
use std::sync::Arc;

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether a running container is killed first.
    pub force: bool,
    /// Whether its anonymous volumes go with it.
    pub volumes: bool,
}

/// What becomes of a container's anonymous volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anonymous {
    /// They stay.
    Keep,
    /// They go, but for those that others use.
    Remove,
    /// Those go that a removal that was cut short did not mean to keep.
    Owned,
}

impl Containers {
    /// Removes a container.
    ///
    /// # Errors
    ///
    /// Fails if it runs and `force` is not given.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let handle = self.find(name)?;
        if handle.get().state.is_alive() {
            if !options.force {
                return Err(Error::conflict(refusal(name, &handle.get().state)));
            }
            self.kill_for_good(&handle);
        }
        let operation = handle.operate();
        let container = handle.get();
        if container.state.is_alive() {
            return Err(Error::conflict(refusal(name, &container.state)));
        }
        if self.handle(&handle.id).is_none() {
            // Automatic removal was quicker.
            return Ok(());
        }
        let volumes =
            if options.volumes || container.host.auto_remove { Anonymous::Remove } else { Anonymous::Keep };
        let outcome = self.remove_now(&handle, volumes);
        drop(operation);
        outcome
    }

    /// Ends a container so that no policy brings it back.
    fn kill_for_good(&self, handle: &Handle) {
        let waiter = Waiter::new(handle, WaitCondition::NotRunning);
        self.tell(&handle.get(), "kill", &[("signal", "9")]);
        let request = supervisor::protocol::Request::Stop { signal: 9, timeout_ms: Some(0) };
        if let Err(error) = self.ask(handle, "kill", &request) {
            // Its end may be just being recorded.
            tracing::debug!(container = %handle.id, error = %base::chain(&error), "killing a container to remove it");
        }
        control::block_on(waiter.wait());
    }

    /// Removes a container whose operation is held and which does not run.
    fn remove_now(&self, handle: &Handle, volumes: Anonymous) -> Result<()> {
        let mounts = handle.get().mounts.clone();
        let anonymous = || mounts.iter().filter(|point| point.anonymous).map(|point| point.name.as_str());
        let disown = || match volumes {
            Anonymous::Keep => self.volumes.disown(anonymous()),
            Anonymous::Remove | Anonymous::Owned => Ok(()),
        };
        // A full disk must not keep anyone from making room: what cannot be written now is once files are deleted.
        let disowned = disown();
        let container = handle.note(self.store.database(), |container| {
            container.state =
                next(container.state.clone(), Change::Remove).map_err(|error| start::unfit(&error))?;
            Ok(())
        })?;
        handle.await_supervisor(&self.settings.exec.container(&handle.id));
        // A supervisor that was killed while it tidied up.
        self.remove_cgroup(&container);
        handle.live().waiting.clear();
        let id = handle.id.to_string();
        let forget = || Ok(handle::forget(self.store.database(), &container.id)?);
        let outcome = self.remove_folders(&handle.id).map_err(Error::from).and_then(|()| {
            disowned.and_then(|()| forget()).or_else(|_full| {
                self.store.wait_for_deletion();
                disown()?;
                forget()
            })
        });
        if let Err(error) = outcome {
            handle.note(self.store.database(), |container| {
                container.state = next(container.state.clone(), Change::RemoveFailed)
                    .map_err(|error| start::unfit(&error))?;
                Ok(())
            })?;
            return Err(error);
        }
        drop(std::fs::remove_dir_all(self.settings.exec.container(&handle.id)));
        self.forget_execs(&handle.id);
        self.table().remove(&handle.id);
        self.volumes.release(&id);
        let is_owned =
            |name: &str| self.volumes.get(name).is_ok_and(|volume| volume.made_for.as_deref() == Some(&id));
        for name in anonymous() {
            if volumes == Anonymous::Remove || (volumes == Anonymous::Owned && is_owned(name)) {
                // Another container may have taken it by --volumes-from; then it stays.
                drop(self.volumes.remove(name, true));
            }
        }
        self.tell(&container, "destroy", &[]);
        handle.mark_removed();
        Ok(())
    }

    /// Removes a container that ended and wants to be removed then, unless something else removed it.
    ///
    /// # Errors
    ///
    /// Fails if its folders or its record cannot be removed.
    pub(super) fn remove_quietly(&self, handle: &Handle) -> Result<()> {
        let _operation = handle.operate();
        if self.handle(&handle.id).is_none() || handle.get().state.is_alive() {
            return Ok(());
        }
        let cut_short = matches!(handle.get().state, State::Removing(_));
        self.remove_now(handle, if cut_short { Anonymous::Owned } else { Anonymous::Remove })
    }

    /// As [`Containers::remove_quietly`], on a thread of its own.
    pub(super) fn remove_in_background(self: &Arc<Self>, handle: &Arc<Handle>) {
        let (containers, handle) = (Arc::clone(self), Arc::clone(handle));
        std::thread::spawn(move || {
            if let Err(error) = containers.remove_quietly(&handle) {
                tracing::error!(container = %handle.id, error = %base::chain(&error), "removing a container");
            }
        });
    }

    /// Removes all containers that do not run and that `wanted` names. Returns their identifiers and the bytes freed.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be removed.
    pub fn prune(&self, wanted: impl Fn(&super::Container) -> bool) -> Result<(Vec<String>, u64)> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        for container in self.list() {
            if container.state.is_alive() || !wanted(&container) {
                continue;
            }
            let bytes = self.writable_size(&container);
            match self.remove(&container.id.to_string(), RemoveOptions::default()) {
                Ok(()) => {
                    removed.push(container.id.to_string());
                    freed += bytes;
                }
                // Started or removed meanwhile.
                Err(error)
                    if matches!(
                        base::Classify::kind(&error),
                        base::Kind::NotFound | base::Kind::Conflict
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((removed, freed))
    }

    /// Returns the bytes of a container's writable layer.
    pub fn writable_size(&self, container: &super::Container) -> u64 {
        self.store.snapshots().usage(&container.id).unwrap_or(0)
    }
}

fn refusal(name: &str, state: &State) -> String {
    match state {
        State::Paused(_) => {
            format!("cannot remove container \"{name}\": container is paused and must be unpaused first")
        }
        State::Restarting(_) => {
            format!(
                "cannot remove container \"{name}\": container is restarting: stop the container before removing or force remove"
            )
        }
        _ => format!(
            "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
        ),
    }
}
