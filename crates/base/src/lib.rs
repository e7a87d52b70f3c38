//! Words that every other crate shares: error kinds, identifiers, events, times, paths and the rollback guard.
//!
//! Pure: no I/O, no clock, no environment. Whoever needs one of those passes the value in.

pub mod error;
pub mod event;
pub mod failpoint;
pub mod id;
pub mod paths;
pub mod rollback;
pub mod size;
pub mod time;

pub use error::{Classify, Kind, chain, io_message};
pub use id::{ContainerId, ExecId, HexId, NetworkId, VolumeName};
pub use rollback::Rollback;
pub use time::Timestamp;
