//! HTTP as dockerd speaks it, without knowing any resource: routing, versions, queries, bodies, errors, hijacking.
//!
//! A request runs through `serve`: version prefix → route → handler → headers; what a handler returns as
//! [`Failure`] becomes `{"message": …}` with the status of its kind, and a panic becomes a 500.

pub mod body;
pub mod call;
pub mod failure;
pub mod hijack;
pub mod leftover;
mod lenient;
pub mod listen;
pub mod query;
pub mod router;
pub mod serve;
pub mod stream;
pub mod version;
pub mod websocket;

pub use body::Body;
pub use call::Call;
pub use failure::Failure;
pub use query::Query;

/// What a handler returns.
pub type Answer = Result<http::Response<Body>, Failure>;
