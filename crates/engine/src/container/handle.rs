//! One container in memory: its record, who waits for it, and what belongs to its present run.
//!
//! Operations that change a container hold `operation` from begin to end, so they are ordered; readers take snapshots
//! and never wait. What the supervisor reports (an exit) changes the record without `operation`: it is a fact, not a wish.

use super::record::Container;
use super::state::{Exit, State};
use crate::error::{Error, Result};
use base::{ContainerId, Kind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Database, Durability};
use tokio::sync::watch;

/// The database's bucket of containers.
pub(super) const BUCKET: &str = "containers";
/// The database's bucket of the requests that containers were created by, as JSON.
pub(super) const REQUESTS: &str = "requests";

/// How long a supervisor may take to clean up after it told the end.
pub(super) const SUPERVISOR_END: Duration = Duration::from_secs(5);

/// How long a client may take from being told that it may attach to handing its connection over.
const CLIENT_ARRIVAL: Duration = Duration::from_secs(5);

/// What waiters see.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) container: Arc<Container>,
    /// How many runs have ended since this daemon knows the container.
    pub(super) exits: u64,
    /// Whether the container is gone.
    pub(super) removed: bool,
}

/// What belongs to the present or coming run, and is nowhere stored.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Connections that attached before the start, with what they want.
    pub(super) waiting: Vec<(supervisor::protocol::AttachOptions, OwnedFd)>,
    /// The network namespace.
    pub(super) netns: Option<OwnedFd>,
}

/// A container in memory.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) id: ContainerId,
    operation: Mutex<()>,
    snapshot: watch::Sender<Snapshot>,
    live: Mutex<Live>,
    /// How many clients have been told that they may attach and have not handed their connection over yet.
    arriving: Mutex<usize>,
    arrived: Condvar,
    names: Mutex<Option<supervisor::protocol::Resolver>>,
}

/// A client on its way: a start waits for it, so that it misses nothing of the output.
#[derive(Debug)]
pub(super) struct Arrival(Arc<Handle>);

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut arriving = self.0.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        *arriving = arriving.saturating_sub(1);
        self.0.arrived.notify_all();
    }
}

impl Handle {
    pub(super) fn new(container: Container) -> Arc<Self> {
        let id = container.id;
        let snapshot = Snapshot { container: Arc::new(container), exits: 0, removed: false };
        Arc::new(Self {
            id,
            operation: Mutex::new(()),
            snapshot: watch::Sender::new(snapshot),
            live: Mutex::default(),
            arriving: Mutex::default(),
            arrived: Condvar::new(),
            names: Mutex::default(),
        })
    }

    /// Begins an operation; the next one waits until the guard is dropped.
    pub(super) fn operate(&self) -> MutexGuard<'_, ()> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a client that will hand its connection over soon.
    pub(super) fn announce(self: &Arc<Self>) -> Arrival {
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Arrival(Arc::clone(self))
    }

    /// Waits for the clients that were announced: the answer to an attach leaves before its connection is at hand.
    pub(super) fn await_clients(&self) {
        let arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(arriving, CLIENT_ARRIVAL, |arriving| *arriving > 0);
        drop(waited);
    }

    /// Returns what this daemon has told the container's resolver; `None` if it has none, or was told by another daemon.
    /// Whoever tells it more holds the guard meanwhile. No other lock but those of [`Handle::live`] and the table is taken
    /// under it.
    pub(super) fn told_names(&self) -> MutexGuard<'_, Option<supervisor::protocol::Resolver>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the last run's supervisor has cleaned up in `exec_dir`, so that its end does not meet the next beginning.
    pub(super) fn await_supervisor(&self, exec_dir: &Path) {
        if !supervisor::tidied_up_within(exec_dir, SUPERVISOR_END) {
            tracing::warn!(container = %self.id, "the supervisor of an ended container does not tidy up");
        }
    }

    /// Returns the record as it is now.
    pub(super) fn get(&self) -> Arc<Container> {
        Arc::clone(&self.snapshot.borrow().container)
    }

    /// Returns a receiver of every change.
    pub(super) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// Changes the record, stores it and tells the waiters. Returns the new record.
    ///
    /// # Errors
    ///
    /// Fails if `change` refuses or the database does; nothing has changed then.
    pub(super) fn update(
        &self,
        database: &Database,
        durability: Durability,
        change: impl FnOnce(&mut Container) -> Result<()>,
    ) -> Result<Arc<Container>> {
        self.alter(|container| change(container).and_then(|()| store(database, container, durability)))
    }

