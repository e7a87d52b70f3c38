//! Building images: from a Dockerfile and its context to layers and an image.
//!
//! ```text
//! Dockerfile ─▶ graph of stages ─▶ one thread each ─▶ steps ─▶ layers ─▶ image
//!                                                       │
//!                                          cache: key of content ─▶ layer
//! ```
//!
//! Stages run at the same time; one that needs another waits for it. A step that changes files has a key made of what
//! it reads (the layers below, the instruction, arguments, the content of files, never their times), and its layer is
//! kept under that key, for all builds. The builder runs no process and speaks to no registry itself: it has a
//! [`Worker`] for the one and [`Images`] for the other.
//!
//! Files are copied by descriptors and single names; no link leads out of the tree it is in.

mod agent;
mod archive;
mod cache;
mod context;
mod copying;
mod device;
mod error;
mod evaluate;
mod exchange;
mod git;
mod graph;
mod job;
pub mod judge;
mod many;
mod owner;
mod place;
mod request;
mod running;
mod source;
mod squash;
mod stage;
mod step;
mod transfer;
mod tree;
mod worker;

pub use archive::{Limits, unpack};
pub use cache::{Cache, Entry, Kept};
pub use context::read_context;
pub use error::{Error, Result};
pub use exchange::RECORDS as CACHE_RECORDS;
pub use git::GitSource;
pub use many::{Built, build};
pub use request::{
    AllowedDevices, Annotation, CacheFrom, CacheTo, Context, KnownFiles, Named, Place, Request, Secret,
};
pub use source::{Digests, Listed, Received, Source};
pub use worker::{
    CacheImage, Cancel, Event, FoundDevice, Images, MountSource, Process, ProcessMount, Progress, Ran,
    Stream, Worker,
};
