//! The kernel's interface: what Wharf needs of system calls, and nothing about containers.
//!
//! Two layers. [`raw`] holds the bare calls that `rustix` does not have: they take and return what the kernel does,
//! allocate nothing and may be used between clone and exec. Everything else is made of several calls, owns its
//! descriptors, and says in its [`Error`] which call failed on which object.
//!
//! Where `rustix` already has a safe call (epoll, timerfd, inotify, openat2, waitid …), callers use it directly; this crate
//! only adds what is missing or what always goes together.
#![expect(unsafe_code, reason = "system calls that rustix lacks; every block says why it is sound")]

pub mod block;
pub mod bpf;
pub mod capability;
pub mod datagram;
mod error;
pub mod event;
pub mod identity;
pub mod kernel;
pub mod memory;
pub mod mount;
pub mod namespace;
mod overlay;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod quota;
pub mod raw;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;

pub use error::{Error, Result, message};