    /// Changes the record because of a fact: it is so in memory, and waiters are told, even if the database (on a full
    /// disk, say) cannot store it. The next change stores all; a daemon that dies before finds the fact out again.
    ///
    /// # Errors
    ///
    /// Fails if `change` refuses; nothing has changed then.
    pub(super) fn note(
        &self,
        database: &Database,
        change: impl FnOnce(&mut Container) -> Result<()>,
    ) -> Result<Arc<Container>> {
        self.alter(|container| {
            change(container)?;
            if let Err(error) = store(database, container, Durability::Relaxed) {
                tracing::error!(container = %self.id, error = %base::chain(&error), "storing a container's state");
            }
            Ok(())
        })
    }

    /// Puts the record that `change` makes in the place of the old one, and tells the waiters.
    fn alter(&self, change: impl FnOnce(&mut Container) -> Result<()>) -> Result<Arc<Container>> {
        let mut outcome = Ok(());
        self.snapshot.send_if_modified(|snapshot| {
            let mut container = Container::clone(&snapshot.container);
            let ended =
                |container: &Container| matches!(container.state, State::Exited(_) | State::Restarting(_));
            outcome = change(&mut container);
            if outcome.is_err() {
                return false;
            }
            if ended(&container) && snapshot.container.state.run().is_some() {
                snapshot.exits += 1;
            }
            snapshot.container = Arc::new(container);
            true
        });
        outcome.map(|()| self.get())
    }

    /// Tells the waiters that the container is gone.
    pub(super) fn mark_removed(&self) {
        self.snapshot.send_modify(|snapshot| snapshot.removed = true);
    }
}

/// Writes a record.
///
/// # Errors
///
/// Fails if the database does.
pub(super) fn store(database: &Database, container: &Container, durability: Durability) -> Result<()> {
    Ok(database.put(BUCKET, &container.id.to_string(), &record(container)?, durability)?)
}

/// Stores a new container, with the request it was created by.
///
/// # Errors
///
/// Fails if the database does.
pub(super) fn store_new(
    database: &Database,
    container: &Container,
    request: Vec<u8>,
    durability: Durability,
) -> Result<()> {
    let (id, value) = (container.id.to_string(), record(container)?);
    Ok(database.transaction(durability, move |transaction| {
        transaction.put(REQUESTS, &id, &request)?;
        transaction.put(BUCKET, &id, &value)
    })?)
}

/// Returns a request as it is stored.
///
/// # Errors
///
/// Fails if it is no JSON, which cannot be.
pub(super) fn request(id: &ContainerId, request: &api::container::CreateRequest) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|source| {
        Error::known(Kind::Internal, format!("write the request that made container {id}: {source}"))
    })
}

fn record(container: &Container) -> Result<Vec<u8>> {
    serde_json::to_vec(container).map_err(|source| {
        Error::known(Kind::Internal, format!("write the record of container {}: {source}", container.id))
    })
}

/// Removes what the database has of a container.
///
/// # Errors
///
/// Fails if the database does.
pub(super) fn forget(database: &Database, id: &ContainerId) -> std::result::Result<(), store::Error> {
    let id = id.to_string();
    database.transaction(Durability::Relaxed, move |transaction| {
        transaction.delete(REQUESTS, &id)?;
        transaction.delete(BUCKET, &id).map(drop)
    })
}

/// What a waiter waits for (Engine API, `ContainerWait`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running now, or the end of the present run.
    NotRunning,
    /// The end of the present or the next run.
    NextExit,
    /// The container is gone.
    Removed,
}

/// What a waiter learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The exit status.
    pub code: i32,
    /// Why the container could not be started, if it could not.
    pub error: Option<String>,
}

/// A registered wait: nothing that happens after its making is missed.
#[derive(Debug)]
pub struct Waiter {
    receiver: watch::Receiver<Snapshot>,
    condition: WaitCondition,
    exits: u64,
}

impl Waiter {
    pub(super) fn new(handle: &Handle, condition: WaitCondition) -> Self {
        let receiver = handle.watch();
        let exits = receiver.borrow().exits;
        Self { receiver, condition, exits }
    }

    /// Waits. Ends early when the container is removed, whatever the condition.
    pub async fn wait(mut self) -> Waited {
        let (condition, exits) = (self.condition, self.exits);
        let done = |snapshot: &Snapshot| {
            snapshot.removed
                || match condition {
                    WaitCondition::NotRunning => !snapshot.container.state.is_alive(),
                    WaitCondition::NextExit => snapshot.exits > exits,
                    WaitCondition::Removed => false,
                }
        };
        // The sender lives in the container's handle, which the table or an operation holds until removal is told.
        let exit = match self.receiver.wait_for(done).await {
            Ok(snapshot) => snapshot.container.state.exit().cloned(),
            Err(_gone) => None,
        };
        let Exit { code, error, .. } = exit.unwrap_or_default();
        Waited { code, error: Some(error).filter(|error| !error.is_empty()) }
    }
}
