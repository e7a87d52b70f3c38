//! Listening to all supervisors: one thread, one epoll, whatever the number of containers.

use crate::error::{Error, Result};
use base::{ContainerId, Kind};
use rustix::event::epoll;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervisor::EventStream;
use supervisor::protocol::Event;

/// What a supervisor said, or that it is gone.
#[derive(Debug)]
pub enum News {
    /// It told an event.
    Event(Event),
    /// The connection ended without [`Event::Exited`].
    Lost,
}

/// The registry of supervisors that are listened to. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    epoll: OwnedFd,
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    next: u64,
    by_token: BTreeMap<u64, (ContainerId, Arc<EventStream>)>,
}

impl Hub {
    /// Makes a hub that listens to nobody yet.
    ///
    /// # Errors
    ///
    /// Fails if the kernel gives no epoll.
    pub fn new() -> Result<Self> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| failed("make an epoll", errno))?;
        Ok(Self { inner: Arc::new(Inner { epoll, streams: Mutex::default() }) })
    }

    /// Listens to a supervisor from now on.
    ///
    /// # Errors
    ///
    /// Fails if the stream cannot be watched.
    pub fn listen(&self, id: ContainerId, stream: EventStream) -> Result<()> {
        stream.set_nonblocking()?;
        let stream = Arc::new(stream);
        let mut streams = self.streams();
        streams.next += 1;
        let token = streams.next;
        streams.by_token.insert(token, (id, Arc::clone(&stream)));
        drop(streams);
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.inner.epoll, stream.as_fd(), data, epoll::EventFlags::IN).map_err(|errno| {
            self.streams().by_token.remove(&token);
            failed("watch a supervisor", errno)
        })
    }

    /// Passes news to `tell` on a thread of its own, for the life of the process.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be made.
    pub fn run(&self, tell: impl Fn(ContainerId, News) + Send + 'static) -> Result<()> {
        let hub = self.clone();
        let thread = std::thread::Builder::new().name("supervisors".to_owned());
        let spawned = thread.spawn(move || {
            loop {
                hub.pass(&tell);
            }
        });
        spawned.map(drop).map_err(|error| Error::known(Kind::Internal, format!("make a thread: {error}")))
    }

    fn pass(&self, tell: &impl Fn(ContainerId, News)) {
        let mut ready = Vec::with_capacity(32);
        if let Err(errno) = epoll::wait(&self.inner.epoll, rustix::buffer::spare_capacity(&mut ready), None)
            && errno != rustix::io::Errno::INTR
        {
            tracing::error!(%errno, "waiting for supervisors");
        }
        for event in ready {
            let token = event.data.u64();
            let Some((id, stream)) = self.streams().by_token.get(&token).cloned() else { continue };
            loop {
                match stream.next() {
                    Ok(Some(event)) => {
                        let last = matches!(event, Event::Exited(_));
                        if last {
                            self.forget(token, &stream);
                        }
                        tell(id, News::Event(event));
                        if last {
                            break;
                        }
                    }
                    Err(supervisor::Error::System { ref source, .. })
                        if source.errno() == rustix::io::Errno::AGAIN =>
                    {
                        break;
                    }
                    Ok(None) | Err(_) => {
                        self.forget(token, &stream);
                        tell(id, News::Lost);
                        break;
                    }
                }
            }
        }
    }

    fn forget(&self, token: u64, stream: &EventStream) {
        self.streams().by_token.remove(&token);
        // The descriptor may be gone already with the connection.
        let _gone = epoll::delete(&self.inner.epoll, stream.as_fd());
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.inner.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(operation: &str, errno: rustix::io::Errno) -> Error {
    Error::known(Kind::Internal, format!("{operation}: {errno}"))
}
