//! Checkpoints: a container's processes in files, to go on from there (CRIU, through the runtime).
//!
//! A checkpoint is a folder with CRIU's image, `checkpoints/NAME` in the container's folder unless a place is named. It holds
//! memory and processes, not files: those are the container's own.

use super::handle::{WaitCondition, Waiter};
use super::record::Container;
use super::{Containers, control};
use crate::error::{Error, Result};
use base::Kind;
use std::path::{Path, PathBuf};
use supervisor::protocol::{Reply, Request};

/// The name of a checkpoint, and where its folder is.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointName<'a> {
    /// Its name.
    pub name: &'a str,
    /// The folder that its own is in; empty for the container's.
    pub folder: &'a str,
}

impl Containers {
    /// Writes a running container's processes into a checkpoint. They end with that unless they are to go on.
    ///
    /// # Errors
    ///
    /// With dockerd's words if it does not run, has a terminal, or the checkpoint exists; CRIU's first complaint. Nothing
    /// stays of a checkpoint that failed.
    pub fn checkpoint(&self, name: &str, wanted: CheckpointName<'_>, leave_running: bool) -> Result<()> {
        let handle = self.find(name)?;
        let operation = handle.operate();
        let container = handle.get();
        if container.state.run().is_none() {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        if container.config.tty {
            return Err(Error::invalid("checkpoint not support on containers with tty"));
        }
        if base::VolumeName::parse(wanted.name).is_none() {
            return Err(Error::invalid(format!(
                "Invalid checkpoint ID ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                wanted.name
            )));
        }
        let folder = self.checkpoint_folder(&container, wanted);
        let failed =
            |why: String| Error::known(Kind::Internal, format!("cannot checkpoint container {name}: {why}"));
        if folder.symlink_metadata().is_ok() {
            let why = match folder.is_dir() {
                true => format!("checkpoint with name {} already exists for container {name}", wanted.name),
                false => format!("{} exists and is not a directory", folder.display()),
            };
            return Err(Error::conflict(format!("cannot checkpoint container {name}: {why}")));
        }
        make_private(&folder).map_err(|error| failed(base::io_message(&error)))?;
        let waiter = Waiter::new(&handle, WaitCondition::NotRunning);
        let request = Request::Checkpoint { image: folder.clone(), leave_running };
        let made = self.supervisor(&handle).and_then(|connection| match connection.call(&request, &[])? {
            Reply::Done => Ok(()),
            Reply::Error { message, .. } => Err(failed(message)),
            reply => Err(control::refused(&container, "checkpoint", reply)),
        });
        if made.is_err() {
            drop(std::fs::remove_dir_all(&folder));
        }
        made?;
        self.tell(&handle.get(), "checkpoint", &[]);
        drop(operation);
        if !leave_running {
            control::block_on(waiter.wait());
        }
        Ok(())
    }

    /// Returns the names of a container's checkpoints, sorted.
    ///
    /// # Errors
    ///
    /// If there is no such container, or the folder cannot be read.
    pub fn checkpoints(&self, name: &str, folder: &str) -> Result<Vec<String>> {
        let container = self.get(name)?;
        let folder = self.checkpoints_of(&container, folder);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(Error::file("read", &folder))?,
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> =
            folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or it cannot be removed.
    pub fn remove_checkpoint(&self, name: &str, wanted: CheckpointName<'_>) -> Result<()> {
        let handle = self.find(name)?;
        let _operation = handle.operate();
        let folder = self.existing_checkpoint(&handle.get(), name, wanted)?;
        std::fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))
    }

    /// Returns the folder of a checkpoint that there is.
    pub(super) fn existing_checkpoint(
        &self,
        container: &Container,
        called: &str,
        wanted: CheckpointName<'_>,
    ) -> Result<PathBuf> {
        let absent =
            || Error::not_found(format!("checkpoint {} does not exist for container {called}", wanted.name));
        // No path: it is looked for in one folder.
        base::VolumeName::parse(wanted.name).ok_or_else(absent)?;
        let folder = self.checkpoint_folder(container, wanted);
        if folder.is_dir() { Ok(folder) } else { Err(absent()) }
    }

    fn checkpoint_folder(&self, container: &Container, wanted: CheckpointName<'_>) -> PathBuf {
        self.checkpoints_of(container, wanted.folder).join(wanted.name)
    }

    fn checkpoints_of(&self, container: &Container, folder: &str) -> PathBuf {
        match folder {
            "" => self.settings.data.container(&container.id).join("checkpoints"),
            folder => folder.into(),
        }
    }
}

/// For its owner alone: the memory of programs has their secrets.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
