//! The process beside each running container, and how the daemon speaks to it.
//!
//! A supervisor owns what must outlive the daemon: the container's first process and its exit, its streams and their
//! clients, its log, its published ports, its health probes and its restart policy. It is single-threaded, waits in
//! one epoll, and knows neither the API nor images.
//!
//! The flow: the daemon spawns one [`Zygote`] when it starts. For each start of a container it makes a
//! [`Connection::pair`], has the zygote spawn a supervisor with one end, and [`Connection::launch`]es the container
//! through the other. Later daemons find a supervisor by the socket in the container's `EXEC` directory, and an ended
//! container by the record that the supervisor left there.

mod client;
mod connection;
mod detach;
mod error;
mod foreign;
mod health;
pub mod init;
mod poller;
pub mod protocol;
mod restart;
mod streams;
mod supervise;
mod tenure;
pub mod wire;
pub mod zygote;

pub use connection::{Connection, EventStream, StartError, Started};
pub use error::Error;
pub use supervise::main;
pub use tenure::tidied_up_within;
pub use zygote::Zygote;

/// The executable's first argument for the role of a supervisor.
pub const SUPERVISOR_ROLE: &str = "supervisor";
